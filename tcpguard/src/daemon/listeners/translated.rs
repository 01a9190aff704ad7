//! Ports that NAT translates to a socket of this host (REDIRECT, DNAT to an own address): clients and rules know the
//! port that they use, and the handshakes wait in the queue of another one.

use std::time::Duration;

use tcpguard_engine::{ListenerId, ListenerKind, Queues, Timestamp};
use tcpguard_host::linux::ListenerGroup;

use super::{Listeners, MonitoredListener, Selection};
use crate::bpf::KernelError;
use crate::driver::Tables;

/// A socket has no clients of its own once no SYN has come to its own port for this long.
const WITHOUT_SYNS: Duration = Duration::from_secs(10);

/// The last SYN to the own port of a socket to which other ports are translated.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OwnPort {
    /// Its SYNs when that was looked at last.
    syns: u64,
    /// Time at which one was noticed last.
    at: Timestamp,
    /// True if its clients come by other ports only.
    pub is_idle: bool,
}

impl Selection {
    /// Finds the sockets to which ports are translated and whose own ports have no clients. Their queues are shown and
    /// judged at the ports that clients use, and not a second time at their own.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn follow_translated(
        now: Timestamp,
        listeners: &mut Listeners,
        tables: &impl Tables,
    ) -> Result<(), KernelError> {
        let ports: Vec<u16> = listeners.iter().filter_map(|one| one.own.served_by).collect();
        let mut changed = Vec::new();
        for socket in listeners.iter_mut().filter(|one| one.kind == ListenerKind::Local) {
            if !ports.contains(&socket.listener.port) {
                socket.own.own_port = OwnPort::default();
                continue;
            }
            let syns = tables.counters(socket.slot(), false)?.syn;
            let own_port = &mut socket.own.own_port;
            if own_port.syns != syns || own_port.at == Timestamp::default() {
                (own_port.syns, own_port.at) = (syns, now);
            }
            let is_idle = now.since(own_port.at) >= WITHOUT_SYNS;
            if std::mem::replace(&mut own_port.is_idle, is_idle) != is_idle {
                changed.push(socket.id);
            }
        }
        listeners.touched.extend(changed);
        Ok(())
    }
}

impl Listeners {
    /// Gives each translated listener the queues of the sockets that answer there, as far as these are one group.
    /// `listed` returns whether the sockets of a port are among `groups`.
    pub(super) fn share_queues(&mut self, groups: &[ListenerGroup], listed: impl Fn(u16) -> bool) {
        let mut changed = Vec::new();
        for translated in self.iter_mut() {
            let Some(port) = translated.own.served_by.filter(|port| listed(*port)) else {
                continue;
            };
            let is_ipv4 = translated.listener.addr.is_ipv4();
            let takes = |group: &&ListenerGroup| {
                group.listener.port == port
                    && (group.listener.addr.is_ipv4() == is_ipv4 || group.dual_stack)
            };
            let mut serving = groups.iter().filter(takes);
            let only = serving.next().filter(|_| serving.next().is_none());
            changed.extend(translated.take_queues(only.map(|group| group.queues)));
        }
        self.touched.extend(changed);
    }

    /// Returns whether a listener's clients come by other ports, at which they are shown.
    pub fn is_idle(&self, id: ListenerId) -> bool {
        self.get(id).is_some_and(|one| one.own.own_port.is_idle)
    }
}

impl MonitoredListener {
    /// Returns whether the handshakes that the kernel completes there are those of its own port: none of a listener
    /// behind this host is, and those of translated ports are among the ones of their socket.
    pub fn completes_alone(&self) -> bool {
        self.kind == ListenerKind::Local && self.own.own_port == OwnPort::default()
    }

    /// Its queues, as far as they are judged here.
    pub fn judged_queues(&self) -> Option<Queues> {
        self.own.queues.filter(|_| !self.own.own_port.is_idle)
    }

    /// Port of the sockets in whose queue its handshakes wait.
    pub fn socket_port(&self) -> u16 {
        self.own.served_by.unwrap_or(self.listener.port)
    }

    /// Returns whether its handshakes wait in a queue of this host.
    pub fn queues_here(&self) -> bool {
        self.kind == ListenerKind::Local || self.own.queues.is_some()
    }
}
