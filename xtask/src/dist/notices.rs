//! The licences of the libraries that the program contains: they ask that a copy comes with it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::linked::{Key, Package};

/// Every library of others with its licence and the texts that came with it. A text that several
/// share is printed once.
pub fn all(program: &str, packages: &BTreeMap<Key, Package>) -> Result<String> {
    let mut list = String::new();
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in packages.values().filter(|package| package.is_foreign) {
        let name = format!("{} {}", package.name, package.version);
        list += &format!("{name}: {}\n", package.licence);
        for licence in licences(&package.directory)? {
            texts.entry(licence).or_default().push(name.clone());
        }
    }
    let texts = texts.into_iter().map(|(text, of)| {
        let line = "-".repeat(79);
        format!("{line}\n{}\n\n{}\n", of.join(", "), text.trim_end())
    });
    let texts: String = texts.collect();
    Ok(format!("Libraries of others in {program}, and their licences\n\n{list}\n{texts}"))
}

/// The texts in a package's directory that are named like licences.
fn licences(directory: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(directory)
        .with_context(|| format!("cannot read {}; run `cargo fetch`", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        let is_licence = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"];
        if path.is_file() && is_licence.iter().any(|start| name.starts_with(start)) {
            files.push(path);
        }
    }
    files.sort();
    let read = |path: PathBuf| Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned());
    files.into_iter().map(read).collect()
}
