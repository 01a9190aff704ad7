//! SYN cookies in the decision: learning how a listener replies, replying on its behalf, and recognising
//! returned cookies.

use super::count::{count, is_bound_to_all, learn_listener, listener_at};
use super::ladder::{ANY_COOKIES, Trust};
use super::origin::{Departure, UNKNOWN};
use super::own::is_own;
use super::way_back::{self, NoWayBack, WayBack};
use super::{PacketCtx, Tables, classify, cookie_networks, kernel_cookies, syn_ack_cache};
use crate::abi::{
    ABI_VERSION, Class, Config, ListenerEntry, ListenerKey, Reason, SynAckRecord, UNANSWERED_SLOTS,
    Unanswered, moment, option, quirk,
};
use crate::cookie::{self, Choice, Handshake, Offer};
use crate::wire::{self, Frame, FrameMut, Segment, SynAck, SynOptions, flag};

/// Time without an agent after which no mitigation of the ladder acts, in ns of boot time. Rules that drop
/// outlive their agent, so that a restart opens no gap. Mitigations need an agent that watches whether clients
/// get in. Cookies that are out are still accepted.
pub const COOKIE_HEARTBEAT_NS: u64 = 6_000_000_000;

/// A segment that brings back the same cookie within this many ticks of [`cookie::ticks`] is
/// [`Claim::Retransmitted`].
const HANDED_OVER_TICKS: u16 = 16;

/// A connection that was handed to the kernel a moment ago. All-zero is an empty slot. (At XDP, where nothing
/// is handed over: one of which a good cookie passed; see [`super::out_of_state`].)
///
/// It is identified by 48 bits. Of the 32 of a cookie four are the same for most clients, and in the 28 others
/// two connections of one moment agree by chance once in a few million handshakes: the second would never be
/// handed over, and the kernel would reset it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HandedOver {
    /// The cookie. (At XDP: of a keyed hash of the flow.)
    low: u32,
    /// The low half of the client's first number. (At XDP: of the hash.)
    high: u16,
    /// Time of the handover, in ticks.
    tick: u16,
}

impl HandedOver {
    /// The connection that the low 48 bits of `mark` identify, at `tick`.
    #[inline(always)]
    pub const fn new(mark: u64, tick: u64) -> Self {
        Self { low: mark as u32, high: (mark >> 32) as u16, tick: tick as u16 }
    }

    /// Returns whether `earlier` is the same one less than so many ticks before.
    #[inline(always)]
    pub const fn follows(self, earlier: Self, ticks: u16) -> bool {
        self.low == earlier.low
            && self.high == earlier.high
            && self.tick.wrapping_sub(earlier.tick) < ticks
    }
}

/// Result of the test of a segment for a cookie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Claim {
    /// No good cookie.
    None = 0,
    /// A good one: the connection is to be handed to the kernel.
    New = 1,
    /// A good one that came a moment ago already. The packets of one poll of the driver all pass
    /// here before the stack sees the first of them, and third ACK and request mostly come together:
    /// this one is left to the socket that is being made.
    Retransmitted = 2,
}

impl Claim {
    /// The value behind a number that a stage returned.
    #[inline(always)]
    pub const fn from_code(code: u32) -> Self {
        match code {
            1 => Self::New,
            2 => Self::Retransmitted,
            _ => Self::None,
        }
    }
}

/// A connection with a good cookie, as it is described to the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Accepted {
    /// The client's timestamp, 0 without.
    pub client_timestamp: u32,
    /// The host's present timestamp, 0 without. The kernel sets the connection's clock by it, so
    /// that the age of a timestamp that the client echoes is the round-trip time.
    pub host_timestamp: u32,
    /// The client's MSS, in bytes.
    pub mss: u16,
    /// The client's window scale, 0 without.
    pub client_wscale: u8,
    /// The listener's window scale, 0 without.
    pub host_wscale: u8,
    /// The agreed options: bits of [`option`].
    pub options: u32,
}

