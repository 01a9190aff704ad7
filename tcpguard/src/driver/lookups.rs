//! Look-ups of rules that no SYN can skip, whatever its listener.

use std::collections::BTreeMap;
use std::mem;

use ipnet::IpNet;
use tcpguard_common::abi::{Config, Mask, RuleRef};
use tcpguard_engine::{ListenerId, Matcher};

use crate::bpf::{KernelMatcher, client_around, source_table};

/// Number of rules on sources, and of rules for every listener, by the look-up that they require of
/// a SYN.
#[derive(Clone, Debug, Default)]
pub struct Lookups {
    every_port: Counts,
    certain_ports: Counts,
    /// Signature rules for every listener, by mask.
    masks: [u32; Mask::ALL.len()],
    /// Entries over longer prefixes than a client's, by the client around them and their port.
    narrow: BTreeMap<(IpNet, Option<u16>), u32>,
}

/// Number of rules in each kind of table.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    hosts: u32,
    nets: u32,
}

/// Tables that are in use: the bits of [`Config::source_rules`], [`Config::port_rules`] and
/// [`Config::masks`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InUse {
    every_port: u8,
    certain_ports: u8,
    masks: u8,
}

impl Lookups {
    /// Returns the look-ups that rules with these `matchers` require.
    pub fn of<'a>(matchers: impl Iterator<Item = &'a Matcher>) -> Self {
        let mut lookups = Self::default();
        matchers.for_each(|matcher| lookups.add(matcher));
        lookups
    }

    /// Counts one more rule.
    pub fn add(&mut self, matcher: &Matcher) {
        if let Some(count) = self.count_of(matcher) {
            *count += 1;
        }
        for entry in narrow_entries(matcher) {
            *self.narrow.entry(entry).or_default() += 1;
        }
    }

    /// Counts a rule less.
    pub fn take(&mut self, matcher: &Matcher) {
        if let Some(count) = self.count_of(matcher) {
            *count -= 1;
        }
        for entry in narrow_entries(matcher) {
            if let Some(count) = self.narrow.get_mut(&entry) {
                *count -= 1;
                if *count == 0 {
                    self.narrow.remove(&entry);
                }
            }
        }
    }

    /// Returns whether a rule over `client`, for `port` or for every port, has others beneath it.
    pub fn has_narrow(&self, client: IpNet, port: Option<u16>) -> bool {
        self.narrow.contains_key(&(client, port))
    }

    /// Returns [`RuleRef::NARROW`] if an entry of a rule is to have it, and 0 otherwise.
    pub fn narrow_flag(&self, entry: &KernelMatcher) -> u32 {
        let KernelMatcher::Source(net, ports) = entry else { return 0 };
        let port = ports.entries().next().flatten();
        let narrow = client_around(net).is_some() || self.has_narrow(net.trunc(), port);
        if narrow { RuleRef::NARROW } else { 0 }
    }

    /// Returns the tables in which SYNs must be looked up.
    pub fn in_use(&self) -> InUse {
        let masks = self.masks.iter().enumerate();
        InUse {
            every_port: self.every_port.bits(),
            certain_ports: self.certain_ports.bits(),
            masks: masks.fold(0, |masks, (bit, count)| masks | u8::from(*count > 0) << bit),
        }
    }

    fn count_of(&mut self, matcher: &Matcher) -> Option<&mut u32> {
        let (net, ports) = match matcher {
            Matcher::Source(net, ports) => (net, ports),
            Matcher::Signature { listener: ListenerId::HOST, mask, .. } => {
                return self.masks.get_mut(usize::from(mask.code()));
            }
            Matcher::Signature { .. } => return None,
        };
        let counts = if ports.is_every() { &mut self.every_port } else { &mut self.certain_ports };
        let in_hosts = source_table(net) == Config::HOSTS;
        Some(if in_hosts { &mut counts.hosts } else { &mut counts.nets })
    }
}

impl Counts {
    const fn bits(self) -> u8 {
        let hosts = if self.hosts > 0 { Config::HOSTS } else { 0 };
        hosts | if self.nets > 0 { Config::NETS } else { 0 }
    }
}

