//! The status as numbers for monitoring systems: `tcpguard metrics`, and HTTP on a socket.
//!
//! `families` lists the numbers, as a pure function of the status. Their meanings are in
//! docs/metrics.md. No label names a source: a flood has millions of them.

mod families;
mod format;
mod serve;
mod slots;

pub use families::{of_status, without_agent};
pub use format::{Family, Sample, Value, text};
pub use serve::MetricsServer;
