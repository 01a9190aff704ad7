//! The facts that advice depends on: the host's size, its load, its listeners and its network cards.
//!
//! [`gather`] is the only function that reads. A value that cannot be read counts as zero or absent:
//! advice then falls back to the values that suit every host.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use super::catalogue::CATALOGUE;
use super::{Values, sysctl_files};
use crate::linux::interfaces::{self, OperState};
use crate::linux::{self, Interface, SockDiag, Sysctls, TcpState, device_queues};
use crate::states::Tally;

/// The facts that advice depends on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostFacts {
    /// The kernel, as `uname -r` prints it; empty when it does not say.
    pub kernel: String,
    pub memory: u64,
    /// Bytes of a page of memory.
    pub page: u64,
    /// CPUs that receive packets.
    pub cpus: u32,
    /// Slots in the kernel's table of TCP connections.
    pub hash_entries: u64,
    /// `net.ipv4.tcp_syncookies`; `None`: this kernel has no cookies.
    pub syncookies: Option<u64>,
    /// Sysctl `net.core.somaxconn`
    pub somaxconn: Option<u64>,
    /// The loan, if the agent has set `tcp_syncookies` to 2.
    pub lent: Option<Lent>,
    /// The load since boot, and the present one.
    pub load: Load,
    pub listeners: Vec<Listening>,
    pub devices: Vec<Device>,
    /// Gateways of IPv4 default routes: `rp_filter` is of IPv4 alone.
    pub default_routes: usize,
    /// `rp_filter` of each interface of its own; loopback and interfaces that are down are left out.
    pub rp_filter: Vec<(String, u64)>,
    /// Connection tracking; `None` where there is none.
    pub conntrack: Option<Conntrack>,
}

/// Reason for which `net.ipv4.tcp_syncookies` is 2 although no administrator set it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lent {
    /// The agent has borrowed it; it was this.
    From(u64),
    /// The agent reports that it uses the kernel's cookies; the previous value is not known here.
    InUse,
}

/// The load, and the losses caused by it. Counts are since boot unless marked as present.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Connections lost because an accept queue was full.
    pub listen_overflows: u64,
    /// SYNs that found a SYN queue full and were answered with a cookie.
    pub queue_full_cookies: u64,
    /// SYNs that found a SYN queue full and were dropped.
    pub queue_full_drops: u64,
    /// SYNs and ACKs that listeners dropped for any reason.
    pub listen_drops: u64,
    /// Connections in TIME_WAIT now.
    pub time_wait: u64,
    /// Connections that found no slot in TIME_WAIT.
    pub time_wait_overflows: u64,
    /// Connections that no application owns, now.
    pub orphans: u64,
    /// Sysctl `net.ipv4.tcp_max_orphans`
    pub max_orphans: u64,
    /// Packets that the CPUs took.
    pub received: u64,
    /// Packets dropped because a CPU's backlog was full.
    pub backlog_drops: u64,
    /// Rounds that ended with packets left over.
    pub squeezed: u64,
    /// True if more than half of the ports for own connections are in use towards one peer, now.
    pub ports_short: bool,
}

impl Load {
    /// Returns how many packets listeners dropped that found no full queue. Without SYN cookies these are the SYNs that
    /// `tcp_max_syn_backlog` refuses, for which the kernel has no counter of their own (`tcp_conn_request`,
    /// net/ipv4/tcp_input.c).
    pub fn refused(&self) -> u64 {
        let counted = self.listen_overflows.saturating_add(self.queue_full_drops);
        self.listen_drops.saturating_sub(counted)
    }

    /// Returns whether so many lost packets are the remains of a burst at some time since boot, and no news: less
    /// than one in 10,000.
    pub fn is_burst(&self, lost: u64) -> bool {
        lost.saturating_mul(10_000) < self.received
    }
}

/// A socket that listens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Listening {
    /// Address and port at which it listens.
    pub at: SocketAddr,
    /// Its limit, of both queues.
    pub backlog: u32,
}

