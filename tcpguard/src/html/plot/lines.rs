//! Lines and areas over time.

use std::fmt::{self, Write};

use tcpguard_host::units::short;

use super::scale::{self, Scale};
use super::{Panel, Series, Stage};
use crate::html::markup::escaped;

/// A plot of one width. All lengths are in the pixels of CSS.
struct Size {
    class: &'static str,
    width: f64,
    height: f64,
    /// Most steps between marks of the time axis.
    steps: usize,
}

const SIZES: [Size; 2] = [
    Size { class: "wide", width: 780.0, height: 214.0, steps: 7 },
    Size { class: "narrow", width: 340.0, height: 204.0, steps: 3 },
];
/// Margins for the labels of the axes, the band of modes, and the numbers of moments.
const LEFT: f64 = 46.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 34.0;
/// Height of the band of modes, and the least width in which its name has room.
const BAND: f64 = 13.0;
const BAND_NAME: f64 = 52.0;
/// Most steps between marks of the axis of values.
const VALUES: usize = 4;
/// Numbers of moments nearer to each other than this share one flag.
const FLAG: f64 = 44.0;
/// Measurements fewer than this are shown one by one.
const DOTS: usize = 40;

/// Writes the plot with its title, its legend, and its description in words.
pub(in crate::html) fn figure(
    out: &mut impl Write,
    panel: &Panel,
    stage: &Stage<'_>,
) -> fmt::Result {
    writeln!(out, "<figure><figcaption><p class=\"title\">{}</p>", escaped(panel.title))?;
    writeln!(out, "<p>{}</p>", escaped(&panel.says))?;
    legend(out, panel)?;
    out.write_str("</figcaption>\n")?;
    for size in &SIZES {
        Drawing::new(panel, stage, size).write(out)?;
    }
    out.write_str("</figure>\n")
}

