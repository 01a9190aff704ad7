//! Attribution of packets to listeners and sources, and their counters.

use super::own::is_own;
use super::{Note, Origin, PacketCtx, Tables, clients, hash, sets};
use crate::abi::{
    Addr, Config, Flow, FlowKey, ListenerCounters, ListenerEntry, ListenerKey, ListenerKind,
    SourceCounters, SynAckRecord, quirk,
};
use crate::wire::Segment;

/// Returns the number of flows that a flow stands for if it was recorded under `recorded_shift` and is looked
/// up now: when the shift has grown since, only one in `2^sample_shift` of those recorded is looked up at all.
#[inline(always)]
pub(super) const fn weight(config: &Config, recorded_shift: u8) -> u64 {
    let shift =
        if recorded_shift > config.sample_shift { recorded_shift } else { config.sample_shift };
    1 << (shift & 31)
}

/// A segment holds no more data than this, in bytes.
const LONGEST_DATA: u32 = 65_535;

/// Returns whether `next` is the sequence number after a flow's SYN: of the data in it (TCP Fast Open,
/// RFC 7413) none, some or all may have been taken.
#[inline(always)]
pub(super) const fn follows(flow: &Flow, next: u32) -> bool {
    let most = if flow.fingerprint.quirks & quirk::PAYLOAD == 0 { 1 } else { LONGEST_DATA };
    let step = next.wrapping_sub(flow.syn_seq);
    step != 0 && step <= most
}

/// The listener that a flow belongs to: the one at exactly this address, else the one bound to all of the family,
/// whose addresses are the host's own. (A dual-stack socket has an entry for each.)
#[inline(always)]
pub(super) fn find_listener<T: Tables>(tables: &T, flow: &FlowKey) -> Option<ListenerEntry> {
    let (listener, own_only) = nearest(tables, flow)?;
    if !own_only || is_own(tables, &flow.server) { Some(listener) } else { None }
}

/// The listener that a flow belongs to, where it is known whether its address is the host's `own`.
#[inline(always)]
pub(super) fn listener_at<T: Tables>(
    tables: &T,
    flow: &FlowKey,
    own: bool,
) -> Option<ListenerEntry> {
    let (listener, own_only) = nearest(tables, flow)?;
    if !own_only || own { Some(listener) } else { None }
}

/// The listener at a flow's address and port, and whether it is one for the host's own addresses alone.
#[inline(always)]
fn nearest<T: Tables>(tables: &T, flow: &FlowKey) -> Option<(ListenerEntry, bool)> {
    let port = tables.port(flow.server_port);
    if port.exact != 0
        && let Some(id) = tables.listener_at(&ListenerKey::new(flow.server, flow.server_port))
    {
        return Some((tables.listener(id)?, false));
    }
    let any = if flow.server.as_v4().is_some() { port.any_v4 } else { port.any_v6 };
    if any == 0 {
        return None;
    }
    let listener = tables.listener(u32::from(any) - 1)?;
    let own_only = listener.own_only != 0 && !flow.server.is_loopback();
    Some((listener, own_only))
}

/// Returns whether packets to an address and port belong to a listener that is bound to all addresses of the
/// family.
#[inline(always)]
pub(super) fn is_bound_to_all<T: Tables>(tables: &T, key: &ListenerKey) -> bool {
    let port = tables.port(key.port);
    let any = if key.addr.as_v4().is_some() { port.any_v4 } else { port.any_v6 };
    any != 0 && (port.exact == 0 || tables.listener_at(key).is_none())
}

/// Notes for the agent a SYN-ACK that does not fit the listener at its address and port: there is none, it answers
/// from elsewhere, or by a socket at another `port` (see [`super::Departure`]). Returns whether there is one.
#[inline(always)]
pub fn learn_listener<T: Tables>(segment: &Segment, marks: u32, port: u16, tables: &mut T) -> bool {
    let listener = find_listener(tables, &segment.flow.reversed());
    let fits = match listener {
        Some(listener) if listener.kind == ListenerKind::Local as u8 => {
            marks & SynAckRecord::FOREIGN == 0
        }
        Some(_) => marks != Origin::Own.marks() && port == 0,
        None => false,
    };
    if !fits {
        let key = ListenerKey::new(segment.flow.client, segment.flow.client_port);
        tables.note_syn_ack(&key, Note::new(Origin::of_marks(marks), port));
    }
    listener.is_some()
}

#[inline(always)]
pub(super) fn count<T: Tables>(tables: &mut T, id: u32, count: impl FnOnce(&mut ListenerCounters)) {
    if let Some(counters) = tables.listener_counters(id) {
        count(counters);
    }
}

/// Counts a third ACK that stands for `weight` of them, of a handshake that began at `syn_ns`.
#[inline(always)]
pub(super) fn count_acknowledged<T: Tables>(
    config: &Config,
    tables: &mut T,
    id: u32,
    weight: u64,
    syn_ns: u64,
) {
    count(tables, id, |counters| counters.acknowledged += weight);
    if let Some(index) = config.polls_since(syn_ns).checked_sub(1)
        && let Some(late) = tables.late(id)
        && let Some(late) = late.polls.get_mut(index)
    {
        *late += weight;
    }
}

#[inline(always)]
pub(super) fn count_listener<T: Tables>(
    tables: &mut T,
    pkt: &PacketCtx,
    counting: impl FnOnce(&mut ListenerCounters),
) {
    if pkt.has_listener {
        count(tables, pkt.listener.id, counting);
    }
}

/// The additions of a packet to its source's counters.
#[derive(Clone, Copy, Default)]
pub(super) struct SourceDelta {
    pub syn: u64,
    pub syn_ack: u64,
    pub ack: u64,
    pub rst: u64,
}

impl SourceDelta {
    #[inline(always)]
    const fn add(&self, counters: &mut SourceCounters, now: u64) {
        counters.syn += self.syn;
        counters.syn_ack += self.syn_ack;
        counters.ack += self.ack;
        counters.rst += self.rst;
        counters.last_ns = now;
    }
}

/// Counts a packet of a source: with the validated clients, which no flood evicts, or else with
/// the others.
#[inline(always)]
pub(super) fn count_source<T: Tables>(
    config: &Config,
    tables: &mut T,
    addr: &Addr,
    now: u64,
    delta: SourceDelta,
) {
    let addr = addr.client();
    if let Some(client) = clients::find(config, tables, &addr) {
        delta.add(&mut client.counters, now);
        return;
    }
    let hash = hash::source(&config.hash_key, &addr);
    if let Some(counters) = sets::source(tables, hash, &addr) {
        delta.add(counters, now);
        return;
    }
    let mut counters = SourceCounters::default();
    delta.add(&mut counters, now);
    sets::insert_source(tables, hash, &addr, &counters);
}
