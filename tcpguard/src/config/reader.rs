//! Reads a section key by key, so that one pass finds every mistake.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tcpguard_host::spelling::nearest;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, Key};
use super::{Problem, Spot};

/// A value together with where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written<T> {
    /// Position of the value.
    pub at: Spot,
    /// The value that was written there.
    pub value: T,
}

/// A file while it is being read.
pub(super) struct Source<'a> {
    path: Arc<Path>,
    text: &'a str,
    /// Position of each key with a value, for `tcpguard config show --origin`.
    written: RefCell<BTreeMap<String, Spot>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(path: &Path, text: &'a str) -> Self {
        Self { path: path.into(), text, written: RefCell::default() }
    }

    /// The position of the byte at `offset`.
    pub(super) fn spot(&self, offset: usize) -> Spot {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = 1 + before.matches('\n').count();
        let of_line = before.rsplit('\n').next().unwrap_or_default();
        Spot { path: self.path.clone(), line, column: 1 + of_line.chars().count() }
    }

    /// Returns the position of each key.
    pub(super) fn into_written(self) -> BTreeMap<String, Spot> {
        self.written.into_inner()
    }
}

/// One section of a file while it is being read. [`Section::finish`] reports the keys that were not
/// requested.
pub(super) struct Section<'a> {
    source: &'a Source<'a>,
    /// Offset of its start, in bytes; 0 for one that was not written.
    start: usize,
    /// Dotted name with a trailing dot, empty for the top level.
    prefix: String,
    table: Option<&'a DeTable<'a>>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    pub(super) fn root(source: &'a Source<'a>, table: &'a DeTable<'a>) -> Self {
        Self { source, start: 0, prefix: String::new(), table: Some(table), known: Vec::new() }
    }

    fn look_up(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.push(key);
        self.table?.get(key)
    }

    /// The section `[key]`; an empty one when it was not written.
    pub(super) fn section(&mut self, key: &'static str, problems: &mut Vec<Problem>) -> Self {
        let found = self.look_up(key);
        let table = found.and_then(|value| value.get_ref().as_table());
        if let (Some(value), None) = (found, table) {
            let singular = key.strip_suffix('s').filter(|name| keys::is_block(name));
            let one = singular.map_or_else(String::new, |name| format!(", or [[{name}]] for one"));
            problems.push(Problem {
                at: self.source.spot(value.span().start),
                text: format!("{key} is a section; write [{key}] on a line of its own{one}"),
            });
        }
        let start = found.map_or(0, |value| value.span().start);
        let prefix = format!("{}{key}.", self.prefix);
        Self { source: self.source, start, prefix, table, known: Vec::new() }
    }

    /// Returns every block `[[key]]`.
    pub(super) fn blocks(&mut self, key: &'static str, problems: &mut Vec<Problem>) -> Vec<Self> {
        let Some(value) = self.look_up(key) else { return Vec::new() };
        let elements = match value.get_ref().as_array() {
            Some(elements) => &elements[..],
            None => std::slice::from_ref(value),
        };
        let is_array = value.get_ref().is_array();
        let mut blocks = Vec::new();
        for element in elements {
            let start = element.span().start;
            match element.get_ref().as_table().filter(|_| is_array) {
                Some(table) => blocks.push(Self {
                    source: self.source,
                    start,
                    prefix: format!("{key}."),
                    table: Some(table),
                    known: Vec::new(),
                }),
                None => problems.push(Problem {
                    at: self.source.spot(start),
                    text: format!("{key} is one of several; write [[{key}]] on a line of its own"),
                }),
            }
        }
        blocks
    }

    /// The value of the key that distinguishes a block from others of its kind. Its other keys are named after
    /// it: `listener[":443"].mode`.
    pub(super) fn name<T: fmt::Display>(
        &mut self,
        key: &'static str,
        example: &str,
        problems: &mut Vec<Problem>,
        read: impl Fn(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<Written<T>> {
        let kind = self.prefix.trim_end_matches('.').to_owned();
        let Some(value) = self.look_up(key) else {
            problems.push(Problem {
                at: self.source.spot(self.start),
                text: format!("[[{kind}]] needs the key {key}; write {key} = {example}"),
            });
            return None;
        };
        let at = self.source.spot(value.span().start);
        match read(value.get_ref()) {
            Ok(value) => {
                self.prefix = format!("{kind}[\"{value}\"].");
                Some(Written { at, value })
            }
            Err(why) => {
                problems.push(Problem { at, text: format!("{kind}.{key}: {why}") });
                None
            }
        }
    }

    /// The value of `key`, if it was written and `read` takes it.
    pub(super) fn value<T>(
        &mut self,
        key: &'static str,
        problems: &mut Vec<Problem>,
        read: impl Fn(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<Written<T>> {
        let value = self.look_up(key)?;
        self.read(key, value, problems, &read)
    }

    /// The list under `key`, if it was written. Every bad element is reported.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        problems: &mut Vec<Problem>,
        read: impl Fn(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<Written<Vec<T>>> {
        let value = self.look_up(key)?;
        let at = self.source.spot(value.span().start);
        let Some(elements) = value.get_ref().as_array() else {
            let text = format!("{}{key}: not a list; write [ … ] around the value", self.prefix);
            problems.push(Problem { at, text });
            return None;
        };
        let read = elements
            .iter()
            .filter_map(|element| self.read(key, element, problems, &read))
            .map(|written| written.value)
            .collect();
        // Of the list rather than of its last element.
        self.note(key, &at);
        Some(Written { at, value: read })
    }

    fn note(&self, key: &str, at: &Spot) {
        self.source.written.borrow_mut().insert(format!("{}{key}", self.prefix), at.clone());
    }

    fn read<T>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        problems: &mut Vec<Problem>,
        read: &impl Fn(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<Written<T>> {
        let at = self.source.spot(value.span().start);
        match read(value.get_ref()) {
            Ok(value) => {
                self.note(key, &at);
                Some(Written { at, value })
            }
            Err(why) => {
                problems.push(Problem { at, text: format!("{}{key}: {why}", self.prefix) });
                None
            }
        }
    }

    /// Reports every key that no call above asked for.
    pub(super) fn finish(self, problems: &mut Vec<Problem>) {
        for key in self.table.into_iter().flat_map(|table| table.keys()) {
            let name = key.get_ref().as_ref();
            if self.known.contains(&name) {
                continue;
            }
            let advice = self.advice(name);
            problems.push(Problem {
                at: self.source.spot(key.span().start),
                text: format!("unknown key {}{name}; {advice}", self.prefix),
            });
        }
    }

    /// A suggestion for an unknown key: the key of that name, in any section, or a similar one of this section.
    fn advice(&self, name: &str) -> String {
        if let Some(meant) = keys::keys().find(|key| key.is_called(name)).and_then(Key::name) {
            // Text appended to a file belongs to its last section.
            return match meant.contains('.') {
                true => format!("did you mean {meant}?"),
                false => format!("{meant} belongs above the first [section]"),
            };
        }
        if let Some(near) = nearest(name, &self.known) {
            return format!("did you mean {}{near}?", self.prefix);
        }
        if self.known.len() > LISTED {
            return "every key is explained by: tcpguard config init -".to_owned();
        }
        format!("known here: {}", self.known.join(", "))
    }
}

/// Largest number of known keys that are listed where none of them is meant.
const LISTED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_given_by_line_and_column_in_characters() {
        let source = Source::new(Path::new("x.toml"), "ab\nÄö = 1\n");
        let spot = |offset| source.spot(offset).to_string();
        assert_eq!(spot(0), "x.toml:1:1");
        assert_eq!(spot(3), "x.toml:2:1");
        // Two bytes each.
        assert_eq!(spot(10), "x.toml:2:6");
        assert_eq!(spot(99), "x.toml:3:1", "beyond the end is the end");
    }
}
