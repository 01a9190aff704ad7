//! The state that the mitigations of the ladder keep in maps.

use tcpguard_common::abi::{Bucket, maps};

use super::Dataplane;
use crate::bpf::KernelError;

impl Dataplane {
    /// The buckets of answers to networks.
    pub fn reply_limits(&self) -> Result<Vec<(u32, Bucket)>, KernelError> {
        self.reply_limits.entries()
    }

    /// The buckets of SYN budgets by listener id.
    pub fn budgets(&self) -> Result<Vec<(u32, Bucket)>, KernelError> {
        self.budgets.entries()
    }

    /// Starts the SYN budget of a listener with a full bucket.
    pub fn reset_budget(&self, id: u32) -> Result<(), KernelError> {
        self.budgets.set(&id, &Bucket::default())
    }

    pub(super) fn forget_ladder(&self) -> Result<(), KernelError> {
        for (bucket, held) in self.reply_limits()? {
            if held != Bucket::default() {
                self.reply_limits.set(&bucket, &Bucket::default())?;
            }
        }
        (0..maps::MAX_LISTENERS).try_for_each(|id| self.reset_budget(id))
    }
}
