//! What is learned of a listener in calm: how many handshakes fail anyway, and what its clients
//! look like. Learning stops while anything is suspicious.

mod clients;
mod natural;

pub(crate) use clients::Clients;
pub(crate) use natural::Natural;
