//! Judges the detector, beside published ones, on simulated mixes of traffic and on captures.
//!
//! Every measurement ends as a [`table::Block`]: rows for a person, and [`targets::Finding`]s for the
//! question whether a target is met.

pub mod allocated;
pub mod attacks;
pub mod baselines;
pub mod calm;
pub mod captures;
pub mod cost;
pub mod detection;
pub mod golden;
pub mod judge;
pub mod mitigation;
pub mod mixes;
pub mod names;
pub mod plan;
pub mod stage;
pub mod stats;
pub mod table;
pub mod targets;
pub mod tricks;
pub mod wire;
pub mod wire_rows;
pub mod work;
