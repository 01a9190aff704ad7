//! The facts that the checks judge. The caller fills them in, and the checks only read them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::finding::Finding;
use crate::firewall::{FirewallChoice, Nat, nat};
use crate::linux::device::XdpFeatures;
use crate::linux::interfaces::OperState;
use crate::linux::netfilter::RuleSet;
use crate::linux::programs::Attached;
use crate::tune::{Device, HostFacts, Tune};

/// All facts about this host.
#[derive(Clone, Debug)]
pub struct Facts {
    pub kernel: Kernel,
    /// The privileges of this process.
    pub privileges: Privileges,
    /// The directory of the pins.
    pub pins: Pins,
    /// The interfaces that are attached, or are to be.
    pub interfaces: Vec<InterfaceFacts>,
    /// The host's size, load and listeners.
    pub host: HostFacts,
    /// The report of `tcpguard tune`.
    pub tune: Tune,
    /// The findings of `tcpguard listeners`.
    pub listeners: Report,
    /// The findings of `tcpguard states`.
    pub states: Report,
    /// The service manager.
    pub service: Service,
    pub config: ConfigFacts,
    /// True if an agent answers.
    pub agent_runs: bool,
    pub firewall: FirewallFacts,
}

/// The findings of another report, or why it could not be made.
pub type Report = Result<Vec<Finding>, String>;

/// The host's packet filter, and the settings about it in the configuration.
#[derive(Clone, Debug)]
pub struct FirewallFacts {
    /// Its rules, or why they cannot be read.
    pub rules: Result<RuleSet, String>,
    /// Key `cookies.firewall`
    pub choice: FirewallChoice,
    /// Key `cookies.mark`
    pub mark: u32,
    /// The host's addresses; none: unknown.
    pub own: Vec<IpAddr>,
}

impl FirewallFacts {
    /// The NAT of either IP version, beside which tcpguard's own cookies are not used.
    pub fn nat(&self) -> Option<Nat> {
        nat(self.rules.as_ref().ok()?)
    }
}

#[derive(Clone, Debug)]
pub struct Kernel {
    /// Its release; `None` when it does not say.
    pub release: Option<String>,
    /// True if it describes its own types.
    pub btf: bool,
    /// The BPF features that were tried.
    pub features: Vec<Feature>,
    /// `none`, `integrity` or `confidentiality`; `None` where it cannot be read.
    pub lockdown: Option<String>,
    /// `net.core.bpf_jit_enable`; `None` where it cannot be read.
    pub jit: Option<u64>,
    /// Size of a memory page, in bytes.
    pub page_bytes: u32,
}

impl Kernel {
    /// Returns whether the kernel does not have the feature of this name.
    pub(super) fn lacks(&self, name: &str) -> bool {
        let missing = |feature: &&Feature| feature.support == Support::Missing;
        self.features.iter().filter(missing).any(|feature| feature.name == name)
    }
}

/// Name of the feature that XDP programs take packets larger than a page.
pub const MULTI_BUFFER: &str = "multi-buffer XDP";

/// Name of the feature that tcpguard's tc programs run before all others.
pub const TCX: &str = "TCX";

/// Name of the feature that programs run at raw tracepoints.
pub const RAW_TRACEPOINTS: &str = "raw tracepoints";

/// Name of the feature that programs at raw tracepoints read kernel memory. Lockdown for confidentiality forbids it.
pub const READ_KERNEL: &str = "bpf_probe_read_kernel";

/// One feature that tcpguard needs of the kernel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Feature {
    pub name: &'static str,
    /// First release with it, of a feature that kernels in use lack.
    pub since: Option<&'static str>,
    /// The function that does not work without it.
    pub for_what: &'static str,
    /// The agent's way of working without it; `None` if that function is missing and nothing replaces it.
    pub fallback: Option<&'static str>,
    /// True if the agent does not run at all without it.
    pub needed: bool,
    /// True if it is there.
    pub support: Support,
}

