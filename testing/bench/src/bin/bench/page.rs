//! `docs/evidence/performance.md` and its plots: the text between marks comes from the record, everything else is
//! written by hand and stays.
//!
//! ```text
//! <!-- measured:NAME begin -->
//! …
//! <!-- measured:NAME end -->
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Result, bail, ensure};

use crate::part::{Block, Goal, Plot, Report, Table};
use crate::verdict;

/// Folder of the plots, seen from the page.
const PLOTS: &str = "performance";
/// Width and height of a plot, and what lies left of, above, right of and below its lines, in pixels.
const SIZE: [f64; 2] = [860.0, 460.0];
const MARGINS: [f64; 4] = [68.0, 44.0, 210.0, 60.0];
/// Marks of an axis, about.
const MARKS: f64 = 6.0;
/// Colours of Okabe and Ito: they differ for the colour-blind too.
const PALETTE: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

/// The text between the marks: by name, the Markdown.
pub type Measured = BTreeMap<String, String>;

/// The Markdown of `reports`, each under its name, and the verdict on all of them.
pub fn measured(machine: &str, reports: &[Report]) -> Measured {
    let goals: Vec<Goal> = reports.iter().flat_map(|report| report.goals.clone()).collect();
    let verdict = format!("{}\n{}.\n", markdown(&verdict::kinds(&goals)), verdict::summary(&goals));
    let all = [("machine".to_owned(), machine.to_owned()), ("verdict".to_owned(), verdict)];
    all.into_iter().chain(reports.iter().map(|it| (it.part.clone(), blocks(it)))).collect()
}

/// A report as a terminal shows it: its tables, and what came of its targets.
pub fn text(report: &Report) -> String {
    let (text, goals) = (blocks(report), &report.goals);
    if goals.is_empty() {
        return text;
    }
    format!("{text}\n{}\n{}\n", markdown(&verdict::table(goals)), verdict::summary(goals))
}

fn blocks(report: &Report) -> String {
    let block = |block: &Block| match block {
        Block::Text(text) => format!("{}\n", text.trim_end()),
        Block::Table(table) => markdown(table),
        Block::Plot(Plot { title, file, .. }) => format!("![{title}]({PLOTS}/{file}.svg)\n"),
    };
    report.blocks.iter().map(block).collect::<Vec<_>>().join("\n")
}

/// A table in Markdown.
pub fn markdown(table: &Table) -> String {
    // A bar would end the cell.
    let cell = |cell: &String| match cell.as_str() {
        "" => " |".to_owned(),
        cell => format!(" {} |", cell.replace('|', "\\|")),
    };
    let row = |cells: &[String]| format!("|{}\n", cells.iter().map(cell).collect::<String>());
    let rows: String = table.rows.iter().map(|cells| row(cells)).collect();
    format!("{}|{}\n{rows}", row(&table.columns), "---|".repeat(table.columns.len()))
}

/// `page` with `measured` between its marks.
///
/// # Errors
/// When a mark has no end, or names nothing that was measured, or something measured has no mark, or
/// two.
pub fn filled(page: &str, measured: &Measured) -> Result<String> {
    let mut text = String::new();
    let mut rest = page;
    let mut missing: BTreeSet<&str> = measured.keys().map(String::as_str).collect();
    while let Some((before, name, after)) = next_mark(rest) {
        let end = format!("<!-- measured:{name} end -->");
        let Some((_, after)) = after.split_once(&end) else {
            bail!("the page has no `{end}`");
        };
        let Some(content) = measured.get(name) else {
            bail!("the page has a place for {name}, which is no part of the record");
        };
        ensure!(missing.remove(name), "the page has two places for {name}");
        let begin = format!("<!-- measured:{name} begin -->");
        text += &format!("{before}{begin}\n\n{}\n\n{end}", content.trim());
        rest = after;
    }
    if let Some(name) = missing.first() {
        bail!("the page has no `<!-- measured:{name} begin -->`: write one where {name} belongs");
    }
    Ok(text + rest)
}

/// The text before the next mark, its name, and the text behind it.
fn next_mark(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("<!-- measured:")?;
    let (name, after) = rest.split_once(" begin -->")?;
    Some((before, name, after))
}

/// The plots of `reports` as SVG, by the name of their file.
pub fn plots(reports: &[Report]) -> BTreeMap<&str, String> {
    let blocks = reports.iter().flat_map(|report| &report.blocks);
    let plots = blocks.filter_map(|block| match block {
        Block::Plot(plot) => Some((plot.file.as_str(), svg(plot))),
        _ => None,
    });
    plots.collect()
}

