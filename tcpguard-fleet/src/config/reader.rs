//! Reads a file section by section, so that one pass finds every mistake.

use std::cell::RefCell;
use std::path::Path;

use tcpguard_host::spelling::nearest;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problem;

/// Largest number of known keys that are listed where none of them is meant.
const LISTED: usize = 8;

/// A file while it is being read.
pub(super) struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    problems: RefCell<Vec<Problem>>,
}

/// One section of a file while it is being read. [`Section::finish`] reports the keys that were not requested.
pub(super) struct Section<'a> {
    reader: &'a Reader<'a>,
    /// Offset of its start, in bytes; 0 for one that was not written.
    start: usize,
    /// Dotted name with a trailing dot, empty for the top level.
    prefix: String,
    table: Option<&'a DeTable<'a>>,
    known: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    pub fn new(path: &'a Path, text: &'a str) -> Self {
        Self { path, text, problems: RefCell::default() }
    }

    /// The top level of the file.
    pub fn root(&'a self, table: &'a DeTable<'a>) -> Section<'a> {
        Section {
            reader: self,
            start: 0,
            prefix: String::new(),
            table: Some(table),
            known: Vec::new(),
        }
    }

    /// Notes a mistake at this offset in bytes.
    pub fn note(&self, offset: usize, text: String) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = 1 + before.matches('\n').count();
        let column = 1 + before.rsplit('\n').next().unwrap_or_default().chars().count();
        let problem = Problem { path: self.path.to_owned(), line, column, text };
        self.problems.borrow_mut().push(problem);
    }

    /// The mistakes in the order of their lines. In a line that is not TOML, only that counts.
    pub fn into_problems(self, broken: &[usize]) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        let is_broken = |problem: &Problem| {
            broken.contains(&problem.line) && !problem.text.starts_with(NOT_TOML)
        };
        problems.retain(|problem| !is_broken(problem));
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems
    }

    /// The lines with mistakes so far.
    pub fn lines(&self) -> Vec<usize> {
        self.problems.borrow().iter().map(|problem| problem.line).collect()
    }
}

/// Beginning of the mistakes that the parser finds.
pub(super) const NOT_TOML: &str = "not TOML: ";

impl<'a> Section<'a> {
    fn look_up(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.push(key);
        self.table?.get(key)
    }

    /// Returns whether it was written.
    pub const fn is_written(&self) -> bool {
        self.table.is_some()
    }

    /// Notes a mistake about the section as a whole.
    pub fn note(&self, text: impl Into<String>) {
        self.reader.note(self.start, text.into());
    }

    /// The section `[key]`; an empty one when it was not written.
    pub fn section(&mut self, key: &'static str) -> Self {
        let found = self.look_up(key);
        let table = found.and_then(|value| value.get_ref().as_table());
        if let (Some(value), None) = (found, table) {
            let text = format!("{key} is a section; write [{key}] on a line of its own");
            self.reader.note(value.span().start, text);
        }
        let start = found.map_or(0, |value| value.span().start);
        let prefix = format!("{}{key}.", self.prefix);
        Self { reader: self.reader, start, prefix, table, known: Vec::new() }
    }

    /// Returns every block `[[key]]`.
    pub fn blocks(&mut self, key: &'static str) -> Vec<Self> {
        let Some(value) = self.look_up(key) else { return Vec::new() };
        let array = value.get_ref().as_array();
        let elements = match array {
            Some(elements) => &elements[..],
            None => std::slice::from_ref(value),
        };
        let mut blocks = Vec::new();
        for element in elements {
            let start = element.span().start;
            match element.get_ref().as_table().filter(|_| array.is_some()) {
                Some(table) => blocks.push(Self {
                    reader: self.reader,
                    start,
                    prefix: format!("{key}."),
                    table: Some(table),
                    known: Vec::new(),
                }),
                None => {
                    let text =
                        format!("{key} is one of several; write [[{key}]] on a line of its own");
                    self.reader.note(start, text);
                }
            }
        }
        blocks
    }

    /// The value of `key`, if it was written and `read` takes it.
    pub fn value<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.look_up(key)?;
        self.read(key, value, &read)
    }

    /// The value of `key`, which has to be written: such as `example`.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl Fn(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<T> {
        let Some(value) = self.look_up(key) else {
            let section = self.prefix.trim_end_matches('.');
            self.note(format!("[{section}] needs the key {key}; write {key} = {example}"));
            return None;
        };
        self.read(key, value, &read)
    }

    /// The list under `key`, if it was written. Every bad element is reported.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let value = self.look_up(key)?;
        let Some(elements) = value.get_ref().as_array() else {
            let text = format!("{}{key}: not a list; write [ … ] around the value", self.prefix);
            self.reader.note(value.span().start, text);
            return None;
        };
        Some(elements.iter().filter_map(|element| self.read(key, element, &read)).collect())
    }

    fn read<T>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        read: &impl Fn(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<T> {
        read(value.get_ref())
            .map_err(|why| {
                self.reader.note(value.span().start, format!("{}{key}: {why}", self.prefix));
            })
            .ok()
    }

    /// Reports every key that no call above asked for.
    pub fn finish(self) {
        for key in self.table.into_iter().flat_map(|table| table.keys()) {
            let name = key.get_ref().as_ref();
            if self.known.contains(&name) {
                continue;
            }
            let advice = self.advice(name);
            let text = format!("unknown key {}{name}; {advice}", self.prefix);
            self.reader.note(key.span().start, text);
        }
    }

    /// A suggestion for an unknown key: a similar one of this section.
    fn advice(&self, name: &str) -> String {
        match nearest(name, &self.known) {
            Some(near) => format!("did you mean {}{near}?", self.prefix),
            None if self.known.len() > LISTED => {
                "every key is explained in the packaged fleet.toml".to_owned()
            }
            None => format!("known here: {}", self.known.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_given_by_line_and_column_in_characters() {
        let reader = Reader::new(Path::new("x.toml"), "ab\nÄö = 1\n");
        // Two bytes each.
        for offset in [10, 0, 3, 99] {
            reader.note(offset, String::new());
        }
        let problems = reader.into_problems(&[]);
        let places: Vec<_> =
            problems.iter().map(|problem| (problem.line, problem.column)).collect();
        assert_eq!(places, [(1, 1), (2, 1), (2, 6), (3, 1)]);
    }
}
