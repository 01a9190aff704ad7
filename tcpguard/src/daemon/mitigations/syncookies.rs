//! `net.ipv4.tcp_syncookies`, while the agent needs it to be 2.
//!
//! The kernel accepts cookies that its helper has made only where it always makes them. Therefore the
//! sysctl is borrowed while such cookies are in use. Its value is on the disk before it is changed. It is
//! given back by this agent, by the command that systemd runs after a `kill -9`
//! (`tcpguard restore-sysctls`), or by the next agent. It is given back only while it still has the value
//! that the agent gave it: another one is an administrator's, and stays.
//!
//! (An administrator who sets it to 2 meanwhile cannot be distinguished from the agent.)

use std::path::{Path, PathBuf};
use std::{fmt, io};

use serde::{Deserialize, Serialize};
use tcpguard_host::durable::{self, seal};
use tcpguard_host::hint::Hint;
use tcpguard_host::linux::{self, Sysctls, boot_id, netns};

pub const SYSCTL: &str = "net.ipv4.tcp_syncookies";
/// Cookies for every SYN.
const ALWAYS: u64 = 2;
/// Name of the file that keeps the value, within the state directory.
const NAME: &str = "syncookies.json";
const SCHEMA: &str = "tcpguard.syncookies/1";
/// Longer than any such file.
const MAX_BYTES: u64 = 4096;

/// The sysctl of this network namespace, and whether the agent has borrowed it. Dropping this gives it back.
#[derive(Debug)]
pub struct SyncookiesLease {
    sysctls: Sysctls,
    path: PathBuf,
    boot: String,
    netns: u64,
    held: Option<Held>,
}

/// The originator of the value 2.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Held {
    /// The agent, which is to restore this value.
    Borrowed {
        before: u64,
    },
    Set,
}

/// The record on the disk while the sysctl is borrowed.
#[derive(Debug, Deserialize, Serialize)]
struct Saved {
    /// `/proc/sys/kernel/random/boot_id`: sysctls do not outlive a boot.
    boot: String,
    /// Cookie of the network namespace.
    netns: u64,
    value: u64,
}

/// Outcome of giving a borrowed sysctl back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Returned {
    /// The setting was not borrowed, or already has the same value again.
    Nothing,
    /// The setting has its value again.
    To(u64),
    /// The setting has a value that the agent did not give it, and keeps it.
    LeftAt(u64),
    /// The setting was borrowed in another network namespace, and is restored there.
    Elsewhere,
}

impl fmt::Display for Returned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => {
                write!(f, "{SYSCTL} was not changed by tcpguard. See: sysctl {SYSCTL}")
            }
            Self::To(value) => write!(f, "{SYSCTL} restored to {value}. See: sysctl {SYSCTL}"),
            Self::LeftAt(value) => write!(
                f,
                "{SYSCTL} stays {value}: another process or an operator changed it since tcpguard set it to \
                 2. See: /etc/sysctl.d"
            ),
            Self::Elsewhere => write!(
                f,
                "{SYSCTL} was changed in another network namespace. Restore it there: tcpguard \
                 restore-sysctls"
            ),
        }
    }
}

/// Failure to borrow, check or give back the sysctl.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// There is no such sysctl.
    #[error("this kernel has no {SYSCTL} (built without CONFIG_SYN_COOKIES)")]
    Missing,
    /// The administrator wants no cookies.
    #[error("{SYSCTL} is 0, which forbids SYN cookies")]
    Forbidden,
    /// The setting is borrowed by another agent.
    #[error("{SYSCTL} is changed in another network namespace ({})", path.display())]
    Elsewhere { path: PathBuf },
    /// The value before is not known.
    #[error("{SYSCTL} is 2, and its previous value cannot be read from {}: {reason}", path.display())]
    Unreadable {
        path: PathBuf,
        /// The defect of the file.
        reason: String,
    },
    /// The file cannot be written or removed.
    #[error("cannot record the value of {SYSCTL} in {}: {error}", path.display())]
    Store { path: PathBuf, error: io::Error },
    /// The sysctl cannot be read or written.
    #[error(transparent)]
    Host(#[from] linux::Error),
}

impl Hint for LeaseError {
    fn hint(&self) -> String {
        match self {
            Self::Missing => "tcpguard doctor".to_owned(),
            Self::Forbidden => format!("sysctl -w {SYSCTL}=1"),
            Self::Elsewhere { .. } => "use a separate --state-dir for each agent".to_owned(),
            Self::Unreadable { path, .. } => {
                format!("sysctl -w {SYSCTL}=1, then: rm {}", path.display())
            }
            Self::Store { path, .. } => format!("df -h {}", path.display()),
            Self::Host(error) => error.hint(),
        }
    }
}

/// The content of the file.
enum Found {
    Nothing,
    Ours { value: u64 },
    Elsewhere,
    Unreadable(String),
}

impl SyncookiesLease {
    /// Of this network namespace, with the file in `state_dir`. Changes nothing.
    pub fn open(state_dir: &Path) -> Result<Self, linux::Error> {
        Ok(Self::at(Sysctls::default(), state_dir, boot_id(), netns::cookie()?))
    }

    fn at(sysctls: Sysctls, state_dir: &Path, boot: String, netns: u64) -> Self {
        Self { sysctls, path: state_dir.join(NAME), boot, netns, held: None }
    }

