//! The listeners that the agent monitors: local sockets, as far as there are slots, and other services that answer.

mod answering;
mod inherited;
pub mod priority;
mod translated;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tcpguard_common::abi::{ListenerEntry, Rate};
use tcpguard_engine::{Listener, ListenerId, ListenerKind, Queues, Timestamp};
use tcpguard_host::linux::ListenerGroup;

pub use self::answering::Strange;
use self::answering::{Answering, IDLE};
use self::priority::{LeftOut, ListenerPriority, leaving, ranked, unmonitored};
use self::translated::OwnPort;
use crate::bpf::KernelError;
use crate::driver::{ListenerTable, Monitored, Tables};

/// The kernel's bits for cookies, by their backend.
pub const COOKIES: u8 = ListenerEntry::OWN_COOKIES | ListenerEntry::KERNEL_COOKIES;

/// A listener whose sockets are gone is monitored for this much longer, from its clients' last attempts: an application
/// that restarts under a flood must neither end the incident nor lose the state about its clients, and one that has
/// crashed is not forgotten while they are refused.
const GONE: Duration = Duration::from_secs(60);

/// The state of a monitored listener that its host shows.
#[derive(Debug, Default)]
pub struct Observed {
    /// Its queues, for local ones that have sockets now, and for translated ones.
    pub queues: Option<Queues>,
    /// True if its half-open handshakes have been counted.
    pub is_counted: bool,
    /// True if one of its sockets speaks MPTCP.
    pub mptcp: bool,
    /// Evidence that a listener is there.
    shown_by: ShownBy,
    /// Its position in the order in which listeners get slots. No listener comes before one without a socket of its own.
    priority: ListenerPriority,
    /// Time at which it was last seen: in the list of sockets, or by a SYN-ACK.
    seen: Timestamp,
    /// Its SYN-ACKs when that was looked at last.
    syn_acks: u64,
    /// Port of the host's own sockets that answer for it, where NAT translates to them.
    served_by: Option<u16>,
    /// SYNs to its own port, where others are translated to it.
    own_port: OwnPort,
}

impl Observed {
    fn at(seen: Timestamp) -> Self {
        Self { seen, ..Self::default() }
    }

    /// Returns whether its sockets are gone.
    pub fn is_closed(&self) -> bool {
        self.shown_by == ShownBy::Socket && self.queues.is_none()
    }

    /// Of a listener that an earlier agent found.
    fn of_kind(seen: Timestamp, kind: ListenerKind) -> Self {
        let shown_by = match kind {
            ListenerKind::Local => ShownBy::Socket,
            ListenerKind::Forwarded => ShownBy::ForeignSynAcks,
        };
        Self { shown_by, ..Self::at(seen) }
    }
}

/// The evidence that it is there.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum ShownBy {
    /// A socket that listens at its address and port.
    #[default]
    Socket,
    /// SYN-ACKs of this host's own stack: its packets are steered to a socket elsewhere (sk_lookup, TPROXY).
    OwnSynAcks,
    /// SYN-ACKs of which it is not known who has sent them: the kernel makes its cookies without a socket.
    SynAcks,
    /// SYN-ACKs that came from elsewhere, whatever socket there is.
    ForeignSynAcks,
}

/// A listener that the agent monitors.
pub type MonitoredListener = Monitored<Observed>;
/// The listeners that the agent monitors.
pub type Listeners = ListenerTable<Observed>;

/// The knowledge about listeners that their selection rests on.
pub struct Criteria<'a> {
    /// True if it is ignored. One that was monitored until now is removed at once.
    pub ignored: &'a dyn Fn(&Listener) -> bool,
    /// True if clients try to connect to it as they normally do.
    pub wanted: &'a dyn Fn(ListenerId) -> bool,
    /// Retransmitted SYNs per second that its rules let through where no cookies answer them, by the limit of its SYN
    /// queue.
    pub budget: &'a dyn Fn(&Listener, u32) -> u32,
}

/// The selection of the local listeners that get slots.
#[derive(Debug, Default)]
pub struct Selection {
    /// Listeners for which slots were vacated at the last update.
    expected: BTreeSet<Listener>,
    /// Listeners that found no slot.
    pub left_out: LeftOut,
    answering: Answering,
}

