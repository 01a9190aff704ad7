//! Sharing of evidence between hosts: the reports of this host and their times, those of others and their lifetimes,
//! and the hints and rules that the agent should have.
//!
//! It has no clock and no connection: [`Share`] takes inputs with their time, and returns effects.

mod effect;
mod feed;
mod heard;
mod hint;
mod own;
mod random;
mod state;
#[cfg(test)]
mod tests;
mod trickle;

pub use effect::{Effect, Evidence, Match};
pub use heard::{MAX_AT_PORT, MAX_OF_PEER, MAX_REPORTERS, MAX_SIGNATURES};
pub use hint::Hint;
pub use own::{MAX_OWN_INCIDENTS, MAX_OWN_SIGNATURES};
pub use random::Random;
pub use state::{Settings, Share, ShareCounts};
pub use trickle::{FIRST_WITHIN, LEAST_INTERVAL, MOST_INTERVAL, REDUNDANCY};
