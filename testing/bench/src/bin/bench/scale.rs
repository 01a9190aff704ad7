//! An axis of a plot: its range, its marks and their labels.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// Marks of a linear axis, about.
const MARKS: f64 = 6.0;
/// Decades of a logarithmic axis above which only their ends are marked.
const CROWDED: i32 = 3;

/// A linear or logarithmic axis over all that is to be shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    marks: Vec<f64>,
    from: f64,
    to: f64,
    logarithmic: bool,
    /// Position that stands for zero, which a logarithmic axis does not have: the beginning of the axis.
    zero: Option<f64>,
}

impl Scale {
    /// An axis over `values`; a linear one from 0 to a mark if `from_zero`, as heights want.
    pub fn over(values: &[f64], logarithmic: bool, from_zero: bool) -> Self {
        if logarithmic { Self::logarithmic(values) } else { Self::linear(values, from_zero) }
    }

    fn linear(values: &[f64], from_zero: bool) -> Self {
        let start = if from_zero { (0.0, 0.0) } else { (f64::INFINITY, f64::NEG_INFINITY) };
        let (least, most) = span(values.iter().copied(), start);
        let most = if most > least { most } else { least + least.abs().max(1.0) };
        let step = step((most - least) / MARKS);
        let (first, last) = if from_zero {
            ((least / step).floor(), (most / step).ceil())
        } else {
            ((least / step).ceil(), (most / step).floor())
        };
        let marks: Vec<f64> =
            (0..=(last - first) as usize).map(|mark| (first + mark as f64) * step).collect();
        let (from, to) = (least.min(first * step), most.max(last * step));
        Self { marks, from, to, logarithmic: false, zero: None }
    }

    fn logarithmic(values: &[f64]) -> Self {
        let positive = values.iter().copied().filter(|value| *value > 0.0);
        let (least, most) = span(positive, (f64::INFINITY, 0.0));
        // Nothing but zeros: any decade will do.
        let (least, most) = if most > 0.0 { (least, most) } else { (1.0, 10.0) };
        let (first, last) = (least.log10().floor() as i32, most.log10().ceil() as i32);
        let mitigations: &[f64] = if last - first > CROWDED { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let decade = |power: i32| mitigations.iter().map(move |step| step * 10_f64.powi(power));
        let mut marks: Vec<f64> = (first..=last.max(first + 1)).flat_map(decade).collect();
        let before = marks.iter().rposition(|mark| *mark <= least).unwrap_or(0);
        marks.drain(..before);
        let after = marks.iter().position(|mark| *mark >= most && *mark > marks[0]);
        marks.truncate(after.map_or(marks.len(), |after| after + 1));
        let zero = values.iter().any(|value| *value <= 0.0).then(|| marks[0] / 10.0);
        marks.splice(0..0, zero);
        let (from, to) = (marks[0], marks[marks.len() - 1]);
        Self { marks, from, to, logarithmic: true, zero }
    }

    /// 0 at the beginning of the axis, 1 at its end.
    fn share(&self, value: f64) -> f64 {
        if !self.logarithmic {
            return (value - self.from) / (self.to - self.from);
        }
        (value.max(self.from) / self.from).ln() / (self.to / self.from).ln()
    }
}

/// Least and greatest, of those that stand in `so_far` too.
fn span(values: impl Iterator<Item = f64>, so_far: (f64, f64)) -> (f64, f64) {
    values.fold(so_far, |(least, most), value| (least.min(value), most.max(value)))
}

/// The least of 1, 2, 5, 10, 20, … that is not below `wanted`, whatever its magnitude.
fn step(wanted: f64) -> f64 {
    let decade = 10_f64.powf(wanted.log10().floor());
    [1.0, 2.0, 5.0]
        .map(|step| step * decade)
        .into_iter()
        .find(|step| *step >= wanted * 0.999)
        .unwrap_or(10.0 * decade)
}

/// As people write it: "20", "1.5k", "10M".
pub fn in_words(value: f64) -> String {
    let size = value.abs();
    let (unit, name) = match size {
        _ if size >= 1e9 => (1e9, "G"),
        _ if size >= 1e6 => (1e6, "M"),
        _ if size >= 1e3 => (1e3, "k"),
        _ => (1.0, ""),
    };
    // Adding up steps leaves a rounding error behind the third digit, which is no information.
    let number = value / unit;
    format!("{}{name}", (number * 1e6).round() / 1e6 + 0.0)
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (begin, end): (i32, i32)) -> i32 {
        begin + (f64::from(end - begin) * self.share(*value)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // Lighter lines between the marks would only be in the way.
        if hint.weight().allow_light_points() { Vec::new() } else { self.marks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Scale {
    fn format_ext(&self, value: &f64) -> String {
        if self.zero == Some(*value) { "0".to_owned() } else { in_words(*value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(scale: &Scale) -> Vec<String> {
        scale.marks.iter().map(|mark| scale.format_ext(mark)).collect()
    }

    #[test]
    fn a_linear_axis_has_round_marks_around_all_values() {
        assert_eq!(
            words(&Scale::over(&[13.0, 97.5], false, true)),
            ["0", "20", "40", "60", "80", "100"]
        );
        assert_eq!(words(&Scale::over(&[-3.0, 20.0], false, false)), ["0", "5", "10", "15", "20"]);
        let small = words(&Scale::over(&[0.02, 0.61], false, true));
        assert_eq!(small, ["0", "0.2", "0.4", "0.6", "0.8"]);
    }

    #[test]
    fn one_value_has_an_axis_too() {
        for scale in [Scale::over(&[7.0], false, false), Scale::over(&[7.0], true, false)] {
            assert!(scale.from < scale.to && scale.from <= 7.0 && scale.to >= 7.0, "{scale:?}");
        }
        assert_eq!(
            words(&Scale::over(&[0.0], false, true)),
            ["0", "0.2", "0.4", "0.6", "0.8", "1"]
        );
        assert_eq!(words(&Scale::over(&[0.0], true, false)), ["0", "1", "2", "5", "10"]);
    }

    #[test]
    fn a_logarithmic_axis_of_few_decades_has_marks_within_them() {
        assert_eq!(
            words(&Scale::over(&[30.0, 450.0], true, false)),
            ["20", "50", "100", "200", "500"]
        );
        let wide = words(&Scale::over(&[1.0, 1e7], true, false));
        assert_eq!(wide, ["1", "10", "100", "1k", "10k", "100k", "1M", "10M"]);
    }

    #[test]
    fn zero_stands_where_a_logarithmic_axis_begins() {
        let scale = Scale::over(&[0.0, 1e3, 1e5], true, false);
        assert_eq!(words(&scale), ["0", "1k", "2k", "5k", "10k", "20k", "50k", "100k"]);
        assert_eq!(scale.map(&0.0, (0, 300)), 0);
        assert_eq!(scale.map(&1e3, (0, 300)), 100);
        assert_eq!(scale.map(&1e5, (300, 0)), 0);
    }

    #[test]
    fn numbers_are_written_short() {
        let written = [0.3, 0.1 + 0.2, 1.0, 1500.0, 2.5e7, -5.0, -0.0].map(in_words);
        assert_eq!(written, ["0.3", "0.3", "1", "1.5k", "25M", "-5", "0"]);
    }
}
