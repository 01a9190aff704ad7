//! The lists below the plots.

use ratatui::layout::Rect;
use tcpguard_engine::Mode;

use super::canvas::Canvas;
use crate::text::Tone;
use crate::top::model::Model;
use crate::top::panes::{Column, Pane};

/// Lowest pane: title, headings and rows.
const LOWEST: u16 = 5;
/// Narrowest area in which two panes stand beside each other.
const TWO: u16 = 160;
/// Columns between panes.
const GAP: u16 = 2;

/// Draws as many panes as there is room for, among them the one that the keys are about.
pub(super) fn draw(model: &Model, canvas: &mut Canvas<'_>, area: Rect) {
    let beside = if area.width >= TWO { 2 } else { 1 };
    let below: u16 = match area.height / LOWEST {
        0 | 1 => 1,
        2 | 3 => 2,
        _ => 4 / beside,
    };
    let shown = usize::from((beside * below).min(4));
    let first = model.focus().place() / shown * shown;
    let panes = &Pane::ALL[first..first + shown];
    let (width, height) = ((area.width - (beside - 1) * GAP) / beside, area.height / below);
    for (number, pane) in (0..).zip(panes) {
        let (column, row) = (number % beside, number / beside);
        let y = area.y + row * height;
        let height = if row + 1 == below { area.bottom() - y } else { height };
        let place = Rect { x: area.x + column * (width + GAP), y, width, height };
        one(model, *pane, canvas, place);
        if number == 0 {
            others(model, panes, canvas, place);
        }
    }
}

/// The number, the name and the rows of a pane.
fn name(model: &Model, pane: Pane) -> String {
    let rows = pane.count(&model.snapshot().status);
    format!("{} {} {rows}", pane.place() + 1, pane.title())
}

/// Draws the names of the panes that are not `shown`, at the right of a title.
fn others(model: &Model, shown: &[Pane], canvas: &mut Canvas<'_>, area: Rect) {
    let hidden = Pane::ALL.iter().filter(|pane| !shown.contains(pane));
    let names: Vec<_> = hidden.map(|pane| name(model, *pane)).collect();
    if !names.is_empty() {
        canvas.right(
            Rect { width: area.width - 1, ..area },
            &format!(" {} ", names.join("  ")),
            Tone::Plain,
        );
    }
}

fn one(model: &Model, pane: Pane, canvas: &mut Canvas<'_>, area: Rect) {
    let list_view = model.list_view(pane);
    let rows = model.rows(pane);
    let focused = pane == model.focus();
    let mut title = name(model, pane);
    if !list_view.filter.is_empty() {
        title = format!("{title}, {} with {:?}", rows.len(), list_view.filter);
    }
    canvas.rule(area, &title, if focused { Tone::Heading } else { Tone::Plain });
    if focused {
        let width = (title.chars().count() as u16 + 2).min(area.width - 2);
        canvas.point_at(Rect { x: area.x + 1, width, height: 1, ..area });
    }
    let columns = fitted(pane, model.snapshot().status.daemon.mode, area.width);
    let line = Rect { y: area.y + 1, height: 1, ..area };
    cells(canvas, line, &columns, |column| (columns[column].1.name, Tone::Heading));

    let body = Rect { y: area.y + 2, height: area.height.saturating_sub(2), ..area };
    if rows.is_empty() {
        let why = match list_view.filter.as_str() {
            "" => pane.empty().to_owned(),
            filter => format!("no row has {filter:?}; Esc shows all again"),
        };
        canvas.text(body.x, body.y, body.width, &why, Tone::Plain);
    }
    let place = list_view.place(&rows);
    let first = first_shown(rows.len(), place, usize::from(body.height));
    for ((number, row), line) in rows.iter().enumerate().skip(first).zip(body.rows()) {
        cells(canvas, line, &columns, |column| {
            let (text, tone) = &row.cells[columns[column].0];
            (text.as_str(), *tone)
        });
        if focused && number == place {
            canvas.point_at(line);
        }
    }
}

/// The columns that fit, each with its position among all. One column of words takes the rest of the line.
fn fitted(pane: Pane, mode: Mode, width: u16) -> Vec<(usize, Column)> {
    let all = pane.columns(mode).into_iter().enumerate();
    let mut columns: Vec<_> = all.filter(|(_, column)| column.from <= width).collect();
    let used = columns.iter().map(|(_, column)| column.width + 1).sum::<u16>().saturating_sub(1);
    let growing = match pane {
        Pane::Listeners => columns.first_mut(),
        _ => columns.last_mut(),
    };
    if let Some((_, column)) = growing {
        column.width += width.saturating_sub(used);
    }
    columns
}

/// Draws the cells of a line, each as `cell` gives it.
fn cells<'t>(
    canvas: &mut Canvas<'_>,
    line: Rect,
    columns: &[(usize, Column)],
    cell: impl Fn(usize) -> (&'t str, Tone),
) {
    let mut x = line.x;
    for (number, (_, column)) in columns.iter().enumerate() {
        let (text, tone) = cell(number);
        let place = Rect { x, width: column.width, ..line };
        if column.right {
            canvas.right(place, text, tone);
        } else {
            canvas.text(place.x, place.y, place.width, text, tone);
        }
        x += column.width + 1;
    }
}

/// The row that the list begins with, so that row `place` of `count` is on a page of `height`, in
/// its middle if possible.
fn first_shown(count: usize, place: usize, height: usize) -> usize {
    place.saturating_sub(height / 2).min(count.saturating_sub(height))
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
    fn every_list_fits_into_80_columns() {
        for pane in Pane::ALL {
            for width in [80, 96, 100, 160] {
                let columns = fitted(pane, Mode::Enforce, width);
                let used = columns.iter().map(|(_, column)| column.width + 1).sum::<u16>() - 1;
                assert_eq!(used, width, "{pane:?}");
            }
        }
    }
}
