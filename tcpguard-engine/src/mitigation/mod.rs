//! The mitigations of a listener beside rules: their order, their tests, and their report.

pub(crate) mod breaker;
pub(crate) mod budget;
pub(crate) mod canary;
mod clean_up;
mod cookie_completion;
pub(crate) mod ladder;
mod reason;
mod report;

pub(crate) use breaker::Before;
pub use breaker::Harm;
pub use budget::budget;
pub(crate) use budget::retransmit_budget;
pub use canary::AddressReplies;
pub(crate) use canary::CANARY;
pub use clean_up::CleanUp;
pub(crate) use ladder::{Ladder, MITIGATION_RETRY, Move, Need, Newest};
pub use reason::{HeldBack, MitigationReason, Setback};
pub use report::{MitigationReport, MitigationState};
