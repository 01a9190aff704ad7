//! Hints: signatures of floods that other hosts of the fleet report.
//!
//! A hint costs its sender a message, so it proves nothing. It is counted against the SYNs of this host. It may stand
//! in for one missing indicator of a signature that this host's own failed handshakes have singled out, and it calls
//! for cookies, which harm no client. It has no other effect, and ends unless it is repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tcpguard_common::abi::{Fingerprint, Mask};

use super::signature::Candidate;
use crate::input::{Flow, Timestamp, constants, one_in};

constants! {
    /// Hosts that must report a signature before a hint stands in for a missing indicator.
    const REPORTERS: u16 = 2 Count in 2..=100,
        "One host may err, or be held by an attacker.";

    /// Longest time for which a hint holds without being repeated.
    const HINT_TTL: Duration = 60 Seconds in 20..=600,
        "Three times the interval of 20 s in which hosts repeat their reports, so that two may be \
         lost.";

    /// Hints at most.
    const HINTS: usize = 256 Count in 16..=4096,
        "A flood of one tool is one or two signatures at every host.";

    /// Hints about one port at most.
    const HINTS_OF_PORT: usize = 64 Count in 4..=1024,
        "A quarter of HINTS, so that hints about one port leave room for those about others.";

    /// Flows of a listener that are compared with hints at a time.
    const HINT_FLOWS: usize = 4096 Count in 64..=65_536,
        "With eight masks they take about a millisecond of the agent.";

    /// Time for which no hint supports a signature after a rule on it hit clients here.
    const HINT_REFUTED: Duration = 600 Seconds in 60..=3600,
        "As long as the memory of an attack.";
}

/// The hints that hold, by port and signature. TTLs are left out, because a flood arrives at each host over another
/// distance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hints {
    held: BTreeMap<Key, Held>,
    /// Signatures that no hint supports for a while, each with the end of this time.
    refuted: BTreeMap<(Mask, Fingerprint), Timestamp>,
}

type Key = (u16, Mask, Fingerprint);

/// A hint as it was last repeated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// Number of hosts that report it.
    pub reporters: u16,
    /// Time since which it has held.
    pub since: Timestamp,
    /// Time until which it holds.
    pub until: Timestamp,
    /// SYNs of this host with its signature since then, estimated from the sampled flows.
    pub syns: u64,
}

impl Held {
    /// Rank among the hints that a full list keeps: seen here, then reported by more hosts, then newer.
    const fn rank(&self) -> (bool, u16, Timestamp) {
        (self.syns > 0, self.reporters, self.since)
    }
}

impl Hints {
    /// Takes a hint, or repeats one, for `ttl` from now; without time it ends. Returns `false` where all slots are
    /// taken by hints that matter more.
    pub fn take(
        &mut self,
        now: Timestamp,
        port: u16,
        (mask, print): (Mask, Fingerprint),
        reporters: u16,
        ttl: Duration,
    ) -> bool {
        let mask = without_ttl(mask);
        let key = (port, mask, print.masked(mask));
        self.expire(now);
        if ttl.is_zero() {
            self.held.remove(&key);
            return true;
        }
        let until = now + ttl.min(HINT_TTL);
        if let Some(held) = self.held.get_mut(&key) {
            (held.reporters, held.until) = (reporters, until);
            return true;
        }
        let new = Held { reporters, since: now, until, syns: 0 };
        let of_port = self.of_port(port).count();
        let full = of_port >= HINTS_OF_PORT || self.held.len() >= HINTS;
        if full {
            let rivals =
                self.held.iter().filter(|((of, ..), _)| of_port < HINTS_OF_PORT || *of == port);
            let least = rivals.min_by_key(|(_, held)| held.rank());
            let Some((least, _)) = least.filter(|(_, held)| held.rank() < new.rank()) else {
                return false;
            };
            let least = *least;
            self.held.remove(&least);
        }
        self.held.insert(key, new);
        true
    }

