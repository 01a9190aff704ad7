//! The rules about sources as the kernel has them, read and changed without the agent, dead or alive.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result};
use ipnet::IpNet;
use tcpguard_common::abi::{
    Addr, Config, EVERY_PORT, RuleRef, SCOPE_BITS, SourceHost, SourceKey, SourceV4, SourceV6, maps,
};

use crate::daemon::tamper::PinnedMap;
use crate::measure::clock::boot_ns;
use crate::net::netns::Netns;

/// One table of rules: its pin, the length of its keys, and the offset in them of the set, which port and address
/// follow. Both are in bytes.
type Layout = (&'static str, usize, usize);

const TABLES: [Layout; 3] = [
    (maps::SOURCE_HOSTS, size_of::<SourceHost>(), 0),
    (
        maps::SOURCE_RULES_V4,
        size_of::<SourceKey<SourceV4>>(),
        offset_of!(SourceKey<SourceV4>, data),
    ),
    (
        maps::SOURCE_RULES_V6,
        size_of::<SourceKey<SourceV6>>(),
        offset_of!(SourceKey<SourceV6>, data),
    ),
];
/// Indices of the tables.
const HOSTS: usize = 0;
const V4: usize = 1;
const V6: usize = 2;

/// Maps of the rules about sources.
#[derive(Debug)]
pub struct SourceRules {
    config: PinnedMap,
    ends: PinnedMap,
    tables: [PinnedMap; 3],
    paths: [String; 3],
}

impl SourceRules {
    /// Opens the maps that are pinned in `host`.
    pub fn open(host: &Netns) -> Result<Self> {
        let open = |name: &str, key, value| PinnedMap::open(host, name, key, value);
        let table = |(name, key, _): Layout| open(name, key, size_of::<RuleRef>());
        let path = |(name, _, _): Layout| -> Result<String> {
            let found = host.exec(&format!("find /sys/fs/bpf -path */maps/{name} -type f"))?;
            Ok(found.lines().next().context("no pin of rules")?.to_owned())
        };
        Ok(Self {
            config: open(maps::CONFIG, size_of::<u32>(), size_of::<Config>())?,
            ends: open(maps::RULE_EXPIRY, size_of::<u32>(), size_of::<u64>())?,
            tables: [table(TABLES[HOSTS])?, table(TABLES[V4])?, table(TABLES[V6])?],
            paths: [path(TABLES[HOSTS])?, path(TABLES[V4])?, path(TABLES[V6])?],
        })
    }

    /// Returns the number of rules, of whatever rule set.
    pub fn count(&self) -> io::Result<usize> {
        self.tables.iter().map(|table| Ok(table.entries()?.len())).sum()
    }

    /// Prefixes of all rules in the kernel, whatever their rule set, port and end.
    pub fn all(&self) -> io::Result<BTreeSet<IpNet>> {
        let mut prefixes = BTreeSet::new();
        for (place, table) in self.tables.iter().enumerate() {
            prefixes.extend(table.entries()?.iter().map(|(key, _)| prefix(place, key)));
        }
        Ok(prefixes)
    }

    /// Prefixes that are dropped at this moment: those of rules of the rule set that counts, for every port,
    /// that have not expired. Empty where the configuration in the kernel says that there are no such rules
    /// to look up.
    pub fn in_force(&self) -> io::Result<BTreeSet<IpNet>> {
        let mut prefixes = BTreeSet::new();
        let (config, now) = (self.config.get(&[0; 4])?, boot_ns());
        let in_use = config[offset_of!(Config, source_rules)];
        let set = number::<2>(&config, offset_of!(Config, rule_set));
        for (place, table) in self.tables.iter().enumerate() {
            let kind = if place == HOSTS { Config::HOSTS } else { Config::NETS };
            if in_use & kind == 0 {
                continue;
            }
            let (_, _, scope) = TABLES[place];
            // The highest bit in the hash is of the family.
            let of_set = if place == HOSTS { !SourceHost::V6 } else { u16::MAX };
            for (key, rule) in table.entries()? {
                let end = self.ends.get(&rule[..4])?;
                let of_every_port = key[scope + 2..scope + 4] == EVERY_PORT;
                let is_of = (number::<2>(&key, scope) ^ set) & u64::from(of_set) == 0;
                let counts = is_of && of_every_port;
                if counts && number::<8>(&end, 0) > now {
                    prefixes.insert(prefix(place, &key));
                }
            }
        }
        Ok(prefixes)
    }

    /// Values of the rules in the kernel, one for each rule, from which other rules can be made.
    pub fn references(&self) -> io::Result<Vec<Vec<u8>>> {
        let entries = self.tables.iter().map(PinnedMap::entries).collect::<io::Result<Vec<_>>>()?;
        Ok(entries.into_iter().flatten().map(|(_, rule)| rule).collect())
    }

    /// Lines for `bpftool batch` that remove all rules, and then add one for each of `prefixes` and `references`: a
    /// replacement within the rule set that is in force.
    pub fn in_place(
        &self,
        prefixes: &BTreeSet<IpNet>,
        references: &[Vec<u8>],
    ) -> io::Result<String> {
        let mut lines = String::new();
        let set = number::<2>(&self.config.get(&[0; 4])?, offset_of!(Config, rule_set)) as u16;
        for (table, path) in self.tables.iter().zip(&self.paths) {
            for (key, _) in table.entries()? {
                let _ = writeln!(lines, "map delete pinned {path} key hex{}", hex(&key));
            }
        }
        for (prefix, rule) in prefixes.iter().zip(references) {
            let (place, key) = key(prefix, set);
            let (path, key, rule) = (&self.paths[place], hex(&key), hex(rule));
            let _ = writeln!(lines, "map update pinned {path} key hex{key} value hex{rule}");
        }
        Ok(lines)
    }

    /// Writes that an agent lives, as each of its polls does.
    pub fn beat(&self) -> io::Result<()> {
        let mut config = self.config.get(&[0; 4])?;
        let place = offset_of!(Config, heartbeat_ns);
        config[place..place + 8].copy_from_slice(&boot_ns().to_le_bytes());
        self.config.set(&[0; 4], &config)
    }
}

/// The `N` bytes from an offset on, as a little-endian number.
fn number<const N: usize>(bytes: &[u8], place: usize) -> u64 {
    let mut number = [0; 8];
    number[..N].copy_from_slice(&bytes[place..place + N]);
    u64::from_le_bytes(number)
}

/// The prefix that a key of the table at `place` is about.
fn prefix(place: usize, key: &[u8]) -> IpNet {
    let (_, _, scope) = TABLES[place];
    let addr = &key[scope + 4..];
    let of_v6 = if place == HOSTS {
        number::<2>(key, scope) as u16 & SourceHost::V6 != 0
    } else {
        place == V6
    };
    let addr = if of_v6 {
        let mut v6 = [0; 16];
        v6[..addr.len()].copy_from_slice(addr);
        IpAddr::from(v6)
    } else {
        Ipv4Addr::new(addr[0], addr[1], addr[2], addr[3]).into()
    };
    let bits = match (place, addr) {
        (HOSTS, IpAddr::V4(_)) => 32,
        (HOSTS, IpAddr::V6(_)) => 64,
        _ => number::<4>(key, 0) as u32 - SCOPE_BITS,
    };
    // The kernel takes no longer one.
    IpNet::new_assert(addr, bits as u8)
}

/// Returns the table of a prefix, and its key there.
fn key(prefix: &IpNet, set: u16) -> (usize, Vec<u8>) {
    let scope = [set.to_ne_bytes(), EVERY_PORT].concat();
    let bits = (SCOPE_BITS + u32::from(prefix.prefix_len())).to_le_bytes();
    match (prefix.network(), prefix.prefix_len()) {
        (IpAddr::V4(addr), 32) => (HOSTS, host(set, Addr::from_v4(addr.octets()))),
        (IpAddr::V6(addr), 64) => (HOSTS, host(set, Addr::from_v6(addr.octets()))),
        (IpAddr::V4(addr), _) => (V4, [&bits[..], &scope, &addr.octets()].concat()),
        (IpAddr::V6(addr), _) => (V6, [&bits[..], &scope, &addr.octets()].concat()),
    }
}

/// The key of one client.
fn host(set: u16, client: Addr) -> Vec<u8> {
    let SourceHost { set, port, client } = SourceHost::new(set.into(), EVERY_PORT, &client);
    let [first, second] = client.map(u32::to_ne_bytes);
    [&set.to_ne_bytes()[..], &port, &first, &second].concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!(" {byte:02x}")).collect()
}
