//! The stack's own counters.

use crate::evidence::EVIDENCE_WINDOW;
use crate::input::{Sample, TcpExt};
use crate::listener::Growth;

/// Counts of the stack by the last sample.
#[derive(Clone, Debug, Default)]
pub(super) struct Stack {
    epoch: Option<u64>,
    pub tcp_ext: TcpExt,
    /// Segments with a wrong checksum.
    checksum_errors: u64,
    growth: Growth,
    pub sample_shift: u8,
}

impl Stack {
    /// Returns whether no sample has come yet.
    pub fn is_new(&self) -> bool {
        self.epoch.is_none()
    }

    /// Returns whether the counters of a sample began anew, or are the first.
    pub fn restarts(&self, sample: &Sample) -> bool {
        self.epoch != Some(sample.epoch)
    }

    /// Takes over a sample. Returns how much the counters have grown lately, and the number of segments with a wrong
    /// checksum since the last sample.
    pub fn take(&mut self, sample: &Sample) -> (TcpExt, u64) {
        self.epoch = Some(sample.epoch);
        self.tcp_ext = sample.tcp_ext;
        self.sample_shift = sample.sample_shift;
        let errors = sample.host.checksum_errors;
        let before = std::mem::replace(&mut self.checksum_errors, errors);
        let grown = self.growth.over(sample.at, EVIDENCE_WINDOW, sample.tcp_ext);
        (grown, errors.saturating_sub(before))
    }
}
