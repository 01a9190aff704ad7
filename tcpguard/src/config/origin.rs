//! Where a setting comes from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::file::File;
use super::show::{Setting, settings};
use super::{Config, Overrides, Spot};

/// Where the value of a setting comes from.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Origin {
    /// Nobody said anything.
    #[default]
    Default,
    /// A file says it.
    File {
        /// Which one.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The column, counted from 1 in characters.
        column: usize,
    },
    /// The command line of `tcpguard run` says it, in place of every file.
    CommandLine {
        /// The option.
        option: String,
    },
    /// `tcpguard mode` said it.
    ModeCommand,
    /// The agent is newer, and knows of more places than this program.
    #[serde(other)]
    Other,
}

impl Origin {
    /// In a word or two.
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
    /// As exactly as it is known: `/etc/tcpguard/conf.d/10-web.toml:3`.
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

/// A setting that holds, and why.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Held {
    /// Its key with its section, `detection.poll_ms`; of a block `listener[":443"].mode`.
    pub key: String,
    /// Its value, written as in the file.
    pub value: Value,
    /// Whether it is the default.
    pub default: bool,
    /// Where it comes from.
    pub origin: Origin,
}

impl Held {
    /// Every setting of `config`, in the order of the file.
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

/// Where the settings come from, by their keys.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// Those of settings that files and command line say; the command line stands over the files.
    pub(super) fn of(file: &File, overrides: &Overrides) -> Self {
        let written = file.written.iter().map(|(key, spot)| (key.clone(), spot.into()));
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

    /// That of one setting.
    pub fn get(&self, key: &str) -> Origin {
        self.0.get(key).cloned().unwrap_or_default()
    }

    /// Somebody else says it.
    pub fn set(&mut self, key: &str, origin: Origin) {
        self.0.insert(key.to_owned(), origin);
    }

    /// Of `key` and what belongs to it (of `interface` also `interface["eth0"].xdp_mode`) the origins
    /// are those of `before`.
    pub fn keep(&mut self, key: &str, before: &Self) {
        let belongs = |of: &String| {
            of == key || of.strip_prefix(key).is_some_and(|rest| rest.starts_with('['))
        };
        self.0.retain(|of, _| !belongs(of));
        let kept = before.0.iter().filter(|(of, _)| belongs(of));
        self.0.extend(kept.map(|(of, origin)| (of.clone(), origin.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(line: usize) -> Origin {
        Origin::File { path: "/etc/tcpguard/tcpguard.toml".into(), line, column: 1 }
    }

    #[test]
    fn an_origin_is_told_in_words_and_survives_the_wire() {
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
        let before = origins(&[("interface[\"eth0\"].xdp_mode", 1), ("mode", 2), ("gate.x", 3)]);
        let mut after =
            origins(&[("interface[\"eth1\"].xdp_mode", 5), ("mode", 6), ("interfaces.names", 7)]);
        after.keep("interface", &before);
        after.keep("mode", &before);
        let expected =
            origins(&[("interface[\"eth0\"].xdp_mode", 1), ("mode", 2), ("interfaces.names", 7)]);
        assert_eq!(after, expected);
        assert_eq!(after.get("gate.x"), Origin::Default);
    }
}