    /// Sees to it that the kernel makes cookies for every SYN, and takes all of them back. To be
    /// given back by [`Self::give_back`].
    ///
    /// # Errors
    /// Then the sysctl has the value that it had.
    pub fn borrow(&mut self) -> Result<(), LeaseError> {
        if self.held.is_some() {
            return Ok(());
        }
        let now = self.value()?;
        let before = match (now, self.read()) {
            (0, _) => return Err(LeaseError::Forbidden),
            (_, Found::Elsewhere) => {
                return Err(LeaseError::Elsewhere { path: self.path.clone() });
            }
            // An agent that is no more has borrowed it, and it was not given back yet.
            (ALWAYS, Found::Ours { value }) => value,
            (ALWAYS, Found::Nothing) => {
                self.held = Some(Held::Set);
                return Ok(());
            }
            (ALWAYS, Found::Unreadable(reason)) => {
                return Err(LeaseError::Unreadable { path: self.path.clone(), reason });
            }
            (other, _) => other,
        };
        let saved = Saved { boot: self.boot.clone(), netns: self.netns, value: before };
        seal::store(&self.path, 0o600, SCHEMA, &saved).map_err(|error| self.store_error(error))?;
        if let Err(error) = self.sysctls.write(SYSCTL, &ALWAYS.to_string()) {
            self.forget()?;
            return Err(error.into());
        }
        self.held = Some(Held::Borrowed { before });
        Ok(())
    }

    /// Returns whether the sysctl still has the value that was borrowed; true when nothing was. If not, an
    /// administrator has changed it: then it is no longer borrowed, and stays as it is.
    pub fn check(&mut self) -> Result<bool, LeaseError> {
        if self.held.is_none() || self.value()? == ALWAYS {
            return Ok(true);
        }
        if let Some(Held::Borrowed { .. }) = self.held.take() {
            self.forget()?;
        }
        Ok(false)
    }

    /// Gives the sysctl back, whichever agent has borrowed it.
    ///
    /// # Errors
    /// When it cannot be, now. It is still borrowed then, for the next try.
    pub fn give_back(&mut self) -> Result<Returned, LeaseError> {
        let returned = self.restore()?;
        self.held = None;
        Ok(returned)
    }

    fn restore(&self) -> Result<Returned, LeaseError> {
        let before = match (self.held, self.read()) {
            (Some(Held::Borrowed { before }), _) => before,
            (_, Found::Ours { value }) => value,
            (_, Found::Nothing) => return Ok(Returned::Nothing),
            (_, Found::Elsewhere) => return Ok(Returned::Elsewhere),
            (_, Found::Unreadable(reason)) => {
                if self.value()? == ALWAYS {
                    return Err(LeaseError::Unreadable { path: self.path.clone(), reason });
                }
                self.forget()?;
                return Ok(Returned::Nothing);
            }
        };
        let now = self.value()?;
        let returned = if now == before {
            Returned::Nothing
        } else if now == ALWAYS {
            self.sysctls.write(SYSCTL, &before.to_string())?;
            Returned::To(before)
        } else {
            Returned::LeftAt(now)
        };
        // Last: the file exists until the value is restored, however this process ends.
        self.forget()?;
        Ok(returned)
    }

    /// Returns whether there is something to give back, be it only an administrator's word.
    pub const fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Returns whether the sysctl is borrowed by this agent; one that an administrator has set to 2 is not.
    pub fn is_borrowed(&self) -> bool {
        matches!(self.held, Some(Held::Borrowed { .. }))
    }

    /// The value to restore, whichever agent has borrowed the sysctl here.
    fn lent(&self) -> Option<u64> {
        match self.read() {
            Found::Ours { value } => Some(value),
            Found::Nothing | Found::Elsewhere | Found::Unreadable(_) => None,
        }
    }

    fn value(&self) -> Result<u64, LeaseError> {
        self.sysctls.read_number(SYSCTL)?.ok_or(LeaseError::Missing)
    }

    fn read(&self) -> Found {
        let saved = match read(&self.path) {
            Ok(Some(saved)) => saved,
            Ok(None) => return Found::Nothing,
            Err(reason) => return Found::Unreadable(reason),
        };
        if saved.boot != self.boot {
            // The kernel has started anew since, with values of its own.
            Found::Nothing
        } else if saved.netns != self.netns {
            Found::Elsewhere
        } else {
            Found::Ours { value: saved.value }
        }
    }

    fn forget(&self) -> Result<(), LeaseError> {
        durable::remove(&self.path).map_err(|error| self.store_error(error))
    }

    fn store_error(&self, error: io::Error) -> LeaseError {
        LeaseError::Store { path: self.path.clone(), error }
    }
}

impl Drop for SyncookiesLease {
    fn drop(&mut self) {
        if !self.is_borrowed() {
            return;
        }
        match self.give_back() {
            Ok(returned) => log::info!("{returned}"),
            Err(error) => log::error!("{SYSCTL} not restored: {}", error.with_hint()),
        }
    }
}

/// The administrator's value of the sysctl, while an agent with this state directory has borrowed it in
/// this network namespace; `None`: none has, or it cannot be seen.
pub fn lent_from(state_dir: &Path) -> Option<u64> {
    SyncookiesLease::open(state_dir).ok()?.lent()
}

fn read(path: &Path) -> Result<Option<Saved>, String> {
    let saved: Saved = match seal::document(path, MAX_BYTES, SCHEMA) {
        Ok(saved) => saved,
        Err(damage) => return damage.reason().map_or(Ok(None), Err),
    };
    // 0 forbids cookies, and 2 needs no change: neither is ever borrowed.
    if matches!(saved.value, 0 | ALWAYS) {
        return Err(format!("it says that {SYSCTL} was {}, which is never borrowed", saved.value));
    }
    Ok(Some(saved))
}

#[cfg(test)]
pub(in crate::daemon) mod tests;
