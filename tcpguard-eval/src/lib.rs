//! Judges the detector, beside published ones, on simulated mixes of traffic and on captures.
//!
//! Every measurement ends as a [`table::Block`]: rows for a person, and [`targets::Finding`]s for the
//! question whether a target is met.

pub mod baselines;
pub mod captures;
pub mod table;
pub mod targets;
pub mod wire;
pub mod wire_rows;
