//! Obstacles to tcpguard on this host, and conditions that weaken it: each check comes with its evidence
//! and a remedy.
//!
//! The checks judge the facts, and nothing is changed. What concerns the agent itself is checked by the
//! verb `tcpguard doctor`, which reads the facts.

pub mod checks;
mod document;
mod errno;
pub mod facts;

pub use document::{Checked, Doctor, Status, is_command};
pub use facts::Facts;
