//! The listeners that the agent monitors: local sockets, as far as there are slots, and services that are forwarded.

mod inherited;
pub mod priority;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tcpguard_common::abi::{ListenerKey, Rate, maps};
use tcpguard_engine::{Listener, ListenerId, ListenerKind, Queues, Timestamp};
use tcpguard_host::linux::ListenerGroup;

pub use self::inherited::Inherited;
use self::priority::{LeftOut, ListenerPriority, leaving, ranked, unmonitored};
use crate::bpf::{Dataplane, KernelError, ip};
use crate::driver::{ListenerTable, Monitored};

/// A listener whose sockets are gone is monitored for this much longer: an application that restarts
/// under a flood must neither end the incident nor lose the state about its clients.
const GONE: Duration = Duration::from_secs(60);
/// A forwarded service is monitored for this long after its last SYN-ACK.
const IDLE: Duration = Duration::from_secs(600);
/// Forwarded services that are monitored at most: a host that can send SYN-ACKs through this one must not
/// take the slots of its own listeners.
const MAX_FORWARDED: usize = maps::MAX_LISTENERS as usize / 4;

/// The state of a monitored listener that its host shows.
#[derive(Debug, Default)]
pub struct Observed {
    /// Its queues, for local ones that have sockets now.
    pub queues: Option<Queues>,
    /// True if one of its sockets speaks MPTCP.
    pub mptcp: bool,
    /// Its position in the order in which listeners get slots. No listener comes before a forwarded one.
    priority: ListenerPriority,
    /// Time at which it was last seen: in the list of sockets, or by a SYN-ACK.
    seen: Timestamp,
    /// Its SYN-ACKs when that was looked at last.
    syn_acks: u64,
}

impl Observed {
    fn at(seen: Timestamp) -> Self {
        Self { seen, ..Self::default() }
    }
}

/// A listener that the agent monitors.
pub type MonitoredListener = Monitored<Observed>;
/// The listeners that the agent monitors.
pub type Listeners = ListenerTable<Observed>;

/// The selection of the local listeners that get slots.
#[derive(Debug, Default)]
pub struct Selection {
    /// Listeners for which slots were vacated at the last update.
    expected: BTreeSet<Listener>,
    /// Listeners that found no slot.
    pub left_out: LeftOut,
}

impl Selection {
    /// Monitors the local listeners in `groups`, except those that are `ignored`. A listener that was
    /// monitored until now and is ignored is removed at once. `budget` returns, for a listener and the
    /// limit of its SYN queue, how many retransmitted SYNs per second its rules let through where no
    /// cookies answer them.
    ///
    /// # Errors
    /// When the kernel refuses; the next call tries again.
    pub fn update(
        &mut self,
        now: Timestamp,
        groups: &[ListenerGroup],
        ignored: impl Fn(&Listener) -> bool,
        budget: impl Fn(&Listener, u32) -> u32,
        listeners: &mut Listeners,
        dataplane: &mut Dataplane,
    ) -> Result<(), KernelError> {
        let order = ranked(groups.iter().filter(|group| !ignored(&group.listener)));
        let wanted: BTreeMap<Listener, (ListenerPriority, &ListenerGroup)> =
            order.iter().map(|(priority, group)| (group.listener, (*priority, *group))).collect();
        for monitored in listeners.iter_mut() {
            let found = wanted.get(&monitored.listener);
            let is_local = monitored.kind == ListenerKind::Local;
            if is_local {
                monitored.own.queues = found.map(|(_, group)| group.queues);
            }
            if let Some((priority, group)) = found {
                monitored.dual_stack = group.dual_stack;
                monitored.own.mptcp = group.mptcp;
                if is_local {
                    (monitored.own.priority, monitored.own.seen) = (*priority, now);
                }
            }
        }
        let covered = |listener: &Listener| {
            // A service that was taken for a forwarded one, before its socket was listed.
            wanted.contains_key(listener)
                || wanted.values().any(|(_, group)| covers(group, listener.addr, listener.port))
        };
        listeners.forget(|monitored| match monitored.kind {
            ListenerKind::Local => now.since(monitored.own.seen) > GONE,
            ListenerKind::Forwarded => {
                covered(&monitored.listener) || now.since(monitored.own.seen) > IDLE
            }
        });
        let known: BTreeSet<Listener> = listeners.iter().map(|one| one.listener).collect();
        let mut new: Vec<_> =
            order.iter().filter(|(_, group)| !known.contains(&group.listener)).collect();
        // The slots vacated for these listeners are not for sockets that were opened meanwhile.
        new.sort_by_key(|(_, group)| !self.expected.contains(&group.listener));
        let mut without = Vec::new();
        for (priority, group) in new {
            let (queues, mptcp, priority) = (Some(group.queues), group.mptcp, *priority);
            let own = Observed { queues, mptcp, priority, ..Observed::at(now) };
            match listeners.insert(group.listener, ListenerKind::Local, own, dataplane)? {
                Some(monitored) => monitored.dual_stack = group.dual_stack,
                None => without.push((priority, group.listener)),
            }
        }
        for monitored in listeners.iter_mut() {
            let backlog = monitored.own.queues.map_or(0, |queues| queues.backlog);
            monitored.retransmit_budget = so_many(budget(&monitored.listener, backlog));
        }
        self.left_out = LeftOut::default();
        without.iter().for_each(|(priority, _)| self.left_out.add(priority));
        // Last, so that no listener gets the slot before the rules for the old one are gone.
        self.make_room(&without, listeners);
        listeners.forget(|monitored| ignored(&monitored.listener));
        listeners.open = unmonitored(groups, listeners.iter().map(|monitored| monitored.listener));
        listeners.write(dataplane)
    }

