//! Columns under headings.

use std::fmt::{self, Write};

use super::view::{Tone, View, wrap};

/// Blanks between two columns.
const GAP: usize = 2;
/// Fewest characters of a last column that is broken into lines.
const LAST: usize = 16;

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

/// The lines of each cell of a row.
type Lines<const N: usize> = [Vec<String>; N];

impl<const N: usize> Table<N> {
    pub(super) fn new(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(|heading| Cell::toned(heading, Tone::Heading))] }
    }

    pub(super) fn row(&mut self, cells: [Cell; N]) {
        self.rows.push(cells);
    }

    /// Writes the rows, each column as wide as its widest cell.
    pub(super) fn write(&self, out: &mut impl Write, view: &View) -> fmt::Result {
        let rows = self.fitted(view.width);
        let widths = widths(&rows);
        for (number, (row, cells)) in rows.iter().zip(&self.rows).enumerate() {
            let height = row.iter().map(Vec::len).max().unwrap_or_default();
            for line in 0..height {
                // Headings stand at the foot of their row, other cells at its head.
                let text = |column: usize| {
                    let above = if number == 0 { height - row[column].len() } else { 0 };
                    let line = line.checked_sub(above).and_then(|line| row[column].get(line));
                    line.map_or("", String::as_str)
                };
                // Nothing follows the last cell that has text, not even blanks.
                let last = (0..N).rposition(|column| !text(column).is_empty()).unwrap_or(0);
                for (column, cell) in cells.iter().enumerate().take(last + 1) {
                    let text = text(column);
                    if !text.is_empty() {
                        out.write_str(&view.paint(cell.tone, text))?;
                    }
                    if column < last {
                        let blanks = widths[column] - text.chars().count() + GAP;
                        write!(out, "{:blanks$}", "")?;
                    }
                }
                out.write_char('\n')?;
            }
        }
        Ok(())
    }

    /// The rows within `width` columns. Where they are wider, headings that are wider than what
    /// stands below them take two lines; where that is not enough, the last column is broken.
    fn fitted(&self, width: usize) -> Vec<Lines<N>> {
        let whole = |row: &[Cell; N]| row.each_ref().map(|cell| vec![cell.text.clone()]);
        let mut rows: Vec<Lines<N>> = self.rows.iter().map(whole).collect();
        if excess(&rows, width) > 0 {
            let below = widths(&rows[1..]);
            for (heading, below) in rows[0].iter_mut().zip(below) {
                if heading[0].chars().count() > below {
                    *heading = halves(&heading[0]);
                }
            }
        }
        let excess = excess(&rows, width);
        if excess > 0
            && let Some(last) = widths(&rows).last()
        {
            let room = last.saturating_sub(excess).max(LAST);
            for cell in rows[1..].iter_mut().filter_map(|row| row.last_mut()) {
                *cell = wrap(&cell[0], room);
            }
        }
        rows
    }
}

fn widths<const N: usize>(rows: &[Lines<N>]) -> [usize; N] {
    let mut widths = [0; N];
    for row in rows {
        for (width, lines) in widths.iter_mut().zip(row) {
            let widest = lines.iter().map(|line| line.chars().count()).max();
            *width = (*width).max(widest.unwrap_or_default());
        }
    }
    widths
}

/// By how much the rows are wider than `width`.
fn excess<const N: usize>(rows: &[Lines<N>], width: usize) -> usize {
    let whole = widths(rows).iter().sum::<usize>() + GAP * N.saturating_sub(1);
    whole.saturating_sub(width)
}

/// A heading on two lines, broken at a blank or before a slash so that the longer one is as short
/// as can be; on one where it has neither.
fn halves(heading: &str) -> Vec<String> {
    let places = heading.match_indices([' ', '/']).map(|(at, _)| heading.split_at(at));
    let best = places.min_by_key(|(above, below)| above.len().max(below.trim_start().len()));
    match best {
        Some((above, below)) => vec![above.to_owned(), below.trim_start().to_owned()],
        None => vec![heading.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn written(width: usize) -> String {
        let mut table = Table::new(["NAME", "HALF-OPEN/LIMIT", "HANDSHAKES OK", "WHY"]);
        table.row(["a".into(), "1 / 128".into(), "99 %".into(), "all is well here".into()]);
        table.row(["bb".into(), "20 / 128".into(), "".into(), "".into()]);
        let view = View { utf8: true, colour: false, zone: TimeZone::UTC, width };
        let mut text = String::new();
        table.write(&mut text, &view).unwrap();
        text
    }

    #[test]
    fn a_table_that_fits_has_a_line_a_row() {
        let expected = "\
NAME  HALF-OPEN/LIMIT  HANDSHAKES OK  WHY
a     1 / 128          99 %           all is well here
bb    20 / 128
";
        assert_eq!(written(100), expected);
        assert_eq!(written(54), expected);
    }

    #[test]
    fn where_it_is_narrow_headings_break_before_cells() {
        let expected = concat!(
            "      HALF-OPEN  HANDSHAKES\n",
            "NAME  /LIMIT     OK          WHY\n",
            "a     1 / 128    99 %        all is well here\n",
            "bb    20 / 128\n",
        );
        assert_eq!(written(53), expected);
        assert_eq!(written(45), expected);
    }

    #[test]
    fn where_it_is_narrower_still_the_last_column_breaks() {
        let mut table = Table::new(["ID", "WHY"]);
        table.row(["1".into(), "it was asked for by somebody".into()]);
        table.row(["2".into(), "it had to".into()]);
        let mut text = String::new();
        let view = View { utf8: true, colour: false, zone: TimeZone::UTC, width: 22 };
        table.write(&mut text, &view).unwrap();
        let expected = "\
ID  WHY
1   it was asked for
    by somebody
2   it had to
";
        assert_eq!(text, expected);
    }
}
