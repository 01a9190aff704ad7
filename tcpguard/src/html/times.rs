//! Format of times: by the clock on the wall, or in a capture from its first packet on.

use jiff::tz::TimeZone;
use tcpguard_host::time::Time;
use tcpguard_host::units::elapsed;

use super::plot::scale;
use crate::text::between;

/// The times that a page shows.
#[derive(Clone, Debug)]
pub(super) enum Times {
    /// Time of day in this zone.
    Clock(TimeZone),
    /// Time after the first packet of a capture, which came then.
    After(Time),
}

impl Times {
    /// Time of day, `14:04:14`; in a capture `+12.3s`.
    pub fn show(&self, time: Time) -> String {
        match self {
            Self::Clock(zone) => formatted(time, zone, "%H:%M:%S"),
            Self::After(began) => format!("+{}", elapsed(between(*began, time))),
        }
    }

    /// The same with the date and the zone.
    pub fn show_in_full(&self, time: Time) -> String {
        match self {
            Self::Clock(zone) => formatted(time, zone, "%Y-%m-%d %H:%M:%S %Z"),
            Self::After(_) => self.show(time),
        }
    }

    /// The time reference of an axis that begins at `began`, in words.
    pub fn in_words(&self, began: Time) -> String {
        match self {
            Self::Clock(zone) => format!("Times are {}.", formatted(began, zone, "%Z")),
            Self::After(_) => "Times count from the first packet on.".to_owned(),
        }
    }

    /// Round times on an axis of `length` s that begins at `began`: each with its position, in s,
    /// and its label. At most `most` steps.
    pub fn ticks(&self, began: Time, length: f64, most: usize) -> Vec<(f64, String)> {
        let step = scale::time_step(length, most);
        // Seconds of the axis' beginning on the clock that defines round times.
        let offset = match self {
            Self::Clock(zone) => {
                let local = f64::from(zone.to_offset(began.0).seconds());
                began.0.as_millisecond() as f64 / 1000.0 + local
            }
            Self::After(first) => began.0.duration_since(first.0).as_secs_f64(),
        };
        let first = (offset / step).ceil() as i64;
        let last = ((offset + length) / step).floor() as i64;
        (first..=last)
            .map(|number| {
                let round = number as f64 * step;
                (round - offset, self.label(round, step))
            })
            .collect()
    }

    fn label(&self, seconds: f64, step: f64) -> String {
        match self {
            Self::Clock(_) => {
                // In tenths, in which a round time is a whole number.
                let day = ((seconds * 10.0).round() as i64).rem_euclid(864_000);
                let (hours, minutes, seconds) = (day / 36_000, day / 600 % 60, day / 10 % 60);
                match step {
                    below if below < 1.0 => {
                        format!("{hours:02}:{minutes:02}:{seconds:02}.{}", day % 10)
                    }
                    below if below < 60.0 => format!("{hours:02}:{minutes:02}:{seconds:02}"),
                    _ => format!("{hours:02}:{minutes:02}"),
                }
            }
            Self::After(_) => {
                let (unit, name) = match step {
                    below if below < 60.0 => (1.0, "s"),
                    below if below < 3600.0 => (60.0, "m"),
                    _ => (3600.0, "h"),
                };
                // Always signed, because a time before the first packet is no part of the capture.
                format!("{:+}{name}", (seconds / unit * 10.0).round() / 10.0)
            }
        }
    }
}

fn formatted(time: Time, zone: &TimeZone, format: &str) -> String {
    time.0.to_zoned(zone.clone()).strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Time {
        Time(text.parse().unwrap())
    }

    fn ticks(times: &Times, began: &str, length: f64) -> Vec<String> {
        let ticks = times.ticks(time(began), length, 4);
        ticks.iter().map(|(at, label)| format!("{at:.1}: {label}")).collect()
    }

    #[test]
    fn a_clock_is_marked_at_its_own_round_times() {
        let utc = Times::Clock(TimeZone::UTC);
        assert_eq!(
            ticks(&utc, "2026-11-20T14:03:44.5Z", 61.0),
            ["15.5: 14:04:00", "45.5: 14:04:30"]
        );
        assert_eq!(
            ticks(&utc, "2026-11-20T23:59:59.5Z", 0.8),
            ["0.1: 23:59:59.6", "0.3: 23:59:59.8", "0.5: 00:00:00.0", "0.7: 00:00:00.2"]
        );
        let india = Times::Clock(TimeZone::fixed(jiff::tz::Offset::from_seconds(19_800).unwrap()));
        assert_eq!(
            ticks(&india, "2026-11-20T14:03:44Z", 7_200.0),
            ["1576.0: 20:00", "3376.0: 20:30", "5176.0: 21:00", "6976.0: 21:30"]
        );
    }

    #[test]
    fn a_capture_is_marked_from_its_first_packet_on() {
        let times = Times::After(time("2026-11-20T14:00:00Z"));
        assert_eq!(
            ticks(&times, "2026-11-20T14:00:30Z", 100.0),
            ["0.0: +30s", "30.0: +60s", "60.0: +90s", "90.0: +120s"]
        );
        assert_eq!(ticks(&times, "2026-11-20T14:29:00Z", 2_400.0).first().unwrap(), "60.0: +30m");
    }

    #[test]
    fn a_time_is_shown_as_on_its_page() {
        let at = time("2026-11-20T14:00:12.345Z");
        let clock = Times::Clock(TimeZone::UTC);
        assert_eq!(clock.show(at), "14:00:12");
        assert_eq!(clock.show_in_full(at), "2026-11-20 14:00:12 UTC");
        assert_eq!(clock.in_words(at), "Times are UTC.");
        let after = Times::After(time("2026-11-20T14:00:07Z"));
        assert_eq!((after.show(at), after.show_in_full(at)), ("+5.3s".into(), "+5.3s".into()));
        let late = time("2026-11-20T14:00:40.83Z");
        assert_eq!(after.show(late), "+33.8s");
    }
}
