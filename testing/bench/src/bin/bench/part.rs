//! The output of a part of the benchmark, for the page and for the record: text, tables, plots and targets.

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

/// A table, with cells as people read them.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// Lines over a number.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
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
    pub points: Vec<(f64, [f64; 3])>,
}

/// A target, and its result.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Goal {
    /// The subject, in a few words: "signature drop, IPv4".
    pub name: String,
    /// The unit of the values: "× xdp-filter, source denied".
    pub unit: String,
    /// The worst value that meets it.
    pub limit: f64,
    /// True if more is better: shares of clients and packets processed, not costs and times.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub at_least: bool,
    /// The median of all rounds; `None` where it could not be measured, for the reason in `note`.
    pub value: Option<f64>,
    /// Least and greatest of the rounds.
    pub range: Option<(f64, f64)>,
    pub rounds: usize,
    /// The reason why it was not measured, or a note for the reader.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// The cases of which it is the worst, where later runs are held to each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cases: Vec<Case>,
}

/// One of the ratios of which a target is the worst, by its name.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Case(pub String, pub Option<Ratio>);

/// The cost of one program by that of another in the same rounds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(from = "[f64; 3]", into = "[f64; 3]")]
pub struct Ratio {
    pub median: f64,
    pub least: f64,
    /// Median of the other's cost.
    pub unit_ns: f64,
}

impl From<[f64; 3]> for Ratio {
    fn from([median, least, unit_ns]: [f64; 3]) -> Self {
        Self { median, least, unit_ns }
    }
}

impl From<Ratio> for [f64; 3] {
    /// Four digits: noise is in the second.
    fn from(Ratio { median, least, unit_ns }: Ratio) -> Self {
        [median, least, unit_ns].map(|it| format!("{it:.3e}").parse().unwrap_or(it))
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

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A part that is made up: one number.
    #[derive(Debug, Serialize)]
    pub struct Made {
        pub cost: f64,
    }

    impl Part for Made {
        const NAME: &'static str = "rules";

        fn report(&self) -> Report {
            let mut report = Report::new(Self::NAME);
            report.text("## Rules");
            report.table(&["rules", "ns"], [vec!["1".to_owned(), self.cost.to_string()]]);
            let points = vec![(1.0, [self.cost; 3]), (2.0, [self.cost, 0.0, 2.0 * self.cost])];
            report.blocks.push(Block::Plot(Plot {
                file: "made-rules".to_owned(),
                title: "Cost of rules".to_owned(),
                x: "rules".to_owned(),
                y: "ns <each>".to_owned(),
                series: vec![Series { name: "made".to_owned(), points }],
            }));
            report.goals.push(Goal {
                name: "made cost".to_owned(),
                unit: "ns".to_owned(),
                limit: 50.0,
                value: Some(self.cost),
                rounds: 3,
                ..Goal::default()
            });
            report
        }
    }
}
