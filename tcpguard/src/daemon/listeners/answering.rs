//! Services that were found by their SYN-ACKs. Whose SYN-ACK it is decides whose service it is, whatever sockets there
//! are: a process of the container runtime listens at each published port, and hears nothing of its clients.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tcpguard_common::abi::{ListenerKey, maps};
use tcpguard_common::fastpath::{Note, Origin};
use tcpguard_engine::{Listener, ListenerId, ListenerKind, Timestamp};

use super::{Listeners, MonitoredListener, Observed, Selection, ShownBy};
use crate::bpf::{KernelError, ip};
use crate::driver::Tables;

/// A service is monitored for this long after its last SYN-ACK.
pub(super) const IDLE: Duration = Duration::from_secs(600);
/// A service at which both this host and another one answer counts as local for this long.
const MIXED: Duration = Duration::from_secs(600);
/// Services without a socket of their own that are monitored at most: a host that can send SYN-ACKs through this one
/// must not take the slots of its own listeners.
const MOST: usize = maps::MAX_LISTENERS as usize / 4;

/// The addresses and ports at which both this host and another one answer, each until its time.
#[derive(Debug, Default)]
pub(super) struct Answering(BTreeMap<Listener, Timestamp>);

impl Answering {
    fn is_mixed(&self, listener: &Listener) -> bool {
        self.0.contains_key(listener)
    }

    fn mix(&mut self, now: Timestamp, listener: Listener) {
        if self.0.len() < MOST {
            self.0.insert(listener, now + MIXED);
        }
    }
}

/// A listener that is bound to all addresses and answered at one that the programs do not know for the host's own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Strange {
    /// The listener.
    pub listener: ListenerId,
    /// The address.
    pub addr: IpAddr,
}

impl Selection {
    /// Monitors the services in `seen`: addresses and ports with SYN-ACKs that did not fit what the programs know of
    /// them. Returns the listeners that answered at further addresses.
    ///
    /// # Errors
    /// When the kernel refuses; the next call tries again.
    pub fn follow_answers(
        &mut self,
        now: Timestamp,
        seen: &[(ListenerKey, Note)],
        ignored: impl Fn(&Listener) -> bool,
        listeners: &mut Listeners,
        tables: &mut impl Tables,
    ) -> Result<Vec<Strange>, KernelError> {
        self.answering.0.retain(|_, until| now < *until);
        let mut count = 0;
        for monitored in listeners.iter_mut().filter(|one| one.own.shown_by != ShownBy::Socket) {
            count += 1;
            let syn_acks = tables.counters(monitored.slot(), false)?.syn_ack;
            if syn_acks != monitored.own.syn_acks {
                (monitored.own.syn_acks, monitored.own.seen) = (syn_acks, now);
            }
        }
        let mut strange = Vec::new();
        for &(ref key, note) in seen {
            let listener = Listener { addr: ip(&key.addr), port: u16::from_be_bytes(key.port) };
            if ignored(&listener) {
                continue;
            }
            let shown_by = self.judge(now, listener, note, listeners.under(key), listeners);
            match (listeners.under(key), listeners.under(&key.of_all())) {
                (Some(known), of_all) => {
                    let is_covered = of_all.is_some();
                    if shown_by == ShownBy::OwnSynAcks && is_covered {
                        listeners.forget(|monitored| monitored.id == known);
                    } else if let Some(monitored) = listeners.get_mut(known) {
                        monitored.is_shown_by(now, shown_by);
                        monitored.is_served_by(note.port());
                        listeners.touched.insert(known);
                    }
                }
                (None, Some(all)) if shown_by != ShownBy::ForeignSynAcks => {
                    if note.has(Origin::Own) || note.has(Origin::Unknown) {
                        strange.push(Strange { listener: all, addr: listener.addr });
                    }
                }
                (None, _) if count < MOST => {
                    let own = Observed { shown_by, ..Observed::at(now) };
                    if let Some(new) = listeners.insert(listener, shown_by.kind(), own, tables)? {
                        new.is_served_by(note.port());
                        count += 1;
                    }
                }
                (None, _) => {}
            }
        }
        Self::follow_translated(now, listeners, tables)?;
        listeners.write(tables)?;
        Ok(strange)
    }

