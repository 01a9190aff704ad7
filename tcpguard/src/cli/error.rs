//! Errors of the command line, and the hint of every error that it prints.

use std::io;

use tcpguard_host::hint::{Failure, Hint};
use tcpguard_host::tune::change::ChangeError;

use super::exit::Exit;
use crate::config::ConfigError;
use crate::control::{BindError, ClientError};
use crate::daemon::syncookies::LeaseError;
use crate::daemon::{self, Refused};
use crate::replay::capture::CaptureError;
use crate::selftest::SelftestFailure;

/// An error of the command line itself.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error("{failure}")]
    Failed {
        exit: Exit,
        /// Its message and its hint.
        failure: Failure,
    },
    /// Standard output is gone.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
}

impl CliError {
    /// The command line is invalid.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::failed(Exit::Invalid, message, hint)
    }

    /// The command was refused here, before a request was sent, or failed.
    pub fn refused(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::failed(Exit::Failed, message, hint)
    }

    /// The object of the command does not exist.
    pub fn not_found(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::failed(Exit::NotFound, message, hint)
    }

    /// An error with its exit code.
    pub fn failed(exit: Exit, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Failed { exit, failure: Failure::new(message, hint) }
    }

    /// `error` with another exit code than its type has.
    pub fn with_exit(exit: Exit, error: &impl Hint) -> Self {
        Self::failed(exit, error.to_string(), error.hint())
    }

    /// A file cannot be written or read.
    pub fn file(action: &str, path: &std::path::Path, error: &io::Error, hint: &str) -> Self {
        let exit = Exit::of_file(error);
        let hint = if exit == Exit::Denied { "use sudo" } else { hint };
        Self::failed(exit, format!("cannot {action} {}: {error}", path.display()), hint)
    }
}

impl Hint for CliError {
    fn hint(&self) -> String {
        match self {
            Self::Failed { failure, .. } => failure.hint(),
            Self::Output(_) => "df -h".to_owned(),
        }
    }
}

/// Returns the hint of an error, if its type has one.
pub(super) fn hint(error: &anyhow::Error) -> Option<String> {
    fn of<E: Hint + Send + Sync + 'static>(error: &anyhow::Error) -> Option<String> {
        error.downcast_ref::<E>().map(Hint::hint)
    }
    let types = [
        of::<CliError>,
        of::<ClientError>,
        of::<ConfigError>,
        of::<Refused>,
        of::<CaptureError>,
        of::<BindError>,
        of::<SelftestFailure>,
        of::<ChangeError>,
        of::<LeaseError>,
    ];
    types.iter().find_map(|of| of(error)).or_else(|| daemon::hint(error))
}

/// The lines of an error on stderr. A message of several errors has one a line, and details indented.
pub(super) fn lines(label: &str, message: &str, hint: Option<&str>) -> String {
    let mut lines = Vec::new();
    for line in message.lines() {
        match line.starts_with(' ') {
            true => lines.push(line.to_owned()),
            false => lines.push(format!("{label}: {line}")),
        }
    }
    lines.extend(hint.map(|hint| format!("hint: {hint}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use tcpguard_support::hint_check;

    use super::*;

    #[test]
    fn output_that_cannot_be_written_has_a_hint() {
        let error = CliError::Output(io::Error::from_raw_os_error(libc::ENOSPC));
        assert!(hint_check::is_named(&error.hint()), "{error}");
    }

    #[test]
    fn each_error_has_a_line_and_details_are_indented() {
        assert_eq!(
            lines("error", "a:1: one\na:2: two\n  more", Some("tcpguard config check")),
            "error: a:1: one\nerror: a:2: two\n  more\nhint: tcpguard config check"
        );
        assert_eq!(lines("warning", "not saved", None), "warning: not saved");
    }
}