/// A plot on white: lines through the medians, upright strokes from least to greatest, and the names in
/// the lines' colours.
fn svg(plot: &Plot) -> String {
    let [width, height] = SIZE;
    let [left, top, right, bottom] = MARGINS;
    let points = || plot.series.iter().flat_map(|series| &series.points);
    let x = Axis::over(points().map(|(x, _)| *x), [left, width - right]);
    let y = Axis::over(points().flat_map(|(_, y)| *y).chain([0.0]), [height - bottom, top]);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"15\" fill=\"#282828\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let mut write = |at: [f64; 2], how: &str, words: &str| {
        let words = words.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(text, "<text x=\"{:.0}\" y=\"{:.0}\" {how}>{words}</text>", at[0], at[1]);
    };
    let middle = [(left + width - right) / 2.0, (top + height - bottom) / 2.0];
    write([middle[0], 26.0], "text-anchor=\"middle\" font-size=\"18\"", &plot.title);
    write([middle[0], height - 14.0], "text-anchor=\"middle\"", &plot.x);
    write([14.0, middle[1]], "writing-mode=\"tb\" text-anchor=\"middle\"", &plot.y);
    for mark in x.marks() {
        write([x.at(mark), height - bottom + 20.0], "text-anchor=\"middle\"", &mark.to_string());
    }
    for mark in y.marks() {
        write([left - 8.0, y.at(mark) + 5.0], "text-anchor=\"end\"", &mark.to_string());
    }
    for (series, (number, color)) in plot.series.iter().zip(PALETTE.iter().cycle().enumerate()) {
        let below = top + 22.0 * (number as f64 + 1.0);
        write([width - right + 12.0, below], &format!("fill=\"{color}\""), &series.name);
    }
    let grid = x.marks().map(|it| format!("M{:.1} {top}V{}", x.at(it), height - bottom));
    let grid = grid.chain(y.marks().map(|it| format!("M{left} {:.1}H{}", y.at(it), width - right)));
    let grid: String = grid.collect();
    let _ = writeln!(text, "<path d=\"{grid}\" stroke=\"#dedede\"/>");
    for (series, color) in plot.series.iter().zip(PALETTE.iter().cycle()) {
        let place =
            |&(at, [median, ..]): &(f64, [f64; 3])| format!("{:.1},{:.1}", x.at(at), y.at(median));
        let line: Vec<_> = series.points.iter().map(place).collect();
        let stroke = |&(at, [_, least, greatest]): &(f64, [f64; 3])| {
            format!("M{:.1} {:.1}V{:.1}", x.at(at), y.at(least), y.at(greatest))
        };
        let strokes: String = series.points.iter().map(stroke).collect();
        let _ = writeln!(
            text,
            "<g stroke=\"{color}\" fill=\"none\"><polyline points=\"{}\" stroke-width=\"2\"/>\
             <path d=\"{strokes}\" opacity=\"0.6\"/></g>",
            line.join(" ")
        );
    }
    text + "</svg>\n"
}

/// A linear axis: the range of its values, and the pixels at its ends.
struct Axis {
    range: [f64; 2],
    step: f64,
    pixels: [f64; 2],
}

impl Axis {
    /// An axis of round marks around `values`.
    fn over(values: impl Iterator<Item = f64>, pixels: [f64; 2]) -> Self {
        let ends = (f64::INFINITY, f64::NEG_INFINITY);
        let (least, most) = values.fold(ends, |(least, most), it| (least.min(it), most.max(it)));
        let span = if most > least { most - least } else { 1.0 };
        let decade = 10_f64.powf((span / MARKS).log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * decade);
        let step = steps.into_iter().find(|step| span / step <= MARKS).unwrap_or(span);
        let first = (least / step).floor() * step;
        Self { range: [first, (((first + span).max(most) / step).ceil()) * step], step, pixels }
    }

    fn marks(&self) -> impl Iterator<Item = f64> {
        let [first, last] = self.range;
        let count = ((last - first) / self.step).round() as usize;
        // Adding up steps would leave rounding errors behind the third digit.
        let mark = |value: f64| (value * 1e6).round() / 1e6;
        (0..=count).map(move |number| mark(first + number as f64 * self.step))
    }

    fn at(&self, value: f64) -> f64 {
        let ([first, last], [begin, end]) = (self.range, self.pixels);
        begin + (end - begin) * (value - first) / (last - first)
    }
}