    /// Forgets the hints that were not repeated in time.
    pub fn expire(&mut self, now: Timestamp) {
        self.held.retain(|_, held| now < held.until);
        self.refuted.retain(|_, until| now < *until);
    }

    /// Returns whether no hint holds.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Returns the number of hosts that report a flood of a port; `None` without a hint about it.
    pub fn at(&self, port: u16) -> Option<u16> {
        self.of_port(port).map(|(_, held)| held.reporters).max()
    }

    fn of_port(&self, port: u16) -> impl Iterator<Item = (&Key, &Held)> {
        let first = (port, Mask::Full, Fingerprint::default());
        self.held.range(first..).take_while(move |((of, ..), _)| *of == port)
    }

    /// Returns whether enough hosts report the signature of a candidate at its port. The fields that both compare must
    /// be equal. A constant IP identification is no such signature: the record of clients does not show that none has
    /// it.
    pub fn support(&self, port: u16, mask: Mask, print: &Fingerprint) -> bool {
        let agrees = |(_, hinted, fingerprint): &Key| {
            fingerprint.masked(mask) == print.masked(*hinted).masked(mask)
        };
        let reported = |(key, held): (&Key, &Held)| held.reporters >= REPORTERS && agrees(key);
        mask != Mask::IpId
            && !self.refuted.contains_key(&(mask, *print))
            && self.of_port(port).any(reported)
    }

    /// The same of a candidate that is a tool's by this host's own failed handshakes.
    pub fn support_tool(&self, port: u16, candidate: &Candidate) -> bool {
        candidate.is_a_tools() && self.support(port, candidate.mask, &candidate.print)
    }

    /// Lets no hint support a signature for a while, because a rule on it hit clients.
    pub fn refute(&mut self, now: Timestamp, mask: Mask, print: Fingerprint) {
        self.expire(now);
        if self.refuted.len() < HINTS {
            self.refuted.insert((mask, print), now + HINT_REFUTED);
        }
    }

    /// Counts the SYNs to a listener that have a hinted signature, of flows that began after `since`.
    pub fn count(
        &mut self,
        port: u16,
        since: Timestamp,
        flows: impl Iterator<Item = Flow> + Clone,
    ) {
        let masks: BTreeSet<Mask> = self.of_port(port).map(|((_, mask, _), _)| *mask).collect();
        if masks.is_empty() {
            return;
        }
        let recent = flows.filter(move |flow| flow.syn_at > since);
        let step = recent.clone().count().div_ceil(HINT_FLOWS).max(1);
        for flow in one_in(step, recent) {
            for mask in &masks {
                let key = (port, *mask, flow.fingerprint.masked(*mask));
                if let Some(held) = self.held.get_mut(&key).filter(|it| flow.syn_at > it.since) {
                    held.syns += flow.weight() * step as u64;
                }
            }
        }
    }

    /// The hints that hold, by port.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Held)> {
        self.held.iter()
    }
}