    /// Judges an address and port by its SYN-ACKs, where a listener may be `known`.
    fn judge(
        &mut self,
        now: Timestamp,
        listener: Listener,
        note: Note,
        known: Option<ListenerId>,
        listeners: &Listeners,
    ) -> ShownBy {
        let has = |origin| note.has(origin);
        let before = known.and_then(|id| listeners.get(id)).map(|known| known.own.shown_by);
        let foreign = has(Origin::Foreign) || before == Some(ShownBy::ForeignSynAcks);
        if has(Origin::Own) && foreign {
            self.answering.mix(now, listener);
        }
        if has(Origin::Own) || self.answering.is_mixed(&listener) {
            ShownBy::OwnSynAcks
        } else if has(Origin::Foreign) {
            ShownBy::ForeignSynAcks
        } else {
            ShownBy::SynAcks
        }
    }
}

impl ShownBy {
    const fn kind(self) -> ListenerKind {
        match self {
            Self::Socket | Self::OwnSynAcks => ListenerKind::Local,
            Self::SynAcks | Self::ForeignSynAcks => ListenerKind::Forwarded,
        }
    }
}

impl MonitoredListener {
    /// Takes note of what SYN-ACKs show of it. A listener at whose socket others answer has no queue here.
    fn is_shown_by(&mut self, now: Timestamp, shown_by: ShownBy) {
        if shown_by.kind() == self.kind {
            return;
        }
        (self.kind, self.own.shown_by, self.own.seen) = (shown_by.kind(), shown_by, now);
        if self.kind == ListenerKind::Forwarded {
            self.own.queues = None;
        }
    }

