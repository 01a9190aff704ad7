//! Reads a section key by key, so that one pass finds every mistake.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Problem;
use super::keys::{self, Key};

/// A value together with the line on which it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written<T> {
    /// The line, counted from 1.
    pub line: usize,
    /// What was written there.
    pub value: T,
}

/// One section of a file while it is being read. [`Section::finish`] reports the keys that nobody
/// asked for.
pub(super) struct Section<'a> {
    text: &'a str,
    /// Dotted name with a trailing dot, empty for the top level.
    prefix: String,
    table: Option<&'a DeTable<'a>>,
    known: Vec<&'static str>,
}

/// The line of the byte at `offset`.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count()
}

impl<'a> Section<'a> {
    pub(super) fn root(text: &'a str, table: &'a DeTable<'a>) -> Self {
        Self { text, prefix: String::new(), table: Some(table), known: Vec::new() }
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
            problems.push(Problem {
                line: line_of(self.text, value.span().start),
                text: format!("{key} is a section; write [{key}] on a line of its own"),
            });
        }
        Self { text: self.text, prefix: format!("{}{key}.", self.prefix), table, known: Vec::new() }
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
        let line = line_of(self.text, value.span().start);
        let Some(elements) = value.get_ref().as_array() else {
            let text = format!("{}{key}: not a list; write [ … ] around the value", self.prefix);
            problems.push(Problem { line, text });
            return None;
        };
        let read = elements
            .iter()
            .filter_map(|element| self.read(key, element, problems, &read))
            .map(|written| written.value)
            .collect();
        Some(Written { line, value: read })
    }

    fn read<T>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        problems: &mut Vec<Problem>,
        read: &impl Fn(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<Written<T>> {
        let line = line_of(self.text, value.span().start);
        match read(value.get_ref()) {
            Ok(value) => Some(Written { line, value }),
            Err(why) => {
                problems.push(Problem { line, text: format!("{}{key}: {why}", self.prefix) });
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
                line: line_of(self.text, key.span().start),
                text: format!("unknown key {}{name}; {advice}", self.prefix),
            });
        }
    }

    /// What to write in place of an unknown key: the one of that name, wherever it belongs, or one of
    /// this section that looks like it.
    fn advice(&self, name: &str) -> String {
        if let Some(meant) = keys::keys().find(|key| key.is_called(name)).and_then(Key::name) {
            return format!("did you mean {meant}?");
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

/// More keys than this are not listed where none of them is meant.
const LISTED: usize = 8;

/// The known key that `name` is most likely a misspelling of: at most a third of it differs.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|key| (distance(name, key), *key))
        .filter(|(distance, key)| *distance <= key.len().div_ceil(3))
        .min()
        .map(|(_, key)| key)
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replace = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn distance_counts_insertions_deletions_and_replacements() {
        for (a, b, expected) in [
            ("", "abc", 3),
            ("poll_ms", "poll_ms", 0),
            ("pol_ms", "poll_ms", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} to {b}");
        }
    }

    #[test]
    fn only_a_likely_misspelling_is_suggested() {
        assert_eq!(nearest("pol_ms", &["poll_ms", "clear_s"]), Some("poll_ms"));
        assert_eq!(nearest("colour", &["poll_ms", "clear_s"]), None);
    }
}
