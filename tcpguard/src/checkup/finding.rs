//! Findings about the host.

use std::cmp::Reverse;
use std::fmt;

use serde::Serialize;

use crate::host::Process;
use crate::status::Severity;

/// A problem that was found on the host.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Finding {
    /// Stable name of the finding.
    pub code: &'static str,
    /// Severity of the finding.
    pub severity: Severity,
    /// Listener, port, process or destination that the finding is about; `null`: the host, or several of them.
    pub subject: Option<String>,
    /// Description of the problem.
    pub text: String,
    /// Advice on how to solve the problem.
    pub hint: String,
}

/// Sorts findings, the most severe first. Findings of equal severity keep their order.
pub fn worst_first(findings: &mut [Finding]) {
    findings.sort_by_key(|finding| Reverse(finding.severity));
}

/// A process, with its name and id.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
