//! The way out: programs are taken off, whichever agent put them on.

use std::os::fd::AsFd;
use std::path::Path;
use std::{fs, io};

use tcpguard_host::linux::{Interface, interfaces, netns};

use super::layouts::{LinkPin, MAPS, TRACEPOINTS, links, of_namespace};
use super::{Pins, remove_all};
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

    /// Removes the egress programs at clsact, which have no pins, from those of the interfaces `there` that were
    /// detached and that `is_meant` selects by index.
    fn remove_filters(&self, there: &[Interface], is_meant: impl Fn(u32) -> bool) {
        let of_it = |one: &&Interface| is_meant(one.index) && self.interfaces.contains(&one.name);
        there.iter().filter(of_it).for_each(|one| remove_filter(&one.name));
    }
}

/// Detaches the programs from the interfaces that are `wanted` (from all when empty) of this network namespace,
/// whatever layout version pinned them below `dir`, and removes their pins. An interface goes by the name that
/// it has and by the one that it was pinned under. A failure does not stop the detachment of the others. An
/// agent that still runs attaches them again unless it was asked to detach them too.
pub fn detach(dir: &Path, wanted: &[String]) -> Result<Detached, KernelError> {
    let netns = netns::cookie()?;
    let layouts = of_namespace(dir, netns);
    let there = interfaces::list().unwrap_or_default();
    let is_meant = |pin: &LinkPin, on: Option<&Interface>| {
        wanted.is_empty()
            || wanted.contains(&pin.name)
            || on.is_some_and(|one| wanted.contains(&one.name))
    };
    let mut all = detach_each(layouts.iter().flat_map(|layout| links(layout)), &there, is_meant);
    all.interfaces.iter().for_each(|name| remove_filter(name));
    if layouts.iter().all(|layout| links(layout).is_empty()) {
        // They are no longer used.
        for directory in
            layouts.iter().flat_map(|layout| [TRACEPOINTS, MAPS].map(|at| layout.join(at)))
        {
            all.left.extend(remove_all(&directory).err());
        }
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

    /// Detaches the programs that an earlier agent, of whatever layout, left on the interfaces that `is_meant` selects by
    /// index, and removes their pins. Everything is tried.
    pub fn detach_from(&self, is_meant: impl Fn(u32) -> bool) -> Detached {
        let Ok(there) = interfaces::list() else { return Detached::default() };
        let layouts = std::iter::once(self.root.clone()).chain(self.others());
        let on = |_: &LinkPin, on: Option<&Interface>| on.is_some_and(|one| is_meant(one.index));
        let all = detach_each(layouts.flat_map(|layout| links(&layout)), &there, on);
        all.remove_filters(&there, is_meant);
        all
    }

    /// Detaches the programs that an earlier agent of this layout left on interfaces other than those with the indices
    /// `kept`, and removes their pins. Those of an interface that is missing now stay if it was pinned under one of
    /// `names`. Everything is tried.
    pub fn detach_unwanted(&self, names: &[String], kept: &[u32]) -> Detached {
        let Ok(there) = interfaces::list() else { return Detached::default() };
        let meant = |pin: &LinkPin, on: Option<&Interface>| {
            is_unwanted(pin, on.map(|one| one.index), names, kept)
        };
        let all = detach_each(links(&self.root).into_iter(), &there, meant);
        all.remove_filters(&there, |index| !kept.contains(&index));
        all
    }
}

/// Returns whether a link is of no use to an agent that is configured for `names` and keeps the interfaces with the
/// indices `kept`. The link hangs `on` the interface with this index; `None`: on none that exists here.
fn is_unwanted(pin: &LinkPin, on: Option<u32>, names: &[String], kept: &[u32]) -> bool {
    match on {
        Some(index) => !kept.contains(&index),
        None => !names.contains(&pin.name),
    }
}

/// Detaches the links that are pinned at those of `pins` that `is_meant` selects: by the pin, and by the one of the
/// interfaces `there` on which its link hangs, if it does.
fn detach_each(
    pins: impl Iterator<Item = LinkPin>,
    there: &[Interface],
    is_meant: impl Fn(&LinkPin, Option<&Interface>) -> bool,
) -> Detached {
    let mut all = Detached::default();
    for pin in pins {
        let index = pin.hangs_on();
        let on = there.iter().find(|one| Some(one.index) == index);
        if is_meant(&pin, on) {
            let name = on.map_or(&pin.name, |one| &one.name).clone();
            all.note(detach_others(&pin), name);
        }
    }
    all
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_unwanted_by_its_interface_and_without_one_by_its_name() {
        let names = ["eth0".to_owned(), "eth1".to_owned()];
        let unwanted = |name: &str, on| {
            let pin = LinkPin { ifindex: 2, name: name.to_owned(), path: "2".into() };
            is_unwanted(&pin, on, &names, &[2, 5])
        };
        assert!(!unwanted("eth0", Some(2)));
        assert!(unwanted("br0", Some(7)), "it is no longer configured");
        assert!(!unwanted("lan0", Some(5)), "configured by the name that it has now");
        assert!(unwanted("eth0", Some(7)), "pinned under the name of another one");
        assert!(!unwanted("eth1", None), "configured, and missing now");
        assert!(unwanted("br0", None), "deleted");
    }
}
