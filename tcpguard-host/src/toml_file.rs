//! Reads a TOML file into a type of its sections, key by key, so that one pass names every mistake with its
//! position. The type says what is valid. This reader adds the words.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue, Deserializer, Error};

use crate::spelling::nearest;

/// Largest number of known keys that are listed where none of them is meant.
const LISTED: usize = 8;

type Key<'a> = Spanned<DeString<'a>>;
type Value<'a> = Spanned<DeValue<'a>>;

/// The sections of a file, as a type of which every section and key may be absent.
pub trait Sections: DeserializeOwned {
    /// Kinds of blocks with names, and the key with the name and an example of it.
    const NAMED: &'static [(&'static str, &'static str, &'static str)];
    /// Page or command that explains every key.
    const EXPLAINED: &'static str;

    /// The name of a block of this kind in the form in which two names can be compared.
    fn comparable(_kind: &str, name: &str) -> String {
        name.to_owned()
    }

    /// A suggestion for an unknown key that is known elsewhere.
    fn elsewhere(_key: &str) -> Option<String> {
        None
    }
}

/// A position in a file of the configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Spot {
    pub path: Arc<Path>,
    /// The line, counted from 1.
    pub line: usize,
    /// The column, counted from 1 in characters.
    pub column: usize,
}

impl Spot {
    /// The position of the byte at `offset` of a file's `text`.
    pub fn of(path: &Path, text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let of_line = before.rsplit('\n').next().unwrap_or_default();
        let line = 1 + before.matches('\n').count();
        Self { path: path.into(), line, column: 1 + of_line.chars().count() }
    }
}

impl fmt::Display for Spot {
    /// Writes the position as editors and compilers take it: `/etc/tcpguard/tcpguard.toml:12:8`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

/// One mistake in a configuration file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Position of the mistake.
    pub at: Spot,
    /// The mistake, and the text to write instead.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.at, self.text)
    }
}

/// A file that was read.
#[derive(Debug)]
pub struct File<'a> {
    path: &'a Path,
    text: &'a str,
    /// Its valid keys.
    valid: DeTable<'a>,
    /// Position of each key that has a value, under its name with its section.
    pub written: BTreeMap<String, Spot>,
    /// Its mistakes.
    pub problems: Vec<Problem>,
}

/// The place of a key: in which section or block, and its name there.
struct Place<'k, 'a> {
    section: Option<&'k Key<'a>>,
    is_block: bool,
    /// Its section for a reader, with a dot behind it.
    prefix: &'k str,
}

/// Reads the `text` of the file `path`. Its mistakes are those of the single keys.
pub fn read<'a, T: Sections>(path: &'a Path, text: &'a str) -> File<'a> {
    let (valid, written) = (DeTable::new(), BTreeMap::new());
    let mut file = File { path, text, valid, written, problems: Vec::new() };
    match DeTable::parse(text) {
        Ok(table) => file.read_all::<T>(table.get_ref()),
        Err(error) => file.no_toml(&error),
    }
    file
}

impl<'a> File<'a> {
    /// The valid keys as `T`.
    ///
    /// # Panics
    /// When `T` refuses keys together each of which it takes.
    pub fn keys<T: DeserializeOwned>(&self) -> T {
        T::deserialize(deserializer(self.valid.clone())).expect("each key was taken by itself")
    }

    /// Adds a mistake at this offset in bytes.
    pub fn note(&mut self, offset: usize, text: impl Into<String>) {
        let at = Spot::of(self.path, self.text, offset);
        self.problems.push(Problem { at, text: text.into() });
    }

    /// The statement that is not TOML begins after the most lines that are, whatever line the parser came to.
    fn no_toml(&mut self, error: &Error) {
        let found = error.span().map_or(0, |span| span.start.min(self.text.len()));
        let line_ends = self.text[..found].rmatch_indices('\n').map(|(end, _)| end + 1);
        let begin = line_ends.chain([0]).find(|end| DeTable::parse(&self.text[..*end]).is_ok());
        let begin = begin.unwrap_or(0);
        let statement = &self.text[begin..found];
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        match statement.trim_end().matches('\n').count() {
            0 if !statement.contains('\n') => self.note(found, format!("not TOML: {message}")),
            _ => {
                let begin = begin + statement.len() - statement.trim_start().len();
                let line = Spot::of(self.path, self.text, found).line;
                let open = "not TOML: a bracket or quotation mark that opens here is not closed";
                self.note(begin, format!("{open} (line {line}: {message})"));
            }
        }
    }

