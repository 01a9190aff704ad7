//! The whole host.

use std::time::Duration;

use ratatui::layout::Rect;

use super::canvas::Canvas;
use crate::text::Tone;
use crate::top::model::Model;
use crate::top::panes::{clients, curves};

/// Columns beside a curve for its name and numbers.
const LABEL: u16 = 22;
/// Lines of a curve.
const CURVE: u16 = 2;
/// Most lines that say whether clients connect.
const CLIENTS: u16 = 4;
/// Lines of the pane from which on curves are a line higher.
const HIGH: u16 = 32;

pub(super) fn draw(model: &Model, now: Duration, canvas: &mut Canvas<'_>, area: Rect) {
    let height = if area.height >= HIGH { CURVE + 1 } else { CURVE };
    let traffic = &model.snapshot().traffic;
    // Held curves stand still.
    let now = if model.is_held() { model.snapshot().at } else { now };
    let first = Rect { height: CLIENTS.min(area.height), ..area };
    let mut y = area.y + canvas.notes(first, &clients(model.snapshot()));
    for curve in curves() {
        let series = (curve.series)(traffic);
        let plot = Rect { x: area.x + LABEL, y, width: area.width - LABEL, height };
        let values = series.columns(now, usize::from(plot.width));
        let peak = series.peak(now);
        canvas.curve(plot, &values, peak.unwrap_or_default().max(curve.least_top), curve.tone);

        let number = |value: Option<f64>| value.map_or("-".to_owned(), curve.write);
        let label = Rect { width: LABEL - 1, height: 1, y, ..area };
        canvas.text(label.x, label.y, label.width, curve.name, Tone::Heading);
        canvas.right(label, &number(series.latest()), Tone::Plain);
        let below = Rect { y: y + 1, ..label };
        canvas.text(below.x, below.y, below.width, "  5m peak", Tone::Plain);
        canvas.right(below, &number(peak), Tone::Plain);
        y += height;
    }
    canvas.rule(Rect { y, height: 1, ..area }, "");
    let rest = Rect { y: y + 1, height: (area.bottom()).saturating_sub(y + 1), ..area };
    canvas.notes(rest, &model.notes(None));
}
