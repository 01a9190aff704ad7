//! SYNs in frames whose headers extend beyond the part that the XDP program reads: fragments that end before
//! the TCP flags, too many VLAN tags or extension headers. The stack reads them and replies.
//!
//! The arrival of such frames alone is no incident, as some networks have them. Two observations show that
//! they are SYNs of a flood. Either the stack sends more replies than there were readable SYNs, and these
//! replies complete no handshake. Or its queue is full without enough readable SYNs. A first fragment with
//! part of a TCP header needs no such proof: no stack sends one (RFC 1858 §3, RFC 3128).

use super::{Finding, HELD, Host, POLLS, Tick};
use crate::evidence::{Assessment, Evidence, IncidentClass, Quantity, VerdictLine};
use crate::incident::{Event, IncidentCounts};
use crate::input::{HostCounters, Listener, Mode, Timestamp};
use crate::listener::BEYOND_RATE;

/// Frames that went to the stack although the XDP program could not read them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Passing {
    /// Since the last poll and in the one before.
    pub lately: u64,
    /// Since the last poll, of those that may come through a router.
    pub routed: u64,
}

/// Indicators of a flood of unreadable frames.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beyond {
    /// Polls running in which there were too many.
    streak: u32,
    /// Polls running in which too many reached the stack.
    passing: u32,
    /// Too many have reached it since the flood began, so that they are dropped.
    pub pressed: bool,
}

impl Host {
    /// Unreadable frames that went to the stack up to this sample.
    pub fn passing(&self, sample: &HostCounters) -> Passing {
        let since =
            |count: fn(&HostCounters) -> u64| count(sample).saturating_sub(count(&self.counters));
        let before = self.ticks.back().map_or(0, |tick| tick.beyond_passed);
        Passing {
            lately: before + since(|counters| counters.beyond_passed),
            routed: since(|counters| counters.beyond_routed),
        }
    }

    /// Takes note of a poll.
    pub(super) fn follow_beyond(&mut self, tick: &Tick) {
        let open = self.is_open(IncidentClass::Evasion);
        let limit = BEYOND_RATE * if open { HELD } else { 1.0 };
        let more = |running: u32, count| {
            if tick.per_second(count) >= limit { running + 1 } else { 0 }
        };
        let beyond = &mut self.beyond;
        beyond.streak = more(beyond.streak, evading(tick).syns);
        beyond.passing = more(beyond.passing, tick.evading);
        beyond.pressed = beyond.passing >= POLLS || open && beyond.pressed;
        self.note_rates(IncidentClass::Evasion, evading);
    }

    /// The finding about unreadable frames, if they are a flood.
    pub(super) fn evasion(&self, now: Timestamp, mode: Mode) -> Option<Finding> {
        if self.beyond.streak < POLLS {
            return None;
        }
        let (span, so_far) = self.streak(self.beyond.streak, evading);
        let per_second = |count: u64| count as f64 / span.as_secs_f64().max(f64::MIN_POSITIVE);
        let evidence = Evidence {
            beyond_rate: per_second(so_far.syns - so_far.dropped),
            beyond_dropped_rate: per_second(so_far.dropped),
            ..Evidence::default()
        };
        let dropped = evidence.beyond_dropped_rate;
        let measured = vec![
            Quantity::UnreadableRate.is(evidence.beyond_rate + dropped).at_least(BEYOND_RATE),
            Quantity::UnreadableDroppedRate.is(dropped),
        ];
        let line = VerdictLine::fits(IncidentClass::Evasion, measured);
        let note = match mode {
            Mode::Enforce if so_far.dropped > 0 => {
                Some(Event::UnreadableDropped { enforced: true })
            }
            Mode::Observe => Some(Event::UnreadableDropped { enforced: false }),
            Mode::Enforce | Mode::Off => None,
        };
        Some(Finding {
            listener: Listener::HOST,
            started: now - span,
            so_far,
            fresh: self.ticks.back().map(evading).unwrap_or_default(),
            rate: per_second(so_far.syns),
            assessment: Assessment::of_counters(line, evidence),
            notes: note.into_iter().collect(),
        })
    }
}

/// SYNs in frames that cannot be read: those that reached the stack, and the frames that did not.
fn evading(tick: &Tick) -> IncidentCounts {
    IncidentCounts {
        syns: tick.evading + tick.beyond_dropped,
        matched: tick.beyond_dropped,
        dropped: tick.beyond_dropped,
        ..IncidentCounts::default()
    }
}
