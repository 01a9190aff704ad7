//! The routes to ask for against a flood: as narrow as its SYNs allow.
//!
//! A FlowSpec rule cannot name TTL, window, MSS or the order of options. Of a signature it has the total length
//! only, which is that of the options: 40 bytes without any, 44 with an MSS, 52 of Windows, 60 of Linux and
//! Android, 64 of Apple (20 more over IPv6).

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::flowspec::{Action, FlowSpec, Lengths, Terms};
use super::wanted::Wanted;

/// Share of the flood's SYNs that a range of lengths has to hold: with less, a rule leaves a flood behind.
const OF_FLOOD: f64 = 0.95;
/// Most of the clients' SYNs that a range of lengths may hold.
const OF_CLIENTS: f64 = 0.01;
/// Clients' SYNs without which their share is not known to be that small: with 300 and none among them it is below
/// 1 % at 95 % confidence (rule of three).
const CLIENTS: u64 = 300;
/// Most source prefixes by which a flood is narrowed, each a rule of its own.
const SOURCES: usize = 4;
/// Share of the flood that these sources have to send.
const OF_SOURCES: f64 = 0.6;

/// One attacked service, and the SYNs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Flood {
    /// Address of the service.
    pub destination: IpAddr,
    /// Port of the service; 0 where the flood is about no single port.
    pub port: u16,
    /// SYNs per second that still arrive and whose handshakes fail.
    pub syn_pps: f64,
    /// Number of failed SYNs by total length in bytes.
    pub lengths: BTreeMap<u16, u64>,
    /// Number of SYNs of completed handshakes within the last 10 minutes, by total length in bytes.
    pub client_lengths: BTreeMap<u16, u64>,
    /// Sources with the largest shares of the flood, the largest first.
    pub sources: Vec<Source>,
    /// True if the service has no other address: a blackhole would end it.
    pub is_last_address: bool,
}

/// A source of a flood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Source {
    /// Prefix of the source.
    pub prefix: IpNet,
    /// Share of the flood that comes from it, 0 to 1.
    pub share: f64,
    /// True if the source sends the packets itself: it completed a handshake. A spoofed source is that of a client.
    pub is_proven: bool,
}

/// The operator's word on how far relief may go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Policy {
    /// Treatment of the SYNs that a narrowed rule matches.
    pub action: Action,
    /// Rate in bytes per second of all SYNs to an attacked port, where no narrower rule is possible; `None`: such
    /// rules are not allowed.
    pub port_rate: Option<u32>,
    /// True if a blackhole may be asked for without an operator.
    pub blackhole: bool,
}

impl Default for Policy {
    /// Rate limits rather than drops, 12,500 bytes per second or 300 SYNs per second, so that the host sees when
    /// the flood is over. Neither the rate of a port is limited, nor an address given up.
    fn default() -> Self {
        Self { action: Action::RateLimit(12_500), port_rate: None, blackhole: false }
    }
}

/// Breadth of the routes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Breadth {
    /// By lengths and sources where they are known.
    Narrow,
    /// All SYNs of the port, because narrower routes had no effect.
    Wide,
}

/// The routes against one flood; none where the policy allows none.
pub fn choose(flood: &Flood, policy: &Policy, breadth: Breadth) -> Vec<Wanted> {
    if breadth == Breadth::Narrow {
        let narrow = narrow(flood, policy.action);
        if !narrow.is_empty() {
            return narrow;
        }
    }
    let of_port = |rate| Terms {
        destination: flood.destination,
        source: None,
        port: flood.port,
        lengths: None,
        action: Action::RateLimit(rate),
    };
    if let Some(rate) = policy.port_rate
        && let Ok(rule) = FlowSpec::new(of_port(rate))
    {
        return vec![Wanted::FlowSpec(rule)];
    }
    match policy.blackhole && !flood.is_last_address {
        true => vec![Wanted::Blackhole(flood.destination)],
        false => Vec::new(),
    }
}