/// Records the properties of a SYN-ACK, whether it is the host's own, and which way it goes. `segment` is the
/// segment that [`super::egress`] has read in `frame`. In the kernel, its four parts are BPF functions.
#[inline(always)]
pub fn learn<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    segment: &Segment,
    departure: &Departure,
    tables: &mut T,
) {
    let said = learn_options(frame, segment);
    let interfaces = learn_way(frame, segment, departure, said, tables);
    if learn_listener(segment, departure.marks, departure.port, tables) {
        learn_record(segment, said, departure.marks, interfaces, tables);
    }
}

/// The options of a SYN-ACK that leaves, in one number, as the parts of [`learn`] hand them to each other.
#[derive(Clone, Copy, Debug)]
pub struct Said(pub u64);

impl Said {
    #[inline(always)]
    const fn mss(self) -> u16 {
        self.0 as u16
    }

    #[inline(always)]
    const fn wscale(self) -> u8 {
        (self.0 >> 16) as u8
    }

    #[inline(always)]
    const fn options(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Reads the options of a SYN-ACK. By itself, so that the verifier walks the loop over them once.
#[inline(always)]
pub fn learn_options<F: Frame + ?Sized>(frame: &F, segment: &Segment) -> Said {
    let SynOptions { mss, wscale, options, .. } = wire::syn_options(frame, segment);
    Said(u64::from(mss) | u64::from(wscale) << 16 | u64::from(options) << 32)
}

/// Notes which way a SYN-ACK goes. Returns its [`SynAckRecord::interfaces`].
#[inline(always)]
pub fn learn_way<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    segment: &Segment,
    departure: &Departure,
    said: Said,
    tables: &mut T,
) -> u32 {
    let &Departure { ifindex, vlan, marks, .. } = departure;
    let vlan = if vlan != 0 { vlan } else { wire::vlan(frame) };
    if marks & SynAckRecord::FOREIGN == 0 {
        let now = moment(tables.now_ns());
        let mss = if marks & UNKNOWN == 0 { said.mss() } else { 0 };
        way_back::learn(frame, tables, &segment.flow.server, (ifindex, vlan), mss, now);
    }
    SynAckRecord::interface(ifindex, vlan)
}

/// Records the properties of a SYN-ACK with these marks and interfaces.
#[inline(always)]
pub fn learn_record<T: Tables>(
    segment: &Segment,
    said: Said,
    marks: u32,
    interfaces: u32,
    tables: &mut T,
) {
    let (known, foreign) = (marks & UNKNOWN == 0, marks & SynAckRecord::FOREIGN != 0);
    let ecn = if segment.flags & flag::ECE != 0 { option::ECN } else { 0 };
    let now = moment(tables.now_ns());
    let key = ListenerKey::new(segment.flow.client, segment.flow.client_port);
    if !known {
        if let Some(record) = tables.syn_ack_record(&key)
            && record.interfaces & interfaces == 0
        {
            record.interfaces |= interfaces;
        }
        return;
    }
    let seen = SynAckRecord {
        interfaces,
        mss: said.mss(),
        window: segment.window,
        ttl: segment.ttl,
        wscale: said.wscale(),
        asked: 0,
        returned: 0,
        options: said.options() | ecn | marks,
        foreign_at: if foreign { now } else { 0 },
        mss_at: now,
    };
    record(tables, &key, &seen, now);
    // A SYN-ACK that is only forwarded says nothing of how this host replies.
    if is_bound_to_all(tables, &key) && is_own(tables, &key.addr) {
        let all = key.of_all();
        let alike = tables.syn_ack_record(&all).is_none_or(|common| common.is_alike(&seen));
        let seen = if alike { seen } else { seen.differing_at(now) };
        record(tables, &all, &seen, now);
    }
}

/// Replaces the record by the properties of the last SYN-ACK.
#[inline(always)]
fn record<T: Tables>(tables: &mut T, key: &ListenerKey, seen: &SynAckRecord, now: u32) {
    match tables.syn_ack_record(key) {
        Some(record) => {
            let seen = record.followed_by(seen, now);
            // Most equal the last one. A record that is not written stays in every CPU's cache.
            if *record != seen {
                *record = seen;
            }
        }
        None => tables.insert_syn_ack_record(key, seen),
    }
}

/// The reply to a SYN that may pass: whether there is one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Reply {
    /// The SYN cannot be answered here, and goes on to the stack.
    None = 0,
    /// A reply is possible, with the record and to the next hop that [`PacketCtx`] holds.
    Possible = 1,
    /// A reply would go to a group: the SYN is dropped.
    Reflection = 2,
}

