//! The word check: terms of the glossary, heads of doc comments, and pronouns in comments.
//!
//! It reads comments and string literals of Rust files, which hold the help texts too, and the prose of
//! Markdown pages.

mod bounds;
mod exceptions;
mod glossary;
mod heads;
mod source;

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

use self::{exceptions::Exceptions, glossary::Glossary};
use crate::workspace::Workspace;

/// The page that lists the terms, and the only one that may hold rejected words.
const GLOSSARY: &str = "docs/glossary.md";

/// One place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    line: usize,
    /// The rejected words, or the rule.
    rule: String,
}

/// Checks the Rust files and the Markdown pages of the repository.
///
/// # Errors
/// Names each place that breaks a rule and is not in the list of exceptions, each exception that is no longer needed,
/// and each bound on pronouns that is exceeded.
pub fn check(workspace: &Workspace) -> Result<()> {
    let glossary = Glossary::parse(&text(&workspace.root.join(GLOSSARY))?)?;
    let (comments, findings) = read(workspace, &glossary)?;
    let exceptions = Exceptions::read(&workspace.root)?;
    let mut broken = exceptions.compare(&findings, |rule| glossary.terms(rule));
    broken.extend(bounds::exceeded(&comments));
    if !broken.is_empty() {
        bail!("wording (terms: {GLOSSARY}):\n  {}", broken.join("\n  "));
    }
    Ok(())
}

/// Returns the words of the comments of each Rust file, and all findings.
fn read(
    workspace: &Workspace,
    glossary: &Glossary,
) -> Result<(Vec<(String, Vec<String>)>, Vec<Finding>)> {
    let (mut comments, mut findings) = (Vec::new(), Vec::new());
    for file in workspace.rust_files()? {
        let (path, text) = (relative(workspace, &file), text(&file)?);
        let source = source::rust(&text);
        findings.extend(source.prose().flat_map(|prose| glossary.findings(&path, prose)));
        findings.extend(heads::findings(&path, &source.comments));
        comments.push((path, bounds::words(&source.comments)));
    }
    for file in workspace.files("md")? {
        let path = relative(workspace, &file);
        if path != GLOSSARY {
            findings.extend(glossary.findings(&path, &source::markdown(&text(&file)?)));
        }
    }
    Ok((comments, findings))
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn relative(workspace: &Workspace, path: &Path) -> String {
    path.strip_prefix(&workspace.root).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With `UPDATE_EXPECTED=1` it first rewrites the list of exceptions: they may become fewer, and move to other
    /// files.
    #[test]
    fn the_repository_keeps_to_its_glossary() {
        let workspace = Workspace::locate().expect("cargo finds the workspace");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            let page = text(&workspace.root.join(GLOSSARY)).expect("the glossary is readable");
            let glossary = Glossary::parse(&page).expect("the glossary rejects words");
            let (_, findings) = read(&workspace, &glossary).expect("every file is text");
            let before = Exceptions::read(&workspace.root).expect("the list is readable");
            let after = Exceptions::of(&findings);
            before.may_become(&after).expect("the list only shrinks");
            after.write(&workspace.root).expect("the list is writable");
        }
        if let Err(error) = check(&workspace) {
            panic!("{error:#}");
        }
    }
}
