//! The layout of the pins: one directory for each version of the layout and network namespace.
//!
//! `<pin dir>/v<version of the layout>-<netns cookie>/links/<ifindex>-<name>` holds the XDP link of an
//! interface, `…/egress/<ifindex>-<name>` its TCX link, `…/redeem/<ifindex>-<name>` that of the
//! program that takes cookies back, `…/tracepoints/<name>` the link at the tracepoint, and
//! `…/maps/<name>` the maps that all programs and the next agent share. The cookie is there because
//! several network namespaces may share one bpffs, and an interface of another one may have the same
//! index and name.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use tcpguard_common::abi::{ABI_VERSION, maps};
use tcpguard_host::linux::{LockOwner, lock_owner};

use crate::bpf::syscall;

/// Directory of the link at the tracepoint, which belongs to no interface.
pub(super) const TRACEPOINTS: &str = "tracepoints";
/// Directory of the maps.
pub(super) const MAPS: &str = "maps";

/// The purpose of an interface's link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::bpf) enum Kind {
    /// Link of the XDP program, which sees arriving packets.
    Ingress,
    /// Link of the program that sees departing packets.
    Egress,
    /// Link of the program that takes cookies back.
    Redeem,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Ingress, Self::Egress, Self::Redeem];

    pub(super) const fn directory(self) -> &'static str {
        match self {
            Self::Ingress => "links",
            Self::Egress => "egress",
            Self::Redeem => "redeem",
        }
    }
}

/// The pins of agents of one version of the layout in one network namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layout {
    /// Version of the layout.
    pub version: u32,
    /// Cookie of the network namespace.
    pub netns: u64,
    /// Interfaces with a link pinned, by name.
    pub interfaces: Vec<String>,
}

/// State of the pins of a layout.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Usage {
    /// The agent with this process ID holds their lock.
    Agent(u32),
    /// No agent holds their lock, and an XDP or tc program is still on an interface.
    Attached,
    /// No agent holds their lock, and no program is on an interface. The network namespace has ended, or its
    /// interfaces were deleted.
    Left,
    /// Nothing is pinned.
    Empty,
    /// Not known, without privileges or in a container with a PID namespace of its own.
    Unknown,
}

/// The layouts below `dir`, as far as can be seen, by version of the layout and network namespace.
pub fn layouts(dir: &Path) -> Vec<Layout> {
    let mut found: Vec<Layout> = entries(dir).iter().filter_map(|path| Layout::at(path)).collect();
    found.sort_by_key(|layout| (layout.version, layout.netns));
    found
}

/// The directories of the layouts of the namespace with cookie `netns` below `dir`.
pub(super) fn of_namespace(dir: &Path, netns: u64) -> Vec<PathBuf> {
    let ours = layouts(dir).into_iter().filter(|layout| layout.netns == netns);
    ours.map(|layout| directory(dir, layout.version, netns)).collect()
}

/// The version of the layout of maps with capacity for `rules` rules: that of the ABI, preceded by the capacity
/// where it is not the default. So an agent with another capacity makes maps of its own, and takes the rules
/// over as after an upgrade.
pub(super) const fn version(rules: u32) -> u32 {
    if rules == maps::RULES { ABI_VERSION } else { rules * PER_ROOM + ABI_VERSION }
}

/// Factor of the capacity in a version: more than there will be versions of the ABI.
const PER_ROOM: u32 = 1000;

/// The directory of a layout.
pub(super) fn directory(dir: &Path, version: u32, netns: u64) -> PathBuf {
    dir.join(format!("v{version}-{netns}"))
}

impl Layout {
    /// Returns whether it is of this version of the ABI, whatever its capacity for rules.
    pub const fn is_of_this_abi(&self) -> bool {
        self.version % PER_ROOM == ABI_VERSION
    }

    /// Returns the number of rules for which its maps have capacity.
    pub const fn room(&self) -> u32 {
        match self.version / PER_ROOM {
            0 => maps::RULES,
            rules => rules,
        }
    }

    /// Returns the state of its pins below `dir`.
    pub fn usage(&self, dir: &Path) -> Usage {
        let layout = directory(dir, self.version, self.netns);
        let links = links(&layout);
        let holds_nothing = || {
            let others = [TRACEPOINTS, MAPS].map(|name| entries(&layout.join(name)));
            links.is_empty() && others.iter().all(Vec::is_empty)
        };
        match lock_owner(&layout) {
            LockOwner::Process(pid) => Usage::Agent(pid),
            _ if holds_nothing() => Usage::Empty,
            LockOwner::Unknown => Usage::Unknown,
            LockOwner::Nobody if links.iter().any(|pin| pin.hangs_on().is_some()) => {
                Usage::Attached
            }
            LockOwner::Nobody if links.iter().all(LinkPin::is_off) => Usage::Left,
            LockOwner::Nobody => Usage::Unknown,
        }
    }

