//! The plots: SYNs by their fate, and the handshakes of clients against their baseline.

use std::time::Duration;

use ratatui::layout::Rect;
use tcpguard_engine::{Event, Mode};
use tcpguard_host::time::Time;
use tcpguard_host::units::short;

use super::canvas::Canvas;
use crate::documents::{Incident, Status};
use crate::text::Tone;
use crate::top::history::{Axis, Fates, WIDEST, busiest, completed, fates, round_up};
use crate::top::model::Model;

/// Columns of the labels beside a plot.
const LABELS: u16 = 7;
/// Columns between the plots.
const GAP: u16 = 2;
/// Lines of a plot that show no values: title, axis and marks.
const FRAME: u16 = 3;
/// A plot of fewer columns has a label for every other minute.
const NARROW: u16 = 30;
/// Fills of the fates, from the bottom to the top. They differ without colours too.
const FILLS: [(char, Tone); 3] = [('█', Tone::Plain), ('▒', Tone::Good), ('░', Tone::Warning)];
/// Parts of a cell, in eighths.
const PARTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// The sign of the baseline.
const BASELINE: char = '┄';

/// Draws both plots beside each other.
pub(super) fn draw(model: &Model, now: Duration, canvas: &mut Canvas<'_>, area: Rect) {
    let left = Rect { width: (area.width - GAP) * 16 / 25, ..area };
    let right = Rect { x: left.right() + GAP, width: area.width - GAP - left.width, ..area };
    let now = model.time(now);
    syns(model, now, canvas, left);
    clients(model, now, canvas, right);
}

fn syns(model: &Model, now: Time, canvas: &mut Canvas<'_>, area: Rect) {
    let history = &model.snapshot().history;
    let last = history.last().map(fates);
    let mut x = canvas.text(area.x, area.y, area.width, "SYN/s", Tone::Heading);
    for (number, (name, (fill, tone))) in
        ["passed", "cookies", "dropped"].iter().zip(FILLS).enumerate()
    {
        let rate = last.map_or_else(|| "-".to_owned(), |last| short(last[number]));
        canvas.sign(x + 1, area.y, fill, tone);
        let width = area.right().saturating_sub(x + 3);
        x = canvas.text(x + 3, area.y, width, &format!("{name} {rate}"), Tone::Plain);
    }
    let plot = plot(area);
    let axis = Axis::new(now, plot.width);
    let columns: Vec<_> = axis.columns(history).iter().map(|seconds| busiest(seconds)).collect();
    let top = round_up(highest(&columns));
    stack(canvas, plot, &columns, top, FILLS);
    scale(canvas, plot, axis, top);
    marks(&model.snapshot().status, axis, canvas, Rect { y: plot.bottom() + 1, height: 1, ..plot });
}

fn clients(model: &Model, now: Time, canvas: &mut Canvas<'_>, area: Rect) {
    let snapshot = model.snapshot();
    let baselines = snapshot.status.listeners.iter().filter_map(|it| it.clients.baseline_pps);
    // Of all listeners, as the plot is.
    let baseline = baselines.reduce(|sum, one| sum + one);
    let plot = plot(area);
    let axis = Axis::new(now, plot.width);
    let columns: Vec<_> =
        axis.columns(&snapshot.history).iter().map(|seconds| completed(seconds)).collect();
    let rate = columns.iter().rev().flatten().next();
    let rate = rate.map_or_else(|| "-".to_owned(), |rate| short(rate[0]));
    let x = canvas.text(area.x, area.y, area.width, "Clients/s", Tone::Heading);
    let x = canvas.text(x + 1, area.y, area.right() - x - 1, &rate, Tone::Plain);
    let top = round_up(highest(&columns).max(baseline.unwrap_or_default()));
    if let Some(baseline) = baseline {
        canvas.sign(x + 2, area.y, BASELINE, Tone::Plain);
        let text = format!("baseline {}", short(baseline));
        canvas.text(x + 4, area.y, area.right().saturating_sub(x + 4), &text, Tone::Plain);
        let row = (baseline / top * f64::from(plot.height)).ceil() as u16;
        let y = plot.bottom() - row.clamp(1, plot.height);
        (plot.x..plot.right()).for_each(|x| canvas.sign(x, y, BASELINE, Tone::Plain));
    }
    stack(canvas, plot, &columns, top, [('█', Tone::Good); 3]);
    scale(canvas, plot, axis, top);
}

