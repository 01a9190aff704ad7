//! Errors with a hint: the command, option or file that helps.

use std::error::Error;
use std::fmt::Display;

/// An error that names the next step.
pub trait Hint: Error {
    /// The command, option or file that helps. It is printed on a line of its own.
    fn hint(&self) -> String;

    /// Error and hint on one line.
    fn with_hint(&self) -> String {
        on_one_line(self, &self.hint())
    }
}

/// An error and its hint on one line, for a log or a cell of a table.
pub fn on_one_line(error: impl Display, hint: &str) -> String {
    format!("{error} (hint: {hint})")
}

/// An error that is described where it occurs.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The operation that failed, and the cause.
    pub message: String,
    /// See [`Hint::hint`].
    pub hint: String,
}

impl Failure {
    /// An error with its hint.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

impl Hint for Failure {
    fn hint(&self) -> String {
        self.hint.clone()
    }
}
