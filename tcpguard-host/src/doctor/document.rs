//! The types of the document `tcpguard.doctor/1`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::Time;

/// The value of [`Doctor::schema`].
pub const SCHEMA: &str = "tcpguard.doctor/1";

/// Programs with which a fix that is a command line begins. Other fixes are instructions in prose.
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

/// Returns whether a fix is a command line that can be typed as it is.
pub fn is_command(fix: &str) -> bool {
    fix.split(' ').next().is_some_and(|program| PROGRAMS.contains(&program))
}

/// Report of `tcpguard doctor`: the checks that were made, and their findings.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Doctor {
    /// Name and version of this document: `tcpguard.doctor/1`.
    pub schema: String,
    /// Time at which the document was made.
    pub generated_at: Time,
    /// Version of the `tcpguard` command.
    pub version: String,
    /// Release of the kernel, as `uname -r` prints it; `null` when it cannot be read.
    pub kernel: Option<String>,
    /// Worst result of the findings.
    pub result: Outcome,
    /// True if no check lacked privileges: `true` when the command ran as root or no finding is
    /// `unknown`.
    pub complete: bool,
    /// Findings, in the order of the checks.
    pub findings: Vec<Finding>,
}

/// Finding of one check about one subject.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Finding {
    /// Stable name of the check.
    pub id: String,
    /// Interface, file, listener or sysctl that was checked; `null` when the finding is about the host
    /// or the agent as a whole.
    pub subject: Option<String>,
    /// Result of the check.
    pub result: Outcome,
    /// Observation on which the result is based, in words.
    pub evidence: String,
    /// Remedy: a command, `edit FILE: …`, or the hint of the agent; `null` when there is nothing to do.
    pub fix: Option<String>,
}

/// Result of a check; each is worse than the one before.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The subject is as it should be.
    Passed,
    /// An observation that is worth knowing.
    Note,
    /// The check could not be made.
    Unknown,
    /// A function is missing, or protection is weaker than it could be.
    Warning,
    /// tcpguard cannot work in this state.
    Blocking,
}

impl Outcome {
    /// All results, the worst first.
    pub const WORST_FIRST: [Self; 5] =
        [Self::Blocking, Self::Warning, Self::Unknown, Self::Note, Self::Passed];

    /// Returns the name, as in JSON and in the text report.
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
    /// Makes a finding with [`Outcome::Passed`].
    pub fn passed(id: &str, evidence: impl Into<String>) -> Self {
        Self::new(id, Outcome::Passed, evidence)
    }

    /// Makes a finding with [`Outcome::Note`].
    pub fn note(id: &str, evidence: impl Into<String>) -> Self {
        Self::new(id, Outcome::Note, evidence)
    }

    /// Makes a finding with [`Outcome::Unknown`].
    pub fn unknown(id: &str, evidence: impl Into<String>) -> Self {
        Self::new(id, Outcome::Unknown, evidence)
    }

    /// Makes a finding with [`Outcome::Warning`].
    pub fn warning(id: &str, evidence: impl Into<String>) -> Self {
        Self::new(id, Outcome::Warning, evidence)
    }

    /// Makes a finding with [`Outcome::Blocking`].
    pub fn blocking(id: &str, evidence: impl Into<String>) -> Self {
        Self::new(id, Outcome::Blocking, evidence)
    }

    fn new(id: &str, result: Outcome, evidence: impl Into<String>) -> Self {
        Self { id: id.to_owned(), subject: None, result, evidence: evidence.into(), fix: None }
    }

    /// Sets the subject of the finding.
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    pub fn fix(mut self, command: impl Into<String>) -> Self {
        self.fix = Some(command.into());
        self
    }
}

impl Doctor {
    /// Returns the number of findings with this result.
    pub fn count(&self, result: Outcome) -> usize {
        self.findings.iter().filter(|finding| finding.result == result).count()
    }

    /// Returns the remedies for [`Outcome::Blocking`] and [`Outcome::Warning`], the most urgent first
    /// and each once.
    pub fn fixes(&self) -> Vec<&str> {
        let mut fixes: Vec<&str> = Vec::new();
        for result in [Outcome::Blocking, Outcome::Warning] {
            let of_result = self.findings.iter().filter(|finding| finding.result == result);
            // An agent starts once no other finding prevents it.
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
