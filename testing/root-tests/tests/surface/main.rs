//! Output for operators: status, metrics, journal, reports, `top`, documentation.

mod capture;
mod docs_live;
mod filter;
mod journal;
mod metrics_live;
mod replay;
mod report;
mod status_live;
mod top;