impl Feature {
    /// Its name, and the kernels that have it.
    pub fn requirement(&self) -> String {
        match self.since {
            Some(since) => {
                format!("{} (Linux {since}, or a kernel with it backported)", self.name)
            }
            None => self.name.to_owned(),
        }
    }
}

/// The result of a trial.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Support {
    Present,
    /// The kernel does not have it.
    Missing,
    /// The kernel refused the trial, with this errno.
    Refused(i32),
    /// The trial failed for another reason.
    Failed(String),
}

/// The privileges of this process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Privileges {
    /// True if it runs as root.
    pub root: bool,
    /// True if it runs in a container that confines it, as far as can be seen.
    pub container: bool,
    pub effective: u64,
}

/// The directory of the pins.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pins {
    pub dir: PathBuf,
    /// The file system of the directory, or of the nearest existing one above it.
    pub filesystem: Filesystem,
    /// The directory itself; `None` while it does not exist.
    pub owner: Option<Owner>,
    /// User id of the service; `None` where there is no such user.
    pub service_uid: Option<u32>,
}

/// The file system of a directory.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Filesystem {
    /// A BPF file system.
    Bpf {
        /// True if nothing can be written to it.
        read_only: bool,
    },
    Other,
    /// Not known: it may not be looked at.
    #[default]
    Unknown,
}

/// The owner of a directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Owner {
    /// User id of the owner.
    pub uid: u32,
    /// Permission bits of the directory.
    pub mode: u32,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct InterfaceFacts {
    pub name: String,
    /// The interface; `None`: there is none of that name.
    pub link: Option<Link>,
    /// The names that exist.
    pub existing: Vec<String>,
    /// The examined bond, if the interface is examined only as a member of it.
    pub bond: Option<String>,
}

/// An interface that exists.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// True if its packets begin with an Ethernet header.
    pub ethernet: bool,
    /// True if it is the loopback interface.
    pub loopback: bool,
    pub state: OperState,
    /// Kind of a virtual interface.
    pub kind: Option<String>,
    /// Driver of the hardware, or kind.
    pub driver: Option<String>,
    /// Largest packet in bytes, without the link-layer header.
    pub mtu: u32,
    /// The XDP features of its driver; `None` where the kernel does not report them.
    pub xdp: Option<XdpFeatures>,
    /// For a virtio card, whether the host merges or checks packets for it and forbids it to switch that off.
    pub fixed_offloads: Option<bool>,
    /// For a veth, whether its other end receives frames that a native program sends back; `None` where
    /// that is not known.
    pub received: Option<bool>,
    /// True if it merges packets (LRO).
    pub merges: Option<bool>,
    /// True if it takes VLAN tags off.
    pub strips_vlan: Option<bool>,
    /// VLAN interfaces upon it.
    pub vlans: Vec<String>,
    /// The bridge or bond that it belongs to, and the type of that.
    pub master: Option<(String, String)>,
    /// The other members of that, and whether tcpguard's XDP program is on each.
    pub siblings: Vec<(String, bool)>,
    /// The interface below a VLAN or MACVLAN.
    pub below: Option<String>,
    /// Members of a bridge or bond.
    pub members: Vec<String>,
    /// Every program on it; an error in words.
    pub programs: Result<Vec<Attached>, String>,
    /// The XDP programs on the interfaces directly above it, each with the name of its interface.
    pub above: Vec<(String, Attached)>,
    /// Rings, queues and losses.
    pub device: Device,
}

/// The service manager.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Service {
    /// True if systemd runs this host.
    pub systemd: bool,
    /// `systemctl show tcpguard`; empty where there is no such unit, or no systemd.
    pub unit: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ConfigFacts {
    /// There is no file, and the defaults hold.
    Absent {
        /// Path at which it would be.
        path: PathBuf,
    },
    Valid {
        path: PathBuf,
        /// Interfaces that it names.
        interfaces: Vec<String>,
    },
    Invalid {
        path: PathBuf,
        /// Each, as `line: text`.
        problems: Vec<String>,
    },
    /// The file cannot be read.
    Unreadable {
        path: PathBuf,
        /// Reason for which it cannot be read.
        reason: String,
    },
}
