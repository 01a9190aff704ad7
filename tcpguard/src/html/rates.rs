//! Rates of a timeline as means of the same window as every other rate of an incident, so that a plot shows
//! the peak that the text names.

use crate::documents::timeline::{Point, Timeline};

/// The window, in ms.
const WINDOW_MS: u64 = 1000;

/// The timeline with each rate as the mean of the last second, and before its end of the first one. Steps of a
/// second or more stay as they are.
pub(super) fn smoothed(line: &Timeline) -> Timeline {
    let first_second = line.points.iter().position(|point| point.at_ms >= WINDOW_MS);
    let first_second = first_second.unwrap_or(line.points.len().saturating_sub(1));
    let points = line.points.iter().enumerate().map(|(last, point)| {
        let first = line.points[..last]
            .iter()
            .rposition(|earlier| earlier.at_ms + WINDOW_MS <= point.at_ms)
            .map_or(0, |before| before + 1);
        let mean = |rate: fn(&Point) -> f64| mean(line, first, last.max(first_second), rate);
        Point {
            syn_pps: mean(|point| point.syn_pps),
            completed_pps: mean(|point| point.completed_pps),
            matched_pps: mean(|point| point.matched_pps),
            dropped_pps: mean(|point| point.dropped_pps),
            cookies_sent_pps: mean(|point| point.cookies_sent_pps),
            nowhere_pps: mean(|point| point.nowhere_pps),
            unsolicited_pps: mean(|point| point.unsolicited_pps),
            ..*point
        }
    });
    Timeline { points: points.collect(), ..line.clone() }
}

/// Mean of a rate over the steps from `first` to `last`, by their lengths.
fn mean(line: &Timeline, first: usize, last: usize, rate: impl Fn(&Point) -> f64) -> f64 {
    let end = |step: usize| line.points[step].at_ms;
    let span = |step: usize| end(step).saturating_sub(step.checked_sub(1).map_or(0, end)) as f64;
    let steps = first..=last;
    let length: f64 = steps.clone().map(span).sum();
    match length > 0.0 {
        true => steps.map(|step| rate(&line.points[step]) * (span(step) / length)).sum(),
        false => rate(&line.points[last]),
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_host::time::Time;

    use super::*;

    fn line(step_ms: u64, rates: &[f64]) -> Timeline {
        let points = (1..).zip(rates).map(|(step, rate)| Point {
            at_ms: step_ms * step,
            syn_pps: *rate,
            half_open: Some(7),
            ..Point::default()
        });
        Timeline {
            id: 1,
            began: Time("2026-11-20T14:00:00Z".parse().unwrap()),
            interval_ms: step_ms as u32,
            points: points.collect(),
        }
    }

    fn rates(line: &Timeline) -> Vec<f64> {
        smoothed(line).points.iter().map(|point| point.syn_pps).collect()
    }

    #[test]
    fn a_rate_is_the_mean_of_the_last_second() {
        let line = line(250, &[0.0, 0.0, 0.0, 400.0, 400.0, 400.0, 400.0, 0.0]);
        assert_eq!(rates(&line), [100.0, 100.0, 100.0, 100.0, 200.0, 300.0, 400.0, 300.0]);
        assert!(smoothed(&line).points.iter().all(|point| point.half_open == Some(7)));
    }

    #[test]
    fn steps_of_a_second_or_more_stay_as_they_are() {
        for step in [1000, 4000] {
            assert_eq!(rates(&line(step, &[1.0, 5.0, 2.0])), [1.0, 5.0, 2.0], "{step}");
        }
        assert_eq!(rates(&line(0, &[3.0, 5.0])), [5.0, 5.0], "no length at all");
    }
}
