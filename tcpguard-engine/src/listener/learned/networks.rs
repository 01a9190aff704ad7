//! Networks of the host's clients. Clients of a host return, while the source addresses that a flood
//! draws have never been there (Peng, Leckie and Ramamohanarao, "Protection from distributed denial
//! of service attacks using history-based IP filtering", ICC 2003).
//!
//! One set for each of the last seven days, for all listeners of the host. A network is a /24, of
//! IPv6 a /48. A network is added when a client completes a handshake from it. An attacker can
//! therefore add networks only with hosts in the networks from which the flood claims to come.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use tcpguard_common::abi::CookieKey;
use tcpguard_common::cookie::keyed_hash;

use super::export::{LearnedDay, LearnedNetworks};
use super::filter::Filter;
use crate::input::{Flow, FlowState, Timestamp};

/// Number of days for which a network counts as known, today included.
const DAYS: usize = 7;

/// Seconds in a day.
const DAY: u64 = 24 * 3600;
/// Number of handshakes that no day brings: 10,000 a second.
const MAX_COMPLETIONS: u64 = 1 << 30;

/// The networks from which handshakes were completed.
#[derive(Clone, Default)]
pub(crate) struct Networks {
    /// Secret key of the hash: with it an attacker could choose networks that pass for others.
    key: CookieKey,
    /// Networks of each day, today first.
    days: VecDeque<Day>,
    /// Networks of all days together.
    all: Filter,
    /// Time since the start of today when flows were last inspected, and the time of that inspection; `None` before
    /// there was one in this run.
    gone: Duration,
    looked: Option<Timestamp>,
}

/// Networks and completions of one day.
#[derive(Clone, Default, Eq, PartialEq)]
struct Day {
    networks: Filter,
    completions: u64,
}

impl Networks {
    /// Hashes with this key from now on. Networks that were learned with another key are forgotten.
    pub fn set_key(&mut self, key: [u64; 2]) {
        *self = Self { key: CookieKey(key), ..Self::default() };
    }

    /// Learns from the flows that completed since the last look, of listeners in calm.
    pub fn learn(&mut self, now: Timestamp, calm: impl Iterator<Item = Flow>) {
        let before = self.looked.replace(now);
        self.go_by(now.since(before.unwrap_or(now)));
        let fresh = |flow: &Flow| {
            flow.state == FlowState::Completed && flow.done_at.is_some_and(|at| Some(at) > before)
        };
        for flow in calm.filter(fresh) {
            self.add(flow.client);
        }
    }

    fn add(&mut self, client: IpAddr) {
        let hash = self.hash(client);
        if self.days.is_empty() {
            self.days.push_front(Day::default());
        }
        let today = &mut self.days[0];
        today.completions = (today.completions + 1).min(MAX_COMPLETIONS);
        today.networks.insert(hash);
        self.all.insert(hash);
    }

    /// Moves on by `time`. The eighth day, and days that brought nothing before all others, are forgotten.
    fn go_by(&mut self, time: Duration) {
        let gone = self.gone.saturating_add(time);
        let over = gone.as_secs() / DAY;
        self.gone = Duration::new(gone.as_secs() % DAY, gone.subsec_nanos());
        if over == 0 {
            return;
        }
        for _ in 0..over.min(DAYS as u64) {
            self.days.push_front(Day::default());
        }
        self.days.truncate(DAYS);
        while self.days.back().is_some_and(|day| day.networks.is_empty()) {
            self.days.pop_back();
        }
        self.merge();
    }

    fn merge(&mut self) {
        self.all = Filter::default();
        for day in &self.days {
            self.all.merge(&day.networks);
        }
    }

    /// Returns whether a handshake was completed from the network of this address, or may have been
    /// ([`Self::false_share`]).
    pub fn contains(&self, client: IpAddr) -> bool {
        self.all.contains(self.hash(client))
    }

    /// Returns whether enough is known to distinguish networks that are new here from those of clients:
    /// `completions` handshakes, or more than a day. With too many networks they cannot be distinguished
    /// either.
    pub fn add_new_clients(&self, completions: u64) -> bool {
        (self.completions() >= completions || self.days.len() > 1) && !self.all.is_full()
    }

    /// Returns the number of handshakes from which they were learned.
    pub fn completions(&self) -> u64 {
        self.days.iter().map(|day| day.completions).sum()
    }

    /// Returns the approximate number of networks.
    pub fn count(&self) -> u64 {
        self.all.members()
    }

    /// Share of the networks never seen that pass for known.
    pub fn false_share(&self) -> f64 {
        self.all.false_share()
    }

    /// The learned networks. `None` before any was learned.
    pub fn learned(&self) -> Option<LearnedNetworks> {
        let day = |day: &Day| LearnedDay {
            completions: day.completions,
            networks: day.networks.written(),
        };
        (!self.days.is_empty()).then(|| LearnedNetworks {
            key: self.key.0,
            gone: self.gone,
            days: self.days.iter().map(day).collect(),
        })
    }

