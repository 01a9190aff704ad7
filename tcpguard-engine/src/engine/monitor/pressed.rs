//! Test whether a listener's SYN queue is under pressure, whatever the verdict on the failures is.
//!
//! A full queue turns every client away, while cookies harm none. So cookies are sent whatever the source of the
//! failures is. An attacker that passes for a broken path, or changes the verdict in the middle, does not end the
//! cookies by that.

use std::time::Duration;

use super::{ListenerMonitor, PATIENCE, Suspect};
use crate::evidence::Surge;
use crate::incident::Event;
use crate::input::{ListenerKind, Mitigation, Mode, POLL, Timestamp, share as rounded};
use crate::listener::{Egress, OCCUPANCY_MIN, Occupancy, Sums};
use crate::mitigation::{HeldBack, MitigationReason};

/// Share of the SYN queue from which it is nearly full. Bursts of clients from far away fill three quarters of one
/// that is large enough for them. The last fifth takes longer than a poll to fill, unless the flood is about as fast
/// as the fast alarm asks (102 SYN/s where the limit is 128).
const NEARLY: f64 = 0.8;
/// Part of [`NEARLY`] from which active cookies go on, if the queue would fill to it without them: 2:1 hysteresis, as
/// of the alarm (`occupancy_on` and `occupancy_off`).
const HYSTERESIS: f64 = 0.5;
/// Seconds running in which SYNs are left unanswered. The handshakes of a burst of clients leave the queue within a
/// round trip. A client that was turned away meanwhile retransmits its SYN after a second (RFC 6298 §2.1) and finds a
/// free slot. So a burst turns SYNs away in one second only.
const TURNED_AWAY: usize = 2;
const SECOND: Duration = Duration::from_secs(1);
/// Time within which a client has retransmitted a dropped SYN: a second (RFC 6298 §2.1), and its way here.
const CAME_AGAIN: Duration = Duration::from_millis(1500);

impl ListenerMonitor {
    /// The reason for cookies, whatever the incident is, or without one. `None` where they are not needed. Rules have
    /// acted since `ruled`.
    ///
    /// An alarm has a moment in which it is judged, and SYNs that rules drop need no cookies. While the accept queue is
    /// full, cookies would help no client.
    pub fn pressed(&self, now: Timestamp, ruled: Option<Timestamp>) -> Option<MitigationReason> {
        if self.is_being_judged(now)
            || ruled.is_some_and(|ruled| self.is_relieved(now, ruled))
            || self.pressure.is_full()
        {
            return None;
        }
        if self.is_turning_away(now) {
            return Some(MitigationReason::QueueFull);
        }
        if self.is_nearly_full(now) {
            return Some(MitigationReason::QueueNearlyFull);
        }
        if self.class().is_some() && self.is_surged(now) {
            return Some(MitigationReason::Surge);
        }
        let lately = self.window.last(Occupancy::SPAN).unmatched();
        let answering = self.ladder.has(Mitigation::Cookies);
        (answering && self.would_fill(&lately)).then_some(MitigationReason::QueueWouldFill)
    }

    /// The reason for which no cookies are sent while the accept queue is full, not even by an operator's order. They get
    /// no client a connection. A client takes the SYN-ACK for one, as does a health check of an application that hangs.
    /// The stack leaves such SYNs without a reply. A queue that is full for a moment stops no cookies.
    pub fn accepts_no_connection(&self) -> Option<HeldBack> {
        let is_full = match self.ladder.has(Mitigation::Cookies) {
            true => self.overloaded(),
            false => self.pressure.is_full(),
        };
        is_full.then_some(HeldBack::AcceptQueueFull)
    }

    /// Returns whether it is to be reported that the accept queue is full beside a flood. An incident of another class is
    /// about the queue itself, or becomes it.
    pub fn takes_overload(&mut self) -> bool {
        let Some(class) = self.class().filter(|_| self.overloaded()) else {
            self.overload_reported &= self.pressure.is_full();
            return false;
        };
        !std::mem::replace(&mut self.overload_reported, true) && class.is_flood()
    }

