//! The rules wanted in the kernel, their hits and their ends.

mod exempt;
pub(crate) mod meter;
mod plan;
pub(crate) mod recurrence;
mod rule_table;

pub(crate) use exempt::Exempt;
pub(crate) use meter::MOSTLY;
pub(crate) use plan::{Change, Wanted, plan};
pub(crate) use recurrence::Recurrence;
pub(crate) use rule_table::{Entry, Life, RuleTable, Terms};
