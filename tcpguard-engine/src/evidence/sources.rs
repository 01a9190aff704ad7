//! Sources of failed handshakes: one, few, or everywhere.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::cohort::{Cohort, Failing};
use super::gate::{FEW_NETWORKS, FEW_SOURCES, SINGLETON_SHARE};
use super::measured::{Measured, Quantity};
use super::report::{NetworkShare, SourceShare};
use super::retransmissions::{RETRANSMIT_SHARE, retransmitted_share};
use crate::input::{constants, one_in};

constants! {
    /// Failed handshakes of a source or network from which a rule against it is considered.
    pub(crate) const SOURCE_FLOWS: u64 = 16 Count in 2..=10_000,
        "Weighed against the handshakes that a flood spoofs from one address by chance and the \
         queue holds, and against 20 sources at 300 SYN/s, each of which sends about as many in a \
         second.";

    /// Failed sources in a /24 (IPv6: /48) from which the network is blocked rather than each of
    /// them.
    pub(crate) const NETWORK_SOURCES: usize = 8 Count in 2..=256,
        "Weighed against neighbors who would be blocked too, and against the number of rules. A \
         network with a client in it is not blocked as a whole.";
}

/// Number of top sources and networks reported.
const TOP: usize = 8;
/// Flows among which singletons are counted. Drawing this many from a pool of P addresses leaves
/// exp(-1024/P) of them alone, so that 90 % singletons mean a pool of some 10,000 addresses, however
/// long the flood has lasted.
const DRAWN: usize = 1024;
/// The smallest pool of addresses that passes for random. Fewer flows than [`DRAWN`] from a smaller one
/// are alone for the most part too, but too many sources come round.
const POOL: f64 = 10_000.0;
/// Expected failures are at most this share of the failed flows, because they are only an expectation.
const MOST_NATURAL: f64 = 0.5;
/// /8 networks in which IPv4 hosts live (1 to 223, RFC 1112 §4 and RFC 6890).
const SLASH_8: f64 = 223.0;
/// /16 networks in which IPv6 hosts may live (2000::/3, RFC 4291 §2.4): 8,192. Some hundred
/// are given out.
const SLASH_16: f64 = 8192.0;
/// Addresses of one IPv6 /64 from which the whole /64 is the source.
const SPREAD_IN_64: usize = 4;

/// The sources of the failed flows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// Number of flows that were inspected.
    pub flows: usize,
    /// Number of distinct sources among them.
    pub distinct: usize,
    /// The most frequent ones, the first one first.
    pub top: Vec<SourceShare>,
    /// The most frequent /24 (IPv6: /48), the first one first.
    pub top_networks: Vec<NetworkShare>,
    /// Expected share of the failed flows that would fail without an attack.
    pub natural: f64,
    /// Share of flows from sources seen once, among at most [`DRAWN`].
    pub singletons: f64,
    /// Sources seen more often than once among these, and as many as a pool of [`POOL`] addresses would
    /// show.
    pub again: (usize, f64),
    /// Fewest sources that cover 90 % of the failures beyond the expected ones.
    pub k90: u64,
    /// Fewest /24 (IPv6: /48) networks that cover 90 % of them.
    pub k90_networks: u64,
    /// Number of distinct /8 (IPv6: /16) networks.
    pub slash8: u64,
    /// True if the sources stand in at least half as many /8 (IPv6: /16) networks as uniformly drawn ones would.
    pub everywhere: bool,
}

impl Sources {
    /// Summarises the sources of the failed flows, of which the number `anyway` would fail without an
    /// attack, each from another source.
    pub fn of(failing: &[Failing], anyway: f64) -> Self {
        let total: u64 = failing.iter().map(|flow| flow.weight).sum();
        let natural = (anyway / total.max(1) as f64).min(MOST_NATURAL);
        let beyond = total as f64 * (1.0 - natural);
        let (singletons, again) = repeated_sources(failing, natural);
        let by_source = ranked(failing, Failing::source);
        let by_network = ranked(failing, |flow| network(flow.source()));
        let slash8 = ranked(failing, |flow| first_bits(flow.source()));
        let v4 = failing.iter().filter(|flow| flow.addr.is_ipv4()).count();
        let in_v4 = slash8.iter().filter(|((v6, _), _)| !v6).count();
        let everywhere = match v4 * 2 > failing.len() {
            true => is_everywhere(in_v4, v4, SLASH_8),
            false => is_everywhere(slash8.len() - in_v4, failing.len() - v4, SLASH_16),
        };
        let top = by_source
            .iter()
            .take(TOP)
            .map(|&(addr, weight)| SourceShare { addr, share: weight as f64 / total as f64 });
        let top_networks = by_network.iter().take(TOP).map(|&(network, weight)| NetworkShare {
            net: whole(network),
            share: weight as f64 / total as f64,
        });
        Self {
            flows: failing.len(),
            distinct: by_source.len(),
            top: top.collect(),
            top_networks: top_networks.collect(),
            natural,
            singletons,
            again,
            k90: covering(&by_source, beyond),
            k90_networks: covering(&by_network, beyond),
            slash8: slash8.len() as u64,
            everywhere,
        }
    }

