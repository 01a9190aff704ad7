//! Occupancy: the part of the SYN queue that failed handshakes hold.
//!
//! A slow flood fills a small queue without ever being fast: entries live 63 s, so that a queue of
//! 128 is full at 2 SYN/s. But the same 63 s make the queue's length a bad witness afterwards: it
//! stays up for a minute after the last spoofed SYN. So never more entries are held against the
//! present than handshakes have failed in the time that is asked about.

use std::time::Duration;

use crate::input::{Queues, Timestamp, constants};
use crate::listener::learned::Natural;
use crate::listener::moment::Occupied;
use crate::listener::window::{LIFE, Sums, Window};

constants! {
    /// Share of a listener's backlog filled by half-open handshakes that raises the occupancy alarm.
    pub(crate) const OCCUPANCY_ON: f64 = 0.25 Share in 0.01..=1.0,
        "pf's adaptive SYN cookies: set syncookies adaptive (start 25%, end 12%), pf.conf(5).";

    /// Share below which the alarm ends. It must be smaller than OCCUPANCY_ON.
    pub(crate) const OCCUPANCY_OFF: f64 = 0.12 Share in 0.0..=1.0,
        "As OCCUPANCY_ON.";

    /// Half-open handshakes below which the queue raises no alarm, however small it is.
    pub(crate) const OCCUPANCY_MIN: u32 = 16 Count in 1..=65_536,
        "Weighed against a few slow clients at a tiny queue, and against 4 SYN/s at a queue \
         of 128, which must be found.";

    /// Readings of the queue running for which it must hold.
    pub(crate) const OCCUPANCY_POLLS: u32 = 2 Count in 1..=60,
        "Two, as for the fast alarm: a single burst of connects fills a queue for a round \
         trip.";
}

const _: () = assert!(OCCUPANCY_OFF < OCCUPANCY_ON, "the alarm flaps");

/// An alarm is held by failures of this span, as many as there would be in [`Occupancy::SPAN`]. Shorter, so
/// that a flood is released soon after its last SYN.
const HOLD: Duration = Duration::from_secs(4);
/// Failures of less time are not taken for those of a life: a poll may see none.
const LEAST: Duration = Duration::from_secs(1);
/// A count older than this is no reading of the present. Counts come every second while it matters.
const FRESH: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Timestamp,
    half_open: u32,
    backlog: u32,
}

/// Last reading of a queue, and the number of readings in a row that were high.
#[derive(Clone, Debug, Default)]
pub(crate) struct Occupancy {
    reading: Option<Reading>,
    streak: u32,
}

impl Occupancy {
    /// Span of the failures that are judged. It is the longest pause of a pulsed flood that is assumed
    /// ([`Settings::quiet`]), so that a pulse counts until the next.
    pub const SPAN: Duration = Duration::from_secs(10);

    /// Slots of a SYN queue that failed handshakes take in the end, if they go on to fail at the rate of these
    /// `sums` for the life of an entry. A retransmitted SYN takes no other slot.
    pub fn places(sums: &Sums, natural: &Natural) -> f64 {
        let excess = sums.first_failures() as f64 - natural.expected(sums);
        LIFE.div_duration_f64(sums.span.max(LEAST)) * excess
    }

    /// Judges the queues read at this poll. `true` when failed handshakes have held too much of
    /// the queue for long enough.
    ///
    /// Most polls bring no count; those change nothing. SYNs answered less than `maturity` ticks ago
    /// do not count yet.
    pub fn poll(
        &mut self,
        now: Timestamp,
        queues: Option<&Queues>,
        window: &Window,
        natural: &Natural,
        maturity: usize,
    ) -> bool {
        let Some((half_open, backlog)) = queues.and_then(|q| Some((q.half_open?, q.backlog)))
        else {
            return false;
        };
        let reading = Reading { at: now, half_open, backlog };
        self.reading = Some(reading);
        let Occupied { of_a_minute, going_on, limit, .. } =
            held(&reading, window, natural, maturity);
        let flood = f64::from(half_open).min(of_a_minute).min(going_on);
        self.streak = if flood >= limit { self.streak + 1 } else { 0 };
        self.streak >= OCCUPANCY_POLLS
    }

    /// Returns the part of the queue that failed handshakes hold by the last reading; `None` before the first.
    pub fn held(&self, window: &Window, natural: &Natural, maturity: usize) -> Option<Occupied> {
        Some(held(self.reading.as_ref()?, window, natural, maturity))
    }

    /// Returns whether failed handshakes of the last seconds still hold too much of the queue for an alarm
    /// to be over. A flood just fast enough to fill a queue of B entries, B/63 per second, leaves
    /// 0.16 B in ten seconds, so that it is held.
    pub fn holds(&self, now: Timestamp, window: &Window, natural: &Natural) -> bool {
        let Some(reading) = self.reading.filter(|reading| now.since(reading.at) <= FRESH) else {
            return false;
        };
        let going_on = Self::SPAN.div_duration_f64(HOLD) * natural.excess(&window.last(HOLD));
        let flood = f64::from(reading.half_open).min(going_on);
        let low = f64::from(OCCUPANCY_MIN) * OCCUPANCY_OFF / OCCUPANCY_ON;
        flood >= (OCCUPANCY_OFF * f64::from(reading.backlog)).max(low)
    }

