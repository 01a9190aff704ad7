//! The parts of the `tcpguard` binary, as a library so that tests can reach them.

pub mod cli;
pub mod config;
pub mod control;
pub mod host;
pub mod render;
pub mod status;
