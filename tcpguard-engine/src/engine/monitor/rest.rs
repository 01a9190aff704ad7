//! Rest: a listener where nothing happens takes no time of a poll.

use std::time::Duration;

use super::ListenerMonitor;
use super::shared_rules::Shared;
use crate::evidence::EVIDENCE_WINDOW;
use crate::input::{ListenerSample, Queues, Timestamp};
use crate::listener::{BaselineContext, PollContext, Quiet, REACH};

/// Time without a count after which a listener rests: what is judged beside other listeners is younger.
const CALMED: Duration = EVIDENCE_WINDOW.saturating_add(Duration::from_secs(1));
/// The same where more was counted than can matter until the window has forgotten it.
const FORGOTTEN: Duration = REACH.saturating_add(Duration::from_secs(1));

/// A poll in which nothing happened at a listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Missed {
    at: Timestamp,
    elapsed: Duration,
    unseen_cookies: u64,
}

impl Missed {
    pub fn of(around: &PollContext) -> Self {
        let PollContext { at, elapsed, unseen_cookies, .. } = *around;
        Self { at, elapsed, unseen_cookies }
    }
}

impl ListenerMonitor {
    /// Returns whether polls without a count change nothing here that is judged.
    pub fn may_rest(&self, now: Timestamp) -> bool {
        let still = now.since(self.counted_last);
        still >= CALMED
            && self.is_settled(now)
            && (still >= FORGOTTEN || self.window.last(REACH).syns <= Quiet::NOTHING)
    }

    fn is_settled(&self, now: Timestamp) -> bool {
        let queues = self.queues.unwrap_or_default();
        let egress = self.counter_delta.egress_check();
        self.class().is_none()
            && self.suspect.is_none()
            && self.learns()
            && self.slow.sum() == 0.0
            && self.pressure.polls() == (0, 0)
            && (queues.accept, queues.half_open.unwrap_or(0)) == (0, 0)
            && self.ladder.is_idle()
            && self.withheld.is_empty()
            && matches!(self.shared, Shared::Alike | Shared::Barred)
            && !(self.passes_excess || self.sends_ahead || self.overload_reported || self.dismissed)
            && !(egress.asks_for_count() || egress.asks_for_routes(now))
    }

    /// Returns whether a reading shows nothing new. The estimate of its sources starts again now and then.
    pub fn stays_as(&mut self, reading: &ListenerSample) -> bool {
        let before = self.unchanged();
        let counted = self.queues.and_then(|queues| queues.half_open);
        let queues = before.queues.map(|queues| Queues { half_open: counted, ..queues });
        let stays = reading.counters == before.counters
            && (reading.kind, reading.listener) == (before.kind, before.listener)
            && (reading.queues == before.queues || reading.queues == queues);
        if stays {
            self.distinct.update(reading.distinct_sources, 0);
        }
        stays
    }

    /// The reading of a poll in which nothing has changed since the last one.
    pub fn unchanged(&self) -> ListenerSample {
        ListenerSample {
            id: self.id,
            listener: self.listener,
            kind: self.kind,
            counters: *self.counters(),
            queues: self.queues.map(|queues| Queues { half_open: None, ..queues }),
            distinct_sources: self.distinct.sources(),
        }
    }

    /// Makes up for those of these polls that it has missed: each changes what [`Self::observe`] would have changed.
    pub fn make_up(&mut self, missed: &[Missed]) {
        let last = self.window.latest().map(|tick| tick.end);
        let maturity = self.maturity();
        let queues = self.unchanged().queues;
        for &Missed { at, elapsed, unseen_cookies } in missed.iter().filter(|it| Some(it.at) > last)
        {
            self.counter_delta.pass(at, queues.as_ref(), unseen_cookies);
            self.window.pass(at, elapsed);
            self.alert_window.take_if(|alert_window| at >= alert_window.until);
            self.slow.pass(&self.window, maturity, &mut self.natural);
            self.natural.pass(at);
            self.baseline.learn(at, &self.window, BaselineContext::default());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::monitor::tests::after;
    use crate::input::{ListenerCounters, Mode, POLL};
    use crate::listener::Tick;
    use crate::settings::Settings;

    /// A poll `millis` after the one before.
    fn poll(now: &mut Timestamp, millis: u64) -> PollContext {
        let elapsed = Duration::from_millis(millis);
        *now = *now + elapsed;
        PollContext {
            at: *now,
            elapsed,
            poll: POLL,
            mode: Mode::Enforce,
            queue_drops: Some(0),
            unseen_cookies: millis % 3,
            queues: None,
            overflowed: millis.is_multiple_of(5),
            queue_full: false,
            sample_shift: 0,
            one_sided: false,
            unread: false,
            answering: false,
            beyond: 0,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Few SYNs, of which some are answered and some completed, among many polls without any.
        #[test]
        fn polls_that_are_made_up_for_change_the_same_as_if_each_had_been_gone_through(
            traffic in prop::collection::vec((200..300_u64, 0..60_u64, 0..3_u64, 0..3_u64), 1..300),
            rest in prop::collection::vec(200..300_u64, 1..400),
            local in any::<bool>(),
        ) {
            let settings = Settings::default();
            let (mut monitor, mut now) = after(0, Tick::default());
            monitor.queues = local.then_some(Queues { half_open: None, accept: 0, backlog: 128 });
            let mut counters = ListenerCounters { established: Some(0), ..Default::default() };
            for (millis, syns, lost, late) in traffic {
                // Most polls bring none.
                let syns = syns.saturating_sub(56);
                counters.syn += syns;
                counters.syn_ack += syns.saturating_sub(lost);
                let completed = counters.syn_ack.saturating_sub(lost + late);
                counters.established = counters.established.max(Some(completed));
                counters.acknowledged = counters.acknowledged.max(completed);
                let reading = ListenerSample { counters, ..monitor.unchanged() };
                monitor.observe(&reading, &poll(&mut now, millis), false, &settings);
            }
            for _ in 0..200 {
                if monitor.may_rest(now) {
                    break;
                }
                monitor.observe(&monitor.unchanged(), &poll(&mut now, 250), false, &settings);
            }
            prop_assert!(monitor.may_rest(now));
            let mut other = monitor.clone();
            let mut missed = Vec::new();
            for millis in rest {
                let around = poll(&mut now, millis);
                monitor.observe(&monitor.unchanged(), &around, false, &settings);
                missed.push(Missed::of(&around));
                prop_assert!(monitor.may_rest(now));
            }
            other.make_up(&missed);
            prop_assert_eq!(format!("{monitor:?}"), format!("{other:?}"));
        }
    }

    #[test]
    fn one_that_fails_or_waits_to_be_accepted_does_not_rest() {
        let (mut monitor, now) = after(80, Tick::default());
        assert!(monitor.may_rest(now));
        for queues in [(1, None), (0, Some(1))] {
            let (accept, half_open) = queues;
            monitor.queues = Some(Queues { half_open, accept, backlog: 128 });
            assert!(!monitor.may_rest(now), "{queues:?}");
        }
        let (mut monitor, now) = after(32, Tick { syns: 5, attempts: 5, ..Tick::default() });
        monitor.counted_last = now - CALMED;
        assert!(!monitor.may_rest(now), "its window holds them");
    }
}
