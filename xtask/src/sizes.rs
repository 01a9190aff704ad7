//! Sizes of the repository: lines of Rust, words of pages, long files, and pronouns in comments. The first three have
//! ceilings in `testing/record/sizes.json`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::architecture::LONGEST_FILE;
use crate::record;
use crate::wording::comments;
use crate::wording::source;
use crate::workspace::Workspace;

const RECORD: &str = "testing/record/sizes.json";
const UPDATE: &str = "cargo xtask budget --update --because REASON";

/// Pronouns of clauses that stand for a noun. The glossary rejects a further one, which is nowhere.
const CLAUSES: [&str; 3] = ["what", "who", "whose"];
/// Pronouns in place of an actor. The glossary rejects two further ones, which are nowhere.
const ACTORS: [&str; 2] = ["nobody", "somebody"];

/// Sizes of files, summed up.
#[derive(Debug, Default, PartialEq)]
pub struct Sizes {
    /// Lines of the product: crates `tcpguard*`, without tests, blank lines and comments.
    product: usize,
    /// Lines of all Rust files, without blank lines and comments.
    all: usize,
    /// Words of the pages for operators: `README.md`, and those directly in `docs`.
    operators: usize,
    /// Words of the pages below `docs/evidence`.
    evidence: usize,
    /// Words of all other pages.
    pages: usize,
    /// Number of files with more than [`LONGEST_FILE`] lines.
    long: usize,
    /// Number of words in comments.
    words: usize,
    /// Number of these among [`CLAUSES`].
    clauses: usize,
    /// Number of these among [`ACTORS`].
    actors: usize,
}

/// Returns the sizes of the repository.
///
/// # Errors
/// A file cannot be read.
pub fn measure(workspace: &Workspace) -> Result<Sizes> {
    let mut sizes = Sizes::default();
    for path in workspace.rust_files()? {
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        sizes.add(path.strip_prefix(&workspace.root).unwrap_or(&path), &text);
    }
    for path in workspace.files(|path| path.extension().is_some_and(|ending| ending == "md"))? {
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let path = path.strip_prefix(&workspace.root).unwrap_or(&path);
        *sizes.tree(path) += text.split_whitespace().count();
    }
    Ok(sizes)
}

/// The most that a size may be, and the reason why it was raised to that.
#[derive(Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
struct Ceiling {
    most: usize,
    reason: String,
}

/// The ceiling of each size, by its name.
#[derive(Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Ceilings(BTreeMap<String, Ceiling>);

impl Ceilings {
    pub fn read(workspace: &Workspace) -> Result<Self> {
        record::read(&workspace.root.join(RECORD), UPDATE)
    }

    /// Writes the ceilings to the repository.
    pub fn write(&self, workspace: &Workspace) -> Result<()> {
        record::write(&workspace.root.join(RECORD), self)
    }

    /// Compares the sizes with their ceilings.
    ///
    /// # Errors
    /// Names each size above its ceiling.
    pub fn hold(&self, sizes: &Sizes) -> Result<()> {
        let above = sizes.held().into_iter().filter_map(|(name, size)| {
            let most = self.0.get(name).map_or(0, |ceiling| ceiling.most);
            (size > most).then(|| format!("{name}: {size}, {most} at most"))
        });
        let above: Vec<String> = above.collect();
        if !above.is_empty() {
            bail!(
                "the repository has outgrown {RECORD}:\n  {}\nremove as much as was added, or accept it: `{UPDATE}`",
                above.join("\n  ")
            );
        }
        Ok(())
    }

    /// Returns the ceilings at these sizes. A size that has grown needs a reason.
    pub fn updated(mut self, sizes: &Sizes, reason: Option<&str>) -> Result<Self> {
        for (name, size) in sizes.held() {
            let ceiling = self.0.entry(name.to_owned()).or_default();
            if size > ceiling.most {
                let reason = reason.with_context(|| {
                    format!("{name}: from {} to {size}; say why: `{UPDATE}`", ceiling.most)
                })?;
                reason.clone_into(&mut ceiling.reason);
            }
            ceiling.most = size;
        }
        Ok(self)
    }
}

impl Sizes {
    /// Sizes that have a ceiling.
    fn held(&self) -> [(&'static str, usize); 5] {
        [
            ("lines of the product", self.product),
            ("lines of all Rust", self.all),
            ("words of the pages for operators", self.operators),
            ("words of the evidence", self.evidence),
            ("words of all other pages", self.pages),
        ]
    }

    /// The words of the tree that a page belongs to.
    fn tree(&mut self, page: &Path) -> &mut usize {
        let is_in_docs = page.parent() == Some(Path::new("docs"));
        if is_in_docs || page == Path::new("README.md") {
            &mut self.operators
        } else if page.starts_with("docs/evidence") {
            &mut self.evidence
        } else {
            &mut self.pages
        }
    }

    fn add(&mut self, path: &Path, text: &str) {
        let code = source::code(text);
        self.all += full_lines(code.lines());
        if is_product(path) {
            self.product += full_lines(without_tests(&code).into_iter());
        }
        self.long += usize::from(text.lines().count() > LONGEST_FILE);
        let words = comments::words(text);
        let among = |of: &[&str]| words.iter().filter(|word| of.contains(&word.as_str())).count();
        self.words += words.len();
        self.clauses += among(&CLAUSES);
        self.actors += among(&ACTORS);
    }

    /// Returns a count per 1,000 words of comments.
    fn per_thousand(&self, count: usize) -> f64 {
        1000.0 * count as f64 / self.words.max(1) as f64
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "product: {} lines of Rust, without tests, blanks and comments", self.product)?;
        writeln!(f, "all: {} lines of Rust, without blanks and comments", self.all)?;
        let (operators, evidence, pages) = (self.operators, self.evidence, self.pages);
        writeln!(
            f,
            "pages: {operators} words for operators, {evidence} of evidence, {pages} others"
        )?;
        writeln!(f, "files of more than {LONGEST_FILE} lines: {}", self.long)?;
        write!(
            f,
            "1,000 words of comments: {:.2} {}; {:.2} {}",
            self.per_thousand(self.clauses),
            CLAUSES.join("/"),
            self.per_thousand(self.actors),
            ACTORS.join("/")
        )
    }
}