/// A hardware interface; `None` where its driver does not report the value.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Device {
    pub name: String,
    /// Driver of the hardware, or kind.
    pub driver: Option<String>,
    /// Slots in its receive ring.
    pub rx_ring: Option<Span>,
    pub queues: Option<Span>,
    /// Packets that it lost since boot.
    pub lost: Option<u64>,
    /// True if the first queue's packets are spread over CPUs.
    pub rps: Option<bool>,
}

/// A present number and its maximum.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span {
    pub now: u32,
    pub max: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Conntrack {
    /// Connections that are tracked now.
    pub count: u64,
    /// Slots in the table.
    pub buckets: u64,
}

/// The facts and values of this network namespace, and the files below `root` (`/`).
pub fn gather(sysctls: &Sysctls, root: &Path, lent: Option<Lent>) -> (HostFacts, Values) {
    let number = |name| sysctls.read_number(name).ok().flatten();
    let memory = linux::memory().map_or(0, |memory| memory.total);
    let cpus = linux::softnet().unwrap_or_default();
    let tcp = linux::tcp_ext().unwrap_or_default();
    let sockets = linux::sockstat().unwrap_or_default();
    let time_wait_overflows = linux::tcp_ext_counter("TCPTimeWaitOverflow").ok().flatten();
    let links = interfaces::list().unwrap_or_default();
    let listeners = listeners();
    let facts = HostFacts {
        kernel: linux::kernel_release().unwrap_or_default(),
        memory,
        page: rustix::param::page_size() as u64,
        cpus: u32::try_from(cpus.len()).unwrap_or(u32::MAX),
        hash_entries: sysctls
            .read("net.ipv4.tcp_ehash_entries")
            .ok()
            .flatten()
            .and_then(|text| hash_entries(&text))
            .unwrap_or_else(|| default_hash_entries(memory)),
        syncookies: number("net.ipv4.tcp_syncookies"),
        somaxconn: number("net.core.somaxconn"),
        lent,
        load: Load {
            listen_overflows: tcp.listen_overflows,
            queue_full_cookies: tcp.req_q_full_do_cookies,
            queue_full_drops: tcp.req_q_full_drop,
            listen_drops: tcp.listen_drops,
            time_wait: sockets.time_wait.unwrap_or(0),
            time_wait_overflows: time_wait_overflows.unwrap_or(0),
            orphans: sockets.orphans.unwrap_or(0),
            max_orphans: number("net.ipv4.tcp_max_orphans").unwrap_or(0),
            received: cpus.iter().map(|cpu| cpu.processed).sum(),
            backlog_drops: cpus.iter().map(|cpu| cpu.dropped).sum(),
            squeezed: cpus.iter().map(|cpu| cpu.squeezed).sum(),
            ports_short: ports_short(sysctls, &listeners).unwrap_or(false),
        },
        listeners,
        devices: devices(&links),
        default_routes: linux::default_gateways()
            .map_or(0, |gateways| gateways.iter().filter(|gateway| gateway.is_ipv4()).count()),
        rp_filter: links
            .iter()
            .filter(|link| !link.loopback && link.state != OperState::Down)
            .filter_map(|link| {
                let key = format!("net.ipv4.conf.{}.rp_filter", link.name.replace('.', "/"));
                Some((link.name.clone(), sysctls.read_number(&key).ok()??))
            })
            .collect(),
        conntrack: linux::conntrack(sysctls).ok().flatten().map(|table| Conntrack {
            count: table.count,
            buckets: number("net.netfilter.nf_conntrack_buckets").unwrap_or(0),
        }),
    };
    (facts, values(sysctls, root))
}

fn values(sysctls: &Sysctls, root: &Path) -> Values {
    let names = CATALOGUE.iter().map(|setting| setting.name);
    let sysctls: BTreeMap<String, String> =
        names.filter_map(|name| Some((name.to_owned(), sysctls.read(name).ok()??))).collect();
    Values { sysctls, files: sysctl_files::read(root) }
}