impl Reply {
    /// The value behind a number that a stage returned.
    #[inline(always)]
    pub const fn from_code(code: u32) -> Self {
        match code {
            1 => Self::Possible,
            2 => Self::Reflection,
            _ => Self::None,
        }
    }
}

/// Finds out how the listener of a SYN would reply, and which way.
#[inline(always)]
pub(super) fn find_reply<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    tables: &mut T,
    pkt: &mut PacketCtx,
    ifindex: u32,
) -> Reply {
    match way_of_reply(frame, tables, pkt, ifindex) {
        Ok(way) => {
            pkt.to = way.to;
            if way.mss != 0 && way.mss < pkt.record.mss {
                pkt.record.mss = way.mss;
            }
            Reply::Possible
        }
        Err(NoWayBack::Group) => {
            count(tables, pkt.listener.id, |counters| counters.limited += 1);
            Reply::Reflection
        }
        Err(NoWayBack::Renewed) => {
            // Only one in a second, so it takes no token.
            pkt.trust = Trust::Renewing;
            Reply::None
        }
        Err(NoWayBack::Unanswered(why)) => {
            count_unanswered(tables, why);
            Reply::None
        }
    }
}

/// Turns a SYN with a [`Reply`] into the SYN-ACK that its listener would have sent, with a cookie for a sequence
/// number. `None`: it cannot be answered here, and goes on to the stack.
#[inline(always)]
pub(super) fn send_cookie<F: FrameMut + ?Sized, T: Tables>(
    frame: &mut F,
    tables: &mut T,
    pkt: &mut PacketCtx,
) -> Option<Reason> {
    match answer(frame, tables, pkt) {
        Ok(isn) => {
            count(tables, pkt.listener.id, |counters| counters.cookies_sent += 1);
            if pkt.trust == Trust::Validated {
                cookie_networks::asked(tables, pkt);
            }
            (pkt.cookie_sent, pkt.isn) = (true, isn);
            Some(Reason::Cookie)
        }
        Err(why) => {
            count_unanswered(tables, why);
            None
        }
    }
}

#[inline(always)]
fn count_unanswered<T: Tables>(tables: &mut T, why: Unanswered) {
    let place = T::opaque(why as u64) as usize & (UNANSWERED_SLOTS - 1);
    if let Some(counters) = tables.host_counters() {
        counters.unanswered[place] += 1;
    }
}

/// Finds the way of the reply to a SYN, and the record of its listener.
#[inline(always)]
fn way_of_reply<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    tables: &mut T,
    pkt: &mut PacketCtx,
    ifindex: u32,
) -> Result<WayBack, NoWayBack> {
    #[inline(always)]
    const fn because<R>(why: Unanswered) -> Result<R, NoWayBack> {
        Err(NoWayBack::Unanswered(why))
    }
    let syn = &pkt.segment;
    let flow = &syn.flow;
    if is_mixed(syn) || flow.client.is_no_source() {
        return because(Unanswered::NoReply);
    }
    if syn.fragment {
        return because(Unanswered::Fragment);
    }
    if pkt.options.options & option::SIGNED != 0 {
        return because(Unanswered::Signed);
    }
    let key = ListenerKey::new(flow.server, flow.server_port);
    match syn_ack_cache::record_of_listener(tables, &key, pkt.now) {
        Some(record) if record.is_own() => pkt.record = *record,
        _ => return because(Unanswered::NoRecord),
    }
    if pkt.record.is_withheld() {
        // The stack gets all of its SYNs, as where no cookies are sent.
        pkt.mitigations &= !ANY_COOKIES;
        return because(Unanswered::Withheld);
    }
    if !pkt.record.leaves_by(ifindex, wire::vlan(frame)) {
        return because(Unanswered::NoWay);
    }
    way_back::find(frame, tables, &flow.client, pkt.now, ifindex)
}