    /// Returns whether a full SYN queue, and no full accept queue, turns clients away.
    pub fn turns_clients_away(&self, now: Timestamp) -> bool {
        self.is_turning_away(now) && !self.pressure.is_full()
    }

    /// Returns whether the queue is nearly full, by the last count.
    pub fn is_nearly_full(&self, now: Timestamp) -> bool {
        self.fills(now, NEARLY)
    }

    /// Returns whether half of the queue or more is taken, by the last count.
    pub fn is_half_full(&self, now: Timestamp) -> bool {
        self.fills(now, HYSTERESIS)
    }

    /// Returns whether cookies are not available here, or do not suffice where they have been sent for a while. The
    /// agent may act since `enforced`, and acts according to `mode`.
    pub fn is_without_cookies(&self, now: Timestamp, enforced: Timestamp, mode: Mode) -> bool {
        if self.kind != ListenerKind::Local || self.egress() == Egress::Unseen {
            return true;
        }
        let detected = self.alarmed().unwrap_or(now);
        let waited = now.since(detected.max(enforced)) >= PATIENCE;
        match self.ladder.lasts(Mitigation::Cookies, now) {
            Some(lasts) => lasts >= PATIENCE,
            None => {
                self.ladder.refuses(Mitigation::Cookies, now) || mode == Mode::Enforce && waited
            }
        }
    }

    /// Accepts failures as natural that have been even for long, unless they call for a mitigation.
    pub fn accept_steady(&mut self, now: Timestamp) {
        if self.ladder.keeps_syns_away() || self.is_half_full(now) {
            return;
        }
        let Some(incident) = &mut self.incident else { return };
        let Some(share) = incident.take_steady() else { return };
        if self.natural.accept(share) {
            incident.note(now, Event::BaselineRaised { share: rounded(share) });
        }
    }

    /// Returns whether an alarm is in the moment in which it is judged. A dismissed alarm has had that moment, though
    /// its cause goes on and raises it again: handshakes that are no evidence may take slots all the same.
    fn is_being_judged(&self, now: Timestamp) -> bool {
        let young = |suspect: Suspect| now.since(suspect.since) < PATIENCE;
        let is_open = self.class().is_none() && self.is_suspicious();
        is_open && !self.dismissed && !self.awaits_others && self.suspect.is_none_or(young)
    }

    /// Returns whether rules, which have acted since `ruled`, leave no more to the stack than its queue has slots for, or have
    /// yet to show it. The SYNs that they drop do not reduce the load of those that they leave.
    fn is_relieved(&self, now: Timestamp, ruled: Timestamp) -> bool {
        let sums = self.window.since((now - Occupancy::SPAN).max(ruled + POLL));
        let left = unruled(&sums);
        left.span < PATIENCE || !self.would_fill(&left)
    }

    /// Returns whether a full queue turns away most SYNs that rules and cookies leave to it, the newest of which have acted
    /// since then: for two seconds at least, some in each of three. A rule against a flood that changes its fingerprint
    /// comes sooner.
    pub fn is_unanswered(&self, now: Timestamp, newest: Timestamp) -> bool {
        let seconds: [Sums; TURNED_AWAY + 1] = self.window.seconds(now);
        let start = now - SECOND * seconds.len() as u32;
        start >= newest + POLL
            && seconds.iter().all(|sums| sums.unanswered > 0)
            && self.window.between(start, now).is_unanswered()
    }

    /// Returns whether the SYN queue would fill without the SYN rate limit. Rules and cookies stay, the newest of which
    /// have acted since `newest`. `true` while that is not known yet.
    ///
    /// A client whose first SYN was dropped has not failed: it retransmits the SYN after a second.
    pub fn still_fails(&self, now: Timestamp, newest: Timestamp) -> bool {
        let start = (now - Occupancy::SPAN).max(newest + POLL);
        let completed = self.window.since(start).completed;
        let first = unruled(&self.window.between(start, now - CAME_AGAIN));
        let left = Sums { completed, ..first };
        left.span < SECOND || self.would_fill(&left)
    }