    fn read_all<T: Sections>(&mut self, table: &DeTable<'a>) {
        for (key, value) in table {
            let name: &str = key.get_ref();
            let as_section = fault::<T>(key, DeValue::Table(DeTable::new()));
            let as_blocks = fault::<T>(key, DeValue::Array(DeArray::new()));
            match (as_section, as_blocks) {
                (Some(error), _) if is_unknown(&error) => {
                    self.note(key.span().start, unknown::<T>("", &error));
                }
                (None, _) => match value.get_ref().as_table() {
                    Some(section) => self.read_section::<T>(key, section),
                    None => {
                        let one = name.strip_suffix('s').unwrap_or_default();
                        let is_block = T::NAMED.iter().any(|(kind, ..)| *kind == one);
                        let or = if is_block {
                            format!(", or [[{one}]] for one")
                        } else {
                            String::new()
                        };
                        let text =
                            format!("{name} is a section; write [{name}] on a line of its own{or}");
                        self.note(value.span().start, text);
                    }
                },
                (_, None) => self.read_blocks::<T>(key, value),
                _ => {
                    let place = Place { section: None, is_block: false, prefix: "" };
                    if self.is_valid::<T>(&place, key, value) {
                        self.valid.insert(key.clone(), value.clone());
                    }
                }
            }
        }
    }

    fn read_section<T: Sections>(&mut self, key: &Key<'a>, section: &DeTable<'a>) {
        let prefix = format!("{}.", key.get_ref());
        let place = Place { section: Some(key), is_block: false, prefix: &prefix };
        let valid = self.valid_of::<T>(&place, section);
        self.valid.insert(key.clone(), Spanned::new(key.span(), DeValue::Table(valid)));
    }

    fn read_blocks<T: Sections>(&mut self, key: &Key<'a>, value: &Value<'a>) {
        let kind: &str = key.get_ref();
        let elements = match value.get_ref().as_array() {
            Some(elements) => &elements[..],
            None => std::slice::from_ref(value),
        };
        let named = T::NAMED.iter().find(|(of, ..)| *of == kind);
        let mut valid = DeArray::new();
        for element in elements {
            let at = element.span();
            let table = element.get_ref().as_table().filter(|_| value.get_ref().is_array());
            let Some(table) = table else {
                let text =
                    format!("{kind} is one of several; write [[{kind}]] on a line of its own");
                self.note(at.start, text);
                continue;
            };
            let name = named.and_then(|(_, id, _)| table.get(*id));
            let name =
                name.and_then(|name| Some((name, T::comparable(kind, name.get_ref().as_str()?))));
            let prefix = match &name {
                Some((_, name)) => format!("{kind}[\"{name}\"]."),
                None => format!("{kind}."),
            };
            if let (Some((value, _)), Some((_, id, _))) = (&name, named)
                && let Some(first) = self.written.get(&format!("{prefix}{id}"))
            {
                let (of, line) = (prefix.trim_end_matches('.'), first.line);
                let text = format!("{of} stands on line {line} already; put both together");
                self.note(value.span().start, text);
                continue;
            }
            let place = Place { section: Some(key), is_block: true, prefix: &prefix };
            let keys = self.valid_of::<T>(&place, table);
            match named {
                Some((_, id, example)) if !table.contains_key(*id) => {
                    self.note(
                        at.start,
                        format!("[[{kind}]] needs the key {id}; write {id} = {example}"),
                    );
                }
                Some((_, id, _)) if !keys.contains_key(*id) => {}
                _ => valid.push(Spanned::new(at, DeValue::Table(keys))),
            }
        }
        self.valid.insert(key.clone(), Spanned::new(value.span(), DeValue::Array(valid)));
    }

    /// The valid keys of one section or block.
    fn valid_of<T: Sections>(&mut self, place: &Place<'_, 'a>, table: &DeTable<'a>) -> DeTable<'a> {
        let keys = table.iter().filter(|(key, value)| self.is_valid::<T>(place, key, value));
        keys.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Notes where a key has its value, or the mistake in it. Of a list, every wrong element is one.
    fn is_valid<T: Sections>(
        &mut self,
        place: &Place<'_, 'a>,
        key: &Key<'a>,
        value: &Value<'a>,
    ) -> bool {
        let (name, at) = (format!("{}{}", place.prefix, key.get_ref()), value.span());
        let Some(error) = place.mistake::<T>(key, value) else {
            self.written.insert(name, Spot::of(self.path, self.text, at.start));
            return true;
        };
        if is_unknown(&error) {
            self.note(key.span().start, unknown::<T>(place.prefix, &error));
            return false;
        }
        let elements = value.get_ref().as_array().map_or(&[][..], |elements| &elements[..]);
        let alone = |element: &Value<'a>| {
            let list = DeValue::Array(DeArray::from_iter([element.clone()]));
            let error = place.mistake::<T>(key, &Spanned::new(at.clone(), list))?;
            Some((element.span().start, error))
        };
        let mut mistakes: Vec<_> = elements.iter().filter_map(alone).collect();
        if mistakes.is_empty() {
            mistakes.push((at.start, error));
        }
        for (at, error) in mistakes {
            self.note(at, format!("{name}: {}", in_words(error.message())));
        }
        false
    }
}

impl<'a> Place<'_, 'a> {
    /// The mistake in a key and its value, as far as they can be judged by themselves.
    fn mistake<T: Sections>(&self, key: &Key<'a>, value: &Value<'a>) -> Option<Error> {
        let one = DeTable::from_iter([(key.clone(), value.clone())]);
        let error = match self.section {
            None => T::deserialize(deserializer(one)).err(),
            Some(section) if !self.is_block => fault::<T>(section, DeValue::Table(one)),
            Some(section) => {
                let element = Spanned::new(0..0, DeValue::Table(one));
                fault::<T>(section, DeValue::Array(DeArray::from_iter([element])))
            }
        };
        // The key alone is no block.
        error.filter(|error| !error.message().starts_with("missing field"))
    }
}