/// Rules that are narrowed by lengths, by sources or by both; none where the flood has neither.
fn narrow(flood: &Flood, action: Action) -> Vec<Wanted> {
    let lengths = lengths(&flood.lengths, &flood.client_lengths);
    let sources = sources(&flood.sources);
    if lengths.is_none() && sources.is_empty() {
        return Vec::new();
    }
    let sources = match sources.is_empty() {
        true => vec![None],
        false => sources.into_iter().map(Some).collect(),
    };
    let rules = sources.into_iter().filter_map(|source| {
        let Flood { destination, port, .. } = *flood;
        FlowSpec::new(Terms { destination, source, port, lengths, action }).ok()
    });
    rules.map(Wanted::FlowSpec).collect()
}

/// The narrowest range of lengths that holds nearly all SYNs of the flood and next to none of the clients.
fn lengths(flood: &BTreeMap<u16, u64>, clients: &BTreeMap<u16, u64>) -> Option<Lengths> {
    let sum = |counts: &BTreeMap<u16, u64>, first: u16, last: u16| -> u64 {
        counts.range(first..=last).map(|(_, count)| count).sum()
    };
    let all = sum(flood, 0, u16::MAX);
    let all_clients = sum(clients, 0, u16::MAX);
    if all == 0 || all_clients < CLIENTS {
        return None;
    }
    let ranges = flood.keys().flat_map(|first| {
        flood.range(*first..).map(move |(last, _)| Lengths { first: *first, last: *last })
    });
    ranges
        .filter(|range| {
            let share = |counts, all: u64| sum(counts, range.first, range.last) as f64 / all as f64;
            share(flood, all) >= OF_FLOOD && share(clients, all_clients) <= OF_CLIENTS
        })
        .min_by_key(|range| range.last - range.first)
}

