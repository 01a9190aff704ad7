//! Plots of the counters of an incident over time.

use std::time::Duration;

use tcpguard_engine::Scope;
use tcpguard_host::time::Time;
use tcpguard_host::units::short;

use super::plot::{Panel, Series};
use crate::documents::timeline::{Point, Timeline};
use crate::documents::{FullIncident, Incident};

/// A moment of a line, in ms after its beginning.
pub(super) fn moment(line: &Timeline, at_ms: u64) -> Time {
    line.began.0.checked_add(Duration::from_millis(at_ms)).map_or(line.began, Time)
}

/// Returns the position of `time`, in s after the line's beginning; less than 0 before it.
pub(super) fn place(line: &Timeline, time: Time) -> f64 {
    time.0.duration_since(line.began.0).as_secs_f64()
}

/// The plots of an attack: clients first.
pub(super) fn panels(full: &FullIncident, line: &Timeline) -> Vec<Panel> {
    let attack = &full.incident;
    let panels = match attack.class.facts().scope {
        Scope::Replies => vec![answers(attack, line)],
        Scope::ClosedPorts => vec![nowhere(attack, line)],
        // Frames that cannot be read are not counted over time.
        Scope::UnreadableFrames => Vec::new(),
        Scope::Handshakes | Scope::Clients => vec![handshakes(full, line), syns(attack, line)],
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
fn syns(attack: &Incident, line: &Timeline) -> Panel {
    let would = |point: &Point| (point.matched_pps - point.dropped_pps).max(0.0);
    let stopped = |point: &Point| point.dropped_pps + point.cookies_sent_pps;
    let to_host = |point: &Point| (point.syn_pps - stopped(point) - would(point)).max(0.0);
    let areas = vec![
        series(line, "passed to the host", "passed", |point| Some(to_host(point))),
        series(line, "passed, but matched by rules", "would", |point| Some(would(point))),
        series(line, "answered with cookies", "cookies", |point| Some(point.cookies_sent_pps)),
        series(line, "dropped", "dropped", |point| Some(point.dropped_pps)),
    ];
    let areas = areas.into_iter().filter(Series::shows).collect();
    Panel { title: "SYNs per second", says: peak(attack), areas, ..Panel::default() }
}

/// Completed handshakes, beside their baseline.
fn handshakes(full: &FullIncident, line: &Timeline) -> Panel {
    let lines = vec![series(line, "completed", "completed", |point| Some(point.completed_pps))];
    let attack = &full.incident;
    let known = attack.clients.and_then(|clients| clients.baseline_pps);
    // An incident at a listener without a baseline has only the seconds before it to be compared with.
    let before = full.record.before.as_ref().map(|before| before.completed_pps);
    let level = known
        .map(|rate| (rate, format!("baseline {}/s", short(rate))))
        .or_else(|| before.map(|rate| (rate, format!("before: {}/s", short(rate)))));
    let levels = level.filter(|(rate, _)| *rate > 0.0);
    let total = short(attack.counts.completed as f64);
    let says = match attack.clients {
        Some(clients) => {
            let rate = short(clients.completed_pps);
            let window = if attack.ended_at.is_some() { "mean" } else { "last 8s" };
            let least = short(least_during(attack, line));
            format!("{rate}/s ({window}), lowest {least}/s (mean of 1s), total {total}")
        }
        None => format!("total {total}"),
    };
    Panel {
        title: "Clients: completed handshakes per second",
        says,
        lines,
        levels: levels.into_iter().collect(),
        ..Panel::default()
    }
}

/// The lowest rate of completed handshakes during the incident; 0 where none was recorded.
fn least_during(attack: &Incident, line: &Timeline) -> f64 {
    let ended = attack.ended_at.map_or(f64::INFINITY, |ended| place(line, ended));
    let during = place(line, attack.since)..=ended;
    let points = line.points.iter().filter(|it| during.contains(&(it.at_ms as f64 / 1000.0)));
    points.map(|point| point.completed_pps).reduce(f64::min).unwrap_or_default()
}

/// The listener's queues against their limit; nothing where they could not be read.
pub(super) fn queues(line: &Timeline) -> Panel {
    let lines = [
        series(line, "half-open handshakes", "half-open", |point| point.half_open.map(f64::from)),
        series(line, "connections in the accept queue", "accept", |point| {
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
    let of = limit.map_or_else(String::new, |limit| format!(", capacity {limit} each"));
    let levels = limit.map(|limit| (f64::from(limit), format!("capacity {limit}")));
    Panel {
        title: "SYN queue and accept queue",
        says: format!("peak {says}{of}"),
        lines,
        levels: levels.into_iter().collect(),
        ..Panel::default()
    }
}

fn nowhere(attack: &Incident, line: &Timeline) -> Panel {
    let areas = vec![series(line, "SYNs", "passed", |point| Some(point.nowhere_pps))];
    let title = "SYNs to closed ports per second";
    Panel { title, says: peak(attack), areas, ..Panel::default() }
}

fn answers(attack: &Incident, line: &Timeline) -> Panel {
    let areas = vec![series(line, "replies", "passed", |point| Some(point.unsolicited_pps))];
    let title = "Unsolicited replies per second";
    Panel { title, says: peak(attack), areas, ..Panel::default() }
}

/// The peak, with its window.
fn peak(attack: &Incident) -> String {
    let baseline = attack
        .baseline_pps
        .map_or_else(String::new, |rate| format!(", baseline {}/s", short(rate)));
    format!("peak {}/s (mean of 1s){baseline}", short(attack.peak_syn_pps))
}
