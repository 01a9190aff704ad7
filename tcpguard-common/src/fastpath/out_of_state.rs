//! Out-of-state segments, which belong to no connection: the packets of an ACK, FIN or RST flood.
//!
//! The stack answers each with a reset. Only the host's own socket table shows whether a segment is one, so it
//! is searched while a listener is under attack. A segment that finds a connection in any state is left alone.
//! A segment that finds only the listening socket, or none, is out of state, unless it is the third ACK of a
//! SYN cookie, of which nothing was stored.
//!
//! That a segment is not found means nothing where the search differs from the stack's: where the
//! packet is forwarded or translated, belongs to another network namespace, or a socket is bound to
//! an interface above this one. So the same look-up is made for each SYN-ACK that leaves
//! ([`super::learn`]). Out-of-state segments are looked for only at addresses and ports of which
//! every SYN-ACK was found to be of a connection in the table.

use super::count::{count, listener_at};
use super::exempt::is_exempt;
use super::rules::agent_gone;
use super::{
    HandedOver, PacketCtx, Stages, Tables, classify, clients, cookies, hash, kernel_cookies,
    syn_ack_cache, way_back,
};
use crate::abi::{
    Class, Config, FlowKey, ListenerEntry, ListenerKey, ListenerKind, Mode, Rate, Reason,
    ReturnedCookies,
};
use crate::cookie;
use crate::wire::Frame;

/// The default for [`Config::failed_cookie_ns`]: 2^18 checks a second. A guess is right once in
/// 2^27 (decision 7), so a flood of any rate gets a connection every 8.5 minutes.
pub const FAILED_COOKIE_NS: u32 = 3_815;
/// Checks that may come at once: 62 ms of them, more than the clock's longest tick.
const FAILED_COOKIE_BURST: u32 = 16_384;

/// Time in which everything passes that belongs to a flow that brought a good cookie, in ticks of
/// [`cookie::ticks`]: 0.27 s. The stack may still have to make the socket. The packets of one poll of the
/// driver all pass here before it sees the first, and then they may wait for another CPU.
const OPENED_TICKS: u16 = 256;

/// The socket that a segment finds in the host's own socket table.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub enum Socket {
    /// No socket.
    #[default]
    None = 0,
    /// Only the listening socket.
    Listening = 1,
    /// The listening socket, to which the segment brings a good cookie of the kernel's making.
    Cookie = 2,
    /// The socket of the segment's own connection, in whatever state.
    Connection = 3,
}

impl Socket {
    /// The value behind a number that a stage returned.
    #[inline(always)]
    pub const fn from_code(code: u32) -> Self {
        match code {
            0 => Self::None,
            1 => Self::Listening,
            2 => Self::Cookie,
            // Also for codes that cannot be: the segment is left alone.
            _ => Self::Connection,
        }
    }
}

/// The stages that recognise out-of-state segments, for the same reasons as [`Stages`].
pub trait OutOfStateStages {
    /// See [`watched`].
    fn out_of_state_watched(&mut self, completes: bool) -> bool;
    /// See [`judge`].
    fn out_of_state_judge(&mut self, socket: Socket) -> Option<Reason>;
}

/// The fate of a segment that is neither SYN nor SYN-ACK. `reason`: its fate without this stage.
#[inline(always)]
pub(super) fn judged<S: Stages>(config: &Config, stages: &mut S, reason: Reason) -> Reason {
    if config.out_of_state == 0
        || !stages.out_of_state_watched(matches!(reason, Reason::HandshakeAck))
    {
        return reason;
    }
    let socket = stages.socket();
    if matches!(socket, Socket::Connection) {
        return reason;
    }
    if matches!(socket, Socket::Listening) {
        stages.options();
    }
    stages.out_of_state_judge(socket).unwrap_or(reason)
}

/// Returns whether the socket table is to be asked about the segment, and in [`PacketCtx`] whether its cookie may
/// be checked. `completes`: it is known to complete a handshake.
#[inline(always)]
pub fn watched<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    config: &Config,
    tables: &mut T,
    pkt: &mut PacketCtx,
    ifindex: u32,
    completes: bool,
) -> bool {
    let flow = &pkt.segment.flow;
    let Some(listener) = listener_at(tables, flow, true) else {
        return false;
    };
    if listener.mitigations & ListenerEntry::OUT_OF_STATE == 0
        || listener.kind != ListenerKind::Local as u8
    {
        return false;
    }
    let key = ListenerKey::new(flow.server, flow.server_port);
    pkt.now = tables.now_ns();
    let Some(record) = syn_ack_cache::record(tables, &key, pkt.now).copied() else {
        return false;
    };
    if cookies::is_mixed(&pkt.segment) || !way_back::is_of(frame, tables, &record, ifindex) {
        return false;
    }
    pkt.listener = listener;
    pkt.flow_hash = hash::flow(&config.hash_key, flow);
    if completes {
        count_kernel_cookie(config, tables, pkt);
        note_opened(tables, pkt);
    }
    if was_opened(tables, pkt) {
        return false;
    }
    pkt.checked = brings_cookie(pkt) && may_check(config, tables, pkt);
    true
}