    /// Share of the top source.
    pub fn top_share(&self) -> f64 {
        self.top.first().map_or(0.0, |top| top.share)
    }

    /// Returns the top source's share of the failures beyond the expected ones.
    pub fn top_excess(&self) -> f64 {
        (self.top_share() / (1.0 - self.natural)).min(1.0)
    }

    /// Returns whether more sources come round than of a pool that passes for random. One may by chance.
    pub fn come_round(&self) -> bool {
        let (seen, expected) = self.again;
        seen as f64 > expected.max(1.0)
    }

    /// The fewest sources and networks that send most of the failed handshakes, with the limits of few ones.
    pub fn concentration(&self) -> Vec<Measured> {
        vec![
            Quantity::NetworksOfMost.counts(self.k90_networks).at_most(FEW_NETWORKS as f64),
            Quantity::SourcesOfMost.counts(self.k90).at_most(FEW_SOURCES as f64),
            Quantity::SynsPerSource.is(self.per_source()).at_least(2.0),
        ]
    }

    /// The share of SYNs from sources seen once.
    pub fn seen_once(&self) -> Measured {
        Quantity::SeenOnceShare.is(self.singletons).at_least(SINGLETON_SHARE)
    }

    /// The number of sources that are seen again, with the number of a pool that passes for random.
    pub fn seen_again(&self) -> Measured {
        let (seen, expected) = self.again;
        Quantity::SourcesSeenAgain.is(seen as f64).at_most(expected.max(1.0).floor())
    }

    /// Flows per source.
    pub fn per_source(&self) -> f64 {
        if self.distinct == 0 { 0.0 } else { self.flows as f64 / self.distinct as f64 }
    }
}

/// The network that stands for the top source: its address, or its IPv6 /64 when it uses several
/// addresses there.
pub(crate) fn top_network(failing: &[Failing], top: IpAddr) -> IpNet {
    let within = |flow: &&Failing| flow.source() == top;
    match top {
        IpAddr::V4(addr) => Ipv4Net::from(addr).into(),
        IpAddr::V6(prefix) => {
            let addrs = ranked(failing.iter().filter(within), |flow| flow.addr);
            match addrs.first() {
                Some((IpAddr::V6(addr), _)) if addrs.len() < SPREAD_IN_64 => {
                    Ipv6Net::from(*addr).into()
                }
                _ => Ipv6Net::new_assert(prefix, 64).into(),
            }
        }
    }
}

/// A source or network that sends many of the SYNs of failed handshakes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Culprit {
    /// The source, or the network that several of them fill.
    pub net: IpNet,
    /// Its share of the failed flows.
    pub share: f64,
    /// The SYNs from there are retransmitted as those of real clients are.
    pub retransmitted: bool,
    /// The sources in a network that send many each.
    pub members: Vec<Culprit>,
}

/// The senders of many SYNs of failed handshakes, the worst first: networks with several such sources, and single sources
/// elsewhere.
pub(crate) fn culprits(cohort: &Cohort) -> Vec<Culprit> {
    let total = cohort.weight().max(1) as f64;
    let culprit = |net: IpNet, weight: u64, members| {
        let from_there = cohort.failing.iter().filter(|flow| net.contains(&flow.addr));
        let share = retransmitted_share(from_there);
        let retransmitted = share.is_some_and(|share| share > RETRANSMIT_SHARE);
        Culprit { net, share: weight as f64 / total, retransmitted, members }
    };
    let mut networks = BTreeMap::<IpAddr, Vec<(IpAddr, u64)>>::new();
    for (source, weight) in ranked(&cohort.failing, Failing::source) {
        networks.entry(network(source)).or_default().push((source, weight));
    }
    let mut culprits = Vec::new();
    for (network, sources) in networks {
        let weight: u64 = sources.iter().map(|(_, weight)| weight).sum();
        let members = sources.iter().filter(|(_, weight)| *weight >= SOURCE_FLOWS).map(
            |&(source, weight)| culprit(top_network(&cohort.failing, source), weight, Vec::new()),
        );
        if sources.len() >= NETWORK_SOURCES && weight >= SOURCE_FLOWS {
            culprits.push(culprit(whole(network), weight, members.collect()));
        } else {
            culprits.extend(members);
        }
    }
    culprits.sort_by(|a, b| b.share.total_cmp(&a.share));
    culprits
}

