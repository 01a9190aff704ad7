//! Changes of sysctls as advised, until the next boot, and the reversal of both.
//!
//! The previous values are on the disk before anything is changed, in a file below `/run`, which a reboot
//! clears as it clears the values. The directory is root's own, so that no other user can redirect the writes. A
//! value that another process or an operator has changed since is left alone.

use std::io;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::{Kind, Row, Tune};
use crate::durable;
use crate::durable::seal::{self, Damage};
use crate::hint::Hint;
use crate::linux::{self, Sysctls, netns};

/// File of the previous values until the next reboot, below the root directory.
const RECORD: &str = "run/tcpguard-tune.json";
const RECORD_SCHEMA: &str = "tcpguard.tune-record/1";
/// Upper bound of the size of such a file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// One sysctl that is to be changed, or was.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Entry {
    pub name: String,
    pub before: String,
    /// The value given to it.
    pub after: String,
    /// Reason for the change.
    pub why: String,
}

/// Sysctls that `tcpguard tune --apply` changed, or that `tcpguard tune --undo` reverted.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Changed {
    /// Result for each sysctl.
    pub changes: Vec<Change>,
}

/// Change of one sysctl, and its outcome.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Change {
    /// Name of the sysctl.
    pub name: String,
    /// Value before this change.
    pub before: String,
    /// Value to be set.
    pub to: String,
    /// Outcome of the change.
    pub outcome: Outcome,
    /// Reason of the outcome; `null` if there is none.
    pub note: Option<String>,
}

/// Outcome of the change of one sysctl.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The sysctl has the value now.
    Changed,
    /// The sysctl had the value already.
    Unchanged,
    /// The sysctl was left alone: another process or an operator has changed it since tcpguard set it.
    LeftAlone,
    /// The kernel refused to set the value, or made another one of it.
    Failed,
}

/// Reason why a change, or its reversal, was refused or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The right to write a file is missing.
    #[error("cannot write {}: permission denied", path.display())]
    Denied {
        /// Path that could not be written.
        path: PathBuf,
    },
    /// A file cannot be written or removed.
    #[error("cannot write {}: {error}", path.display())]
    Store {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        error: io::Error,
    },
    /// The previous values cannot be read.
    #[error("cannot read the previous sysctls from {}: {reason}", path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Defect of the file.
        reason: String,
    },
    /// The sysctls were changed in another network namespace.
    #[error("the sysctls were changed in another network namespace ({})", path.display())]
    Elsewhere {
        /// Path of the file with the previous values.
        path: PathBuf,
    },
    /// A sysctl cannot be read.
    #[error(transparent)]
    Host(#[from] linux::Error),
}

impl Hint for ChangeError {
    fn hint(&self) -> String {
        match self {
            Self::Denied { .. } => "use sudo".to_owned(),
            Self::Store { path, .. } => format!("ls -ld {}", path.display()),
            Self::Unreadable { path, .. } => {
                format!("check the file, then remove it: rm {}", path.display())
            }
            Self::Elsewhere { .. } => "in that namespace: tcpguard tune --undo".to_owned(),
            Self::Host(error) => error.hint(),
        }
    }
}

/// Changes sysctls and restores them.
#[derive(Debug)]
pub struct Tuner {
    sysctls: Sysctls,
    root: PathBuf,
    netns: u64,
}

/// Contents of the file of the previous values, below `/run`.
#[derive(Debug, Deserialize, Serialize)]
struct Record {
    /// Cookie of the network namespace.
    netns: u64,
    entries: Vec<Entry>,
}

/// Returns the sysctls of an advice that `--apply` sets.
pub fn wanted(tune: &Tune) -> Vec<Entry> {
    let rows = tune.to_change().into_iter().filter(|row| row.kind == Kind::Sysctl);
    let entry = |row: &Row| {
        let (name, why) = (row.name.clone(), row.why.clone());
        Some(Entry { name, before: row.value.clone()?, after: row.to.clone()?, why })
    };
    rows.filter_map(entry).collect()
}

/// The file of sysctl.d(5) that sets these at each boot.
pub fn file(entries: &[Entry]) -> String {
    let mut text = "# Written by `tcpguard tune --sysctl`.\n".to_owned();
    for Entry { name, after, why, .. } in entries {
        let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
        // A module that is not loaded yet is no reason for a failed unit at boot.
        let sign = if name.starts_with("net.netfilter.") { "-" } else { "" };
        text.push_str(&format!("\n# {why}\n{sign}{name} = {after}\n"));
    }
    text
}

impl Tuner {
    /// Opens the tuner of this network namespace.
    pub fn open() -> Result<Self, linux::Error> {
        Ok(Self::at(Sysctls::default(), Path::new("/"), netns::cookie()?))
    }

    /// Creates the tuner of the namespace with the cookie `netns`, with files below `root`.
    pub fn at(sysctls: Sysctls, root: &Path, netns: u64) -> Self {
        Self { sysctls, root: root.to_owned(), netns }
    }

