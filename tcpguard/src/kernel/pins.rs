//! Where links are pinned, so that the filter outlives the agent.
//!
//! `<pin dir>/v<ABI version>-<netns cookie>/links/<ifindex>-<name>` holds the XDP link of an
//! interface, `…/egress/<ifindex>-<name>` its TCX link, `…/redeem/<ifindex>-<name>` that of the
//! program that takes cookies back, `…/tracepoints/<name>` the link at the tracepoint, and
//! `…/maps/<name>` the maps that all programs and the next agent share. The cookie is there because several network namespaces may
//! share one bpffs, and an interface of another one may have the same index and name.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use tcpguard_common::ABI_VERSION;

use super::attach::remove_filter;
use super::{KernelError, syscall};
use crate::host::{interfaces, netns};

/// `BPF_FS_MAGIC` of the kernel's `magic.h`.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// Directories of the links.
const KINDS: [&str; 3] = ["links", "egress", "redeem"];
/// Directory of the link at the tracepoint, which belongs to no interface.
const TRACEPOINTS: &str = "tracepoints";
/// Directory of the maps.
const MAPS: &str = "maps";

/// What agents of one version of the layout have pinned in one network namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layout {
    /// Version of the layout.
    pub version: u32,
    /// Cookie of the network namespace.
    pub netns: u64,
    /// Interfaces with a link pinned, by name.
    pub interfaces: Vec<String>,
}

/// The pins of one agent, and the lock that keeps a second one off them.
#[derive(Debug)]
pub struct Pins {
    root: PathBuf,
    _lock: fs::File,
}

impl Pins {
    /// Pins below `dir`, which is created if need be.
    ///
    /// # Errors
    /// When it cannot be, is not on a bpffs, another agent uses it, or the kernel does not tell which
    /// namespace this is.
    pub fn open(dir: &Path) -> Result<Self, KernelError> {
        let pin = |what, path: &Path| {
            let path = path.to_owned();
            move |error| KernelError::Pin { what, path, error }
        };
        let parent = dir.ancestors().find(|path| path.exists()).unwrap_or(dir);
        if !is_bpffs(parent).map_err(pin("look at", parent))? {
            return Err(KernelError::NoBpffs { path: dir.to_owned() });
        }
        let root = dir.join(format!("v{ABI_VERSION}-{}", netns::cookie()?));
        for kind in KINDS.iter().chain([&TRACEPOINTS, &MAPS]) {
            let path = root.join(kind);
            fs::create_dir_all(&path).map_err(pin("create", &path))?;
        }
        let lock = fs::File::open(&root).map_err(pin("open", &root))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { root, _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => Err(KernelError::Locked { path: root }),
            Err(fs::TryLockError::Error(error)) => Err(pin("lock", &root)(error)),
        }
    }

    /// Where the maps are pinned.
    pub fn maps(&self) -> PathBuf {
        self.root.join(MAPS)
    }

    /// Removes the pins of all `maps`, which then live as long as programs and agents use them.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn forget_maps(maps: &Path) -> Result<(), KernelError> {
        remove_all(maps)
    }

    /// Index of each interface on which a filter of an earlier agent still hangs, and what the
    /// configuration called it then. It may be called otherwise by now.
    pub fn followed(&self) -> Vec<(u32, String)> {
        let pins = entries(&self.root.join("links")).into_iter();
        let index_and_name = |pin: PathBuf| {
            let (_, name) = pin.file_name()?.to_str()?.split_once('-')?;
            Some((hangs_on(&pin)?, name.to_owned()))
        };
        pins.filter_map(index_and_name).collect()
    }

    pub(super) fn ingress(&self, ifindex: u32, name: &str) -> PathBuf {
        self.root.join("links").join(format!("{ifindex}-{name}"))
    }

    pub(super) fn tracepoint(&self) -> PathBuf {
        self.root.join(TRACEPOINTS).join("inet_sock_set_state")
    }

    pub(super) fn redeem(&self, ifindex: u32, name: &str) -> PathBuf {
        self.root.join("redeem").join(format!("{ifindex}-{name}"))
    }

    pub(super) fn egress(&self, ifindex: u32, name: &str) -> PathBuf {
        self.root.join("egress").join(format!("{ifindex}-{name}"))
    }
}

/// Takes the programs off the interfaces that are `wanted` (off all when empty) of this network namespace, whatever
/// layout version pinned them below `dir`, and removes their pins. Returns the names of the
/// interfaces. An agent that still runs attaches them again unless it has been told.
///
/// # Errors
/// When a link cannot be detached or a pin cannot be removed.
pub fn detach(dir: &Path, wanted: &[String]) -> Result<Vec<String>, KernelError> {
    let mut names: Vec<String> = Vec::new();
    let cookie = netns::cookie()?;
    let all = interfaces::list().unwrap_or_default();
    for (pinned_as, pin) in pins(dir, cookie) {
        let index = hangs_on(&pin);
        let now = all.iter().find(|one| Some(one.index) == index).map(|one| one.name.clone());
        let name = now.unwrap_or_else(|| pinned_as.clone());
        // By either name: it may have been renamed since it was pinned.
        if !wanted.is_empty() && !wanted.contains(&name) && !wanted.contains(&pinned_as) {
            continue;
        }
        detach_pin(&pin)?;
        if !names.contains(&name) {
            remove_filter(&name);
            names.push(name);
        }
    }
    if pins(dir, cookie).is_empty() {
        // Nothing uses them any more.
        for layout in layouts(dir).into_iter().filter(|layout| layout.netns == cookie) {
            remove_all(&layout.below(dir).join(TRACEPOINTS))?;
            remove_all(&layout.below(dir).join(MAPS))?;
        }
    }
    Ok(names)
}

