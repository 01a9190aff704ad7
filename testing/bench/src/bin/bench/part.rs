//! The results that every part of the benchmark hands to the page and to the verdict.

use serde::{Deserialize, Serialize};

/// A target, and its result.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Goal {
    /// The subject, in a few words: "signature drop, IPv4".
    pub name: String,
    /// The unit of the values: "× xdp-filter, source denied".
    pub unit: String,
    /// The worst value that meets it.
    pub limit: f64,
    /// True if more is better: shares of clients and packets taken, not costs and times.
    pub at_least: bool,
    /// The median of all rounds; `None` where it could not be measured, for the reason in `note`.
    pub value: Option<f64>,
    /// Least and greatest of the rounds.
    pub range: Option<(f64, f64)>,
    /// Number of rounds.
    pub rounds: usize,
    /// The reason why it was not measured, or a note for the reader.
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
    /// Title of the axis, with its unit.
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

/// The results of a part.
pub trait Part {
    /// Heading and tables, as Markdown that also reads well in a terminal.
    fn tables(&self) -> String;
    /// Returns the targets of the part.
    fn goals(&self) -> Vec<Goal>;
    /// Returns the plots of the part.
    fn figures(&self) -> Vec<Figure>;
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A part that is made up: one number.
    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    pub struct Made {
        pub cost: f64,
    }

    impl Part for Made {
        fn tables(&self) -> String {
            format!("| rules | ns |\n|---|---|\n| 1 | {} |\n", self.cost)
        }

        fn goals(&self) -> Vec<Goal> {
            vec![Goal {
                name: "made cost".to_owned(),
                unit: "ns".to_owned(),
                limit: 50.0,
                at_least: false,
                value: Some(self.cost),
                range: None,
                rounds: 3,
                note: String::new(),
            }]
        }

        fn figures(&self) -> Vec<Figure> {
            let axis = |title: &str| Axis { title: title.to_owned(), logarithmic: false };
            let points = vec![(1.0, [self.cost; 3])];
            vec![Figure {
                file: "made-rules",
                title: "Cost of rules".to_owned(),
                x: axis("rules"),
                y: axis("ns"),
                series: vec![Series { name: "made".to_owned(), points }],
            }]
        }
    }
}
