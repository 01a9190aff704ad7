//! The rules wanted in the kernel, their hits and their ends.

mod exempt;
pub(crate) mod fleet;
pub(crate) mod meter;
mod plan;
mod reason;
pub(crate) mod recurrence;
mod report;
mod rule_table;

pub(crate) use exempt::{Exempt, touch};
pub(crate) use fleet::FleetBounds;
pub use meter::COMPLETED_SHARE;
pub(crate) use meter::{COMPLETED_MIN, COMPLETED_WINDOW, MOSTLY};
pub(crate) use plan::{Change, Wanted, plan};
pub use reason::RemovalReason;
pub(crate) use recurrence::{RULE_TTL, Recurrence};
pub use report::{AllowReport, RuleOrigin, RuleReport};
pub(crate) use rule_table::{Entry, Life, RuleTable, Terms};
