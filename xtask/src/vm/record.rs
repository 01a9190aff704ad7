//! The results of the last full run, kept in the repository: the budget of every later run, and the
//! table of `docs/evidence/kernel-support.md`.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;
use tcpguard_goals::verifier::Record;

use super::{kernel::Kernel, table};
use crate::workspace::Workspace;

const RECORD: &str = "testing/record/kernel-support.json";
const PAGE: &str = "docs/evidence/kernel-support.md";
const BEGIN: &str = "<!-- written by: cargo xtask vm --update -->\n\n```text\n";
const END: &str = "```\n\n<!-- end -->";

/// Reads the record.
///
/// # Errors
/// When the file is missing or is not JSON.
pub fn read(workspace: &Workspace) -> Result<Record> {
    let path = workspace.root.join(RECORD);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Record::parse(&text).with_context(|| format!("{} is not JSON", path.display()))
}

/// Writes `kernels` as the record, and their table into the page.
pub fn update(workspace: &Workspace, kernels: &[Kernel]) -> Result<()> {
    let record = json!({ "kernels": kernels.iter().map(Kernel::to_json).collect::<Vec<_>>() });
    let text = serde_json::to_string(&record)? + "\n";
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_page_shows_the_record() {
        let workspace = Workspace::locate().unwrap();
        let text = fs::read_to_string(workspace.root.join(RECORD)).unwrap();
        let record: Value = serde_json::from_str(&text).unwrap();
        let kernels = record["kernels"].as_array().unwrap();
        let kernels: Vec<_> = kernels.iter().map(Kernel::from_json).collect();
        let page = fs::read_to_string(workspace.root.join(PAGE)).unwrap();
        let table = table::render(&kernels);
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
