//! The printed output: blocks of rows with a note that explains the measurement.

use serde::{Deserialize, Serialize};

use crate::targets::Finding;

/// Longest line printed, in characters.
pub const WIDTH: usize = 120;

/// The cells of one row, in the order of the columns.
pub type Row = Vec<String>;

/// One table, and its findings about the targets.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Block {
    /// Heading; it names the block in the golden file, so it is unique there.
    pub title: String,
    /// Explanation of the measurement, in sentences. A blank line separates paragraphs.
    pub note: String,
    /// Headings of the columns.
    pub columns: Vec<String>,
    /// The rows, each with as many cells as there are columns.
    pub rows: Vec<Row>,
    /// The numbers that a target speaks of.
    pub findings: Vec<Finding>,
}

impl Block {
    /// A block without rows.
    pub fn new(title: &str, note: &str, columns: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            note: note.to_owned(),
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            ..Self::default()
        }
    }

    pub fn row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        let row: Row = cells.into_iter().map(Into::into).collect();
        assert_eq!(row.len(), self.columns.len(), "{row:?}");
        self.rows.push(row);
    }

    /// Markdown that reads well in a terminal too: a heading, the table with its columns aligned, the
    /// note wrapped at [`WIDTH`].
    pub fn render(&self) -> String {
        let mut lines = vec![format!("## {}", self.title), String::new()];
        if !self.rows.is_empty() {
            lines.extend(self.table());
            lines.push(String::new());
        }
        for paragraph in self.note.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
            lines.extend(wrap(paragraph));
            lines.push(String::new());
        }
        lines.join("\n")
    }

    fn table(&self) -> Vec<String> {
        let cells = |column: usize| self.rows.iter().filter_map(move |row| row.get(column));
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| {
                let widest = cells(column).map(|cell| cell.chars().count()).max().unwrap_or(0);
                widest.max(self.columns[column].chars().count()).max(2)
            })
            .collect();
        let numbers: Vec<bool> = (0..self.columns.len())
            .map(|column| cells(column).all(|cell| is_number(cell)))
            .collect();
        let line = |row: &Row| {
            let cells = row.iter().zip(&widths).zip(&numbers);
            let cells: Vec<String> = cells
                .map(|((cell, width), number)| match number {
                    true => format!("{cell:>width$}"),
                    false => format!("{cell:<width$}"),
                })
                .collect();
            format!("| {} |", cells.join(" | "))
        };
        let rule = widths.iter().zip(&numbers).map(|(width, number)| match number {
            true => format!("{}:", "-".repeat(width - 1)),
            false => "-".repeat(*width),
        });
        let rule = format!("| {} |", rule.collect::<Vec<_>>().join(" | "));
        [line(&self.columns), rule].into_iter().chain(self.rows.iter().map(line)).collect()
    }
}

/// Returns whether a cell stands right in its column: a number, with whatever unit, or none.
fn is_number(cell: &str) -> bool {
    cell.is_empty()
        || cell.starts_with(|first: char| first.is_ascii_digit() || "<>≤≥–-".contains(first))
}

/// The words of a paragraph in lines of at most [`WIDTH`] characters.
fn wrap(paragraph: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in paragraph.split_whitespace() {
        let line = lines.last_mut().expect("one at least");
        let length = line.chars().count() + 1 + word.chars().count();
        if line.is_empty() {
            line.push_str(word);
        } else if length <= WIDTH {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// Seconds with two digits behind the point, or `–` for none.
pub fn seconds(value: Option<f64>) -> String {
    value.map_or_else(none, |value| format!("{value:.2}"))
}

/// A share in per cent, with one digit behind the point, or `–` for none.
pub fn percent(share: Option<f64>) -> String {
    share.map_or_else(none, |share| format!("{:.1} %", share * 100.0))
}

/// A rate in words: `200`, `1 k`, `1 M`.
pub fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate >= 1e6 => format!("{} M", rate / 1e6),
        rate if rate >= 1e3 => format!("{} k", rate / 1e3),
        rate => format!("{rate}"),
    }
}

/// Text of a cell without a number.
pub fn none() -> String {
    "–".to_owned()
}
