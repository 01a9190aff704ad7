//! The command line's end of the sockets.

use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tcpguard_host::hint::Hint;
use tcpguard_host::linux::{Service, accounts};

use super::proto::{Call, Refusal, Request, Response, VERSION};
use super::{CONTROL_SOCKET, STATUS_SOCKET, frame};
use crate::config::DEFAULT_RUNTIME_DIR;

/// Time limit of each read and write: longer than the server's own deadlines for a response, so that its
/// message arrives.
const DEADLINE: Duration = Duration::from_secs(12);
/// Longest answer taken, in bytes: the status of 4,096 listeners has about 3 MB.
const MAX_RESPONSE: u64 = 64 << 20;

/// Client of an agent, with the paths at which it is found.
#[derive(Clone, Debug)]
pub struct Client {
    /// Directory of its sockets.
    pub runtime_dir: PathBuf,
    /// One socket for everything, instead of those in `runtime_dir`.
    pub socket: Option<PathBuf>,
    /// Directory below which the agent would pin its links.
    pub pin_dir: PathBuf,
}

/// Reason why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No agent listens on the socket.
    #[error("{}", not_running(socket, attached, service.as_deref()))]
    NotRunning {
        /// Path of the socket.
        socket: PathBuf,
        /// Interfaces to which its XDP program is still attached, as far as can be seen.
        attached: Vec<String>,
        /// State of its systemd service ([`Client::explained`]).
        service: Option<Box<Service>>,
    },
    /// The caller may not use the socket.
    #[error("permission denied on {}", socket.display())]
    Denied {
        /// Path of the socket.
        socket: PathBuf,
        /// The group that may, if there is one besides root.
        group: Option<String>,
    },
    /// The connection broke or the answer came too late.
    #[error("no answer from the agent ({}): {error}", socket.display())]
    Broken {
        /// Path of the socket.
        socket: PathBuf,
        error: io::Error,
    },
    /// The answer is not one that this version knows.
    #[error("version mismatch between command and agent: {why}")]
    Foreign {
        /// The reason why it cannot be read.
        why: String,
    },
    #[error("{}", .0.message)]
    Refused(Refusal),
}

fn not_running(socket: &Path, attached: &[String], service: Option<&Service>) -> String {
    let cause = match service {
        Some(service) => service.reason(),
        None => format!("no process listens on {}", socket.display()),
    };
    let attached = match attached {
        [] => String::new(),
        names => format!(" (XDP program still attached to {})", names.join(", ")),
    };
    format!("agent not running: {cause}{attached}")
}

impl Hint for ClientError {
    fn hint(&self) -> String {
        match self {
            Self::NotRunning { attached, service, .. } => {
                let start =
                    service.as_ref().map_or("systemctl start tcpguard", |service| service.hint());
                match attached.as_slice() {
                    [] => start.to_owned(),
                    _ => format!("{start}, or: tcpguard detach --all"),
                }
            }
            Self::Denied { group: Some(group), .. } => {
                format!("use sudo, or join the group: sudo usermod -aG {group} $USER")
            }
            Self::Denied { group: None, .. } => "use sudo".to_owned(),
            Self::Broken { .. } => "journalctl -u tcpguard".to_owned(),
            Self::Foreign { .. } => "systemctl restart tcpguard".to_owned(),
            Self::Refused(refusal) => refusal.hint.clone(),
        }
    }
}

impl Client {
    /// Asks and waits for the answer. A [`Response::Refused`] becomes an error.
    pub fn call(&self, request: Request) -> Result<Response, ClientError> {
        let name = if request.is_change() { CONTROL_SOCKET } else { STATUS_SOCKET };
        let socket = self.socket.clone().unwrap_or_else(|| self.runtime_dir.join(name));
        let stream =
            UnixStream::connect(&socket).map_err(|error| self.unreachable(&socket, error))?;
        let answer = exchange(stream, &Call { version: VERSION, request })
            .map_err(|error| ClientError::Broken { socket, error })?;
        match serde_json::from_slice(&answer) {
            Ok(Response::Refused(refusal)) => Err(ClientError::Refused(refusal)),
            Ok(response) => Ok(response),
            Err(error) => Err(ClientError::Foreign { why: error.to_string() }),
        }
    }

