//! The driver of the engine, as far as the agent and a replay share it: an executor over the tables of the programs,
//! the table of monitored listeners, and records that both derive from the counters.

pub mod distinct;
mod executor;
mod headers;
pub mod listeners;
mod lookups;
mod tables;
pub mod timeline;

pub use executor::{Executor, RecentClients, SampledSyn, Wanted, flags, kernel_mode};
pub use listeners::{ListenerTable, Monitored};
pub use lookups::Lookups;
pub use tables::Tables;
