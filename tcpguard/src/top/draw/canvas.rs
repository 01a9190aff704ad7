//! The terminal's cells, and the ways to draw into them.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::widgets::{RenderDirection, Sparkline, Widget};

use crate::text::{Tone, View, cut, wrap};
use crate::top::panes::Note;

/// Columns of a note's heading.
const HEADING: u16 = 9;
/// A curve is drawn in whole numbers; so many to one.
const FINE: f64 = 1000.0;

pub(super) struct Canvas<'a> {
    buffer: &'a mut Buffer,
    view: &'a View,
}

impl<'a> Canvas<'a> {
    pub(super) fn new(buffer: &'a mut Buffer, view: &'a View) -> Self {
        Self { buffer, view }
    }

    /// Writes `text` into one line from `x` on, at most `width` columns of it, and returns the
    /// column after it. Text that does not fit ends in `…`.
    pub(super) fn text(&mut self, x: u16, y: u16, width: u16, text: &str, tone: Tone) -> u16 {
        if !self.buffer.area.contains((x, y).into()) {
            return x;
        }
        let text = self.view.encode(text);
        let text = cut(&text, usize::from(width));
        self.buffer.set_stringn(x, y, text, usize::from(width), self.style(tone)).0
    }

    /// Writes `text` so that it ends where `area`'s first line does.
    pub(super) fn right(&mut self, area: Rect, text: &str, tone: Tone) {
        let text = self.view.encode(text).into_owned();
        let width = (text.chars().count() as u16).min(area.width);
        self.text(area.right() - width, area.y, width, &text, tone);
    }

    /// Writes paragraphs beside their headings, as many as there is room for, and returns the number of
    /// lines that they take.
    pub(super) fn notes(&mut self, area: Rect, notes: &[Note]) -> u16 {
        let width = area.width.saturating_sub(HEADING);
        let mut lines = area.rows();
        let mut used = 0;
        for note in notes {
            let text = self.view.encode(&note.text).into_owned();
            for (number, line) in wrap(&text, usize::from(width)).iter().enumerate() {
                let Some(row) = lines.next() else {
                    // Truncated text must not look complete.
                    let more = "… more: tcpguard status";
                    let last = area.bottom().saturating_sub(1);
                    self.clear(Rect { y: last, height: 1, ..area });
                    self.text(area.x + HEADING, last, width, more, Tone::Heading);
                    return used;
                };
                used += 1;
                if number == 0 {
                    self.text(row.x, row.y, HEADING, note.heading, Tone::Heading);
                }
                self.text(row.x + HEADING, row.y, width, line, note.tone);
            }
        }
        used
    }

    /// Draws a curve with its newest value on the right. `top` fills the whole height. A measured
    /// value is shown as a line at least, and a missing value as a gap.
    pub(super) fn curve(&mut self, area: Rect, values: &[Option<f64>], top: f64, tone: Tone) {
        let top = (top.max(1.0 / FINE) * FINE) as u64;
        let least = top.div_ceil(u64::from(area.height.max(1)) * 8);
        let bars = values.iter().map(|value| value.map(|value| ((value * FINE) as u64).max(least)));
        Sparkline::default()
            .data(bars)
            .max(top)
            .direction(RenderDirection::RightToLeft)
            .style(self.style(tone))
            .render(area, self.buffer);
    }

    /// Draws a line from side to side with `title` in it.
    pub(super) fn rule(&mut self, area: Rect, title: &str) {
        let line = "─".repeat(usize::from(area.width));
        self.buffer.set_stringn(area.x, area.y, line, usize::from(area.width), Style::new());
        if !title.is_empty() {
            let title = format!(" {title} ");
            self.text(area.x + 2, area.y, area.width.saturating_sub(4), &title, Tone::Heading);
        }
    }

    /// Makes an area empty.
    pub(super) fn clear(&mut self, area: Rect) {
        for y in area.intersection(self.buffer.area).rows() {
            for cell in y.positions() {
                self.buffer[cell].reset();
            }
        }
    }

    /// Shows that a row is the one that is pointed at, or a word the one that is chosen.
    pub(super) fn point_at(&mut self, area: Rect) {
        self.buffer.set_style(area, Style::new().add_modifier(Modifier::REVERSED));
    }

    /// Shows that the content of the area is out of date.
    pub(super) fn fade(&mut self, area: Rect) {
        let faint = Style::new().add_modifier(Modifier::DIM);
        let faint = if self.view.colour { faint.fg(Color::DarkGray) } else { faint };
        self.buffer.set_style(area, faint);
    }

    /// Replaces every other character by an ASCII one, for terminals that show no others.
    pub(super) fn make_ascii(&mut self) {
        for cell in &mut self.buffer.content {
            if !cell.symbol().is_ascii() {
                let symbol = cell.symbol().chars().next().unwrap_or(' ');
                cell.set_char(ascii(symbol));
            }
        }
    }

    fn style(&self, tone: Tone) -> Style {
        let style = Style::new();
        let bold = style.add_modifier(Modifier::BOLD);
        match tone {
            Tone::Plain => style,
            Tone::Heading => bold,
            Tone::Bad if self.view.colour => bold.fg(Color::Red),
            Tone::Bad => bold,
            Tone::Good if self.view.colour => style.fg(Color::Green),
            Tone::Warning if self.view.colour => style.fg(Color::Yellow),
            Tone::Good | Tone::Warning => style,
        }
    }
}

/// The ASCII character that resembles it most.
const fn ascii(symbol: char) -> char {
    match symbol {
        '▁' => '.',
        '▂' => ':',
        '▃' => '-',
        '▄' => '=',
        '▅' => '+',
        '▆' => '*',
        '▇' => '%',
        '█' => '#',
        '─' => '-',
        '…' => '~',
        _ => '?',
    }
}
