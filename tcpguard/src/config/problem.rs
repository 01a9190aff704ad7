//! Mistakes in a configuration, as an operator wants to read them.

use std::fmt;
use std::path::PathBuf;

use tcpguard_host::hint::Hint;
use tcpguard_host::toml_file::Problem;

/// Reason for which there is no configuration.
#[derive(Debug)]
pub enum ConfigError {
    /// A file could not be read.
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// True if it is a file of the directory beside the configuration, or that directory.
        part: bool,
        source: std::io::Error,
    },
    /// The files contain mistakes.
    Invalid {
        /// The main file, whether or not the mistakes are in it.
        path: PathBuf,
        /// All mistakes, in the order in which the files are read.
        problems: Vec<Problem>,
    },
}

impl ConfigError {
    /// Returns the first mistake in one line, and the number of further ones.
    pub fn in_brief(&self) -> String {
        let Self::Invalid { problems, .. } = self else { return self.to_string() };
        let more = match problems.len() {
            0 | 1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        problems.first().map_or_else(String::new, ToString::to_string) + &more
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, source, .. } => {
                write!(out, "cannot read the configuration {}: {source}", path.display())
            }
            Self::Invalid { problems, .. } => {
                for (number, problem) in problems.iter().enumerate() {
                    let separator = if number == 0 { "" } else { "\n" };
                    write!(out, "{separator}{problem}")?;
                }
                Ok(())
            }
        }
    }
}

impl Hint for ConfigError {
    fn hint(&self) -> String {
        match self {
            Self::Unreadable { path, part: true, .. } => format!("ls -l {}", path.display()),
            Self::Unreadable { .. } => {
                "name another file with -c, or write one: tcpguard config init".to_owned()
            }
            Self::Invalid { path, problems } => {
                let mistaken = problems.first().map_or(&**path, |problem| &*problem.at.path);
                let (mistaken, path) = (mistaken.display(), path.display());
                format!("edit {mistaken}, then: tcpguard config check {path}")
            }
        }
    }
}

// The message already holds the system's error, so there is no `source` to print a second time.
impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::path::Path;

    use tcpguard_host::toml_file::Spot;

    use super::*;
    use tcpguard_support::hint_check;

    #[test]
    fn every_error_has_a_hint() {
        let path = || PathBuf::from("tcpguard.toml");
        let at = || Spot { path: Path::new("tcpguard.toml").into(), line: 3, column: 1 };
        let problem = || Problem { at: at(), text: "unknown key policy.mod".to_owned() };
        for error in [
            ConfigError::Unreadable {
                path: path(),
                part: false,
                source: ErrorKind::NotFound.into(),
            },
            ConfigError::Unreadable {
                path: "/etc/tcpguard/conf.d/10-web.toml".into(),
                part: true,
                source: ErrorKind::PermissionDenied.into(),
            },
            ConfigError::Invalid { path: path(), problems: vec![problem(), problem()] },
        ] {
            assert!(hint_check::is_named(&error.hint()), "{error}");
            assert_eq!(error.in_brief().lines().count(), 1, "{error}");
            // Every one there is stands above.
            match error {
                ConfigError::Unreadable { .. } | ConfigError::Invalid { .. } => {}
            }
        }
        let two = ConfigError::Invalid { path: path(), problems: vec![problem(), problem()] };
        assert_eq!(two.in_brief(), "tcpguard.toml:3:1: unknown key policy.mod (and 1 more)");
    }
}