/// The mask that compares the same fields but the TTL.
const fn without_ttl(mask: Mask) -> Mask {
    match mask {
        Mask::Full => Mask::NoTtl,
        Mask::NoWindow => Mask::NoWindowTtl,
        Mask::NoWindowMss => Mask::NoWindowMssTtl,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{FlowState, ListenerId};

    const NOW: Timestamp = Timestamp::from_millis(60_000);
    const TTL: Duration = Duration::from_secs(60);

    fn bare(window: u16, ttl: u8) -> Fingerprint {
        Fingerprint { window, ttl, wscale: 255, ..Fingerprint::default() }
    }

    /// Takes a hint about the full fingerprint at port 443.
    fn hint(hints: &mut Hints, now: Timestamp, print: Fingerprint, reporters: u16) -> bool {
        hints.take(now, 443, (Mask::Full, print), reporters, TTL)
    }

    #[test]
    fn two_hosts_support_a_signature_at_its_port_whatever_its_ttl() {
        let mut hints = Hints::default();
        let supported = |hints: &Hints, port, mask: Mask, print: Fingerprint| {
            hints.support(port, mask, &print.masked(mask))
        };
        hint(&mut hints, NOW, bare(512, 244), 1);
        assert!(!supported(&hints, 443, Mask::Full, bare(512, 244)), "one host may err");
        hint(&mut hints, NOW, bare(512, 244), 2);
        for (mask, print, expected) in [
            (Mask::Full, bare(512, 244), true),
            (Mask::Full, bare(512, 51), true),
            (Mask::NoTtl, bare(512, 244), true),
            (Mask::Shape, bare(512, 244), true),
            (Mask::Full, bare(1024, 244), false),
            (Mask::Full, Fingerprint { options: 3, ..bare(512, 244) }, false),
            (Mask::IpId, Fingerprint { ip_id: 7, ..bare(512, 244) }, false),
        ] {
            assert_eq!(supported(&hints, 443, mask, print), expected, "{mask:?} {print:?}");
        }
        assert!(!supported(&hints, 80, Mask::Full, bare(512, 244)));
        assert_eq!((hints.at(443), hints.at(80)), (Some(2), None));
    }

    #[test]
    fn a_hint_ends_unless_it_is_repeated_and_at_once_where_it_is_taken_back() {
        let mut hints = Hints::default();
        let (print, later) = (bare(512, 244), NOW + Duration::from_secs(40));
        let forever = Duration::from_secs(86_400);
        hints.take(NOW, 443, (Mask::Full, print), 2, forever);
        hints.expire(NOW + Duration::from_secs(59));
        assert!(!hints.is_empty());
        hints.expire(NOW + Duration::from_secs(60));
        assert!(hints.is_empty(), "no sender makes it last");
        hint(&mut hints, NOW, print, 2);
        hint(&mut hints, later, print, 2);
        hints.expire(NOW + Duration::from_secs(90));
        assert!(!hints.is_empty());
        hints.take(later, 443, (Mask::Full, print), 2, Duration::ZERO);
        assert!(hints.is_empty());
    }

    #[test]
    fn a_signature_that_hit_clients_has_no_support_for_ten_minutes() {
        let (mut hints, print) = (Hints::default(), bare(512, 0));
        let supported = |hints: &Hints| hints.support(443, Mask::NoTtl, &print);
        hint(&mut hints, NOW, print, 9);
        assert!(supported(&hints));
        hints.refute(NOW, Mask::NoTtl, print);
        hint(&mut hints, NOW + TTL, print, 9);
        assert!(!supported(&hints), "however many hosts report it");
        let later = NOW + HINT_REFUTED;
        hint(&mut hints, later, print, 9);
        assert!(supported(&hints));
    }

    /// The naive way takes any number of them, or lets the last comer push out the one that matters.
    #[test]
    fn a_flood_of_hints_is_bounded_and_pushes_out_none_that_is_seen_here() {
        let mut hints = Hints::default();
        hint(&mut hints, NOW, bare(1, 0), 3);
        let seen = Flow {
            listener: ListenerId(0),
            client: [192, 0, 2, 1].into(),
            server: [203, 0, 113, 10].into(),
            syn_at: NOW + Duration::from_secs(1),
            syn_ack_at: None,
            done_at: None,
            state: FlowState::Syn,
            syn_retransmits: 0,
            sample_shift: 3,
            fingerprint: bare(1, 51),
        };
        hints.count(443, NOW, [seen; 10].into_iter());
        assert_eq!(hints.iter().map(|(_, held)| held.syns).collect::<Vec<_>>(), [80]);
        for window in 2..=u16::MAX {
            hints.take(NOW + TTL / 2, window % 7 + 440, (Mask::Full, bare(window, 0)), 9, TTL);
        }
        assert_eq!(hints.held.len(), HINTS);
        for port in 440..447 {
            assert!(hints.held.keys().filter(|(of, ..)| *of == port).count() <= HINTS_OF_PORT);
        }
        assert!(hints.held.contains_key(&(443, Mask::NoTtl, bare(1, 0))), "it is seen here");
    }
}
