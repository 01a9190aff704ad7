//! Numbers that a page repeats from the pages with the measurements.

use super::pages::{Page, markdown};

/// A number as it is written: its value, and its decimals.
#[derive(Clone, Copy, Debug)]
struct Number {
    value: f64,
    decimals: i32,
}

/// Cells of a table, by rows, without its heading.
type Table = Vec<Vec<String>>;

/// Direction in which a table compares what it measures.
#[derive(Clone, Copy)]
enum Compared {
    /// One metric a row.
    Rows,
    /// One metric a column.
    Columns,
}

#[test]
fn results_of_the_readme_are_those_of_the_pages_with_the_measurements() {
    let pages = markdown();
    let sources = ["performance.md", "evaluation.md", "comparison.md"];
    hold(&pages, "README.md", "## Results", &sources, Compared::Rows, 7);
}

#[test]
fn numbers_of_the_comparison_are_those_of_the_performance_page() {
    let pages = markdown();
    hold(
        &pages,
        "docs/evidence/comparison.md",
        "## Measured",
        &["performance.md"],
        Compared::Columns,
        8,
    );
}

/// Numbers that are written as words.
const NUMERALS: [&str; 21] = [
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
];

#[test]
fn the_readme_counts_the_targets_as_the_evaluation_does() {
    let pages = markdown();
    let of = |name: &str| pages.iter().find(|page| page.path.ends_with(name)).expect(name);
    let readme = of("README.md").text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = &of("docs/evidence/evaluation.md").text;
    let (_, targets) = text.split_once("## Targets\n").expect("a section of targets");
    let sentence = counted_targets(targets);
    assert!(readme.contains(&sentence), "the README does not say: {sentence}");
}

/// The number of targets, of those that are met, and of those that are missed, in a sentence.
fn counted_targets(section: &str) -> String {
    let table = &tables(section)[0];
    let met = table.iter().filter(|row| row.iter().any(|cell| cell == "met")).count();
    let (all, missed) = (NUMERALS[table.len()], table.len() - met);
    let rest = match missed {
        0 => "every table".to_owned(),
        1 => "every table and the missed target".to_owned(),
        missed => format!("every table and the {} missed targets", NUMERALS[missed]),
    };
    let page = "[Evaluation](docs/evidence/evaluation.md)";
    format!("Of {all} targets, {} are met. {page} has {rest}.", NUMERALS[met])
}

#[test]
fn the_rows_that_are_met_are_counted() {
    let row = |verdict: &str| format!("| target | 1 | {verdict} |\n");
    let table = |verdicts: &[&str]| {
        let rows: String = verdicts.iter().map(|verdict| row(verdict)).collect();
        counted_targets(&format!("\n| target | worst | verdict |\n|---|---|---|\n{rows}\nText.\n"))
    };
    let page = "[Evaluation](docs/evidence/evaluation.md) has every table";
    let expected = format!("Of two targets, one are met. {page} and the missed target.");
    assert_eq!(table(&["met", "not met"]), expected);
    let expected = format!("Of three targets, one are met. {page} and the two missed targets.");
    assert_eq!(table(&["met", "not met", "not shown"]), expected);
    assert_eq!(table(&["met"]), format!("Of one targets, one are met. {page}."));
}

/// Asserts that each line of numbers in the tables of a section stands in one row or one column of a source.
fn hold(
    pages: &[Page],
    page: &str,
    section: &str,
    sources: &[&str],
    compared: Compared,
    least: usize,
) {
    let of = |name: &str| pages.iter().find(|page| page.path.ends_with(name)).expect(name);
    let text = &of(page).text;
    let text = &text[text.find(section).expect(section) + section.len()..];
    let text = text.split("\n## ").next().unwrap_or(text);
    let known: Vec<Vec<Number>> =
        sources.iter().flat_map(|name| tables(&of(name).text)).flat_map(|it| lines(&it)).collect();
    let mut compared_lines = 0;
    for table in tables(text) {
        let table = match compared {
            Compared::Rows => table,
            Compared::Columns => turned(&table),
        };
        for line in table.iter().map(|cells| numbers(cells)).filter(|line| line.len() > 1) {
            compared_lines += 1;
            let holds =
                |known: &Vec<Number>| line.iter().all(|it| known.iter().any(|at| same(*it, *at)));
            assert!(known.iter().any(holds), "{page}: no source has {line:?} in one row or column");
        }
    }
    assert!(compared_lines >= least, "{page}: only {compared_lines} lines of numbers");
}

/// The tables of a page.
fn tables(text: &str) -> Vec<Table> {
    let mut tables = Vec::new();
    let mut rows: Table = Vec::new();
    for line in text.lines().chain([""]) {
        match line.strip_prefix('|') {
            Some(row) => rows.push(row.split('|').map(|cell| cell.trim().to_owned()).collect()),
            None => {
                // The heading and the line below it.
                let table: Table = rows.drain(..).skip(2).collect();
                tables.extend((!table.is_empty()).then_some(table));
            }
        }
    }
    tables
}

/// The numbers of each row and of each column.
fn lines(table: &Table) -> Vec<Vec<Number>> {
    let rows = table.iter().map(|cells| numbers(cells));
    let columns: Vec<Vec<Number>> = turned(table).iter().map(|cells| numbers(cells)).collect();
    rows.chain(columns).collect()
}

fn turned(table: &Table) -> Table {
    let width = table.iter().map(Vec::len).max().unwrap_or_default();
    let column = |number: usize| table.iter().filter_map(|row| row.get(number).cloned()).collect();
    (0..width).map(column).collect()
}

fn numbers(cells: &[String]) -> Vec<Number> {
    cells.iter().filter_map(|cell| number(cell)).collect()
}

/// The number that a cell begins with: `**2,559**`, `99.94 %` or `1.44 M`.
fn number(cell: &str) -> Option<Number> {
    let plain = cell.replace(['*', ','], "");
    let end = plain.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(plain.len());
    let (digits, rest) = plain.split_at(end);
    let decimals = digits.split_once('.').map_or(0, |(_, decimals)| decimals.len()) as i32;
    let value: f64 = digits.parse().ok()?;
    let unit = if rest.trim_start().starts_with('M') { 1e6 } else { 1.0 };
    Some(Number { value: value * unit, decimals: decimals - unit.log10() as i32 })
}

/// Returns whether `repeated` is `measured`, rounded to the decimals of `repeated`, also in millions.
fn same(repeated: Number, measured: Number) -> bool {
    let within = |measured: f64| {
        let half = 0.5 * 10f64.powi(-repeated.decimals);
        (measured - repeated.value).abs() <= half * 1.0001
    };
    within(measured.value) || within(measured.value / 1e6)
}

#[test]
fn a_number_that_no_source_has_is_found() {
    let (shown, source) = (number("**1.44 M**").unwrap(), number("1443120 (1.2–1.4)").unwrap());
    assert!(same(shown, source) && !same(number("1.45 M").unwrap(), source));
    assert!(same(number("1.44").unwrap(), source), "in millions");
    assert!(same(number("2,559").unwrap(), number("2559").unwrap()));
    assert!(!same(number("99.89").unwrap(), number("99.88 (99.60)").unwrap()));
    assert!(number("none").is_none());
}
