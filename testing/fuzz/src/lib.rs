//! Fuzz targets: properties that must hold for any untrusted input, from peers, hosts of a fleet, users of the sockets
//! and authors of files. Each target is a plain function that panics where its property does not hold.
//!
//! `libfuzzer/` lets libFuzzer look for such input by coverage (`cargo xtask fuzz`). Its finds, every way through a
//! target and every crash that there was, are kept here as text, and each run of the tests plays them again.
#![forbid(unsafe_code)]

mod bus;
mod bytes;
mod capture;
mod config;
mod control;
mod engine;
mod fleet;
mod frame;
pub mod naive;
mod planted;
mod state;

pub use bus::bus;
pub use capture::capture;
pub use config::config;
pub use control::control;
pub use engine::engine;
pub use fleet::fleet;
pub use frame::frame;
pub use planted::planted;
pub use state::state;

/// A function that any input may be given.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Panics when something does not hold that must.
    pub run: fn(&[u8]),
}

/// Every target but [`planted()`].
pub const TARGETS: [Target; 8] = [
    Target { name: "frame", run: frames },
    Target { name: "control", run: control },
    Target { name: "config", run: config },
    Target { name: "state", run: state },
    Target { name: "capture", run: capture },
    Target { name: "engine", run: engine },
    Target { name: "bus", run: bus },
    Target { name: "fleet", run: fleet },
];

/// [`frame()`] without its counters.
fn frames(input: &[u8]) {
    frame(input);
}
