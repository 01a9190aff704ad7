//! The routes to ask for against a flood: as narrow as its SYNs allow. None names a source, because a SYN proves nothing
//! about its source.
//!
//! A FlowSpec rule cannot name TTL, window, MSS or the order of options. Of a signature it has the total length
//! only, which is that of the options: 40 bytes without any, 44 with an MSS, 52 of Windows, 60 of Linux and
//! Android, 64 of Apple (20 more over IPv6).

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::flowspec::{Action, FlowSpec, Lengths, Terms};
use super::wanted::Wanted;

/// Share of the flood's SYNs that a range of lengths has to hold: with less, a rule leaves a flood behind.
const OF_FLOOD: f64 = 0.95;
/// Clients' SYNs without which it is not known that clients have none of a range of lengths: of 300 with none among them,
/// fewer than 1 % have one, at 95 % confidence (rule of three).
const CLIENTS: u64 = 300;

/// Treatment of the SYNs that a narrowed rule matches, by default.
const DEFAULT: Action = Action::RateLimit(12_500);

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
    /// Number of completed handshakes on record, by the total length of their SYNs in bytes.
    pub client_lengths: BTreeMap<u16, u64>,
    /// True if the service has no other address: a blackhole would end it.
    pub is_last_address: bool,
}

/// The operator's word on how far relief may go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Policy {
    /// Treatment of the SYNs that a narrowed rule matches. Those with options are never dropped, but limited to the
    /// default rate.
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
        Self { action: DEFAULT, port_rate: None, blackhole: false }
    }
}

impl Policy {
    /// Returns whether a host asks for such a route under this policy.
    pub fn allows(&self, route: &Wanted) -> bool {
        match route {
            Wanted::FlowSpec(rule) => match (rule.terms().lengths, rule.terms().action) {
                (Some(_), action) => action == self.action || action == DEFAULT,
                (None, action) => self.port_rate.map(Action::RateLimit) == Some(action),
            },
            Wanted::Blackhole(_) => self.blackhole,
        }
    }
}

/// Breadth of the routes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Breadth {
    /// By lengths where they are known.
    Narrow,
    /// All SYNs of the port, because narrower routes had no effect.
    Wide,
}

/// The routes against one flood; none where the policy allows none.
pub fn choose(flood: &Flood, policy: &Policy, breadth: Breadth) -> Vec<Wanted> {
    let rule = |lengths, action| {
        let Flood { destination, port, .. } = *flood;
        FlowSpec::new(Terms { destination, port, lengths, action }).ok()
    };
    let narrow = || {
        let lengths = lengths(&flood.lengths, &flood.client_lengths);
        lengths.and_then(|_| rule(lengths, policy.action).or_else(|| rule(lengths, DEFAULT)))
    };
    let of_port = || rule(None, Action::RateLimit(policy.port_rate?));
    let narrow = (breadth == Breadth::Narrow).then(narrow).flatten();
    if let Some(rule) = narrow.or_else(of_port) {
        return vec![Wanted::FlowSpec(rule)];
    }
    match policy.blackhole && !flood.is_last_address {
        true => vec![Wanted::Blackhole(flood.destination)],
        false => Vec::new(),
    }
}

/// The narrowest range of lengths that holds nearly all SYNs of the flood and none of the clients.
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
            let of_flood = sum(flood, range.first, range.last) as f64 / all as f64;
            of_flood >= OF_FLOOD && sum(clients, range.first, range.last) == 0
        })
        .min_by_key(|range| range.last - range.first)
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
            is_last_address: true,
        }
    }

    /// The lengths to which a rule is narrowed.
    fn chosen(flood: &Flood) -> Option<(u16, u16)> {
        match choose(flood, &Policy::default(), Breadth::Narrow)[..] {
            [] => None,
            [Wanted::FlowSpec(rule)] => {
                rule.terms().lengths.map(|lengths| (lengths.first, lengths.last))
            }
            ref routes => panic!("one rule: {routes:?}"),
        }
    }

    #[test]
    fn a_length_that_no_client_has_narrows_the_rule() {
        assert_eq!(chosen(&flood()), Some((40, 40)));
        let mixed = Flood { lengths: BTreeMap::from([(40, 500), (44, 480), (48, 20)]), ..flood() };
        assert_eq!(chosen(&mixed), Some((40, 44)));
    }

    #[test]
    fn syns_with_options_are_limited_and_never_dropped() {
        let policy = Policy { action: Action::Discard, ..Policy::default() };
        let action = |flood: &Flood| match choose(flood, &policy, Breadth::Narrow)[..] {
            [Wanted::FlowSpec(rule)] => rule.terms().action,
            ref routes => panic!("one rule: {routes:?}"),
        };
        assert_eq!(action(&flood()), Action::Discard);
        let with_mss = Flood { lengths: BTreeMap::from([(44, 10_000)]), ..flood() };
        assert_eq!(action(&with_mss), DEFAULT);
    }

    #[test]
    fn a_length_that_clients_have_too_narrows_nothing() {
        let copies = Flood { lengths: BTreeMap::from([(60, 10_000)]), ..flood() };
        assert_eq!(chosen(&copies), None);
        let client_lengths = BTreeMap::from([(40, 1), (60, 10_000)]);
        assert_eq!(chosen(&Flood { client_lengths, ..flood() }), None, "a single client has it");
        // A naive choice, by the flood alone, would drop half of the clients.
        let naive = Flood { client_lengths: BTreeMap::from([(40, CLIENTS)]), ..copies.clone() };
        assert_eq!(chosen(&naive), Some((60, 60)));
        let dropped = copies.client_lengths[&60] as f64;
        assert!(dropped / copies.client_lengths.values().sum::<u64>() as f64 >= 0.5);
    }

    #[test]
    fn a_flood_without_a_common_length_is_not_narrowed() {
        let lengths = BTreeMap::from([(40, 940), (60, 60)]);
        assert_eq!(chosen(&Flood { lengths, ..flood() }), None);
    }

    #[test]
    fn without_enough_clients_their_lengths_are_not_known() {
        let few = Flood { client_lengths: BTreeMap::from([(60, CLIENTS - 1)]), ..flood() };
        assert_eq!(chosen(&few), None);
        let enough = Flood { client_lengths: BTreeMap::from([(60, CLIENTS)]), ..flood() };
        assert_eq!(chosen(&enough), Some((40, 40)));
    }

    #[test]
    fn the_rate_of_a_port_is_limited_only_if_configured() {
        let copies = Flood { lengths: BTreeMap::from([(60, 10_000)]), ..flood() };
        let policy = Policy { port_rate: Some(50_000), ..Policy::default() };
        let routes = choose(&copies, &policy, Breadth::Narrow);
        let [Wanted::FlowSpec(rule)] = routes[..] else { panic!("one rule: {routes:?}") };
        assert_eq!(rule.terms().lengths, None);
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
