//! What the last full run said, kept in the repository: the budget of every later run, and the table
//! of `docs/kernel-support.md`.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{kernel::Kernel, table};
use crate::workspace::Workspace;

/// No program of ours may take a verifier longer, on any kernel: a tenth of what they allow, so that
/// a newer kernel that walks more paths still takes it.
pub const LIMIT: u64 = 100_000;

/// How much more than recorded a program may take before that has to be said by recording it anew,
/// in percent. Compilers and kernels of another patch level move it by a few.
const GROWTH: u64 = 20;

const RECORD: &str = "docs/kernel-support.json";
const PAGE: &str = "docs/kernel-support.md";
const BEGIN: &str = "<!-- written by: cargo xtask vm --update -->\n\n```text\n";
const END: &str = "```\n\n<!-- end -->";

/// The kernels of the last run that was recorded.
pub struct Record {
    kernels: Vec<Kernel>,
}

impl Record {
    /// Reads it.
    ///
    /// # Errors
    /// When the file is missing or no such record.
    pub fn read(workspace: &Workspace) -> Result<Self> {
        let path = workspace.root.join(RECORD);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let record: Value = serde_json::from_str(&text)
            .with_context(|| format!("{} is not JSON", path.display()))?;
        let kernels = record["kernels"].as_array().context("the record names no kernels")?;
        Ok(Self { kernels: kernels.iter().map(Kernel::from_json).collect() })
    }

    /// Every program of `kernels` that takes longer than it may: a sentence each.
    pub fn exceeded(&self, kernels: &[Kernel]) -> Vec<String> {
        let mut found = Vec::new();
        for kernel in kernels {
            let recorded = self.kernels.iter().find(|recorded| same_version(recorded, kernel));
            for (program, cost) in &kernel.programs {
                let Ok(cost) = *cost else { continue };
                let place = format!("{program} on Linux {}", kernel.name);
                if cost > LIMIT {
                    found.push(format!("{place}: {cost} instructions, more than {LIMIT}"));
                }
                let before = recorded.and_then(|recorded| recorded.programs.get(program));
                if let Some(Ok(before)) = before
                    && cost * 100 > before * (100 + GROWTH)
                {
                    found.push(format!(
                        "{place}: {before} instructions have become {cost}, more than {GROWTH} % \
                         on top; say so by: cargo xtask vm --update"
                    ));
                }
            }
        }
        found
    }
}

/// Writes `kernels` as the record, and their table into the page.
///
/// # Errors
/// When a file cannot be written, or the page has no place for the table.
pub fn update(workspace: &Workspace, kernels: &[Kernel]) -> Result<()> {
    let record = json!({ "kernels": kernels.iter().map(Kernel::to_json).collect::<Vec<_>>() });
    let text = serde_json::to_string_pretty(&record)? + "\n";
    let write = |path: PathBuf, text: String| {
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    write(workspace.root.join(RECORD), text)?;
    let page = workspace.root.join(PAGE);
    let text =
        fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    write(page, replaced(&text, &table::render(kernels))?)
}

fn replaced(page: &str, table: &str) -> Result<String> {
    let parts =
        page.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let Some((before, after)) = parts else {
        bail!("{PAGE} has no place for the table: {BEGIN:?} … {END:?}");
    };
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

/// Patch levels come and go; the first two numbers tell kernels apart.
fn same_version(a: &Kernel, b: &Kernel) -> bool {
    let version = |kernel: &Kernel| -> Vec<String> {
        let numbers = kernel.name.split(|c: char| !c.is_ascii_digit());
        numbers.take(2).map(str::to_owned).collect()
    };
    version(a) == version(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(name: &str, cost: u64) -> Kernel {
        let programs = [("guard/ingress".to_owned(), Ok(cost))].into();
        Kernel { name: name.to_owned(), programs, ..Kernel::default() }
    }

    #[test]
    fn growth_beyond_the_budget_is_told_with_both_numbers() {
        let record = Record { kernels: vec![kernel("6.1.0-50", 60_000), kernel("7.2.12", 70_000)] };
        let within =
            [kernel("6.1.0-51", 72_000), kernel("7.2.13", 84_000), kernel("6.18.1", 99_000)];
        assert_eq!(record.exceeded(&within), Vec::<String>::new());
        let grown = record.exceeded(&[kernel("6.1.0-51", 72_100)]);
        assert_eq!(grown.len(), 1);
        for part in ["guard/ingress on Linux 6.1.0-51", "60000", "72100", "--update"] {
            assert!(grown[0].contains(part), "{grown:?}");
        }
        let endless = record.exceeded(&[kernel("6.18.1", 100_001)]);
        assert!(endless[0].contains("more than 100000"), "{endless:?}");
    }

    #[test]
    fn the_page_shows_the_record() {
        let workspace = Workspace::locate().unwrap();
        let record = Record::read(&workspace).unwrap();
        let page = fs::read_to_string(workspace.root.join(PAGE)).unwrap();
        let table = table::render(&record.kernels);
        assert_eq!(replaced(&page, &table).unwrap(), page, "cargo xtask vm --update");
    }

    #[test]
    fn what_stands_around_the_table_stays() {
        let page = format!("before\n{BEGIN}old\n{END}\nafter\n");
        assert_eq!(
            replaced(&page, "new\n").unwrap(),
            format!("before\n{BEGIN}new\n{END}\nafter\n")
        );
        assert!(replaced("no marks", "new\n").is_err());
    }
}
