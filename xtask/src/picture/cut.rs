//! Cuts the plots out of a page of `tcpguard report`, as one drawing that stands alone: light or dark as
//! its reader has it, text that stays text. The root tests include this file.

use anyhow::{Context as _, Result, ensure};

/// Plots that are shown: the treatment of the SYNs, and the clients.
const SHOWN: usize = 2;
/// Pixels from side to side, as wide as a page draws its plots on a desk.
const WIDTH: u32 = 780;
/// Height of one of these plots.
const PLOT: u32 = 200;
/// Base lines of a plot's title and of its legend, and where the plot begins.
const TITLE: u32 = 20;
const KEYS: u32 = 42;
const HEAD: u32 = 52;
/// From the end of a plot to the next.
const GAP: u32 = 14;
/// About how wide a letter of the keys is: no reader's fonts are known here.
const LETTER: u32 = 7;

/// Classes of the page's style sheet by which shapes of a plot are drawn. Rules that position plots on a page
/// are left out.
const SHAPES: [&str; 13] = [
    "grid", "base", "tick", "attack", "area", "key", "paper", "stripe", "line", "dot", "level",
    "mark", "flag",
];
/// Further styles of a drawing.
const OWN_STYLE: &str = "text { font-family: system-ui, -apple-system, \"Segoe UI\", Roboto, \
                         \"Liberation Sans\", sans-serif; }\n\
                         .sheet { fill: var(--paper); }\n\
                         .title { font-size: 15px; font-weight: 600; fill: var(--ink); }\n\
                         .name { font-size: 13px; fill: var(--ink); }\n";

/// The first wide plots of `page`, one below the other, as SVG.
///
/// # Errors
/// When it is no page of this version with plots on it.
pub fn cut(page: &str) -> Result<String> {
    let (style, body) = inside(page, "<style>", "</style>").context("the page has no style")?;
    let patterns = inside(body, "<defs>", "</defs>").map_or("", |(patterns, _)| patterns);
    let (mut drawn, mut top) = (String::new(), 0);
    let mut titles = Vec::new();
    let mut rest = body;
    while titles.len() < SHOWN
        && let Some((figure, after)) = inside(rest, "<figure>", "</figure>")
    {
        rest = after;
        let (title, _) = inside(figure, "<p class=\"title\">", "</p>").context("no title")?;
        let (plot, _) = inside(figure, "<svg class=\"plot wide\"", "</svg>")
            .with_context(|| format!("no plot of {title}"))?;
        let (_, shapes) = plot.split_once('>').context("a plot that does not begin")?;
        drawn += &format!(
            "<text class=\"title\" x=\"2\" y=\"{}\">{title}</text>\n{}<svg class=\"plot\" x=\"0\" \
             y=\"{}\" width=\"{WIDTH}\" height=\"{PLOT}\" viewBox=\"0 0 {WIDTH} {PLOT}\">{shapes}</svg>\n",
            top + TITLE,
            keys(figure, top + KEYS)?,
            top + HEAD,
        );
        titles.push(title);
        top += HEAD + PLOT + GAP;
    }
    ensure!(!titles.is_empty(), "the page has no plots: was anything recorded over time?");
    let titles = titles.join("; ");
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{top}\" viewBox=\"0 0 \
         {WIDTH} {top}\" role=\"img\" aria-label=\"{titles}\">\n<style>\n{}{OWN_STYLE}</style>\n\
         <defs>{patterns}</defs>\n<rect class=\"sheet\" width=\"{WIDTH}\" height=\"{top}\"/>\n\
         {drawn}</svg>\n",
        style_of_shapes(style)?,
    ))
}

/// The legend of a figure, in a row with this base line; empty if the figure has none.
fn keys(figure: &str, base: u32) -> Result<String> {
    let Some((list, _)) = inside(figure, "<ul class=\"legend\">", "</ul>") else {
        return Ok(String::new());
    };
    let (mut drawn, mut left) = (String::new(), 2);
    let mut rest = list;
    while let Some((item, after)) = inside(rest, "<li>", "</li>") {
        rest = after;
        let (key, name) = item.split_once("</svg>").context("a key without a name")?;
        let (classes, _) = inside(key, "class=\"", "\"").context("a key without a class")?;
        let (_, shape) = key.split_once('>').context("a key that does not begin")?;
        drawn += &format!(
            "<svg class=\"{classes}\" x=\"{left}\" y=\"{}\" width=\"24\" height=\"12\" viewBox=\"0 0 24 \
             12\">{shape}</svg><text class=\"name\" x=\"{}\" y=\"{base}\">{name}</text>\n",
            base - 11,
            left + 30,
        );
        left += 30 + LETTER * name.chars().count() as u32 + 22;
    }
    Ok(drawn)
}

/// The colours of a style sheet, light and dark, and its rules for the shapes of plots.
fn style_of_shapes(style: &str) -> Result<String> {
    let mut kept = String::new();
    for rule in rules(style)? {
        let (selectors, _) = rule.split_once('{').context("a rule without a block")?;
        let selectors = selectors.trim();
        let colours = selectors == ":root" || selectors.contains("prefers-color-scheme: dark");
        if colours || selectors.split(',').any(|selector| draws_shape(selector.trim())) {
            kept += rule.trim();
            kept.push('\n');
        }
    }
    Ok(kept)
}

fn draws_shape(selector: &str) -> bool {
    if selector == ".key" {
        // Where it stands in a line of text.
        return false;
    }
    let is_name = |char: char| char.is_ascii_alphanumeric() || char == '-';
    let class = selector.split_once('.').map_or("", |(_, class)| class);
    let class = class.split(|char| !is_name(char)).next().unwrap_or_default();
    SHAPES.contains(&class) || selector.starts_with(".plot ")
}

/// The rules of a style sheet, each with its block; those for a medium with all that they hold.
fn rules(style: &str) -> Result<Vec<String>> {
    let mut plain = String::new();
    let mut rest = style;
    while let Some((before, comment)) = rest.split_once("/*") {
        plain += before;
        rest = comment.split_once("*/").context("a comment without an end")?.1;
    }
    plain += rest;
    let (mut rules, mut depth, mut begin) = (Vec::new(), 0_u32, 0);
    for (at, char) in plain.char_indices() {
        match char {
            '{' => depth += 1,
            '}' => {
                depth = depth.checked_sub(1).context("a block that was never begun")?;
                if depth == 0 {
                    rules.push(plain[begin..=at].to_owned());
                    begin = at + 1;
                }
            }
            _ => {}
        }
    }
    ensure!(depth == 0, "a block without an end");
    Ok(rules)
}

/// The text between two marks in `text`, and the text after them.
fn inside<'t>(text: &'t str, begin: &str, end: &str) -> Option<(&'t str, &'t str)> {
    text.split_once(begin)?.1.split_once(end)
}
