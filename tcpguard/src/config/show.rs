//! Every setting: with the value that holds, or explained.

use serde_json::Value;

use super::keys::{self, SECTIONS};
use super::{Config, Overrides, file, resolved};

/// Explanations are broken before this column.
const WIDTH: usize = 100;

const HEADER: &str = "\
# tcpguard configuration. Every key is optional; each line that starts with \"#\" and a key shows
# the default. Check a change before applying it:
#
#     tcpguard config check /etc/tcpguard/tcpguard.toml
";

/// One setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Its key as in the file, with its section.
    pub key: &'static str,
    /// The value that holds; as JSON it is written as in the file.
    pub value: Value,
    /// Whether it is the default.
    pub is_default: bool,
}

/// Every setting of `config`, in the order of the file.
pub fn settings(config: &Config) -> Vec<Setting> {
    let defaults = defaults();
    keys::keys()
        .filter_map(|key| {
            let value = key.value(config);
            let is_default = value == key.value(&defaults);
            Some(Setting { key: key.name()?, value, is_default })
        })
        .collect()
}

/// A file that explains every setting and changes none: what `tcpguard config init` writes, and
/// `packaging/tcpguard.toml`.
pub fn explained() -> String {
    let defaults = defaults();
    let mut text = HEADER.to_owned();
    for (section, intro) in SECTIONS {
        text.push('\n');
        text.push_str(&comment(intro));
        if !section.is_empty() {
            text.push_str(&format!("[{section}]\n"));
        }
        let entries: Vec<String> = keys::keys_of(section)
            .filter_map(|key| {
                let name = key.name()?.rsplit('.').next()?;
                let example = key.example(&key.value(&defaults));
                Some(format!("{}#{name} = {example}\n", comment(&key.doc())))
            })
            .collect();
        text.push_str(&entries.join("\n"));
    }
    text
}

fn defaults() -> Config {
    resolved::resolve(file::File::default(), None, Overrides::default())
        .expect("an empty file is valid")
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

    #[test]
    fn what_a_file_says_is_told_from_a_default() {
        let text =
            "mode = \"enforce\"\n[interfaces]\nnames = [\"eth0\"]\n[detection]\npoll_ms = 250\n";
        let config = crate::config::parse(Path::new("file"), text, Overrides::default()).unwrap();
        let changed: Vec<_> = settings(&config)
            .into_iter()
            .filter(|setting| !setting.is_default)
            .map(|setting| format!("{} = {}", setting.key, setting.value))
            .collect();
        assert_eq!(changed, ["mode = \"enforce\"", "interfaces.names = [\"eth0\"]"]);
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