    pub(super) fn is_turning_away(&self, now: Timestamp) -> bool {
        let seconds: [Sums; TURNED_AWAY] = self.window.seconds(now);
        seconds.iter().all(|sums| sums.unanswered > 0)
    }

    fn is_surged(&self, now: Timestamp) -> bool {
        let seconds: [Sums; Surge::LASTING] = self.window.seconds(now);
        let surge = Surge::of(&seconds.map(|sums| sums.unmatched()), self.baseline());
        surge.holds || surge.lasts
    }

    /// Returns whether this share of the queue is taken.
    fn fills(&self, now: Timestamp, share: f64) -> bool {
        let backlog = self.queues.map_or(0, |queues| queues.backlog);
        self.half_open_lately(now).is_some_and(|half_open| {
            let least = (share * f64::from(backlog)).max(OCCUPANCY_MIN.into());
            f64::from(half_open) >= least
        })
    }

    /// Returns whether as many handshakes as failed in this time, and those on their way, take too many slots in the end if
    /// the stack answers them.
    fn would_fill(&self, sums: &Sums) -> bool {
        let Some(queues) = self.queues else { return false };
        let on_their_way = sums.per_second(sums.completed) * self.rtt().as_secs_f64();
        let places = Occupancy::places(sums, &self.natural).max(0.0) + on_their_way;
        places >= HYSTERESIS * NEARLY * f64::from(queues.backlog)
    }
}

/// Sums without the SYNs that rules match. Where rules only count, the matched SYNs turn others away.
fn unruled(sums: &Sums) -> Sums {
    let mut left = sums.unmatched();
    if sums.dropped < sums.matched {
        left.attempts = left.attempts.saturating_sub(left.unanswered);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::super::tests::after;
    use super::*;
    use crate::input::Queues;
    use crate::listener::{FAST_POLLS, Signal, Tick};
    use crate::settings::Settings;

    /// The cause of the alarm goes on and is no evidence: handshakes that their sources reset, or idle clients of a
    /// listener that waits for data. The naive way waits for a verdict for ever.
    #[test]
    fn an_alarm_that_was_dismissed_keeps_no_cookies_from_a_full_queue() {
        let tick = Tick { syns: 250, attempts: 250, unanswered: 200, ..Tick::default() };
        let (mut monitor, now) = after(12, tick);
        monitor.fast.poll(&monitor.window, 1, FAST_POLLS, &Settings::default());
        assert_eq!(monitor.pressed(now, None), None, "an alarm is near");
        monitor.suspect(now, Signal::Fast);
        assert_eq!(monitor.pressed(now, None), None, "it is being judged");
        let full = Some(MitigationReason::QueueFull);
        monitor.dismiss();
        assert_eq!(monitor.pressed(now, None), full);
        monitor.suspect(now, Signal::Fast);
        assert_eq!(monitor.pressed(now, None), full, "it is raised again and again");
    }

    /// A rule matches 10,000 SYN/s, and 60 clients come in a second. A queue with room for 1,024 is full.
    #[test]
    fn what_rules_drop_excuses_nothing_that_fills_the_queue() {
        let pressed = |alike: u64, dropped, unanswered, ruled| {
            let syns = 2500 + 15 + alike;
            let tick = Tick {
                syns,
                attempts: syns,
                unanswered,
                established: 15,
                matched: 2500,
                dropped,
                ..Tick::default()
            };
            let (mut monitor, now) = after(48, tick);
            monitor.queues = Some(Queues { half_open: Some(1024), accept: 0, backlog: 1024 });
            monitor.counted = now;
            monitor.pressed(now, Some(now - Duration::from_secs(ruled)))
        };
        assert_eq!(pressed(100, 2500, 0, 30), Some(MitigationReason::QueueNearlyFull));
        assert_eq!(pressed(100, 2500, 80, 30), Some(MitigationReason::QueueFull));
        assert_eq!(pressed(100, 2500, 0, 2), None, "the rule still has to show what it does");
        assert_eq!(pressed(0, 2500, 0, 30), None, "of what came before the rule");
        assert_eq!(pressed(0, 0, 2300, 30), None, "a rule that only counts leaves it full");
    }
}
