//! Hours of mixed traffic, attacks and changes, and whether they cost the agent anything.
//!
//! [`schedule`] says what happens, from a seed; [`play`] has it happen in a lab and looks at the agent
//! meanwhile ([`samples`]); [`past`] is what the last agent finds on the disk; [`judge`] says what was
//! wrong.

pub mod judge;
pub mod past;
pub mod play;
pub mod samples;
pub mod schedule;
