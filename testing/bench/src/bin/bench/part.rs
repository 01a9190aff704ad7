//! The output of a part of the benchmark, for the page and for the record: text, tables, plots and targets. In a
//! record a row of a table and the texts of a target are a line each, with `|` between their cells.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A part of the benchmark, measured.
pub trait Part: Serialize {
    /// In the record, and between the marks of the page.
    const NAME: &'static str;

    fn report(&self) -> Report;
}

/// The results of a part.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Report {
    pub part: String,
    #[serde(with = "blocks")]
    pub blocks: Vec<Block>,
    pub goals: Vec<Goal>,
    /// All that was measured; the record that is kept has none.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub rounds: Value,
}

/// A piece of the page.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Block {
    Text(String),
    Table(Table),
    Plot(Plot),
}

/// A table, with cells as people read them. They hold no `|`, at which Markdown would split them too.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// Lines over a number.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Plot {
    /// Name of its file, without folder and ending.
    pub file: String,
    pub title: String,
    /// Titles of the axes, with their units.
    pub x: String,
    pub y: String,
    pub series: Vec<Series>,
}

/// One line of a plot.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Series {
    pub name: String,
    /// Median, least and greatest at each `x`; `(x, [median, least, greatest])`.
    #[serde(with = "points")]
    pub points: Vec<(f64, [f64; 3])>,
}

/// A target, and its result.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(from = "KeptGoal", into = "KeptGoal")]
pub struct Goal {
    /// The subject, in a few words: "signature drop, IPv4".
    pub name: String,
    /// The unit of the values: "× xdp-filter, source denied".
    pub unit: String,
    /// The worst value that meets it.
    pub limit: f64,
    /// True if more is better: shares of clients and packets processed, not costs and times.
    pub at_least: bool,
    /// The median of all rounds; `None` where it could not be measured, for the reason in `note`.
    pub value: Option<f64>,
    /// Least and greatest of the rounds.
    pub range: Option<(f64, f64)>,
    pub rounds: usize,
    /// The reason why it was not measured, or a note for the reader.
    pub note: String,
}

/// A target in a record.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct KeptGoal {
    /// Name, unit and note; without a note the first two.
    goal: String,
    limit: f64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    at_least: bool,
    value: Option<f64>,
    range: Option<(f64, f64)>,
    rounds: usize,
}

impl From<KeptGoal> for Goal {
    fn from(kept: KeptGoal) -> Self {
        let mut texts = kept.goal.splitn(3, CELL).map(str::to_owned);
        let [name, unit, note] = [(); 3].map(|()| texts.next().unwrap_or_default());
        let KeptGoal { limit, at_least, value, range, rounds, .. } = kept;
        Self { name, unit, limit, at_least, value, range, rounds, note }
    }
}

impl From<Goal> for KeptGoal {
    fn from(goal: Goal) -> Self {
        let Goal { name, unit, limit, at_least, value, range, rounds, note } = goal;
        let texts = if note.is_empty() { vec![name, unit] } else { vec![name, unit, note] };
        let goal = texts.join(&CELL.to_string());
        Self { goal, limit, at_least, value, range, rounds }
    }
}

/// Mark between the cells of a line.
const CELL: char = '|';
/// The mark of ranges and of empty cells, and the shorter one that a record has in its place. No cell holds it.
const DASH: [char; 2] = ['–', '~'];

impl From<Vec<String>> for Table {
    /// The first line has the columns, and is empty if there are none.
    fn from(lines: Vec<String>) -> Self {
        let cell = |cell: &str| cell.replace(DASH[1], &DASH[0].to_string());
        let cells = |line: &String| line.split(CELL).map(cell).collect();
        let columns = lines.first().filter(|line| !line.is_empty());
        Self {
            columns: columns.map(cells).unwrap_or_default(),
            rows: lines.iter().skip(1).map(cells).collect(),
        }
    }
}

impl From<Table> for Vec<String> {
    fn from(table: Table) -> Self {
        let lines = [table.columns].into_iter().chain(table.rows);
        let line = |cells: Vec<String>| cells.join(&CELL.to_string());
        lines.map(|cells| line(cells).replace(DASH[0], &DASH[1].to_string())).collect()
    }
}

/// Blocks, where a table without columns has those of the one before.
mod blocks {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use super::{Block, Table};

    pub fn serialize<S: Serializer>(blocks: &[Block], serializer: S) -> Result<S::Ok, S::Error> {
        let (mut blocks, mut last) = (blocks.to_vec(), Vec::new());
        for Table { columns, .. } in tables(&mut blocks) {
            match *columns == last {
                true => columns.clear(),
                false => last.clone_from(columns),
            }
        }
        blocks.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Block>, D::Error> {
        let (mut blocks, mut last) = (Vec::deserialize(deserializer)?, Vec::new());
        for Table { columns, .. } in tables(&mut blocks) {
            match columns.is_empty() {
                true => columns.clone_from(&last),
                false => last.clone_from(columns),
            }
        }
        Ok(blocks)
    }

    fn tables(blocks: &mut [Block]) -> impl Iterator<Item = &mut Table> {
        blocks.iter_mut().filter_map(|block| match block {
            Block::Table(table) => Some(table),
            Block::Text(_) | Block::Plot(_) => None,
        })
    }
}

/// Points: `x` and the three values, or `x` and the one that all three are.
mod points {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(
        points: &[(f64, [f64; 3])],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(points.iter().map(|(x, [median, least, greatest])| {
            match median == least && median == greatest {
                true => vec![*x, *median],
                false => vec![*x, *median, *least, *greatest],
            }
        }))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(f64, [f64; 3])>, D::Error> {
        let points: Vec<Vec<f64>> = Vec::deserialize(deserializer)?;
        let point = |point: &Vec<f64>| match point[..] {
            [x, all] => Ok((x, [all; 3])),
            [x, median, least, greatest] => Ok((x, [median, least, greatest])),
            _ => Err(D::Error::custom("a point has two or four numbers")),
        };
        points.iter().map(point).collect()
    }
}

impl Report {
    pub fn new(part: &str) -> Self {
        Self { part: part.to_owned(), ..Self::default() }
    }

    pub fn text(&mut self, text: impl Into<String>) {
        self.blocks.push(Block::Text(text.into()));
    }

    pub fn table(&mut self, columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        self.blocks.push(Block::Table(Table { columns, rows: rows.into_iter().collect() }));
    }

    /// Adds the measurements that are missing, with the reasons; nothing if there are none.
    pub fn missing(&mut self, lines: &[String]) {
        if !lines.is_empty() {
            self.text(format!("Not measured here:\n\n- {}", lines.join("\n- ")));
        }
    }
}
