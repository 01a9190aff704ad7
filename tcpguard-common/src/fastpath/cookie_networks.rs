//! Clients with valid cookies, and whether the kernel completed their handshakes.
//!
//! A SYN that is answered at XDP is seen by nothing behind it, so the packet filter of the host may drop the
//! ACK that returns the cookie. So each connection whose cookie was returned is remembered until the kernel says that its
//! handshake is complete. Handshakes that the stack completes after SYN-ACKs of its own do not count, not even those of
//! the same client: some SYNs go to the stack while cookies are sent. The other family does not count either, because a
//! filter may have rules for one of the two only.
//!
//! Of the clients of a network (IPv4 /24, IPv6 /48) four handshakes a second count, regardless of the number of
//! ACKs and connections. An attacker that sends ACKs that the host refuses (a wrong checksum) therefore needs
//! addresses in many networks to outvote clients. On a collision, the later network takes the entry.
//!
//! Replies that reach no client are returned by none. They are distinguished from clients that have gone by SYNs of
//! clients that are there, which are counted as well. Both are also noted for the server address
//! ([`SynAckRecord::asked`]): the replies of one address of a listener may take another way than those of the next.

use super::{PacketCtx, Tables, hash};
use crate::abi::{
    Addr, Config, CookieNetwork, FlowKey, ListenerEntry, ListenerKey, ReturnedCookies, SynAckRecord,
};

/// Units of [`crate::abi::CookieNetwork::since`] as a power of two of nanoseconds.
const UNIT: u32 = 20;
/// For this long a network counts no more handshakes than [`CookieNetwork::flows`] holds, and one that completes later is
/// not that of its cookie: 1.05 s.
const SPAN: u32 = 1_000;
/// The place of a connection that has completed.
const DONE: u16 = u16::MAX;

/// Returns whether cookies may be out for a listener's clients.
#[inline(always)]
const fn takes_cookies(listener: &ListenerEntry) -> bool {
    listener.mitigations & (ListenerEntry::ACCEPT | ListenerEntry::KERNEL_COOKIES) != 0
}

/// The entry of the client's network at a listener: its index, and the mark that distinguishes it from others there.
#[inline(always)]
fn entry(config: &Config, client: &Addr, listener: u32) -> (u64, u32) {
    let network = hash::source(&config.hash_key, &client.network());
    // The highest bit distinguishes it from an empty entry.
    (network.wrapping_add(listener as u64), (network >> 32) as u32 ^ listener | 1 << 31)
}

/// The mark of a connection: neither an empty place nor [`DONE`].
#[inline(always)]
fn mark(config: &Config, flow: &FlowKey) -> u16 {
    (hash::flow(&config.hash_key, flow) as u16).clamp(1, DONE - 1)
}

#[inline(always)]
const fn family<'c, Count>(counts: &'c mut [Count; 2], client: &Addr) -> &'c mut Count {
    let [v4, v6] = counts;
    if client.as_v4().is_some() { v4 } else { v6 }
}

#[inline(always)]
const fn moment(now_ns: u64) -> u32 {
    (now_ns >> UNIT) as u32
}

/// Returns whether a span that began at `since` is over at `at`. The clock of another CPU may be a little ahead.
#[inline(always)]
const fn is_over(since: u32, at: u32) -> bool {
    let age = at.wrapping_sub(since);
    age >= SPAN && age < 1 << 31
}

/// The first place with this content.
#[inline(always)]
fn place(network: &mut CookieNetwork, content: u16) -> Option<&mut u16> {
    let [a, b, c, d] = &mut network.flows;
    if *a == content {
        Some(a)
    } else if *b == content {
        Some(b)
    } else if *c == content {
        Some(c)
    } else if *d == content {
        Some(d)
    } else {
        None
    }
}

/// The record of the address and port that a client connects to; `None`: it has none of its own.
#[inline(always)]
fn record_of_server<'t, T: Tables>(
    tables: &'t mut T,
    flow: &FlowKey,
) -> Option<&'t mut SynAckRecord> {
    tables.syn_ack_record(&ListenerKey::new(flow.server, flow.server_port))
}

/// Counts the client that returned a valid cookie to this listener at `now_ns`.
#[inline(always)]
pub(super) fn returned<T: Tables>(
    config: &Config,
    tables: &mut T,
    listener: u32,
    flow: &FlowKey,
    now_ns: u64,
) {
    if let Some(record) = record_of_server(tables, flow)
        && record.returned == 0
    {
        record.returned = 1;
    }
    let ((index, client), at) = (entry(config, &flow.client, listener), moment(now_ns));
    let mark = mark(config, flow);
    let Some(network) = tables.cookie_network(index) else {
        return;
    };
    let is_new = network.client != client;
    if is_new || is_over(network.since, at) {
        *network = CookieNetwork { client, since: at, ..CookieNetwork::default() };
    }
    let Some(place) = place(network, 0) else {
        return;
    };
    *place = mark;
    if let Some(ReturnedCookies { valid, networks, .. }) = tables.returned_cookies(listener) {
        *family(valid, &flow.client) += 1;
        *family(networks, &flow.client) += is_new as u32;
    }
}

/// Counts a SYN that was answered with a cookie and that shows that a client is there.
#[inline(always)]
pub(super) fn asked<T: Tables>(tables: &mut T, pkt: &PacketCtx) {
    if let Some(ReturnedCookies { asked, .. }) = tables.returned_cookies(pkt.listener.id) {
        *family(asked, &pkt.segment.flow.client) += 1;
    }
    if let Some(record) = record_of_server(tables, &pkt.segment.flow) {
        record.asked = record.asked.saturating_add(1);
    }
}

