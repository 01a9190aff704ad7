//! Records of runs. The last run of each part stands in the repository as its page shows it, in
//! `testing/record/performance.json`; files that are asked for also hold all rounds.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::ser::{Formatter, Serializer};

use crate::machine::Machine;
use crate::page;
use crate::part::{Goal, Part, Report};

/// Paths below the root of the repository.
const RECORD: &str = "testing/record/performance.json";
const ROUNDS: &str = "target/bench.json";
const PAGE: &str = "docs/evidence/performance.md";
const PLOTS: &str = "docs/evidence/performance";
/// A record of another one is of another program.
const SCHEMA: &str = "tcpguard.bench/2";
/// Nesting depth of the rows of a table.
const ROWS: usize = 7;

/// Results of parts. One run measures a part, and another may have measured another.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(from = "Kept", into = "Kept")]
pub struct Record {
    schema: String,
    parts: Vec<Measured>,
}

/// A part, and the machine and version that it was measured with.
#[derive(Clone, Debug, PartialEq)]
struct Measured {
    machine: Machine,
    report: Report,
}

/// A record as a file: consecutive parts of one machine have it in common.
#[derive(Deserialize, Serialize)]
struct Kept {
    schema: String,
    runs: Vec<Run>,
}

/// Parts that were measured on one machine.
#[derive(Deserialize, Serialize)]
struct Run {
    machine: Machine,
    parts: Vec<Report>,
}

impl From<Kept> for Record {
    fn from(Kept { schema, runs }: Kept) -> Self {
        let of_run = |Run { machine, parts }| {
            let measured = move |report| Measured { machine: Machine::clone(&machine), report };
            parts.into_iter().map(measured)
        };
        Self { schema, parts: runs.into_iter().flat_map(of_run).collect() }
    }
}

impl From<Record> for Kept {
    fn from(Record { schema, parts }: Record) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        for Measured { machine, report } in parts {
            match runs.last_mut().filter(|run| run.machine == machine) {
                Some(run) => run.parts.push(report),
                None => runs.push(Run { machine, parts: vec![report] }),
            }
        }
        Self { schema, runs }
    }
}

impl Record {
    /// Returns a record without parts.
    pub fn new() -> Self {
        Self { schema: SCHEMA.to_owned(), parts: Vec::new() }
    }

    /// Adds the results of a part, with all its rounds.
    ///
    /// # Errors
    /// When they cannot be written as JSON.
    pub fn add<P: Part>(&mut self, machine: &Machine, part: &P) -> Result<&Report> {
        let rounds = serde_json::to_value(part)?;
        let report = Report { rounds, ..part.report() };
        self.parts.push(Measured { machine: machine.clone(), report });
        self.part(P::NAME)
    }

    /// The parts of this record, in place of those in `before`, whose others stay.
    pub fn over(self, before: Self) -> Self {
        let mut all = before;
        for measured in self.parts {
            let name = &measured.report.part;
            match all.parts.iter_mut().find(|it| it.report.part == *name) {
                Some(place) => *place = measured,
                None => all.parts.push(measured),
            }
        }
        all
    }

    /// The committed one, below `root`.
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
    pub fn load(path: &Path) -> Result<Self> {
        let name = path.display();
        let text = fs::read(path).with_context(|| format!("cannot read {name}"))?;
        let record: Self =
            serde_json::from_slice(&text).with_context(|| format!("{name} is damaged"))?;
        let of = &record.schema;
        ensure!(of == SCHEMA, "{name} is of {of}, not of {SCHEMA}");
        Ok(record)
    }

    /// The results of the part `name`.
    pub fn part(&self, name: &str) -> Result<&Report> {
        let part = self.parts.iter().find(|it| it.report.part == name);
        let part =
            part.with_context(|| format!("the record has no {name}: it is not of a full run"))?;
        Ok(&part.report)
    }

    /// The targets of all parts.
    pub fn goals(&self) -> Vec<Goal> {
        self.parts.iter().flat_map(|it| it.report.goals.clone()).collect()
    }

