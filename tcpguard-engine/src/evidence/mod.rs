//! Why handshakes fail: the sampled flows of the last seconds, and what speaks for an attack.

mod assess;
mod cohort;
mod describe;
mod gate;
mod signature;
mod sources;
mod ttl;

pub(crate) use assess::{Assessment, assess};
pub(crate) use cohort::{Cohort, Failing, source};
pub use describe::describe;
pub(crate) use signature::Candidate;
pub(crate) use sources::{Culprit, culprits};
