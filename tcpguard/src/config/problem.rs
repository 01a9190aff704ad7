//! Mistakes in a configuration, as an operator wants to read them.

use std::fmt;
use std::path::PathBuf;

/// One mistake in a configuration file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong and what to write instead.
    pub text: String,
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum ConfigError {
    /// The file could not be read.
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file contains mistakes.
    Invalid {
        /// Which file.
        path: PathBuf,
        /// All of them, in the order of their lines.
        problems: Vec<Problem>,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, source } => write!(
                out,
                "cannot read the configuration {}: {source}; name another file with -c, or write one: \
                 tcpguard config init",
                path.display()
            ),
            Self::Invalid { path, problems } => {
                for problem in problems {
                    writeln!(out, "{}:{}: {}", path.display(), problem.line, problem.text)?;
                }
                let count = problems.len();
                let mistakes = if count == 1 { "mistake" } else { "mistakes" };
                let path = path.display();
                write!(
                    out,
                    "{count} {mistakes}, nothing was applied; edit the file, then: tcpguard config check {path}"
                )
            }
        }
    }
}

// The message already holds what the system said, so there is no `source` to print a second time.
impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::way_on;

    #[test]
    fn every_error_says_how_to_go_on() {
        let path = || PathBuf::from("tcpguard.toml");
        let problem = || Problem { line: 3, text: "unknown key policy.mod".to_owned() };
        for error in [
            ConfigError::Unreadable { path: path(), source: std::io::ErrorKind::NotFound.into() },
            ConfigError::Invalid { path: path(), problems: vec![problem(), problem()] },
        ] {
            assert!(way_on::is_named(&error.to_string()), "{error}");
            // Every one there is stands above.
            match error {
                ConfigError::Unreadable { .. } | ConfigError::Invalid { .. } => {}
            }
        }
    }
}