/// Weight by key, the heaviest first; equals in the order of their keys.
fn ranked<'a, K: Copy + Ord>(
    failing: impl IntoIterator<Item = &'a Failing>,
    key: impl Fn(&Failing) -> K,
) -> Vec<(K, u64)> {
    let mut ranked: Vec<(K, u64)> =
        failing.into_iter().map(|flow| (key(flow), flow.weight)).collect();
    ranked.sort_unstable_by_key(|&(key, _)| key);
    ranked.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
    ranked.sort_by_key(|&(_, weight)| std::cmp::Reverse(weight));
    ranked
}

/// Returns the number of the heaviest entries that cover 90 % of `total`.
fn covering<K>(ranked: &[(K, u64)], total: f64) -> u64 {
    let mut covered = 0;
    let needed = ranked.iter().take_while(|(_, weight)| {
        let more = (covered as f64) < 0.9 * total;
        covered += weight;
        more
    });
    needed.count() as u64
}

/// Returns the share of flows from sources seen once; the number of sources that were seen again, and the
/// number to be expected if the flows that do not fail anyway came from a pool of [`POOL`] addresses. One
/// source counts once however often it comes: a carrier's address says nothing of a pool.
fn repeated_sources(failing: &[Failing], natural: f64) -> (f64, (usize, f64)) {
    let step = failing.len().div_ceil(DRAWN).max(1);
    let drawn: Vec<&Failing> = one_in(step, failing.iter()).collect();
    let mut times = BTreeMap::<IpAddr, (u32, u64)>::new();
    for flow in &drawn {
        let (times, weight) = times.entry(flow.source()).or_default();
        *times += 1;
        *weight += flow.weight;
    }
    let all: u64 = drawn.iter().map(|flow| flow.weight).sum();
    let once: u64 = times.values().filter(|(times, _)| *times == 1).map(|(_, weight)| weight).sum();
    let again = times.values().filter(|(times, _)| *times > 1).count();
    // Each address of the pool is drawn as often as Poisson says.
    let each = drawn.len() as f64 * (1.0 - natural) / POOL;
    let expected = POOL * (1.0 - (1.0 + each) * (-each).exp());
    (once as f64 / all.max(1) as f64, (again, expected))
}

/// Returns whether `flows` lie in at least half as many of `networks` as if each were drawn.
fn is_everywhere(found: usize, flows: usize, networks: f64) -> bool {
    let uniform = networks * (1.0 - (-(flows as f64) / networks).exp());
    found > 0 && found as f64 >= 0.5 * uniform
}

/// The /24 of an address; the /48 of one of IPv6.
pub(super) fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(addr) => std::net::Ipv4Addr::from_bits(addr.to_bits() >> 8 << 8).into(),
        IpAddr::V6(addr) => std::net::Ipv6Addr::from_bits(addr.to_bits() >> 80 << 80).into(),
    }
}

/// The network that [`network`] names.
fn whole(network: IpAddr) -> IpNet {
    match network {
        IpAddr::V4(addr) => Ipv4Net::new_assert(addr, 24).into(),
        IpAddr::V6(addr) => Ipv6Net::new_assert(addr, 48).into(),
    }
}

