//! The state that the mitigations of the ladder keep in maps.

use tcpguard_common::abi::{Bucket, maps};

use super::Dataplane;
use crate::bpf::KernelError;

const REPLY_LIMIT_PARTS: u32 = (maps::REPLY_LIMIT_BUCKETS / maps::REPLY_LIMIT_PART) as u32;

impl Dataplane {
    /// The buckets of replies to networks that were taken of, of all CPUs.
    pub fn reply_limits(&self) -> Result<Vec<(usize, u32)>, KernelError> {
        let mut buckets = Vec::new();
        for part in 0..REPLY_LIMIT_PARTS {
            for of_cpu in self.reply_limits.get(part)? {
                let first = part as usize * maps::REPLY_LIMIT_PART;
                buckets.extend((first..).zip(of_cpu).filter(|(_, bucket)| *bucket != 0));
            }
        }
        Ok(buckets)
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
        for part in 0..REPLY_LIMIT_PARTS {
            self.reply_limits.fill(part, &[0; maps::REPLY_LIMIT_PART])?;
        }
        (0..maps::MAX_LISTENERS).try_for_each(|id| self.reset_budget(id))
    }
}
