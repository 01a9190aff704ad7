//! A plot as SVG: the same figure gives the same text. It stands on white, in colours that differ for
//! the colour-blind too, and each line has its name where it ends.

use anyhow::{Context, Result, ensure};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::part::{Axis, Figure, Series};
use crate::scale::Scale;

/// Width and height of a plot, in pixels.
const SIZE: (u32, u32) = (860, 460);
const FONT: &str = "sans-serif";
const TEXT: u32 = 16;
const TITLE: u32 = 20;
/// Pixels from one name to the next one, at least.
const NAME_GAP: i32 = 18;
/// Pixels that a character takes, about: no font is read here.
const CHARACTER: u32 = 8;
/// Pixels between the end of the longest line and the names.
const LEADER: i32 = 16;
const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(222, 222, 222);
/// Colours of Okabe and Ito, without the yellow, which is unreadable on white.
const PALETTE: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Scale, Scale>>;

/// Draws `figure`.
///
/// # Errors
/// When it has no points, or one that is no number.
pub fn svg(figure: &Figure) -> Result<String> {
    let points = || figure.series.iter().flat_map(|series| &series.points);
    ensure!(points().next().is_some(), "{} has nothing to draw", figure.file);
    let finite = points().all(|(x, y)| x.is_finite() && y.iter().all(|y| y.is_finite()));
    ensure!(finite, "{} has points that are no numbers", figure.file);
    let x: Vec<f64> = points().map(|(x, _)| *x).collect();
    let y: Vec<f64> = points().flat_map(|(_, y)| *y).collect();
    let x = Scale::over(&x, figure.x.logarithmic, false);
    let y = Scale::over(&y, figure.y.logarithmic, true);
    let mut text = String::new();
    draw(figure, x, y, &mut text).with_context(|| format!("cannot draw {}", figure.file))?;
    Ok(text)
}

fn draw(figure: &Figure, x: Scale, y: Scale, text: &mut String) -> Result<()> {
    let canvas = SVGBackend::with_string(text, SIZE).into_drawing_area();
    canvas.fill(&WHITE)?;
    let longest = figure.series.iter().map(|series| series.name.chars().count()).max();
    let names = longest.unwrap_or_default() as u32 * CHARACTER + 2 * LEADER as u32;
    let mut chart = ChartBuilder::on(&canvas)
        .caption(&figure.title, (FONT, TITLE).into_font().color(&INK))
        .margin(12)
        .margin_right(names)
        .x_label_area_size(48)
        .y_label_area_size(68)
        .build_cartesian_2d(x, y)?;
    mesh(&mut chart, &figure.x, &figure.y)?;
    for (number, series) in figure.series.iter().enumerate() {
        line(&mut chart, series, number)?;
    }
    label(&canvas, &chart, &figure.series)?;
    canvas.present()?;
    Ok(())
}

fn mesh(chart: &mut Chart<'_, '_>, x: &Axis, y: &Axis) -> Result<()> {
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style((FONT, TEXT).into_font().color(&INK))
        .x_desc(&x.title)
        .y_desc(&y.title)
        .draw()?;
    Ok(())
}

/// The medians with a line through them, and from least to greatest at each.
fn line(chart: &mut Chart<'_, '_>, series: &Series, number: usize) -> Result<()> {
    let color = PALETTE[number % PALETTE.len()];
    let medians: Vec<(f64, f64)> =
        series.points.iter().map(|&(x, [median, ..])| (x, median)).collect();
    let whiskers = series.points.iter().filter(|(_, [_, least, greatest])| least < greatest);
    chart.draw_series(whiskers.map(|&(x, [_, least, greatest])| {
        PathElement::new(vec![(x, least), (x, greatest)], color.mix(0.6).stroke_width(1))
    }))?;
    chart.draw_series(LineSeries::new(medians.iter().copied(), color.stroke_width(2)))?;
    // Where colours recur, marks do not.
    let mark = color.filled();
    match number % 3 {
        0 => chart.draw_series(medians.iter().map(|&at| Circle::new(at, 4, mark)))?,
        1 => chart.draw_series(medians.iter().map(|&at| TriangleMarker::new(at, 5, mark)))?,
        _ => {
            chart.draw_series(medians.iter().map(|&at| Cross::new(at, 4, color.stroke_width(2))))?
        }
    };
    Ok(())
}

