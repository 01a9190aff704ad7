//! The word check: terms of the glossary, heads of doc comments, and pronouns in comments.
//!
//! It reads comments, string literals and identifiers of Rust files, which hold the help texts too, the prose of Markdown pages,
//! the files of the packages, TOML files and shell scripts, and the descriptions in JSON Schemas.

pub mod bounds;
mod exceptions;
mod glossary;
mod heads;
pub mod source;

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

use self::{exceptions::Exceptions, glossary::Glossary, source::Prose};
use crate::workspace::Workspace;

/// The page that lists the terms, and the only one that may hold rejected words.
const GLOSSARY: &str = "docs/glossary.md";
/// The page that lists the terms of a fleet.
const FLEET: &str = "docs/fleet.md";

/// One place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    line: usize,
    /// The rejected words, or the rule.
    rule: String,
}

/// The words and findings of all files.
#[derive(Default)]
struct Reading {
    /// Words of the comments of each Rust file, by its path.
    comments: Vec<(String, Vec<String>)>,
    findings: Vec<Finding>,
}

/// Checks the texts of the repository.
///
/// # Errors
/// Names each place that breaks a rule and is not in the list of exceptions, each exception that is no longer needed,
/// and each bound on pronouns that is exceeded.
pub fn check(workspace: &Workspace) -> Result<()> {
    let glossary = glossary(workspace)?;
    let reading = read(workspace, &glossary)?;
    let exceptions = Exceptions::read(&workspace.root)?;
    let mut broken = exceptions.compare(&reading.findings, |rule| glossary.terms(rule));
    broken.extend(exceptions.pinned());
    broken.extend(bounds::exceeded(&reading.comments));
    if !broken.is_empty() {
        bail!("wording (terms: {GLOSSARY}):\n  {}", broken.join("\n  "));
    }
    Ok(())
}

fn glossary(workspace: &Workspace) -> Result<Glossary> {
    let pages = [GLOSSARY, FLEET].map(|page| text(&workspace.root.join(page)));
    Glossary::parse(&pages.into_iter().collect::<Result<Vec<_>>>()?)
}

fn read(workspace: &Workspace, glossary: &Glossary) -> Result<Reading> {
    let mut reading = Reading::default();
    for file in workspace.rust_files()? {
        let (path, text) = (relative(workspace, &file), text(&file)?);
        let source = source::rust(&text);
        let findings = source.prose().flat_map(|prose| glossary.findings(&path, prose));
        reading.findings.extend(findings);
        let names = source::names(&text);
        let findings = names.iter().flat_map(|name| glossary.in_name(&path, name));
        reading.findings.extend(findings);
        reading.findings.extend(heads::findings(&path, &source.comments));
        reading.comments.push((path, bounds::words(&source.comments)));
    }
    for file in
        workspace.files(|path| path.extension().is_some_and(|extension| extension == "md"))?
    {
        let path = relative(workspace, &file);
        if path != GLOSSARY {
            let page = source::markdown(&text(&file)?);
            reading.findings.extend(glossary.findings(&path, &page));
        }
    }
    for path in workspace.tracked()? {
        let Some(reader) = reader(&path) else { continue };
        let file = workspace.root.join(&path);
        // A file that was removed, and not yet from git's list.
        if file.exists() {
            let paragraphs = reader(&text(&file)?);
            let findings = paragraphs.iter().flat_map(|prose| glossary.findings(&path, prose));
            reading.findings.extend(findings);
        }
    }
    Ok(reading)
}

/// Reads the texts of a file that is neither Rust nor Markdown; `None`: it has none for people.
fn reader(path: &str) -> Option<fn(&str) -> Vec<Prose>> {
    let is = |ending: &[&str]| ending.iter().any(|ending| path.ends_with(ending));
    let below = |directory: &str| path.starts_with(directory);
    if below("docs/schema/") || below("docs/fleet/schema/") {
        Some(source::schema)
    } else if is(&[".toml", ".sh"]) || (below("packaging/") && !is(&[".md"])) {
        Some(source::plain)
    } else {
        None
    }
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

    /// A glossary that nobody reads to its end is none. Terms of one part belong to the page of that part.
    const MOST_TERMS: usize = 60;

    #[test]
    fn the_glossary_has_no_more_terms_than_can_be_read() {
        let workspace = Workspace::locate().expect("cargo finds the workspace");
        let terms = |page| {
            let page = text(&workspace.root.join(page)).expect("the page is readable");
            glossary::rows(&page).count()
        };
        assert!((50..=MOST_TERMS).contains(&terms(GLOSSARY)), "{} terms", terms(GLOSSARY));
        assert!((5..=MOST_TERMS).contains(&terms(FLEET)), "{} terms of a fleet", terms(FLEET));
    }

    #[test]
    fn packages_settings_scripts_and_schemas_are_read() {
        for path in [
            "packaging/deb/tcpguard/postinst",
            "packaging/systemd/tcpguard.service",
            "packaging/tcpguard.toml",
            ".config/nextest.toml",
            "xtask/src/dist/install.sh",
            "docs/fleet/schema/hook.json",
        ] {
            assert!(reader(path).is_some(), "{path}");
        }
        for path in ["docs/glossary.md", "packaging/README.md", "xtask/src/main.rs", "Cargo.lock"] {
            assert!(reader(path).is_none(), "{path}");
        }
    }

    /// With `UPDATE_EXPECTED=1` it first rewrites the list of exceptions: they may become fewer, and move to other
    /// files.
    #[test]
    fn the_repository_keeps_to_its_glossary() {
        let workspace = Workspace::locate().expect("cargo finds the workspace");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            let glossary = glossary(&workspace).expect("the glossary rejects words");
            let reading = read(&workspace, &glossary).expect("every file is text");
            let before = Exceptions::read(&workspace.root).expect("the list is readable");
            let after = Exceptions::of(&reading.findings);
            before.may_become(&after).expect("the list only shrinks");
            after.write(&workspace.root).expect("the list is writable");
        }
        if let Err(error) = check(&workspace) {
            panic!("{error:#}");
        }
    }
}
