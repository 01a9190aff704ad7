//! Output that the page of symptoms quotes in italics: it is in an expected page or in a string literal of the
//! sources.

use std::fs;
use std::path::Path;

use super::pages::{files, markdown, root};

/// Sources of the texts that operators see.
const SOURCES: [&str; 3] = ["tcpguard/src", "tcpguard-host/src", "tcpguard-engine/src"];
/// Stands in an italic for words that differ.
const ELLIPSIS: &str = "…";
/// Most words of a page for which an ellipsis stands.
const LONGEST_GAP: usize = 12;

#[test]
fn the_output_that_the_symptoms_quote_exists() {
    let pages = markdown();
    let page = pages.iter().find(|page| page.path.ends_with("docs/troubleshooting.md")).unwrap();
    let mut texts: Vec<Vec<String>> =
        files(&["tcpguard/tests/expected"], ".txt").iter().map(|page| words(&page.text)).collect();
    for directory in SOURCES {
        literals_below(&root().join(directory), &mut texts);
    }
    let quoted: Vec<String> = page.text.lines().flat_map(italics).collect();
    let missing: Vec<&String> =
        quoted.iter().filter(|quoted| !texts.iter().any(|text| occurs(quoted, text))).collect();
    assert!(missing.is_empty(), "no output of tcpguard: {missing:#?}");
    assert!(quoted.len() >= 50, "only {} were found", quoted.len());
}

/// The italics of a row of a table, without those in code spans.
fn italics(line: &str) -> Vec<String> {
    if !line.starts_with('|') {
        return Vec::new();
    }
    let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
    prose.split('*').skip(1).step_by(2).map(str::to_owned).collect()
}

fn words(text: &str) -> Vec<String> {
    let bare = |word: &str| word.trim_end_matches(['.', ',', ';', ':']).to_owned();
    text.split_whitespace().map(bare).collect()
}

/// Returns whether `text` has the words of `quoted` in their order. A format argument of the text stands for a number,
/// an ellipsis or a capital letter.
fn occurs(quoted: &str, text: &[String]) -> bool {
    let quoted = words(quoted);
    (0..text.len()).any(|at| begins(&quoted, &text[at..]))
}

fn begins(quoted: &[String], text: &[String]) -> bool {
    let Some((first, rest)) = quoted.split_first() else { return true };
    if first == ELLIPSIS {
        return (0..=LONGEST_GAP.min(text.len())).any(|gap| begins(rest, &text[gap..]));
    }
    let Some((word, behind)) = text.split_first() else { return false };
    let varies = first.contains(ELLIPSIS)
        || first.contains(|letter: char| letter.is_ascii_digit())
        || (first.len() == 1 && first.starts_with(char::is_uppercase));
    (first == word || (varies && word.contains('{'))) && begins(rest, behind)
}

/// Adds the words of each string literal below `directory`, without those of tests.
fn literals_below(directory: &Path, texts: &mut Vec<Vec<String>>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let is_test = path.file_stem().is_some_and(|name| name == "tests");
        if path.is_dir() && !is_test {
            literals_below(&path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
            let source = fs::read_to_string(&path).unwrap();
            let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            texts.extend(literals(code).iter().map(|literal| words(literal)));
        }
    }
}

/// The string literals of Rust code, with its line ends and escapes as blanks.
fn literals(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in code.replace("\\\n", " ").replace("'\"'", "").replace("\\\"", "”").lines() {
        if !line.trim_start().starts_with("//") {
            let parts = line.split('"').skip(1).step_by(2);
            found.extend(parts.map(|part| part.replace("\\n", " ").replace('”', "\"")));
        }
    }
    found
}

#[test]
fn an_italic_that_is_no_output_is_found() {
    let row = "| *one* | `*two*` and *three … 4*, *five* |";
    assert_eq!(italics(row), ["one", "three … 4", "five"]);
    assert_eq!(italics("*one*"), [""; 0]);
    let code = "// \"none\"\nf(\"a {name} of \\\n    {}: \\\"b\\\"\", '\"', \"c\");";
    assert_eq!(literals(code), ["a {name} of      {}: \"b\"", "c"]);
    let text = words("rules in the kernel: {found} of {}, {why}");
    for (quoted, is_there) in [
        ("rules in the kernel: 0 of 3", true),
        ("rules … of N", true),
        ("kernel: (…) of", true),
        ("rules in a kernel", false),
        ("rules in the kernel: none", false),
        ("Rules in", false),
    ] {
        assert_eq!(occurs(quoted, &text), is_there, "{quoted}");
    }
}