/// Returns whether it may be the third ACK of a handshake.
#[inline(always)]
fn brings_cookie(pkt: &PacketCtx) -> bool {
    matches!(classify(pkt.segment.flags), Class::Ack | Class::Fin)
}

/// Returns whether the number of wrong cookies at this listener is limited: it accepts cookies, and there
/// is a limit.
#[inline(always)]
const fn is_limited(config: &Config, listener: &ListenerEntry) -> bool {
    listener.mitigations & (ListenerEntry::ACCEPT | ListenerEntry::KERNEL_COOKIES) != 0
        && config.failed_cookie_ns != 0
}

#[inline(always)]
const fn rate(config: &Config) -> Rate {
    Rate { interval_ns: config.failed_cookie_ns, burst: FAILED_COOKIE_BURST }
}

/// Returns whether the limit of wrong cookies leaves room for another one, or it is a client's.
#[inline(always)]
fn may_check<T: Tables>(config: &Config, tables: &mut T, pkt: &PacketCtx) -> bool {
    if !is_limited(config, &pkt.listener) {
        return true;
    }
    match tables.returned_cookies(pkt.listener.id) {
        Some(failed) if failed.bucket.is_empty(pkt.now, rate(config)) => {
            clients::find(config, tables, &pkt.segment.flow.client.client()).is_some()
        }
        _ => true,
    }
}

/// The fate of a segment that found this and no connection. `None`: it belongs to one all the same, or
/// may.
#[inline(always)]
pub fn judge<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    config: &Config,
    tables: &mut T,
    pkt: &PacketCtx,
    ifindex: u32,
    socket: Socket,
) -> Option<Reason> {
    let takes = pkt.listener.mitigations & ListenerEntry::ACCEPT != 0;
    let good = match socket {
        Socket::Connection => return None,
        Socket::Cookie => true,
        Socket::Listening => takes && pkt.checked && cookies::returned(tables, pkt).is_some(),
        Socket::None => false,
    };
    if good {
        if matches!(socket, Socket::Cookie) {
            count_kernel_cookie(config, tables, pkt);
        }
        note_opened(tables, pkt);
        return None;
    }
    let failed = matches!(socket, Socket::Listening)
        && brings_cookie(pkt)
        && is_limited(config, &pkt.listener);
    let unchecked = failed && !pkt.checked;
    let dropped = (unchecked || config.drop_out_of_state != 0)
        && config.mode == Mode::Enforce as u8
        && !agent_gone(config, pkt.now)
        // The source address of a guessed cookie proves nothing, so the limit of guesses exempts no
        // source.
        && (unchecked || !is_exempt(tables, &pkt.segment.flow.client, pkt.now));
    if dropped && !answers_this_way(frame, tables, &pkt.segment.flow, ifindex) {
        return None;
    }
    if failed
        && pkt.checked
        && let Some(failed) = tables.returned_cookies(pkt.listener.id)
    {
        note_failed(failed, pkt.now, rate(config));
    }
    if !dropped {
        return Some(Reason::OutOfState);
    }
    count(tables, pkt.listener.id, |counters| counters.refused += 1);
    Some(Reason::DropOutOfState)
}

/// Returns whether SYN-ACKs leave where a frame came in, and are all the host's own, by the latest record:
/// [`watched`] may have used a cached one from before a SYN-ACK of another origin was seen.
#[inline(always)]
fn answers_this_way<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    tables: &mut T,
    flow: &FlowKey,
    ifindex: u32,
) -> bool {
    let key = ListenerKey::new(flow.server, flow.server_port);
    let record = tables.syn_ack_record(&key).copied();
    record.is_some_and(|record| way_back::is_of(frame, tables, &record, ifindex))
}

#[inline(always)]
const fn note_failed(failed: &mut ReturnedCookies, now_ns: u64, rate: Rate) {
    failed.invalid += 1;
    // That it is empty by now matters to the next.
    let _ = failed.bucket.take(now_ns, rate);
}

/// Counts a good cookie of the kernel's making that XDP has sent. A cookie made by XDP is counted when it is
/// handed to the kernel.
#[inline(always)]
fn count_kernel_cookie<T: Tables>(config: &Config, tables: &mut T, pkt: &PacketCtx) {
    if kernel_cookies::wanted(&pkt.listener) {
        cookies::redeemed(config, tables, pkt);
    }
}

/// Remembers that a flow has just become a connection.
#[inline(always)]
fn note_opened<T: Tables>(tables: &mut T, pkt: &PacketCtx) {
    if let Some(place) = tables.handed_over(pkt.flow_hash as u32) {
        *place = opened(pkt);
    }
}

#[inline(always)]
fn was_opened<T: Tables>(tables: &mut T, pkt: &PacketCtx) -> bool {
    let place = tables.handed_over(pkt.flow_hash as u32);
    place.is_some_and(|place| opened(pkt).follows(*place, OPENED_TICKS))
}

/// The hash's low bits choose the slot.
#[inline(always)]
const fn opened(pkt: &PacketCtx) -> HandedOver {
    HandedOver::new(pkt.flow_hash >> 16, cookie::ticks(pkt.now))
}
