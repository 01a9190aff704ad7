//! The types of the document `tcpguard.doctor/1`.

use serde::{Deserialize, Serialize};

use crate::status::Time;

/// The value of [`Doctor::schema`].
pub const SCHEMA: &str = "tcpguard.doctor/1";

/// What a command line begins with; other fixes are words for a person.
const PROGRAMS: [&str; 27] = [
    "apt-cache",
    "bpftool",
    "chmod",
    "chown",
    "dmesg",
    "ethtool",
    "grep",
    "ip",
    "ip6tables",
    "ip6tables-legacy",
    "iptables",
    "iptables-legacy",
    "journalctl",
    "ls",
    "mount",
    "nft",
    "sudo",
    "sysctl",
    "systemctl",
    "tc",
    "tcpguard",
    "timedatectl",
    "top",
    "ulimit",
    "uname",
    "xdp-loader",
    "zgrep",
];

/// Whether a fix can be typed as it is.
pub fn is_command(fix: &str) -> bool {
    fix.split(' ').next().is_some_and(|program| PROGRAMS.contains(&program))
}

/// What was looked at, and what was found.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Doctor {
    /// Name and version of this document: `tcpguard.doctor/1`.
    pub schema: String,
    /// When it was made.
    pub generated_at: Time,
    /// Version of the command.
    pub version: String,
    /// The kernel, as `uname -r` prints it; `null` when it does not say.
    pub kernel: Option<String>,
    /// The worst of the findings.
    pub result: Outcome,
    /// Whether everything could be looked at; it cannot without root.
    pub complete: bool,
    /// Each finding, in the order of the checks.
    pub findings: Vec<Finding>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Finding {
    /// Stable name of the check.
    pub id: String,
    /// Which interface, file, listener or sysctl it is about.
    pub subject: Option<String>,
    /// How it is.
    pub result: Outcome,
    /// What was seen.
    pub evidence: String,
    /// What to do: a command, or `edit FILE: …`.
    pub fix: Option<String>,
}

/// How a thing is; each is worse than the one before.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As it should be.
    Passed,
    /// Worth knowing.
    Note,
    /// It could not be looked at.
    Unknown,
    /// Something is lost or weaker than it could be.
    Warning,
    /// The guard cannot work like this.
    Blocking,
}

impl Outcome {
    /// All, from the worst on.
    pub const WORST_FIRST: [Self; 5] =
        [Self::Blocking, Self::Warning, Self::Unknown, Self::Note, Self::Passed];

    /// As people read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Note => "note",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Blocking => "blocking",
        }
    }
}

impl Finding {
    /// As it should be.
    pub(super) fn passed(id: &str, evidence: impl Into<String>) -> Self {
        Self::new(id, Outcome::Passed, evidence)
    }

    /// Worth knowing.
    pub(super) fn note(id: &str, evidence: impl Into<String>) -> Self {
        Self::new(id, Outcome::Note, evidence)
    }

    /// It could not be looked at.
    pub(super) fn unknown(id: &str, evidence: impl Into<String>) -> Self {
        Self::new(id, Outcome::Unknown, evidence)
    }

    /// Something is lost or weaker than it could be.
    pub(super) fn warning(id: &str, evidence: impl Into<String>) -> Self {
        Self::new(id, Outcome::Warning, evidence)
    }

    /// The guard cannot work like this.
    pub(super) fn blocking(id: &str, evidence: impl Into<String>) -> Self {
        Self::new(id, Outcome::Blocking, evidence)
    }

    fn new(id: &str, result: Outcome, evidence: impl Into<String>) -> Self {
        Self { id: id.to_owned(), subject: None, result, evidence: evidence.into(), fix: None }
    }

    /// What it is about.
    pub(super) fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// What to do.
    pub(super) fn fix(mut self, command: impl Into<String>) -> Self {
        self.fix = Some(command.into());
        self
    }
}

impl Doctor {
    /// How many findings have this result.
    pub fn count(&self, result: Outcome) -> usize {
        self.findings.iter().filter(|finding| finding.result == result).count()
    }

    /// What to do, the most urgent first and each once: for [`Outcome::Blocking`] and
    /// [`Outcome::Warning`].
    pub fn fixes(&self) -> Vec<&str> {
        let mut fixes: Vec<&str> = Vec::new();
        for result in [Outcome::Blocking, Outcome::Warning] {
            let of_result = self.findings.iter().filter(|finding| finding.result == result);
            // An agent starts once nothing else is in its way.
            let (agent, others): (Vec<_>, Vec<_>) =
                of_result.partition(|finding| finding.id == "agent");
            let in_order = others.into_iter().chain(agent);
            for fix in in_order.filter_map(|finding| finding.fix.as_deref()) {
                if !fixes.contains(&fix) {
                    fixes.push(fix);
                }
            }
        }
        fixes
    }
}
