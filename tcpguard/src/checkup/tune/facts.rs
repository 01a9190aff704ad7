//! What advice depends on: the host's size, its load, its listeners and its network cards.
//!
//! [`gather`] is the one place that reads. What cannot be read counts as nothing: then advice falls
//! back to what holds for every host.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::catalogue::CATALOGUE;
use super::folklore::REFUSED;
use super::{Values, sysctl_files};
use crate::host::{
    Interface, KernelRelease, SockDiag, Sysctls, interfaces, rtnetlink, tcp_ext,
};

/// What advice depends on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostFacts {
    /// The kernel, as `uname -r` prints it; empty when it does not say.
    pub kernel: String,
    /// Memory in bytes.
    pub memory: u64,
    /// CPUs that receive packets.
    pub cpus: u32,
    /// Places in the kernel's table of TCP connections.
    pub hash_entries: u64,
    /// `net.ipv4.tcp_syncookies`; `None`: this kernel has no cookies.
    pub syncookies: Option<u64>,
    /// `net.core.somaxconn`
    pub somaxconn: Option<u64>,
    /// Whether the guard has set `tcp_syncookies` to 2.
    pub lent: Option<Lent>,
    /// What there was to do since boot, and what is now.
    pub load: Load,
    /// Sockets that listen.
    pub listeners: Vec<Listening>,
    /// Hardware interfaces.
    pub devices: Vec<Device>,
    /// Gateways of default routes.
    pub default_routes: usize,
    /// `rp_filter` of each interface of its own; loopback is left out.
    pub rp_filter: Vec<(String, u64)>,
    /// Connection tracking; `None` where there is none.
    pub conntrack: Option<Conntrack>,
}

/// Why `net.ipv4.tcp_syncookies` is 2 though nobody wrote that.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lent {
    /// The guard has borrowed it; it was this.
    From(u64),
    /// The guard says that it uses the kernel's cookies; what it was before is not known here.
    InUse,
}

/// How much there is to do, and what was lost for it. Counts are since boot unless it says now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Connections lost because an accept queue was full.
    pub listen_overflows: u64,
    /// SYNs that found a SYN queue full and were answered with a cookie.
    pub queue_full_cookies: u64,
    /// SYNs that found a SYN queue full and were dropped.
    pub queue_full_drops: u64,
    /// Connections in TIME_WAIT now.
    pub time_wait: u64,
    /// Connections that found no place in TIME_WAIT.
    pub time_wait_overflows: u64,
    /// Connections that no application owns, now.
    pub orphans: u64,
    /// `net.ipv4.tcp_max_orphans`
    pub max_orphans: u64,
    /// Packets that the CPUs took.
    pub received: u64,
    /// Packets dropped because a CPU's backlog was full.
    pub backlog_drops: u64,
    /// Rounds that ended with packets left over.
    pub squeezed: u64,
    /// Whether more than half of the ports for own connections are in use towards one peer, now.
    pub ports_short: bool,
}

/// A socket that listens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Listening {
    /// Where.
    pub at: SocketAddr,
    /// Its limit, of both queues.
    pub backlog: u32,
}

/// A hardware interface; `None` where its driver does not tell.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Places in its receive ring.
    pub rx_ring: Option<Span>,
    /// Its receive queues.
    pub queues: Option<Span>,
    /// Packets that it lost since boot.
    pub lost: Option<u64>,
    /// Whether the first queue's packets are spread over CPUs.
    pub rps: Option<bool>,
}

/// A number of what there may be more of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span {
    /// How many there are.
    pub now: u32,
    /// How many there may be.
    pub max: u32,
}

/// Connection tracking.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Conntrack {
    /// Connections that are tracked now.
    pub count: u64,
    /// Places in the table.
    pub buckets: u64,
}