/// The area of a plot's values: right of the labels, at most as wide as there are columns.
fn plot(area: Rect) -> Rect {
    Rect {
        x: area.x + LABELS,
        y: area.y + 1,
        width: (area.width - LABELS).min(WIDEST),
        height: area.height - FRAME,
    }
}

fn highest(columns: &[Option<Fates>]) -> f64 {
    columns.iter().flatten().map(|fates| fates.iter().sum()).fold(0.0, f64::max)
}

/// Draws columns of stacked values; `top` fills the whole height.
fn stack(
    canvas: &mut Canvas<'_>,
    area: Rect,
    columns: &[Option<Fates>],
    top: f64,
    fills: [(char, Tone); 3],
) {
    let cell = top / f64::from(area.height);
    for (x, fates) in (area.x..area.right()).zip(columns) {
        let Some(fates) = fates else { continue };
        for (row, y) in (0..area.height).zip((area.y..area.bottom()).rev()) {
            if let Some((sign, tone)) = fill(fates, f64::from(row) * cell, cell, fills) {
                canvas.sign(x, y, sign, tone);
            }
        }
    }
}

/// The sign of a cell that begins at `from` and is `height` high.
fn fill(fates: &Fates, from: f64, height: f64, fills: [(char, Tone); 3]) -> Option<(char, Tone)> {
    let (total, middle) = (fates.iter().sum::<f64>(), from + height / 2.0);
    if total <= from {
        return None;
    }
    if total == fates[0] {
        // A value that is not 0 is seen.
        let part = ((total - from) / height * 8.0).round().clamp(1.0, 8.0);
        return Some((PARTS[part as usize - 1], fills[0].1));
    }
    let mut sum = 0.0;
    let at_middle = fates.iter().position(|fate| {
        sum += fate;
        sum > middle
    });
    match at_middle {
        Some(fate) => Some(fills[fate]),
        // Less than half a cell is seen at the foot only.
        None if from == 0.0 => {
            let most = (0..fates.len()).max_by(|a, b| fates[*a].total_cmp(&fates[*b]))?;
            Some(fills[most])
        }
        None => None,
    }
}

/// Draws the labels of both axes.
fn scale(canvas: &mut Canvas<'_>, plot: Rect, axis: Axis, top: f64) {
    let label = |y| Rect { x: plot.x - LABELS, y, width: LABELS - 2, height: 1 };
    for y in plot.y..plot.bottom() {
        canvas.sign(plot.x - 1, y, '│', Tone::Plain);
    }
    canvas.right(label(plot.y), &short(top), Tone::Plain);
    if plot.height > FRAME {
        // Labels are at the upper ends of their cells.
        let middle = plot.height / 2;
        let value = top * f64::from(plot.height - middle) / f64::from(plot.height);
        canvas.right(label(plot.y + middle), &short(value), Tone::Plain);
    }
    let foot = plot.bottom();
    canvas.right(label(foot), "0", Tone::Plain);
    canvas.sign(plot.x - 1, foot, '└', Tone::Plain);
    (plot.x..plot.right()).for_each(|x| canvas.sign(x, foot, '─', Tone::Plain));
    let step = if plot.width < NARROW { 2 } else { 1 };
    for minute in (step..=4).step_by(step.into()) {
        let x = plot.x + axis.ago(60 * minute);
        canvas.text(x.saturating_sub(1), foot, 3, &format!("-{minute}m"), Tone::Plain);
    }
    canvas.right(Rect { y: foot, height: 1, ..plot }, "now", Tone::Plain);
}

