//! The published page: its layout, and its comparison with a new run.

use std::fmt::Write as _;

use anyhow::{Result, bail};

use crate::table::{Block, WIDTH};

const TITLE: &str = "# Evaluation of the detector";

/// Most characters of a row of a table, which cannot be wrapped.
const ROW: usize = 130;
/// Heading of the measurements on live hosts, which another run does not repeat.
pub const LIVE: &str = "Live: ";

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

#[cfg(test)]
mod tests {
    use super::*;

    fn published(rows: &[[&str; 2]]) -> String {
        let mut block = Block::new("Delays", "In seconds.", &["attack", "delay"]);
        rows.iter().for_each(|row| block.row(*row));
        page("What is measured.", &[block]).unwrap()
    }

    fn all(before: &str, after: &str) -> Vec<String> {
        differences(before, after, |_| false)
    }

    #[test]
    fn a_page_is_an_introduction_and_its_blocks() {
        let page = published(&[["random", "0.75"]]);
        let begin = "# Evaluation of the detector\n\nWhat is measured.\n\n## Delays\n\n| attack";
        assert!(page.starts_with(begin), "{page}");
        assert_eq!(all(&page, &page), [""; 0]);
    }

    #[test]
    fn a_number_that_differs_is_shown_as_it_was_and_is() {
        let before = published(&[["random", "0.75"], ["mimic", "1.00"]]);
        let after = published(&[["random", "0.75"], ["mimic", "1.25"]]);
        let lines = ["Delays:", "- | mimic  |  1.00 |", "+ | mimic  |  1.25 |"];
        assert_eq!(all(&before, &after), lines);
        assert_eq!(differences(&before, &after, |title| title == "Delays"), [""; 0]);
    }

    #[test]
    fn a_section_that_is_gone_or_new_differs() {
        let (one, none) =
            (published(&[["random", "0.75"]]), page("What is measured.", &[]).unwrap());
        assert!(all(&one, &none).contains(&"- In seconds.".to_owned()));
        assert!(all(&none, &one).contains(&"+ In seconds.".to_owned()));
    }

    #[test]
    fn a_line_too_long_for_a_terminal_is_refused() {
        let mut block = Block::new("Delays", "", &["attack"]);
        block.row(["long ".repeat(30)]);
        assert!(page("", &[block]).is_err());
    }
}
