//! Mistakes in the configuration, as an operator wants to read them.

use std::fmt;
use std::io;
use std::path::PathBuf;

use tcpguard_host::hint::Hint;

/// A mistake in the configuration file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Path of the file.
    pub path: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
    /// The column, counted from 1 in characters.
    pub column: usize,
    /// The mistake, and the text to write instead.
    pub text: String,
}

/// `/etc/tcpguard/fleet.toml:12:8: unknown key bus.server; did you mean bus.servers?`
impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, column, text } = self;
        write!(out, "{}:{line}:{column}: {text}", path.display())
    }
}

/// Reason for which there is no configuration.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// The reason.
        cause: io::Error,
    },
    /// The file has mistakes: all of them, in the order of its lines.
    Invalid(Vec<Problem>),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, cause } => {
                write!(out, "cannot read the configuration {}: {cause}", path.display())
            }
            Self::Invalid(problems) => {
                for (number, problem) in problems.iter().enumerate() {
                    let separator = if number == 0 { "" } else { "\n" };
                    write!(out, "{separator}{problem}")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ConfigError {}

impl Hint for ConfigError {
    fn hint(&self) -> String {
        match self {
            Self::Unreadable { path, cause } if cause.kind() == io::ErrorKind::PermissionDenied => {
                format!("use sudo, or: ls -l {}", path.display())
            }
            Self::Unreadable { .. } => {
                "name another file with --config, or install the package tcpguard-fleet again"
                    .to_owned()
            }
            Self::Invalid(_) => {
                "every key is explained in /usr/share/doc/tcpguard-fleet/fleet.toml".to_owned()
            }
        }
    }
}
