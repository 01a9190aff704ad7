//! Fingerprints of the clients that completed handshakes at a listener.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use tcpguard_common::abi::{Fingerprint, Mask};

use super::export::{LearnedListener, LearnedPrint};
use super::known_fingerprints::KnownFingerprints;
use super::trips::Trips;
use crate::input::{Flow, FlowState, Timestamp};

/// Number of fingerprints remembered; a site's clients show a few dozen.
pub(super) const PRINTS: usize = 256;
/// Largest number of completions of one fingerprint that one inspection adds, so that a burst does not
/// displace the others.
const PER_LOOK: u64 = 100;
/// Time after which a fingerprint that was not seen again is forgotten: clients change, and a single
/// completed handshake must not shield a flood's signature for ever.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// Number of completions in an inspection from which their median shows the round-trip time.
const RTT_FLOWS: usize = 8;
/// Weight of one inspection in the average of the round-trip time.
const RTT_WEIGHT: f64 = 0.25;
/// Least and longest time that a handshake is given. The longest is four round trips, if that is more:
/// clients may stall, and a lost SYN-ACK is retransmitted after a second (RFC 6298 §2.1).
const PATIENCE: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(500)..=Duration::from_secs(1);
/// Handshakes that completed within this time count as much as the learned ones: the present clients may be
/// others, and further away.
const JUST: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug)]
struct Known {
    completions: u64,
    seen: Timestamp,
}

/// Fingerprints of completed handshakes and their typical round-trip time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clients {
    prints: BTreeMap<Fingerprint, Known>,
    completions: u64,
    rtt: Option<Duration>,
    trips: Trips,
    learned: Timestamp,
}

impl Clients {
    /// Learns from the flows of the listener that completed since the last inspection; to be called only
    /// in calm.
    pub fn learn(&mut self, now: Timestamp, flows: impl Iterator<Item = Flow>) {
        let fresh = |flow: &Flow| {
            flow.state == FlowState::Completed && flow.done_at.is_some_and(|at| at > self.learned)
        };
        let mut added = BTreeMap::<Fingerprint, u64>::new();
        let mut trips = Vec::new();
        for flow in flows.filter(fresh) {
            *added.entry(memorable(&flow.fingerprint)).or_default() += 1;
            trips.extend(trip(&flow));
        }
        self.learned = now;
        self.prints.retain(|_, known| now.since(known.seen) < REMEMBERED);
        for (print, completions) in added {
            let completions = completions.min(PER_LOOK);
            self.completions += completions;
            let known = self.prints.entry(print).or_insert(Known { completions: 0, seen: now });
            known.completions += completions;
            known.seen = now;
        }
        while self.prints.len() > PRINTS {
            let rarest = self.prints.iter().min_by_key(|(_, known)| known.completions);
            let Some(rarest) = rarest.map(|(print, _)| *print) else { break };
            self.prints.remove(&rarest);
        }
        self.trips.extend(trips.iter().copied());
        self.learn_rtt(trips);
    }

    /// Returns the number of remembered fingerprints.
    pub(super) fn fingerprints(&self) -> usize {
        self.prints.len()
    }

    /// Returns the remembered fingerprints, each with its number of completions.
    pub fn completed(&self) -> impl Iterator<Item = (Fingerprint, u64)> {
        self.prints.iter().map(|(print, known)| (*print, known.completions))
    }

    /// Returns up to `most` of the remembered fingerprints, those with the most completions, each with its
    /// number of completions.
    pub(super) fn most_frequent(&self, most: usize) -> Vec<(Fingerprint, u64)> {
        let mut all: Vec<(Fingerprint, u64)> = self.completed().collect();
        if most < all.len() {
            all.select_nth_unstable_by_key(most, |(_, completions)| Reverse(*completions));
            all.truncate(most);
        }
        all
    }

    fn learn_rtt(&mut self, mut trips: Vec<Duration>) {
        if trips.len() < RTT_FLOWS {
            return;
        }
        let middle = trips.len() / 2;
        let median = *trips.select_nth_unstable(middle).1;
        self.rtt = Some(match self.rtt {
            None => median,
            Some(rtt) => rtt.mul_f64(1.0 - RTT_WEIGHT) + median.mul_f64(RTT_WEIGHT),
        });
    }

