//! The types of the document `tcpguard.tune/1`.

use serde::{Deserialize, Serialize};

use super::advice::{Advice, Verdict};
use super::catalogue::Setting;
use crate::status::Time;

/// The value of [`Tune::schema`].
pub const SCHEMA: &str = "tcpguard.tune/1";

/// Every setting with its advice, and what recipes say that should not be followed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Tune {
    /// Name and version of this document: `tcpguard.tune/1`.
    pub schema: String,
    /// When it was made.
    pub generated_at: Time,
    /// What the advice is for.
    pub host: Summary,
    /// The settings, listeners' first.
    pub settings: Vec<Row>,
    /// Recipes that do harm or nothing.
    pub refused: Vec<Refused>,
}

/// What the advice is for.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Summary {
    /// The kernel, as `uname -r` prints it.
    pub kernel: String,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// CPUs that receive packets.
    pub cpus: u32,
    /// Places in the kernel's table of connections, from which it derives its own defaults.
    pub tcp_hash_entries: u64,
}

/// One setting.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Row {
    /// Its name: a sysctl, or what of an interface.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its value; `null` where this host has no such setting.
    pub value: Option<String>,
    /// The advice in a word.
    pub verdict: Word,
    /// The value to give it; `null`: leave it.
    pub to: Option<String>,
    /// What it does.
    pub does: String,
    /// Why this advice on this host.
    pub why: String,
    /// What a change may do beside that.
    pub risk: String,
    /// The command that follows the advice.
    pub command: Option<String>,
    /// The command that takes it back.
    pub undo: Option<String>,
}

/// What a setting is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A sysctl, which `tcpguard tune --apply` can set.
    Sysctl,
    /// A property of a network interface, to be set by hand.
    Interface,
}

/// An advice in a word.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// As it should be.
    Good,
    /// Another value would be better.
    Change,
    /// Not what it usually is, and no business of a stranger's.
    LeaveAlone,
    /// It does harm.
    Harmful,
    /// This host has no such setting.
    Absent,
}

/// A recipe that does harm or nothing.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Refused {
    /// The setting.
    pub name: String,
    /// What the recipe says of it.
    pub recipe: String,
    /// Why it is not advised.
    pub why: String,
    /// Where this host follows it: `running`, or a file and line; empty: nowhere.
    pub found: Vec<String>,
}

impl Tune {
    /// The settings that should change, the harmful ones first.
    pub fn to_change(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.settings.iter().filter(|row| row.to.is_some()).collect();
        rows.sort_by_key(|row| row.verdict != Word::Harmful);
        rows
    }
}

impl Row {
    /// Of a sysctl; no advice where there is no value.
    pub(super) fn of_sysctl(
        setting: &Setting,
        value: Option<&str>,
        advice: Option<Advice>,
    ) -> Self {
        let advice = advice.unwrap_or_else(|| Advice {
            verdict: Verdict::LeaveAlone,
            why: setting.absent.to_owned(),
        });
        let write = |value: &str| match value.contains(' ') {
            true => format!("sysctl -w {}='{value}'", setting.name),
            false => format!("sysctl -w {}={value}", setting.name),
        };
        let (verdict, to) = split(advice.verdict);
        // The kernel writes several numbers with tabs between.
        let value = value.map(|value| value.split_whitespace().collect::<Vec<_>>().join(" "));
        Self {
            name: setting.name.to_owned(),
            kind: Kind::Sysctl,
            verdict: if value.is_some() { verdict } else { Word::Absent },
            does: setting.does.to_owned(),
            why: advice.why,
            risk: setting.risk.to_owned(),
            command: to.as_deref().map(write),
            undo: to.is_some().then_some(value.as_deref()).flatten().map(write),
            value,
            to,
        }
    }
}

/// The word for a verdict, and the value to be given.
pub(super) fn split(verdict: Verdict) -> (Word, Option<String>) {
    match verdict {
        Verdict::Good => (Word::Good, None),
        Verdict::LeaveAlone => (Word::LeaveAlone, None),
        Verdict::Change { to } => (Word::Change, Some(to)),
        Verdict::Harmful { to } => (Word::Harmful, Some(to)),
    }
}
