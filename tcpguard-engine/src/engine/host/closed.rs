//! SYNs to closed ports, so many that refusing them takes time of the host's own stack.
//!
//! The stack's own resets show their number and their target: only such SYNs can make the stack send a reset.
//! Some sources make the resets leave unseen: those behind a bridge, or on a link where no neighbour has the
//! address. So the kernel's own count of resets is an indicator as well, as far as SYNs to closed ports explain
//! it. A scan is not a flood: see [`crate::Settings::closed_rate`].

use super::{Finding, HELD, Host, POLLS, Tick};
use crate::evidence::{Assessment, Evidence, IncidentClass, Quantity, VerdictLine};
use crate::incident::{Event, IncidentCounts};
use crate::input::{Listener, Mode, Timestamp, constants};
use crate::settings::Settings;

constants! {
    /// SYNs per second to closed ports that the host's own stack still refuses during a flood of them.
    /// The others are dropped, so that the flood does not take its time.
    pub(crate) const CLOSED_PORT_RESETS: u32 = 200 Count in 1..=1_000_000,
        "FreeBSD's net.inet.icmp.icmplim, which limits a host's resets, is 200. Weighed against \
         clients that try a closed port meanwhile and need a refusal rather than a timeout.";
}

impl Host {
    /// Takes note of a poll.
    pub(super) fn follow_closed(&mut self, tick: &Tick, settings: &Settings) {
        let held = if self.is_open(IncidentClass::ClosedPorts) { HELD } else { 1.0 };
        let flooded = tick.per_second(closed(tick).syns) >= held * settings.closed_rate;
        self.closed_streak = if flooded { self.closed_streak + 1 } else { 0 };
        // Once ports are held to be closed, few resets are left by which to judge.
        self.resets_unseen = match self.is_open(IncidentClass::ClosedPorts) {
            true => self.resets_unseen || flooded && are_unseen(tick),
            false => flooded && are_unseen(tick),
        };
        self.note_rates(IncidentClass::ClosedPorts, closed);
    }

    /// The finding about closed ports, if they are flooded.
    pub(super) fn closed(
        &self,
        now: Timestamp,
        mode: Mode,
        settings: &Settings,
    ) -> Option<Finding> {
        if self.closed_streak < POLLS {
            return None;
        }
        let (span, so_far) = self.streak(self.closed_streak, closed);
        let rate = so_far.syns as f64 / span.as_secs_f64().max(f64::MIN_POSITIVE);
        let evidence = Evidence { closed_rate: rate, ..Evidence::default() };
        let measured = Quantity::ClosedPortRate.is(rate).at_least(settings.closed_rate);
        let line = VerdictLine::fits(IncidentClass::ClosedPorts, vec![measured]);
        let note = (mode != Mode::Off).then_some(Event::ClosedPortsLimited {
            per_second: CLOSED_PORT_RESETS,
            enforced: mode == Mode::Enforce,
        });
        Some(Finding {
            listener: Listener::HOST,
            started: now - span,
            so_far,
            fresh: self.ticks.back().map(closed).unwrap_or_default(),
            rate,
            assessment: Assessment::of_counters(line, evidence),
            notes: note.into_iter().collect(),
        })
    }
}

/// SYNs to closed ports: those that the stack refused, and those that it was not given.
fn closed(tick: &Tick) -> IncidentCounts {
    IncidentCounts {
        syns: tick.refused.max(explained(tick)) + tick.closed_dropped,
        matched: tick.closed_over,
        dropped: tick.closed_dropped,
        ..IncidentCounts::default()
    }
}

/// SYNs to where nothing listens at this host that its stack was given.
fn given(tick: &Tick) -> u64 {
    tick.no_listener_own.saturating_sub(tick.closed_dropped)
}

/// Resets that such SYNs explain, wherever they have left.
fn explained(tick: &Tick) -> u64 {
    tick.resets.min(given(tick))
}

/// Returns whether such SYNs and resets grow alike, and most of these are not seen. That a packet filter drops the SYNs
/// is no reason to hold ports for closed.
fn are_unseen(tick: &Tick) -> bool {
    2 * explained(tick) >= given(tick) && 2 * tick.refused < explained(tick)
}
