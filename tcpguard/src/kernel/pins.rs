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
use crate::host::netns;

/// `BPF_FS_MAGIC` of the kernel's `magic.h`.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// Directories of the links.
const KINDS: [&str; 3] = ["links", "egress", "redeem"];
/// Directory of the link at the tracepoint, which belongs to no interface.
const TRACEPOINTS: &str = "tracepoints";
/// Directory of the maps.
const MAPS: &str = "maps";

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
        let stat = rustix::fs::statfs(parent)
            .map_err(|error| pin("look at", parent)(io::Error::from(error)))?;
        if stat.f_type as u64 != BPF_FS_MAGIC {
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

/// Takes the programs off `interfaces` (off all when empty) of this network namespace, whatever
/// layout version pinned them below `dir`, and removes their pins. Returns the names of the
/// interfaces. An agent that still runs attaches them again unless it has been told.
///
/// # Errors
/// When a link cannot be detached or a pin cannot be removed.
pub fn detach(dir: &Path, interfaces: &[String]) -> Result<Vec<String>, KernelError> {
    let mut names: Vec<String> = Vec::new();
    let cookie = netns::cookie()?;
    for (name, pin) in pins(dir, cookie) {
        if !interfaces.is_empty() && !interfaces.contains(&name) {
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
        for layout in layouts(dir, cookie) {
            remove_all(&layout.join(TRACEPOINTS))?;
            remove_all(&layout.join(MAPS))?;
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

fn detach_pin(pin: &Path) -> Result<(), KernelError> {
    let failed = |what| move |error| KernelError::Pin { what, path: pin.to_owned(), error };
    // Unpinning alone would not do: an agent may hold the link as well.
    let link = syscall::open_pin(pin).map_err(failed("open"))?;
    syscall::detach_link(link.as_fd()).map_err(failed("detach the link pinned at"))?;
    fs::remove_file(pin).map_err(failed("remove"))
}

/// Interface name and path of each pin below `dir` of the namespace with this cookie.
fn pins(dir: &Path, cookie: u64) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for layout in layouts(dir, cookie) {
        for pin in KINDS.iter().flat_map(|kind| entries(&layout.join(kind))) {
            let name = pin.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Some((_, name)) = name.split_once('-') {
                found.push((name.to_owned(), pin));
            }
        }
    }
    found
}

/// The directories of the namespace with this cookie, one for each layout version.
fn layouts(dir: &Path, cookie: u64) -> Vec<PathBuf> {
    let ours = |layout: &PathBuf| {
        let name = layout.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_prefix('v').and_then(|name| name.split_once('-')).is_some_and(
            |(version, namespace)| {
                version.parse::<u32>().is_ok() && namespace == cookie.to_string()
            },
        )
    };
    entries(dir).into_iter().filter(ours).collect()
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

    #[test]
    fn pins_of_other_network_namespaces_are_not_ours() {
        let dir = tempfile::tempdir().expect("temporary directory");
        for pin in [
            "v1-7/links/2-eth0",
            "v1-7/egress/2-eth0",
            "v2-7/links/3-eth-1",
            "v1-8/links/2-eth9",
            "v1-77/links/2-eth9",
            "other-7/links/2-eth9",
        ] {
            let path = dir.path().join(pin);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
            fs::write(path, "").expect("file");
        }
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
