//! Causes of failed handshakes: the sampled flows of the last seconds, and the evidence for an attack.

mod alarm;
mod assess;
mod checks;
mod class;
pub(crate) mod cohort;
mod failing_clients;
pub(crate) mod gate;
pub(crate) mod hints;
mod measured;
mod missing;
pub(crate) mod novelty;
mod outcomes;
mod pool;
mod reach;
mod report;
pub(crate) mod retransmissions;
pub(crate) mod signature;
pub(crate) mod sources;
pub(crate) mod surge;
mod ttl;
pub(crate) mod verdict;
mod victims;

pub(crate) use alarm::alarm;
pub(crate) use assess::{Assessment, Background, assess};
pub(crate) use checks::Checks;
pub use class::{ClassFacts, IncidentClass, Scope, Severity, SourceOrigin, StoppedBy};
pub(crate) use cohort::{Cohort, EVIDENCE_WINDOW, Failing, RETRANSMIT_AGE, source};
pub(crate) use failing_clients::FailingClients;
pub(crate) use gate::{DISTINCT_MIN, EVIDENCE_FLOWS, SINGLETON_SHARE};
pub(crate) use hints::Hints;
pub use measured::{Limit, Measured, Quantity};
pub(crate) use missing::Missing;
pub(crate) use novelty::Novelty;
pub(crate) use outcomes::{AlarmTest, Outcomes};
pub(crate) use reach::Reach;
pub use report::{
    Evidence, Indicator, IndicatorName, NetworkShare, SignatureShare, SourceShare, TtlShare,
};
pub(crate) use signature::{
    CLIENTS_KNOWN, Candidate, REPLIED_UNFINISHED, SIGNATURE_COVERAGE, SIGNATURES_PER_LISTENER,
};
pub(crate) use sources::{Culprit, SOURCE_FLOWS, culprits};
pub(crate) use surge::Surge;
pub(crate) use verdict::{
    INDICATORS_ATTACK, INDICATORS_DROP, SINGLE_SOURCE_SHARE, flash_crowd_line, overload_line,
};
pub use verdict::{Question, VerdictLine};
pub(crate) use victims::Victims;
