//! The parts of the `tcpguard` binary, as a library so that tests can reach them.

pub mod agent;
pub mod checkup;
pub mod cli;
pub mod config;
pub mod control;
pub mod documents;
mod durable;
pub mod firewall;
#[cfg(test)]
mod hint_check;
pub mod host;
mod json;
pub mod kernel;
pub mod monitoring;
pub mod render;
pub mod replay;
pub mod report;
pub mod selftest;
pub mod status;
pub mod telemetry;
mod text;
#[cfg(feature = "tui")]
pub mod top;
