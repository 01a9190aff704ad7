//! Checks the statements of `SPECIFICATION.md`, `docs/evidence/threat-model.md` and `ARCHITECTURE.md` about
//! tests and tables. A promise without its test is none.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context, Result, bail};
use tcpguard_goals::Goal;

use crate::{faults, workspace::Workspace};

const SPECIFICATION: &str = "SPECIFICATION.md";
const THREAT_MODEL: &str = "docs/evidence/threat-model.md";
const ARCHITECTURE: &str = "ARCHITECTURE.md";
/// Its section in which each item names tests.
const PRINCIPLES: &str = "Principles";
/// Its section in which items may name tests.
const INVARIANTS: &str = "Invariants, and what holds each";
/// File in which every map has its `static`.
const MAPS: &str = "tcpguard-ebpf/src/maps.rs";
/// Limit on the number of promises: a longer list is not read.
const MOST_PROMISES: usize = 70;

/// The tests, goals and maps that the documents are checked against.
struct Tree {
    tests: BTreeSet<String>,
    /// Goals that have rows.
    held: BTreeSet<Goal>,
    maps: BTreeSet<String>,
}

/// Reads the documents and the tree.
///
/// # Errors
/// Names each line that makes a false statement. Fails as well when a file cannot be read.
pub fn check(workspace: &Workspace) -> Result<()> {
    let read = |path: &str| {
        let path = workspace.root.join(path);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let tests: BTreeMap<String, Vec<String>> = faults::test_functions(workspace)?;
    let tree = Tree {
        held: tests.keys().filter_map(|name| Goal::of_test(name)).collect(),
        tests: tests.into_keys().collect(),
        maps: statics(&read(MAPS)?).map(str::to_owned).collect(),
    };
    let mut broken = specification(&read(SPECIFICATION)?, &tree);
    broken.extend(threat_model(&read(THREAT_MODEL)?, &tree));
    broken.extend(architecture(&read(ARCHITECTURE)?, &tree));
    if !broken.is_empty() {
        bail!("promises:\n  {}", broken.join("\n  "));
    }
    Ok(())
}

fn specification(text: &str, tree: &Tree) -> Vec<String> {
    let mut broken = tests_exist(SPECIFICATION, text, tree);
    let rows: Vec<Row<'_>> = rows(text).filter(|row| row.names_tests).collect();
    if rows.len() > MOST_PROMISES || rows.is_empty() {
        broken.push(format!("{SPECIFICATION}: {} promises, {MOST_PROMISES} at most", rows.len()));
    }
    let said: BTreeSet<&str> = rows.iter().map(|row| row.first()).collect();
    let silent = tree.held.iter().filter(|goal| !said.contains(goal.id()));
    broken.extend(silent.map(|goal| format!("{SPECIFICATION}: {goal} has rows and no line")));
    broken
}

fn threat_model(text: &str, tree: &Tree) -> Vec<String> {
    let mut broken = tests_exist(THREAT_MODEL, text, tree);
    let documented: BTreeSet<&str> = rows(text).flat_map(|row| quoted(row.first())).collect();
    let silent = tree.maps.iter().filter(|map| !documented.contains(map.as_str()));
    broken.extend(silent.map(|map| format!("{THREAT_MODEL}: what of `{map}` when it is full?")));
    let is_map =
        |word: &&&str| word.chars().all(|it| it.is_ascii_uppercase() || "_46V".contains(it));
    let gone = documented.iter().filter(is_map).filter(|map| !tree.maps.contains(**map));
    broken.extend(gone.map(|map| format!("{THREAT_MODEL}: there is no map `{map}`")));
    broken
}

/// Checks of both sections that the tests exist that their items name.
fn architecture(text: &str, tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    for section in [PRINCIPLES, INVARIANTS] {
        let items: Vec<(usize, &str)> = items(text, section).collect();
        if items.is_empty() {
            broken.push(format!("{ARCHITECTURE}: nothing is listed under \"{section}\""));
        }
        for (line, item) in items {
            let named: Vec<&str> = quoted(item).filter(|word| is_sentence(word)).collect();
            if named.is_empty() && section == PRINCIPLES {
                broken.push(format!("{ARCHITECTURE}:{line}: names no test"));
            }
            let unknown = named.into_iter().filter(|name| !tree.tests.contains(*name));
            broken.extend(unknown.map(|name| format!("{ARCHITECTURE}:{line}: no test `{name}`")));
        }
    }
    broken
}

/// The numbered items under the heading `section`, each with its line, from 1.
fn items<'a>(text: &'a str, section: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let mut within = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        if let Some(heading) = line.strip_prefix("## ") {
            within = heading == section;
        }
        let numbered = line.split_once(". ").is_some_and(|(place, _)| place.parse::<u32>().is_ok());
        (within && numbered).then_some((number + 1, line))
    })
}

/// Returns whether a word is a test's name, which is a sentence, and no path, command or lint.
fn is_sentence(word: &str) -> bool {
    let is_letter = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_';
    word.chars().all(is_letter) && word.matches('_').count() >= 3
}

/// The tests that `document` names.
#[cfg(test)]
pub fn cited(document: &str) -> impl Iterator<Item = &str> {
    let rows = rows(document).filter(|row| row.names_tests);
    rows.filter_map(|row| row.cells.last().copied()).flat_map(quoted)
}