/// Writes the legend of colours and strokes. It is left out if there is only one, which the title
/// names.
fn legend(out: &mut impl Write, panel: &Panel) -> fmt::Result {
    let areas = panel.areas.iter().map(|area| (area, r#"<rect width="24" height="12"/>"#));
    let lines = panel.lines.iter().map(|line| (line, r#"<path d="M0 6H24"/>"#));
    if areas.len() + lines.len() + panel.levels.len() < 2 {
        return Ok(());
    }
    out.write_str("<ul class=\"legend\">")?;
    // Areas as they lie, the topmost first.
    for (series, key) in areas.rev().chain(lines) {
        let kind = if key.starts_with("<rect") { "area" } else { "line" };
        write!(
            out,
            "<li><svg class=\"key {kind} {}\" viewBox=\"0 0 24 12\" aria-hidden=\"true\">{key}</svg>{}</li>",
            series.class,
            escaped(series.name)
        )?;
    }
    for (_, name) in &panel.levels {
        write!(
            out,
            "<li><svg class=\"key\" viewBox=\"0 0 24 12\" aria-hidden=\"true\"><path class=\"level\" \
             d=\"M0 6H24\"/></svg>{}</li>",
            escaped(name)
        )?;
    }
    out.write_str("</ul>\n")
}

struct Drawing<'a> {
    panel: &'a Panel,
    stage: &'a Stage<'a>,
    size: &'a Size,
    x: Scale,
    y: Scale,
    bottom: f64,
    right: f64,
    /// Marks of the axis of values.
    values: Vec<f64>,
}

impl<'a> Drawing<'a> {
    fn new(panel: &'a Panel, stage: &'a Stage<'a>, size: &'a Size) -> Self {
        let (right, bottom) = (size.width - RIGHT, size.height - BOTTOM);
        let greatest = greatest(panel);
        let values = scale::values(greatest, VALUES);
        // Some air above the greatest, and never less than the marks need.
        let top = (greatest * 1.06).max(values.last().copied().unwrap_or(1.0));
        Self {
            panel,
            stage,
            size,
            x: Scale::new([0.0, stage.length()], [LEFT, right]),
            y: Scale::new([0.0, top], [bottom, TOP]),
            bottom,
            right,
            values,
        }
    }

    fn write(&self, out: &mut impl Write) -> fmt::Result {
        let Size { class, width, height, .. } = self.size;
        writeln!(
            out,
            "<svg class=\"plot {class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
             aria-label=\"{}. {}\">",
            escaped(self.panel.title),
            escaped(&self.panel.says)
        )?;
        self.attack(out)?;
        self.areas(out)?;
        self.axes(out)?;
        self.levels(out)?;
        for line in &self.panel.lines {
            self.line(out, line)?;
        }
        self.modes(out)?;
        self.marks(out)?;
        out.write_str("</svg>\n")
    }

    /// The modes of operation, in a band below the axis.
    fn modes(&self, out: &mut impl Write) -> fmt::Result {
        for ([from, to], mode) in &self.stage.modes {
            let (from, to) = (self.x.at(*from), self.x.at(*to));
            let (name, y) = (mode.name(), self.bottom + 2.0);
            writeln!(
                out,
                "<rect class=\"mode {name}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{BAND}\"/>",
                px(from),
                px(y),
                px(to - from)
            )?;
            if to - from >= BAND_NAME {
                writeln!(
                    out,
                    "<text class=\"mode {name}\" x=\"{}\" y=\"{}\">{name}</text>",
                    px((from + to) / 2.0),
                    px(y + 10.0)
                )?;
            }
        }
        Ok(())
    }

    /// The time of the attack, shaded.
    fn attack(&self, out: &mut impl Write) -> fmt::Result {
        let [from, to] = self.stage.attack.map(|at| self.x.at(at));
        writeln!(
            out,
            "<rect class=\"attack\" x=\"{}\" y=\"{TOP}\" width=\"{}\" height=\"{}\"/>",
            px(from),
            px((to - from).max(1.0)),
            px(self.bottom - TOP)
        )
    }

    /// Draws each area down to the bottom, the topmost first. The lower areas cover the excess.
    fn areas(&self, out: &mut impl Write) -> fmt::Result {
        let areas = &self.panel.areas;
        let mut sums = vec![0.0; self.stage.ends.len()];
        let mut edges = Vec::new();
        for area in areas {
            for (sum, value) in sums.iter_mut().zip(&area.values) {
                *sum += value.unwrap_or(0.0);
            }
            edges.push(sums.clone());
        }
        for (area, edge) in areas.iter().zip(&edges).rev().filter(|(area, _)| area.shows()) {
            let points = self.points(edge.iter().copied().map(Some));
            write!(out, "<path class=\"area {}\" d=\"M{LEFT} {}", area.class, px(self.bottom))?;
            path(out, &points, 'L')?;
            writeln!(out, "V{}Z\"/>", px(self.bottom))?;
        }
        Ok(())
    }

    fn line(&self, out: &mut impl Write, line: &Series) -> fmt::Result {
        let points = self.points(line.values.iter().copied());
        if points.is_empty() {
            return Ok(());
        }
        write!(out, "<path class=\"line {}\" d=\"", line.class)?;
        path(out, &points, 'M')?;
        out.write_str("\"/>\n")?;
        let measured = line.values.iter().flatten().count();
        if measured < line.values.len() && measured < DOTS {
            for (x, y) in self.measured(line.values.iter().copied()) {
                let (x, y) = (px(x), px(y));
                write!(
                    out,
                    "<circle class=\"dot {}\" cx=\"{x}\" cy=\"{y}\" r=\"2.5\"/>",
                    line.class
                )?;
            }
            out.write_char('\n')?;
        }
        Ok(())
    }

    /// Returns the positions of the measured values, each in the middle of its step.
    fn measured(&self, values: impl Iterator<Item = Option<f64>>) -> Vec<(f64, f64)> {
        let places = self.stage.middles().zip(values);
        places.filter_map(|(at, value)| Some((self.x.at(at), self.y.at(value?)))).collect()
    }

    /// The same, with the first and the last value lasting to the ends of the axis if they are those of
    /// the first and the last step.
    fn points(&self, values: impl Iterator<Item = Option<f64>> + Clone) -> Vec<(f64, f64)> {
        let ends = [values.clone().next(), values.clone().last()];
        let [starts, lasts] = ends.map(|end| end.flatten().is_some());
        let mut points = self.measured(values);
        if let (true, Some((_, y))) = (starts, points.first().copied()) {
            points.insert(0, (LEFT, y));
        }
        if let (true, Some((_, y))) = (lasts, points.last().copied()) {
            points.push((self.right, y));
        }
        points
    }

    fn axes(&self, out: &mut impl Write) -> fmt::Result {
        for value in &self.values {
            let y = self.y.at(*value);
            let class = if *value == 0.0 { "base" } else { "grid" };
            writeln!(
                out,
                "<path class=\"{class}\" d=\"M{LEFT} {}H{}\"/><text class=\"value\" x=\"{}\" y=\"{}\">{}</text>",
                px(y),
                px(self.right),
                px(LEFT - 6.0),
                px(y + 4.0),
                escaped(&short(*value))
            )?;
        }
        let Stage { times, began, .. } = self.stage;
        for (at, label) in times.ticks(*began, self.stage.length(), self.size.steps) {
            let x = self.x.at(at);
            // Labels at the ends stay on the page.
            let class = match x {
                near if near < LEFT + 24.0 => "time first",
                near if near > self.right - 24.0 => "time last",
                _ => "time",
            };
            writeln!(
                out,
                "<path class=\"tick\" d=\"M{} {}v4\"/><text class=\"{class}\" x=\"{}\" y=\"{}\">{}</text>",
                px(x),
                px(self.bottom + BAND + 2.0),
                px(x),
                px(self.size.height - 4.0),
                escaped(&label)
            )?;
        }
        Ok(())
    }

    fn levels(&self, out: &mut impl Write) -> fmt::Result {
        for (value, _) in &self.panel.levels {
            let y = px(self.y.at(*value));
            writeln!(out, "<path class=\"level\" d=\"M{LEFT} {y}H{}\"/>", px(self.right))?;
        }
        Ok(())
    }

    fn marks(&self, out: &mut impl Write) -> fmt::Result {
        for (at, _) in &self.stage.marks {
            writeln!(
                out,
                "<path class=\"mark\" d=\"M{} {TOP}V{}\"/>",
                px(self.x.at(*at)),
                px(self.bottom)
            )?;
        }
        for Flag { x, first, last } in flags(&self.stage.marks, &self.x) {
            let text = if first == last { first.to_string() } else { format!("{first}–{last}") };
            let width = 8.0 + 7.0 * text.chars().count() as f64;
            let x = x.clamp(LEFT + width / 2.0, self.right - width / 2.0);
            writeln!(
                out,
                "<rect class=\"flag\" x=\"{}\" y=\"3\" width=\"{}\" height=\"16\" rx=\"8\"/><text \
                 class=\"flag\" x=\"{}\" y=\"15\">{text}</text>",
                px(x - width / 2.0),
                px(width),
                px(x)
            )?;
        }
        Ok(())
    }
}

/// The greatest value that must have room.
fn greatest(panel: &Panel) -> f64 {
    let steps = panel.areas.first().map_or(0, |area| area.values.len());
    let sums = (0..steps).map(|step| {
        panel.areas.iter().filter_map(|area| area.values.get(step).copied().flatten()).sum::<f64>()
    });
    let lines = panel.lines.iter().map(Series::greatest);
    let levels = panel.levels.iter().map(|(value, _)| *value);
    sums.chain(lines).chain(levels).fold(0.0, f64::max)
}

/// The numbers of moments near to each other.
#[derive(Debug, PartialEq)]
struct Flag {
    x: f64,
    first: usize,
    last: usize,
}

fn flags(marks: &[(f64, usize)], scale: &Scale) -> Vec<Flag> {
    let mut flags: Vec<(f64, Flag)> = Vec::new();
    for (at, number) in marks {
        let x = scale.at(*at);
        match flags.last_mut() {
            Some((begins, flag)) if x - flag.x < FLAG => {
                flag.x = (*begins + x) / 2.0;
                flag.last = *number;
            }
            _ => flags.push((x, Flag { x, first: *number, last: *number })),
        }
    }
    flags.into_iter().map(|(_, flag)| flag).collect()
}

/// Writes a line through `points`, the first reached by `to`, without those between two at the same
/// height.
fn path(out: &mut impl Write, points: &[(f64, f64)], to: char) -> fmt::Result {
    let mut command = to;
    for (number, (x, y)) in points.iter().enumerate() {
        let level = |other: Option<&(f64, f64)>| other.is_some_and(|(_, its)| px(*its) == px(*y));
        let before = number.checked_sub(1).and_then(|before| points.get(before));
        if level(before) && level(points.get(number + 1)) {
            continue;
        }
        write!(out, "{command}{} {}", px(*x), px(*y))?;
        command = 'L';
    }
    Ok(())
}

/// Pixels with one decimal at most.
fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    match text.strip_suffix(".0") {
        Some("-0") => "0".to_owned(),
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::super::super::times::Times;
    use super::*;
    use tcpguard_engine::Mode;
    use tcpguard_host::time::Time;

    fn series(class: &'static str, values: &[Option<f64>]) -> Series {
        Series { name: class, class, values: values.to_vec() }
    }

    fn drawn(panel: &Panel, marks: Vec<(f64, usize)>) -> String {
        let times = Times::Clock(TimeZone::UTC);
        let stage = Stage {
            times: &times,
            began: Time("2026-11-20T14:00:00Z".parse().unwrap()),
            ends: vec![10.0, 20.0, 30.0, 40.0],
            modes: vec![([0.0, 10.0], Mode::Observe), ([10.0, 40.0], Mode::Enforce)],
            attack: [10.0, 30.0],
            marks,
        };
        let mut out = String::new();
        figure(&mut out, panel, &stage).unwrap();
        out
    }

    /// The wide one's shape of a class.
    fn shape<'a>(drawn: &'a str, class: &str) -> &'a str {
        let (_, after) = drawn.split_once(&format!("<path class=\"{class}\" d=\"")).expect(class);
        after.split('"').next().unwrap()
    }

    #[test]
    fn areas_lie_on_top_of_each_other_down_to_the_base() {
        let values = |values: [f64; 4]| values.map(Some);
        let panel = Panel {
            title: "SYNs",
            areas: vec![
                series("passed", &values([100.0, 50.0, 50.0, 100.0])),
                series("dropped", &values([0.0, 50.0, 50.0, 0.0])),
                series("cookies", &values([0.0; 4])),
            ],
            ..Panel::default()
        };
        let drawn = drawn(&panel, Vec::new());
        // The axis goes from 46 to 772, each step is 181.5 wide, and 106 are 158 high.
        assert_eq!(shape(&drawn, "area dropped"), "M46 180L46 30.9L772 30.9V180Z");
        assert_eq!(
            shape(&drawn, "area passed"),
            "M46 180L46 30.9L136.8 30.9L318.2 105.5L499.8 105.5L681.2 30.9L772 30.9V180Z"
        );
        let order = ["dropped", "passed"].map(|it| drawn.find(&format!("<path class=\"area {it}")));
        assert!(order.is_sorted(), "what lies below covers what lies above");
        assert!(!drawn.contains("area cookies\" d="), "there is nothing to see");
        assert_eq!(drawn.matches("<li>").count(), 3);
        assert_eq!(drawn.matches(">14:00:10<").count(), 1, "the narrow one has fewer marks");
    }

    #[test]
    fn the_modes_are_a_band_below_the_axis() {
        let panel = Panel { lines: vec![series("completed", &[Some(1.0); 4])], ..Panel::default() };
        let drawn = drawn(&panel, Vec::new());
        let (observe, enforce) = (
            r#"<rect class="mode observe" x="46" y="182" width="181.5" height="13"/>"#,
            r#"<rect class="mode enforce" x="227.5" y="182" width="544.5" height="13"/>"#,
        );
        assert!(drawn.contains(observe) && drawn.contains(enforce), "{drawn}");
        assert_eq!(drawn.matches(">enforce</text>").count(), 2);
    }

    #[test]
    fn what_was_measured_now_and_then_is_shown_with_dots() {
        let panel = Panel {
            lines: vec![series("half-open", &[None, Some(10.0), None, Some(0.0)])],
            levels: vec![(100.0, "room for 100".to_owned())],
            ..Panel::default()
        };
        let drawn = drawn(&panel, Vec::new());
        assert_eq!(shape(&drawn, "line half-open"), "M318.2 165.1L681.2 180L772 180");
        assert_eq!(drawn.matches("<circle").count(), 2 * 2);
        assert!(drawn.contains("</svg>room for 100</li>"));
        assert_eq!(drawn.matches("<path class=\"level\" d=\"M46 ").count(), 2);
    }

    #[test]
    fn moments_near_to_each_other_share_a_flag() {
        let scale = Scale::new([0.0, 100.0], [0.0, 1000.0]);
        let flag = |x, first, last| Flag { x, first, last };
        assert_eq!(
            flags(&[(1.0, 1), (2.0, 2), (4.0, 3), (30.0, 4), (90.0, 5)], &scale),
            [flag(25.0, 1, 3), flag(300.0, 4, 4), flag(900.0, 5, 5)]
        );
        let panel = Panel { lines: vec![series("completed", &[Some(1.0); 4])], ..Panel::default() };
        let drawn = drawn(&panel, vec![(0.0, 1), (0.1, 2), (39.0, 3)]);
        assert!(!drawn.contains("legend"), "one line is named by the title");
        assert_eq!(drawn.matches(">1–2</text>").count(), 2);
        assert_eq!(drawn.matches("class=\"mark\"").count(), 2 * 3);
    }

    #[test]
    fn pixels_have_one_decimal_where_they_need_it() {
        for (value, expected) in [(0.0, "0"), (-0.01, "0"), (12.34, "12.3"), (12.96, "13")] {
            assert_eq!(px(value), expected);
        }
    }
}
