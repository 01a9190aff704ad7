//! A small host for the engine to guard: listeners with SYN queues, clients that retransmit, floods,
//! and rules that take effect. Time is an argument here too: a five-minute flood takes seconds.

mod kernel;
mod lab;
mod traffic;

pub use kernel::Server;
pub use lab::Lab;
pub use traffic::{Clients, Flood, Outage, Random, Shape, Sources};

use std::time::Duration;

use tcpguard_engine::Timestamp;

/// Time between polls.
pub const POLL: Duration = Duration::from_millis(250);

/// The time `seconds` after boot.
pub fn at(seconds: f64) -> Timestamp {
    Timestamp::default() + Duration::from_secs_f64(seconds)
}

/// Seconds after boot.
pub fn seconds(at: Timestamp) -> f64 {
    at.as_nanos() as f64 / 1e9
}