    /// Sets every sysctl of `wanted`. The previous values are stored first.
    ///
    /// # Errors
    /// When nothing was set. A sysctl that the kernel refuses to change is reported in the result.
    pub fn apply(&self, wanted: &[Entry]) -> Result<Changed, ChangeError> {
        let mut record = self.read_record()?;
        let mut now = Vec::new();
        for entry in wanted {
            let Some(before) = self.sysctls.read(&entry.name)? else { continue };
            now.push(Entry { before, ..entry.clone() });
        }
        for entry in &now {
            merge(&mut record, entry);
        }
        if !now.is_empty() {
            self.write_record(&record)?;
        }
        Ok(Changed { changes: now.iter().map(|entry| self.set(entry)).collect() })
    }

    /// Returns the changes until the next boot that still hold.
    pub fn applied(&self) -> Result<Vec<Entry>, ChangeError> {
        let mut record = self.read_record()?;
        let holds = |entry: &Entry| {
            let now = self.sysctls.read(&entry.name).ok().flatten();
            now.is_some_and(|now| same(&now, &entry.after))
        };
        record.retain(holds);
        Ok(record)
    }

    /// Restores the previous value of every sysctl.
    ///
    /// # Errors
    /// When the file or a sysctl cannot be read, or the file cannot be removed; some sysctls may have been
    /// restored by then. While a sysctl cannot be restored, its previous value stays on record.
    pub fn undo(&self) -> Result<Changed, ChangeError> {
        let entries = self.read_record()?;
        let changes: Result<Vec<Change>, _> =
            entries.iter().map(|entry| self.give_back(entry)).collect();
        let changes = changes?;
        if changes.iter().all(|change| change.outcome != Outcome::Failed) {
            let record = self.record();
            durable::remove(&record).map_err(|error| refused(&record, error))?;
        }
        Ok(Changed { changes })
    }

    fn record(&self) -> PathBuf {
        self.root.join(RECORD)
    }

    fn set(&self, entry: &Entry) -> Change {
        let (outcome, note) = if same(&entry.before, &entry.after) {
            (Outcome::Unchanged, None)
        } else {
            self.write(&entry.name, &entry.after)
        };
        Change {
            name: entry.name.clone(),
            before: entry.before.clone(),
            to: entry.after.clone(),
            outcome,
            note,
        }
    }

    fn give_back(&self, entry: &Entry) -> Result<Change, ChangeError> {
        let now = self.sysctls.read(&entry.name)?.unwrap_or_default();
        let (outcome, note) = if same(&now, &entry.before) {
            (Outcome::Unchanged, None)
        } else if same(&now, &entry.after) {
            self.write(&entry.name, &entry.before)
        } else {
            let note =
                format!("changed by another process since tcpguard set it to {}", entry.after);
            (Outcome::LeftAlone, Some(note))
        };
        let (name, to) = (entry.name.clone(), entry.before.clone());
        Ok(Change { name, before: now, to, outcome, note })
    }

    fn write(&self, name: &str, value: &str) -> (Outcome, Option<String>) {
        if let Err(error) = self.sysctls.write(name, value) {
            return (Outcome::Failed, Some(error.to_string()));
        }
        match self.sysctls.read(name) {
            Ok(Some(now)) if !same(&now, value) => {
                (Outcome::Failed, Some(format!("the kernel set it to {now}")))
            }
            _ => (Outcome::Changed, None),
        }
    }

    fn read_record(&self) -> Result<Vec<Entry>, ChangeError> {
        let path = self.record();
        let record = match seal::document::<Record>(&path, MAX_BYTES, RECORD_SCHEMA) {
            Ok(record) => record,
            Err(Damage::Missing) => return Ok(Vec::new()),
            Err(Damage::Refused(error)) => return Err(unreadable(&path, &error)),
            Err(Damage::Bad(reason)) => return Err(ChangeError::Unreadable { path, reason }),
        };
        if record.netns != self.netns {
            return Err(ChangeError::Elsewhere { path });
        }
        Ok(record.entries)
    }

    fn write_record(&self, entries: &[Entry]) -> Result<(), ChangeError> {
        let record = Record { netns: self.netns, entries: entries.to_vec() };
        let path = self.record();
        seal::store(&path, 0o600, RECORD_SCHEMA, &record).map_err(|error| refused(&path, error))
    }
}

/// Adds a new change to the earlier ones. Where a sysctl still has the value that the earlier change gave it,
/// the value before that change is the one to restore.
fn merge(entries: &mut Vec<Entry>, new: &Entry) {
    match entries.iter_mut().find(|entry| entry.name == new.name) {
        Some(entry) => {
            let ours = same(&new.before, &entry.after) || same(&new.before, &entry.before);
            let before = if ours { entry.before.clone() } else { new.before.clone() };
            *entry = Entry { before, ..new.clone() };
        }
        None => entries.push(new.clone()),
    }
}

/// Returns whether two values are the same to the kernel, which separates several numbers by tabs.
fn same(one: &str, other: &str) -> bool {
    one.split_whitespace().eq(other.split_whitespace())
}

fn unreadable(path: &Path, error: &io::Error) -> ChangeError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::PermissionDenied => ChangeError::Denied { path },
        _ => ChangeError::Unreadable { path, reason: error.to_string() },
    }
}

fn refused(path: &Path, error: io::Error) -> ChangeError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::PermissionDenied => ChangeError::Denied { path },
        _ => ChangeError::Store { path, error },
    }
}

#[cfg(test)]
mod tests;
