//! The table of what `tcpguard doctor -i` checks, in the page for those who ask "will it work here?".

use std::collections::BTreeSet;

use super::pages::{files, markdown};

/// Sources of the checks that `doctor -i` makes.
const CHECKS: [&str; 4] = ["interface.rs", "kernel.rs", "privileges.rs", "programs.rs"];

/// The codes of the checks in these files.
fn codes(sources: &[&str]) -> BTreeSet<String> {
    let all = files(&["tcpguard-host/src/doctor/checks"], ".rs");
    let of = all.iter().filter(|page| sources.iter().any(|name| page.path.ends_with(name)));
    of.flat_map(|page| page.text.lines())
        .filter_map(|line| line.trim().strip_prefix("const CODE: &str = \""))
        .filter_map(|rest| rest.strip_suffix("\";"))
        .map(str::to_owned)
        .collect()
}

/// The rows of a page's table of checks.
fn rows(page: &str) -> Vec<String> {
    let pages = markdown();
    let text = &pages.iter().find(|it| it.path.ends_with(page)).expect(page).text;
    let table = text.split("| check | finding and remedy |\n").nth(1).expect(page);
    table.lines().skip(1).take_while(|line| line.starts_with('|')).map(str::to_owned).collect()
}

/// The codes in the first cell of each row.
fn named(rows: &[String]) -> BTreeSet<String> {
    let cells = rows.iter().filter_map(|row| row.split('|').nth(1));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn every_check_of_doctor_has_a_row_for_those_who_ask_whether_it_would_work() {
    let install = rows("docs/install.md");
    let mut checks = codes(&CHECKS);
    // Worded for several reports: `finding.rs`, and the report of `tune`.
    checks.extend(["link_down", "queues"].map(str::to_owned));
    assert_eq!(named(&install), checks);
}