/// Checks that each row of every table with tests in its last column names some, and that they
/// exist.
fn tests_exist(document: &str, text: &str, tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    for row in rows(text).filter(|row| row.names_tests) {
        let named: Vec<&str> = row.cells.last().map_or(Vec::new(), |cell| quoted(cell).collect());
        if named.is_empty() {
            broken.push(format!("{document}:{}: names no test", row.line));
        }
        let unknown = named.into_iter().filter(|name| !tree.tests.contains(*name));
        broken.extend(unknown.map(|name| format!("{document}:{}: no test `{name}`", row.line)));
    }
    broken
}

/// One line of a table, without its heading.
struct Row<'a> {
    /// Number of the line, from 1.
    line: usize,
    cells: Vec<&'a str>,
    /// True if the last column is headed `test`.
    names_tests: bool,
}

impl<'a> Row<'a> {
    fn first(&self) -> &'a str {
        self.cells.first().copied().unwrap_or_default()
    }
}

fn rows(text: &str) -> impl Iterator<Item = Row<'_>> {
    let mut heading: Option<Vec<&str>> = None;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let Some(inner) = line.strip_prefix('|') else {
            heading = None;
            return None;
        };
        let inner = inner.trim_end().strip_suffix('|').unwrap_or(inner);
        let cells: Vec<&str> = inner.split('|').map(str::trim).collect();
        let Some(heading) = &heading else {
            heading = Some(cells);
            return None;
        };
        if cells.iter().all(|cell| cell.starts_with("---")) {
            return None;
        }
        let names_tests = heading.last() == Some(&"test");
        Some(Row { line: number + 1, cells, names_tests })
    })
}

/// The text between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The names of the maps.
fn statics(text: &str) -> impl Iterator<Item = &str> {
    let mut is_map = false;
    text.lines().filter_map(move |line| {
        let name = line.strip_prefix("pub static ").and_then(|rest| rest.split_once(':'));
        let found = name.filter(|_| is_map).map(|(name, _)| name);
        is_map = line == "#[btf_map]";
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Tree {
            tests: set(&["it_holds", "g1_kills", "it_is_so_to_this_day"]),
            held: BTreeSet::from([Goal::G1]),
            maps: set(&["CONFIG", "SOURCE_RULES_V4"]),
        }
    }

    const PROMISES: &str =
        "| goal | promise | test |\n|---|---|---|\n| G1 | 0 leaked | `g1_kills` |\n";

    #[test]
    fn the_documents_hold() {
        check(&Workspace::locate().unwrap()).unwrap();
    }

    #[test]
    fn a_promise_needs_a_test_that_exists() {
        assert_eq!(specification(PROMISES, &tree()), [""; 0]);
        let gone =
            PROMISES.to_owned() + "| G1 | more | `it_was`, `it_holds` |\n| | none | it_holds |\n";
        let found = ["SPECIFICATION.md:4: no test `it_was`", "SPECIFICATION.md:5: names no test"];
        assert_eq!(specification(&gone, &tree()), found);
    }

    #[test]
    fn a_goal_that_has_rows_is_promised_and_promises_can_be_read_in_one_go() {
        let other = PROMISES.replace("| G1 |", "| G2 |");
        assert_eq!(specification(&other, &tree()), ["SPECIFICATION.md: G1 has rows and no line"]);
        let many = PROMISES.to_owned() + &"| G1 | more | `it_holds` |\n".repeat(MOST_PROMISES);
        assert_eq!(specification(&many, &tree()), ["SPECIFICATION.md: 71 promises, 70 at most"]);
        assert!(!specification("No table.", &tree()).is_empty());
    }

    #[test]
    fn every_map_is_documented_and_no_other() {
        let text =
            "| table | when full |\n|---|---|\n| `CONFIG` | one |\n| `SOURCE_RULES_V4` | two |\n";
        assert_eq!(threat_model(text, &tree()), [""; 0]);
        let found = threat_model(&text.replace("CONFIG", "CONFIGS"), &tree());
        let expected = ["what of `CONFIG` when it is full?", "there is no map `CONFIGS`"];
        assert_eq!(found, expected.map(|it| format!("docs/evidence/threat-model.md: {it}")));
    }

    #[test]
    fn each_principle_names_a_test_and_those_of_the_invariants_exist_too() {
        let text = "1. No section.\n\n## Principles\n\nOf these:\n\n1. **So.** — \
                    `it_is_so_to_this_day`.\n\n## Invariants, and what holds each\n\n\
                    1. Unsafe. — `unsafe_code`, `tests/it_was_so_once.rs`, `cargo xtask check`.\n\
                    2. So too. — `it_is_so_to_this_day`.\n";
        assert_eq!(architecture(text, &tree()), [""; 0]);
        let found = architecture(&text.replace("so_to_this_day", "so_no_more"), &tree());
        let expected =
            [7, 12].map(|line| format!("ARCHITECTURE.md:{line}: no test `it_is_so_no_more`"));
        assert_eq!(found, expected);
        let bare = text.replacen("`it_is_so_to_this_day`", "`parity/`", 1);
        assert_eq!(architecture(&bare, &tree()), ["ARCHITECTURE.md:7: names no test"]);
        let gone = text.replace("## Principles", "## Fewer principles");
        let expected = ["ARCHITECTURE.md: nothing is listed under \"Principles\""];
        assert_eq!(architecture(&gone, &tree()), expected);
    }

    #[test]
    fn maps_are_distinguished_from_other_statics() {
        let text =
            "#[btf_map]\npub static CONFIG: Array<u8> =\n    new();\npub static OTHER: u8 = 0;\n";
        assert_eq!(statics(text).collect::<Vec<_>>(), ["CONFIG"]);
    }
}