    /// Returns the fingerprints, each with the time since it was last seen.
    pub fn prints(&self, now: Timestamp) -> Vec<LearnedPrint> {
        let print = |(print, known): (&Fingerprint, &Known)| {
            LearnedPrint::new(print, known.completions, now.since(known.seen))
        };
        self.prints.iter().map(print).collect()
    }

    /// Takes over the record that an earlier run wrote `age` ago, in addition to the present one.
    pub fn restore(&mut self, now: Timestamp, learned: &LearnedListener, age: Duration) {
        self.completions = self.completions.saturating_add(learned.completions);
        self.rtt = self.rtt.or(learned.rtt);
        for print in &learned.prints {
            let age = print.age.saturating_add(age);
            if age < REMEMBERED {
                let seen = now - age;
                let known = Known { completions: print.completions, seen };
                self.prints.entry(memorable(&print.fingerprint())).or_insert(known);
            }
        }
    }

    /// Returns whether it is known how long handshakes take here.
    pub fn is_known(&self) -> bool {
        self.trips.is_known()
    }

    /// Time after which a handshake that has not completed counts as failed: twice the time that nearly all
    /// took, both of the learned ones and of those of `flows` that have just completed. Clients are `rtt`
    /// away.
    pub fn patience(
        &self,
        now: Timestamp,
        flows: impl Iterator<Item = Flow>,
        rtt: Duration,
    ) -> Duration {
        let most = (*PATIENCE.end()).max(rtt * 4);
        let Some(longest) = self.trips.slowest() else { return most };
        let just = |flow: &Flow| {
            flow.state == FlowState::Completed
                && flow.done_at.is_some_and(|at| now.since(at) <= JUST)
        };
        let mut trips = Trips::default();
        trips.extend(flows.filter(just).filter_map(|flow| trip(&flow)));
        let now = trips.slowest().unwrap_or_default();
        (longest.max(now) * 2).clamp(*PATIENCE.start(), most)
    }

    /// Median time from SYN-ACK to third ACK.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt
    }
}

impl KnownFingerprints for Clients {
    fn completions(&self) -> u64 {
        self.completions
    }

    fn remembered(&self) -> u64 {
        self.prints.values().map(|known| known.completions).sum()
    }

    fn with_signature(&self, mask: Mask, print: &Fingerprint) -> u64 {
        let matching = self.prints.iter().filter(|(known, _)| shows(known, mask, print));
        matching.map(|(_, known)| known.completions).sum()
    }
}

/// The time from SYN-ACK to third ACK.
fn trip(flow: &Flow) -> Option<Duration> {
    Some(flow.done_at?.since(flow.syn_ack_at?))
}

/// The part of a fingerprint that is remembered. A client's IP identification changes from SYN to SYN unless
/// it is always zero, so only that is kept: 0 for zero, 1 for anything else.
pub(super) fn memorable(print: &Fingerprint) -> Fingerprint {
    Fingerprint { ip_id: print.ip_id.min(1), ..print.masked(Mask::Full) }
}

/// Returns whether a remembered fingerprint has the signature `print`, which is reduced to `mask`.
pub(super) fn shows(known: &Fingerprint, mask: Mask, print: &Fingerprint) -> bool {
    distinguishes(mask, print) && known.masked(mask) == *print
}

