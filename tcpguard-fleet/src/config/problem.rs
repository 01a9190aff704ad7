//! Mistakes in the configuration, as an operator wants to read them.

use std::fmt;
use std::io;
use std::path::PathBuf;

use tcpguard_host::hint::Hint;
use tcpguard_host::toml_file::Problem;

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
                "every key is explained in the packaged /etc/tcpguard/fleet.toml".to_owned()
            }
        }
    }
}
