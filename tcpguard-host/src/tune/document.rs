//! The types of the document `tcpguard.tune/1`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::advice::{Advice, Verdict};
use super::catalogue::Setting;
use crate::finding::{Finding, Severity};
use crate::time::Time;

/// Every setting with its advice, and the recipes that should not be followed.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Tune {
    /// Time of the report.
    pub generated_at: Time,
    /// Host for which the advice is given.
    pub host: Summary,
    /// Sysctls, those of listeners first, and then the properties of network interfaces.
    pub settings: Vec<Row>,
    /// Recipes that do harm or have no effect.
    pub refused: Vec<Refused>,
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
    /// Advised value; `null`: no change is advised.
    pub to: Option<String>,
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
    /// The value does harm.
    Harmful,
    /// This host has no such setting.
    Absent,
}

/// A recipe that is not advised, because it does harm or has no effect.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Refused {
    /// Name of the sysctl.
    pub name: String,
    /// Text of the recipe: the value, and its supposed purpose.
    pub recipe: String,
    /// Reason for which the recipe is not advised.
    pub why: String,
    /// Settings of this host that follow the recipe: `running` for the present value of the kernel, or a file
    /// and line; empty: none.
    pub found: Vec<String>,
}

impl Word {
    /// Severity of the present value; `None`: no change is advised.
    pub const fn severity(self) -> Option<Severity> {
        match self {
            Self::Harmful => Some(Severity::Warning),
            Self::Change => Some(Severity::Notice),
            Self::Good | Self::LeaveAlone | Self::Absent => None,
        }
    }
}

impl Tune {
    /// Returns the settings for which a change is advised, the harmful ones first.
    pub fn to_change(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.settings.iter().filter(|row| row.to.is_some()).collect();
        rows.sort_by_key(|row| row.verdict != Word::Harmful);
        rows
    }
}

impl Row {
    /// The advice as a finding: a harmful value is a warning, one that could be better a notice.
    pub fn finding(&self, code: &str) -> Option<Finding> {
        let (value, to) = [&self.value, &self.to].map(|it| it.as_deref().unwrap_or("-")).into();
        let text = format!("{value} (advised: {to}): {}", self.why);
        let hint = self.command.as_deref().unwrap_or("tcpguard tune");
        let finding = Finding::new(self.verdict.severity()?, code, text);
        Some(finding.about(&self.name).hint(hint))
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
        }
    }
}

/// Returns the word for a verdict, and the advised value if a change is advised.
pub(super) fn split(verdict: Verdict) -> (Word, Option<String>) {
    match verdict {
        Verdict::Good => (Word::Good, None),
        Verdict::LeaveAlone => (Word::LeaveAlone, None),
        Verdict::Change { to } => (Word::Change, Some(to)),
        Verdict::Harmful { to } => (Word::Harmful, Some(to)),
    }
}
