//! The published page: its layout, and its comparison with a new run.

use std::fmt::Write as _;

use anyhow::{Result, bail};

use crate::table::{Block, WIDTH};

const TITLE: &str = "# Evaluation of the detector";

/// Most characters of a row of a table, which cannot be wrapped.
const ROW: usize = 130;

/// The page: `introduction`, then the blocks.
pub fn page(introduction: &str, blocks: &[Block]) -> Result<String> {
    let mut page = format!("{TITLE}\n\n");
    let introduction = Block { note: introduction.to_owned(), ..Block::default() };
    let text = introduction.render();
    let text = text.split_once("\n\n").map_or("", |(_, text)| text);
    page.push_str(text);
    for block in blocks {
        write!(page, "\n{}", block.render())?;
    }
    for line in page.lines() {
        let (length, most) =
            (line.chars().count(), if line.starts_with('|') { ROW } else { WIDTH });
        if length > most {
            bail!("a line of {length} characters, {most} at most: {line}");
        }
    }
    Ok(page)
}

/// Differences between the published page and a new one, section by section: the former lines with
/// `-`, and the present ones with `+`. Sections in `skip` are not compared.
pub fn differences(published: &str, new: &str, skip: impl Fn(&str) -> bool) -> Vec<String> {
    let mut different = Vec::new();
    let (published, new) = (sections(published), sections(new));
    for (title, lines) in &new {
        if skip(title) {
            continue;
        }
        let before = published.iter().find(|(other, _)| other == title);
        let before = before.map_or(&[][..], |(_, lines)| lines);
        different.extend(compare(title, before, lines));
    }
    for (title, lines) in &published {
        if !skip(title) && !new.iter().any(|(other, _)| other == title) {
            different.extend(compare(title, lines, &[]));
        }
    }
    different
}

fn compare(title: &str, before: &[&str], after: &[&str]) -> Vec<String> {
    let only = |lines: &[&str], others: &[&str], sign: char| {
        let lines = lines.iter().filter(|line| !others.contains(line));
        lines.map(|line| format!("{sign} {line}")).collect::<Vec<_>>()
    };
    let mut different = only(before, after, '-');
    different.extend(only(after, before, '+'));
    if different.is_empty() && before != after {
        different.push("the lines stand in another order".to_owned());
    }
    if !different.is_empty() {
        different.insert(0, format!("{title}:"));
    }
    different
}

/// The lines of each section, by its heading.
fn sections(page: &str) -> Vec<(&str, Vec<&str>)> {
    let mut sections = vec![(TITLE, Vec::new())];
    for line in page.lines().filter(|line| *line != TITLE) {
        match line.strip_prefix("## ") {
            Some(title) => sections.push((title, Vec::new())),
            None => sections.last_mut().expect("one at least").1.push(line),
        }
    }
    sections
}
