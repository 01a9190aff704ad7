//! The figures that are held, each by its name.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use object::{File, Object as _, ObjectSection as _, ObjectSegment as _, SectionKind};
use tcpguard_common::abi::maps;

use super::{footprint, stack};
use crate::{vm, workspace::Workspace};

/// The quantity that a figure counts, by which it is also named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The most that a verifier of a recorded kernel walked.
    Instructions,
    /// Bytes of the deepest chain of calls.
    Stack,
    /// Bytes of an object or of a section of it.
    Object,
    /// Bytes of all maps.
    Maps,
    /// Bytes that are loaded of the packaged program.
    Program,
}

impl Kind {
    /// Growth over the budget that is allowed at first, in percent: compilers of another patch level move
    /// programs by a little, and maps not at all.
    pub fn growth(self) -> u64 {
        match self {
            Self::Instructions => 20,
            Self::Stack => 10,
            Self::Object | Self::Program => 5,
            Self::Maps => 0,
        }
    }

    pub fn unit(self) -> &'static str {
        match self {
            Self::Instructions => "instructions",
            Self::Stack | Self::Object | Self::Maps | Self::Program => "bytes",
        }
    }
}

/// Kind and value of each figure, by name.
pub type Figures = BTreeMap<String, (Kind, u64)>;

/// The objects that tcpguard ships. The others belong to the test kit, and their weight does not
/// matter.
const CARRIED: [&str; 3] = ["tcpguard-ebpf", "tcpguard-ebpf-log", "cookie"];
/// CPUs of the hosts for which the size of all maps is held.
const HOSTS: [usize; 3] = [2, 16, 128];

/// Figures of `objects`, of the verifiers' recorded costs for them, and of the maps.
///
/// # Errors
/// When an object or the record of `cargo xtask vm` cannot be read.
pub fn of_objects(workspace: &Workspace, objects: &[PathBuf]) -> Result<Figures> {
    let mut figures = Figures::new();
    for path in objects {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        if CARRIED.contains(&name.as_ref()) {
            let bytes = read(path)?;
            let of_object = of_object(&name, &bytes);
            figures.extend(of_object.with_context(|| format!("cannot weigh {}", path.display()))?);
        }
    }
    for kernel in vm::record::read(workspace)?.kernels {
        for (program, cost) in kernel.costs {
            let carried = program.split_once('/').is_some_and(|(name, _)| CARRIED.contains(&name));
            if let (true, Ok(cost)) = (carried, cost) {
                let figure = figures
                    .entry(format!("{program}, verified"))
                    .or_insert((Kind::Instructions, 0));
                figure.1 = figure.1.max(cost);
            }
        }
    }
    for cpus in HOSTS {
        let bytes = footprint::map_bytes(cpus, maps::RULES) as u64;
        figures.insert(format!("all maps, {cpus} CPUs"), (Kind::Maps, bytes));
    }
    Ok(figures)
}

/// Returns the figures of the packaged program.
pub fn of_program(path: &Path) -> Result<Figures> {
    let bytes = read(path)?;
    let program = File::parse(bytes.as_slice())
        .with_context(|| format!("cannot weigh {}", path.display()))?;
    // Symbols are taken out when it is packed.
    let bytes = program.segments().map(|segment| segment.file_range().1).sum();
    Ok(Figures::from([("tcpguard, packaged".to_owned(), (Kind::Program, bytes))]))
}

fn of_object(name: &str, bytes: &[u8]) -> Result<Figures> {
    let mut figures = Figures::new();
    figures.insert(format!("{name}.o"), (Kind::Object, bytes.len() as u64));
    let object = File::parse(bytes)?;
    for section in object.sections().filter(|section| section.kind() == SectionKind::Text) {
        let title = format!("{name}.o, section {}", section.name()?);
        figures.insert(title, (Kind::Object, section.size()));
    }
    for (program, depth) in stack::depths(&object)? {
        figures.insert(format!("{name}/{program}, stack"), (Kind::Stack, depth));
    }
    Ok(figures)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
