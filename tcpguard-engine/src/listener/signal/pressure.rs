//! Pressure by real clients: more of them than the baseline, or more than the application accepts. There is no
//! attack, and no rule would help, but the operator should know how to react.

use std::time::Duration;

use crate::input::{Queues, Timestamp, constants};
use crate::listener::learned::Baseline;
use crate::listener::window::Window;

constants! {
    /// Polls with a full accept queue from which the listener is overloaded.
    pub(crate) const OVERLOAD_POLLS: u32 = 8 Count in 1..=1200,
        "Two seconds of polls: weighed against servers that pause for a moment, to collect \
         garbage for instance.";

    /// Multiple of the baseline of SYNs from which completing handshakes are a flash crowd.
    pub(crate) const FLASH_CROWD_FACTOR: f64 = 3.0 Number in 1.5..=1000.0,
        "Weighed against the variation of a day. A flash crowd is only a notice, without a \
         mitigation.";

    /// SYNs per second below which there is no flash crowd, whatever the baseline is.
    pub(crate) const FLASH_CROWD_FLOOR: f64 = 100.0 PerSecond in 1.0..=1_000_000.0,
        "Weighed against idle listeners, where three times the baseline is next to nothing.";

    /// Share of the handshakes that must complete in a flash crowd.
    pub(crate) const FLASH_CROWD_SERVED: f64 = 0.7 Share in 0.1..=1.0,
        "Weighed against a flash crowd from 0.5 s away, in which many handshakes are still on \
         their way.";

    /// Consecutive polls for which all conditions must hold.
    pub(crate) const FLASH_CROWD_POLLS: u32 = 12 Count in 1..=1200,
        "Three seconds of polls: weighed against small bursts, which are worth no notice.";
}

/// Rates and retransmitted SYN-ACKs are judged over this span.
const SPAN: Duration = Duration::from_secs(2);
/// Handshakes with an ignored third ACK, below this many in [`SPAN`], are chance: a packet lost here and there, or
/// the clients of one server with a first timeout shorter than their round-trip time.
const IGNORED_MIN: u64 = 8;
/// Their share of the completions from which the accept queue is full. Clients that wait before
/// they speak to a `TCP_DEFER_ACCEPT` socket stay below.
const IGNORED_SHARE: f64 = 0.25;
/// Least part of the accept queue that is taken when it is read between two times of being full: one in so many slots.
const FILLED: u64 = 4;

/// Least number of unanswered SYNs in [`SPAN`] from which the accept queue counts as full where the queue cannot be
/// read. They must also be as many as the attempts, most of which complete.
const UNANSWERED_MIN: u64 = 32;
/// Share of these SYNs that is retransmitted, as only real clients do.
const UNANSWERED_RETRANSMITTED: f64 = 0.35;

/// Type of pressure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PressureKind {
    /// The accept queue is full.
    Overload,
    /// Far more clients than in the baseline, and they are served.
    FlashCrowd,
}

/// Observations of a poll beside the ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load<'a> {
    pub queues: Option<&'a Queues>,
    /// Some accept queue of the host overflowed.
    pub overflowed: bool,
    /// Share of the handshakes that completed.
    pub served: Option<f64>,
    pub baseline: &'a Baseline,
}

/// Number of polls under pressure by the application and by the traffic, and the time of the last pressure.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pressure {
    /// Polls with a full accept queue, less those without since.
    overload: u32,
    /// Polls in a row with a flash crowd.
    flash_crowd: u32,
    felt: Timestamp,
}

impl Pressure {
    /// Judges the poll that has just been added to `window`.
    pub fn poll(
        &mut self,
        now: Timestamp,
        window: &Window,
        load: &Load<'_>,
    ) -> Option<PressureKind> {
        let full = is_full(window, load);
        self.overload = match full {
            true => (self.overload + 1).min(2 * OVERLOAD_POLLS),
            false => self.overload.saturating_sub(1),
        };
        let is_served = load.served.is_some_and(|share| share >= FLASH_CROWD_SERVED);
        let flash_crowd = |factor: f64| {
            let sums = window.last(SPAN);
            // A source that the stack ignores, such as one that it takes for spoofed, is not served.
            let rate = sums.per_second(sums.syns.saturating_sub(sums.ignored));
            let many = |baseline: f64| {
                rate >= factor * (FLASH_CROWD_FACTOR * baseline).max(FLASH_CROWD_FLOOR)
            };
            is_served && load.baseline.rate().is_some_and(many)
        };
        self.flash_crowd = if flash_crowd(1.0) { self.flash_crowd.saturating_add(1) } else { 0 };
        // 2:1 hysteresis, as everywhere.
        if full || flash_crowd(0.5) {
            self.felt = now;
        }
        if self.overload >= OVERLOAD_POLLS {
            Some(PressureKind::Overload)
        } else if self.flash_crowd >= FLASH_CROWD_POLLS {
            Some(PressureKind::FlashCrowd)
        } else {
            None
        }
    }

