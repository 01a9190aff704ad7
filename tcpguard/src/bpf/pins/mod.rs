//! Pins of the links, by which the XDP program outlives the agent and the next agent finds them: one of the
//! same layout, or of an earlier or a later one.

mod carried;
mod detach;
mod ended;
mod layouts;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use layouts::{LinkPin, MAPS, TRACEPOINTS, entries, links, links_of, of_namespace};
use tcpguard_host::linux::{container, netns};

use super::KernelError;
pub use carried::CarriedRules;
pub use detach::{Detached, detach, pinned};
pub(super) use layouts::Kind;
pub use layouts::{Layout, Usage, layouts};

/// Directory of the pins when the command line names no other directory.
pub const PIN_DIR: &str = "/sys/fs/bpf/tcpguard";
/// Directory of next programs in that of the pins. Administrators pin them there, for agents of every layout.
const NEXT_PROGRAMS: &str = "next";
/// `BPF_FS_MAGIC` of the kernel's `magic.h`.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
/// Name of the link at the tracepoint.
const ESTABLISHED: &str = "inet_sock_set_state";

/// The pins of one agent, and the lock that keeps a second one off them.
#[derive(Debug)]
pub struct Pins {
    dir: PathBuf,
    root: PathBuf,
    version: u32,
    netns: u64,
    _locks: Vec<fs::File>,
}

impl Layout {
    /// Returns the directory of its pins below `dir`.
    pub fn path(&self, dir: &Path) -> PathBuf {
        layouts::directory(dir, self.version, self.netns)
    }
}

impl Pins {
    /// Pins of maps with capacity for `rules` rules below `dir`, which is created if need be.
    ///
    /// # Errors
    /// When it cannot be, is not on a bpffs, another agent runs in this network namespace, or the kernel does
    /// not report which one this is.
    pub fn open(dir: &Path, rules: u32) -> Result<Self, KernelError> {
        let pin = |what, path: &Path| {
            let path = path.to_owned();
            move |error| KernelError::Pin { what, path, error }
        };
        let parent = dir.ancestors().find(|path| path.exists()).unwrap_or(dir);
        if !is_bpffs(parent).map_err(pin("look at", parent))? {
            let container = container::is_container();
            return Err(KernelError::NoBpffs { path: dir.to_owned(), container });
        }
        let netns = netns::cookie()?;
        let version = layouts::version(rules);
        let root = layouts::directory(dir, version, netns);
        let kinds = Kind::ALL.iter().map(|kind| kind.directory());
        let of_layout = kinds.chain([TRACEPOINTS, MAPS]).map(|name| root.join(name));
        for path in of_layout.chain([dir.join(NEXT_PROGRAMS)]) {
            // A process that can reach a pin can detach the XDP program.
            let mut private = fs::DirBuilder::new();
            private.recursive(true).mode(0o700);
            private.create(&path).map_err(pin("create", &path))?;
        }
        // Its own first: of two that start at once with different layouts, at most one goes on.
        let mut locks = vec![lock(&root)?];
        for other in others(dir, netns, &root) {
            locks.push(lock(&other)?);
        }
        Ok(Self { dir: dir.to_owned(), root, version, netns, _locks: locks })
    }

    /// Returns the directory in which the maps are pinned.
    pub fn maps(&self) -> PathBuf {
        self.root.join(MAPS)
    }

    /// Removes the pins of all `maps`, which then live as long as programs and agents use them.
    pub fn forget_maps(maps: &Path) -> Result<(), KernelError> {
        remove_all(maps)
    }

    /// Removes the pins of all `maps`, unless a program with a pinned link uses them.
    pub fn forget_unused_maps(maps: &Path) -> Result<(), KernelError> {
        match maps.parent() {
            Some(layout) if links(layout).is_empty() => remove_all(maps),
            _ => Ok(()),
        }
    }

    /// Removes the pins of the maps that agents of other layouts left, and takes their programs off
    /// the tracepoint: an agent of such a layout must not find rules in them that have gone since.
    pub fn forget_maps_of_others(&self) -> Result<(), KernelError> {
        for layout in self.others() {
            remove_all(&layout.join(TRACEPOINTS))?;
            remove_all(&layout.join(MAPS))?;
        }
        Ok(())
    }

    /// Index of each interface to which an XDP program of an earlier agent is still attached, of whatever layout,
    /// and its name in the configuration then. It may have another name by now.
    pub fn followed(&self) -> Vec<(u32, String)> {
        let layouts = std::iter::once(self.root.clone()).chain(self.others());
        layouts
            .flat_map(|layout| links_of(&layout, Kind::Ingress))
            .filter_map(|pin| Some((pin.hangs_on()?, pin.name)))
            .collect()
    }

