//! The rules wanted in the kernel, their hits and their ends.

mod book;
mod exempt;
mod meter;
mod plan;
mod recurrence;

pub(crate) use book::{Book, Entry, Life, Terms};
pub(crate) use exempt::Exempt;
pub(crate) use meter::MOSTLY;
pub(crate) use plan::{Change, Wanted, plan};
pub(crate) use recurrence::Recurrence;
