//! The parts of the `tcpguard` binary, as a library so that tests can reach them.

pub mod agent;
pub mod cli;
pub mod config;
pub mod control;
pub mod documents;
#[cfg(test)]
mod hint_check;
pub mod kernel;
pub mod monitoring;
pub mod render;
pub mod replay;
pub mod report;
pub mod selftest;
pub mod status;
pub mod telemetry;
#[cfg(feature = "tui")]
pub mod top;
