//! Wording of comments: nouns, not relative clauses that stand for one ("what the rule drops", "whoever sends it").

use std::{cmp::Reverse, fs};

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// Words that comments may hold a few of. The bounds are per 1,000 words of all comments, and above what is found in
/// those of quinn, ripgrep and firezone.
const BOUNDS: [Bound; 2] = [
    Bound { words: &["what", "who", "whose", "whoever"], most: 4.0 },
    Bound { words: &["whoever", "nobody", "somebody", "anybody"], most: 1.0 },
];
/// Files named where a bound is exceeded: those with most of the words.
const NAMED: usize = 10;

struct Bound {
    words: &'static [&'static str],
    most: f64,
}

/// Checks the comments of every Rust file of the repository.
///
/// # Errors
/// Names each bound that is exceeded and the files that hold most of its words.
pub fn check(workspace: &Workspace) -> Result<()> {
    let mut comments = Vec::new();
    for path in workspace.rust_files()? {
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let relative = path.strip_prefix(&workspace.root).unwrap_or(&path);
        let words = text.lines().filter_map(comment).flat_map(words).collect();
        comments.push((relative.display().to_string(), words));
    }
    let exceeded: Vec<String> =
        BOUNDS.iter().filter_map(|bound| exceeds(bound, &comments)).collect();
    if !exceeded.is_empty() {
        bail!("wording of comments:\n  {}", exceeded.join("\n  "));
    }
    Ok(())
}

/// Text of a line that is a comment.
fn comment(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix("//")
}

/// Words of a text in lower case, without `code spans`.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split('`')
        .step_by(2)
        .flat_map(|prose| prose.split(|letter: char| !letter.is_alphabetic() && letter != '\''))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
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

    fn file(text: &str) -> (String, Vec<String>) {
        ("a.rs".to_owned(), text.lines().filter_map(comment).flat_map(words).collect())
    }

    #[test]
    fn only_prose_of_comments_counts() {
        let (_, words) = file("//! Who?\nlet what = 1; // no line of its own\n    /// `what` it's");
        assert_eq!(words, ["who", "it's"]);
    }

    #[test]
    fn a_bound_that_is_exceeded_names_the_files() {
        let comments = [file("// What it drops."), file("// Packets that it drops.")];
        let told = exceeds(&BOUNDS[0], &comments).expect("1 of 7 words");
        assert!(told.contains("142.9") && told.contains("a.rs: 1"), "{told}");
        assert_eq!(exceeds(&BOUNDS[1], &comments), None);
    }
}
