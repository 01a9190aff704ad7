//! Packet time as the clock of a replay.

use std::time::Duration;

use tcpguard_engine::Timestamp;

use crate::documents::replay::{START, Untimely};

/// A packet older than the newest one by more than this was not reordered on its way into the
/// capture: the capturing host's clock was set back, or the capture holds one file after another. Time goes on from
/// there.
pub const SET_BACK: Duration = Duration::from_secs(1);
/// Packets from which on it is known that their times are invented: fewer raise no alarm.
const FEW: u64 = 8;
/// Programs that invent times count packets in units of this (text2pcap), or give all the same time.
const INVENTED_NS: u64 = 1000;
/// Factor by which a capture may take longer than the times in it span. Beyond, rates are too low.
const LONGER: f64 = 1.1;

/// A clock that never goes backwards, whatever the packets' timestamps do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// Time since the first packet.
    elapsed: Duration,
    newest_ns: Option<u64>,
    last_ns: u64,
    /// The first and the last time there is.
    span_ns: Option<(u64, u64)>,
    /// Packets with a time, and without.
    timed: u64,
    untimed: u64,
    /// Time between two packets, if it is the same between all of them.
    step_ns: Option<u64>,
    set_back: u64,
}

impl Clock {
    /// The time at which a packet stamped with `stamp_ns` (ns since 1970) arrives; without a stamp, with the one
    /// before it.
    pub fn at(&mut self, stamp_ns: Option<u64>) -> Timestamp {
        let Some(stamp_ns) = stamp_ns else {
            self.untimed += 1;
            return self.now();
        };
        self.note(stamp_ns);
        let newest = self.newest_ns.unwrap_or(stamp_ns);
        let back = Duration::from_nanos(newest.saturating_sub(stamp_ns));
        let on = Duration::from_nanos(stamp_ns.saturating_sub(newest));
        self.elapsed = self.elapsed.saturating_add(on);
        if stamp_ns > newest || back > SET_BACK || self.newest_ns.is_none() {
            self.newest_ns = Some(stamp_ns);
        }
        self.now()
    }

    /// The time of the last packet.
    pub fn now(&self) -> Timestamp {
        START + self.elapsed
    }

    fn note(&mut self, stamp_ns: u64) {
        self.timed += 1;
        let back = Duration::from_nanos(self.last_ns.saturating_sub(stamp_ns));
        self.set_back += u64::from(back > SET_BACK);
        let step = stamp_ns.checked_sub(self.last_ns);
        self.step_ns = match self.timed {
            1 => None,
            2 => step,
            _ => self.step_ns.filter(|known| Some(*known) == step),
        };
        self.last_ns = stamp_ns;
        let (first, last) = self.span_ns.unwrap_or((stamp_ns, stamp_ns));
        self.span_ns = Some((first.min(stamp_ns), last.max(stamp_ns)));
    }

    /// Fault of the times of the capture, if there is one.
    pub fn untimely(&self) -> Option<Untimely> {
        let invented = self.timed >= FEW && self.step_ns.is_some_and(|step| step <= INVENTED_NS);
        if self.untimed > self.timed || invented {
            return Some(Untimely::Missing);
        }
        let span = self.span_ns.map_or(0, |(first, last)| last - first);
        let (span, read) = (Duration::from_nanos(span), self.elapsed);
        let longer = read.as_secs_f64() > LONGER * span.as_secs_f64();
        (self.set_back > 0).then_some(Untimely::SetBack {
            times: self.set_back,
            read,
            span,
            longer,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A clock that has seen packets with these times in ms, and the times in ms since the start at which they arrived.
    fn played<const N: usize>(stamps: [u64; N]) -> (Clock, [u64; N]) {
        let mut clock = Clock::default();
        let mut arrives =
            |ms: u64| clock.at(Some(1_700_000_000 * SECOND + ms * 1_000_000)).since(START);
        let arrivals = stamps.map(|stamp| arrives(stamp).as_millis() as u64);
        (clock, arrivals)
    }

    #[test]
    fn time_is_that_of_the_packets_from_the_first_on() {
        let (clock, arrivals) = played([0, 1000, 1000, 5000, 7_200_000]);
        assert_eq!(arrivals, [0, 1000, 1000, 5000, 7_200_000]);
        assert_eq!(clock.untimely(), None);
    }

    #[test]
    fn reordered_packets_arrive_with_the_newest_and_add_no_time() {
        let (clock, arrivals) = played([1000, 1200, 900, 1100, 1200, 1300]);
        assert_eq!(arrivals, [0, 200, 200, 200, 200, 300]);
        assert_eq!(clock.untimely(), None);
    }

    #[test]
    fn after_the_clock_was_set_back_time_goes_on_and_that_is_stated() {
        let (clock, arrivals) = played([100_000, 100_100, 1000, 1200]);
        assert_eq!(arrivals, [0, 100, 100, 300]);
        let (read, span) = (Duration::from_millis(300), Duration::from_millis(99_100));
        let set_back =
            |times, read, span, longer| Some(Untimely::SetBack { times, read, span, longer });
        assert_eq!(clock.untimely(), set_back(1, read, span, false));
        // Three files of 20 s that begin 5 s apart, one after another.
        let (clock, _) = played([0, 20_000, 5_000, 25_000, 10_000, 30_000]);
        let (read, span) = (Duration::from_secs(60), Duration::from_secs(30));
        assert_eq!(clock.untimely(), set_back(2, read, span, true));
    }

    #[test]
    fn packets_without_usable_times_are_found() {
        for (step, count, is_missing) in
            [(0, 8, true), (0, 7, false), (1000, 8, true), (1001, 8, false), (SECOND, 100, false)]
        {
            let mut clock = Clock::default();
            for number in 0..count {
                clock.at(Some(number * step));
            }
            assert_eq!(clock.untimely() == Some(Untimely::Missing), is_missing, "{step} {count}");
        }
        let mut clock = Clock::default();
        for stamp in [None, Some(5), None] {
            clock.at(stamp);
        }
        assert_eq!(clock.untimely(), Some(Untimely::Missing));
    }

    #[test]
    fn the_end_of_time_is_no_end_of_the_program() {
        let mut clock = Clock::default();
        clock.at(Some(0));
        assert_eq!(clock.at(Some(u64::MAX)), Timestamp::from_nanos(u64::MAX));
        assert_eq!(clock.at(Some(0)), clock.at(Some(u64::MAX)));
    }
}
