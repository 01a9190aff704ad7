//! Plots as inline SVG, and bars as tables.
//!
//! A plot is drawn twice, for a page as wide as a desk's and as wide as a phone's, and the style sheet
//! shows one of them: text of one size on both, and as many marks on the axis as there is room for.

pub(super) mod bars;
pub(super) mod lines;
pub(super) mod scale;

use tcpguard_engine::Mode;
use tcpguard_host::time::Time;

use super::times::Times;

/// Properties that plots of the same time share.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub times: &'a Times,
    /// Time at which the axis begins.
    pub began: Time,
    /// Ends of the steps, in s after that. Not empty.
    pub ends: Vec<f64>,
    /// The modes of operation, each with its begin and end, in s after that.
    pub modes: Vec<([f64; 2], Mode)>,
    /// Begin and end of the attack, in s after that.
    pub attack: [f64; 2],
    /// Moments to be marked, in s after that, with their numbers; in their order.
    pub marks: Vec<(f64, usize)>,
}

impl Stage<'_> {
    /// Length of the axis, in s.
    fn length(&self) -> f64 {
        self.ends.last().copied().unwrap_or_default()
    }

    /// The middle of each step, in s.
    fn middles(&self) -> impl Iterator<Item = f64> {
        let begins = std::iter::once(0.0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, end)| (begin + end) / 2.0)
    }
}

#[derive(Debug, Default)]
pub(super) struct Panel {
    /// The plotted quantity, with its unit.
    pub title: &'static str,
    /// Description of the plot, in words.
    pub says: String,
    /// Areas on top of each other, the lowest first.
    pub areas: Vec<Series>,
    /// Lines, drawn over the areas.
    pub lines: Vec<Series>,
    /// Reference values, with their descriptions.
    pub levels: Vec<(f64, String)>,
}

/// A row of values, one for each step.
#[derive(Debug)]
pub(super) struct Series {
    /// Name in the legend.
    pub name: &'static str,
    /// Class in the style sheet.
    pub class: &'static str,
    /// The values; `None` where nothing was measured.
    pub values: Vec<Option<f64>>,
}

impl Series {
    /// Returns whether there is anything to see.
    pub fn shows(&self) -> bool {
        self.values.iter().flatten().any(|value| *value > 0.0)
    }

    pub fn greatest(&self) -> f64 {
        self.values.iter().flatten().copied().fold(0.0, f64::max)
    }
}
