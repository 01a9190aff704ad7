//! The rules wanted in the kernel: which exist, what they hit, when they end.

mod book;
mod meter;
mod plan;
mod protected;
mod recurrence;

pub(crate) use book::{Book, Entry, Life};
pub(crate) use plan::{Change, Wanted, plan};
pub(crate) use protected::Protected;
pub(crate) use recurrence::Recurrence;
