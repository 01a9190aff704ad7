//! Columns under headings.

use std::fmt::{self, Write};

use super::view::{Tone, View};

/// A cell.
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub(super) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// A table with as many columns as headings.
pub(super) struct Table<const N: usize> {
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(|heading| Cell::toned(heading, Tone::Heading))] }
    }

    pub(super) fn row(&mut self, cells: [Cell; N]) {
        self.rows.push(cells);
    }

    /// Writes the rows, each column as wide as its widest cell.
    pub(super) fn write(&self, out: &mut impl Write, view: &View) -> fmt::Result {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        for row in &self.rows {
            // Nothing follows the last cell that has text, not even blanks.
            let last = row.iter().rposition(|cell| !cell.text.is_empty()).unwrap_or(0);
            for (column, cell) in row.iter().enumerate().take(last + 1) {
                out.write_str(&view.paint(cell.tone, &cell.text))?;
                if column < last {
                    let blanks = widths[column] - cell.text.chars().count() + 2;
                    write!(out, "{:blanks$}", "")?;
                }
            }
            out.write_char('\n')?;
        }
        Ok(())
    }
}