/// Draws the events of incidents below the axis.
fn marks(status: &Status, axis: Axis, canvas: &mut Canvas<'_>, area: Rect) {
    let incidents = status.past_incidents.iter().rev().chain(&status.incidents);
    let mut events: Vec<_> = incidents
        .flat_map(moments)
        .filter_map(|(at, id, name)| Some((axis.column(at)?, id, name)))
        .collect();
    events.sort_by_key(|(column, ..)| *column);
    // Events without room between them share a label, which begins at the first.
    let mut labels: Vec<Vec<(u16, u64, &str)>> = Vec::new();
    for event in events {
        match labels.last_mut() {
            Some(label) if event.0 < label[0].0 + in_words(label).chars().count() as u16 + 2 => {
                label.push(event);
            }
            _ => labels.push(vec![event]),
        }
    }
    for label in labels {
        // The newest events are shown where there is no room for all, on either side.
        let fits = |from: &usize| {
            let room = (label[*from].0 + 1).max(area.width - label[*from].0);
            in_words(&label[*from..]).chars().count() < usize::from(room)
        };
        let from = (0..label.len()).find(fits).unwrap_or(label.len() - 1);
        let (column, text) = (label[from].0, in_words(&label[from..]));
        let (x, width) = (area.x + column, text.chars().count() as u16 + 1);
        if x + width <= area.right() {
            canvas.text(x, area.y, width, &format!("▲{text}"), Tone::Plain);
        } else {
            let left = Rect { width: column + 1, ..area };
            canvas.right(left, &format!("{text}▲"), Tone::Plain);
        }
    }
}

/// Events of one label, each with the number of its incident where that is another than before.
fn in_words(events: &[(u16, u64, &str)]) -> String {
    let before = std::iter::once(None).chain(events.iter().map(|(_, id, _)| Some(*id)));
    let words =
        events.iter().zip(before).map(|((_, id, name), before)| match before == Some(*id) {
            true => (*name).to_owned(),
            false => format!("#{id} {name}"),
        });
    words.collect::<Vec<_>>().join(", ")
}

/// Start, mitigation and end of an incident, as far as there are such.
fn moments(incident: &Incident) -> impl Iterator<Item = (Time, u64, &'static str)> + use<> {
    let mitigates = |event: &Event| {
        matches!(
            event,
            Event::RuleInstalled { mode: Mode::Enforce, .. } | Event::MitigationStarted { .. }
        )
    };
    let mitigated = incident.actions.iter().find(|action| mitigates(&action.action));
    let id = incident.id;
    let all = [
        Some((incident.since, id, "start")),
        mitigated.map(|action| (action.at, id, "mitigation")),
        incident.ended_at.map(|at| (at, id, "end")),
    ];
    all.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(fates: Fates, top: f64, height: u16) -> String {
        let cell = top / f64::from(height);
        let rows = (0..height).map(|row| {
            fill(&fates, f64::from(row) * cell, cell, FILLS).map_or(' ', |(sign, _)| sign)
        });
        rows.collect()
    }

    #[test]
    fn a_stack_shows_each_fate_in_its_height_from_the_foot_up() {
        for (fates, expected) in [
            ([0.0, 0.0, 0.0], "    "),
            ([4.0, 0.0, 0.0], "████"),
            ([2.5, 0.0, 0.0], "██▄ "),
            ([0.01, 0.0, 0.0], "▁   "),
            ([1.0, 1.0, 2.0], "█▒░░"),
            ([0.01, 0.0, 3.99], "░░░░"),
            ([0.0, 0.3, 0.1], "▒   "),
            ([1.0, 0.0, 0.2], "█   "),
        ] {
            assert_eq!(column(fates, 4.0, 4), expected, "{fates:?}");
        }
    }
}
