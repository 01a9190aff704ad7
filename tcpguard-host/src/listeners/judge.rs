//! Judgement of the facts that were read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tcpguard_engine::TcpExt;

use super::advice;
use super::application;
use super::group::{Group, Place, groups};
use super::limits::{self, Limit};
use super::{Listener, ListenersReport, Losses, Queue, Socket};
use crate::finding::{Finding, Owner, worst_first};
use crate::linux::sysctl::TcpSettings;
use crate::linux::{ListeningSocket, Owners};
use crate::obstacle::{Obstacle, findings};
use crate::time::Time;

/// The facts that were read from the host.
#[derive(Clone, Debug)]
pub struct ListenerFacts {
    /// Time at which they were read.
    pub at: Time,
    /// Every socket that listens.
    pub sockets: Vec<ListeningSocket>,
    /// The ages of the timers of half-open connections, by their local ends.
    pub half_open: BTreeMap<Place, Vec<Duration>>,
    /// Names of the interfaces that sockets are bound to.
    pub interfaces: BTreeMap<u32, String>,
    /// The settings that the kernel's rule refers to.
    pub tcp: TcpSettings,
    /// The losses of all listeners.
    pub tcp_ext: Option<TcpExt>,
    /// The processes that hold the sockets.
    pub owners: Owners,
    /// An earlier snapshot, for rates.
    pub earlier: Option<Earlier>,
    /// The facts that could not be read, and why.
    pub unread: Vec<String>,
}

impl ListenerFacts {
    /// Longest time for which a socket has been listening: as long as the oldest process that holds it has run. Only a
    /// socket that was handed over by a process that has ended since is older. `None` where processes are hidden.
    fn listening(&self, inode: u32) -> Option<Duration> {
        let holders = self.owners.of(inode).filter(|_| !self.owners.denied);
        holders.map(|process| process.age).max()?
    }
}

/// The part of an earlier snapshot that is kept.
#[derive(Clone, Debug)]
pub struct Earlier {
    /// Age of the snapshot.
    pub ago: Duration,
    pub drops: BTreeMap<u32, u32>,
    /// The losses of all listeners then.
    pub tcp_ext: Option<TcpExt>,
}

impl Earlier {
    /// The part to keep of a snapshot that was taken so long ago.
    pub fn new(facts: &ListenerFacts, ago: Duration) -> Self {
        let drops = facts.sockets.iter().filter_map(|socket| Some((socket.inode, socket.drops?)));
        Self { ago, drops: drops.collect(), tcp_ext: facts.tcp_ext }
    }

    fn per_second(&self, growth: u64) -> Option<f64> {
        (!self.ago.is_zero()).then(|| growth as f64 / self.ago.as_secs_f64())
    }
}

/// The report on these facts.
pub fn judge(facts: &ListenerFacts) -> ListenersReport {
    let mut listeners = Vec::new();
    let mut findings = Vec::new();
    let listening = |socket: &ListeningSocket| facts.listening(socket.inode);
    for (place, group) in groups(&facts.sockets, &facts.half_open, listening) {
        let listener = listener(place, &group, facts);
        findings.extend(advice::on(&listener, &group.sockets, facts));
        listeners.push(listener);
    }
    findings.extend(advice::shrinking(&listeners, facts));
    findings.extend(obstacles(&listeners, facts));
    worst_first(&mut findings);
    let owners = facts.sockets.iter().flat_map(|socket| facts.owners.of(socket.inode));
    let processes: BTreeMap<u32, Owner> =
        owners.map(|process| (process.pid, Owner::of(process))).collect();
    ListenersReport {
        generated_at: facts.at,
        settings: facts.tcp,
        host: facts.tcp_ext.map(|now| losses(now, facts.earlier.as_ref())),
        listeners,
        processes: processes.into_values().collect(),
        findings,
        unread: facts.unread.clone(),
    }
}

/// The obstacles to SYN cookies that the sockets and their settings show.
fn obstacles(listeners: &[Listener], facts: &ListenerFacts) -> Vec<Finding> {
    let reachable = listeners.iter().filter(|listener| !listener.addr.is_loopback());
    let obstacle = |listener: &Listener| match facts.tcp.syncookies {
        Some(0) => Some(Obstacle::NoCookies { switched_off: true }),
        _ => listener.mptcp.then_some(Obstacle::Mptcp { no_helper: None }),
    };
    findings(reachable.filter_map(|listener| Some((listener, obstacle(listener)?))))
}

