//! Hours of mixed traffic, attacks and changes, and whether they cost the agent anything.
//!
//! [`schedule`] draws the events from a seed. [`play`] plays them in a lab and samples the agent meanwhile
//! ([`samples`]). [`past`] is the state on disk that the last agent starts with. [`judge`] reports the
//! faults.

pub mod judge;
pub mod past;
pub mod play;
pub mod samples;
pub mod schedule;
