//! Every page with commands for people to type.

use std::fs;
use std::path::{Path, PathBuf};

use tcpguard_support::blocks::blocks;

/// A piece of text and its position, for messages.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Placed {
    /// Position as `FILE:LINE`.
    pub place: String,
    pub text: String,
}

/// A file of the repository.
pub struct Page {
    /// Its path from the repository's root on.
    pub path: PathBuf,
    /// Text of the whole file.
    pub text: String,
}

/// Root directory of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files in these directories with names that end in `ending`, in alphabetical order.
pub fn files(directories: &[&str], ending: &str) -> Vec<Page> {
    let mut pages = Vec::new();
    for directory in directories {
        let mut paths: Vec<PathBuf> = fs::read_dir(root().join(directory))
            .unwrap_or_else(|error| panic!("{directory}: {error}"))
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file() && path.to_string_lossy().ends_with(ending))
            .collect();
        paths.sort();
        pages.extend(paths.into_iter().map(|path| Page {
            text: fs::read_to_string(&path).unwrap(),
            path: path.strip_prefix(root()).unwrap().to_owned(),
        }));
    }
    pages
}

/// Every page of Markdown.
pub fn markdown() -> Vec<Page> {
    files(&["", "docs", "docs/evidence", "docs/evidence/decisions", "packaging"], ".md")
}

impl Page {
    fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }

    /// The lines of its blocks of code; a line that ends in a backslash with those that it goes on in.
    pub fn code(&self) -> Vec<Placed> {
        let mut found: Vec<Placed> = Vec::new();
        for block in blocks(&self.text) {
            let mut goes_on = false;
            for (number, line) in block.lines {
                let (line, more) = match line.strip_suffix('\\') {
                    Some(line) => (line.to_owned(), true),
                    None => (line, false),
                };
                match found.last_mut().filter(|_| goes_on) {
                    Some(last) => last.text.push_str(&line),
                    None => found.push(Placed { place: self.place(number), text: line }),
                }
                goes_on = more;
            }
        }
        found
    }

    /// The page without its blocks of code, line by line.
    fn prose(&self) -> Vec<&str> {
        let code: Vec<usize> =
            blocks(&self.text).iter().flat_map(|block| &block.lines).map(|line| line.0).collect();
        let lines = (1..).zip(self.text.lines());
        lines.map(|(number, line)| if code.contains(&number) { "" } else { line }).collect()
    }

    /// The text between backticks in its prose, also over the end of a line.
    pub fn spans(&self) -> Vec<Placed> {
        let mut spans = Vec::new();
        let mut open: Option<Placed> = None;
        for (number, line) in (1..).zip(self.prose()) {
            // A fence, or the end of a paragraph, beyond which no span goes on.
            if line.trim().is_empty() || line.starts_with("```") {
                open = None;
                continue;
            }
            for (part, text) in line.split('`').enumerate() {
                if part > 0 {
                    match open.take() {
                        Some(span) => spans.push(span),
                        None => {
                            let place = self.place(number);
                            open = Some(Placed { place, text: String::new() });
                        }
                    }
                }
                if let Some(span) = &mut open {
                    span.text.push_str(text);
                }
            }
            if let Some(span) = &mut open {
                span.text.push(' ');
            }
        }
        spans
    }

    /// Returns the targets of its links and pictures.
    pub fn links(&self) -> Vec<Placed> {
        let mut links = Vec::new();
        for (number, line) in (1..).zip(self.prose()) {
            for rest in line.split("](").skip(1) {
                let target = rest.split([')', ' ']).next().unwrap_or_default();
                links.push(Placed { place: self.place(number), text: target.to_owned() });
            }
        }
        links
    }

    /// Its headings, as links name them: lower-case, without punctuation, with hyphens for blanks.
    pub fn anchors(&self) -> Vec<String> {
        let headings = self.prose().into_iter().filter(|line| line.starts_with('#'));
        let anchor = |heading: &str| {
            let words = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = words.chars().filter(|char| char.is_alphanumeric() || "-_ ".contains(*char));
            kept.map(|char| if char == ' ' { '-' } else { char }).collect()
        };
        headings.map(anchor).collect()
    }
}

/// Next commands in text that has no markup: the words from `tcpguard` on in `: tcpguard`,
/// `→ tcpguard`, `&& tcpguard` and `sudo tcpguard`, to the end of the clause.
pub fn advice(page: &Page) -> Vec<Placed> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(page.text.lines()) {
        for (at, _) in line.match_indices("tcpguard ") {
            let before = &line[..at];
            if [": ", "→ ", "&& ", "sudo "].iter().any(|mark| before.ends_with(mark)) {
                let clause = line[at..].split([';', ',', '"', '`', '(', '|']).next();
                let text = clause.unwrap_or_default().to_owned();
                found.push(Placed { place: page.place(number), text });
            }
        }
    }
    found
}