impl InUse {
    /// Look-ups for two rule sets that are in the kernel at the same time.
    pub const fn with(self, other: Self) -> Self {
        Self {
            every_port: self.every_port | other.every_port,
            certain_ports: self.certain_ports | other.certain_ports,
            masks: self.masks | other.masks,
        }
    }

    /// Writes the tables in use into a configuration record. Returns whether the record has changed.
    pub fn write_to(self, config: &mut Config) -> bool {
        let every_port = mem::replace(&mut config.source_rules, self.every_port);
        let certain_ports = mem::replace(&mut config.port_rules, self.certain_ports);
        let masks = mem::replace(&mut config.masks, self.masks);
        Self { every_port, certain_ports, masks } != self
    }
}

/// The client around a longer prefix, with each of the ports of its rule.
pub fn narrow_entries(matcher: &Matcher) -> impl Iterator<Item = (IpNet, Option<u16>)> {
    let of_source = match matcher {
        Matcher::Source(net, ports) => client_around(net).map(|client| (client, *ports)),
        Matcher::Signature { .. } => None,
    };
    of_source.into_iter().flat_map(|(client, ports)| {
        ports.entries().map(move |port| (client, port)).collect::<Vec<_>>()
    })
}

#[cfg(test)]
mod tests {
    use tcpguard_engine::Ports;

    use super::*;

    fn rule(net: &str, ports: &[u16]) -> Matcher {
        Matcher::Source(net.parse().expect("a prefix"), Ports::new(ports).expect("up to four"))
    }

    #[test]
    fn only_the_tables_with_rules_are_in_use() {
        let mut lookups = Lookups::default();
        let in_use = |lookups: &Lookups| {
            let mut config = Config::default();
            lookups.in_use().write_to(&mut config);
            (config.source_rules, config.port_rules)
        };
        let (hosts, nets) = (Config::HOSTS, Config::NETS);
        for (matcher, expected) in [
            (rule("192.0.2.1/32", &[]), (hosts, 0)),
            (rule("2001:db8::/64", &[443]), (hosts, hosts)),
            (rule("192.0.2.0/24", &[22, 80]), (hosts, hosts | nets)),
            (rule("2001:db8::1/128", &[]), (hosts | nets, hosts | nets)),
        ] {
            lookups.add(&matcher);
            assert_eq!(in_use(&lookups), expected, "{matcher:?}");
        }
        lookups.take(&rule("192.0.2.1/32", &[]));
        assert_eq!(in_use(&lookups), (nets, hosts | nets));
    }

    #[test]
    fn every_syn_asks_under_the_masks_of_rules_for_every_listener_and_of_no_others() {
        let signature =
            |listener, mask| Matcher::Signature { listener, mask, fingerprint: Default::default() };
        let (every, one) =
            (signature(ListenerId::HOST, Mask::NoTtl), signature(ListenerId(7), Mask::Full));
        let mut lookups = Lookups::of([&every, &every, &one].into_iter());
        let mut config = Config::default();
        assert!(lookups.in_use().write_to(&mut config), "news");
        assert_eq!(config.masks, 1 << Mask::NoTtl.code());
        lookups.take(&every);
        assert!(!lookups.in_use().write_to(&mut config), "there is another one");
        lookups.take(&every);
        lookups.take(&one);
        assert!(lookups.in_use().write_to(&mut config));
        assert_eq!(config.masks, 0);
    }

    #[test]
    fn a_64_knows_of_longer_prefixes_beneath_it_for_its_port_until_the_last_has_gone() {
        let mut lookups = Lookups::default();
        let client: IpNet = "2001:db8::/64".parse().expect("a prefix");
        let narrow = [rule("2001:db8::8/125", &[443]), rule("2001:db8::1/128", &[80, 443])];
        narrow.iter().for_each(|matcher| lookups.add(matcher));
        let known =
            |lookups: &Lookups| [None, Some(80), Some(443)].map(|p| lookups.has_narrow(client, p));
        assert_eq!(known(&lookups), [false, true, true]);
        lookups.take(&narrow[1]);
        assert_eq!(known(&lookups), [false, false, true]);
        lookups.take(&narrow[0]);
        assert_eq!(known(&lookups), [false; 3]);
    }
}
