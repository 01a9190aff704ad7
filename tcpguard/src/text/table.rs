//! Columns under headings.

use std::fmt::{self, Write};

use super::view::{Tone, View, wrap};

/// Blanks between two columns.
const GAP: usize = 2;
/// Fewest characters of a last column that is broken into lines.
const LAST: usize = 16;

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

/// A table with as many columns as headings. Ten thousand rows are not rare: cells are kept one behind
/// the other in one text.
pub(super) struct Table<const N: usize> {
    headings: [&'static str; N],
    text: String,
    rows: Vec<[Kept; N]>,
}

/// A cell that is kept: its length in bytes of the text, and its tone.
#[derive(Clone, Copy)]
struct Kept {
    length: u32,
    tone: Tone,
}

/// Layout of a table within a width.
struct Fit<const N: usize> {
    /// The lines of each heading.
    headings: [Vec<&'static str>; N],
    /// Characters of each column.
    widths: [usize; N],
    /// Characters of a line of the last column, where it is broken.
    last: Option<usize>,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(headings: [&'static str; N]) -> Self {
        Self { headings, text: String::new(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: [Cell; N]) {
        self.rows.push(cells.map(|Cell { text, tone }| {
            self.text.push_str(&text);
            // No cell has 4 GiB.
            Kept { length: text.len() as u32, tone }
        }));
    }

    /// Every row, as its cells.
    fn cells(&self) -> impl Iterator<Item = [(&str, Tone); N]> {
        let mut rest = self.text.as_str();
        self.rows.iter().map(move |row| {
            row.map(|Kept { length, tone }| {
                let (text, behind) = rest.split_at(length as usize);
                rest = behind;
                (text, tone)
            })
        })
    }

    /// Writes the rows, each column as wide as its widest cell.
    pub(super) fn write(&self, out: &mut impl Write, view: &View) -> fmt::Result {
        let Fit { headings, widths, last } = self.fitted(view.width);
        let height = headings.iter().map(Vec::len).max().unwrap_or_default();
        for number in 0..height {
            line(out, view, &widths, |column| {
                // Headings stand at the foot of their row.
                let lines = &headings[column];
                let line = (number + lines.len()).checked_sub(height);
                (line.and_then(|line| lines.get(line)).copied().unwrap_or_default(), Tone::Heading)
            })?;
        }
        for row in self.cells() {
            let broken = last.map(|room| wrap(row[N - 1].0, room));
            let height = broken.as_ref().map_or(1, Vec::len);
            for number in 0..height {
                line(out, view, &widths, |column| {
                    let text = match &broken {
                        Some(lines) if column == N - 1 => lines[number].as_str(),
                        _ if number == 0 => row[column].0,
                        _ => "",
                    };
                    (text, row[column].1)
                })?;
            }
        }
        Ok(())
    }

    /// Returns the layout within `width` columns. Where the rows are wider, headings that are wider than all
    /// cells below them take two lines. Where that is not enough, the last column is broken.
    fn fitted(&self, width: usize) -> Fit<N> {
        let below = self.widths_below();
        let mut headings = self.headings.map(|heading| vec![heading]);
        let mut widths = widest(&headings, below);
        if excess(&widths, width) > 0 {
            for (lines, below) in headings.iter_mut().zip(below) {
                if lines[0].chars().count() > below {
                    *lines = halves(lines[0]);
                }
            }
            widths = widest(&headings, below);
        }
        let excess = excess(&widths, width);
        let last = widths.last().filter(|_| excess > 0);
        let last = last.map(|last| last.saturating_sub(excess).max(LAST));
        Fit { headings, widths, last }
    }

    /// Characters of the widest cell of each column.
    fn widths_below(&self) -> [usize; N] {
        let mut widths = [0; N];
        for row in self.cells() {
            for (width, (text, _)) in widths.iter_mut().zip(row) {
                *width = (*width).max(text.chars().count());
            }
        }
        widths
    }
}

/// Writes one line of a row, with the cells from `cell` in their columns.
fn line<'c, const N: usize>(
    out: &mut impl Write,
    view: &View,
    widths: &[usize; N],
    cell: impl Fn(usize) -> (&'c str, Tone),
) -> fmt::Result {
    // Nothing follows the last cell that has text, not even blanks.
    let last = (0..N).rposition(|column| !cell(column).0.is_empty()).unwrap_or(0);
    for (column, width) in widths.iter().enumerate().take(last + 1) {
        let (text, tone) = cell(column);
        if !text.is_empty() {
            out.write_str(&view.paint(tone, text))?;
        }
        if column < last {
            let blanks = width - text.chars().count() + GAP;
            write!(out, "{:blanks$}", "")?;
        }
    }
    out.write_char('\n')
}

/// Widths of columns with these headings, and with cells so wide below them.
fn widest<const N: usize>(headings: &[Vec<&str>; N], below: [usize; N]) -> [usize; N] {
    let mut widths = below;
    for (width, lines) in widths.iter_mut().zip(headings) {
        let widest = lines.iter().map(|line| line.chars().count()).max();
        *width = (*width).max(widest.unwrap_or_default());
    }
    widths
}

/// Returns the excess of columns with these widths, and the gaps between them, over `width`.
fn excess<const N: usize>(widths: &[usize; N], width: usize) -> usize {
    let whole = widths.iter().sum::<usize>() + GAP * N.saturating_sub(1);
    whole.saturating_sub(width)
}

/// A heading on two lines, broken at a blank or before a slash so that the longer one is as short
/// as can be; on one where it has neither.
fn halves(heading: &str) -> Vec<&str> {
    let places = heading.match_indices([' ', '/']).map(|(at, _)| heading.split_at(at));
    let best = places.min_by_key(|(above, below)| above.len().max(below.trim_start().len()));
    match best {
        Some((above, below)) => vec![above, below.trim_start()],
        None => vec![heading],
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
        table.row(["1".into(), "it was asked for by an operator".into()]);
        table.row(["2".into(), "it had to".into()]);
        let mut text = String::new();
        let view = View { utf8: true, colour: false, zone: TimeZone::UTC, width: 22 };
        table.write(&mut text, &view).unwrap();
        let expected = "\
ID  WHY
1   it was asked for
    by an operator
2   it had to
";
        assert_eq!(text, expected);
    }
}