fn first_bits(source: IpAddr) -> (bool, u16) {
    match source {
        IpAddr::V4(addr) => (false, addr.octets()[0].into()),
        IpAddr::V6(addr) => (true, addr.segments()[0]),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use tcpguard_sim::Random;

    use super::*;

    fn from(addr: impl Into<IpAddr>) -> Failing {
        Failing::once(addr.into())
    }

    /// Returns flows from well-spread addresses, `pool` different ones.
    fn pool(flows: u32, pool: u32) -> Vec<Failing> {
        let scattered = |n: u32| Ipv4Addr::from_bits((n % pool).wrapping_mul(0x9e37_79b1));
        (0..flows).map(|n| from(scattered(n.wrapping_mul(2_654_435_769)))).collect()
    }

    #[test]
    fn spoofed_sources_are_singletons_everywhere() {
        let sources = Sources::of(&pool(4000, 1 << 31), 0.0);
        assert!(sources.singletons > 0.99, "{sources:?}");
        assert!(sources.everywhere);
        assert!(sources.k90 > 3000);
        assert!(sources.top_share() < 0.01);
    }

    #[test]
    fn a_pool_of_a_thousand_addresses_is_not_random() {
        assert!(Sources::of(&pool(8192, 1000), 0.0).singletons < 0.9);
    }

    #[test]
    fn a_pool_shows_by_the_sources_that_come_round_long_before_most_of_them_have() {
        let mut random = Random::new(1);
        let mut come_round = |flows: usize, pool: u64| {
            let runs = (0..400).map(|_| {
                let drawn = |_| from(Ipv4Addr::from_bits(random.below(pool) as u32));
                let failing: Vec<_> = (0..flows).map(drawn).collect();
                u32::from(Sources::of(&failing, 0.0).come_round())
            });
            f64::from(runs.sum::<u32>()) / 400.0
        };
        assert!(come_round(175, 3000) > 0.9, "3.7 % show one such source or none");
        assert!(come_round(250, 3000) > 0.97);
        assert!(come_round(1024, 3000) > 0.99);
        for flows in [60, 175, 250, 1024] {
            assert!(come_round(flows, 1 << 24) < 0.01, "{flows}");
        }
    }

    #[test]
    fn a_carriers_address_is_no_pool() {
        let mut failing = pool(250, 1 << 31);
        failing.extend(vec![from([192, 0, 2, 1]); 12]);
        assert!(!Sources::of(&failing, 0.0).come_round());
    }

    #[test]
    fn baseline_failures_do_not_hide_the_attackers() {
        let mut failing = vec![from([198, 51, 100, 7]); 80];
        failing.extend(pool(40, 1 << 31));
        let sources = Sources::of(&failing, 40.0);
        assert!((sources.top_excess() - 1.0).abs() < 1e-9);
        assert_eq!(sources.k90, 1);
        assert!(sources.top_share() < 0.7);
        let sources = Sources::of(&failing, 1e9);
        assert_eq!(sources.natural, 0.5, "more is not believed");
        assert!(Sources::of(&failing, 0.0).k90 > 20);
    }

    #[test]
    fn one_source_among_others_is_named_with_its_share() {
        let mut failing = vec![from([198, 51, 100, 7]); 80];
        failing.extend(pool(20, 1 << 31));
        let sources = Sources::of(&failing, 0.0);
        assert_eq!(sources.top[0].addr, IpAddr::from([198, 51, 100, 7]));
        assert_eq!(sources.top_share(), 0.8);
        assert_eq!(sources.top.len(), TOP);
        assert_eq!(sources.top_networks[0].net.to_string(), "198.51.100.0/24");
        assert_eq!(sources.top_networks[0].share, 0.8);
    }

    #[test]
    fn weights_count() {
        let mut failing = vec![from([198, 51, 100, 7]), from([192, 0, 2, 1])];
        failing[0].weight = 9;
        let sources = Sources::of(&failing, 0.0);
        assert_eq!((sources.top_share(), sources.k90), (0.9, 1));
    }

    #[test]
    fn an_ipv6_source_is_its_64_and_blocked_as_such_once_it_spreads() {
        let prefix: IpAddr = "2001:db8:1:2::".parse().expect("address");
        let host = |n: u16| from(Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 0, 0, 0, n));
        let one: Vec<_> = (0..100).map(|_| host(9)).collect();
        assert_eq!(Sources::of(&one, 0.0).distinct, 1);
        assert_eq!(top_network(&one, prefix).to_string(), "2001:db8:1:2::9/128");
        let many: Vec<_> = (0..100).map(host).collect();
        assert_eq!(Sources::of(&many, 0.0).top_share(), 1.0);
        assert_eq!(top_network(&many, prefix).to_string(), "2001:db8:1:2::/64");
    }

    #[test]
    fn culprits_are_networks_that_are_filled_and_single_sources_elsewhere() {
        let mut failing = Vec::new();
        for host in 0..40 {
            failing.extend((0..4).map(|_| from([198, 51, 100, host])));
        }
        failing.extend((0..20).map(|_| from([192, 0, 2, 7])));
        failing.extend((0..15).map(|_| from([192, 0, 2, 8])));
        let cohort = Cohort { failing, ..Cohort::default() };
        let culprits = culprits(&cohort);
        let nets: Vec<String> = culprits.iter().map(|culprit| culprit.net.to_string()).collect();
        assert_eq!(nets, ["198.51.100.0/24", "192.0.2.7/32"], "15 SYNs are too few");
        assert_eq!(culprits[0].members, [], "each of them sent too few");
        assert!((culprits[0].share - 160.0 / 195.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_nothing() {
        let sources = Sources::of(&[], 0.0);
        assert_eq!((sources.top_share(), sources.per_source(), sources.k90), (0.0, 0.0, 0));
        assert!(!sources.everywhere);
    }
}