    /// Returns whether the last reading was high.
    pub fn high(&self) -> bool {
        self.streak > 0
    }

    /// Returns whether the queue was found full not long ago.
    pub fn full(&self, now: Timestamp) -> bool {
        self.reading.is_some_and(|reading| {
            now.since(reading.at) <= FRESH && reading.half_open >= reading.backlog.max(1)
        })
    }

    /// Starts again: the readings so far no longer say anything.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

fn held(reading: &Reading, window: &Window, natural: &Natural, maturity: usize) -> Occupied {
    Occupied {
        half_open: reading.half_open,
        of_a_minute: natural.excess(&window.mature_minute(maturity)),
        going_on: Occupancy::places(&window.last(Occupancy::SPAN), natural),
        limit: (OCCUPANCY_ON * f64::from(reading.backlog)).max(OCCUPANCY_MIN.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::window::Tick;

    const POLL: Duration = Duration::from_millis(250);

    fn queues(half_open: u32) -> Queues {
        Queues { half_open: Some(half_open), accept: 0, backlog: 128 }
    }

    /// A window of `seconds` with `attempts` a second, none of which completes.
    fn failing(seconds: u64, attempts: u64) -> Window {
        let mut window = Window::default();
        for tick in 1..=seconds * 4 {
            window.push(Tick {
                end: Timestamp::from_millis(250 * tick),
                span: POLL,
                syns: if tick % 4 == 0 { attempts } else { 0 },
                attempts: if tick % 4 == 0 { attempts } else { 0 },
                answered: if tick % 4 == 0 { attempts } else { 0 },
                ..Tick::default()
            });
        }
        window
    }

    #[test]
    fn a_slow_flood_that_fills_the_queue_is_found_at_the_second_reading() {
        let natural = Natural::default();
        let window = failing(30, 2);
        let mut occupancy = Occupancy::default();
        let now = Timestamp::from_millis(30_000);
        let mut poll =
            |half_open| occupancy.poll(now, Some(&queues(half_open)), &window, &natural, 1);
        assert_eq!([poll(60), poll(60)], [false, true]);
    }

    #[test]
    fn the_places_that_are_taken_in_the_end_are_those_of_a_life() {
        let natural = Natural::default();
        let second = Duration::from_secs(1);
        let sums = |span, syns, retransmitted| {
            let attempts = syns;
            Occupancy::places(
                &Sums { span, syns, retransmitted, attempts, ..Sums::default() },
                &natural,
            )
        };
        // Two in a hundred fail anyway.
        assert_eq!(sums(second * 10, 1000, 0), 6.3 * 980.0);
        assert_eq!(sums(second * 2, 1000, 0), 31.5 * 980.0);
        assert_eq!(sums(second * 10, 1000, 500), 6.3 * 480.0, "half of them came again");
        assert_eq!(sums(POLL, 100, 0), 63.0 * 98.0, "a poll is taken for a second");
    }

    #[test]
    fn a_poll_without_a_count_is_no_reading() {
        let natural = Natural::default();
        let window = failing(30, 2);
        let mut occupancy = Occupancy::default();
        let now = Timestamp::from_millis(30_000);
        let uncounted = Queues { half_open: None, accept: 0, backlog: 128 };
        assert!(!occupancy.poll(now, Some(&queues(60)), &window, &natural, 1));
        assert!(!occupancy.poll(now, Some(&uncounted), &window, &natural, 1));
        assert!(occupancy.poll(now, Some(&queues(60)), &window, &natural, 1));
    }

    #[test]
    fn a_queue_full_of_handshakes_that_complete_is_no_alarm() {
        let natural = Natural::default();
        let mut window = Window::default();
        for tick in 1..=100 {
            window.push(Tick {
                end: Timestamp::from_millis(250 * tick),
                span: POLL,
                syns: 100,
                attempts: 100,
                answered: 100,
                established: if tick == 1 { 0 } else { 100 },
                ..Tick::default()
            });
        }
        let mut occupancy = Occupancy::default();
        let now = Timestamp::from_millis(25_000);
        for _ in 0..4 {
            assert!(!occupancy.poll(now, Some(&queues(128)), &window, &natural, 1));
        }
    }

    #[test]
    fn what_a_flood_left_behind_neither_holds_its_alarm_nor_raises_another() {
        let natural = Natural::default();
        let mut window = failing(30, 1000);
        let mut occupancy = Occupancy::default();
        let mut now = Timestamp::from_millis(30_000);
        occupancy.poll(now, Some(&queues(128)), &window, &natural, 1);
        assert!(occupancy.holds(now, &window, &natural));
        for _ in 0..44 {
            now = now + POLL;
            window.push(Tick { end: now, span: POLL, ..Tick::default() });
        }
        for _ in 0..2 {
            assert!(!occupancy.poll(now, Some(&queues(128)), &window, &natural, 1));
        }
        assert!(!occupancy.holds(now, &window, &natural));
    }
}
