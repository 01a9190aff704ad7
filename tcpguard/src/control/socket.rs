//! A Unix socket with exactly the rights that it is to have.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, OFlags};
use rustix::io::Errno;
use tcpguard_host::hint::Hint;
use tcpguard_host::linux::accounts;
use tokio::net::{UnixListener, UnixStream};

/// Reason why the sockets could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A live agent answers there.
    #[error(
        "another tcpguard agent is running{} ({})",
        pid.map_or_else(String::new, |pid| format!(" as pid {pid}")), socket.display()
    )]
    AlreadyRunning {
        /// Its process id, if the kernel knows it.
        pid: Option<i32>,
        socket: PathBuf,
    },
    /// The configured group does not exist.
    #[error("control.group: no group {group} on this host")]
    NoSuchGroup { group: String },
    /// Only root may give a file to a group that it is not in.
    #[error("control.group: the service is not a member of the group {group}")]
    NotInGroup { group: String },
    /// Something other than a socket is in the way.
    #[error("{} is not a socket", path.display())]
    NotASocket {
        /// Path of the file that is in the way.
        path: PathBuf,
    },
    #[error("cannot {what} {}: {error}", path.display())]
    Io {
        /// The operation that was tried.
        what: &'static str,
        /// The path that it was tried on.
        path: PathBuf,
        error: io::Error,
    },
}

impl Hint for BindError {
    fn hint(&self) -> String {
        match self {
            Self::AlreadyRunning { .. } => {
                "systemctl stop tcpguard, or use another --runtime-dir".to_owned()
            }
            Self::NoSuchGroup { group } => format!("sudo groupadd --system {group}"),
            Self::NotInGroup { group } => {
                format!("systemctl edit tcpguard ([Service] SupplementaryGroups={group})")
            }
            Self::NotASocket { .. } => "move it away, or use another --runtime-dir".to_owned(),
            Self::Io { .. } => "check --runtime-dir and its owner".to_owned(),
        }
    }
}

/// A Unix socket that is listened on. It is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    /// Listener that accepts the connections.
    pub(crate) listener: UnixListener,
    path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Nothing to do about it here: the next start replaces a socket on which no process listens.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The number of the group that is named in the configuration, by name or number.
pub(crate) fn group_number(group: Option<&str>) -> Result<Option<u32>, BindError> {
    let number = |name: &str| {
        accounts::group_id(name).ok_or_else(|| BindError::NoSuchGroup { group: name.to_owned() })
    };
    group.map(number).transpose()
}

/// Refuses to replace a socket on which a process listens.
pub(super) fn refuse_if_alive(path: &Path) -> Result<(), BindError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(BindError::NotASocket { path: path.to_owned() });
        }
        _ => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(stream) => {
            Err(BindError::AlreadyRunning { pid: listener_pid(stream), socket: path.to_owned() })
        }
        Err(_) => Ok(()),
    }
}

/// The process at the other end: the credentials of a listening socket are those of its maker.
fn listener_pid(stream: std::os::unix::net::UnixStream) -> Option<i32> {
    stream.set_nonblocking(true).ok()?;
    UnixStream::from_std(stream).ok()?.peer_cred().ok()?.pid()
}

impl Socket {
    /// Makes the socket under another name first, so that it never has wider rights than `mode`, and so that it
    /// replaces the one of a dead agent atomically. Must be called within a tokio runtime.
    pub(crate) fn bind(path: PathBuf, mode: u32, gid: Option<u32>) -> Result<Self, BindError> {
        let new = path.with_extension("new");
        let refused = |what| {
            let path = path.clone();
            move |error| BindError::Io { what, path, error }
        };
        if let Err(error) = std::fs::remove_file(&new)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(refused("clear the way for")(error));
        }
        let listener = UnixListener::bind(&new).map_err(refused("make the socket"))?;
        let finish = || {
            // Any process with write access to the directory could replace it by a link meanwhile. So the
            // rights are set on the node that was opened, and only on a socket.
            let node = open_socket(&new).map_err(refused("open"))?;
            if let Some(gid) = gid {
                rustix::fs::chownat(&node, "", None, Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)
                    .map_err(|error| match error {
                        Errno::PERM => BindError::NotInGroup {
                            group: accounts::group_name(gid).unwrap_or_else(|| gid.to_string()),
                        },
                        error => refused("give to its group")(error.into()),
                    })?;
            }
            // Only by this name can the rights of a descriptor be set that cannot be read or written.
            let name = format!("/proc/self/fd/{}", node.as_raw_fd());
            std::fs::set_permissions(name, std::fs::Permissions::from_mode(mode))
                .map_err(refused("set the rights of"))?;
            std::fs::rename(&new, &path).map_err(refused("put in place"))
        };
        if let Err(error) = finish() {
            // The first error is the one to report.
            let _ = std::fs::remove_file(&new);
            return Err(error);
        }
        Ok(Self { listener, path })
    }
}

/// The socket at `path` itself, to set its rights; neither a link nor the target of a link.
fn open_socket(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&node)?.st_mode);
    if !kind.is_socket() {
        return Err(io::Error::other("another process replaced it"));
    }
    Ok(node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcpguard_support::hint_check;

    #[test]
    fn rights_are_set_on_a_socket_and_on_nothing_that_a_link_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, link) = (dir.path().join("socket"), dir.path().join("link"));
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        open_socket(&socket).unwrap();
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        let error = open_socket(&link).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
    }

    #[test]
    fn every_error_has_a_hint() {
        let path = || PathBuf::from("/run/tcpguard/status.sock");
        for error in [
            BindError::AlreadyRunning { pid: Some(7), socket: path() },
            BindError::NoSuchGroup { group: "operators".to_owned() },
            BindError::NotInGroup { group: "operators".to_owned() },
            BindError::NotASocket { path: path() },
            BindError::Io {
                what: "make the socket",
                path: path(),
                error: io::ErrorKind::PermissionDenied.into(),
            },
        ] {
            assert!(hint_check::is_named(&error.hint()), "{error}");
            // Every one there is stands above.
            match error {
                BindError::AlreadyRunning { .. }
                | BindError::NoSuchGroup { .. }
                | BindError::NotInGroup { .. }
                | BindError::NotASocket { .. }
                | BindError::Io { .. } => {}
            }
        }
    }
}