    fn at(path: &Path) -> Option<Self> {
        let (version, netns) = path.file_name()?.to_str()?.strip_prefix('v')?.split_once('-')?;
        let (version, netns) = (version.parse().ok()?, netns.parse().ok()?);
        let mut interfaces: Vec<String> = links(path).into_iter().map(|link| link.name).collect();
        interfaces.sort();
        interfaces.dedup();
        Some(Self { version, netns, interfaces })
    }
}

/// The pin of an interface's link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct LinkPin {
    /// The interface's index when it was pinned.
    pub ifindex: u32,
    /// Its name then, by the configuration or by itself.
    pub name: String,
    /// Path of the pin.
    pub path: PathBuf,
}

impl LinkPin {
    fn at(path: PathBuf) -> Option<Self> {
        let (ifindex, name) = path.file_name()?.to_str()?.split_once('-')?;
        // A bpffs has no names with dots, and an interface none with a colon.
        let (ifindex, name) = (ifindex.parse().ok()?, name.replace(':', "."));
        Some(Self { ifindex, name, path })
    }

    /// Index of the interface on which the link hangs now, if it does.
    pub(super) fn hangs_on(&self) -> Option<u32> {
        let link = syscall::open_pin(&self.path).ok()?;
        let state = syscall::link_state(link.as_fd()).ok()?;
        Some(state.ifindex).filter(|index| *index != 0)
    }

    /// Returns whether it is certain that the link hangs on no interface.
    pub(super) fn is_off(&self) -> bool {
        let state =
            syscall::open_pin(&self.path).and_then(|link| syscall::link_state(link.as_fd()));
        state.is_ok_and(|state| state.ifindex == 0)
    }

    /// Name of the file.
    pub(super) fn file_name(ifindex: u32, name: &str) -> String {
        format!("{ifindex}-{}", name.replace('.', ":"))
    }
}

/// The pins of interfaces' links in the directory of a layout.
pub(super) fn links(layout: &Path) -> Vec<LinkPin> {
    Kind::ALL.iter().flat_map(|kind| links_of(layout, *kind)).collect()
}

/// The pins of interfaces' links of one kind.
pub(super) fn links_of(layout: &Path, kind: Kind) -> Vec<LinkPin> {
    entries(&layout.join(kind.directory())).into_iter().filter_map(LinkPin::at).collect()
}

/// The paths in a directory, in order; none where it cannot be read.
pub(super) fn entries(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A directory with these pins.
    pub(in super::super) fn with(pins: &[&str]) -> tempfile::TempDir {
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
    fn another_room_for_rules_is_another_layout_of_the_same_abi() {
        assert_eq!(version(maps::RULES), ABI_VERSION);
        let most = Layout { version: version(maps::MAX_RULES), netns: 7, interfaces: Vec::new() };
        assert_eq!(most.version, 131_072_000 + ABI_VERSION);
        assert!(most.is_of_this_abi());
        assert_eq!(most.room(), maps::MAX_RULES);
        let former = Layout { version: ABI_VERSION - 1, ..most };
        assert!(!former.is_of_this_abi());
        assert_eq!(former.room(), maps::RULES);
    }

    #[test]
    fn a_layout_is_of_the_agent_with_its_lock_and_without_pins_of_nobody() {
        let dir = with(&["v1-7/maps/X", "v1-8/maps/X"]);
        fs::remove_file(dir.path().join("v1-8/maps/X")).expect("removed");
        let [seven, eight] =
            [7, 8].map(|netns| Layout { version: 1, netns, interfaces: Vec::new() });
        assert!(matches!(seven.usage(dir.path()), Usage::Left | Usage::Unknown));
        assert_eq!(eight.usage(dir.path()), Usage::Empty);
        for layout in [seven, eight] {
            let lock = fs::File::open(directory(dir.path(), 1, layout.netns)).expect("directory");
            lock.try_lock().expect("free");
            assert_eq!(layout.usage(dir.path()), Usage::Agent(std::process::id()));
        }
    }

    #[test]
    fn pins_of_other_network_namespaces_are_not_ours() {
        let dir = with(&["v1-7/links/2-eth0", "v2-7/maps/X", "v1-8/maps/X", "v1-77/maps/X"]);
        let expected = ["v1-7", "v2-7"].map(|name| dir.path().join(name));
        assert_eq!(of_namespace(dir.path(), 7), expected);
    }

    /// `eth0.5` is the normal name of an interface of VLAN 5, and a bpffs refuses such a file.
    #[test]
    fn a_dot_in_a_name_is_no_dot_in_its_file_and_is_restored() {
        let name = LinkPin::file_name(5, "eth0.5");
        assert_eq!(name, "5-eth0:5");
        let pin = LinkPin::at(Path::new("/v1-7/links").join(name)).expect("a pin");
        assert_eq!((pin.ifindex, pin.name.as_str()), (5, "eth0.5"));
        assert_eq!(LinkPin::at(PathBuf::from("/v1-7/links/eth-0")), None, "no index");
    }
}
