//! What the exit code of the process says.

use std::process::ExitCode;

use std::io::ErrorKind;

use crate::config::ConfigError;
use crate::control::{ClientError, RefusalKind};
use crate::kernel::KernelError;
use crate::replay::capture::CaptureError;

/// Exit codes, the same for every verb.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Refused or failed.
    Failed = 1,
    /// The command line makes no sense (clap uses the same code).
    Usage = 2,
    /// The agent does not run (as LSB init scripts and `systemctl status` say it), or a capture
    /// cannot be read.
    Unreachable = 3,
    /// Permission denied.
    Denied = 4,
    /// What it should be done to does not exist.
    NotFound = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Errors of the command line itself.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// What was typed makes no sense.
    #[error("{0}")]
    Usage(String),
    /// What was refused here, before anybody was asked.
    #[error("{0}")]
    Refused(String),
    /// What it should be done to does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The system refuses to show or change it.
    #[error("{0}")]
    Denied(String),
    /// Standard output is gone.
    #[error("cannot write the output: {0}")]
    Output(std::io::Error),
}

impl Exit {
    /// The code for an error. A reader that closed the pipe has read enough: that is success.
    pub fn of(error: &anyhow::Error) -> Self {
        if let Some(error) = error.downcast_ref() {
            of_client(error)
        } else if let Some(error) = error.downcast_ref() {
            of_kernel(error)
        } else if let Some(error) = error.downcast_ref() {
            of_config(error)
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
        KernelError::Permission { .. } => Exit::Denied,
        KernelError::Pin { error, .. } if error.kind() == ErrorKind::PermissionDenied => {
            Exit::Denied
        }
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