fn losses(now: TcpExt, earlier: Option<&Earlier>) -> Losses {
    let rate = |counter: fn(&TcpExt) -> u64| {
        let earlier = earlier?;
        earlier.per_second(counter(&now).saturating_sub(counter(earlier.tcp_ext.as_ref()?)))
    };
    Losses {
        overflows: now.listen_overflows,
        drops: now.listen_drops,
        syn_queue_full_cookies: now.req_q_full_do_cookies,
        syn_queue_full_drops: now.req_q_full_drop,
        overflows_pps: rate(|counters| counters.listen_overflows),
        drops_pps: rate(|counters| counters.listen_drops),
    }
}

fn listener((addr, port, interface): Place, group: &Group<'_>, facts: &ListenerFacts) -> Listener {
    let sockets = &group.sockets;
    let limits: Vec<_> = sockets.iter().map(|socket| limits::of(socket, &facts.tcp)).collect();
    let accept = limits.iter().map(|limits| limits.accept).collect();
    let waiting = sockets.iter().fold(0u32, |sum, socket| sum.saturating_add(socket.accept));
    let holders: BTreeSet<u32> = sockets
        .iter()
        .flat_map(|socket| facts.owners.of(socket.inode))
        .map(|process| process.pid)
        .collect();
    let processes = sockets.iter().flat_map(|socket| facts.owners.of(socket.inode));
    let drops: Option<Vec<u32>> = sockets.iter().map(|socket| socket.drops).collect();
    Listener {
        addr,
        port,
        interface: facts.interfaces.get(&interface).cloned(),
        dual_stack: sockets.iter().any(|socket| socket.dual_stack),
        mptcp: sockets.iter().any(|socket| socket.mptcp),
        accept: queue(waiting, accept),
        syn: queue(group.half_open, limits.iter().map(|limits| limits.syn).collect()),
        drops: drops.map(|drops| drops.into_iter().map(u64::from).sum()),
        drops_pps: facts.earlier.as_ref().and_then(|earlier| drops_since(sockets, earlier)),
        pids: holders.into_iter().collect(),
        uid: sockets.first().map_or(0, |socket| socket.uid),
        application: application::of(processes),
        sockets: match sockets[..] {
            [_] => Vec::new(),
            _ => sockets.iter().map(|socket| one(socket)).collect(),
        },
    }
}

fn queue(waiting: u32, limits: Vec<Limit>) -> Queue {
    let least = limits.iter().min_by_key(|limit| limit.places);
    Queue {
        waiting,
        limit: limits.iter().fold(0u32, |sum, limit| sum.saturating_add(limit.places)),
        set_by: least.map_or(limits::SetBy::Unknown, |limit| limit.set_by),
    }
}

fn one(socket: &ListeningSocket) -> Socket {
    Socket {
        inode: socket.inode,
        accept_waiting: socket.accept,
        accept_limit: socket.backlog,
        drops: socket.drops,
    }
}

