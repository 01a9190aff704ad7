//! What is learned of a listener in calm: how many handshakes fail anyway, how many SYNs are usual,
//! and what its clients look like. Learning stops while anything is suspicious.

mod clients;
mod export;
mod natural;
mod trips;
mod usual;

pub(crate) use clients::Clients;
pub use export::{Learned, LearnedError, LearnedListener, LearnedPrint};
pub(crate) use natural::Natural;
pub(crate) use usual::Usual;