/// Returns whether a file belongs to a crate of the product and holds more than tests.
fn is_product(path: &Path) -> bool {
    let names: Vec<_> = path.iter().map(|name| name.to_string_lossy()).collect();
    let is_tests =
        |name: &str| name == "tests" || name == "tests.rs" || name.ends_with("_tests.rs");
    names.first().is_some_and(|first| first.starts_with("tcpguard"))
        && !names.iter().any(|name| is_tests(name))
}

fn full_lines<'a>(lines: impl Iterator<Item = &'a str>) -> usize {
    lines.filter(|line| !line.trim().is_empty()).count()
}

/// Returns the lines of `code` without the items that are compiled for tests only. Neither comments nor literals
/// may have braces.
fn without_tests(code: &str) -> Vec<&str> {
    let mut left = Vec::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        let attribute = line.trim_start();
        if attribute.starts_with("#[cfg(test") || attribute.starts_with("#[cfg(all(test") {
            skip_item(line, &mut lines);
        } else {
            left.push(line);
        }
    }
    left
}

/// Goes to the end of the item with this attribute: its last brace, or its semicolon.
fn skip_item<'a>(attribute: &'a str, lines: &mut impl Iterator<Item = &'a str>) {
    let (mut depth, mut has_body) = (0_usize, false);
    for line in [attribute].into_iter().chain(lines) {
        for letter in line.chars() {
            match letter {
                '{' => (depth, has_body) = (depth + 1, true),
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        if has_body && depth == 0 || !has_body && line.trim_end().ends_with(';') {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "//! Who?\n\nuse a;\n/* b\n */\nfn f() { // what\n    \"{ // {\n\n\" }\n\
                        #[cfg(test)]\nuse b;\n#[cfg(all(test, unix))]\nmod tests {\n    \
                        fn g() {\n    }\n}\nfn h<'a>(_: &'a str) { '{' }\n";

    fn sizes(path: &str) -> Sizes {
        let mut sizes = Sizes::default();
        sizes.add(Path::new(path), FILE);
        sizes
    }

    #[test]
    fn lines_are_counted_without_tests_blanks_and_comments() {
        let sizes = sizes("tcpguard-engine/src/a.rs");
        assert_eq!((sizes.product, sizes.all), (5, 12));
    }

    #[test]
    fn only_the_crates_of_the_product_count_as_such() {
        for path in ["xtask/src/a.rs", "tcpguard/tests/a.rs", "tcpguard/src/a/tests.rs"] {
            assert_eq!(sizes(path).product, 0, "{path}");
        }
        assert_eq!(sizes("tcpguard-ebpf/src/main.rs").product, 5);
    }

    #[test]
    fn pronouns_of_comments_are_given_by_the_thousand_words() {
        let sizes = sizes("a.rs");
        assert_eq!((sizes.words, sizes.clauses, sizes.actors), (1, 1, 0));
        assert_eq!(sizes.per_thousand(sizes.clauses), 1000.0);
    }

    #[test]
    fn a_size_may_fall_and_needs_a_reason_to_grow() {
        let sizes = |product| Sizes { product, ..Sizes::default() };
        let first = Ceilings::default().updated(&sizes(10), Some("the first")).unwrap();
        first.hold(&sizes(10)).unwrap();
        let said = first.hold(&sizes(11)).unwrap_err().to_string();
        assert!(said.contains("lines of the product: 11, 10 at most"), "{said}");
        let lower = first.updated(&sizes(9), None).unwrap();
        assert_eq!(lower.0["lines of the product"].most, 9);
        let said = lower.updated(&sizes(10), None).unwrap_err().to_string();
        assert!(said.contains("from 9 to 10") && said.contains("--because"), "{said}");
    }

    #[test]
    fn a_page_belongs_to_one_tree() {
        let mut sizes = Sizes::default();
        let trees = [("README.md", 1), ("docs/a.md", 2), ("docs/evidence/decisions/b.md", 4)];
        for (page, words) in trees.into_iter().chain([("A.md", 8), ("packaging/README.md", 16)]) {
            *sizes.tree(Path::new(page)) += words;
        }
        assert_eq!((sizes.operators, sizes.evidence, sizes.pages), (3, 4, 24));
    }

    #[test]
    fn a_long_file_is_counted() {
        let mut sizes = Sizes::default();
        sizes.add(Path::new("a.rs"), &"\n".repeat(LONGEST_FILE + 1));
        assert_eq!((sizes.long, sizes.all), (1, 0));
    }

    #[test]
    fn the_repository_is_measured() {
        let sizes = measure(&Workspace::locate().expect("a workspace")).expect("readable files");
        println!("{sizes}");
        assert!(sizes.product > 10_000 && sizes.all > 2 * sizes.product, "{sizes:?}");
        assert_eq!(sizes.long, 0, "{sizes:?}");
    }
}
