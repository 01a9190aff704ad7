//! Reasons that bytes are no document.

use super::MAX_BYTES;

/// Reason that bytes are no document, or that a document cannot be written.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DocumentError {
    /// The document has more than [`MAX_BYTES`].
    #[error("{bytes} bytes (at most {})", MAX_BYTES)]
    TooLong {
        /// Length of it.
        bytes: usize,
    },
    /// The document is not JSON of the type that its schema names.
    #[error("not a document: {0}")]
    Malformed(String),
    /// Its schema is unknown: a later major version, or another document.
    #[error("schema {0:?} is unknown to this version")]
    UnknownSchema(String),
    /// A field has a value that makes no sense.
    #[error("{field}: {problem}")]
    OutOfRange {
        /// Name of the field.
        field: &'static str,
        /// The value, and the values that it may have.
        problem: String,
    },
}
