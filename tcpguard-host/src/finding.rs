//! Findings about the host.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
pub use tcpguard_engine::Severity;

use crate::linux::{Error, Owners, PROC, Process, processes};

/// A problem of the host or of the agent, wherever it is shown.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Finding {
    /// Stable name of the problem, or of the check that found it.
    pub code: String,
    /// Severity of the problem.
    pub severity: Severity,
    /// Subject of the finding: an interface, listener, process, file, map or sysctl; `null`: the host, the
    /// agent, or several of them.
    pub subject: Option<String>,
    /// Description of the problem.
    pub text: String,
    /// Remedy, or a command that shows more; `null`: there is nothing to do.
    pub hint: Option<String>,
}

impl Finding {
    /// Makes a finding without subject and hint.
    pub fn new(severity: Severity, code: &str, text: impl Into<String>) -> Self {
        Self { code: code.to_owned(), severity, subject: None, text: text.into(), hint: None }
    }

    /// Makes a finding of [`Severity::Critical`].
    pub fn critical(code: &str, text: impl Into<String>) -> Self {
        Self::new(Severity::Critical, code, text)
    }

    /// Makes a finding of [`Severity::Warning`].
    pub fn warning(code: &str, text: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, text)
    }

    /// Makes a finding of [`Severity::Notice`].
    pub fn notice(code: &str, text: impl Into<String>) -> Self {
        Self::new(Severity::Notice, code, text)
    }

    /// Sets the subject of the finding.
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Sets the hint of the finding.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// `eth0 is not protected → systemctl restart tcpguard`
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        self.hint.iter().try_for_each(|hint| write!(f, " → {hint}"))
    }
}

/// Sorts findings, the most severe first. Findings of equal severity keep their order.
pub fn worst_first(findings: &mut [Finding]) {
    findings.sort_by_key(|finding| Reverse(finding.severity));
}

/// The finding about an interface without a link.
pub fn link_down(interface: &str) -> Finding {
    let hint = format!("ip link set dev {interface} up");
    let finding = Finding::warning("link_down", format!("{interface}: link down, no packets pass"));
    finding.about(interface).hint(hint)
}

/// A process, with its name and id.
#[derive(Clone, Debug, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Owner {
    /// Name of the process.
    pub name: String,
    /// Process id.
    pub pid: u32,
}

impl Owner {
    /// Takes the name and id of a process that was read.
    pub fn of(process: &Process) -> Self {
        Self { name: process.comm.clone(), pid: process.pid }
    }
}

/// `nginx (1201)`
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.pid)
    }
}

/// The owners of these sockets. If some are hidden from this user, `unread` says so.
pub(crate) fn owners(inodes: &BTreeSet<u32>, unread: &mut Vec<String>) -> Result<Owners, Error> {
    let owners = processes::owners(Path::new(PROC), inodes)?;
    if owners.denied && inodes.iter().any(|inode| owners.of(*inode).next().is_none()) {
        unread.push("processes of other users: run it again with sudo".to_owned());
    }
    Ok(owners)
}

/// A value that a report can do without: if it cannot be read, `unread` says why.
pub(crate) fn or_unread<T>(value: Result<Option<T>, Error>, unread: &mut Vec<String>) -> Option<T> {
    value.unwrap_or_else(|error| {
        unread.push(error.to_string());
        None
    })
}