/// Returns whether remembered fingerprints can show that clients have a signature. A client that counts its packets
/// has the IP identification of a tool by chance once in 65,536 SYNs.
pub(super) fn distinguishes(mask: Mask, print: &Fingerprint) -> bool {
    mask != Mask::IpId || print.ip_id == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::ListenerId;

    fn completed(window: u16, ip_id: u16, done_ms: u64) -> Flow {
        Flow {
            listener: ListenerId(0),
            client: [192, 0, 2, 1].into(),
            server: [203, 0, 113, 10].into(),
            syn_at: Timestamp::from_millis(done_ms - 101),
            syn_ack_at: Some(Timestamp::from_millis(done_ms - 100)),
            done_at: Some(Timestamp::from_millis(done_ms)),
            state: FlowState::Completed,
            syn_retransmits: 0,
            sample_shift: 0,
            fingerprint: Fingerprint { window, ip_id, ttl: 57, ..Fingerprint::default() },
        }
    }

    fn learned(looks: &[(u64, &[Flow])]) -> Clients {
        let mut clients = Clients::default();
        for (now, flows) in looks {
            clients.learn(Timestamp::from_millis(*now), flows.iter().copied());
        }
        clients
    }

    #[test]
    fn each_completion_counts_once_however_often_it_is_seen() {
        let flows = [completed(1000, 7, 900), completed(2000, 8, 950)];
        let clients = learned(&[(1000, &flows), (6000, &flows)]);
        assert_eq!(clients.completions(), 2);
        let print = flows[0].fingerprint.masked(Mask::Full);
        assert_eq!(clients.with_signature(Mask::Full, &print), 1);
        let any_window = flows[0].fingerprint.masked(Mask::NoWindow);
        assert_eq!(clients.with_signature(Mask::NoWindow, &any_window), 2);
        assert_eq!(clients.share(Mask::Full, &print), 0.5);
    }

    #[test]
    fn a_constant_identification_is_known_only_where_it_is_zero() {
        let counting = learned(&[(1000, &[completed(1000, 4242, 900)])]);
        let zero = learned(&[(1000, &[completed(1000, 0, 900)])]);
        let signature = |ip_id| Fingerprint { ip_id, ..Fingerprint::default() };
        assert_eq!(counting.with_signature(Mask::IpId, &signature(4242)), 0);
        assert_eq!(counting.with_signature(Mask::IpId, &signature(0)), 0);
        assert_eq!(zero.with_signature(Mask::IpId, &signature(0)), 1);
    }

    #[test]
    fn a_burst_of_one_fingerprint_counts_as_a_hundred() {
        let flows = vec![completed(1000, 7, 900); 5000];
        assert_eq!(learned(&[(1000, &flows)]).completions(), 100);
    }

    #[test]
    fn the_rarest_fingerprints_make_room() {
        let common = [completed(1, 1, 900), completed(1, 1, 900)];
        let rare: Vec<Flow> = (2..400).map(|window| completed(window, 1, 5900)).collect();
        let clients = learned(&[(1000, &common), (6000, &rare)]);
        assert_eq!(clients.prints.len(), PRINTS);
        assert_eq!(
            clients.with_signature(Mask::Full, &common[0].fingerprint.masked(Mask::Full)),
            2
        );
    }

    #[test]
    fn a_fingerprint_is_forgotten_after_a_day() {
        let day = REMEMBERED.as_millis() as u64 + 1000;
        let clients = learned(&[(1000, &[completed(1, 1, 900)]), (day, &[])]);
        assert_eq!(clients.prints.len(), 0);
    }

    #[test]
    fn the_round_trip_time_is_the_median() {
        assert_eq!(learned(&[(1000, &[completed(1, 1, 900)])]).rtt(), None, "one says nothing");
        let flows = vec![completed(1, 1, 900); RTT_FLOWS];
        assert_eq!(learned(&[(1000, &flows)]).rtt(), Some(Duration::from_millis(100)));
    }

    #[test]
    fn handshakes_are_given_twice_the_time_that_the_slowest_take_or_took_just_now() {
        let rtt = Duration::from_millis(100);
        let given = |clients: &Clients, took: u64| {
            let flow = |done| {
                let syn_ack_at = Some(Timestamp::from_millis(done - took));
                Flow { syn_ack_at, ..completed(1, 1, done) }
            };
            let flows = (9000..9060).map(flow);
            clients.patience(Timestamp::from_millis(9100), flows, rtt).as_millis()
        };
        let known = learned(&[(1000, &vec![completed(1, 1, 900); 60])]);
        assert_eq!(given(&Clients::default(), 10), 1000, "nothing is known");
        assert_eq!(given(&known, 10), 500);
        assert_eq!(given(&known, 330), 700);
        assert_eq!(given(&known, 700), 1000, "long enough for any source so near");
    }
}