/// The facts and values of this network namespace, and the files below `root` (`/`).
pub fn gather(sysctls: &Sysctls, root: &Path, lent: Option<Lent>) -> (HostFacts, Values) {
    let number = |name| sysctls.read_number(name).ok().flatten();
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let memory = meminfo(&read("/proc/meminfo")).unwrap_or(0);
    let softnet = Softnet::parse(&read("/proc/net/softnet_stat"));
    let tcp = tcp_ext().unwrap_or_default();
    let sockets = read("/proc/thread-self/net/sockstat");
    let links = interfaces::list().unwrap_or_default();
    let host = HostFacts {
        kernel: KernelRelease::running().map_or_else(|_| String::new(), |release| release.name),
        memory,
        cpus: softnet.cpus,
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
            time_wait: sockstat(&sockets, "tw").unwrap_or(0),
            time_wait_overflows: netstat(
                &read("/proc/thread-self/net/netstat"),
                "TCPTimeWaitOverflow",
            )
            .unwrap_or(0),
            orphans: sockstat(&sockets, "orphan").unwrap_or(0),
            max_orphans: number("net.ipv4.tcp_max_orphans").unwrap_or(0),
            received: softnet.received,
            backlog_drops: softnet.dropped,
            squeezed: softnet.squeezed,
            ports_short: false,
        },
        listeners: listeners(),
        devices: devices(&links),
        default_routes: rtnetlink::default_gateways().map_or(0, |gateways| gateways.len()),
        rp_filter: links
            .iter()
            .filter(|link| !link.loopback)
            .filter_map(|link| {
                let key = format!("net.ipv4.conf.{}.rp_filter", link.name.replace('.', "/"));
                Some((link.name.clone(), number(&key)?))
            })
            .collect(),
        conntrack: number("net.netfilter.nf_conntrack_count").map(|count| Conntrack {
            count,
            buckets: number("net.netfilter.nf_conntrack_buckets").unwrap_or(0),
        }),
    };
    (host, values(sysctls, root))
}

fn values(sysctls: &Sysctls, root: &Path) -> Values {
    let names = CATALOGUE.iter().map(|setting| setting.name);
    let names = names.chain(REFUSED.iter().map(|recipe| recipe.name));
    let sysctls: BTreeMap<String, String> = names
        .filter_map(|name| Some((name.to_owned(), sysctls.read(name).ok()??)))
        .collect();
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
    // A virtual interface has a kind, and neither ring nor queues worth an advice.
    let hardware = links.iter().filter(|link| !link.loopback && link.kind.is_none());
    hardware.map(|link| device(Path::new("/sys/class/net"), link)).collect()
}

/// What `/sys` tells of an interface.
fn device(class: &Path, link: &Interface) -> Device {
    let directory = class.join(&link.name);
    let number = |name: &str| -> Option<u64> {
        fs::read_to_string(directory.join(name)).ok()?.trim().parse().ok()
    };
    // /sys shows the namespace in which it was mounted: the same name there may be another interface.
    if number("ifindex") != Some(link.index.into()) {
        return Device { name: link.name.clone(), ..Device::default() };
    }
    let lost = ["rx_missed_errors", "rx_fifo_errors"]
        .iter()
        .filter_map(|counter| number(&format!("statistics/{counter}")))
        .reduce(u64::saturating_add);
    let rps = fs::read_to_string(directory.join("queues/rx-0/rps_cpus")).ok();
    Device {
        name: link.name.clone(),
        rx_ring: None,
        queues: None,
        lost,
        rps: rps.map(|mask| mask.trim().chars().any(|digit| !matches!(digit, '0' | ','))),
    }
}

/// What the kernel would take, of `net.ipv4.tcp_ehash_entries`: negative in a namespace that shares
/// the table of the first one (ip-sysctl.rst).
fn hash_entries(text: &str) -> Option<u64> {
    let entries: i64 = text.trim().parse().ok()?;
    Some(entries.unsigned_abs()).filter(|entries| *entries > 0)
}

/// What the kernel takes where it does not tell: a place for 128 KiB of memory, rounded up to a power
/// of two, at most 512 Ki (`tcp_init`, net/ipv4/tcp.c; measured: 262,144 at 23.5 GiB).
pub(super) fn default_hash_entries(memory: u64) -> u64 {
    (memory >> 17).clamp(1, 512 * 1024).next_power_of_two()
}

/// Memory in bytes, of `/proc/meminfo`.
fn meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// A count of the line `TCP:` of `/proc/net/sockstat`.
fn sockstat(text: &str, name: &str) -> Option<u64> {
    let mut words = text.lines().find_map(|line| line.strip_prefix("TCP:"))?.split_whitespace();
    words.find(|word| *word == name)?;
    words.next()?.parse().ok()
}

/// A counter of `/proc/net/netstat`: a line of names and a line of values.
fn netstat(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|word| word == name)?;
    values.split_whitespace().nth(place)?.parse().ok()
}