    /// The machines as Markdown: one list, or one for the parts of each run.
    fn machines(&self) -> String {
        let mut runs: Vec<(&Machine, Vec<&str>)> = Vec::new();
        for Measured { machine, report } in &self.parts {
            match runs.iter_mut().find(|(of, _)| *of == machine) {
                Some((_, parts)) => parts.push(&report.part),
                None => runs.push((machine, vec![&report.part])),
            }
        }
        match runs.as_slice() {
            [(machine, _)] => machine.list(),
            runs => {
                let list = |(machine, parts): &(&Machine, Vec<&str>)| {
                    let noun = if parts.len() == 1 { "Part" } else { "Parts" };
                    format!("{noun} {}:\n\n{}", parts.join(", "), machine.list())
                };
                runs.iter().map(list).collect::<Vec<_>>().join("\n")
            }
        }
    }

    fn reports(&self) -> Vec<Report> {
        self.parts.iter().map(|it| it.report.clone()).collect()
    }

    /// The record as it is kept: without all that was measured in each round.
    fn without_rounds(&self) -> Self {
        let mut kept = self.clone();
        kept.parts.iter_mut().for_each(|measured| drop(measured.report.rounds.take()));
        kept
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        write(path, self.json()?)
    }

    fn json(&self) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        self.serialize(&mut Serializer::with_formatter(&mut text, Lines { depth: 0 }))?;
        text.push(b'\n');
        Ok(text)
    }

    /// Writes the record, the plots and the page below `root`, and all rounds below its `target`.
    ///
    /// # Errors
    /// When the page has no mark for a part, or one for another, or a file cannot be written.
    pub fn publish(&self, root: &Path) -> Result<()> {
        // What is shown is what is kept, digit by digit.
        let kept: Self = serde_json::from_slice(&self.without_rounds().json()?)?;
        // Filled before anything is written: half a page is worse than an old one.
        let page = kept.page(root)?;
        self.write(&root.join(ROUNDS))?;
        kept.write(&root.join(RECORD))?;
        kept.draw(root, page)
    }

    /// Writes the plots and the page below `root`, of a record that is there.
    pub fn show(&self, root: &Path) -> Result<()> {
        self.draw(root, self.page(root)?)
    }

    /// The page that is below `root`, filled from this record.
    fn page(&self, root: &Path) -> Result<String> {
        let path = root.join(PAGE);
        let page =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        page::filled(&page, &page::measured(&self.machines(), &self.reports()))
    }

    fn draw(&self, root: &Path, page: String) -> Result<()> {
        let directory = root.join(PLOTS);
        if directory.exists() {
            fs::remove_dir_all(&directory)
                .with_context(|| format!("cannot remove {}", directory.display()))?;
        }
        for (file, plot) in page::plots(&self.reports()) {
            write(&directory.join(file).with_extension("svg"), plot)?;
        }
        write(&root.join(PAGE), page)
    }
}

/// Prints what a part found alone, and writes it to `json` with all its rounds.
pub fn print_and_write(part: &impl Part, json: Option<&Path>) -> Result<()> {
    let mut record = Record::new();
    println!("\n{}", page::text(record.add(&Machine::here()?, part)?));
    if let Some(path) = json {
        record.write(path)?;
    }
    Ok(())
}

fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
    }
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

/// JSON in which the elements of a list begin a line, down to the rows of a table, so that changes of it can be read,
/// with as many digits as a measurement bears.
struct Lines {
    depth: usize,
}

impl Formatter for Lines {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let rounded: f64 = format!("{value:.3e}").parse().unwrap_or(value);
        write!(writer, "{rounded}")
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        writer.write_all(b"[")
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        let comma: &[u8] = if first { b"" } else { b"," };
        writer.write_all(comma)?;
        if self.depth <= ROWS { writer.write_all(b"\n") } else { Ok(()) }
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        writer.write_all(b"]")
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        writer.write_all(b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        writer.write_all(b"}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_the_record() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let page = Record::read(&root).and_then(|record| record.page(&root)).expect("a page");
        let shown = fs::read_to_string(root.join(PAGE)).expect("it was read");
        assert_eq!(page, shown, "cargo xtask bench page");
    }
}
