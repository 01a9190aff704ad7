//! `docs/performance.md`: the text between marks comes from the record, everything else is written by
//! hand and stays.
//!
//! ```text
//! <!-- measured:NAME begin -->
//! …
//! <!-- measured:NAME end -->
//! ```

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};

use crate::part::{Figure, Goal, Part};
use crate::verdict;

/// Folder of the plots, seen from the page.
const PLOTS: &str = "performance";

/// The text between the marks: by name, the Markdown.
pub type Measured = BTreeMap<String, String>;

/// The Markdown of `parts`, each under its name, and the `verdict` on all of them.
pub fn measured(machine: &str, parts: &[(&str, &dyn Part)]) -> Measured {
    let goals: Vec<Goal> = parts.iter().flat_map(|(_, part)| part.goals()).collect();
    let verdict = format!("{}\n{}.\n", verdict::table(&goals), verdict::summary(&goals));
    let mut measured = Measured::from([
        ("machine".to_owned(), machine.to_owned()),
        ("verdict".to_owned(), verdict),
    ]);
    for (name, part) in parts {
        let plots: String = part.figures().iter().map(plot).collect();
        let tables = part.tables();
        measured.insert((*name).to_owned(), format!("{}\n{plots}", tables.trim_end()));
    }
    measured
}

fn plot(figure: &Figure) -> String {
    format!("\n![{}]({PLOTS}/{}.svg)\n", figure.title, figure.file)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::part::tests::Made;

    const PAGE: &str = "# Performance\n\n<!-- measured:rules begin -->\nold\n<!-- measured:rules end -->\n\
                        by hand\n<!-- measured:verdict begin --><!-- measured:verdict end -->\nend\n";

    fn of(names: &[&str]) -> Measured {
        names.iter().map(|name| ((*name).to_owned(), format!("new {name}\n"))).collect()
    }

    #[test]
    fn what_stands_between_marks_is_replaced_and_the_rest_stays() {
        let page = filled(PAGE, &of(&["rules", "verdict"])).unwrap();
        assert_eq!(
            page,
            "# Performance\n\n<!-- measured:rules begin -->\n\nnew rules\n\n<!-- measured:rules end -->\n\
             by hand\n<!-- measured:verdict begin -->\n\nnew verdict\n\n<!-- measured:verdict end -->\nend\n"
        );
        assert_eq!(filled(&page, &of(&["rules", "verdict"])).unwrap(), page);
    }

    #[test]
    fn a_place_without_a_part_and_a_part_without_a_place_are_told() {
        let said = |page: &str, names: &[&str]| filled(page, &of(names)).unwrap_err().to_string();
        assert!(said(PAGE, &["rules"]).contains("a place for verdict"));
        assert!(said(PAGE, &["rules", "verdict", "agent"]).contains("measured:agent begin"));
        assert!(said(&PAGE.repeat(2), &["rules", "verdict"]).contains("two places for rules"));
        let torn = PAGE.replace("<!-- measured:rules end -->", "");
        assert!(said(&torn, &["rules", "verdict"]).contains("no `<!-- measured:rules end -->`"));
    }

    #[test]
    fn a_part_gives_tables_plots_and_goals() {
        let measured = measured("- a machine\n", &[("rules", &Made { cost: 40.0 })]);
        assert_eq!(measured["machine"], "- a machine\n");
        assert!(measured["rules"].starts_with("| rules | ns |"), "{}", measured["rules"]);
        assert!(measured["rules"].contains("![Cost of rules](performance/made-rules.svg)"));
        assert!(measured["verdict"].contains("| made cost | ≤ 50 ns | 40.00 (3) | met |"));
        assert!(measured["verdict"].ends_with("1 of 1 targets met, 0 missed, 0 not measured.\n"));
    }
}