/// Makes the frame the reply. Returns the cookie.
#[inline(always)]
fn answer<F: FrameMut + ?Sized, T: Tables>(
    frame: &mut F,
    tables: &mut T,
    pkt: &PacketCtx,
) -> Result<u32, Unanswered> {
    let (syn, sent, record) = (&pkt.segment, &pkt.options, &pkt.record);
    let flow = &syn.flow;
    let v6 = syn.quirks & quirk::IPV6 != 0;
    let asks_ecn = syn.flags & (flag::ECE | flag::CWR) == flag::ECE | flag::CWR;
    let ecn = if asks_ecn { option::ECN } else { 0 };
    let client = Offer::new(sent.mss, sent.wscale, (sent.options | ecn) & record.options);
    let (cookie, options) = if kernel_cookies::wanted(&pkt.listener) {
        if !pkt.given.made {
            return Err(Unanswered::NoCookie);
        }
        kernel_cookies::terms(&pkt.given, &client)
    } else {
        let choice = Choice::new(&client, v6).map(|number| frame.forget(number));
        let Some(secret) = tables.cookie_secret().filter(|secret| secret.drawn != 0) else {
            return Err(Unanswered::NoCookie);
        };
        let handshake = Handshake { flow, client_isn: syn.seq };
        let cookie = cookie::make(secret, &handshake, cookie::ticks(pkt.now), &choice);
        (cookie, choice.agreed().options)
    };
    let reply = SynAck {
        to: pkt.to,
        isn: cookie.isn,
        window: record.window,
        mss: record.mss,
        ttl: record.ttl,
        wscale: record.wscale,
        options: frame.forget(options.into()) as u32,
        timestamp: cookie.timestamp,
        echo: sent.timestamp,
    };
    reply.replace(frame, syn).ok_or(Unanswered::Fragment)?;
    Ok(cookie.isn)
}

/// Returns whether it is an IPv6 packet with mapped IPv4 addresses: none of either, and the stack drops it.
#[inline(always)]
pub(super) const fn is_mixed(segment: &Segment) -> bool {
    let v6 = segment.quirks & quirk::IPV6 != 0;
    let flow = &segment.flow;
    v6 == flow.client.as_v4().is_some() || v6 == flow.server.as_v4().is_some()
}

/// The stages of [`redeem`], for the same reasons as [`super::Stages`].
pub trait RedeemStages {
    /// See [`redeem_read`].
    fn read(&mut self) -> bool;
    /// See [`redeem_times`].
    fn times(&mut self);
    /// See [`redeem_check`].
    fn check(&mut self) -> Claim;
}

/// Tests a frame for a cookie. [`PacketCtx::accepted`] then describes the connection for the
/// kernel.
#[inline(always)]
pub fn redeem<S: RedeemStages>(config: &Config, stages: &mut S) -> Claim {
    if config.abi_version != ABI_VERSION || !stages.read() {
        return Claim::None;
    }
    stages.times();
    stages.check()
}