fn remove_all(dir: &Path) -> Result<(), KernelError> {
    for path in entries(dir) {
        fs::remove_file(&path).map_err(|error| KernelError::Pin { what: "remove", path, error })?;
    }
    Ok(())
}

/// Interfaces of this network namespace with a link pinned below `dir`, as far as can be seen.
pub fn pinned(dir: &Path) -> Vec<String> {
    let Ok(cookie) = netns::cookie() else { return Vec::new() };
    let mut names: Vec<String> = pins(dir, cookie).into_iter().map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    names
}

/// Index of the interface on which a pinned link hangs, if it does.
fn hangs_on(pin: &Path) -> Option<u32> {
    let link = syscall::open_pin(pin).ok()?;
    let state = syscall::link_state(link.as_fd()).ok()?;
    Some(state.ifindex).filter(|index| *index != 0)
}

fn detach_pin(pin: &Path) -> Result<(), KernelError> {
    let failed = |what| move |error| KernelError::Pin { what, path: pin.to_owned(), error };
    // Unpinning alone would not do: an agent may hold the link as well.
    let link = syscall::open_pin(pin).map_err(failed("open"))?;
    syscall::detach_link(link.as_fd()).map_err(failed("detach the link pinned at"))?;
    fs::remove_file(pin).map_err(failed("remove"))
}

/// Whether this is on a BPF file system.
///
/// # Errors
/// When it may not be looked at.
pub fn is_bpffs(path: &Path) -> io::Result<bool> {
    Ok(rustix::fs::statfs(path)?.f_type as u64 == BPF_FS_MAGIC)
}

/// What is pinned below `dir`, as far as can be seen, by version of the layout and network namespace.
pub fn layouts(dir: &Path) -> Vec<Layout> {
    let mut found: Vec<Layout> = entries(dir).iter().filter_map(|path| Layout::at(path)).collect();
    found.sort_by_key(|layout| (layout.version, layout.netns));
    found
}

impl Layout {
    fn at(path: &Path) -> Option<Self> {
        let (version, netns) = path.file_name()?.to_str()?.strip_prefix('v')?.split_once('-')?;
        let (version, netns) = (version.parse().ok()?, netns.parse().ok()?);
        let mut interfaces: Vec<String> = links(path).into_iter().map(|(name, _)| name).collect();
        interfaces.sort();
        interfaces.dedup();
        Some(Self { version, netns, interfaces })
    }

    fn below(&self, dir: &Path) -> PathBuf {
        dir.join(format!("v{}-{}", self.version, self.netns))
    }
}

/// Interface name and path of each pin below `dir` of the namespace with this cookie.
fn pins(dir: &Path, cookie: u64) -> Vec<(String, PathBuf)> {
    let ours = layouts(dir).into_iter().filter(|layout| layout.netns == cookie);
    ours.flat_map(|layout| links(&layout.below(dir))).collect()
}

/// Interface name and path of each pin in the directory of a layout.
fn links(layout: &Path) -> Vec<(String, PathBuf)> {
    let pins = KINDS.iter().flat_map(|kind| entries(&layout.join(kind)));
    pins.filter_map(|pin| {
        let (_, name) = pin.file_name()?.to_str()?.split_once('-')?;
        Some((name.to_owned(), pin))
    })
    .collect()
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with these pins.
    fn with(pins: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("temporary directory");
        for pin in pins {
            let path = dir.path().join(pin);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
            fs::write(path, "").expect("file");
        }
        dir
    }

    #[test]
    fn pins_are_known_by_version_and_namespace() {
        let dir = with(&[
            "v1-7/links/2-eth0",
            "v1-7/egress/2-eth0",
            "v0-7/links/3-eth-1",
            "v1-8/maps/X",
            "other/links/2-eth9",
            "v-7/links/2-eth9",
            "vx-7/links/2-eth9",
            "v1-/links/2-eth9",
        ]);
        let layout = |version, netns, interfaces: &[&str]| Layout {
            version,
            netns,
            interfaces: interfaces.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert_eq!(
            layouts(dir.path()),
            [layout(0, 7, &["eth-1"]), layout(1, 7, &["eth0"]), layout(1, 8, &[])]
        );
        assert_eq!(layouts(&dir.path().join("not/there")), []);
    }

    #[test]
    fn pins_of_other_network_namespaces_are_not_ours() {
        let dir = with(&[
            "v1-7/links/2-eth0",
            "v1-7/egress/2-eth0",
            "v2-7/links/3-eth-1",
            "v1-8/links/2-eth9",
            "v1-77/links/2-eth9",
            "other-7/links/2-eth9",
        ]);
        let found: Vec<_> = pins(dir.path(), 7)
            .into_iter()
            .map(|(name, pin)| {
                let pin = pin.strip_prefix(dir.path()).expect("below").display().to_string();
                (name, pin)
            })
            .collect();
        let expected = [
            ("eth0", "v1-7/links/2-eth0"),
            ("eth0", "v1-7/egress/2-eth0"),
            ("eth-1", "v2-7/links/3-eth-1"),
        ];
        assert_eq!(found, expected.map(|(name, pin)| (name.to_owned(), pin.to_owned())));
    }
}