impl Selection {
    /// Monitors the local listeners in `groups`.
    ///
    /// # Errors
    /// When the kernel refuses; the next call tries again.
    pub fn update(
        &mut self,
        now: Timestamp,
        groups: &[ListenerGroup],
        Criteria { ignored, wanted: in_demand, budget }: Criteria<'_>,
        (listeners, tables): (&mut Listeners, &mut impl Tables),
    ) -> Result<(), KernelError> {
        let order = ranked(groups.iter().filter(|group| !ignored(&group.listener)));
        let wanted: BTreeMap<Listener, (ListenerPriority, &ListenerGroup)> =
            order.iter().map(|(priority, group)| (group.listener, (*priority, *group))).collect();
        let mut changed = Vec::new();
        for monitored in listeners.iter_mut() {
            let found = wanted.get(&monitored.listener);
            let is_local = monitored.kind == ListenerKind::Local;
            if is_local {
                changed.extend(monitored.take_queues(found.map(|(_, group)| group.queues)));
            }
            if let Some((priority, group)) = found {
                monitored.dual_stack = group.dual_stack;
                monitored.own.mptcp = group.mptcp;
                if is_local {
                    monitored.own.shown_by = ShownBy::Socket;
                    (monitored.own.priority, monitored.own.seen) = (*priority, now);
                }
            } else if is_local && in_demand(monitored.id) {
                monitored.own.seen = now;
            }
        }
        listeners.touched.extend(changed);
        listeners.share_queues(groups, |_| true);
        let covered = |listener: &Listener| {
            // A service that answered before its socket was listed.
            wanted.contains_key(listener)
                || wanted.values().any(|(_, group)| covers(group, listener.addr, listener.port))
        };
        listeners.forget(|monitored| match monitored.own.shown_by {
            ShownBy::Socket => now.since(monitored.own.seen) > GONE,
            ShownBy::ForeignSynAcks => now.since(monitored.own.seen) > IDLE,
            ShownBy::OwnSynAcks | ShownBy::SynAcks => {
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
            match listeners.insert(group.listener, ListenerKind::Local, own, tables)? {
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
        listeners.write(tables)
    }

    /// Returns whether slots were vacated for listeners at the last update, which get them at the next.
    pub fn is_making_room(&self) -> bool {
        !self.expected.is_empty()
    }

    /// Takes over the queues of some local listeners, between two updates.
    pub fn take_queues(groups: &[ListenerGroup], listeners: &mut Listeners) {
        let mut changed = Vec::new();
        for group in groups {
            let is_it = |one: &&mut MonitoredListener| {
                one.listener == group.listener && one.kind == ListenerKind::Local
            };
            let monitored = listeners.iter_mut().find(is_it);
            changed.extend(monitored.and_then(|one| one.take_queues(Some(group.queues))));
        }
        listeners.touched.extend(changed);
        listeners.share_queues(groups, |port| groups.iter().any(|it| it.listener.port == port));
    }

    /// Forgets the listeners that have to leave their slots to listeners that found none.
    fn make_room(&mut self, without: &[(ListenerPriority, Listener)], listeners: &mut Listeners) {
        self.expected.clear();
        if without.is_empty() {
            return;
        }
        let listed = |monitored: &&MonitoredListener| monitored.own.shown_by == ShownBy::Socket;
        let monitored = listeners
            .iter()
            .filter(listed)
            .map(|one| (one.own.priority, one.own.queues.is_none(), one.id));
        let places = leaving(without, monitored.collect());
        listeners.forget(|monitored| places.contains_key(&monitored.id));
        self.expected = places.into_values().collect();
    }
}

impl MonitoredListener {
    /// Takes over its queues. Returns it if they have changed.
    fn take_queues(&mut self, queues: Option<Queues>) -> Option<ListenerId> {
        let before = std::mem::replace(&mut self.own.queues, queues);
        (before != queues).then_some(self.id)
    }
}

impl ListenerTable<Observed> {
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

/// Returns whether a listener's SYNs are answered.
pub fn is_armed(monitored: &MonitoredListener) -> bool {
    monitored.mitigations & COOKIES != 0
}
