//! The types of the document `tcpguard.tune/1`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::advice::{Advice, Verdict};
use super::catalogue::Setting;
use super::sysctl_files::Assignment;
use crate::finding::{Finding, Severity};
use crate::time::Time;

/// Every setting with its advice.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Tune {
    /// Time of the report.
    pub generated_at: Time,
    /// Host for which the advice is given.
    pub host: Summary,
    /// Sysctls, those of listeners first, and then the properties of network interfaces.
    pub settings: Vec<Row>,
}

/// Properties of the host that the advice depends on.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Summary {
    /// Kernel release, as `uname -r` prints it; empty where it is not known.
    pub kernel: String,
    /// Memory, in bytes; 0 where it is not known.
    pub memory_bytes: u64,
    /// Number of CPUs that receive packets; 0 where it is not known.
    pub cpus: u32,
    /// Number of slots in the kernel's table of TCP connections, from which the kernel derives its own
    /// defaults; estimated from the memory where the kernel does not report it.
    pub tcp_hash_entries: u64,
}

/// A setting with its value and the advice for it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Row {
    /// Name of the sysctl, or of the interface and its property: `eth0 rx ring`.
    pub name: String,
    /// Kind of the setting.
    pub kind: Kind,
    /// Present value; `null` where this host has no such setting.
    pub value: Option<String>,
    /// Advice in a word.
    pub verdict: Word,
    /// Advised value; `null`: no change of the present value is advised.
    pub to: Option<String>,
    /// File and line that set the value at the next boot, where a change is advised; `null`: there is none. Where `to`
    /// is `null`, too, `value` is not the present value, but that of the file.
    pub place: Option<String>,
    /// Effect of the setting.
    pub does: String,
    /// Reason for the advice on this host.
    pub why: String,
    /// Possible side effects of a change.
    pub risk: String,
    /// Command that follows the advice; `null`: no change is advised.
    pub command: Option<String>,
    /// Command that restores the present value; `null`: no change is advised.
    pub undo: Option<String>,
}

/// Kind of a setting.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A sysctl, which `tcpguard tune --apply` can set.
    Sysctl,
    /// A property of a network interface, to be set by hand.
    Interface,
}

/// Advice about a setting, in a word.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// The value is good.
    Good,
    /// Another value would be better.
    Change,
    /// No change is advised: an administrator had a reason for the value, it does not matter on this host, or
    /// it is not understood.
    LeaveAlone,
    /// The value is too small for the load, and a larger one does not help.
    Short,
    /// The value does harm.
    Harmful,
    /// This host has no such setting.
    Absent,
}

impl Kind {
    /// The code of findings about such settings.
    const fn code(self) -> &'static str {
        match self {
            Self::Sysctl => "sysctls",
            Self::Interface => "queues",
        }
    }
}

impl Word {
    /// Severity of the present value; `None`: no change is advised.
    pub const fn severity(self) -> Option<Severity> {
        match self {
            Self::Harmful => Some(Severity::Warning),
            Self::Change | Self::Short => Some(Severity::Notice),
            Self::Good | Self::LeaveAlone | Self::Absent => None,
        }
    }
}

impl Tune {
    /// Returns the settings for which a change is advised, the harmful ones first.
    pub fn to_change(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.settings.iter().filter(|row| row.is_to_change()).collect();
        rows.sort_by_key(|row| row.verdict != Word::Harmful);
        rows
    }

    /// The findings about the settings, in their order.
    pub fn findings(&self) -> impl Iterator<Item = Finding> {
        self.settings.iter().filter_map(Row::finding)
    }
}

impl Row {
    /// Returns whether a change is advised: of the value, or of the line of a file that sets it.
    pub fn is_to_change(&self) -> bool {
        matches!(self.verdict, Word::Change | Word::Harmful)
    }

    /// The advice as a finding: a harmful value is a warning, one that could be better a notice.
    fn finding(&self) -> Option<Finding> {
        let severity = self.verdict.severity()?;
        let value = self.value.as_deref().unwrap_or("-");
        let advised = self.to.as_ref().map(|to| format!(" (advised: {to})")).unwrap_or_default();
        let file = self.place.as_ref().map(|place| format!(", set by {place}")).unwrap_or_default();
        let text = format!("{value}{file}{advised}: {}", self.why);
        let hint = match (&self.command, &self.place) {
            (Some(command), _) => command.clone(),
            (None, Some(place)) => format!("edit {place}: remove {}", self.name),
            (None, None) => "tcpguard tune".to_owned(),
        };
        Some(Finding::new(severity, self.kind.code(), text).about(&self.name).hint(hint))
    }

    /// Builds the row of a value that a line of a file sets at the next boot.
    pub(super) fn of_file(setting: &Setting, line: &Assignment, advice: Advice) -> Self {
        let row = Self::of_sysctl(setting, Some(&line.value), Some(advice));
        Self { to: None, command: None, undo: None, place: Some(line.to_string()), ..row }
    }

    /// Builds the row of a sysctl. Without advice the setting is left alone, with the reason for its absence.
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
            place: None,
        }
    }
}

/// Returns the word for a verdict, and the advised value if a change is advised.
pub(super) fn split(verdict: Verdict) -> (Word, Option<String>) {
    match verdict {
        Verdict::Good => (Word::Good, None),
        Verdict::LeaveAlone => (Word::LeaveAlone, None),
        Verdict::Short => (Word::Short, None),
        Verdict::Change { to } => (Word::Change, Some(to)),
        Verdict::Harmful { to } => (Word::Harmful, Some(to)),
    }
}