/// Reads the segment into [`PacketCtx::segment`]; `false` when no cookie can come with it.
#[inline(always)]
pub fn redeem_read<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    tables: &mut T,
    pkt: &mut PacketCtx,
) -> bool {
    // Behind generic XDP the kernel (seen on 6.18) forgets how long the Ethernet header is when it has
    // to copy a packet, and the tc hook shows the packet from its IP header on.
    if wire::parse_into(frame, &mut pkt.segment).is_err()
        && wire::parse_packet_into(frame, &mut pkt.segment).is_err()
    {
        return false;
    }
    let segment = &pkt.segment;
    if !matches!(classify(segment.flags), Class::Ack | Class::Fin) || segment.fragment {
        return false;
    }
    let Some(listener) = listener_at(tables, &segment.flow, true) else {
        return false;
    };
    pkt.listener = listener;
    pkt.now = tables.now_ns();
    listener.mitigations & ListenerEntry::ACCEPT != 0
}

/// Reads the segment's timestamps, if it has any.
#[inline(always)]
pub fn redeem_times<F: Frame + ?Sized>(frame: &F, pkt: &mut PacketCtx) {
    pkt.times = wire::timestamps(frame, &pkt.segment);
}

/// Checks the cookie, and describes the connection for the kernel in [`PacketCtx::accepted`]. Most segments belong
/// to existing connections. The MAC distinguishes them from a cookie at less cost than a search for their
/// socket.
#[inline(always)]
pub fn redeem_check<T: Tables>(tables: &mut T, pkt: &mut PacketCtx) -> Claim {
    let (segment, times) = (&pkt.segment, &pkt.times);
    let flow = &segment.flow;
    let tick = cookie::ticks(pkt.now);
    let Some((agreed, clock)) = returned(tables, pkt) else {
        return Claim::None;
    };
    let isn = segment.ack.wrapping_sub(1);
    let host_timestamp = if times.present { clock } else { 0 };
    // The options that were promised. The sizes of the host's end are the listener's. From the latest
    // record, because another CPU may have promised options that this one has not cached.
    let key = ListenerKey::new(flow.server, flow.server_port);
    let Some(record) = syn_ack_cache::latest_of_listener(tables, &key).copied() else {
        return Claim::None;
    };
    if !record.is_own() || agreed.options & !record.options != 0 {
        return Claim::None;
    }
    let Some(place) = tables.handed_over(isn) else {
        return Claim::None;
    };
    let mark = u64::from(isn) | u64::from(segment.seq.wrapping_sub(1)) << 32;
    let handed_over = HandedOver::new(mark, tick);
    let retransmitted = handed_over.follows(*place, HANDED_OVER_TICKS);
    if !retransmitted {
        *place = handed_over;
    }
    pkt.accepted = Accepted {
        client_timestamp: times.value,
        host_timestamp,
        mss: agreed.mss,
        client_wscale: agreed.wscale,
        host_wscale: if agreed.has(option::WSCALE) { record.wscale } else { 0 },
        options: agreed.options,
    };
    if retransmitted { Claim::Retransmitted } else { Claim::New }
}

/// The offer in the cookie that a segment brings back to XDP, if it is good, and the present time as
/// a timestamp.
#[inline(always)]
pub(super) fn returned<T: Tables>(tables: &T, pkt: &PacketCtx) -> Option<(Offer, u32)> {
    let (segment, times) = (&pkt.segment, &pkt.times);
    let secret = tables.cookie_secret().filter(|secret| secret.drawn != 0)?;
    let tick = cookie::ticks(pkt.now);
    let handshake = Handshake { flow: &segment.flow, client_isn: segment.seq.wrapping_sub(1) };
    let echo = if times.present { Some(times.echo) } else { None };
    let agreed = cookie::check(secret, &handshake, tick, segment.ack.wrapping_sub(1), echo)?;
    Some((agreed, cookie::timestamp(secret, tick)))
}

/// Counts a connection that was handed to the kernel.
#[inline(always)]
pub fn redeemed<T: Tables>(config: &Config, tables: &mut T, pkt: &PacketCtx) {
    let listener = pkt.listener.id;
    count(tables, listener, |counters| counters.cookies_redeemed += 1);
    cookie_networks::returned(config, tables, listener, &pkt.segment.flow, pkt.now);
}
