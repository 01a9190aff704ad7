//! A small simulated host for the engine: listeners with SYN queues, clients that retransmit, floods, and rules that
//! take effect. Time is an argument here too: a five-minute flood takes seconds, a calm day a few more.
//!
//! The same seed gives the same traffic, and the same alerts, on every machine.
#![forbid(unsafe_code)]

mod arrivals;
mod calendar;
mod hash;
mod kernel;
mod lab;
mod looks;
mod population;
mod random;
mod ticks;
mod traffic;
pub mod world;

pub use arrivals::Arrivals;
pub use kernel::{Kernel, Server};
pub use lab::{Lab, Meter, RaisedAlert, Tally};
pub use looks::Shape;
pub use population::{Client, Population};
pub use random::Random;
pub use ticks::Tick;
pub use traffic::{
    Broken, Clients, Flood, Frames, HealthCheck, HealthChecks, Natural, Outage, Persistence,
    Sources, Whom,
};

use std::time::Duration;

use tcpguard_engine::Timestamp;

pub const POLL: Duration = Duration::from_millis(250);

/// The time `seconds` after boot.
pub fn at(seconds: f64) -> Timestamp {
    Timestamp::default() + Duration::from_secs_f64(seconds)
}

pub fn seconds(at: Timestamp) -> f64 {
    at.as_nanos() as f64 / 1e9
}
