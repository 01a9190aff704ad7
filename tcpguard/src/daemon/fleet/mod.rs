//! The exchange with the fleet process, which speaks for the other hosts of a fleet.
//!
//! It is a process of its own, with a user of its own. An attacker who takes it over can send hints and make bounded
//! rules, and nothing else: this is not the control socket.
//!
//! The agent never waits for it. A task reads each connection into a bounded queue, from which the loop takes messages
//! after everything else. A report that was not read in time is replaced by the next one.

mod exchange;
mod inbox;
mod server;

pub use exchange::Exchange;
pub use server::FleetServer;
