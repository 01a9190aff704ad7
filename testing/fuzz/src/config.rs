//! The configuration: a mistake is refused with its position. A file that is accepted can be written out again and
//! keeps its meaning.

use std::collections::BTreeMap;
use std::path::Path;

use tcpguard::config::show::{Setting, settings};
use tcpguard::config::{self, Config, ConfigError, Overrides};
use tcpguard_engine::Engine;

/// The input is the file.
///
/// # Panics
/// When a mistake has no valid position, when the engine refuses an accepted configuration, or when an accepted one
/// changes as it is written and read again.
pub fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let config = match read(text) {
        Ok(config) => config,
        Err(ConfigError::Invalid { problems, .. }) => {
            assert!(!problems.is_empty());
            for problem in problems {
                let lines = text.split('\n').count();
                assert!((1..=lines).contains(&problem.at.line), "{problem} of {lines}");
                let line = text.split('\n').nth(problem.at.line - 1).unwrap_or_default();
                let columns = 1 + line.chars().count();
                assert!((1..=columns).contains(&problem.at.column), "{problem} of {columns}");
                assert!(!problem.text.is_empty());
            }
            return;
        }
        Err(error) => panic!("{error}"),
    };
    Engine::new(config.tuning(), config.mode).expect("what is accepted can be started with");
    let shown = settings(&config);
    let written = written(&shown);
    let again = read(&written).unwrap_or_else(|error| panic!("{error}\n{written}"));
    assert_eq!(settings(&again), shown, "\n{written}");
}

fn read(text: &str) -> Result<Config, ConfigError> {
    config::parse(Path::new("tcpguard.toml"), text, Overrides::default())
}

/// The settings as a file.
fn written(settings: &[Setting]) -> String {
    let mut text = String::new();
    // Of interfaces and listeners, by kind and name.
    let mut blocks: BTreeMap<(&str, &str), String> = BTreeMap::new();
    for Setting { key, value, .. } in settings {
        // A value that is null is left out.
        let Some(value) = toml(value) else { continue };
        let Some((block, key)) = key.rsplit_once("\"].") else {
            text.push_str(&format!("{key} = {value}\n"));
            continue;
        };
        let (kind, name) = block.split_once("[\"").expect("a name in brackets");
        blocks.entry((kind, name)).or_default().push_str(&format!("{key} = {value}\n"));
    }
    for ((kind, name), keys) in blocks {
        let named = if kind == "interface" { "name" } else { "at" };
        let name = toml::Value::from(name);
        text.push_str(&format!("[[{kind}]]\n{named} = {name}\n{keys}"));
    }
    text
}

fn toml(value: &serde_json::Value) -> Option<toml::Value> {
    toml::Value::try_from(value).ok()
}
