//! Errors of the command line, and exit codes.

use std::io;

use tcpguard_host::hint::{Failure, Hint as _};

use crate::config::ConfigError;
use crate::daemon::StartError;

/// Exit codes, as those of `tcpguard`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// The verb did its work.
    Done = 0,
    /// Refused or failed.
    Failed = 1,
    /// Invalid command line or configuration. The service does not restart.
    Invalid = 2,
    /// Permission denied. The service does not restart.
    Denied = 4,
    /// Configuration not found. The service does not restart.
    NotFound = 5,
}

/// An error with its exit code.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct CliError {
    pub exit: Exit,
    pub failure: Failure,
}

impl CliError {
    /// The command line makes no sense.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit: Exit::Invalid, failure: Failure::new(message, hint) }
    }

    /// The lines on stderr.
    pub fn lines(&self) -> String {
        let lines = self.failure.message.lines().map(|line| format!("error: {line}\n"));
        format!("{}hint: {}", lines.collect::<String>(), self.failure.hint)
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        Self { exit: Exit::Failed, failure }
    }
}

impl From<StartError> for CliError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Configuration(failure) => Self { exit: Exit::Invalid, failure },
            StartError::Failed(failure) => failure.into(),
        }
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        let exit = match &error {
            ConfigError::Invalid(_) => Exit::Invalid,
            ConfigError::Unreadable { cause, .. } => match cause.kind() {
                io::ErrorKind::NotFound => Exit::NotFound,
                io::ErrorKind::PermissionDenied => Exit::Denied,
                _ => Exit::Failed,
            },
        };
        Self { exit, failure: Failure::new(error.to_string(), error.hint()) }
    }
}

impl From<io::Error> for CliError {
    /// Standard output is gone.
    fn from(error: io::Error) -> Self {
        Failure::new(format!("cannot write the output: {error}"), "df -h").into()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tcpguard_host::toml_file::{Problem, Spot};

    use super::*;

    #[test]
    fn each_mistake_of_a_configuration_is_a_line() {
        let problem = |line| Problem {
            at: Spot { path: Path::new("fleet.toml").into(), line, column: 1 },
            text: "unknown key x".to_owned(),
        };
        let error = CliError::from(ConfigError::Invalid(vec![problem(3), problem(7)]));
        assert_eq!(error.exit, Exit::Invalid);
        let lines = error.lines();
        let starts: Vec<_> = lines.lines().map(|line| &line[..6]).collect();
        assert_eq!(starts, ["error:", "error:", "hint: "]);
        for (kind, exit) in [
            (io::ErrorKind::NotFound, Exit::NotFound),
            (io::ErrorKind::PermissionDenied, Exit::Denied),
        ] {
            let error = ConfigError::Unreadable { path: "fleet.toml".into(), cause: kind.into() };
            assert_eq!(CliError::from(error).exit, exit);
        }
        let failure = || Failure::new("no server", "set servers");
        let unusable = StartError::Configuration(failure());
        assert_eq!(CliError::from(unusable).exit, Exit::Invalid);
        assert_eq!(CliError::from(StartError::from(failure())).exit, Exit::Failed);
    }
}
