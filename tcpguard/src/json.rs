//! How JSON is written: by one kind of writer. The code that writes a type is long, and there would be
//! a copy of it for every kind.

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

/// The whole text.
///
/// # Errors
/// When the value has no form in JSON.
pub fn bytes(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write(&mut bytes, value)?;
    Ok(bytes)
}