/// Writes each name beside the end of its line, to the right of all.
fn label(canvas: &Canvas<'_>, chart: &Chart<'_, '_>, series: &[Series]) -> Result<()> {
    let (columns, rows) = chart.plotting_area().get_pixel_range();
    let ends: Vec<(usize, (i32, i32))> = series
        .iter()
        .enumerate()
        .filter_map(|(number, series)| {
            let (x, [median, ..]) = *series.points.last()?;
            Some((number, chart.backend_coord(&(x, median))))
        })
        .collect();
    let heights: Vec<i32> = ends.iter().map(|(_, (_, height))| *height).collect();
    for (&(number, end), height) in ends.iter().zip(apart(&heights, NAME_GAP, rows.end)) {
        let color = PALETTE[number % PALETTE.len()];
        let leader = vec![end, (columns.end + LEADER, height)];
        // Thin and pale, so that it is not taken for a part of the line.
        canvas.draw(&PathElement::new(leader, color.mix(0.4).stroke_width(1)))?;
        let style = (FONT, TEXT).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
        canvas.draw(&Text::new(
            series[number].name.as_str(),
            (columns.end + LEADER + 4, height),
            style,
        ))?;
    }
    Ok(())
}

/// `heights`, moved by as little as leaves `gap` between any two and none below `bottom`.
fn apart(heights: &[i32], gap: i32, bottom: i32) -> Vec<i32> {
    let mut order: Vec<usize> = (0..heights.len()).collect();
    order.sort_by_key(|&index| heights[index]);
    let mut moved = heights.to_vec();
    for pair in order.windows(2) {
        moved[pair[1]] = moved[pair[1]].max(moved[pair[0]] + gap);
    }
    // A label that was pushed too far takes its neighbours along on the way back.
    let mut limit = bottom;
    for &index in order.iter().rev() {
        moved[index] = moved[index].min(limit);
        limit = moved[index] - gap;
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(series: Vec<Series>) -> Figure {
        let axis = |title: &str, logarithmic| Axis { title: title.to_owned(), logarithmic };
        Figure {
            file: "cost-by-rules",
            title: "A SYN dropped by source, against rules".to_owned(),
            x: axis("source rules", true),
            y: axis("ns per packet", false),
            series,
        }
    }

    fn series(name: &str, points: &[(f64, [f64; 3])]) -> Series {
        Series { name: name.to_owned(), points: points.to_vec() }
    }

    #[test]
    fn a_figure_holds_its_words_names_and_whiskers_and_is_the_same_each_time() {
        let points =
            [(0.0, [40.0, 38.0, 44.0]), (1e3, [50.0, 50.0, 50.0]), (1e5, [60.0, 55.0, 71.0])];
        let figure =
            figure(vec![series("tcpguard <IPv4>", &points), series("xdp-filter", &points[..2])]);
        let drawn = svg(&figure).unwrap();
        for words in
            ["against rules", "ns per packet", "source rules", "tcpguard &lt;IPv4&gt;", "100k"]
        {
            assert!(drawn.contains(words), "{words}: {drawn}");
        }
        assert_eq!(drawn.matches("<circle").count(), 3);
        // Two points of the first and one of the second line have a span.
        assert_eq!(drawn.matches(r##"opacity="0.6""##).count(), 3);
        assert_eq!(drawn, svg(&figure).unwrap());
    }

    #[test]
    fn what_cannot_be_drawn_is_named() {
        let error = svg(&figure(vec![series("nothing", &[])])).unwrap_err();
        assert_eq!(error.to_string(), "cost-by-rules has nothing to draw");
        let error = svg(&figure(vec![series("x", &[(1.0, [f64::NAN; 3])])])).unwrap_err();
        assert_eq!(error.to_string(), "cost-by-rules has points that are no numbers");
    }

    #[test]
    fn names_keep_apart_and_on_the_page() {
        assert_eq!(apart(&[100, 20, 60], 18, 400), [100, 20, 60]);
        assert_eq!(apart(&[100, 95, 101], 18, 400), [113, 95, 131]);
        assert_eq!(apart(&[398, 399, 390], 18, 400), [382, 400, 364]);
        assert_eq!(apart(&[], 18, 400), Vec::<i32>::new());
    }
}
