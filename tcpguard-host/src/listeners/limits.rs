//! Limits on the connections that wait at a listener, and the settings that determine them, by the
//! kernel's rule.
//!
//! - The accept queue is full while more connections wait than `sk_max_ack_backlog`. SYNs are dropped
//!   then, too (`sk_acceptq_is_full`, include/net/sock.h, since Linux 2.6.21).
//! - The SYN queue is full while more handshakes wait than that number; before Linux 6.14, while as
//!   many wait (`inet_csk_reqsk_queue_is_full`, include/net/inet_connection_sock.h, since 4.3). The
//!   kernel then replies with cookies, or drops SYNs where cookies are off.
//! - With `tcp_syncookies` 0, SYNs of clients that the kernel does not know from earlier connections
//!   are also dropped while less than a quarter of `tcp_max_syn_backlog` is free (`tcp_conn_request`,
//!   net/ipv4/tcp_input.c). With cookies that setting has no effect.
//!
//! `sk_max_ack_backlog` is the second argument of `listen`, at most `net.core.somaxconn` at that
//! moment (`__sys_listen`, net/socket.c): to raise `somaxconn` changes nothing until the application
//! listens again.

use schemars::JsonSchema;
use serde::Serialize;

use crate::linux::ListeningSocket;
use crate::linux::sysctl::TcpSettings;

/// Setting that determines a limit.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SetBy {
    /// The application, by the second argument of `listen`. (Or `net.core.somaxconn`, if it was
    /// lower when the application called it.)
    Application,
    /// `net.core.somaxconn`. (Or the application, if it asked for exactly that number.)
    Somaxconn,
    /// `net.ipv4.tcp_max_syn_backlog`: without cookies, new clients may take three quarters of it.
    TcpMaxSynBacklog,
    /// The value of `net.core.somaxconn` when the application called `listen`. It has been lowered
    /// since, and the limit will be lower at the next call.
    Earlier,
    /// Not known: `net.core.somaxconn` cannot be read.
    Unknown,
}

/// Limit of one queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limit {
    /// Number of waiting connections above which the queue is full.
    pub places: u32,
    /// Setting that determines the limit.
    pub set_by: SetBy,
}

/// Limits of a listener's queues.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QueueLimits {
    /// Limit of the accept queue: connections that wait for `accept`.
    pub accept: Limit,
    /// Limit of the SYN queue: half-open handshakes.
    pub syn: Limit,
}

/// Returns the limits of one listening socket.
pub fn of(socket: &ListeningSocket, tcp: &TcpSettings) -> QueueLimits {
    let accept = Limit { places: socket.backlog, set_by: set_by(socket.backlog, tcp.somaxconn) };
    QueueLimits {
        accept,
        syn: new_client_limit(tcp).filter(|own| own.places < accept.places).unwrap_or(accept),
    }
}

fn set_by(backlog: u32, somaxconn: Option<u64>) -> SetBy {
    match somaxconn {
        None => SetBy::Unknown,
        Some(most) if u64::from(backlog) < most => SetBy::Application,
        Some(most) if u64::from(backlog) == most => SetBy::Somaxconn,
        Some(_) => SetBy::Earlier,
    }
}

/// Returns whether `tcp_max_syn_backlog` has an effect, which SYN cookies end. A kernel without cookies has no
/// `tcp_syncookies`.
pub fn has_syn_backlog(syncookies: Option<u64>) -> bool {
    syncookies.unwrap_or(0) == 0
}

/// Returns the part of `tcp_max_syn_backlog` that new clients may take.
pub const fn for_new_clients(max_syn_backlog: u64) -> u64 {
    max_syn_backlog - (max_syn_backlog >> 2)
}

/// Returns the limit that `tcp_max_syn_backlog` sets for new clients; `None` where it has no effect.
fn new_client_limit(tcp: &TcpSettings) -> Option<Limit> {
    let all = tcp.max_syn_backlog.filter(|_| has_syn_backlog(tcp.syncookies))?;
    let places = u32::try_from(for_new_clients(all)).unwrap_or(u32::MAX);
    Some(Limit { places, set_by: SetBy::TcpMaxSynBacklog })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(backlog: u32) -> ListeningSocket {
        ListeningSocket {
            addr: [0; 4].into(),
            port: 80,
            dual_stack: false,
            accept: 0,
            backlog,
            inode: 1,
            uid: 0,
            interface: 0,
            mptcp: false,
            drops: None,
        }
    }

    #[test]
    fn the_accept_queue_is_limited_by_the_application_or_by_somaxconn() {
        for (backlog, somaxconn, expected) in [
            (511, Some(4096), SetBy::Application),
            (4096, Some(4096), SetBy::Somaxconn),
            (4096, Some(128), SetBy::Earlier),
            (0, Some(4096), SetBy::Application),
            (128, None, SetBy::Unknown),
        ] {
            let tcp = TcpSettings { syncookies: Some(1), somaxconn, ..TcpSettings::default() };
            let limit = Limit { places: backlog, set_by: expected };
            let found = of(&socket(backlog), &tcp);
            assert_eq!(found, QueueLimits { accept: limit, syn: limit }, "{backlog} {somaxconn:?}");
        }
    }

    #[test]
    fn tcp_max_syn_backlog_counts_only_without_cookies_and_only_when_it_is_less() {
        let max = SetBy::TcpMaxSynBacklog;
        for (syncookies, max_syn_backlog, backlog, expected) in [
            (Some(1), Some(256), 4095, (4095, SetBy::Application)),
            (Some(2), Some(256), 4095, (4095, SetBy::Application)),
            (Some(0), Some(256), 4095, (192, max)),
            (Some(0), Some(256), 192, (192, SetBy::Application)),
            (Some(0), Some(256), 193, (192, max)),
            (Some(0), Some(4096), 128, (128, SetBy::Application)),
            (Some(0), Some(3), 128, (3, max)),
            (Some(0), Some(5), 128, (4, max)),
            (Some(0), Some(0), 128, (0, max)),
            (Some(0), Some(u64::MAX), 128, (128, SetBy::Application)),
            (Some(0), None, 128, (128, SetBy::Application)),
            (None, Some(256), 4095, (192, max)),
        ] {
            let somaxconn = Some(4096);
            let tcp =
                TcpSettings { syncookies, max_syn_backlog, somaxconn, ..TcpSettings::default() };
            let found = of(&socket(backlog), &tcp);
            let case = format!("{syncookies:?} {max_syn_backlog:?} {backlog}");
            assert_eq!((found.syn.places, found.syn.set_by), expected, "{case}");
            assert_eq!(found.accept.places, backlog, "{case}");
        }
    }
}