/// Sums over the lines of `/proc/net/softnet_stat`, one for each CPU that is online.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Softnet {
    cpus: u32,
    received: u64,
    dropped: u64,
    squeezed: u64,
}

impl Softnet {
    /// The first three columns, in hexadecimal (net/core/net-procfs.c).
    fn parse(text: &str) -> Self {
        let mut sum = Self::default();
        for line in text.lines() {
            let mut columns =
                line.split_whitespace().map(|word| u64::from_str_radix(word, 16).unwrap_or(0));
            sum.cpus += 1;
            sum.received += columns.next().unwrap_or(0);
            sum.dropped += columns.next().unwrap_or(0);
            sum.squeezed += columns.next().unwrap_or(0);
        }
        sum
    }
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
    fn counts_are_found_by_their_names() {
        let sockets = "sockets: used 292\nTCP: inuse 7 orphan 2 tw 31 alloc 9 mem 1\nUDP: inuse 2\n";
        assert_eq!(sockstat(sockets, "tw"), Some(31));
        assert_eq!(sockstat(sockets, "orphan"), Some(2));
        assert_eq!(sockstat(sockets, "used"), None);
        let counters = "TcpExt: A TCPTimeWaitOverflow B\nTcpExt: 1 5 3\nIpExt: X\nIpExt: 9\n";
        assert_eq!(netstat(counters, "TCPTimeWaitOverflow"), Some(5));
        assert_eq!(netstat(counters, "X"), None);
        assert_eq!(meminfo("MemFree: 3 kB\nMemTotal:       16384 kB\n"), Some(16 << 20));
    }

    #[test]
    fn what_is_cut_or_garbled_tells_nothing() {
        for text in ["", "TCP:", "TCP: tw", "TCP: tw x", "TcpExt: TCPTimeWaitOverflow", "MemTotal:"] {
            assert_eq!(sockstat(text, "tw"), None, "{text:?}");
            assert_eq!(netstat(text, "TCPTimeWaitOverflow"), None, "{text:?}");
            assert_eq!(meminfo(text), None, "{text:?}");
        }
        assert_eq!(meminfo("MemTotal: 99999999999999999999 kB"), None);
        assert_eq!(meminfo("MemTotal: 18446744073709551615 kB"), None);
    }

    #[test]
    fn softnet_counts_are_summed_over_the_cpus() {
        let text = "000f4240 0000000a 00000003 0 0 0\n00000001 000000ff 00000000 0 0 0\n";
        let sum = Softnet { cpus: 2, received: 1_000_001, dropped: 265, squeezed: 3 };
        assert_eq!(Softnet::parse(text), sum);
        assert_eq!(Softnet::parse("zz\n"), Softnet { cpus: 1, ..Softnet::default() });
    }

    #[test]
    fn an_interface_is_read_where_sys_shows_the_same_one() {
        let class = tempfile::tempdir().expect("temporary directory");
        let at = class.path().join("edge0");
        for directory in ["statistics", "queues/rx-0"] {
            fs::create_dir_all(at.join(directory)).expect("directory");
        }
        for (file, text) in [
            ("ifindex", "7\n"),
            ("statistics/rx_missed_errors", "5\n"),
            ("statistics/rx_fifo_errors", "1\n"),
            ("queues/rx-0/rps_cpus", "00000000,00000003\n"),
        ] {
            fs::write(at.join(file), text).expect("file");
        }
        let link = Interface { index: 7, name: "edge0".to_owned(), ..loopback() };
        let found = device(class.path(), &link);
        assert_eq!((found.lost, found.rps), (Some(6), Some(true)));
        fs::write(at.join("queues/rx-0/rps_cpus"), "00000000,00000000\n").expect("file");
        assert_eq!(device(class.path(), &link).rps, Some(false));
        let other = device(class.path(), &Interface { index: 8, ..link });
        assert_eq!((other.lost, other.rps), (None, None));
    }

    fn loopback() -> Interface {
        interfaces::by_name("lo").expect("lo")
    }

    #[test]
    fn this_host_is_understood() {
        let (host, values) = gather(&Sysctls::default(), Path::new("/"), None);
        assert!(host.memory > 0 && host.cpus > 0 && !host.kernel.is_empty(), "{host:?}");
        assert!(host.hash_entries.is_power_of_two(), "{host:?}");
        assert!(values.sysctls.contains_key("net.core.somaxconn"), "{values:?}");
    }
}
