//! Every setting: with the value that holds, or explained.

use serde_json::Value;
use tcpguard_host::toml_file::Sections as _;

use super::Config;
use super::keys::{self, BLOCKS, SECTIONS};

/// Explanations are broken before this column.
const WIDTH: usize = 100;

const HEADER: &str = "\
# tcpguard configuration. Every key is optional. Each line that starts with \"#\" and a key shows
# the default. Files in the directory conf.d beside this one with names that end in .toml are read
# after it, in the order of their names, and override it key by key. Check your changes first:
#
#     tcpguard config check /etc/tcpguard/tcpguard.toml
";

#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Its key as in the file, with its section; of a block `listener[":443"].mode`.
    pub key: String,
    /// The value that holds; as JSON it is written as in the file.
    pub value: Value,
    /// True if it is the default.
    pub is_default: bool,
}

/// Every setting of `config`, in the order of the file. Interfaces and listeners with settings of their
/// own follow with these.
pub fn settings(config: &Config) -> Vec<Setting> {
    let (defaults, sections) = (Config::default(), sections_of(config));
    let default_sections = sections_of(&defaults);
    let everywhere = keys::keys().filter_map(|key| {
        let value = key.value(config, &sections);
        let is_default = value == key.value(&defaults, &default_sections);
        Some(Setting { key: key.name()?.to_owned(), value, is_default })
    });
    let blocks = Config::NAMED.iter().flat_map(|&(kind, id, _)| {
        let blocks = sections[kind].as_array().into_iter().flatten();
        blocks.filter_map(Value::as_object).flat_map(move |block| {
            let name = block[id].as_str().unwrap_or_default();
            let own = block.iter().filter(move |(key, value)| *key != id && !value.is_null());
            own.map(move |(key, value)| Setting {
                key: format!("{kind}[\"{name}\"].{key}"),
                value: value.clone(),
                is_default: false,
            })
        })
    });
    everywhere.chain(blocks).collect()
}

fn sections_of(config: &Config) -> Value {
    serde_json::to_value(config).unwrap_or_default()
}

/// A section of the file, explained.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// Its name; empty at the top level. That of a block, which may stand several times, is in brackets:
    /// `[listener]`.
    pub name: &'static str,
    /// The text above its keys; may be empty.
    pub intro: &'static str,
    /// Its keys, in the order of the file.
    pub keys: Vec<Explained>,
}

impl Section {
    /// Returns whether it may stand several times.
    pub fn is_block(&self) -> bool {
        self.name.starts_with('[')
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    /// Its name, without its section.
    pub name: &'static str,
    /// Its purpose, and the values that it may have. Lines that begin with a space are a table.
    pub doc: String,
    /// Its default as the file writes it, or a value that it may have where the default is none.
    pub example: String,
}

/// Every section with every key, in the order of the file.
pub fn sections() -> Vec<Section> {
    let defaults = Config::default();
    let values = sections_of(&defaults);
    let explained = |key: keys::Key| {
        let name = key.name()?.rsplit('.').next()?;
        let example = key.example(&key.value(&defaults, &values));
        Some(Explained { name, doc: key.doc(), example })
    };
    let section = |&(name, intro): &(&'static str, &'static str)| {
        let keys = keys::keys_of(name).filter_map(explained).collect();
        Section { name, intro, keys }
    };
    let block = |block: &keys::Block| {
        let keys = block.keys().into_iter();
        let keys = keys.map(|(name, doc, example)| Explained { name, doc, example });
        Section { name: block.name, intro: block.intro, keys: keys.collect() }
    };
    SECTIONS.iter().map(section).chain(BLOCKS.iter().map(block)).collect()
}

/// A file that explains every setting and changes none: the output of `tcpguard config init`, and
/// `packaging/tcpguard.toml`.
pub fn explained() -> String {
    let mut text = HEADER.to_owned();
    for section in sections() {
        text.push('\n');
        text.push_str(&comment(section.intro));
        match section.name {
            "" => {}
            // Without the sign it would be one of something.
            name if section.is_block() => text.push_str(&format!("#[{name}]\n")),
            name => text.push_str(&format!("[{name}]\n")),
        }
        let entries = section
            .keys
            .iter()
            .map(|key| format!("{}#{} = {}\n", comment(&key.doc), key.name, key.example));
        text.push_str(&entries.collect::<Vec<_>>().join("\n"));
    }
    text
}

/// `text` as comment lines, broken between words; its own line breaks and indents stay.
fn comment(text: &str) -> String {
    let mut comment = String::new();
    for paragraph in text.lines() {
        let mut column = 1;
        comment.push('#');
        for word in paragraph.split(' ') {
            let length = 1 + word.chars().count();
            if column + length > WIDTH {
                comment.push_str("\n#");
                column = 1;
            }
            comment.push(' ');
            comment.push_str(word);
            column += length;
        }
        comment.push('\n');
    }
    comment
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Overrides;

    #[test]
    fn a_value_of_a_file_is_distinguished_from_a_default() {
        let text =
            "mode = \"enforce\"\n[interfaces]\nnames = [\"eth0\"]\n[detection]\nclear_s = 30\n";
        let config = crate::config::parse(Path::new("file"), text, Overrides::default()).unwrap();
        let changed: Vec<_> = settings(&config)
            .into_iter()
            .filter(|setting| !setting.is_default)
            .map(|setting| format!("{} = {}", setting.key, setting.value))
            .collect();
        assert_eq!(changed, ["mode = \"enforce\"", "interfaces.names = [\"eth0\"]"]);
    }

    #[test]
    fn what_one_listener_has_of_its_own_is_shown_under_its_name() {
        let text = "[[interface]]\nname = \"eth1\"\nxdp_mode = \"generic\"\n\
                    next_program = \"balancer\"\n\
                    [[listener]]\nat = \":443\"\ncookies = false\n\
                    [[listener]]\nat = \"[2001:db8::1]:25\"\nmode = \"observe\"\nignore = false\n";
        let config = crate::config::parse(Path::new("file"), text, Overrides::default()).unwrap();
        let own = settings(&config).into_iter().filter(|setting| !setting.is_default);
        let shown: Vec<_> =
            own.map(|setting| format!("{} = {}", setting.key, setting.value)).collect();
        assert_eq!(
            shown,
            [
                "interface[\"eth1\"].next_program = \"balancer\"",
                "interface[\"eth1\"].xdp_mode = \"generic\"",
                "listener[\":443\"].cookies = false",
                "listener[\"[2001:db8::1]:25\"].ignore = false",
                "listener[\"[2001:db8::1]:25\"].mode = \"observe\"",
            ]
        );
    }

    #[test]
    fn explanations_are_broken_between_words() {
        let long = "nine chars".repeat(12);
        let text = comment(&format!("  indented stays\n{long}"));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "#   indented stays");
        assert!(lines.len() > 2 && lines.iter().all(|line| line.len() <= WIDTH), "{text}");
        let words: Vec<_> = lines[1..].iter().map(|line| &line[2..]).collect();
        assert_eq!(words.join(" "), long);
    }
}
