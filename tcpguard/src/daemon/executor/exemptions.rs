//! The prefixes that are exempt from drops by source or signature.

use std::net::IpAddr;

use ipnet::IpNet;
use tcpguard_common::abi::ExemptEntry;
use tcpguard_engine::Timestamp;
use tcpguard_host::linux::Protected;

use crate::bpf::{Dataplane, Result};

/// The prefixes that are exempt in the kernel.
#[derive(Debug, Default)]
pub struct Exemptions {
    /// The protected prefixes, each with its end in the kernel's table: [`ExemptEntry::STAYS`], [`ExemptEntry::OWN`] or
    /// [`ExemptEntry::HELPER`].
    protected: Vec<(IpNet, u32)>,
    allowed: Vec<(IpNet, Timestamp)>,
    /// The prefixes that were exempted last, each until its boot time in seconds.
    written: Vec<(IpNet, u32)>,
    /// True if another process had changed them.
    repaired: bool,
}

impl Exemptions {
    /// Exempts exactly these prefixes by order of an operator, each until its time.
    pub fn allow(&mut self, allowed: Vec<(IpNet, Timestamp)>, dataplane: &Dataplane) -> Result<()> {
        self.allowed = allowed;
        self.write(dataplane)
    }

    /// Exempts exactly these prefixes from drops by source or signature.
    pub fn protect(&mut self, protected: &[Protected], dataplane: &Dataplane) -> Result<()> {
        let until = |it: &Protected| match (it.own, it.connects) {
            (true, _) => ExemptEntry::OWN,
            (false, true) => ExemptEntry::STAYS,
            (false, false) => ExemptEntry::HELPER,
        };
        self.protected = protected.iter().map(|it| (it.net, until(it))).collect();
        self.write(dataplane)
    }

    /// Returns whether the programs take an address for the host's own.
    pub fn is_own(&self, addr: IpAddr) -> bool {
        let holds = |(net, _): &&(IpNet, u32)| net.contains(&addr);
        let longest = self.written.iter().filter(holds).max_by_key(|(net, _)| net.prefix_len());
        longest.is_some_and(|(_, until)| *until == ExemptEntry::OWN)
    }

    /// Returns whether another process had changed the exempt prefixes, which was repaired when they were
    /// written last.
    pub fn take_repaired(&mut self) -> bool {
        std::mem::take(&mut self.repaired)
    }

    fn write(&mut self, dataplane: &Dataplane) -> Result<()> {
        // What is within a protected prefix stays for good. A gateway that an operator allows may be a client.
        let stays = |net: &IpNet| {
            let mut protected = self.protected.iter();
            protected.any(|(all, until)| all.contains(net) && *until != ExemptEntry::HELPER)
        };
        let allowed = self.allowed.iter().filter(|(net, _)| !stays(net));
        let allowed = allowed.map(|(net, until)| (*net, seconds(*until)));
        // The later one of two ends of a prefix holds.
        let wanted: Vec<_> = self.protected.iter().copied().chain(allowed).collect();
        let changed = dataplane.set_exempt(&wanted)?;
        self.repaired |= changed && wanted == self.written;
        self.written = wanted;
        Ok(())
    }
}

/// Boot time in whole seconds, as the kernel keeps ends of exemptions; not before `at`.
fn seconds(at: Timestamp) -> u32 {
    u32::try_from(at.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u32::MAX)
}
