//! What every part of the benchmark hands to the page and to the verdict.

use serde::{Deserialize, Serialize};

/// Something that was promised, and what came of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Goal {
    /// What is judged, in a few words: "signature drop, IPv4".
    pub name: String,
    /// What it is measured by: "× xdp-filter, source denied".
    pub unit: String,
    /// The worst value that meets it.
    pub limit: f64,
    /// Whether more is better: shares of clients and packets taken, not costs and times.
    pub at_least: bool,
    /// The median of all rounds; `None` where it could not be measured, for the reason in `note`.
    pub value: Option<f64>,
    /// Least and greatest of the rounds.
    pub range: Option<(f64, f64)>,
    /// Rounds.
    pub rounds: usize,
    /// Why it was not measured, or what the reader has to know.
    pub note: String,
}

/// A plot: lines or points over a number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// Name of its file, without folder and ending.
    pub file: &'static str,
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Axis {
    /// With its unit.
    pub title: String,
    pub logarithmic: bool,
}

/// One line of a plot.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    pub name: String,
    /// Median, least and greatest at each `x`; `(x, [median, least, greatest])`.
    pub points: Vec<(f64, [f64; 3])>,
}

/// What a part found.
pub trait Part {
    /// Heading and tables, as Markdown that also reads well in a terminal.
    fn tables(&self) -> String;
    /// What was promised of it.
    fn goals(&self) -> Vec<Goal>;
    /// Its plots.
    fn figures(&self) -> Vec<Figure>;
}
