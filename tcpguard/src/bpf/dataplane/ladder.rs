//! The state that the mitigations of the ladder keep in maps.

use std::net::IpAddr;

use tcpguard_common::abi::{Bucket, Config, maps};
use tcpguard_common::fastpath::hash;

use super::Dataplane;
use crate::bpf::Result;
use crate::bpf::convert::addr;

const REPLY_LIMIT_PARTS: u32 = (maps::REPLY_LIMIT_BUCKETS / maps::REPLY_LIMIT_PART) as u32;

impl Dataplane {
    /// The buckets of replies to networks that were taken of, of all CPUs.
    pub fn reply_limits(&self) -> Result<Vec<(usize, u32)>> {
        let mut buckets = Vec::new();
        for part in 0..REPLY_LIMIT_PARTS {
            for of_cpu in self.reply_limits.get(part)? {
                let first = part as usize * maps::REPLY_LIMIT_PART;
                buckets.extend((first..).zip(of_cpu).filter(|(_, bucket)| *bucket != 0));
            }
        }
        Ok(buckets)
    }

    /// The replies to the network of an address that are left at boot time `now_ns`, on the CPU that has the fewest.
    pub fn replies_left(&self, config: &Config, ip: IpAddr, now_ns: u64) -> Result<Option<u32>> {
        let network = hash::source(&config.hash_key, &addr(ip).network()) as usize;
        let (part, place) = (network / maps::REPLY_LIMIT_PART, network % maps::REPLY_LIMIT_PART);
        let cpus = self.reply_limits.get(part as u32 % REPLY_LIMIT_PARTS)?;
        let left = |buckets: &[u32; maps::REPLY_LIMIT_PART]| {
            config.replies_per_network.left(buckets[place], now_ns)
        };
        Ok(cpus.iter().map(left).min())
    }

    /// The buckets of SYN budgets by listener id.
    pub fn budgets(&self) -> Result<Vec<(u32, Bucket)>> {
        self.budgets.entries()
    }

    /// The buckets of exempt addresses.
    pub fn exempt_rates(&self) -> Result<Vec<(u32, Bucket)>> {
        self.exempt_rates.entries()
    }

    /// Starts the SYN budget of a listener with a full bucket.
    pub fn reset_budget(&self, id: u32) -> Result<()> {
        self.budgets.set(&id, &Bucket::default())
    }
}