    /// Forgets the listeners that have to leave their slots to listeners that found none.
    fn make_room(&mut self, without: &[(ListenerPriority, Listener)], listeners: &mut Listeners) {
        self.expected.clear();
        if without.is_empty() {
            return;
        }
        let locals = listeners.iter().filter(|monitored| monitored.kind == ListenerKind::Local);
        let monitored = locals.map(|one| (one.own.priority, one.own.queues.is_none(), one.id));
        let places = leaving(without, monitored.collect());
        listeners.forget(|monitored| places.contains_key(&monitored.id));
        self.expected = places.into_values().collect();
    }
}

impl ListenerTable<Observed> {
    /// Monitors the services that answered SYNs from an address on which no socket listens here.
    pub fn add_forwarded(
        &mut self,
        now: Timestamp,
        keys: &[ListenerKey],
        ignored: impl Fn(&Listener) -> bool,
        dataplane: &mut Dataplane,
    ) -> Result<(), KernelError> {
        let mut forwarded = 0;
        for monitored in self.iter_mut().filter(|one| one.kind == ListenerKind::Forwarded) {
            forwarded += 1;
            let syn_acks = dataplane.listener_counters(monitored.slot())?.syn_ack;
            if syn_acks != monitored.own.syn_acks {
                (monitored.own.syn_acks, monitored.own.seen) = (syn_acks, now);
            }
        }
        for key in keys {
            let listener = Listener { addr: ip(&key.addr), port: u16::from_be_bytes(key.port) };
            if ignored(&listener)
                || forwarded >= MAX_FORWARDED
                || self.of(listener.addr, listener.port).is_some()
            {
                continue;
            }
            let own = Observed::at(now);
            if self.insert(listener, ListenerKind::Forwarded, own, dataplane)?.is_some() {
                forwarded += 1;
            }
        }
        self.write(dataplane)
    }

    /// Gives a listener so many SYNs a second of unvalidated sources while its budget applies: half of them first ones
    /// and half retransmitted ones, and a quarter of a second's worth at once. 0 leaves the rate as it is.
    pub fn set_budget(&mut self, id: ListenerId, per_second: u32) {
        if let Some(monitored) = self.get_mut(id).filter(|_| per_second > 0) {
            monitored.budget = so_many(per_second.div_ceil(2));
        }
    }
}

/// Returns a rate of `per_second` SYNs a second, with a burst of a quarter of a second's worth.
fn so_many(per_second: u32) -> Rate {
    per_second_of(per_second.into(), (per_second / 4).into())
}

/// Returns a rate of `per_second` events a second, with a burst of `burst` events.
pub(super) fn per_second_of(per_second: u64, burst: u64) -> Rate {
    let fit = |number: u64| u32::try_from(number.max(1)).unwrap_or(u32::MAX);
    Rate { interval_ns: fit(1_000_000_000 / per_second.max(1)), burst: fit(burst) }
}

/// Returns whether a socket of `group` takes connections to an address and port.
fn covers(group: &ListenerGroup, local: IpAddr, port: u16) -> bool {
    let any = group.listener.addr.is_unspecified()
        && (group.listener.addr.is_ipv4() == local.is_ipv4() || group.dual_stack);
    group.listener.port == port && (group.listener.addr == local || any)
}
