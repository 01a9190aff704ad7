//! The record of a full run in `docs/performance.json`, and the plots and the page that are written from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::drawing;
use crate::machine::Machine;
use crate::page::{self, Measured};
use crate::part::Part;
use crate::whole::Entry;

/// Paths below the root of the repository.
const RECORD: &str = "docs/performance.json";
const PAGE: &str = "docs/performance.md";
const PLOTS: &str = "docs/performance";
/// A record of another one is of another program.
const SCHEMA: &str = "tcpguard.bench/1";

/// A run: the machine that it was made on, and the results of its parts by name.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Record {
    schema: String,
    machine: Machine,
    parts: BTreeMap<String, Value>,
}

impl Record {
    /// Returns a record of `machine`, without parts.
    pub fn of(machine: Machine) -> Self {
        Self { schema: SCHEMA.to_owned(), machine, parts: BTreeMap::new() }
    }

    /// Adds the results of the part `name`.
    pub fn add(&mut self, name: &str, part: Value) {
        self.parts.insert(name.to_owned(), part);
    }

    /// The committed one, below `root`.
    ///
    /// # Errors
    /// When there is none, or it is of another version of this program.
    pub fn read(root: &Path) -> Result<Self> {
        let path = root.join(RECORD);
        ensure!(
            path.exists(),
            "no run is recorded: `cargo xtask bench --update` writes {}",
            path.display()
        );
        Self::load(&path)
    }

    /// The one in a file.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn load(path: &Path) -> Result<Self> {
        let name = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
        let record: Self =
            serde_json::from_str(&text).with_context(|| format!("{name} is damaged"))?;
        let of = &record.schema;
        ensure!(of == SCHEMA, "{name} is of {of}, not of {SCHEMA}");
        Ok(record)
    }

    pub const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The results of the part `name`.
    ///
    /// # Errors
    /// When the run did not measure it, or another version of this program did.
    pub fn part<P: DeserializeOwned>(&self, name: &str) -> Result<P> {
        serde_json::from_value(self.value(name)?)
            .with_context(|| format!("the record of {name} is damaged"))
    }

    fn value(&self, name: &str) -> Result<Value> {
        let value = self.parts.get(name).cloned();
        value.with_context(|| format!("the record has no {name}: it is not of a full run"))
    }

    /// # Errors
    /// When `path` cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write(path, &(serde_json::to_string_pretty(self)? + "\n"))
    }

    /// Writes the record, the plots and the page below `root`.
    ///
    /// # Errors
    /// When one of `entries` is not in the record or cannot be drawn, the page has no mark for it, or a file
    /// cannot be written.
    pub fn publish(&self, root: &Path, entries: &[Entry]) -> Result<()> {
        // Drawn and filled before anything is written: half a page is worse than an old one.
        let drawn = self.drawn(root, entries)?;
        self.write(&root.join(RECORD))?;
        drawn.write(root)
    }

    /// Writes the plots and the page below `root`, of a record that is there.
    ///
    /// # Errors
    /// As for [`Self::publish`].
    pub fn show(&self, root: &Path, entries: &[Entry]) -> Result<()> {
        self.drawn(root, entries)?.write(root)
    }

    fn drawn(&self, root: &Path, entries: &[Entry]) -> Result<Drawn> {
        let parts = self.parts(entries)?;
        Ok(Drawn { plots: plots(&parts)?, page: self.page(root, &parts)? })
    }

    /// Returns the parts as they were measured, in the order of `entries`.
    fn parts<'a>(&self, entries: &'a [Entry]) -> Result<Vec<(&'a str, Box<dyn Part>)>> {
        let part = |entry: &'a Entry| {
            let part = entry.read(self.value(entry.name)?);
            let read = part.with_context(|| format!("the record of {} is damaged", entry.name))?;
            Ok((entry.name, read))
        };
        entries.iter().map(part).collect()
    }

    /// The page that is below `root`, filled from this record.
    fn page(&self, root: &Path, parts: &[(&str, Box<dyn Part>)]) -> Result<String> {
        let path = root.join(PAGE);
        let page =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        page::filled(&page, &self.measured(parts))
    }

    fn measured(&self, parts: &[(&str, Box<dyn Part>)]) -> Measured {
        let parts: Vec<(&str, &dyn Part)> =
            parts.iter().map(|(name, part)| (*name, part.as_ref())).collect();
        page::measured(&self.machine.list(), &parts)
    }
}

/// The plots and the page, ready to be written.
struct Drawn {
    /// Plots by the name of their file.
    plots: BTreeMap<&'static str, String>,
    page: String,
}

impl Drawn {
    fn write(self, root: &Path) -> Result<()> {
        let directory = root.join(PLOTS);
        if directory.exists() {
            fs::remove_dir_all(&directory)
                .with_context(|| format!("cannot remove {}", directory.display()))?;
        }
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        for (file, plot) in self.plots {
            write(&directory.join(file).with_extension("svg"), &plot)?;
        }
        write(&root.join(PAGE), &self.page)
    }
}

/// Draws the plots, by the name of their file.
fn plots(parts: &[(&str, Box<dyn Part>)]) -> Result<BTreeMap<&'static str, String>> {
    let figures: Vec<_> = parts.iter().flat_map(|(_, part)| part.figures()).collect();
    let names: BTreeSet<_> = figures.iter().map(|figure| figure.file).collect();
    ensure!(names.len() == figures.len(), "two plots go to one file, of {names:?}");
    figures.iter().map(|figure| Ok((figure.file, drawing::svg(figure)?))).collect()
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
