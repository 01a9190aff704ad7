//! The way out: programs are taken off, whichever agent put them on.

use std::os::fd::AsFd;
use std::path::Path;
use std::{fs, io};

use tcpguard_host::linux::{interfaces, netns};

use super::layouts::{LinkPin, MAPS, TRACEPOINTS, links, of_namespace};
use super::{Pins, handover_record, remove_all};
use crate::bpf::attach::remove_filter;
use crate::bpf::{KernelError, syscall};

/// The result of a detachment.
#[derive(Debug, Default)]
pub struct Detached {
    /// Names of the interfaces.
    pub interfaces: Vec<String>,
    /// The programs that could not be detached, or the pins that could not be removed; each error names
    /// its path.
    pub left: Vec<KernelError>,
}

impl Detached {
    /// Records the outcome for a link on this interface.
    fn note(&mut self, outcome: Result<(), KernelError>, interface: String) {
        match outcome {
            Ok(()) if self.interfaces.contains(&interface) => {}
            Ok(()) => self.interfaces.push(interface),
            Err(error) => self.left.push(error),
        }
    }
}

/// Detaches the programs from the interfaces that are `wanted` (from all when empty) of this network namespace,
/// whatever layout version pinned them below `dir`, and removes their pins. An interface goes by the name that
/// it has and by the one that it was pinned under. A failure does not stop the detachment of the others. An
/// agent that still runs attaches them again unless it was asked to detach them too.
pub fn detach(dir: &Path, wanted: &[String]) -> Result<Detached, KernelError> {
    let mut all = Detached::default();
    let netns = netns::cookie()?;
    let layouts = of_namespace(dir, netns);
    let there = interfaces::list().unwrap_or_default();
    for pin in layouts.iter().flat_map(|layout| links(layout)) {
        let index = pin.hangs_on();
        let now = there.iter().find(|one| Some(one.index) == index).map(|one| one.name.clone());
        let name = now.unwrap_or_else(|| pin.name.clone());
        if !wanted.is_empty() && !wanted.contains(&name) && !wanted.contains(&pin.name) {
            continue;
        }
        all.note(detach_others(&pin), name);
    }
    all.interfaces.iter().for_each(|name| remove_filter(name));
    if layouts.iter().all(|layout| links(layout).is_empty()) {
        // They are no longer used.
        for directory in
            layouts.iter().flat_map(|layout| [TRACEPOINTS, MAPS].map(|at| layout.join(at)))
        {
            all.left.extend(remove_all(&directory).err());
        }
        all.left.extend(handover_record::remove(dir, netns).err());
    }
    Ok(all)
}

/// Interfaces of this network namespace with a link pinned below `dir`, as far as can be seen.
pub fn pinned(dir: &Path) -> Vec<String> {
    let Ok(cookie) = netns::cookie() else { return Vec::new() };
    let layouts = of_namespace(dir, cookie);
    let mut names: Vec<String> =
        layouts.iter().flat_map(|layout| links(layout)).map(|pin| pin.name).collect();
    names.sort();
    names.dedup();
    names
}

impl Pins {
    /// Detaches the programs that agents of other layouts left and that this one has no use for, and
    /// removes their pins. Everything is tried.
    pub fn detach_other_interfaces(&self) -> Detached {
        let mut all = Detached::default();
        for pin in self.others().iter().flat_map(|layout| links(layout)) {
            all.note(detach_others(&pin), pin.name);
        }
        all
    }
}

fn detach_others(pin: &LinkPin) -> Result<(), KernelError> {
    let failed = |what| move |error| KernelError::Pin { what, path: pin.path.clone(), error };
    // Unpinning alone would not do: an agent may hold the link as well.
    match syscall::open_pin(&pin.path) {
        Ok(link) => {
            syscall::detach_link(link.as_fd()).map_err(failed("detach the link pinned at"))?
        }
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("open")(error)),
    }
    fs::remove_file(&pin.path).map_err(failed("remove"))
}