    /// The networks that an earlier run had learned `age` ago.
    ///
    /// # Errors
    /// A description of the value that cannot have been learned.
    pub fn known(learned: &LearnedNetworks, age: Duration) -> Result<Self, &'static str> {
        let LearnedNetworks { key, gone, days } = learned;
        if days.len() > DAYS {
            return Err("more days than seven");
        }
        if gone.as_secs() >= DAY {
            return Err("a day longer than others");
        }
        let day = |&LearnedDay { completions, ref networks }: &LearnedDay| {
            let networks = Filter::read(networks).ok_or("a set of networks that nobody wrote")?;
            if completions > MAX_COMPLETIONS || !networks.is_of(completions) {
                return Err("networks that their handshakes cannot have come from");
            }
            Ok(Day { networks, completions })
        };
        let days = days.iter().map(day).collect::<Result<_, _>>()?;
        let key = CookieKey(*key);
        let mut networks = Self { key, days, gone: *gone, ..Self::default() };
        networks.merge();
        networks.go_by(age);
        Ok(networks)
    }

    fn hash(&self, client: IpAddr) -> u64 {
        keyed_hash(self.key, network(client))
    }
}

/// Formats numbers only, neither the key nor half a megabyte of bits.
impl fmt::Debug for Networks {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, completions) = (self.count(), self.completions());
        write!(out, "Networks {{ about {count} from {completions} handshakes }}")
    }
}