/// Counts that the kernel completed the handshake of this connection, if its cookie was returned.
#[inline(always)]
pub(super) fn completed<T: Tables>(
    config: &Config,
    tables: &mut T,
    listener: &ListenerEntry,
    flow: &FlowKey,
    now_ns: u64,
) {
    if !takes_cookies(listener) {
        return;
    }
    let ((index, client), at) = (entry(config, &flow.client, listener.id), moment(now_ns));
    let mark = mark(config, flow);
    let Some(network) = tables.cookie_network(index) else {
        return;
    };
    if network.client != client || is_over(network.since, at) {
        return;
    }
    let Some(place) = place(network, mark) else {
        return;
    };
    *place = DONE;
    if let Some(ReturnedCookies { completed, .. }) = tables.returned_cookies(listener.id) {
        *family(completed, &flow.client) += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Model, hash_key};

    const NOW: u64 = 5_000_000_000;
    const MS: u64 = 1_000_000;

    struct Host {
        model: Model,
        listener: ListenerEntry,
    }

    impl Host {
        fn new(mitigations: u8) -> Self {
            let listener = ListenerEntry { id: 3, mitigations, ..ListenerEntry::default() };
            let config = Config { hash_key: hash_key(1), ..Config::default() };
            Self { model: Model::new(config), listener }
        }

        fn returned(&mut self, flow: &FlowKey, ms: u64) {
            let config = self.model.config;
            returned(&config, &mut self.model, self.listener.id, flow, NOW + ms * MS);
        }

        fn completed(&mut self, flow: &FlowKey, ms: u64) {
            let (config, listener) = (self.model.config, self.listener);
            completed(&config, &mut self.model, &listener, flow, NOW + ms * MS);
        }

        /// Valid cookies, and completed handshakes.
        fn counts(&mut self) -> ([u64; 2], [u64; 2]) {
            let counts = self.model.returned_cookies.entry(3).or_default();
            (counts.valid, counts.completed)
        }
    }

    fn flow(client: Addr, port: u16) -> FlowKey {
        let server = Addr::from_v4([192, 0, 2, 1]);
        FlowKey { client, server, client_port: port.to_be_bytes(), server_port: [1, 0xbb] }
    }

    fn v4(net: u8, port: u16) -> FlowKey {
        flow(Addr::from_v4([198, 51, net, 7]), port)
    }

    #[test]
    fn a_network_counts_four_times_a_second_however_many_acks_and_connections_it_has() {
        let mut host = Host::new(ListenerEntry::ACCEPT);
        for ms in 0..1_000 {
            host.returned(&v4(1, ms as u16), ms);
        }
        assert_eq!(host.counts().0, [4, 0]);
        host.returned(&v4(1, 1), 1_060);
        host.returned(&v4(2, 1), 1_060);
        assert_eq!(host.counts().0, [6, 0]);
        for last in 0..100 {
            host.returned(&flow(Addr::from_v4([198, 51, 2, last]), 1), 1_060);
        }
        assert_eq!(host.counts().0, [9, 0], "neighbours share");
        assert_eq!(host.model.returned_cookies[&3].networks, [2, 0]);
        for _ in 0..100 {
            host.completed(&v4(1, 1), 1_061);
        }
        assert_eq!(host.counts().1, [1, 0], "none more than was counted");
    }

    #[test]
    fn only_the_handshake_of_a_cookie_counts_as_completed_and_for_its_family() {
        let mut host = Host::new(ListenerEntry::KERNEL_COOKIES);
        let v6 = flow(Addr::from_v6_words([0x2001_0db8, 0, 0, 9]), 7);
        host.completed(&v4(1, 1), 0);
        host.returned(&v4(1, 1), 1);
        host.returned(&v6, 1);
        host.completed(&v4(2, 1), 2);
        host.completed(&v4(1, 2), 2);
        assert_eq!(host.counts(), ([1, 1], [0, 0]), "the stack had answered these");
        host.completed(&v6, 2);
        host.completed(&v6, 3);
        assert_eq!(host.counts(), ([1, 1], [0, 1]));
        host.completed(&v4(1, 1), 1_100);
        assert_eq!(host.counts().1, [0, 1], "a second later it is another one");
        host.returned(&v4(3, 1), 20);
        host.completed(&v4(3, 1), 16);
        assert_eq!(host.counts().1, [1, 1], "the other CPU's clock is behind");
    }

    #[test]
    fn a_returned_cookie_is_noted_at_its_server_address() {
        let mut host = Host::new(ListenerEntry::ACCEPT);
        let key = |last| ListenerKey::new(Addr::from_v4([192, 0, 2, last]), [1, 0xbb]);
        for last in [1, 2] {
            host.model.syn_acks.insert(key(last), SynAckRecord::default());
        }
        (0..9).for_each(|port| host.returned(&v4(1, port), 0));
        assert_eq!([1, 2].map(|last| host.model.syn_acks[&key(last)].returned), [1, 0]);
    }

    #[test]
    fn where_no_cookies_are_out_nothing_is_looked_up() {
        let mut host = Host::new(0);
        host.returned(&v4(1, 1), 0);
        host.completed(&v4(1, 1), 1);
        assert_eq!(host.counts().1, [0, 0]);
    }
}