/// Drops per second of those that listened at the earlier look too.
fn drops_since(sockets: &[&ListeningSocket], earlier: &Earlier) -> Option<f64> {
    let growth = sockets.iter().filter_map(|socket| {
        let before = earlier.drops.get(&socket.inode)?;
        Some(u64::from(socket.drops?.wrapping_sub(*before)))
    });
    let growth: Vec<u64> = growth.collect();
    if growth.is_empty() { None } else { earlier.per_second(growth.iter().sum()) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::limits::SetBy;
    use super::*;
    use crate::linux::Process;

    /// A host without listeners, as it is by default.
    pub(in crate::listeners) fn bare() -> ListenerFacts {
        ListenerFacts {
            at: Time("2026-11-20T14:05:31.204Z".parse().expect("a time")),
            sockets: Vec::new(),
            half_open: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            tcp: TcpSettings {
                syncookies: Some(1),
                max_syn_backlog: Some(1024),
                abort_on_overflow: Some(0),
                somaxconn: Some(4096),
            },
            tcp_ext: Some(TcpExt::default()),
            owners: Owners::default(),
            earlier: None,
            unread: Vec::new(),
        }
    }

    /// A socket on port 80 that holds so many of so many.
    pub(in crate::listeners) fn socket(inode: u32, accept: u32, backlog: u32) -> ListeningSocket {
        ListeningSocket {
            addr: [0; 4].into(),
            port: 80,
            dual_stack: false,
            accept,
            backlog,
            inode,
            uid: 33,
            interface: 0,
            mptcp: false,
            drops: Some(0),
        }
    }

    #[test]
    fn a_group_has_the_sums_and_each_of_its_sockets() {
        let facts = ListenerFacts {
            sockets: vec![socket(1, 5, 511), socket(2, 600, 4096)],
            half_open: BTreeMap::from([(([0; 4].into(), 80, 0), vec![Duration::ZERO; 9])]),
            ..bare()
        };
        let report = judge(&facts);
        let [listener] = &report.listeners[..] else { panic!("{report:?}") };
        let application = SetBy::Application;
        assert_eq!(listener.accept, Queue { waiting: 605, limit: 4607, set_by: application });
        assert_eq!(listener.syn, Queue { waiting: 9, limit: 4607, set_by: application });
        let inodes: Vec<_> = listener.sockets.iter().map(|socket| socket.inode).collect();
        assert_eq!((inodes, listener.drops, listener.uid), (vec![1, 2], Some(0), 33));
    }

    #[test]
    fn a_listener_names_its_processes_and_its_interface() {
        let process = |pid| Process { pid, comm: "nginx".to_owned(), ..Process::default() };
        let bound = ListeningSocket { interface: 4, ..socket(1, 0, 511) };
        let facts = ListenerFacts {
            sockets: vec![bound],
            interfaces: BTreeMap::from([(4, "eth1".to_owned())]),
            owners: Owners::new([(process(901), vec![1]), (process(900), vec![1])], false),
            ..bare()
        };
        let report = judge(&facts);
        let listener = &report.listeners[0];
        assert_eq!(listener.to_string(), "0.0.0.0:80%eth1");
        assert_eq!(listener.pids, [900, 901]);
        assert_eq!(listener.application.map(|it| it.name), Some("nginx"));
        assert_eq!(listener.sockets, []);
        let owner = |pid| Owner { name: "nginx".to_owned(), pid };
        assert_eq!(report.processes, [owner(900), owner(901)]);
    }

    #[test]
    fn rates_need_two_looks_at_the_same_socket() {
        let dropped = |inode, drops| ListeningSocket { drops, ..socket(inode, 0, 511) };
        let ext = |overflows| TcpExt { listen_overflows: overflows, ..TcpExt::default() };
        let before = ListenerFacts {
            sockets: vec![dropped(1, Some(u32::MAX)), dropped(2, Some(7)), dropped(3, None)],
            tcp_ext: Some(ext(100)),
            ..bare()
        };
        assert_eq!(judge(&before).listeners[0].drops_pps, None);
        for (ago, sockets, expected) in [
            (2, vec![dropped(1, Some(9))], Some(5.0)),
            (2, vec![dropped(1, Some(9)), dropped(2, Some(17))], Some(10.0)),
            (2, vec![dropped(2, Some(7))], Some(0.0)),
            (2, vec![dropped(3, Some(70))], None),
            (2, vec![dropped(4, Some(70))], None),
            (0, vec![dropped(2, Some(17))], None),
        ] {
            let ago = Duration::from_secs(ago);
            let facts = ListenerFacts {
                sockets,
                tcp_ext: Some(ext(150)),
                earlier: Some(Earlier::new(&before, ago)),
                ..bare()
            };
            let report = judge(&facts);
            assert_eq!(report.listeners[0].drops_pps, expected, "{facts:?}");
            let host = report.host.expect("TcpExt").overflows_pps;
            assert_eq!(host, (!ago.is_zero()).then_some(25.0));
        }
    }

    #[test]
    fn a_restarted_server_has_only_its_own_half_open_connections() {
        let second = Duration::from_secs(1);
        let timers = [vec![Duration::ZERO; 40], vec![second * 3; 32]].concat();
        let facts = |denied| {
            let process = |age| Process { age: Some(second * age), ..Process::default() };
            let holders = [(process(2), vec![1]), (process(1), vec![1])];
            ListenerFacts {
                sockets: vec![socket(1, 0, 64)],
                half_open: BTreeMap::from([(([0; 4].into(), 80, 0), timers.clone())]),
                owners: Owners::new(holders, denied),
                ..bare()
            }
        };
        let report = judge(&facts(false));
        let codes: Vec<&str> = report.findings.iter().map(|one| &*one.code).collect();
        assert_eq!((report.listeners[0].syn.waiting, &codes[..]), (40, &["small_backlog"][..]));
        // A process that this user cannot see may hold the socket since before.
        assert_eq!(judge(&facts(true)).listeners[0].syn.waiting, 72);
    }

    #[test]
    fn what_is_not_known_of_one_socket_is_not_known_of_the_group() {
        let unknown = ListeningSocket { drops: None, ..socket(2, 0, 511) };
        let facts = ListenerFacts { sockets: vec![socket(1, 0, 511), unknown], ..bare() };
        assert_eq!(judge(&facts).listeners[0].drops, None);
    }
}
