//! Origin of a setting: default, file, command line or `tcpguard mode`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::show::{Setting, settings};
use super::{Config, Overrides, Spot};

/// Origin of the value of a setting.
#[derive(Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Origin {
    /// The default: neither a file, nor the command line, nor `tcpguard mode` sets it.
    #[default]
    Default,
    /// A file sets it.
    File {
        /// Path of the file.
        path: PathBuf,
        /// Number of the line, counted from 1.
        line: usize,
        /// Number of the column, counted from 1 in characters.
        column: usize,
    },
    /// The command line of `tcpguard run` sets it. It takes precedence over every file.
    CommandLine {
        /// Name of the option, such as `-i`.
        option: String,
    },
    /// An operator set it with `tcpguard mode`.
    ModeCommand,
    /// An origin that this version does not know, reported by a newer agent.
    #[serde(other)]
    Other,
}

impl Origin {
    /// Returns the origin in a word or two, without the position in a file.
    pub const fn in_brief(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File { .. } => "file",
            Self::CommandLine { .. } => "command line",
            Self::ModeCommand => "tcpguard mode",
            Self::Other => "the agent",
        }
    }
}

impl fmt::Display for Origin {
    /// Writes the origin with its position or option: `/etc/tcpguard/conf.d/10-web.toml:3`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, .. } => write!(out, "{}:{line}", path.display()),
            Self::CommandLine { option } => write!(out, "tcpguard run {option}"),
            other => out.write_str(other.in_brief()),
        }
    }
}

impl From<&Spot> for Origin {
    fn from(spot: &Spot) -> Self {
        Self::File { path: spot.path.to_path_buf(), line: spot.line, column: spot.column }
    }
}

/// A setting in effect, and its origin.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Held {
    /// Key of the setting with its section: `detection.clear_s`; in a block `listener[":443"].mode`.
    pub key: String,
    /// Value in effect, in the notation of the configuration file.
    pub value: Value,
    /// True if the value is the default.
    pub default: bool,
    /// Origin of the value.
    pub origin: Origin,
}

impl Held {
    /// Returns every setting of `config`, in the order of the file.
    pub fn all(config: &Config, origins: &Origins) -> Vec<Self> {
        let held = |setting: Setting| Self {
            origin: origins.get(&setting.key),
            key: setting.key,
            value: setting.value,
            default: setting.is_default,
        };
        settings(config).into_iter().map(held).collect()
    }
}

/// Origins of the settings, by key; a key without an entry has its default.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// Returns the origins of the settings in the files and on the command line, which takes
    /// precedence.
    pub(super) fn of(written: &BTreeMap<String, Spot>, overrides: &Overrides) -> Self {
        let written = written.iter().map(|(key, spot)| (key.clone(), spot.into()));
        let mut origins = Self(written.collect());
        for (said, key, option) in [
            (!overrides.interfaces.is_empty(), "interfaces.names", "-i"),
            (overrides.xdp_mode.is_some(), "interfaces.xdp_mode", "--xdp-mode"),
            (overrides.mode.is_some(), "mode", "--mode"),
        ] {
            if said {
                let option = option.to_owned();
                origins.set(key, Origin::CommandLine { option });
            }
        }
        origins
    }

    /// Returns the origin of one setting.
    pub fn get(&self, key: &str) -> Origin {
        self.0.get(key).cloned().unwrap_or_default()
    }

    /// Records another origin for `key`.
    pub fn set(&mut self, key: &str, origin: Origin) {
        self.0.insert(key.to_owned(), origin);
    }

    /// Restores the origins that `key` has in `before`, in every block if it is the key of a block:
    /// `interface.xdp_mode` is also `interface["eth0"].xdp_mode`.
    pub fn keep(&mut self, key: &str, before: &Self) {
        let belongs = |of: &String| in_any_block(of) == key;
        self.0.retain(|of, _| !belongs(of));
        let kept = before.0.iter().filter(|(of, _)| belongs(of));
        self.0.extend(kept.map(|(of, origin)| (of.clone(), origin.clone())));
    }
}

/// A key without the name of its block: `interface.xdp_mode` for `interface["eth0"].xdp_mode`.
pub(crate) fn in_any_block(key: &str) -> String {
    let block = key.split_once("[\"").zip(key.rsplit_once("\"]."));
    block.map_or_else(|| key.to_owned(), |((kind, _), (_, name))| format!("{kind}.{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(line: usize) -> Origin {
        Origin::File { path: "/etc/tcpguard/tcpguard.toml".into(), line, column: 1 }
    }

    #[test]
    fn an_origin_is_stated_in_words_and_survives_the_wire() {
        for (origin, brief, exact) in [
            (Origin::Default, "default", "default"),
            (file(3), "file", "/etc/tcpguard/tcpguard.toml:3"),
            (Origin::CommandLine { option: "-i".to_owned() }, "command line", "tcpguard run -i"),
            (Origin::ModeCommand, "tcpguard mode", "tcpguard mode"),
        ] {
            assert_eq!((origin.in_brief(), origin.to_string().as_str()), (brief, exact));
            let wire = serde_json::to_string(&origin).unwrap();
            assert_eq!(serde_json::from_str::<Origin>(&wire).unwrap(), origin, "{wire}");
        }
        let newer: Origin = serde_json::from_str(r#"{"kind":"cloud"}"#).unwrap();
        assert_eq!(newer, Origin::Other);
    }

    #[test]
    fn what_waits_for_a_restart_keeps_its_origin() {
        let origins = |keys: &[(&str, usize)]| {
            let mut origins = Origins::default();
            keys.iter().for_each(|(key, line)| origins.set(key, file(*line)));
            origins
        };
        let next = "interface[\"eth0\"].next_program";
        let before =
            origins(&[("interface[\"eth0\"].xdp_mode", 1), (next, 4), ("mode", 2), ("gate.x", 3)]);
        let mut after = origins(&[
            ("interface[\"eth1\"].xdp_mode", 5),
            (next, 8),
            ("mode", 6),
            ("interfaces.names", 7),
        ]);
        after.keep("interface.xdp_mode", &before);
        after.keep("mode", &before);
        let expected = origins(&[
            ("interface[\"eth0\"].xdp_mode", 1),
            (next, 8),
            ("mode", 2),
            ("interfaces.names", 7),
        ]);
        assert_eq!(after, expected);
        assert_eq!(after.get("gate.x"), Origin::Default);
    }
}
