//! A list, with notes about the selected row below it.

use std::time::Duration;

use ratatui::layout::Rect;

use super::canvas::Canvas;
use crate::text::Tone;
use crate::top::list::{Column, ListView, Row};
use crate::top::model::Model;
use crate::top::panes::Pane;

/// Lines of the curve under the list of listeners.
const CURVE: u16 = 2;

pub(super) fn draw(model: &Model, now: Duration, canvas: &mut Canvas<'_>, area: Rect) {
    let rows = model.rows();
    let place = model.list_view().place(&rows);
    let below = (area.height / 3).max(6);
    let list = Rect { height: area.height - below, ..area };
    let rest = Rect { y: list.bottom(), height: below, ..area };

    let columns = shown(model.pane().columns(), area.width);
    headings(model.list_view(), &columns, canvas, list);
    let body = Rect { y: list.y + 1, height: list.height - 1, ..list };
    if rows.is_empty() {
        let why = match model.list_view().filter.as_str() {
            "" => model.pane().empty().to_owned(),
            filter => format!("no row has {filter:?}; Esc shows all again"),
        };
        canvas.text(body.x, body.y, body.width, &why, Tone::Plain);
    }
    let first = first_shown(rows.len(), place, usize::from(body.height));
    let lines = rows.iter().enumerate().skip(first).zip(body.rows());
    for ((number, row), line) in lines {
        cells(row, &columns, canvas, line);
        if number == place {
            canvas.point_at(line);
        }
    }
    about(model, rows.get(place), now, canvas, rest);
}

/// Draws the notes about a row, and about the list as a whole.
fn about(model: &Model, row: Option<&Row>, now: Duration, canvas: &mut Canvas<'_>, area: Rect) {
    let title = row.and_then(|row| row.cells.first()).map_or("", |cell| cell.text.as_str());
    canvas.rule(area, title);
    let mut rest = Rect { y: area.y + 1, height: area.height - 1, ..area };
    let key = row.map(|row| row.key.as_str());
    if model.pane() == Pane::Listeners
        && let Some(series) = key
            .and_then(|key| key.parse().ok())
            .and_then(|id: u32| model.snapshot().listeners.get(&id))
    {
        let now = if model.is_held() { model.snapshot().at } else { now };
        let plot = Rect { height: CURVE, ..rest };
        let values = series.columns(now, usize::from(plot.width));
        canvas.curve(plot, &values, series.peak(now).unwrap_or_default().max(10.0), Tone::Plain);
        rest = Rect { y: rest.y + CURVE, height: rest.height.saturating_sub(CURVE), ..rest };
    }
    canvas.notes(rest, &model.notes(key));
}

/// The row that the list begins with, so that row `place` of `count` is on a page of `height`, in
/// its middle if possible.
fn first_shown(count: usize, place: usize, height: usize) -> usize {
    place.saturating_sub(height / 2).min(count.saturating_sub(height))
}

/// The columns that fit, each with its position among all and its width.
fn shown(columns: &[Column], width: u16) -> Vec<(usize, Column)> {
    let fitting = columns.iter().enumerate().filter(|(_, column)| column.from <= width);
    let mut shown: Vec<_> = fitting.map(|(place, column)| (place, *column)).collect();
    let used = shown.iter().map(|(_, column)| column.width + 1).sum::<u16>().saturating_sub(1);
    for (_, column) in shown.iter_mut().filter(|(_, column)| column.grows) {
        column.width += width.saturating_sub(used);
    }
    shown
}

fn headings(
    list_view: &ListView,
    columns: &[(usize, Column)],
    canvas: &mut Canvas<'_>,
    area: Rect,
) {
    let mut x = area.x;
    for (place, column) in columns {
        let mut name = column.name.to_owned();
        if *place == list_view.sort {
            let falling = column.number != list_view.reverse;
            // The sign must be seen, whatever becomes of the name.
            name.truncate(usize::from(column.width) - 1);
            name.push(if falling { '▼' } else { '▲' });
        }
        put(canvas, Rect { x, width: column.width, ..area }, column, &name, Tone::Heading);
        x += column.width + 1;
    }
}

fn cells(row: &Row, columns: &[(usize, Column)], canvas: &mut Canvas<'_>, line: Rect) {
    let mut x = line.x;
    for (place, column) in columns {
        if let Some(cell) = row.cells.get(*place) {
            put(canvas, Rect { x, width: column.width, ..line }, column, &cell.text, cell.tone);
        }
        x += column.width + 1;
    }
}

fn put(canvas: &mut Canvas<'_>, area: Rect, column: &Column, text: &str, tone: Tone) {
    if column.number {
        canvas.right(area, text, tone);
    } else {
        canvas.text(area.x, area.y, area.width, text, tone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_that_is_pointed_at_is_always_on_the_page() {
        for height in 1..12 {
            for count in 0..40 {
                for place in 0..count {
                    let first = first_shown(count, place, height);
                    assert!((first..first + height).contains(&place), "{place} of {count}");
                    assert!(first == 0 || first + height <= count, "no line is wasted");
                }
            }
        }
    }

    #[test]
    fn every_list_fits_into_80_columns_and_uses_140() {
        for pane in Pane::ALL.into_iter().filter(|pane| !pane.columns().is_empty()) {
            for width in [80, 100, 110, 120, 140] {
                let shown = shown(pane.columns(), width);
                let used = shown.iter().map(|(_, column)| column.width + 1).sum::<u16>() - 1;
                assert_eq!(used, width, "{pane:?}");
            }
        }
    }
}
