//! Bounds on pronouns in comments: nouns, not relative clauses that stand for one ("the packets that it drops").

use std::cmp::Reverse;

use super::source::Comment;

/// Words that comments may hold a few of. The bounds are per 1,000 words of all comments, and above what is found in
/// those of quinn, ripgrep and firezone.
const BOUNDS: [Bound; 2] = [
    Bound { words: &["what", "who", "whose"], most: 4.0 },
    Bound { words: &["nobody", "somebody"], most: 1.0 },
];
/// Files named where a bound is exceeded: those with most of the words.
const NAMED: usize = 10;

struct Bound {
    words: &'static [&'static str],
    most: f64,
}

/// One line for each bound that is exceeded, with the files that hold most of its words.
pub fn exceeded(comments: &[(String, Vec<String>)]) -> impl Iterator<Item = String> {
    BOUNDS.iter().filter_map(|bound| exceeds(bound, comments))
}

/// Words of comments in lower case, without code spans.
pub fn words(comments: &[Comment]) -> Vec<String> {
    let tokens = comments.iter().flat_map(|comment| &comment.prose.tokens);
    let words = tokens.filter(|token| token.word.starts_with(char::is_alphabetic));
    words.map(|token| token.word.clone()).collect()
}

fn exceeds(bound: &Bound, comments: &[(String, Vec<String>)]) -> Option<String> {
    let count =
        |words: &[String]| words.iter().filter(|word| bound.words.contains(&word.as_str())).count();
    let found: usize = comments.iter().map(|(_, words)| count(words)).sum();
    let all: usize = comments.iter().map(|(_, words)| words.len()).sum();
    let rate = 1000.0 * found as f64 / all.max(1) as f64;
    if rate <= bound.most {
        return None;
    }
    let mut files: Vec<_> = comments.iter().map(|(path, words)| (count(words), path)).collect();
    files.sort_by_key(|(count, path)| (Reverse(*count), *path));
    let named: Vec<_> =
        files.iter().take(NAMED).map(|(count, path)| format!("{path}: {count}")).collect();
    Some(format!(
        "{rate:.1} of 1,000 words are {}, at most {} may be: name the thing with a noun. Most are in\n    {}",
        bound.words.join(", "),
        bound.most,
        named.join("\n    ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wording::source::rust;

    fn file(text: &str) -> (String, Vec<String>) {
        ("a.rs".to_owned(), words(&rust(text).comments))
    }

    #[test]
    fn only_prose_of_comments_counts() {
        let (_, words) = file("//! Who?\nlet what = 1;\n    /// `what` it's 7");
        assert_eq!(words, ["who", "it"]);
    }

    #[test]
    fn a_bound_that_is_exceeded_names_the_files() {
        let comments = [file("// What it drops."), file("// Packets that it drops.")];
        let line = exceeds(&BOUNDS[0], &comments).expect("1 of 7 words");
        assert!(line.contains("142.9") && line.contains("a.rs: 1"), "{line}");
        assert_eq!(exceeds(&BOUNDS[1], &comments), None);
    }
}
