//! The results of one part, as a file for programs and as text for people.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::part::Part;
use crate::verdict;

/// Writes `part` with its goals and plots to `path`, as a document of this name and version.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, schema: &str, part: &(impl Part + Serialize)) -> Result<()> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let document = json!({
        "schema": schema,
        "kernel": kernel.trim(),
        "found": part,
        "goals": part.goals(),
        "figures": part.figures(),
    });
    fs::write(path, serde_json::to_string_pretty(&document)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The part that such a document is about.
///
/// # Errors
/// When it cannot be read, or is another one.
pub fn read<P: DeserializeOwned>(path: &Path, schema: &str) -> Result<P> {
    let name = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    let mut document: Value =
        serde_json::from_str(&text).with_context(|| format!("{name} is damaged"))?;
    ensure!(document["schema"] == schema, "{name} is not of {schema}: {}", document["schema"]);
    serde_json::from_value(document["found"].take()).with_context(|| format!("{name} is damaged"))
}

/// Its tables, and the result of each target.
pub fn text(part: &impl Part) -> String {
    let goals = part.goals();
    format!("{}\n{}\n{}", part.tables(), verdict::table(&goals), verdict::summary(&goals))
}
