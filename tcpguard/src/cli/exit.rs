//! Exit codes of the process.

use std::process::ExitCode;

use std::io::ErrorKind;

use crate::bpf::KernelError;
use crate::config::ConfigError;
use crate::control::{BindError, ClientError, RefusalKind};
use crate::replay::capture::CaptureError;

/// Outcome of a verb.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// Done; all is well.
    Done,
    Failed,
    /// The command line makes no sense (clap uses the same code).
    Usage,
    /// The agent does not run (as LSB init scripts and `systemctl status` say it), or a capture, or
    /// most of its packets, cannot be read.
    Unreachable,
    Denied,
    /// The object of the command does not exist.
    NotFound,
    /// For monitoring: something needs attention.
    Warning,
    /// For monitoring: something is badly wrong.
    Critical,
    /// For monitoring: the state is unknown, for any reason.
    Unknown,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Errors of the command line itself.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The command was refused here, before a request was sent.
    #[error("{0}")]
    Refused(String),
    /// The object of the command does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The system refuses to show or change it.
    #[error("{0}")]
    Denied(String),
    /// Standard output is gone.
    #[error("cannot write the output: {0}; write it elsewhere, or make room: df -h")]
    Output(std::io::Error),
}

impl Exit {
    /// The exit code. Those for monitoring are the ones that its plugins have by convention
    /// (Monitoring Plugins Development Guidelines, "Plugin Return Codes").
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed | Self::Warning => 1,
            Self::Usage | Self::Critical => 2,
            Self::Unreachable | Self::Unknown => 3,
            Self::Denied => 4,
            Self::NotFound => 5,
        }
    }

    /// Returns the outcome of a line with this verb that makes no sense. To monitoring a 2 would say that
    /// something is badly wrong with the host.
    pub fn of_usage(verb: Option<&str>) -> Self {
        if verb == Some("check") { Self::Unknown } else { Self::Usage }
    }

    /// Returns the outcome of an error. A reader that closed the pipe has read enough: that is success.
    pub fn of(error: &anyhow::Error) -> Self {
        if let Some(error) = error.downcast_ref() {
            of_client(error)
        } else if let Some(error) = error.downcast_ref() {
            of_kernel(error)
        } else if let Some(error) = error.downcast_ref() {
            of_config(error)
        } else if let Some(error) = error.downcast_ref() {
            of_sockets(error)
        } else if error.is::<CaptureError>() {
            Self::Unreachable
        } else {
            error.downcast_ref().map_or(Self::Failed, of_cli)
        }
    }
}

fn of_client(error: &ClientError) -> Exit {
    match error {
        ClientError::NotRunning { .. } | ClientError::Broken { .. } => Exit::Unreachable,
        ClientError::Denied { .. } => Exit::Denied,
        ClientError::Foreign { .. } => Exit::Failed,
        ClientError::Refused(refusal) => match refusal.kind {
            RefusalKind::NotFound => Exit::NotFound,
            RefusalKind::ReadOnly => Exit::Denied,
            RefusalKind::Stopping => Exit::Unreachable,
            _ => Exit::Failed,
        },
    }
}

fn of_kernel(error: &KernelError) -> Exit {
    match error {
        // Another start would find the same kernel: `RestartPreventExitStatus=` of the service.
        KernelError::Permission { .. } | KernelError::TooOld { .. } => Exit::Denied,
        KernelError::Pin { error, .. } if error.kind() == ErrorKind::PermissionDenied => {
            Exit::Denied
        }
        _ => Exit::Failed,
    }
}

fn of_sockets(error: &BindError) -> Exit {
    match error {
        BindError::Io { error, .. } if error.kind() == ErrorKind::PermissionDenied => Exit::Denied,
        _ => Exit::Failed,
    }
}

fn of_config(error: &ConfigError) -> Exit {
    match error {
        ConfigError::Unreadable { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            Exit::Denied
        }
        _ => Exit::Failed,
    }
}

fn of_cli(error: &CliError) -> Exit {
    match error {
        CliError::Usage(_) => Exit::Usage,
        CliError::NotFound(_) => Exit::NotFound,
        CliError::Denied(_) => Exit::Denied,
        CliError::Output(error) if error.kind() == ErrorKind::BrokenPipe => Exit::Done,
        CliError::Refused(_) | CliError::Output(_) => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcpguard_support::hint_check;

    /// The words of all others are those that `tests/cli` meets.
    #[test]
    fn output_that_cannot_be_written_has_a_way_on() {
        let error = CliError::Output(std::io::Error::from_raw_os_error(libc::ENOSPC));
        assert!(hint_check::is_named(&error.to_string()), "{error}");
    }

    #[test]
    fn sockets_that_may_not_be_made_are_a_matter_of_permission() {
        for (kind, exit) in
            [(ErrorKind::PermissionDenied, Exit::Denied), (ErrorKind::NotFound, Exit::Failed)]
        {
            let (what, path) = ("create", "/run/tcpguard".into());
            let error = BindError::Io { what, path, error: kind.into() };
            assert_eq!(Exit::of(&error.into()), exit);
        }
    }

    #[test]
    fn a_mistyped_check_is_no_alarm() {
        for (verb, code) in [(Some("check"), 3), (Some("status"), 2), (None, 2)] {
            assert_eq!(Exit::of_usage(verb).code(), code, "{verb:?}");
        }
    }
}
