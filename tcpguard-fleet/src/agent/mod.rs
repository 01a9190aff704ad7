//! The agent of this host: the client of its socket, and its messages in the terms of the other rooms.
//!
//! The agent reports its state on a Unix socket, and takes hints and rules there. Neither side waits for the other:
//! reports replace each other, and messages wait in a bounded queue.

mod evidence;
mod flood;
mod link;
mod message;
mod outbox;
#[cfg(test)]
pub(crate) mod tests;

pub use evidence::evidence;
pub use flood::{floods, load};
pub use link::{AgentState, LONGEST_REPORT, run};
pub use message::{end_of_hint, end_of_rule, hint, rule};
pub use outbox::Outbox;
