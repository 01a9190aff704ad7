//! Heads of doc comments: a noun or a verb, never a clause that stands for a noun, a pronoun of one elsewhere, or a
//! single word.

use super::{Finding, source::Comment};

/// First words of a clause that stands for a noun.
const CLAUSES: [&str; 12] = [
    "What", "Whatever", "Who", "Whom", "Whose", "How", "Where", "When", "Whether", "Which", "Why",
    "That",
];

/// First words that point at a noun elsewhere.
const POINTERS: [&str; 4] = ["It", "They", "So", "As"];

/// Doc comments that break a rule, at most once each.
pub fn findings(path: &str, comments: &[Comment]) -> impl Iterator<Item = Finding> {
    comments.iter().filter_map(move |comment| {
        let rule = rule(comment)?.to_owned();
        Some(Finding { path: path.to_owned(), line: comment.line, rule })
    })
}

fn rule(comment: &Comment) -> Option<&'static str> {
    if !matches!(comment.marker, "///" | "//!") {
        return None;
    }
    let mut words = comment.lines.iter().flat_map(|line| line.split_whitespace());
    let first = words.next()?;
    if words.next().is_none() {
        return Some("one-word doc comment");
    }
    let first = first.trim_end_matches(|letter: char| !letter.is_alphanumeric());
    let pointer = POINTERS.contains(&first).then_some("head without its noun");
    pointer.or(CLAUSES.contains(&first).then_some("noun-clause head"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wording::source::rust;

    fn rules(text: &str) -> Vec<String> {
        findings("a.rs", &rust(text).comments).map(|found| found.rule).collect()
    }

    #[test]
    fn a_clause_or_a_single_word_is_no_head() {
        assert_eq!(rules("//! What it is.\n"), ["noun-clause head"]);
        assert_eq!(rules("/// Why, if it is known.\nfn f() {}"), ["noun-clause head"]);
        assert_eq!(rules("/// `name`\n"), ["one-word doc comment"]);
        assert_eq!(rules("/// It is there.\n"), ["head without its noun"]);
    }

    #[test]
    fn other_comments_and_headings_are_free() {
        assert_eq!(
            rules("// What for?\n/// # Where it is\n/// Whatsoever else.\n//! A noun.\n"),
            [""; 0]
        );
    }
}