/// The /24 or /48, and which of these it is.
fn network(addr: IpAddr) -> u64 {
    match addr {
        IpAddr::V4(addr) => u64::from(addr.to_bits() >> 8),
        IpAddr::V6(addr) => 1 << 63 | (addr.to_bits() >> 80) as u64,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;
    use tcpguard_common::abi::Fingerprint;

    use super::*;
    use crate::input::ListenerId;

    fn flow(client: IpAddr, state: FlowState, done: u64) -> Flow {
        let done = Timestamp::from_millis(1000 * done);
        Flow {
            listener: ListenerId(0),
            client,
            server: [203, 0, 113, 10].into(),
            syn_at: done,
            syn_ack_at: Some(done),
            done_at: Some(done),
            state,
            syn_retransmits: 0,
            sample_shift: 0,
            fingerprint: Fingerprint::default(),
        }
    }

    /// Returns some host of the n-th of 16 million /24 networks.
    fn host(number: u32) -> IpAddr {
        Ipv4Addr::from_bits((number.wrapping_mul(0x009e_3779) << 8) | (number % 251)).into()
    }

    fn look(networks: &mut Networks, second: u64, clients: impl Iterator<Item = IpAddr>) {
        let flows: Vec<Flow> =
            clients.map(|client| flow(client, FlowState::Completed, second)).collect();
        networks.learn(Timestamp::from_millis(1000 * second + 1), flows.into_iter());
    }

    #[test]
    fn networks_are_known_by_completed_handshakes_that_are_new() {
        let mut networks = Networks::default();
        let at = |second: u64| Timestamp::from_millis(1000 * second);
        let others = [FlowState::Syn, FlowState::SynAck, FlowState::Reset, FlowState::Dropped];
        let flows: Vec<Flow> = (0..4).map(|n| flow(host(n as u32), others[n], 5)).collect();
        networks.learn(at(6), flows.into_iter());
        assert_eq!((networks.completions(), networks.learned()), (0, None));

        let flows = [flow(host(9), FlowState::Completed, 8)];
        networks.learn(at(10), flows.into_iter());
        networks.learn(at(15), flows.into_iter());
        assert_eq!((networks.completions(), networks.count()), (1, 1), "seen twice");
        let late = [flow(host(10), FlowState::Completed, 12)];
        networks.learn(at(20), late.into_iter());
        assert!(!networks.contains(host(10)), "it was not calm at the look before");
    }

    #[test]
    fn a_network_is_a_24_or_a_48() {
        let mut networks = Networks::default();
        let v6 = |prefix: u16, host: u16| -> IpAddr {
            Ipv6Addr::new(0x2001, 0xdb8, prefix, host, 0, 0, 0, 1).into()
        };
        look(&mut networks, 1, [IpAddr::from([192, 0, 2, 1]), v6(7, 1)].into_iter());
        assert!(networks.contains([192, 0, 2, 254].into()) && networks.contains(v6(7, 0xffff)));
        assert!(!networks.contains([192, 0, 3, 1].into()) && !networks.contains(v6(8, 1)));
    }

    #[test]
    fn the_eighth_day_is_forgotten() {
        let mut networks = Networks::default();
        look(&mut networks, 100, [host(1), host(2)].into_iter());
        for day in 0..9 {
            look(&mut networks, 200 + day * DAY, [host(2)].into_iter());
            let known = day < DAYS as u64;
            assert_eq!(networks.contains(host(1)), known, "{day}");
            assert!(networks.contains(host(2)) && networks.days.len() <= DAYS);
        }
        assert_eq!((networks.count(), networks.completions()), (1, 7));
        look(&mut networks, 200 + 16 * DAY, std::iter::empty());
        assert_eq!((networks.count(), networks.completions(), networks.learned()), (0, 0, None));
    }

    #[test]
    fn new_clients_are_distinguished_after_a_thousand_handshakes_or_a_day() {
        let mut networks = Networks::default();
        look(&mut networks, 1, (0..999).map(host));
        assert!(!networks.add_new_clients(1000));
        let mut more = networks.clone();
        look(&mut more, 2, [host(0)].into_iter());
        assert!(more.add_new_clients(1000));
        look(&mut networks, 2 + DAY, [host(0)].into_iter());
        assert!(networks.add_new_clients(100_000));
        look(&mut networks, 3 + DAY, (0..400_000).map(host));
        assert!(!networks.add_new_clients(1000), "too many: {}", networks.count());
    }

    #[test]
    fn one_network_a_minute_for_a_week_does_not_make_the_world_known() {
        let mut networks = Networks::default();
        look(&mut networks, 1, (0..5000).map(host));
        for minute in 0..7 * 24 * 60 {
            look(&mut networks, 60 * minute + 2, [host(1_000_000 + minute as u32)].into_iter());
        }
        assert!(networks.count().abs_diff(15_000) < 200, "{}", networks.count());
        let drawn = (2_000_000..2_100_000).filter(|number| networks.contains(host(*number)));
        assert!(drawn.count() < 100, "one in a thousand: {}", networks.false_share());
        assert!((0..5000).all(|number| networks.contains(host(number))), "and none is crowded out");
    }

    #[test]
    fn memory_is_bounded_and_so_is_what_is_written() {
        let mut networks = Networks::default();
        for day in 0..10 {
            look(
                &mut networks,
                day * DAY + 1,
                (0..200_000).map(|n| host(n + day as u32 * 200_000)),
            );
        }
        let learned = networks.learned().expect("networks");
        assert_eq!(learned.days.len(), DAYS);
        let written: usize = learned.days.iter().map(|day| day.networks.len()).sum();
        assert!(written < 3_000_000, "{written}");
        let back = Networks::known(&learned, Duration::ZERO).expect("as it was written");
        assert!(back.days == networks.days && back.all.is_full() && networks.all.is_full());
    }

    #[test]
    fn without_the_key_no_collision_can_be_chosen() {
        let collides = |key| {
            let mut networks = Networks::default();
            networks.set_key(key);
            look(&mut networks, 1, (0..50_000).map(host));
            let new_clients = 100_000..200_000;
            new_clients.filter(|number| networks.contains(host(*number))).collect::<Vec<_>>()
        };
        let (one, other) = (collides([1, 2]), collides([1, 3]));
        assert!(one.len() > 500 && other.len() > 500);
        let both = one.iter().filter(|number| other.contains(number)).count();
        assert!(both < one.len() / 20, "{both} of {}", one.len());
    }

    #[test]
    fn what_cannot_have_been_learned_is_refused() {
        let mut networks = Networks::default();
        look(&mut networks, 1, (0..50).map(host));
        let good = networks.learned().expect("networks");
        let refused = |change: fn(&mut LearnedNetworks)| {
            let mut bad = good.clone();
            change(&mut bad);
            Networks::known(&bad, Duration::ZERO).err()
        };
        assert_eq!(refused(|_| ()), None);
        let days: [(fn(&mut LearnedNetworks), _); 5] = [
            (|bad| bad.days = vec![bad.days[0].clone(); 8], "more days than seven"),
            (|bad| bad.gone = Duration::from_secs(DAY), "a day longer than others"),
            (|bad| bad.days[0].networks.push('!'), "a set of networks that nobody wrote"),
            (
                |bad| bad.days[0].completions = 10,
                "networks that their handshakes cannot have come from",
            ),
            (
                |bad| bad.days[0].completions = u64::MAX,
                "networks that their handshakes cannot have come from",
            ),
        ];
        for (change, why) in days {
            assert_eq!(refused(change), Some(why));
        }
        let ages = Networks::known(&good, Duration::MAX).expect("very old");
        assert_eq!(ages.count(), 0);
    }

    proptest! {
        /// A restart changes nothing but the time that it took, for any clients on any days.
        #[test]
        fn a_restart_keeps_everything(
            looks in prop::collection::vec((0_u64..3 * DAY, prop::collection::vec(any::<u32>(), 0..40)), 1..12),
            down in 0_u64..9 * DAY,
            key in any::<[u64; 2]>(),
        ) {
            let mut networks = Networks::default();
            networks.set_key(key);
            let mut now = 1;
            for (pause, clients) in &looks {
                now += pause + 1;
                look(&mut networks, now, clients.iter().copied().map(host));
            }
            let Some(learned) = networks.learned() else { return Ok(()) };
            let down = Duration::from_secs(down);
            let mut back = Networks::known(&learned, down).expect("as it was written");
            // Time starts anew with the machine.
            back.learn(Timestamp::from_millis(5), std::iter::empty());
            let then = Timestamp::from_millis(1000 * now + 1) + down;
            networks.learn(then, std::iter::empty());
            prop_assert_eq!(back.learned(), networks.learned());
            for client in looks.iter().flat_map(|(_, clients)| clients) {
                prop_assert_eq!(back.contains(host(*client)), networks.contains(host(*client)));
            }
        }
    }
}
