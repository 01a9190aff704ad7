//! The last minutes of a number, second by second.

use std::collections::VecDeque;
use std::time::Duration;

/// Seconds that a whole sparkline covers: long enough for the beginning of an attack to be seen by
/// whom it woke up.
pub const SPAN: u64 = 300;

/// The values measured in each of the last [`SPAN`] seconds.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// The second of the newest value.
    newest: u64,
    /// Oldest first; `None` where nothing was measured.
    values: VecDeque<Option<f64>>,
}

impl Series {
    /// Takes the value measured at `now`. It holds for the time since the last value too, if that
    /// is no longer ago than `reach`.
    pub fn note(&mut self, now: Duration, value: f64, reach: Duration) {
        let second = now.as_secs();
        if self.values.is_empty() {
            self.newest = second;
            self.values.push_back(Some(value));
            return;
        }
        let missing = second.saturating_sub(self.newest);
        if missing == 0 {
            // Two responses within a second: the later one must not hide a peak.
            if let Some(Some(last)) = self.values.back_mut() {
                *last = last.max(value);
            }
            return;
        }
        let gap = (missing <= reach.as_secs()).then_some(value);
        let filled = (missing - 1).min(SPAN);
        self.values.extend((0..filled).map(|_| gap));
        self.values.push_back(Some(value));
        self.newest = second;
        let surplus = self.values.len().saturating_sub(SPAN as usize);
        self.values.drain(..surplus);
    }

    /// The last [`SPAN`] seconds before `now` in at most `width` columns, the newest first. A column
    /// shows the highest value of its seconds, so that no burst is lost in a narrow terminal.
    pub fn columns(&self, now: Duration, width: usize) -> Vec<Option<f64>> {
        let per = SPAN.div_ceil(width.max(1) as u64);
        // Columns end at whole multiples of their seconds, so a drawn column keeps its shape as it
        // moves to the left.
        let last = now.as_secs() / per;
        let mut columns = vec![None; (SPAN / per) as usize];
        for (back, value) in self.values.iter().rev().enumerate() {
            let Some(second) = self.newest.checked_sub(back as u64) else { break };
            let Some(place) = last.checked_sub(second / per) else { continue };
            if let (Some(column), Some(value)) = (columns.get_mut(place as usize), value) {
                *column = Some(column.map_or(*value, |highest: f64| highest.max(*value)));
            }
        }
        columns
    }

    pub fn latest(&self) -> Option<f64> {
        self.values.back().copied().flatten()
    }

    /// The highest value of the last [`SPAN`] seconds before `now`; `None` without any.
    pub fn peak(&self, now: Duration) -> Option<f64> {
        self.columns(now, SPAN as usize).into_iter().flatten().reduce(f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REACH: Duration = Duration::from_secs(3);

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn series(values: &[(u64, f64)]) -> Series {
        let mut series = Series::default();
        values.iter().for_each(|(second, value)| series.note(at(*second), *value, REACH));
        series
    }

    #[test]
    fn the_newest_comes_first() {
        let columns = series(&[(10, 1.0), (11, 2.0), (12, 3.0)]).columns(at(12), 300);
        assert_eq!(columns.len(), 300);
        assert_eq!(columns[..4], [Some(3.0), Some(2.0), Some(1.0), None]);
    }

    #[test]
    fn a_short_pause_is_bridged_and_a_long_one_is_a_gap() {
        let columns = series(&[(10, 1.0), (13, 3.0)]).columns(at(13), 300);
        assert_eq!(columns[..4], [Some(3.0), Some(3.0), Some(3.0), Some(1.0)]);
        let columns = series(&[(10, 1.0), (14, 4.0)]).columns(at(15), 300);
        assert_eq!(columns[..6], [None, Some(4.0), None, None, None, Some(1.0)]);
    }

    #[test]
    fn the_higher_of_two_in_a_second_is_shown() {
        for values in [[(10, 5.0), (10, 2.0)], [(10, 2.0), (10, 5.0)]] {
            assert_eq!(series(&values).columns(at(10), 300)[0], Some(5.0));
        }
    }

    #[test]
    fn a_narrow_terminal_loses_no_burst() {
        let series = series(&[(60, 1.0), (61, 900.0), (62, 1.0), (63, 1.0), (64, 1.0)]);
        let columns = series.columns(at(64), 60);
        assert_eq!((columns.len(), columns[0], columns[1]), (60, Some(900.0), None));
        assert_eq!(series.peak(at(64)), Some(900.0));
    }

    #[test]
    fn a_column_keeps_its_seconds_as_time_goes_on() {
        let series = series(&[(60, 1.0), (61, 2.0), (64, 3.0)]);
        for now in 64..70 {
            let columns = series.columns(at(now), 60);
            let place = (now / 5 - 12) as usize;
            assert_eq!(columns[place], Some(3.0), "{now}");
            assert_eq!(columns.iter().flatten().count(), 1, "{now}");
        }
    }

    #[test]
    fn what_is_older_is_forgotten() {
        let mut long = Series::default();
        for second in 0..3 * SPAN {
            long.note(at(second), second as f64, REACH);
        }
        assert_eq!(long.values.len(), SPAN as usize);
        assert_eq!(long.peak(at(5 * SPAN)), None);
        long.note(at(100 * SPAN), 1.0, REACH);
        assert_eq!(long.columns(at(100 * SPAN), 300).into_iter().flatten().count(), 1);
    }
}
