//! The picture of a model.

mod canvas;
mod list;
mod overview;

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::Rect;
use tcpguard_host::units::span;

use super::keys::{self, Doing};
use super::model::{Covered, FRAME, HEIGHT, Model, WIDTH};
use super::panes::Pane;
use crate::config::mode_name;
use crate::text::{self, Tone, wrap};
use canvas::Canvas;

/// The keys that are shown at the bottom.
const KEYS: &str = "q quit  ? keys  Tab pane  / filter  s sort  r reverse  p hold  Enter details";

/// Draws `model` as it is at `now`, the time since it was made.
pub fn draw(model: &Model, now: Duration, frame: &mut Frame<'_>) {
    let area = frame.area();
    let mut canvas = Canvas::new(frame.buffer_mut(), model.view());
    let mut cursor = None;
    if area.width < WIDTH || area.height < HEIGHT {
        too_small(&mut canvas, area);
    } else {
        cursor = page(model, now, &mut canvas, area);
    }
    if !model.view().utf8 {
        canvas.make_ascii();
    }
    if let Some(cursor) = cursor {
        frame.set_cursor_position(cursor);
    }
}

fn too_small(canvas: &mut Canvas<'_>, area: Rect) {
    let text = format!(
        "tcpguard top needs {WIDTH} columns and {HEIGHT} lines; here are {} and {}. Make the terminal \
         larger, or press q and try: tcpguard status",
        area.width, area.height
    );
    for (line, row) in wrap(&text, usize::from(area.width)).iter().zip(area.rows()) {
        canvas.text(row.x, row.y, row.width, line, Tone::Plain);
    }
}

/// Draws all of it; returns where the cursor stands, if it is to be seen.
fn page(model: &Model, now: Duration, canvas: &mut Canvas<'_>, area: Rect) -> Option<(u16, u16)> {
    headline(model, canvas, Rect { height: 1, ..area });
    names(model, canvas, Rect { y: area.y + 1, height: 1, ..area });
    let mut body = Rect { y: area.y + 2, height: area.height - FRAME, ..area };
    let trouble = match model.covered() {
        // Nothing there grows old.
        Covered::Story { .. } | Covered::Help => None,
        Covered::No => model.stale(now),
    };
    if let Some(trouble) = &trouble {
        let lines = wrap(&format!("✗ {trouble}"), usize::from(area.width));
        for (line, row) in lines.iter().zip(body.rows()) {
            canvas.text(row.x, row.y, row.width, line, Tone::Bad);
        }
        let used = (lines.len() as u16).min(body.height);
        body = Rect { y: body.y + used, height: body.height - used, ..body };
    }
    match model.covered() {
        Covered::Help => help(canvas, body),
        Covered::Story { id, lines, before } => story(canvas, body, id, lines, before),
        Covered::No => {
            match model.pane() {
                Pane::Overview => overview::draw(model, now, canvas, body),
                _ => list::draw(model, now, canvas, body),
            }
            if trouble.is_some() {
                canvas.fade(body);
            }
        }
    }
    bottom(model, canvas, Rect { y: area.bottom() - 1, height: 1, ..area })
}

fn headline(model: &Model, canvas: &mut Canvas<'_>, area: Rect) {
    let status = &model.snapshot().status;
    let daemon = &status.daemon;
    let (sign, words, tone) = text::headline(status);
    let time = model.view().time(status.generated_at);
    let right = if model.is_held() { format!("HELD at {time}") } else { time };
    let left = area.width - right.chars().count() as u16 - 1;
    let mut x = canvas.text(area.x, area.y, left, &format!("{sign} {words}"), tone);
    let rest = format!(
        "  {}  mode {}  up {}",
        daemon.hostname,
        mode_name(daemon.mode),
        span(Duration::from_secs(daemon.uptime_s))
    );
    x = canvas.text(x, area.y, left.saturating_sub(x), &rest, Tone::Plain);
    if x < left {
        canvas.right(area, &right, if model.is_held() { Tone::Warning } else { Tone::Plain });
    }
}

/// The names of the panes with the number of their rows.
fn names(model: &Model, canvas: &mut Canvas<'_>, area: Rect) {
    let mut x = area.x;
    for (number, pane) in (1..).zip(Pane::ALL) {
        let count =
            pane.count(model.snapshot()).map_or_else(String::new, |count| format!(" {count}"));
        let name = format!(" {number} {}{count} ", pane.title());
        let begin = x;
        let tone = if pane == model.pane() { Tone::Heading } else { Tone::Plain };
        x = canvas.text(x, area.y, area.right() - x, &name, tone);
        if pane == model.pane() {
            canvas.point_at(Rect { x: begin, width: x - begin, ..area });
        }
    }
}

fn help(canvas: &mut Canvas<'_>, area: Rect) {
    /// Columns of a key's name.
    const KEY: u16 = 20;
    canvas.rule(area, "Keys");
    for ((key, does), row) in keys::HELP.into_iter().zip(area.rows().skip(1)) {
        canvas.text(row.x + 2, row.y, KEY - 1, key, Tone::Heading);
        canvas.text(row.x + 2 + KEY, row.y, row.width - KEY - 2, does, Tone::Plain);
    }
}

fn story(canvas: &mut Canvas<'_>, area: Rect, id: u64, lines: &[String], before: usize) {
    let height = usize::from(area.height) - 1;
    let rest = lines.len().saturating_sub(height);
    let place = match (before, rest) {
        (0, 0) => String::new(),
        (0, rest) => format!(", {rest} more lines below"),
        (before, 0) => format!(", {before} more lines above"),
        (before, rest) => format!(", {before} lines above, {rest} below"),
    };
    canvas.rule(area, &format!("Incident #{id}{place}"));
    for (line, row) in lines.iter().zip(area.rows().skip(1)) {
        canvas.text(row.x, row.y, row.width, line, Tone::Plain);
    }
}

/// The last line: the keys, or the filter that is typed or holds.
fn bottom(model: &Model, canvas: &mut Canvas<'_>, area: Rect) -> Option<(u16, u16)> {
    let filter = &model.list_view().filter;
    match model.doing() {
        Doing::Typing => {
            let x = canvas.text(area.x, area.y, area.width - 1, &format!("/{filter}"), Tone::Plain);
            return Some((x, area.y));
        }
        Doing::Reading => {
            let keys = "Esc or q back  down, up, PageDown, PageUp, Home, End move";
            canvas.text(area.x, area.y, area.width, keys, Tone::Plain);
        }
        Doing::Looking if filter.is_empty() => {
            canvas.text(area.x, area.y, area.width, KEYS, Tone::Plain);
        }
        Doing::Looking => {
            let (rows, all) = (model.rows().len(), model.pane().count(model.snapshot()));
            let text = format!(
                "only rows with {filter:?}: {rows} of {}  / change it  Esc show all  q quit  ? keys",
                all.unwrap_or_default()
            );
            canvas.text(area.x, area.y, area.width, &text, Tone::Warning);
        }
    }
    None
}
