//! Causes of failing handshakes: the sampled flows of the last seconds, and the evidence for an attack.

mod alarm;
mod assess;
mod checks;
pub(crate) mod cohort;
mod describe;
pub(crate) mod gate;
mod headers;
mod missing;
pub(crate) mod novelty;
mod numbers;
mod outcomes;
mod pool;
mod reach;
mod record;
mod regulars;
pub(crate) mod retransmissions;
pub(crate) mod signature;
pub(crate) mod sources;
pub(crate) mod surge;
mod ttl;
pub(crate) mod verdict;

pub(crate) use alarm::alarm;
pub(crate) use assess::{Assessment, Background, assess};
pub(crate) use checks::Checks;
pub(crate) use cohort::{Cohort, Failing, source};
pub use describe::describe;
pub use headers::SynHeader;
pub(crate) use missing::Missing;
pub(crate) use novelty::Novelty;
pub(crate) use outcomes::{AlarmTest, Outcomes};
pub(crate) use reach::Reach;
pub(crate) use record::Growth;
pub use record::{
    Counts, FirstVerdict, Moment, Occupied, PendingClass, Record, RemovedRule, RuleRecord,
    Statistics,
};
pub(crate) use regulars::Regulars;
pub(crate) use signature::Candidate;
pub(crate) use sources::{Culprit, culprits};
pub(crate) use surge::Surge;
pub use verdict::VerdictLine;
pub(crate) use verdict::{flash_crowd_line, overload_line, without_rule};
