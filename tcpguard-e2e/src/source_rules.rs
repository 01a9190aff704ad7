//! The rules about sources as the kernel has them, read and changed without the agent, dead or alive.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use ipnet::IpNet;
use tcpguard_common::abi::{
    Config, EVERY_PORT, RuleRef, SCOPE_BITS, SourceKey, SourceV4, SourceV6, maps,
};

use crate::clock::boot_ns;
use crate::netns::Netns;
use crate::tamper::PinnedMap;

/// One trie of rules: its pin, and how long its keys are.
const TRIES: [(&str, usize); 2] = [
    (maps::SOURCE_RULES_V4, size_of::<SourceKey<SourceV4>>()),
    (maps::SOURCE_RULES_V6, size_of::<SourceKey<SourceV6>>()),
];
const SET: usize = offset_of!(SourceKey<SourceV4>, data) + offset_of!(SourceV4, set);
const PORT: usize = offset_of!(SourceKey<SourceV4>, data) + offset_of!(SourceV4, port);
const ADDR: usize = offset_of!(SourceKey<SourceV4>, data) + offset_of!(SourceV4, addr);

/// The maps in which they are.
#[derive(Debug)]
pub struct SourceRules {
    config: PinnedMap,
    ends: PinnedMap,
    tries: [PinnedMap; 2],
    paths: [String; 2],
}

impl SourceRules {
    /// Those that are pinned in `host`.
    ///
    /// # Errors
    /// When there are none.
    pub fn open(host: &Netns) -> Result<Self> {
        let open = |name: &str, key, value| PinnedMap::open(host, name, key, value);
        let trie = |(name, key): (&str, usize)| open(name, key, size_of::<RuleRef>());
        let path = |(name, _): (&str, usize)| -> Result<String> {
            let found = host.exec(&format!("find /sys/fs/bpf -path */maps/{name} -type f"))?;
            Ok(found.lines().next().context("no pin of rules")?.to_owned())
        };
        Ok(Self {
            config: open(maps::CONFIG, size_of::<u32>(), size_of::<Config>())?,
            ends: open(maps::RULE_EXPIRY, size_of::<u32>(), size_of::<u64>())?,
            tries: [trie(TRIES[0])?, trie(TRIES[1])?],
            paths: [path(TRIES[0])?, path(TRIES[1])?],
        })
    }

    /// How many there are, of whatever rule set.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn count(&self) -> io::Result<usize> {
        Ok(self.tries[0].entries()?.len() + self.tries[1].entries()?.len())
    }

    /// What is dropped from at this moment: prefixes of the rule set that counts, for every port, whose
    /// time has not ended. Nothing where the record says that there is none to look for.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn in_force(&self) -> io::Result<BTreeSet<IpNet>> {
        let mut prefixes = BTreeSet::new();
        let (config, now) = (self.config.get(&[0; 4])?, boot_ns());
        if number::<4>(&config, offset_of!(Config, source_rules)) == 0 {
            return Ok(prefixes);
        }
        let set = number::<2>(&config, offset_of!(Config, rule_set));
        for trie in &self.tries {
            for (key, rule) in trie.entries()? {
                let end = self.ends.get(&rule[..4])?;
                let counts = number::<2>(&key, SET) == set && key[PORT..ADDR] == EVERY_PORT;
                if counts && number::<8>(&end, 0) > now {
                    prefixes.insert(prefix(&key));
                }
            }
        }
        Ok(prefixes)
    }

    /// What the rules in the kernel refer to, one for each, to make others of.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn references(&self) -> io::Result<Vec<Vec<u8>>> {
        let entries = self.tries.iter().map(PinnedMap::entries).collect::<io::Result<Vec<_>>>()?;
        Ok(entries.into_iter().flatten().map(|(_, rule)| rule).collect())
    }

    /// Lines for `bpftool batch` that take all rules out, and then put one in for each of `prefixes` and
    /// `references`: a replacement in place.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn in_place(
        &self,
        prefixes: &BTreeSet<IpNet>,
        references: &[Vec<u8>],
    ) -> io::Result<String> {
        let mut lines = String::new();
        let set = number::<2>(&self.config.get(&[0; 4])?, offset_of!(Config, rule_set)) as u16;
        for (trie, path) in self.tries.iter().zip(&self.paths) {
            for (key, _) in trie.entries()? {
                let _ = writeln!(lines, "map delete pinned {path} key hex{}", hex(&key));
            }
        }
        for (prefix, rule) in prefixes.iter().zip(references) {
            let path = &self.paths[usize::from(prefix.addr().is_ipv6())];
            let (key, rule) = (hex(&key(prefix, set)), hex(rule));
            let _ = writeln!(lines, "map update pinned {path} key hex{key} value hex{rule}");
        }
        Ok(lines)
    }

    /// Writes that an agent lives, as each of its polls does.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn beat(&self) -> io::Result<()> {
        let mut config = self.config.get(&[0; 4])?;
        let place = offset_of!(Config, heartbeat_ns);
        config[place..place + 8].copy_from_slice(&boot_ns().to_le_bytes());
        self.config.set(&[0; 4], &config)
    }
}

/// `N` bytes at a place, as a number.
fn number<const N: usize>(bytes: &[u8], place: usize) -> u64 {
    let mut number = [0; 8];
    number[..N].copy_from_slice(&bytes[place..place + N]);
    u64::from_le_bytes(number)
}

fn prefix(key: &[u8]) -> IpNet {
    let (bits, addr) = (number::<4>(key, 0) as u32 - SCOPE_BITS, &key[ADDR..]);
    let addr = match <[u8; 16]>::try_from(addr) {
        Ok(v6) => IpAddr::from(Ipv6Addr::from(v6)),
        Err(_) => Ipv4Addr::new(addr[0], addr[1], addr[2], addr[3]).into(),
    };
    // The kernel takes no longer one.
    IpNet::new_assert(addr, bits as u8)
}

fn key(prefix: &IpNet, set: u16) -> Vec<u8> {
    let bits = SCOPE_BITS + u32::from(prefix.prefix_len());
    let mut key = [&bits.to_le_bytes()[..], &set.to_ne_bytes(), &EVERY_PORT].concat();
    match prefix.network() {
        IpAddr::V4(addr) => key.extend(addr.octets()),
        IpAddr::V6(addr) => key.extend(addr.octets()),
    }
    key
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!(" {byte:02x}")).collect()
}