fn deserializer(table: DeTable<'_>) -> Deserializer<'_> {
    Spanned::new(0..0, table).into()
}

/// The mistake in a file with nothing but this.
fn fault<T: Sections>(key: &Key<'_>, value: DeValue<'_>) -> Option<Error> {
    let table = DeTable::from_iter([(key.clone(), Spanned::new(0..0, value))]);
    T::deserialize(deserializer(table)).err()
}

fn is_unknown(error: &Error) -> bool {
    error.message().starts_with("unknown field")
}

/// An unknown key, with the one that may be meant. The message of serde lists the known ones.
fn unknown<T: Sections>(prefix: &str, error: &Error) -> String {
    let mut quoted = error.message().split('`').skip(1).step_by(2);
    let name = quoted.next().unwrap_or_default();
    let known: Vec<_> = quoted.collect();
    let advice = match (T::elsewhere(name), nearest(name, &known)) {
        (Some(elsewhere), _) => elsewhere,
        (None, Some(near)) => format!("did you mean {prefix}{near}?"),
        _ if known.len() > LISTED => T::EXPLAINED.to_owned(),
        _ => format!("known here: {}", known.join(", ")),
    };
    format!("unknown key {prefix}{name}; {advice}")
}

/// The message of serde in the words of TOML.
fn in_words(message: &str) -> String {
    message
        .replace("a sequence", "a list in [ … ]")
        .replace("a map", "a section")
        .replace("variant", "value")
        .replace("expected f64", "expected a number")
        .replace("wanted string or table", "not one of the names in quotes")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Example {
        net: Net,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Net {
        names: Vec<String>,
        fast: bool,
    }

    impl Sections for Example {
        const NAMED: &'static [(&'static str, &'static str, &'static str)] = &[];
        const EXPLAINED: &'static str = "see the manual";
    }

    fn problems(text: &str) -> Vec<String> {
        let file = read::<Example>(Path::new("x.toml"), text);
        file.problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_not_toml_is_one_mistake_on_the_line_where_it_begins() {
        let rest = "# more\n[other]\nkey = 1\nlist = [1, 2]\n".repeat(5);
        let found = problems(&format!("[net]\nfast = true\n  names = [\"eth0\"\n\n{rest}"));
        let [one] = &found[..] else { panic!("{found:?}") };
        assert!(one.starts_with("x.toml:3:3: not TOML: a bracket"), "{one}");
        let found = problems("[net]\nfast = yes\nnames = [1]\n");
        let [one] = &found[..] else { panic!("{found:?}") };
        assert!(one.starts_with("x.toml:2:8: not TOML: "), "{one}");
    }

    #[test]
    fn every_mistake_has_its_position_and_the_valid_keys_remain() {
        let text = "[net]\nfast = 1\nnames = [\"a\",\n 2]\nnmes = 1\n[nett]\n";
        let mut found = problems(text);
        found.sort();
        assert_eq!(
            found,
            [
                "x.toml:2:8: net.fast: invalid type: integer `1`, expected a boolean",
                "x.toml:4:2: net.names: invalid type: integer `2`, expected a string",
                "x.toml:5:1: unknown key net.nmes; did you mean net.names?",
                "x.toml:6:2: unknown key nett; did you mean net?",
            ]
        );
        let text = "[net]\nfast = 1\nnames = [\"a\"]\n";
        let file = read::<Example>(Path::new("x.toml"), text);
        assert_eq!(file.keys::<Example>().net.names, ["a"]);
        assert!(!file.keys::<Example>().net.fast && file.written.contains_key("net.names"));
    }

    #[test]
    fn a_position_is_given_by_line_and_column_in_characters() {
        let spot = |offset| Spot::of(Path::new("x.toml"), "ab\nÄö = 1\n", offset).to_string();
        assert_eq!((spot(0), spot(3)), ("x.toml:1:1".to_owned(), "x.toml:2:1".to_owned()));
        // Two bytes each.
        assert_eq!(spot(10), "x.toml:2:6");
        assert_eq!(spot(99), "x.toml:3:1", "beyond the end is the end");
    }
}