    /// Returns the path at which the link of an interface is pinned.
    pub(super) fn link(&self, kind: Kind, ifindex: u32, name: &str) -> PathBuf {
        self.root.join(kind.directory()).join(LinkPin::file_name(ifindex, name))
    }

    /// Returns the paths at which links of the interface with this index are pinned, whatever its name was:
    /// first by an agent of this layout, then by those of others.
    pub(super) fn inherited(&self, kind: Kind, ifindex: u32) -> Vec<PathBuf> {
        inherited(&self.dir, self.netns, &self.root, kind, ifindex)
    }

    /// Returns the path at which a next program is pinned under `name`.
    pub(super) fn next_program(&self, name: &str) -> PathBuf {
        self.dir.join(NEXT_PROGRAMS).join(name)
    }

    pub(super) fn tracepoint(&self) -> PathBuf {
        self.root.join(TRACEPOINTS).join(ESTABLISHED)
    }

    /// The directories of other layouts of this network namespace.
    fn others(&self) -> Vec<PathBuf> {
        others(&self.dir, self.netns, &self.root)
    }
}

fn others(dir: &Path, netns: u64, own: &Path) -> Vec<PathBuf> {
    of_namespace(dir, netns).into_iter().filter(|layout| layout != own).collect()
}

fn inherited(dir: &Path, netns: u64, own: &Path, kind: Kind, ifindex: u32) -> Vec<PathBuf> {
    let all = std::iter::once(own.to_owned()).chain(others(dir, netns, own));
    all.flat_map(|layout| links_of(&layout, kind))
        .filter(|pin| pin.ifindex == ifindex)
        .map(|pin| pin.path)
        .collect()
}

/// The lock of the agents of one layout. An agent that protects the namespace holds the lock of every
/// layout in it: of two agents that differ in the layout only one may run, too.
fn lock(layout: &Path) -> Result<fs::File, KernelError> {
    let path = || layout.to_owned();
    let failed = |what| move |error| KernelError::Pin { what, path: path(), error };
    let file = fs::File::open(layout).map_err(failed("open"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(KernelError::Locked { path: path() }),
        Err(fs::TryLockError::Error(error)) => Err(failed("lock")(error)),
    }
}

fn remove_all(dir: &Path) -> Result<(), KernelError> {
    for path in entries(dir) {
        fs::remove_file(&path).map_err(|error| KernelError::Pin { what: "remove", path, error })?;
    }
    Ok(())
}

/// Returns whether this is on a BPF file system.
///
/// # Errors
/// When it may not be looked at.
pub fn is_bpffs(path: &Path) -> io::Result<bool> {
    Ok(rustix::fs::statfs(path)?.f_type as u64 == BPF_FS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use layouts::tests::with;

    #[test]
    fn links_of_an_interface_are_found_in_every_layout_of_the_namespace_ours_first() {
        let dir = with(&[
            "v2-7/links/2-eth0",
            "v1-7/links/2-eth0",
            "v3-7/links/2-wan0",
            "v3-7/egress/2-eth0",
            "v1-7/links/22-eth0",
            "v1-8/links/2-eth0",
        ]);
        let own = dir.path().join("v2-7");
        let found = inherited(dir.path(), 7, &own, Kind::Ingress, 2);
        let expected = ["v2-7/links/2-eth0", "v1-7/links/2-eth0", "v3-7/links/2-wan0"];
        assert_eq!(found, expected.map(|path| dir.path().join(path)));
        let found = inherited(dir.path(), 7, &own, Kind::Egress, 2);
        assert_eq!(found, [dir.path().join("v3-7/egress/2-eth0")]);
    }

    #[test]
    fn maps_are_forgotten_only_where_no_link_uses_them() {
        let dir = with(&["v1-7/links/2-eth0", "v1-7/maps/X", "v2-7/maps/X"]);
        for (maps, left) in [("v1-7/maps", true), ("v2-7/maps", false)] {
            Pins::forget_unused_maps(&dir.path().join(maps)).expect("removed");
            assert_eq!(dir.path().join(maps).join("X").exists(), left, "{maps}");
        }
    }

    #[test]
    fn a_lock_is_held_once() {
        let dir = with(&[]);
        let held = lock(dir.path()).expect("free");
        assert!(matches!(lock(dir.path()), Err(KernelError::Locked { .. })));
        drop(held);
        lock(dir.path()).expect("free again");
    }
}
