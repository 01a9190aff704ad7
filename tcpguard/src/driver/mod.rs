//! The parts that the agent and a replay share in driving the engine: numbers and records that both derive from
//! the counters of the programs.

pub mod distinct;
pub mod headers;
pub mod timeline;
