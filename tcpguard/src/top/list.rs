//! Lists that can be sorted, searched and walked through.

use std::cmp::Ordering;

use crate::text::Tone;

/// A column of a list.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    /// Columns of the terminal.
    pub width: u16,
    /// True if it also takes the remaining width of the line.
    pub grows: bool,
    /// True if it holds numbers: on its right side, the largest first.
    pub number: bool,
    /// Narrowest terminal on which the column is shown, in columns.
    pub from: u16,
}

impl Column {
    /// A column of words, in alphabetical order.
    pub const fn text(name: &'static str, width: u16) -> Self {
        Self { name, width, grows: false, number: false, from: 0 }
    }

    /// A column of numbers, the largest first.
    pub const fn number(name: &'static str, width: u16) -> Self {
        Self { name, width, grows: false, number: true, from: 0 }
    }

    /// The same where the terminal has at least `width` columns.
    pub const fn from(self, width: u16) -> Self {
        Self { from: width, ..self }
    }

    /// The same, but it takes the remaining width of the line.
    pub const fn growing(self) -> Self {
        Self { grows: true, ..self }
    }
}

#[derive(Clone, Debug)]
pub struct Row {
    /// Identity of the row, the same in every picture.
    pub key: String,
    /// A cell for each column.
    pub cells: Vec<Cell>,
}

#[derive(Clone, Debug)]
pub struct Cell {
    pub text: String,
    pub rank: Rank,
    /// The meaning of its colour.
    pub tone: Tone,
}

/// The sort key of a cell.
#[derive(Clone, Debug)]
pub enum Rank {
    /// Not known: smaller than anything else.
    Unknown,
    Number(f64),
    Text(String),
}

impl Cell {
    pub fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { rank: Rank::Text(text.to_lowercase()), text, tone: Tone::Plain }
    }

    /// A number as `write` writes it; `-` where it is not known.
    pub fn number(value: Option<f64>, write: impl FnOnce(f64) -> String) -> Self {
        match value {
            Some(value) => {
                Self { text: write(value), rank: Rank::Number(value), tone: Tone::Plain }
            }
            None => Self { text: "-".to_owned(), rank: Rank::Unknown, tone: Tone::Plain },
        }
    }

    /// The same in another tone.
    pub fn toned(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }

    /// The same, sorted by a number.
    pub fn ranked(self, rank: f64) -> Self {
        Self { rank: Rank::Number(rank), ..self }
    }
}

impl Rank {
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            _ => self.kind().cmp(&other.kind()),
        }
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Number(_) => 1,
            Self::Text(_) => 2,
        }
    }
}

/// Sort order, filter and selection of a list.
#[derive(Clone, Debug, Default)]
pub struct ListView {
    /// The column it is sorted by.
    pub sort: usize,
    /// True if the sort order is reversed.
    pub reverse: bool,
    /// Only rows with this in one of their cells are shown; upper and lower case are the same.
    pub filter: String,
    /// Key of the selected row; `None` selects the first row.
    pub selected: Option<String>,
}

impl ListView {
    /// Returns the `rows` that match the filter, sorted. Rows of equal rank keep their order.
    pub fn arrange(&self, mut rows: Vec<Row>, columns: &[Column]) -> Vec<Row> {
        let wanted = self.filter.to_lowercase();
        rows.retain(|row| row.cells.iter().any(|cell| cell.text.to_lowercase().contains(&wanted)));
        let falling = columns.get(self.sort).is_some_and(|column| column.number) != self.reverse;
        rows.sort_by(|a, b| {
            let (Some(a), Some(b)) = (a.cells.get(self.sort), b.cells.get(self.sort)) else {
                return Ordering::Equal;
            };
            let order = a.rank.compare(&b.rank);
            if falling { order.reverse() } else { order }
        });
        rows
    }

    /// Returns the position of the selected row among `rows`, which [`Self::arrange`] made.
    pub fn place(&self, rows: &[Row]) -> usize {
        let is_selected = |row: &Row| Some(&row.key) == self.selected.as_ref();
        rows.iter().position(is_selected).unwrap_or_default()
    }

    /// Points `by` rows further down, or up, as far as there are rows.
    pub fn walk(&mut self, rows: &[Row], by: isize) {
        let last = rows.len().saturating_sub(1);
        let place = self.place(rows).saturating_add_signed(by).min(last);
        self.selected = rows.get(place).map(|row| row.key.clone());
    }

    /// Sorts by the next of `columns`, in its default direction.
    pub fn sort_by_next(&mut self, columns: &[Column]) {
        self.sort = (self.sort + 1) % columns.len().max(1);
        self.reverse = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 2] = [Column::text("NAME", 10), Column::number("SIZE", 5)];

    fn rows() -> Vec<Row> {
        [("beta", Some(2.0)), ("Alpha", Some(10.0)), ("gamma", None), ("delta", Some(2.0))]
            .map(|(name, size)| Row {
                key: name.to_owned(),
                cells: vec![Cell::text(name), Cell::number(size, |size| size.to_string())],
            })
            .to_vec()
    }

    fn names(list_view: &ListView) -> Vec<String> {
        list_view.arrange(rows(), &COLUMNS).into_iter().map(|row| row.key).collect()
    }

    #[test]
    fn words_rise_and_numbers_fall_unless_reversed() {
        let list_view = |sort, reverse| ListView { sort, reverse, ..ListView::default() };
        assert_eq!(names(&list_view(0, false)), ["Alpha", "beta", "delta", "gamma"]);
        assert_eq!(names(&list_view(0, true)), ["gamma", "delta", "beta", "Alpha"]);
        assert_eq!(names(&list_view(1, false)), ["Alpha", "beta", "delta", "gamma"]);
        assert_eq!(
            names(&list_view(1, true)),
            ["gamma", "beta", "delta", "Alpha"],
            "equals stay put"
        );
    }

    #[test]
    fn a_filter_looks_into_every_cell() {
        for (filter, expected) in [
            ("", &["Alpha", "beta", "delta", "gamma"][..]),
            ("LPH", &["Alpha"]),
            ("2", &["beta", "delta"]),
            ("nothing", &[]),
        ] {
            let list_view = ListView { filter: filter.to_owned(), ..ListView::default() };
            assert_eq!(names(&list_view), expected, "{filter:?}");
        }
    }

    #[test]
    fn what_is_pointed_at_is_a_row_and_not_a_place() {
        let mut list_view = ListView::default();
        let sorted = list_view.arrange(rows(), &COLUMNS);
        list_view.walk(&sorted, 1);
        assert_eq!(list_view.selected.as_deref(), Some("beta"));
        list_view.reverse = true;
        let reversed = list_view.arrange(rows(), &COLUMNS);
        assert_eq!(list_view.place(&reversed), 2);
        list_view.walk(&reversed, isize::MAX);
        assert_eq!(list_view.selected.as_deref(), Some("Alpha"));
        list_view.walk(&reversed, isize::MIN);
        assert_eq!(list_view.selected.as_deref(), Some("gamma"));
        list_view.walk(&[], 1);
        assert_eq!((list_view.selected.clone(), list_view.place(&sorted)), (None, 0));
    }

    #[test]
    fn sorting_goes_round_the_columns_in_their_default_direction() {
        let mut list_view = ListView { reverse: true, ..ListView::default() };
        list_view.sort_by_next(&COLUMNS);
        assert_eq!((list_view.sort, list_view.reverse), (1, false));
        list_view.sort_by_next(&COLUMNS);
        assert_eq!(list_view.sort, 0);
    }
}
