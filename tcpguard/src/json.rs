//! How JSON is written.

use std::io;

use serde::Serialize;

/// Writes a value piece by piece, as it comes: a document of 10,000 listeners is never there a second
/// time.
///
/// # Errors
/// When `out` refuses, or the value has no form in JSON.
pub fn write(out: &mut dyn io::Write, value: &impl Serialize) -> serde_json::Result<()> {
    serde_json::to_writer(out, value)
}
