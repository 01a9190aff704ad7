//! The last minutes of the host in columns of a plot.

use crate::documents::history::Second;
use tcpguard_host::time::Time;

/// Milliseconds that a plot covers: long enough for the start of an attack to be seen by an operator whom the
/// attack woke up.
const SPAN_MS: i64 = 300_000;
/// A second that the agent polled late covers the time since the previous one, up to this.
const LATE_MS: i64 = 5_000;
/// Most columns of a plot: each holds more than a second.
pub const WIDEST: u16 = 240;

/// Time axis of a plot: its columns end at whole multiples of their length, so that a drawn column keeps its
/// shape as it moves to the left.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// Number of the newest column since 1970.
    last: i64,
    /// Number of columns.
    width: i64,
}

impl Axis {
    /// An axis of `width` columns that ends at `now`.
    pub fn new(now: Time, width: u16) -> Self {
        let width = i64::from(width.clamp(1, WIDEST));
        Self { last: number(now.0.as_millisecond(), width), width }
    }

    /// Returns the column of a time, from the left; `None` outside of the plot.
    pub fn column(self, at: Time) -> Option<u16> {
        self.place(number(at.0.as_millisecond(), self.width)).map(|column| column as u16)
    }

    /// Returns the column of a number of seconds ago.
    pub fn ago(self, seconds: u16) -> u16 {
        let columns = i64::from(seconds) * 1000 * self.width / SPAN_MS;
        (self.width - 1 - columns).max(0) as u16
    }

    fn place(self, number: i64) -> Option<usize> {
        let column = number - self.last + self.width - 1;
        usize::try_from(column).ok().filter(|column| *column < self.width as usize)
    }

    /// The seconds of each column, oldest first.
    pub fn columns(self, history: &[Second]) -> Vec<Vec<Second>> {
        let mut columns = vec![Vec::new(); self.width as usize];
        let mut before = None;
        for second in history {
            let end = second.at.0.as_millisecond();
            let own = number(end, self.width);
            let first = match before {
                Some(before) if end - before <= LATE_MS => number(before, self.width) + 1,
                _ => own,
            };
            before = Some(end);
            for column in (first.min(own)..=own).filter_map(|number| self.place(number)) {
                columns[column].push(*second);
            }
        }
        columns
    }
}

/// The number of the column that a time is in, where `width` columns cover the plot.
fn number(at_ms: i64, width: i64) -> i64 {
    at_ms.saturating_mul(width).div_euclid(SPAN_MS)
}

/// SYNs per second that passed, were answered with cookies, and were dropped.
pub type Fates = [f64; 3];

/// The fates of a second's SYNs.
pub fn fates(second: &Second) -> Fates {
    [second.passed_pps(), second.cookies_sent_pps, second.dropped_pps]
}

/// The fates in the second with the most SYNs, so that no burst is lost in a narrow terminal.
pub fn busiest(seconds: &[Second]) -> Option<Fates> {
    seconds.iter().max_by(|a, b| a.syn_pps.total_cmp(&b.syn_pps)).map(fates)
}

/// Completed handshakes per second, on average: single seconds of few clients vary by chance.
pub fn completed(seconds: &[Second]) -> Option<Fates> {
    let sum: f64 = seconds.iter().map(|second| second.completed_pps).sum();
    (!seconds.is_empty()).then(|| [sum / seconds.len() as f64, 0.0, 0.0])
}

/// The end of an axis that begins at 0 and holds `value`: a number that is easy to read.
pub fn round_up(value: f64) -> f64 {
    const LEAST: f64 = 10.0;
    let value = value.max(LEAST);
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= value).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Time {
        Time(jiff::Timestamp::from_millisecond(1_800_000_000_000 + ms).unwrap())
    }

    fn second(ms: i64, syn_pps: f64) -> Second {
        let (dropped_pps, cookies_sent_pps) = (syn_pps / 2.0, syn_pps / 4.0);
        Second { at: at(ms), syn_pps, dropped_pps, cookies_sent_pps, completed_pps: syn_pps / 8.0 }
    }

    fn drawn(history: &[Second], now: i64, width: u16) -> Vec<Option<Fates>> {
        let columns = Axis::new(at(now), width).columns(history);
        columns.iter().map(|seconds| busiest(seconds)).collect()
    }

    #[test]
    fn the_newest_second_is_on_the_right_and_a_burst_is_not_lost() {
        let history = [second(1000, 8.0), second(2000, 800.0), second(3000, 8.0)];
        let columns = drawn(&history, 3000, 60);
        assert_eq!(columns.len(), 60);
        assert_eq!(columns[59], Some([200.0, 200.0, 400.0]));
        assert_eq!(columns[58], None);
        let seconds = Axis::new(at(3000), 60).columns(&history).pop().unwrap();
        assert_eq!(completed(&seconds), Some([34.0, 0.0, 0.0]), "the mean");
        assert_eq!(completed(&[]), None);
    }

    #[test]
    fn a_column_keeps_its_seconds_as_time_goes_on() {
        let history = [second(2000, 1.0), second(3000, 2.0), second(14_000, 3.0)];
        for now in 14..60 {
            let columns = drawn(&history, 1000 * now, 60);
            let left = columns.iter().rev().position(Option::is_some).unwrap();
            assert_eq!(left as i64, now / 5 - 2, "{now}");
            assert_eq!(columns.iter().flatten().count(), 2, "{now}");
        }
    }

    #[test]
    fn a_late_poll_leaves_no_gap_and_a_silent_agent_does() {
        let history = [second(1000, 4.0), second(5000, 8.0), second(20_000, 4.0)];
        let known: Vec<_> = drawn(&history, 20_000, 240).iter().map(Option::is_some).collect();
        let known = &known[240 - 16..];
        assert_eq!(known.iter().filter(|known| **known).count(), 5, "{known:?}");
        assert!(known[15] && !known[5..15].contains(&true), "{known:?}");
    }

    #[test]
    fn times_outside_of_the_plot_have_no_column() {
        let axis = Axis::new(at(300_000), 100);
        assert_eq!(axis.column(at(300_000)), Some(99));
        assert_eq!(axis.column(at(0)), None);
        assert_eq!(axis.column(at(303_000)), None);
        assert_eq!((axis.ago(0), axis.ago(60), axis.ago(300)), (99, 79, 0));
    }

    #[test]
    fn an_axis_ends_at_a_number_that_is_easy_to_read() {
        for (value, end) in [
            (0.0, 10.0),
            (10.0, 10.0),
            (52.0, 60.0),
            (98_900.0, 100_000.0),
            (101_000.0, 150_000.0),
            (850.0, 1000.0),
        ] {
            assert_eq!(round_up(value), end, "{value}");
        }
    }
}
