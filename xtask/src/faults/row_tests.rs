//! Tests that the source promises: a test that is skipped, or compiled out, is missed all the same.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, bail};
use tcpguard_goals::Goal;

use crate::{test::ROOT_TESTS, workspace::Workspace};

/// A test that has to write rows.
#[derive(Debug, PartialEq)]
pub struct RowTest {
    pub goal: Goal,
    /// Its function, without modules.
    pub name: String,
    pub needs_root: bool,
}

/// Returns all tests of the repository that have to write rows.
///
/// # Errors
/// When a file cannot be read, or two tests have one name: their rows could not be distinguished.
pub fn row_tests(workspace: &Workspace) -> Result<Vec<RowTest>> {
    let mut found = Vec::new();
    for (name, files) in test_functions(workspace)? {
        let Some(goal) = Goal::of_test(&name) else { continue };
        let [file] = files.as_slice() else {
            bail!("{name}: a test that writes rows needs a name of its own: {}", files.join(", "));
        };
        let needs_root = Path::new(file).starts_with(ROOT_TESTS);
        found.push(RowTest { goal, name, needs_root });
    }
    Ok(found)
}

/// The functions that are tests, with the files that they stand in.
pub fn test_functions(workspace: &Workspace) -> Result<BTreeMap<String, Vec<String>>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in workspace.rust_files()? {
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = path.strip_prefix(&workspace.root).unwrap_or(&path).display().to_string();
        for name in tests_in(&text) {
            found.entry(name.to_owned()).or_default().push(file.clone());
        }
    }
    Ok(found)
}

/// The functions of `text` that have an attribute that ends in `test`.
fn tests_in(text: &str) -> impl Iterator<Item = &str> {
    let mut is_test = false;
    text.lines().map(str::trim).filter_map(move |line| {
        let attribute = line.starts_with("#[");
        let name = function(line).filter(|_| is_test);
        if attribute {
            is_test |= line.ends_with("test]") || line.starts_with("#[tokio::test(");
        } else if !line.starts_with("//") {
            is_test = false;
        }
        name
    })
}

fn function(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
    rest.split_once('(').map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_distinguished_from_other_functions() {
        let text = "
            #[test]
            fn first() {}
            fn helper() {}
            #[test]
            // Why it is left out.
            #[ignore]
            fn ignored_is_a_test_all_the_same() {}
            #[tokio::test(start_paused = true)]
            async fn sleeps(
            ) {}
            #[cfg(test)]
            mod tests {
                fn inner() {}
            }
            const TEXT: &str = \"#[test]\";
            fn after() {}";
        let found: Vec<_> = tests_in(text).collect();
        assert_eq!(found, ["first", "ignored_is_a_test_all_the_same", "sleeps"]);
    }
}
