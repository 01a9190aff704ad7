//! The types of the document `tcpguard.doctor/1`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::finding::{Finding, Severity, worst_first};
use crate::time::Time;

/// Programs with which a hint that is a command line begins. Other hints are instructions in prose.
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
    "rm",
    "sudo",
    "sysctl",
    "systemctl",
    "tc",
    "tcpguard",
    "top",
    "ulimit",
    "uname",
    "xdp-loader",
    "zgrep",
];

/// Returns whether a hint is a command line that can be typed as it is.
pub fn is_command(hint: &str) -> bool {
    let starts = hint.split(' ').next().is_some_and(|program| PROGRAMS.contains(&program));
    starts && !hint.contains("; ")
}

/// Report of `tcpguard doctor`: the checks that were made, and their findings.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Doctor {
    /// Time at which the document was made.
    pub generated_at: Time,
    /// Version of the `tcpguard` command.
    pub version: String,
    /// Release of the kernel, as `uname -r` prints it; `null` when it cannot be read.
    pub kernel: Option<String>,
    /// True if no check lacked privileges: `true` when the command ran as root or `unknown` is empty.
    pub complete: bool,
    /// Findings, the most severe first. `critical`: tcpguard cannot work in this state; `warning`: a function is
    /// missing, or protection is weaker than it could be.
    pub findings: Vec<Finding>,
    /// Checks that could not be made, with the reason; their severity is `warning`.
    pub unknown: Vec<Finding>,
    /// Checks that found no problem, with what they observed; their severity is `notice`.
    pub passed: Vec<Finding>,
}

/// Result of one check about one subject.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checked {
    /// Outcome of the check.
    pub status: Status,
    /// The problem, or the observation.
    pub finding: Finding,
}

/// Outcome of a check.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// There is no problem.
    Passed,
    /// The check could not be made.
    Unknown,
    /// There is a problem.
    Found,
}

impl From<Finding> for Checked {
    fn from(finding: Finding) -> Self {
        Self { status: Status::Found, finding }
    }
}

impl Checked {
    /// Makes the result of a check that found no problem.
    pub fn passed(code: &str, text: impl Into<String>) -> Self {
        Self { status: Status::Passed, finding: Finding::notice(code, text) }
    }

    /// Makes the result of a check that could not be made.
    pub fn unknown(code: &str, text: impl Into<String>) -> Self {
        Self { status: Status::Unknown, finding: Finding::warning(code, text) }
    }

    /// Makes a finding of [`Severity::Notice`].
    pub fn notice(code: &str, text: impl Into<String>) -> Self {
        Finding::notice(code, text).into()
    }

    /// Makes a finding of [`Severity::Warning`].
    pub fn warning(code: &str, text: impl Into<String>) -> Self {
        Finding::warning(code, text).into()
    }

    /// Makes a finding of [`Severity::Critical`].
    pub fn critical(code: &str, text: impl Into<String>) -> Self {
        Finding::critical(code, text).into()
    }

    /// Sets the subject.
    pub fn about(self, subject: impl Into<String>) -> Self {
        Self { finding: self.finding.about(subject), ..self }
    }

    /// Sets the hint.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { finding: self.finding.hint(hint), ..self }
    }
}

impl Doctor {
    /// Makes the report of these checks; `root`: they ran as root.
    pub fn new(
        at: Time,
        version: &str,
        kernel: Option<String>,
        root: bool,
        checked: &[Checked],
    ) -> Self {
        let of = |status| -> Vec<Finding> {
            let of_status = checked.iter().filter(|one| one.status == status);
            of_status.map(|one| one.finding.clone()).collect()
        };
        let (mut findings, unknown) = (of(Status::Found), of(Status::Unknown));
        worst_first(&mut findings);
        Self {
            generated_at: at,
            version: version.to_owned(),
            kernel,
            complete: root || unknown.is_empty(),
            findings,
            unknown,
            passed: of(Status::Passed),
        }
    }

    /// Returns the worst severity; `None` when every check passed.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().chain(&self.unknown).map(|finding| finding.severity).max()
    }
}
