//! Plots of the counters of an incident over time.

use std::time::Duration;

use tcpguard_engine::IncidentClass;
use tcpguard_host::time::Time;
use tcpguard_host::units::short;

use super::plot::{Panel, Series};
use super::times::Times;
use crate::documents::FullIncident;
use crate::documents::timeline::{Point, Timeline};

/// A moment of a line, in ms after its beginning.
pub(super) fn moment(line: &Timeline, at_ms: u64) -> Time {
    line.began.0.checked_add(Duration::from_millis(at_ms)).map_or(line.began, Time)
}

/// Returns the position of `time`, in s after the line's beginning; less than 0 before it.
pub(super) fn place(line: &Timeline, time: Time) -> f64 {
    time.0.duration_since(line.began.0).as_secs_f64()
}

/// The plots of an attack.
pub(super) fn panels(full: &FullIncident, line: &Timeline, times: &Times) -> Vec<Panel> {
    let attack = &full.incident;
    let panels = match attack.class {
        IncidentClass::Reflection => vec![answers(line, times)],
        IncidentClass::Scan | IncidentClass::ClosedPorts => vec![nowhere(line, times)],
        // Frames that cannot be read are not counted over time.
        IncidentClass::Evasion => Vec::new(),
        _ => vec![syns(line, times), handshakes(full, line), queues(line)],
    };
    panels.into_iter().filter(|panel| !(panel.areas.is_empty() && panel.lines.is_empty())).collect()
}

fn series(
    line: &Timeline,
    name: &'static str,
    class: &'static str,
    value: impl Fn(&Point) -> Option<f64>,
) -> Series {
    Series { name, class, values: line.points.iter().map(value).collect() }
}

/// SYNs by their treatment, stacked. The sum is all that arrived.
fn syns(line: &Timeline, times: &Times) -> Panel {
    let would = |point: &Point| (point.matched_pps - point.dropped_pps).max(0.0);
    let stopped = |point: &Point| point.dropped_pps + point.cookies_pps;
    let to_host = |point: &Point| (point.syn_pps - stopped(point) - would(point)).max(0.0);
    let areas = vec![
        series(line, "left to the host", "passed", |point| Some(to_host(point))),
        series(line, "left to it, but matched by rules (observe mode)", "would", |point| {
            Some(would(point))
        }),
        series(line, "answered with cookies", "cookies", |point| Some(point.cookies_pps)),
        series(line, "dropped", "dropped", |point| Some(point.dropped_pps)),
    ];
    let areas = areas.into_iter().filter(Series::shows).collect();
    let says = most(line, times, |point| point.syn_pps);
    Panel { title: "SYNs per second, and what became of them", says, areas, ..Panel::default() }
}

/// Completed handshakes, beside their rate before the incident.
fn handshakes(full: &FullIncident, line: &Timeline) -> Panel {
    let lines = vec![series(line, "completed", "completed", |point| Some(point.completed_pps))];
    let before = full.record.before.as_ref().map(|before| before.completed_pps);
    let levels = before.filter(|before| *before > 0.0);
    let levels = levels.map(|before| (before, format!("{} before it began", short(before))));
    let attack = &full.incident;
    let ended = attack.ended_at.map_or(f64::INFINITY, |ended| place(line, ended));
    let during = place(line, attack.since)..=ended;
    let completed: Vec<f64> = line
        .points
        .iter()
        .filter(|point| during.contains(&(point.at_ms as f64 / 1000.0)))
        .map(|point| point.completed_pps)
        .collect();
    let least = completed.iter().copied().fold(f64::INFINITY, f64::min);
    let most = completed.iter().copied().fold(0.0, f64::max);
    let says = match completed.is_empty() {
        true => "Clients that got in.".to_owned(),
        false if most <= 0.0 => "No client got in meanwhile.".to_owned(),
        false => format!(
            "Between {} and {} clients a second got in meanwhile.",
            short(least),
            short(most)
        ),
    };
    Panel {
        title: "Handshakes completed per second",
        says,
        lines,
        levels: levels.into_iter().collect(),
        ..Panel::default()
    }
}

/// The listener's queues against their limit; nothing where they could not be read.
fn queues(line: &Timeline) -> Panel {
    let lines = [
        series(line, "half-open handshakes", "half-open", |point| point.half_open.map(f64::from)),
        series(line, "connections waiting for the application", "accept", |point| {
            point.accept_queue.map(f64::from)
        }),
    ];
    let lines: Vec<Series> =
        lines.into_iter().filter(|line| line.values.iter().any(Option::is_some)).collect();
    if lines.is_empty() {
        return Panel::default();
    }
    let limit = line.points.iter().filter_map(|point| point.queue_limit).max();
    let says = lines.iter().map(|line| format!("{} {}", line.greatest(), line.name));
    let says = says.collect::<Vec<_>>().join(" and ");
    let of = limit.map_or_else(String::new, |limit| format!("; there is room for {limit} of each"));
    let levels = limit.map(|limit| (f64::from(limit), format!("room for {limit}")));
    Panel {
        title: "Places taken in the listener's queues",
        says: format!("At most {says}{of}."),
        lines,
        levels: levels.into_iter().collect(),
        ..Panel::default()
    }
}

fn nowhere(line: &Timeline, times: &Times) -> Panel {
    let areas = vec![series(line, "SYNs", "passed", |point| Some(point.nowhere_pps))];
    let says = most(line, times, |point| point.nowhere_pps);
    Panel { title: "SYNs per second to where nothing listens", says, areas, ..Panel::default() }
}

fn answers(line: &Timeline, times: &Times) -> Panel {
    let areas = vec![series(line, "answers", "passed", |point| Some(point.unsolicited_pps))];
    let says = most(line, times, |point| point.unsolicited_pps);
    Panel {
        title: "Answers per second to SYNs that this host never sent",
        says,
        areas,
        ..Panel::default()
    }
}

/// Returns the greatest value and its time, as a sentence.
fn most(line: &Timeline, times: &Times, value: impl Fn(&Point) -> f64) -> String {
    let greatest = line.points.iter().max_by(|one, other| value(one).total_cmp(&value(other)));
    greatest.map_or_else(String::new, |point| {
        let at = times.show(moment(line, point.at_ms));
        format!("At most {} a second, at {at}.", short(value(point)))
    })
}
