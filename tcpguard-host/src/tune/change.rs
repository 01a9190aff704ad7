//! Changes of sysctls as advised, their persistence over reboots, and the reversal of both.
//!
//! The previous values are on the disk before anything is changed: in a file below `/run`, which a reboot
//! clears as it clears the values, and for changes that are to outlive a reboot as comments in the file of
//! sysctl.d(5) itself. Both directories are root's own, so that no other user can redirect the writes. A
//! value that another process or an operator has changed since is left alone.

mod file;

use std::io;
use std::path::{Path, PathBuf};

pub use file::Entry;
use file::text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::{Kind, Row, Tune};
use super::sysctl_files;
use crate::durable;
use crate::durable::seal::{self, Damage};
use crate::hint::Hint;
use crate::linux::{self, Sysctls, netns};

/// The file of sysctl.d(5), below the root directory. It is read after those of a distribution and before
/// those of most administrators.
const FILE: &str = "etc/sysctl.d/90-tcpguard.conf";
/// File of the previous values until the next reboot, below the root directory.
const RECORD: &str = "run/tcpguard-tune.json";
const RECORD_SCHEMA: &str = "tcpguard.tune-record/1";
/// Upper bound of the size of such a file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Sysctls that `tcpguard tune --apply` changed, or that `tcpguard tune --undo` reverted.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Changed {
    /// Result for each sysctl.
    pub changes: Vec<Change>,
    /// Path of the file that was written or removed; `null` if there is none.
    pub file: Option<String>,
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
    /// Reason of the outcome, or the setting that overrides the value at the next boot; `null` if there is
    /// neither.
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
    /// The file has a line that tcpguard did not write.
    #[error("{}:{line} was not written by tcpguard", path.display())]
    Foreign {
        /// Path of the file.
        path: PathBuf,
        /// Number of that line, from 1.
        line: usize,
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
            Self::Foreign { .. } => "move that line to another file of /etc/sysctl.d".to_owned(),
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

/// Returns the file of sysctl.d(5) that `--apply --persist` would write.
pub fn preview(tune: &Tune) -> String {
    text(&wanted(tune))
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

    /// Sets every sysctl of `wanted`. With `persist` they are set after each boot, too, including those that
    /// an earlier call set until the next boot only. The previous values are stored first.
    ///
    /// # Errors
    /// When nothing was set. A sysctl that the kernel refuses to change is reported in the result.
    pub fn apply(&self, wanted: &[Entry], persist: bool) -> Result<Changed, ChangeError> {
        let kept = if persist { self.read_file()? } else { Vec::new() };
        let mut record = self.read_record()?;
        let mut now = Vec::new();
        for entry in wanted {
            let Some(before) = self.sysctls.read(&entry.name)? else { continue };
            now.push(Entry { before, ..entry.clone() });
        }
        let set_already = if persist { self.until_boot(&record, &kept, &now)? } else { Vec::new() };
        for entry in &now {
            merge(&mut record, entry);
        }
        if !now.is_empty() {
            self.write_record(&record)?;
        }
        let path = self.file();
        let mut file = None;
        if persist && !(now.is_empty() && set_already.is_empty()) {
            let mut entries = kept;
            for entry in now.iter().chain(&set_already) {
                merge(&mut entries, entry);
            }
            durable::replace(&path, 0o644, text(&entries).as_bytes())
                .map_err(|error| refused(&path, error))?;
            file = Some(path.display().to_string());
        }
        let mut changes: Vec<Change> = now.iter().map(|entry| self.set(entry)).collect();
        changes.extend(set_already.into_iter().map(|entry| Change {
            name: entry.name,
            before: entry.after.clone(),
            to: entry.after,
            outcome: Outcome::Unchanged,
            note: None,
        }));
        if file.is_some() {
            for change in &mut changes {
                change.note = change.note.take().or_else(|| self.overridden(&change.name));
            }
        }
        Ok(Changed { changes, file })
    }

    /// Returns the recorded changes that still hold, are not set `now`, and would be lost at a boot because
    /// the file does not have them.
    fn until_boot(
        &self,
        record: &[Entry],
        kept: &[Entry],
        now: &[Entry],
    ) -> Result<Vec<Entry>, ChangeError> {
        let mut found = Vec::new();
        for entry in record {
            let is_kept =
                kept.iter().any(|it| it.name == entry.name && same(&it.after, &entry.after));
            if is_kept || now.iter().any(|it| it.name == entry.name) {
                continue;
            }
            let value = self.sysctls.read(&entry.name)?;
            if value.is_some_and(|value| same(&value, &entry.after)) {
                found.push(entry.clone());
            }
        }
        Ok(found)
    }

    /// Restores the previous value of every sysctl, and removes the files.
    ///
    /// # Errors
    /// When a file or a sysctl cannot be read, or a file cannot be removed; some sysctls may have been
    /// restored by then. While a sysctl cannot be restored, its previous value stays on record.
    pub fn undo(&self) -> Result<Changed, ChangeError> {
        let path = self.file();
        let (record, kept) = (self.read_record()?, self.read_file()?);
        let mut changes: Vec<Change> = Vec::new();
        // The latest change is reverted first: its previous value may be one that a boot took from the file.
        for entry in record.iter().chain(&kept) {
            let change = self.give_back(entry)?;
            match changes.iter_mut().find(|earlier| earlier.name == change.name) {
                Some(earlier) if change.outcome == Outcome::Changed => {
                    let before = std::mem::take(&mut earlier.before);
                    *earlier = Change { before, ..change };
                }
                Some(_) => {}
                None => changes.push(change),
            }
        }
        let failed = changes.iter().any(|change| change.outcome == Outcome::Failed);
        let mut file = None;
        if !failed {
            if path.exists() {
                durable::remove(&path).map_err(|error| refused(&path, error))?;
                file = Some(path.display().to_string());
            }
            let record = self.record();
            durable::remove(&record).map_err(|error| refused(&record, error))?;
        }
        Ok(Changed { changes, file })
    }

    fn file(&self) -> PathBuf {
        self.root.join(FILE)
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

    /// Returns a sentence about the line that sets the sysctl again at the next boot, after our file, if any.
    fn overridden(&self, name: &str) -> Option<String> {
        let lines = sysctl_files::read(&self.root);
        let last = lines.iter().rfind(|line| line.name == name)?;
        (last.path != self.file())
            .then(|| format!("{last} overrides it at the next boot; remove that line"))
    }

    fn read_file(&self) -> Result<Vec<Entry>, ChangeError> {
        let path = self.file();
        let Some(text) = read(&path)? else { return Ok(Vec::new()) };
        file::entries(&text).map_err(|line| ChangeError::Foreign { path, line })
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

fn read(path: &Path) -> Result<Option<String>, ChangeError> {
    match durable::read(path, MAX_BYTES) {
        Ok(text) => match String::from_utf8(text) {
            Ok(text) => Ok(Some(text)),
            Err(error) => Err(unreadable(path, &io::Error::other(error))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
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
