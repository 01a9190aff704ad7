//! The part of a flood that no rule covers.

use crate::evidence::{Cohort, Failing};
use crate::input::constants;

constants! {
    /// Failed handshakes that no rule covers from which SYN cookies answer the rest.
    pub(crate) const RESIDUAL_FLOWS: u64 = 64 Count in 8..=8192,
        "Weighed against the normally lost clients beside a flood that its rules cover, and \
         against mixed floods that partly mimic the clients.";

    /// Their share of the failed handshakes.
    pub(crate) const RESIDUAL_SHARE: f64 = 0.05 Share in 0.001..=1.0,
        "As FAILURE_SHARE.";
}

/// Failed flows that no rule covers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Residual {
    pub flows: u64,
    /// Their share of all failed flows.
    pub share: f64,
}

impl Residual {
    /// The failed flows without those that are `covered`.
    pub fn of(cohort: &Cohort, covered: impl Fn(&Failing) -> bool) -> Self {
        let left = cohort.without(covered).weight();
        Self { flows: left, share: left as f64 / cohort.weight().max(1) as f64 }
    }

    /// Returns whether it is worth a mitigation of its own.
    pub fn matters(&self) -> bool {
        self.flows >= RESIDUAL_FLOWS && self.share >= RESIDUAL_SHARE
    }
}
