//! The parts of the `tcpguard` binary, as a library so that tests can reach them.

pub mod agent;
pub mod checkup;
pub mod cli;
pub mod config;
pub mod control;
pub mod documents;
mod durable;
pub mod firewall;
pub mod host;
mod json;
pub mod kernel;
pub mod monitoring;
pub mod observe;
pub mod probe;
pub mod render;
pub mod replay;
pub mod report;
pub mod status;
mod text;
#[cfg(feature = "tui")]
pub mod top;
#[cfg(test)]
mod way_on;
