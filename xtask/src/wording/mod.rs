//! The word check: words that the glossary rejects, heads of doc comments, and pronouns in comments.
//!
//! It reads Rust files, whose comments hold the help texts too, the prose of Markdown pages, the files of the packages,
//! TOML files and shell scripts, and the descriptions in JSON Schemas.

pub mod comments;
pub mod source;
mod text;

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, bail, ensure};

use crate::workspace::Workspace;

/// The pages that list the terms: those that operators meet, and those of the code. No other may hold rejected words.
const GLOSSARIES: [&str; 2] = ["docs/glossary.md", "GLOSSARY.md"];
/// First line of a table of terms.
const HEADER: &str = "| term | meaning | not |";

/// One place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    path: String,
    line: usize,
    /// The rejected words, or the rule.
    rule: String,
}

/// Rejected phrases with the terms to use, by their first word.
struct Glossary(BTreeMap<String, Vec<(Vec<String>, String)>>);

/// Checks the texts of the repository.
///
/// # Errors
/// Names each place that breaks a rule, and each bound on pronouns that is exceeded.
pub fn check(workspace: &Workspace) -> Result<()> {
    let pages = GLOSSARIES.map(|page| read(&workspace.root.join(page)));
    let glossary = Glossary::parse(&pages.into_iter().collect::<Result<Vec<_>>>()?)?;
    let (mut findings, mut comments) = (Vec::new(), Vec::new());
    for path in workspace.tracked()? {
        let (Some(reader), file) = (reader(&path), workspace.root.join(&path)) else { continue };
        // A file that was removed, and not yet from git's list.
        if !file.exists() {
            continue;
        }
        let file = read(&file)?;
        findings.extend(glossary.findings(&path, &reader(&file)));
        if path.ends_with(".rs") {
            findings.extend(comments::heads(&path, &file));
            comments.push((path, comments::words(&file)));
        }
    }
    let broken =
        findings.iter().map(|Finding { path, line, rule }| format!("{path}:{line}: {rule}"));
    let broken: Vec<_> = broken.chain(comments::exceeded(&comments)).collect();
    if !broken.is_empty() {
        bail!("wording (terms: {}):\n  {}", GLOSSARIES.join(", "), broken.join("\n  "));
    }
    Ok(())
}

/// Returns what reads the text of a file; `None`: it has none for people.
fn reader(path: &str) -> Option<fn(&str) -> String> {
    let is = |ending: &[&str]| ending.iter().any(|ending| path.ends_with(ending));
    let below = |directory: &str| path.starts_with(directory);
    if is(&[".rs"]) {
        Some(text::rust)
    } else if is(&[".md"]) {
        (!GLOSSARIES.contains(&path) && !below("packaging/")).then_some(text::markdown)
    } else if below("docs/schema/") || below("docs/fleet/schema/") {
        Some(text::schema)
    } else {
        (is(&[".toml", ".sh"]) || below("packaging/")).then_some(text::plain)
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

impl Glossary {
    /// Parses the tables of terms of these pages: code spans in the third column are rejected.
    fn parse(pages: &[String]) -> Result<Self> {
        let mut rejected = BTreeMap::<_, Vec<_>>::new();
        for page in pages {
            ensure!(rows(page).next().is_some(), "a page of the glossary has no table of terms");
            for [term, _, others] in rows(page) {
                for phrase in others.split('`').skip(1).step_by(2) {
                    let words = text::words(phrase).into_iter().map(|(_, word)| word);
                    let words: Vec<String> = words.collect();
                    let first = words.first().context("an empty code span is no word")?.clone();
                    rejected.entry(first).or_default().push((words, format!("{phrase} ({term})")));
                }
            }
        }
        Ok(Self(rejected))
    }

    /// The rejected words in a text. Each word may have an s at its end.
    fn findings(&self, path: &str, text: &str) -> Vec<Finding> {
        let words = text::words(text);
        let begins = |at: usize, phrase: &[String]| {
            words.len() - at >= phrase.len()
                && phrase.iter().zip(&words[at..]).all(|(wanted, (_, word))| {
                    word.strip_prefix(wanted.as_str()).is_some_and(|end| matches!(end, "" | "s"))
                })
        };
        let found = |(at, (line, word)): (usize, &(usize, String))| {
            let singular = word.strip_suffix('s').unwrap_or(word);
            let candidates = [word.as_str(), singular].into_iter().filter_map(|it| self.0.get(it));
            let found = candidates.flatten().filter(|(phrase, _)| begins(at, phrase));
            let (_, rule) = found.max_by_key(|(phrase, _)| phrase.len())?;
            Some(Finding { path: path.to_owned(), line: *line, rule: rule.clone() })
        };
        words.iter().enumerate().filter_map(found).collect()
    }
}

/// The rows of the table of terms of a page: term, meaning, and the words that do not stand for it.
fn rows(page: &str) -> impl Iterator<Item = [&str; 3]> {
    let table = page.lines().skip_while(|line| *line != HEADER).skip(2);
    table.take_while(|line| line.starts_with('|')).filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        cells.try_into().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A glossary that is too long to be read is none.
    const MOST_TERMS: usize = 60;

    #[test]
    fn the_glossary_has_no_more_terms_than_can_be_read() {
        let workspace = Workspace::locate().expect("cargo finds the workspace");
        let terms = |page| rows(&read(&workspace.root.join(page)).expect("a page")).count();
        for page in GLOSSARIES {
            assert!((10..=MOST_TERMS).contains(&terms(page)), "{page}: {} terms", terms(page));
        }
    }

    #[test]
    fn code_spans_of_the_third_column_are_rejected_in_prose_and_in_names() {
        let page = "`skip`\n\n| term | meaning | not |\n|---|---|---|\n\
                    | tool | A `word`. | `gadget`, thing, `odd job` |\n\n| 3 | 4 | `skip` |\n";
        let glossary = Glossary::parse(&[page.to_owned()]).expect("a table");
        let found = |text: &str| {
            let findings = glossary.findings("a.md", text).into_iter();
            findings.map(|found| format!("{} {}", found.line, found.rule)).collect::<Vec<_>>()
        };
        assert_eq!(found("The thing is a word: skip. Gadgetry, odd, job"), [""; 0]);
        assert_eq!(found("Two Gadgets.\nOne gadget's."), ["1 gadget (tool)", "2 gadget (tool)"]);
        assert_eq!(
            found("an odd\njob; OddJobs(GADGET_SIZE)"),
            ["1 odd job (tool)", "2 odd job (tool)", "2 gadget (tool)"]
        );
        assert!(Glossary::parse(&["| a | b |\n".to_owned()]).is_err());
    }

    #[test]
    fn the_repository_keeps_to_its_glossary() {
        check(&Workspace::locate().expect("cargo finds the workspace")).unwrap();
    }
}
