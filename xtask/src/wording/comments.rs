//! Comments of Rust files: heads of doc comments, and a bound on pronouns.
//!
//! A head is a noun or a verb: never a clause that stands for a noun, a pronoun of one elsewhere, or a single word.

use std::cmp::Reverse;

use super::{Finding, text};

/// First words of a clause that stands for a noun.
const CLAUSES: [&str; 12] = [
    "What", "Whatever", "Who", "Whom", "Whose", "How", "Where", "When", "Whether", "Which", "Why",
    "That",
];
/// First words that point at a noun elsewhere.
const POINTERS: [&str; 4] = ["It", "They", "So", "As"];

/// Words that comments may hold a few of, and how many per 1,000 words of all comments: above what is found in those of
/// quinn, ripgrep and firezone.
const BOUNDS: [(&[&str], f64); 2] =
    [(&["what", "who", "whose"], 4.0), (&["nobody", "somebody"], 1.0)];
/// Files named where a bound is exceeded: those with most of the words.
const NAMED: usize = 10;

/// Doc comments that break a rule about heads, at most once each.
pub fn heads(path: &str, file: &str) -> Vec<Finding> {
    let marker =
        |line: &str| ["///", "//!"].into_iter().find(|it| line.trim_start().starts_with(it));
    let mut comments: Vec<(usize, Vec<&str>)> = Vec::new();
    let mut last = None;
    for (number, line) in (1..).zip(file.lines()) {
        let found = marker(line);
        if let Some(marker) = found {
            let words = line.trim_start()[marker.len()..].split_whitespace();
            match comments.last_mut().filter(|_| last == found) {
                Some((_, comment)) => comment.extend(words),
                None => comments.push((number, words.collect())),
            }
        }
        last = found;
    }
    let finding = |(line, words): (usize, Vec<&str>)| {
        let first = words.first()?.trim_end_matches(|letter: char| !letter.is_alphanumeric());
        let rule = match words.len() {
            1 => "one-word doc comment",
            _ if POINTERS.contains(&first) => "head without its noun",
            _ if CLAUSES.contains(&first) => "noun-clause head",
            _ => return None,
        };
        Some(Finding { path: path.to_owned(), line, rule: rule.to_owned() })
    };
    comments.into_iter().filter_map(finding).collect()
}

/// Words of the comments of a file that stand on lines of their own, in lower case and without code spans.
pub fn words(file: &str) -> Vec<String> {
    let comments = file.lines().filter(|line| line.trim_start().starts_with("//"));
    let comments: String = comments.flat_map(|line| [line, "\n"]).collect();
    let words = text::words(&text::rust(&comments)).into_iter().map(|(_, word)| word);
    words.filter(|word| word.starts_with(char::is_alphabetic)).collect()
}

/// One line for each bound that is exceeded, with the files that hold most of its words.
pub fn exceeded(comments: &[(String, Vec<String>)]) -> impl Iterator<Item = String> {
    BOUNDS.iter().filter_map(|(words, most)| exceeds(words, *most, comments))
}

fn exceeds(bound: &[&str], most: f64, comments: &[(String, Vec<String>)]) -> Option<String> {
    let count = |words: &[String]| words.iter().filter(|it| bound.contains(&it.as_str())).count();
    let mut files: Vec<_> = comments.iter().map(|(path, words)| (count(words), path)).collect();
    let found: usize = files.iter().map(|(count, _)| count).sum();
    let all: usize = comments.iter().map(|(_, words)| words.len()).sum();
    let rate = 1000.0 * found as f64 / all.max(1) as f64;
    if rate <= most {
        return None;
    }
    files.sort_by_key(|(count, path)| (Reverse(*count), *path));
    let named: Vec<_> =
        files.iter().take(NAMED).map(|(count, path)| format!("{path}: {count}")).collect();
    Some(format!(
        "{rate:.1} of 1,000 words are {}, at most {most} may be: name the thing with a noun. Most are in\n    {}",
        bound.join(", "),
        named.join("\n    ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clause_a_pointer_and_a_single_word_are_no_heads() {
        let rules =
            |file| heads("a.rs", file).into_iter().map(|found| found.rule).collect::<Vec<_>>();
        assert_eq!(rules("//! What it is.\n"), ["noun-clause head"]);
        assert_eq!(rules("/// `name`\n"), ["one-word doc comment"]);
        assert_eq!(rules("/// It is there.\n"), ["head without its noun"]);
        let free = "// What for?\n/// # Where it is\n/// Whatsoever else.\n//! A noun.\n";
        assert_eq!(rules(free), [""; 0]);
    }

    #[test]
    fn a_bound_that_is_exceeded_names_the_files() {
        let file = |text: &str| ("a.rs".to_owned(), words(text));
        let comments =
            [file("// What it `who` drops.\nlet what = 1;"), file("// Packets that it drops.")];
        let line = exceeds(&["what"], 4.0, &comments).expect("1 of 7 words");
        assert!(line.contains("142.9") && line.contains("a.rs: 1"), "{line}");
        assert_eq!(exceeds(&["nobody"], 4.0, &comments), None);
    }
}
