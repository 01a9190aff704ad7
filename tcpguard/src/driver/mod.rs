//! What the daemon and a replay share in driving the engine: numbers and records that both make of what the
//! programs counted.

pub mod distinct;
pub mod headers;
pub mod timeline;
