//! Every key of the configuration file with its explanation, as the packaged file has them.

use serde_json::{Value, json};
use tcpguard_engine::{Threshold, thresholds};

use super::Config;

/// The packaged file: it explains every key with its default, and changes none.
pub const PACKAGED: &str = include_str!("../../../packaging/tcpguard.toml");

/// A section of the file, explained.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section {
    /// Its name; empty at the top level. That of a block, which may stand several times, is in brackets:
    /// `[listener]`.
    pub name: &'static str,
    /// The text above its keys; may be empty.
    pub intro: String,
    /// Its keys, in the order of the file.
    pub keys: Vec<Key>,
}

/// A key of the file, explained.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    section: &'static str,
    /// Its name, without its section.
    pub name: &'static str,
    /// Its purpose, and the values that it may have. Lines that begin with a space are a table.
    pub doc: String,
    /// Its default as the file writes it, or a value that it may have where the default is none.
    pub example: &'static str,
}

/// Every section with every key, in the order of the file.
pub fn sections() -> Vec<Section> {
    let mut sections = vec![Section::default()];
    let mut comment: Vec<&str> = Vec::new();
    for line in PACKAGED.lines() {
        let bare = line.strip_prefix('#').unwrap_or(line);
        let last = sections.last_mut().filter(|_| !bare.is_empty() && !bare.starts_with(' '));
        if let Some(name) = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push(Section { name, intro: comment.join(" "), keys: Vec::new() });
        } else if let (Some(section), Some((name, example))) = (last, bare.split_once(" = ")) {
            let (section_name, doc) = (section.name, comment.join("\n"));
            section.keys.push(Key { section: section_name, name, doc, example });
        } else if !line.is_empty() {
            comment.push(bare.strip_prefix(' ').unwrap_or(bare));
            continue;
        }
        comment.clear();
    }
    sections
}

impl Section {
    /// Returns whether it may stand several times.
    pub fn is_block(&self) -> bool {
        self.name.starts_with('[')
    }
}

/// Every key that stands once.
pub(super) fn keys() -> impl Iterator<Item = Key> {
    sections().into_iter().filter(|section| !section.is_block()).flat_map(|section| section.keys)
}

/// The value of a key in the sections of a configuration.
pub(super) fn at<'v>(sections: &'v Value, key: &str) -> &'v Value {
    sections.pointer(&format!("/{}", key.replace('.', "/"))).unwrap_or(&Value::Null)
}

impl Key {
    /// Its name with its section: `detection.clear_s`.
    pub(super) fn full_name(&self) -> String {
        let dot = if self.section.is_empty() { "" } else { "." };
        format!("{}{dot}{}", self.section, self.name)
    }

    fn threshold(&self) -> Option<&'static Threshold> {
        let name = self.full_name();
        thresholds().find(|threshold| threshold.key == Some(&name))
    }

    /// Returns whether an operator may know it as `name`: without its section, or by the name in
    /// docs/evidence/detection.md.
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.name == name || self.threshold().is_some_and(|threshold| threshold.name == name)
    }

    /// Its value in `config`, of which these are the `sections`, as the file writes it.
    pub(super) fn value(&self, config: &Config, sections: &Value) -> Value {
        let Some(threshold) = self.threshold() else {
            return at(sections, &self.full_name()).clone();
        };
        let value = threshold.get(&config.settings);
        if threshold.unit.is_whole() { json!(value as u64) } else { json!(value) }
    }
}