    /// Takes note of the `port` at which the host's own socket answered for it; 0: none did.
    fn is_served_by(&mut self, port: u16) {
        if port != 0 && self.kind == ListenerKind::Forwarded {
            self.own.served_by = Some(port);
        }
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_common::model::Model;
    use tcpguard_engine::Queues;
    use tcpguard_host::linux::ListenerGroup;

    use super::super::Criteria;
    use super::*;
    use crate::bpf::addr;

    const PORT: u16 = 8080;
    const OWN: Note = Note::new(Origin::Own, 0);
    const FOREIGN: Note = Note::new(Origin::Foreign, 0);
    /// By the socket of this host at the port.
    const TRANSLATED: Note = Note::new(Origin::Foreign, PORT);

    /// A selection, its listeners, and the programs' tables, at a time in seconds.
    #[derive(Default)]
    struct Host {
        now: u64,
        sockets: Vec<ListenerGroup>,
        wanted: Vec<ListenerId>,
        selection: Selection,
        listeners: Listeners,
        tables: Model,
    }

    impl Host {
        /// A host with sockets that listen at these addresses.
        fn with_sockets(addresses: &[&str]) -> Self {
            let group = |addr: &&str| ListenerGroup {
                listener: listener(addr),
                dual_stack: false,
                sockets: 1,
                uid: 0,
                mptcp: false,
                queues: Queues { half_open: None, accept: 0, backlog: 128 },
            };
            let sockets = addresses.iter().map(group).collect();
            let mut host = Self { sockets, ..Self::default() };
            host.list();
            host
        }

        fn at(&self) -> Timestamp {
            Timestamp::from_millis(1_000 * self.now)
        }

        /// The sockets are listed.
        fn list(&mut self) {
            let (now, Self { sockets, wanted, selection, listeners, tables, .. }) =
                (self.at(), self);
            let criteria = Criteria {
                ignored: &|_| false,
                wanted: &|listener| wanted.contains(&listener),
                budget: &|_, _| 0,
            };
            selection.update(now, sockets, criteria, (listeners, tables)).unwrap();
        }

        /// SYN-ACKs were seen, and a second passes. Returns the addresses that are strange to listeners.
        fn sees(&mut self, seen: &[(&str, Note)]) -> Vec<String> {
            self.now += 1;
            let key = |at: &str| ListenerKey::new(addr(listener(at).addr), PORT.to_be_bytes());
            let seen: Vec<_> = seen.iter().map(|(at, origins)| (key(at), *origins)).collect();
            let (now, Self { selection, listeners, tables, .. }) = (self.at(), &mut *self);
            let strange = selection.follow_answers(now, &seen, |_| false, listeners, tables);
            self.list();
            strange.unwrap().iter().map(|strange| strange.addr.to_string()).collect()
        }

        /// Kinds of the listeners by address, and whether their queue is known.
        fn kinds(&self) -> Vec<(String, ListenerKind, bool)> {
            let kind = |one: &MonitoredListener| {
                (one.listener.addr.to_string(), one.kind, one.own.queues.is_some())
            };
            self.listeners.iter().map(kind).collect()
        }

        fn kind(&self, at: &str) -> Option<(ListenerKind, bool)> {
            let kinds = self.kinds().into_iter().find(|(addr, ..)| addr == at);
            kinds.map(|(_, kind, queue)| (kind, queue))
        }
    }

    fn listener(addr: &str) -> Listener {
        Listener { addr: addr.parse().unwrap(), port: PORT }
    }

    const LOCAL: Option<(ListenerKind, bool)> = Some((ListenerKind::Local, true));
    const STEERED: Option<(ListenerKind, bool)> = Some((ListenerKind::Local, false));
    const BEHIND: Option<(ListenerKind, bool)> = Some((ListenerKind::Forwarded, false));

    #[test]
    fn what_another_host_answers_is_a_listener_of_its_own_whatever_socket_there_is() {
        for (any, at) in [("0.0.0.0", "192.0.2.1"), ("::", "2001:db8::1")] {
            let mut host = Host::with_sockets(&[any]);
            assert!(host.sees(&[(at, FOREIGN)]).is_empty());
            assert_eq!((host.kind(any), host.kind(at)), (LOCAL, BEHIND));
            // It stays while it answers, though a socket covers it, and for ten minutes.
            host.now += 600;
            host.list();
            assert_eq!(host.kind(at), BEHIND);
            host.now += 1;
            host.list();
            assert_eq!((host.kind(any), host.kind(at)), (LOCAL, None));
        }
        // Of a socket that is bound to that address it takes the place.
        let mut host = Host::with_sockets(&["192.0.2.1"]);
        host.sees(&[("192.0.2.1", FOREIGN)]);
        assert_eq!(host.kinds(), [("192.0.2.1".to_owned(), ListenerKind::Forwarded, false)]);
    }

    #[test]
    fn where_the_host_answers_too_it_stays_local_and_does_not_flap() {
        for sockets in [&["0.0.0.0"][..], &["192.0.2.1"], &["0.0.0.0", "192.0.2.1"]] {
            let at = "192.0.2.1";
            let mut host = Host::with_sockets(sockets);
            host.sees(&[(at, FOREIGN)]);
            assert_eq!(host.kind(at), BEHIND);
            let local = if sockets.contains(&at) { LOCAL } else { None };
            host.sees(&[(at, OWN)]);
            for _ in 0..500 {
                assert_eq!(host.kind(at), local, "{sockets:?}");
                assert!(host.sees(&[(at, FOREIGN)]).is_empty());
            }
            // It is tried again after a while.
            host.now += 600;
            host.sees(&[(at, FOREIGN)]);
            assert_eq!(host.kind(at), BEHIND);
        }
    }

    #[test]
    fn what_the_host_answers_without_a_socket_there_is_local_without_a_known_queue() {
        let mut host = Host::with_sockets(&[]);
        host.sees(&[("192.0.2.1", OWN), ("192.0.2.2", Note::new(Origin::Unknown, 0))]);
        assert_eq!((host.kind("192.0.2.1"), host.kind("192.0.2.2")), (STEERED, BEHIND));
        // The kernel's cookie proved nothing, but a connection does.
        host.sees(&[("192.0.2.2", OWN)]);
        assert_eq!(host.kind("192.0.2.2"), STEERED);
        // The service had just started.
        host.sockets = Host::with_sockets(&["0.0.0.0"]).sockets;
        host.list();
        assert_eq!((host.kind("192.0.2.1"), host.kind("0.0.0.0")), (None, LOCAL));
    }

    /// An application that has crashed.
    #[test]
    fn a_listener_without_a_socket_stays_for_a_minute_and_for_as_long_as_clients_want_it() {
        let mut host = Host::with_sockets(&["0.0.0.0"]);
        let id = host.listeners.iter().next().unwrap().id;
        host.sockets.clear();
        let stays_for = |host: &mut Host, seconds| {
            host.now += seconds;
            host.list();
            host.listeners.iter().next().map(|one| one.own.is_closed())
        };
        assert_eq!(stays_for(&mut host, 60), Some(true));
        host.wanted.push(id);
        assert_eq!(stays_for(&mut host, 3_600), Some(true));
        host.wanted.clear();
        assert_eq!(stays_for(&mut host, 60), Some(true));
        assert_eq!(stays_for(&mut host, 1), None);
    }

    #[test]
    fn a_listener_that_answers_at_an_unknown_address_is_named() {
        let mut host = Host::with_sockets(&["0.0.0.0"]);
        assert_eq!(host.sees(&[("203.0.113.9", OWN)]), ["203.0.113.9"]);
        assert_eq!(host.kinds().len(), 1);
    }

    #[test]
    fn a_translated_port_has_the_queue_of_its_socket_which_has_no_row_while_no_syn_comes_to_it() {
        for (any, at) in [("0.0.0.0", "192.0.2.1"), ("::", "2001:db8::1")] {
            let mut host = Host::with_sockets(&[any]);
            host.sees(&[(at, FOREIGN)]);
            assert_eq!(host.kind(at), BEHIND);
            host.sees(&[(at, TRANSLATED)]);
            assert_eq!(host.kind(at), Some((ListenerKind::Forwarded, true)));
            let socket = |host: &Host| {
                let one =
                    host.listeners.iter().find(|one| one.kind == ListenerKind::Local).unwrap();
                (host.listeners.is_idle(one.id), one.judged_queues().is_some(), one.slot())
            };
            (0..9).for_each(|_| drop(host.sees(&[])));
            let (idle, has_queue, slot) = socket(&host);
            assert_eq!((idle, has_queue), (false, true));
            host.sees(&[]);
            assert_eq!(socket(&host), (true, false, slot));
            host.tables.listener_counters.entry(slot).or_default().syn += 1;
            host.sees(&[]);
            assert_eq!(socket(&host), (false, true, slot));
            // Two sockets, and nothing says whose the handshakes are.
            let twin = ListenerGroup { listener: listener(at), ..host.sockets[0] };
            host.sockets.push(twin);
            host.list();
            assert_eq!(host.kind(at), BEHIND);
        }
    }

    #[test]
    fn services_without_sockets_leave_slots_to_those_with() {
        let mut host = Host::with_sockets(&["0.0.0.0"]);
        let all: Vec<String> =
            (0..2_000).map(|n| format!("10.0.{}.{}", n / 250, n % 250)).collect();
        let seen: Vec<_> = all.iter().map(|at| (at.as_str(), FOREIGN)).collect();
        host.sees(&seen);
        host.sees(&seen);
        assert_eq!(host.kinds().len(), 1 + MOST);
    }
}