    /// Returns whether the rate is so far above the baseline that it should not become the baseline.
    pub fn in_flash_crowd(&self) -> bool {
        self.flash_crowd > 0
    }

    /// Returns whether the accept queue is full, or was a moment ago. The stack ignores the SYNs of clients then.
    pub fn is_full(&self) -> bool {
        self.overload > 0
    }

    /// Returns whether the accept queue has been full for long enough to be the matter.
    pub fn overloaded(&self) -> bool {
        self.overload >= OVERLOAD_POLLS
    }

    /// Polls with a full accept queue less those without since, and polls in a row with a flash crowd.
    pub fn polls(&self) -> (u32, u32) {
        (self.overload, self.flash_crowd)
    }

    /// Restarts the time without pressure at `now`.
    pub fn restart(&mut self, now: Timestamp) {
        self.felt = now;
    }

    /// Returns the time since the last pressure.
    pub fn relaxed(&self, now: Timestamp) -> Duration {
        now.since(self.felt)
    }
}

/// Returns whether the accept queue is full. Any of these is enough:
///
/// - its length,
/// - overflows of the host while it is at least half full, because a queue may drain between two polls,
/// - handshakes whose SYN-ACK the stack retransmits although the client had acknowledged it. This needs either
///   overflows and a queue that is at least a quarter full as the cause, or a queue that cannot be read, because an
///   ACK with a wrong checksum has the same effect,
/// - where the queue cannot be read, unanswered SYNs that are retransmitted as clients do, while most handshakes of answered SYNs
///   complete: the stack ignores SYNs as well while the queue is full.
fn is_full(window: &Window, load: &Load<'_>) -> bool {
    let by_length = load.queues.is_some_and(|queues| queues.is_accept_full(load.overflowed));
    let sums = window.last(SPAN);
    let unanswered_syns = load.queues.is_none()
        && sums.ignored >= UNANSWERED_MIN.max(sums.attempts)
        && sums.retransmitted_timed as f64 >= UNANSWERED_RETRANSMITTED * sums.ignored as f64
        && sums.completed > 0
        && sums.completed as f64 >= 0.8 * sums.attempts as f64;
    // Another listener of the host may overflow, which any user with an account can arrange.
    let overflows = load.queues.is_none_or(|queues| {
        load.overflowed && u64::from(queues.accept) * FILLED >= u64::from(queues.backlog)
    });
    let ignored = overflows
        && sums.ack_ignored >= IGNORED_MIN
        && sums.ack_ignored as f64 >= IGNORED_SHARE * sums.completed as f64;
    by_length || unanswered_syns || ignored
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::learned::BaselineContext;
    use crate::listener::window::Tick;

    const POLL: Duration = Duration::from_millis(250);

    struct Played {
        window: Window,
        baseline: Baseline,
        pressure: Pressure,
        now: Timestamp,
    }

    impl Played {
        fn new() -> Self {
            Self {
                window: Window::default(),
                baseline: Baseline::default(),
                pressure: Pressure::default(),
                now: Timestamp::default(),
            }
        }

        /// `polls` with so many SYNs each; the last answer.
        fn play(
            &mut self,
            polls: u32,
            syns: u64,
            ignored: u64,
            accept: u32,
        ) -> Option<PressureKind> {
            let mut pressure_kind = None;
            for _ in 0..polls {
                self.now = self.now + POLL;
                self.window.push(Tick {
                    end: self.now,
                    span: POLL,
                    syns,
                    attempts: syns,
                    established: syns,
                    ack_ignored: ignored,
                    ..Tick::default()
                });
                let queues = Queues { half_open: None, accept, backlog: 128 };
                let load = Load {
                    queues: Some(&queues),
                    overflowed: ignored > 1,
                    served: Some(1.0),
                    baseline: &self.baseline,
                };
                pressure_kind = self.pressure.poll(self.now, &self.window, &load);
                let in_flash_crowd = self.pressure.in_flash_crowd();
                let around = BaselineContext { in_flash_crowd, ..BaselineContext::default() };
                self.baseline.learn(self.now, &self.window, around);
            }
            pressure_kind
        }
    }

    #[test]
    fn ten_times_the_baseline_is_a_flash_crowd_once_it_lasts() {
        let mut host = Played::new();
        assert_eq!(host.play(80, 10, 0, 0), None);
        assert_eq!(host.play(12, 100, 0, 0), None, "a burst is none");
        assert_eq!(host.play(8, 100, 0, 0), Some(PressureKind::FlashCrowd));
        assert_eq!(host.play(8, 10, 0, 0), None);
    }

    #[test]
    fn where_the_queue_cannot_be_read_unanswered_retransmissions_show_it() {
        let full = |tick: Tick, queues: Option<&Queues>| {
            let (mut window, baseline) = (Window::default(), Baseline::default());
            for index in 1..=8 {
                let end = Timestamp::from_millis(250 * index);
                window.push(Tick { end, span: POLL, ..tick });
            }
            is_full(&window, &Load { queues, overflowed: false, served: None, baseline: &baseline })
        };
        let tick = Tick {
            attempts: 5,
            established: 5,
            ignored: 20,
            retransmitted: 20,
            retransmitted_timed: 10,
            ..Tick::default()
        };
        assert!(full(tick, None));
        assert!(!full(tick, Some(&Queues { half_open: None, accept: 0, backlog: 128 })));
        assert!(!full(Tick { retransmitted_timed: 1, ..tick }, None), "sent twice at once");
        assert!(!full(Tick { attempts: 0, established: 0, ..tick }, None), "a dead server");
        assert!(!full(Tick { established: 2, ..tick }, None), "handshakes fail");
    }

    #[test]
    fn a_small_rate_may_grow_tenfold() {
        let mut host = Played::new();
        host.play(80, 1, 0, 0);
        assert_eq!(host.play(40, 20, 0, 0), None, "80 a second");
    }

    #[test]
    fn a_lasting_rate_becomes_the_baseline() {
        let mut host = Played::new();
        host.play(80, 10, 0, 0);
        assert_eq!(host.play(400, 100, 0, 0), Some(PressureKind::FlashCrowd));
        host.play(2400, 100, 0, 0);
        assert!(host.pressure.relaxed(host.now) > Duration::from_secs(30));
    }

    #[test]
    fn acks_that_the_host_ignores_for_no_reason_of_its_own_are_no_overload() {
        let (mut window, baseline) = (Window::default(), Baseline::default());
        for index in 1..=8 {
            let end = Timestamp::from_millis(250 * index);
            let tick = Tick { attempts: 20, established: 20, ack_ignored: 20, ..Tick::default() };
            window.push(Tick { end, span: POLL, ..tick });
        }
        let queues = Queues { half_open: None, accept: 60, backlog: 128 };
        let full = |queues, overflowed| {
            is_full(&window, &Load { queues, overflowed, served: None, baseline: &baseline })
        };
        assert!(!full(Some(&queues), false), "their checksum may be wrong");
        assert!(full(Some(&queues), true) && full(None, false));
        let empty = Queues { accept: 0, ..queues };
        assert!(!full(Some(&empty), true), "another listener overflows");
    }

    /// A capture of five connections to a server that has a first timeout of 150 ms.
    #[test]
    fn a_few_handshakes_with_repeated_syn_acks_are_no_overload() {
        let full = |handshakes: u64| {
            let (mut window, baseline) = (Window::default(), Baseline::default());
            for index in 1..=8 {
                let end = Timestamp::from_millis(250 * index);
                let ack_ignored = if index == 8 { handshakes } else { 0 };
                window.push(Tick { end, span: POLL, ack_ignored, ..Tick::default() });
            }
            is_full(
                &window,
                &Load { queues: None, overflowed: false, served: None, baseline: &baseline },
            )
        };
        assert!(!full(5) && full(8));
    }

    #[test]
    fn a_queue_that_stays_full_is_overload_by_its_length_or_by_ignored_acks() {
        for (ignored, accept) in [(0, 128), (10, 40)] {
            let mut host = Played::new();
            assert_eq!(host.play(4, 20, ignored, accept), None, "for a moment is none");
            assert_eq!(host.play(12, 20, ignored, accept), Some(PressureKind::Overload));
            assert_eq!(host.play(24, 20, 0, 0), None);
        }
        assert_eq!(Played::new().play(40, 100, 1, 60), None);
    }
}
