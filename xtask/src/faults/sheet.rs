//! The file to which the tests of one run append their rows, and the table that is made of it.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};
use tcpguard_goals::{Goal, Line, MINUTES, ROWS, SEED, SIZE};

use super::RowTest;
use crate::{process, workspace::Workspace};

/// Size, duration and seed of the tests of one run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scale {
    /// True if the tests run in the size of the promise.
    pub full: bool,
    /// Duration of the tests that can last any time, in minutes; without it as `full` says.
    pub minutes: Option<u32>,
    /// Seed of their random numbers; the same each time if it is not given.
    pub seed: Option<u64>,
}

/// File to which the tests of one run write.
pub struct Sheet {
    path: PathBuf,
    scale: Scale,
}

impl Sheet {
    /// Creates an empty sheet. Rows of an earlier run are gone.
    pub fn begin(workspace: &Workspace, scale: Scale) -> Result<Self> {
        let path = workspace.target.join("rows.jsonl");
        fs::write(&path, "").with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path, scale })
    }

    /// Returns whether the tests run in the size of the promise.
    pub const fn is_full(&self) -> bool {
        self.scale.full
    }

    /// Passes the tests that `command` runs the path of the sheet, their size, their duration and
    /// their seed.
    pub fn hand_to(&self, command: &mut Command) {
        let Scale { full, minutes, seed } = self.scale;
        command.env(ROWS, &self.path).env(SIZE, if full { "full" } else { "short" });
        if let Some(minutes) = minutes {
            command.env(MINUTES, minutes.to_string());
        }
        if let Some(seed) = seed {
            command.env(SEED, seed.to_string());
        }
    }

    /// The lines that were written.
    pub fn read(&self) -> Result<Vec<Line>> {
        let what = || format!("cannot read {}", self.path.display());
        parse(&fs::read_to_string(&self.path).with_context(what)?).with_context(what)
    }

    /// Prints the rows; `promised` are the tests that had to write one.
    ///
    /// # Errors
    /// When one of them did not, or a row does not hold.
    pub fn close(&self, promised: &[RowTest]) -> Result<()> {
        let lines = self.read()?;
        let goals: BTreeSet<Goal> =
            lines.iter().map(|line| line.goal).chain(promised.iter().map(|t| t.goal)).collect();
        if !goals.is_empty() {
            process::announce("what is promised, and what naive variants do");
            print!("{}", table(&lines, &goals.into_iter().collect::<Vec<_>>()));
        }
        judge(&faults(&lines, promised))
    }
}

fn parse(text: &str) -> Result<Vec<Line>> {
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// Faults of `lines`. Each test of `promised` must have written a line.
pub fn faults(lines: &[Line], promised: &[RowTest]) -> Vec<String> {
    let broken = lines.iter().filter_map(|line| Some(format!("{}: {line}", line.fault()?)));
    let wrote = |test: &&RowTest| lines.iter().any(|line| function(line) == test.name);
    let silent = promised.iter().filter(|test| !wrote(test));
    let silent = silent.map(|test| format!("{}: {} wrote no row", test.goal, test.name));
    broken.chain(silent).collect()
}

/// Judges the rows of a run by their faults.
///
/// # Errors
/// When there are faults; it names all.
pub fn judge(faults: &[String]) -> Result<()> {
    if !faults.is_empty() {
        bail!("promises:\n  {}", faults.join("\n  "));
    }
    Ok(())
}

/// The row's test without its modules.
fn function(line: &Line) -> &str {
    line.test.rsplit("::").next().unwrap_or(&line.test)
}

/// Two lines a row, tcpguard's and the naive variant's, with the least N of the full size; a goal without a row
/// is named.
pub fn table(lines: &[Line], goals: &[Goal]) -> String {
    let width = lines.iter().map(|line| line.row.chars().count()).max().unwrap_or(0).max(5);
    let mut text =
        format!("{:<12} {:<width$} {:>11} {:>11}  result\n", "goal", "row", "N", "full size");
    for goal in goals {
        let mut of_goal = lines.iter().filter(|line| line.goal == *goal).peekable();
        if of_goal.peek().is_none() {
            let _ = writeln!(text, "{goal:<12} no row");
        }
        for line in of_goal {
            let size = if line.full { "full" } else { "short" };
            let fault = line.fault().map_or_else(String::new, |fault| format!(" ({fault})"));
            let how = format!("; {size}, seed {}, {:.1} s{fault}", line.seed, line.seconds);
            let naive = line.naive.as_ref().map(|naive| ("naive", naive, ""));
            let measured = line.result.as_ref().map(|result| (line.row.as_str(), result, &*how));
            for (row, outcome, how) in measured.into_iter().chain(naive) {
                let goal = if how.is_empty() { "" } else { goal.id() };
                let (n, said) = (grouped(outcome.n), &outcome.said);
                let least =
                    line.least().filter(|_| !how.is_empty()).map_or_else(String::new, grouped);
                let _ = writeln!(text, "{goal:<12} {row:<width$} {n:>11} {least:>11}  {said}{how}");
            }
        }
    }
    text
}

/// Thousands apart, as in the documentation.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use tcpguard_goals::Outcome;

    use super::*;

    fn outcome(n: u64, said: &str, expected: bool) -> Option<Outcome> {
        Some(Outcome { n, said: said.into(), expected })
    }

    fn line(holds: bool, fails: bool) -> Line {
        Line {
            goal: Goal::G1,
            row: "kills".into(),
            test: "rows::g2_a_kill_leaves_one_set_whole".into(),
            full: true,
            result: outcome(1_234_567, "0 let in", holds),
            naive: outcome(500, "9 let in", fails),
            seed: 7,
            seconds: 1.25,
        }
    }

    fn promised(goal: Goal, name: &str) -> RowTest {
        RowTest { goal, name: name.into(), needs_root: true }
    }

    #[test]
    fn what_was_written_is_what_is_read() {
        let lines = [line(true, true), Line { naive: None, ..line(false, true) }];
        let text: String =
            lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect();
        assert_eq!(parse(&text).unwrap(), lines);
        assert!(parse("{}\n").is_err());
    }

    #[test]
    fn a_table_holds_both_variants_and_names_goals_without_a_row() {
        let text = table(&[line(true, true)], &[Goal::G1, Goal::Audit]);
        let rows = [
            "goal         row             N   full size  result",
            "G1           kills   1,234,567         500  0 let in; full, seed 7, 1.2 s",
            "             naive         500              9 let in",
            "Audit        no row",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), rows);
    }

    #[test]
    fn a_row_must_hold_its_naive_variant_must_fail_and_each_test_must_write() {
        let written = promised(Goal::G1, "g2_a_kill_leaves_one_set_whole");
        assert_eq!(faults(&[line(true, true)], std::slice::from_ref(&written)), [""; 0]);
        for (broken, fault) in [
            (line(false, true), "the promise does not hold"),
            (line(true, false), "the naive variant did not fail"),
            (Line { naive: None, ..line(true, true) }, "no naive variant"),
            (
                Line { result: outcome(99, "0 let in", true), ..line(true, true) },
                "its N is too small",
            ),
        ] {
            let found = faults(&[broken], std::slice::from_ref(&written));
            assert!(found.len() == 1 && found[0].starts_with(fault), "{found:?}");
        }
        let silent = promised(Goal::G2, "g2_skipped");
        let found = faults(&[line(true, true)], &[written, silent]);
        assert_eq!(found, ["G2: g2_skipped wrote no row"]);
        assert!(judge(&found).is_err() && judge(&[]).is_ok());
    }
}
