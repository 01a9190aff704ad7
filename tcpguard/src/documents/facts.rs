//! The agent's measurements, for [`super::Status::build`].

use std::collections::BTreeSet;
use std::time::Duration;

use tcpguard_common::abi::PacketCounters;
use tcpguard_engine::{Listener, TcpExt, Timestamp};
use tcpguard_host::finding::Finding;
use tcpguard_host::hint::Failure;
use tcpguard_host::linux::{Conntrack, LinkStats, SoftnetCpu};
use tcpguard_host::obstacle::Impeded;
use tcpguard_host::time::Clock;

use super::{
    AlertEntry, AttachMode, ConfigState, Cookies, Counts, Fleet, Hook, Incident, Map, ModeRevert,
    Program, Source,
};

/// Everything in the status that the engine does not know.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Time at which all of this was read.
    pub clock: Clock,
    /// Time between two polls.
    pub interval: Duration,
    /// Name of the host.
    pub hostname: String,
    /// Version of the agent.
    pub version: String,
    /// Process id of the agent.
    pub pid: u32,
    /// Time at which the agent started.
    pub started: Timestamp,
    /// The configuration that holds; [`super::Status::build`] sets `valid`.
    pub config: ConfigState,
    /// The pending end of the mode; `None` when it stays.
    pub mode_reverts: Option<ModeRevert>,
    /// Time of the agent's last heartbeat to the kernel; `None` before the first one.
    pub heartbeat: Option<Timestamp>,
    /// Bytes of memory that the agent has in use; `None` where its allocator does not count them.
    pub heap: Option<u64>,
    /// Protected interfaces, in the operator's order.
    pub interfaces: Vec<InterfaceFacts>,
    /// Packets lost before any program could see them, over the last seconds.
    pub losses: Reading<LossCounters>,
    /// TcpExt counters of the network namespace.
    pub tcp_ext: Reading<TcpExt>,
    /// Fill of the table of tracked connections; `None` without connection tracking.
    pub conntrack: Option<Conntrack>,
    /// Availability of SYN cookies; [`super::Status::build`] adds the counters `sent` and `valid`.
    pub cookies: Cookies,
    /// Rules found in the kernel when they were last counted; `None` before the first time.
    pub rules_in_kernel: Option<u32>,
    /// Time since which that number differs from the intended one; `None` while it does not.
    pub drift_since: Option<Timestamp>,
    /// Fill of the BPF maps.
    pub maps: Vec<Map>,
    /// Sources with the most SYNs, the busiest first.
    pub sources: Vec<Source>,
    /// Time at which `sources` was read; `None` before the first time.
    pub sources_at: Option<Timestamp>,
    /// The programs in the kernel.
    pub programs: Vec<Program>,
    /// Events counted since the agent started.
    pub counts: Counts,
    /// Exchange with the other hosts of a fleet; `None` where it is off.
    pub fleet: Option<Fleet>,
    /// Problems that the agent found with itself or the host.
    pub health: Vec<Finding>,
    /// Listeners without a socket, whose clients are refused.
    pub refusing: BTreeSet<Listener>,
    /// Obstacles to SYN cookies that are known before they are needed.
    pub obstacles: Vec<Impeded<Listener>>,
    /// Alerts of the last 24 hours, oldest first.
    pub alerts: Vec<AlertEntry>,
    /// Closed attacks on record, of earlier runs too, newest first.
    pub past: Vec<Incident>,
}

/// Cumulative counters now and a little earlier, from which rates are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading<T> {
    pub now: T,
    /// The counters earlier, and how much earlier; `None` at the first reading.
    pub earlier: Option<(T, Duration)>,
}

impl<T> Reading<T> {
    /// Growth per second of the counter that `counter` picks; `None` when it is not known.
    pub fn rate(&self, counter: impl Fn(&T) -> u64) -> Option<f64> {
        let (earlier, elapsed) = self.earlier.as_ref()?;
        let grown = counter(&self.now).saturating_sub(counter(earlier));
        (!elapsed.is_zero()).then(|| grown as f64 / elapsed.as_secs_f64())
    }
}

/// Packets that arrived and packets that were lost, since boot or since the interfaces exist.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LossCounters {
    /// Counters of each attached interface, in the operator's order; read each second.
    pub links: Vec<LinkStats>,
    /// Counters of each CPU that is online, for the whole host.
    pub softnet: Vec<SoftnetCpu>,
    /// Packets that the XDP program has seen on each CPU, by its number.
    pub packets_by_cpu: Vec<u64>,
}

impl LossCounters {
    /// Packets that no program could see.
    pub fn lost(&self) -> u64 {
        self.lost_in_rings() + self.lost_in_backlogs()
    }

    /// Packets dropped because a card's ring or buffer was full.
    ///
    /// [`LinkStats::rx_dropped`] is left out. Drivers count packets there that XDP dropped
    /// (virtio_net), and the stack counts packets there that no protocol takes (LLDP).
    pub fn lost_in_rings(&self) -> u64 {
        self.links.iter().map(|link| link.rx_missed + link.rx_fifo).sum()
    }

    /// Packets dropped because a CPU's backlog was full.
    pub fn lost_in_backlogs(&self) -> u64 {
        self.softnet.iter().map(|cpu| cpu.dropped).sum()
    }

    /// Packets that the XDP program has seen, or those that the CPUs took, whichever are more: a backlog drops packets of
    /// any interface and namespace of the machine.
    pub fn seen(&self) -> u64 {
        let taken = self.softnet.iter().map(|cpu| cpu.processed).sum();
        self.packets_by_cpu.iter().sum::<u64>().max(taken)
    }
}

#[derive(Clone, Debug)]
pub struct InterfaceFacts {
    pub name: String,
    /// Its index now; 0 when it does not exist.
    pub ifindex: u32,
    /// Hook to which the program is attached.
    pub hook: Hook,
    /// Attach mode: native, run by the driver, or generic.
    pub mode: AttachMode,
    /// Reason why the driver does not run it, although that was tried.
    pub fallback: Option<String>,
    /// Reason why generic mode was chosen without asking the driver.
    pub choice: Option<&'static str>,
    /// Kernel id of the link; `None` for a hook without one.
    pub link_id: Option<u32>,
    /// True if the link outlives the agent.
    pub pinned: bool,
    /// True if the link is alive and its interface index is still the interface's.
    pub attached: bool,
    /// The program that gets the packets that pass; `None`: the stack gets them.
    pub next: Option<NextProgramFacts>,
    /// Programs of other processes that run on egress before that of tcpguard, in words.
    pub ahead: Vec<String>,
    /// Packet counters, summed over CPUs.
    pub packets: Reading<PacketCounters>,
}

/// The next program of an interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NextProgramFacts {
    /// Name of its pin.
    pub name: String,
    /// Its kernel id, or the reason for which the stack gets the packets.
    pub id: Result<u32, Failure>,
}