/// The few proven sources that send most of the flood; none where it takes more of them.
fn sources(sources: &[Source]) -> Vec<IpNet> {
    let proven: Vec<&Source> =
        sources.iter().filter(|source| source.is_proven).take(SOURCES).collect();
    let share: f64 = proven.iter().map(|source| source.share).sum();
    match share >= OF_SOURCES {
        true => proven.into_iter().map(|source| source.prefix).collect(),
        false => Vec::new(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A flood of SYNs without options among clients of all systems.
    pub fn flood() -> Flood {
        Flood {
            destination: "192.0.2.10".parse().unwrap(),
            port: 443,
            syn_pps: 100_000.0,
            lengths: BTreeMap::from([(40, 9_900), (60, 80), (64, 20)]),
            client_lengths: BTreeMap::from([(52, 300), (60, 500), (64, 200)]),
            sources: Vec::new(),
            is_last_address: true,
        }
    }

    fn source(prefix: &str, share: f64, is_proven: bool) -> Source {
        Source { prefix: prefix.parse().unwrap(), share, is_proven }
    }

    /// Lengths and source of a rule.
    type Chosen = (Option<(u16, u16)>, Option<String>);

    fn chosen(flood: &Flood, policy: &Policy) -> Vec<Chosen> {
        let rules = choose(flood, policy, Breadth::Narrow).into_iter().map(|wanted| match wanted {
            Wanted::FlowSpec(rule) => rule,
            Wanted::Blackhole(_) => panic!("no blackhole is allowed"),
        });
        rules
            .map(|rule| {
                let terms = rule.terms();
                (
                    terms.lengths.map(|lengths| (lengths.first, lengths.last)),
                    terms.source.map(|source| source.to_string()),
                )
            })
            .collect()
    }

    #[test]
    fn a_length_that_no_client_has_narrows_the_rule() {
        let policy = Policy::default();
        assert_eq!(chosen(&flood(), &policy), [(Some((40, 40)), None)]);
        let mixed = Flood { lengths: BTreeMap::from([(40, 500), (44, 480), (48, 20)]), ..flood() };
        assert_eq!(chosen(&mixed, &policy), [(Some((40, 44)), None)]);
    }

    #[test]
    fn a_length_that_clients_have_too_narrows_nothing() {
        let copies = Flood { lengths: BTreeMap::from([(60, 10_000)]), ..flood() };
        assert_eq!(choose(&copies, &Policy::default(), Breadth::Narrow), []);
        // A naive choice, by the flood alone, would drop half of the clients.
        let naive = Flood { client_lengths: BTreeMap::from([(40, CLIENTS)]), ..copies.clone() };
        assert_eq!(chosen(&naive, &Policy::default()), [(Some((60, 60)), None)]);
        let dropped = copies.client_lengths[&60] as f64;
        assert!(dropped / copies.client_lengths.values().sum::<u64>() as f64 >= 0.5);
    }

    #[test]
    fn a_flood_without_a_common_length_is_not_narrowed() {
        let lengths = BTreeMap::from([(40, 940), (60, 60)]);
        let spread = Flood { lengths, ..flood() };
        assert_eq!(choose(&spread, &Policy::default(), Breadth::Narrow), []);
    }

    #[test]
    fn without_enough_clients_their_lengths_are_not_known() {
        let few = Flood { client_lengths: BTreeMap::from([(60, CLIENTS - 1)]), ..flood() };
        assert_eq!(choose(&few, &Policy::default(), Breadth::Narrow), []);
        let enough = Flood { client_lengths: BTreeMap::from([(60, CLIENTS)]), ..flood() };
        assert_eq!(chosen(&enough, &Policy::default()).len(), 1);
    }

    #[test]
    fn only_few_and_proven_sources_narrow_the_rule() {
        let policy = Policy::default();
        let two = vec![source("203.0.113.7/32", 0.5, true), source("198.51.100.0/24", 0.2, true)];
        let concentrated = Flood { sources: two.clone(), ..flood() };
        assert_eq!(
            chosen(&concentrated, &policy),
            [
                (Some((40, 40)), Some("203.0.113.7/32".to_owned())),
                (Some((40, 40)), Some("198.51.100.0/24".to_owned())),
            ]
        );
        let spoofed = vec![source("203.0.113.7/32", 0.9, false), two[1]];
        assert_eq!(chosen(&Flood { sources: spoofed, ..flood() }, &policy)[0].1, None);
        let many = (0..8).map(|n| source(&format!("203.0.113.{n}/32"), 0.12, true)).collect();
        assert_eq!(chosen(&Flood { sources: many, ..flood() }, &policy)[0].1, None);
    }

    #[test]
    fn the_rate_of_a_port_is_limited_only_if_configured() {
        let copies = Flood { lengths: BTreeMap::from([(60, 10_000)]), ..flood() };
        let policy = Policy { port_rate: Some(50_000), ..Policy::default() };
        let routes = choose(&copies, &policy, Breadth::Narrow);
        let [Wanted::FlowSpec(rule)] = routes[..] else { panic!("one rule: {routes:?}") };
        assert_eq!(rule.narrowness(), 0);
        assert_eq!(rule.terms().action, Action::RateLimit(50_000));
        assert_eq!(choose(&flood(), &policy, Breadth::Wide), routes);
    }

    #[test]
    fn an_address_is_given_up_only_if_allowed_and_not_the_last() {
        let policy = Policy { blackhole: true, ..Policy::default() };
        let copies = Flood { lengths: BTreeMap::from([(60, 10_000)]), ..flood() };
        assert_eq!(choose(&copies, &policy, Breadth::Narrow), []);
        let spare = Flood { is_last_address: false, ..copies };
        let blackhole = Wanted::Blackhole(spare.destination);
        assert_eq!(choose(&spare, &policy, Breadth::Narrow), [blackhole]);
        assert_eq!(choose(&spare, &Policy::default(), Breadth::Narrow), []);
        // A flood of closed ports is about no port that a rule could name.
        let closed = Flood { port: 0, ..spare };
        assert_eq!(choose(&closed, &policy, Breadth::Narrow), [blackhole]);
    }
}
