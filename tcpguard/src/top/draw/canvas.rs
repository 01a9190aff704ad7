//! The terminal's cells, and the ways to draw into them.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use crate::text::{Fact, Tone, View, cut, wrap};

/// Columns before the text of a fact.
const HEADING: u16 = 11;

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

    /// Draws one sign of a plot or a frame.
    pub(super) fn sign(&mut self, x: u16, y: u16, sign: char, tone: Tone) {
        let style = self.style(tone);
        if let Some(cell) = self.buffer.cell_mut((x, y)) {
            cell.set_char(sign).set_style(style);
        }
    }

    /// The lines that facts take in `width` columns: heading, text and tone.
    pub(super) fn lines(&self, facts: &[Fact], width: u16) -> Vec<(&'static str, String, Tone)> {
        let width = usize::from(width.saturating_sub(HEADING));
        let broken = facts.iter().flat_map(|fact| {
            let headings = std::iter::once(fact.heading).chain(std::iter::repeat(""));
            let lines = wrap(&self.view.encode(&fact.text), width);
            headings
                .zip(lines)
                .map(|(heading, line)| (heading, line, fact.tone))
                .collect::<Vec<_>>()
        });
        broken.collect()
    }

    /// Draws lines of facts, as many as there is room for.
    pub(super) fn facts(&mut self, area: Rect, lines: &[(&'static str, String, Tone)]) {
        let all = lines.len() <= usize::from(area.height);
        for ((heading, text, tone), row) in lines.iter().zip(area.rows()) {
            self.text(row.x, row.y, HEADING, heading, Tone::Heading);
            if all || row.y + 1 < area.bottom() {
                self.text(row.x + HEADING, row.y, row.width - HEADING, text, *tone);
            } else {
                // Truncated text must not look complete.
                self.text(row.x, row.y, HEADING, "           ", Tone::Plain);
                let more = "… more: tcpguard status";
                self.text(row.x + HEADING, row.y, row.width - HEADING, more, Tone::Heading);
            }
        }
    }

    /// Draws a line from side to side with `title` in it.
    pub(super) fn rule(&mut self, area: Rect, title: &str, tone: Tone) {
        for x in area.x..area.right() {
            self.sign(x, area.y, '─', Tone::Plain);
        }
        let title = format!(" {title} ");
        self.text(area.x + 1, area.y, area.width.saturating_sub(2), &title, tone);
    }

    /// Makes an area empty.
    pub(super) fn clear(&mut self, area: Rect) {
        for cell in area.intersection(self.buffer.area).positions() {
            self.buffer[cell].reset();
        }
    }

    /// Shows that a row is the one that is pointed at, or a pane the one that is chosen.
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
        '▁' | '▂' | '▃' => '_',
        '▄' | '▅' | '▆' | '▇' | '█' => '#',
        '▒' => '+',
        '░' => ':',
        '─' | '┄' => '-',
        '│' => '|',
        '└' | '┴' => '+',
        '…' => '~',
        _ => '?',
    }
}