fn listeners() -> Vec<Listening> {
    let sockets = SockDiag::open().and_then(|mut diag| diag.listeners()).unwrap_or_default();
    let mut found: Vec<Listening> = sockets
        .iter()
        .map(|socket| Listening {
            at: SocketAddr::new(socket.addr, socket.port),
            backlog: socket.backlog,
        })
        .collect();
    found.sort_by_key(|listener| (listener.at, listener.backlog));
    found.dedup();
    found
}

fn devices(links: &[Interface]) -> Vec<Device> {
    // A virtual interface has neither ring nor queues worth an advice.
    links.iter().filter(|link| link.is_hardware()).map(device).collect()
}

/// The facts about one interface.
pub fn device(link: &Interface) -> Device {
    let stats = linux::link_stats(&link.name).ok().flatten();
    let ring = device_queues::receive_ring(&link.name).ok().flatten();
    let queues = device_queues::receive_queues(&link.name).ok().flatten();
    Device {
        name: link.name.clone(),
        driver: link.driver(),
        rx_ring: ring.map(|ring| Span { now: ring.length, max: ring.longest }),
        queues: queues.map(|queues| Span { now: queues.count, max: queues.most }),
        lost: stats.map(|stats| stats.rx_missed.saturating_add(stats.rx_fifo)),
        rps: device_queues::spreads_in_software(Path::new(device_queues::NET_CLASS), link),
    }
}

/// Returns whether more than half of the ports for own connections are in use towards one peer. `None` where
/// the connections or the range cannot be read.
fn ports_short(sysctls: &Sysctls, listeners: &[Listening]) -> Option<bool> {
    let range = sysctls.local_ports().ok()??;
    let half = range.len() as u64 / 2;
    let listening = listeners.iter().map(|listener| listener.at.port()).collect();
    let mut tally = Tally::new(listening, Some(range), false);
    SockDiag::open().ok()?.each_connection(&TcpState::ALL, |one| tally.add(&one)).ok()?;
    Some(tally.destinations().first().is_some_and(|most| most.connections > half))
}

/// The size of the kernel's table from `net.ipv4.tcp_ehash_entries`: negative in a namespace that shares
/// the table of the first one (ip-sysctl.rst).
fn hash_entries(text: &str) -> Option<u64> {
    let entries: i64 = text.trim().parse().ok()?;
    Some(entries.unsigned_abs()).filter(|entries| *entries > 0)
}

/// The kernel's default size where it does not report one: a slot for each 128 KiB of memory, rounded up to a power of
/// two, at most 512 Ki (`tcp_init`, net/ipv4/tcp.c; measured: 262,144 at 23.5 GiB).
pub(super) fn default_hash_entries(memory: u64) -> u64 {
    (memory >> 17).clamp(1, 512 * 1024).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_table_of_connections_grows_with_the_memory() {
        for (memory, entries) in [
            (0, 1),
            (GIB, 8192),
            (4 * GIB, 32_768),
            (24_684_084 << 10, 262_144),
            (64 * GIB, 524_288),
            (4096 * GIB, 524_288),
        ] {
            assert_eq!(default_hash_entries(memory), entries, "{memory}");
        }
        assert_eq!(hash_entries("262144\n"), Some(262_144));
        assert_eq!(hash_entries("-262144"), Some(262_144), "a namespace that shares it");
        assert_eq!(hash_entries("0"), None);
        assert_eq!(hash_entries("many"), None);
    }

    #[test]
    fn this_host_is_understood() {
        let (host, values) = gather(&Sysctls::default(), Path::new("/"), None);
        assert!(host.memory > 0 && host.cpus > 0 && !host.kernel.is_empty(), "{host:?}");
        assert!(host.hash_entries.is_power_of_two(), "{host:?}");
        assert!(values.sysctls.contains_key("net.core.somaxconn"), "{values:?}");
    }
}
