//! Records: JSON files to which later runs are held.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads a record.
///
/// # Errors
/// Names the command `update`, which writes it, where the file is missing or damaged.
pub fn read<T: DeserializeOwned>(path: &Path, update: &str) -> Result<T> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read {}; `{update}` writes it", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is damaged; `{update}` writes it anew", path.display()))
}

/// Writes a record.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, record: &impl Serialize) -> Result<()> {
    fs::write(path, serde_json::to_string_pretty(record)? + "\n")
        .with_context(|| format!("cannot write {}", path.display()))
}
