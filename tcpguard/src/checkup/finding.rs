//! What a look at the host brought to light.

use std::cmp::Reverse;
use std::fmt;

use serde::Serialize;

use crate::host::Process;
use crate::status::Severity;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Finding {
    /// Stable name of the finding.
    pub code: &'static str,
    /// How bad.
    pub severity: Severity,
    /// Which listener, process or destination it is about.
    pub subject: Option<String>,
    /// What is wrong, in words.
    pub text: String,
    /// What to do about it.
    pub hint: String,
}

/// Sorts findings, the worst first; those that are equally bad stay as they are.
pub fn worst_first(findings: &mut [Finding]) {
    findings.sort_by_key(|finding| Reverse(finding.severity));
}

/// A process, as reports name it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Owner {
    /// Its name.
    pub name: String,
    /// Its id.
    pub pid: u32,
}

impl Owner {
    /// The name of a process that was read.
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