    /// Asks and waits for the content that `take` takes of the response.
    pub fn ask<T>(
        &self,
        request: Request,
        take: impl FnOnce(Response) -> Option<T>,
    ) -> Result<T, ClientError> {
        taken(self.call(request)?, take)
    }

    /// Returns the error with the reason why the service does not run, where systemd knows it. The question
    /// takes some milliseconds, so it is for errors that are shown.
    pub fn explained(&self, error: ClientError) -> ClientError {
        let is_default =
            self.socket.is_none() && self.runtime_dir == Path::new(DEFAULT_RUNTIME_DIR);
        match error {
            // An agent with sockets elsewhere is not the service's.
            ClientError::NotRunning { socket, attached, service: None } if is_default => {
                let service = Service::ask().map(Box::new);
                ClientError::NotRunning { socket, attached, service }
            }
            other => other,
        }
    }

    fn unreachable(&self, socket: &Path, error: io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning {
                socket: socket.to_owned(),
                attached: crate::bpf::pinned(&self.pin_dir),
                service: None,
            },
            io::ErrorKind::PermissionDenied => ClientError::Denied {
                socket: socket.to_owned(),
                group: std::fs::metadata(socket)
                    .ok()
                    .filter(|socket| socket.mode() & 0o060 == 0o060 && socket.gid() != 0)
                    .and_then(|socket| accounts::group_name(socket.gid())),
            },
            _ => ClientError::Broken { socket: socket.to_owned(), error },
        }
    }
}

/// Returns the content that `take` takes of a response; an error for a response to another question.
pub fn taken<T>(
    response: Response,
    take: impl FnOnce(Response) -> Option<T>,
) -> Result<T, ClientError> {
    let word = response.word();
    take(response).ok_or_else(|| ClientError::Foreign { why: format!("it answers \"{word}\"") })
}

fn exchange(mut stream: UnixStream, call: &Call) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let message = frame::bytes(call)?;
    // A server that refuses the connection may close it before it has read the request; its
    // words are there to be read all the same.
    let sent = stream.write_all(&message);
    let mut answer = Vec::new();
    let mut chunk = [0; 64 * 1024];
    let mut bounded = stream.take(MAX_RESPONSE);
    loop {
        match bounded.read(&mut chunk) {
            Ok(0) => {
                sent?;
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(read) => answer.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if answer.last() == Some(&0) {
            answer.pop();
            return Ok(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::RefusalKind;
    use tcpguard_support::hint_check;

    #[test]
    fn every_error_has_a_hint() {
        let socket = || PathBuf::from("/run/tcpguard/status.sock");
        let properties = [("LoadState", "loaded"), ("ActiveState", "failed"), ("Result", "signal")];
        let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let failed = Service::of(&properties.into_iter().collect()).map(Box::new);
        let not_running = |attached: &[&str], service| ClientError::NotRunning {
            socket: socket(),
            attached: attached.iter().map(|name| (*name).to_owned()).collect(),
            service,
        };
        for error in [
            not_running(&[], None),
            not_running(&["eth0"], None),
            not_running(&[], failed.clone()),
            not_running(&["eth0"], failed),
            ClientError::Denied { socket: socket(), group: None },
            ClientError::Denied { socket: socket(), group: Some("adm".to_owned()) },
            ClientError::Broken { socket: socket(), error: io::ErrorKind::UnexpectedEof.into() },
            ClientError::Foreign { why: "missing field `schema`".to_owned() },
            ClientError::Refused(Refusal::new(
                RefusalKind::Stopping,
                "the agent is stopping",
                "systemctl status tcpguard",
            )),
        ] {
            assert!(hint_check::is_named(&error.hint()), "{error}");
            // Every one there is stands above.
            match error {
                ClientError::NotRunning { .. }
                | ClientError::Denied { .. }
                | ClientError::Broken { .. }
                | ClientError::Foreign { .. }
                | ClientError::Refused(_) => {}
            }
        }
    }
}
