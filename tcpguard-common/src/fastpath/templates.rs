//! Templates of dropped SYNs: the headers of one SYN that a rule dropped, by which identical ones are
//! dropped.
//!
//! The packets of a flood tool differ only in fields that are drawn for each: source, port, sequence number,
//! identification, checksums. All other header fields are the same. So a CPU that drops a SYN by a signature, or by
//! an operator's rule for its source, remembers the rest of its headers as a template, with the listener and the
//! signature's rule that they lead to, and the results that are the same for each SYN with these headers. The next
//! one needs not to be parsed. Where there are source rules, its source is looked up, and nothing else.
//!
//! It is counted and dropped as by all the stages. Where its fate might differ from that of the one before
//! it, it takes all the stages, and nothing was counted yet. That is so if its sender may be validated or
//! exempt, if it may be a retransmission, or if its flow or its header belongs to a sample. A template is
//! good for the rest of its tick, as a cached look-up is ([`super::signatures`]).

use super::drop_cache::{self, Lookup};
use super::signatures::{self, Compared};
use super::{PacketCtx, Tables, clients, distinct, exempt, hash, pace, rules, samples};
use crate::abi::{Addr, Config, Mode, Pace, Reason, RuleRef};
use crate::wire::{Frame, Window, flag};

/// Dropped SYNs for each template: a flood of SYNs that are not alike must not pay for each.
const EVERY: u32 = 16;
/// Words of options that a template may have: MSS, window scale and SACK of common stacks. A sender with
/// timestamps sends another one each time.
const OPTION_WORDS: usize = 3;
/// Words of a TCP header without options.
const PLAIN: u32 = 5;

/// A template ends with its tick, and so within the one in which [`Pace`] counts.
const _: () = assert!(signatures::TICK <= Pace::TICK);

/// The common fields of SYNs that are alike. All-zero is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Template {
    /// Eight bytes each of the headers, in the order of the wire, with zeros where `masks` has them.
    headers: [u64; HEADERS],
    masks: [u64; HEADERS],
    /// Option words in host byte order, zero where there are fewer.
    options: [u32; OPTION_WORDS],
    /// Number of option words.
    option_words: u32,
    /// The part of their address and port in [`hash::flow`].
    server_sum: u64,
    /// Rule set of the rule.
    set: u64,
    /// Time at which the template ends, boot time in ns.
    until_ns: u64,
    /// A SYN is a sample of its listener if its number has none of these bits.
    unsampled: u64,
    /// Rule of the signature that these headers have. None: a SYN with them was dropped by its source.
    rule: RuleRef,
    listener: u32,
    /// SYNs in this tick on this CPU up to which ...
    packets: u32,
    /// ... one in so many is tracked and one in so many remembered, both as powers of two.
    tracked: u8,
    remembered: u8,
    mode: u8,
    pad: [u8; 5],
}

/// The fields that each SYN has of its own.
struct Own {
    client: Addr,
    port: [u8; 2],
    server_port: [u8; 2],
    seq: u32,
}

/// Facts for the counters about a SYN that has a template.
struct Counted {
    rule: RuleRef,
    listener: u32,
    unsampled: u64,
    mode: u8,
    /// True if it is one that is looked for, and remembered, in [`drop_cache`].
    remembered: bool,
    /// Local port.
    port: [u8; 2],
    /// [`hash::flow`] of its connection.
    flow: u64,
    /// Its sequence number.
    seq: u32,
    /// [`hash::source`], before it is mixed.
    source_sum: u64,
}

/// The address family of a frame that may have a template.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// Internet Protocol version 4.
    V4,
    /// Internet Protocol version 6.
    V6,
}

/// Address family of a frame that may have a template, and the time. A frame may have one if its flags are
/// those of a SYN and this CPU remembers some.
#[inline(always)]
pub(super) fn family<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    tables: &mut T,
) -> Option<(Family, u64)> {
    let until = *tables.templates_until_ns();
    // Mostly there are none, and not even the time is asked for.
    if until == 0 {
        return None;
    }
    let now = tables.now_ns();
    if until <= now {
        return None;
    }
    let head = frame.window::<54>(0)?;
    let (family, flags) = match head.u16::<12>() {
        V4 => (Family::V4, head.u8::<47>()),
        V6 => (Family::V6, frame.u8(67)?),
        _ => return None,
    };
    (u16::from(flags) == flag::SYN).then_some((family, now))
}

/// Drops an IPv4 SYN that has the headers of one that was dropped a moment ago, and counts it, but
/// for its class. `None`: it has not, or might fare otherwise; nothing has happened.
#[inline(always)]
pub(super) fn dropped_v4<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    config: &Config,
    tables: &mut T,
    now: u64,
) -> Option<Reason> {
    let packets = tables.syns().packets();
    let head = frame.window::<54>(0)?;
    let template = tables.template(place(head.u8::<37>(), head.u8::<17>()))?;
    if !template.holds(config, packets, now) || !template.is_of_v4(&head) {
        return None;
    }
    if template.option_words != 0 && !template.has_options::<F, 54, 58, 62>(frame)? {
        return None;
    }
    let own = Own {
        client: Addr::from_v4(head.u32::<26>().to_be_bytes()),
        port: head.u16::<34>().to_be_bytes(),
        server_port: head.u16::<36>().to_be_bytes(),
        seq: head.u32::<38>(),
    };
    let counted = template.counted(config, &own)?;
    count(config, tables, now, &own.client, &counted)
}

/// Drops an IPv6 SYN as [`dropped_v4`] drops an IPv4 SYN.
#[inline(always)]
pub(super) fn dropped_v6<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    config: &Config,
    tables: &mut T,
    now: u64,
) -> Option<Reason> {
    let packets = tables.syns().packets();
    let head = frame.window::<74>(0)?;
    let template = tables.template(place(head.u8::<57>(), head.u8::<19>()))?;
    if !template.holds(config, packets, now) || !template.is_of_v6(&head) {
        return None;
    }
    if template.option_words != 0 && !template.has_options::<F, 74, 78, 82>(frame)? {
        return None;
    }
    let own = Own {
        client: Addr::from_v6_words([
            head.u32::<22>(),
            head.u32::<26>(),
            head.u32::<30>(),
            head.u32::<34>(),
        ]),
        port: head.u16::<54>().to_be_bytes(),
        server_port: head.u16::<56>().to_be_bytes(),
        seq: head.u32::<58>(),
    };
    let counted = template.counted(config, &own)?;
    count(config, tables, now, &own.client, &counted)
}

/// Remembers the headers of a SYN that has just been dropped by `rule` for its signature, or for its source if there
/// is none.
#[inline(always)]
pub(super) fn remember<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    config: &Config,
    tables: &mut T,
    pkt: &PacketCtx,
    rule: RuleRef,
) {
    let syns = *tables.syns();
    if !syns.is_nth(EVERY) {
        return;
    }
    // Behind tags or other headers it would not be found again.
    let flow = &pkt.segment.flow;
    let compared = signatures::compared(signatures::masks(config, pkt));
    let read = match pkt.segment.options_at {
        OPTIONS_V4 => Template::of_v4(frame, compared),
        OPTIONS_V6 => Template::of_v6(frame, compared),
        _ => None,
    };
    let Some((place, headers)) = read else { return };
    // SYNs that only would be dropped are tracked like SYNs that pass.
    let enforced = config.mode == Mode::Enforce as u8;
    let ends_ns = if rule.is_rule() { tables.rule_expiry_ns(rule.slot) } else { u64::MAX };
    let until_ns = signatures::tick_end(pkt.now)
        .min(ends_ns)
        .min(config.heartbeat_ns.saturating_add(config.heartbeat_limit_ns));
    let template = Template {
        server_sum: hash::server_sum(&config.hash_key, &flow.server, flow.server_port),
        set: pkt.rule_set,
        until_ns,
        unsampled: samples::unsampled(pkt.listener.samples),
        rule,
        listener: pkt.listener.id,
        tracked: pace::tracked_shift(config, &syns, pkt.mitigations, enforced),
        remembered: drop_cache::of_how_many(&syns),
        packets: syns.packets_at_this_rate(),
        mode: config.mode,
        ..headers
    };
    if let Some(kept) = tables.template(place) {
        // A template with a rule serves for listed sources too.
        if !rule.is_rule() && kept.rule.is_rule() && kept.holds(config, syns.packets(), pkt.now) {
            return;
        }
        *kept = template;
        *tables.templates_until_ns() = until_ns;
    }
}

/// Counts a SYN that is as its template, unless it might fare otherwise.
#[inline(always)]
fn count<T: Tables>(
    config: &Config,
    tables: &mut T,
    now: u64,
    client: &Addr,
    by: &Counted,
) -> Option<Reason> {
    // Source rules come first. Those that are no operator's word spare more, by all the stages.
    let by_source = match config.source_rules | config.port_rules {
        0 => RuleRef::NONE,
        _ => rules::of_source(config, tables, config.rule_set, by.port, client, now),
    };
    let listed = by_source.is_rule();
    if listed && by_source.flags & RuleRef::BY_OPERATOR == 0 {
        return None;
    }
    let rule = if listed { by_source } else { by.rule };
    if !rule.is_rule() {
        return None;
    }
    if rule.flags & RuleRef::FORCED == 0 && !tables.is_exempt_filter_clear(exempt::place(client)) {
        return None;
    }
    let client = client.client();
    if rule.flags & RuleRef::BY_OPERATOR == 0
        && tables.may_be_client(config.client_filter, clients::mark(&client))
    {
        return None;
    }
    let mut new = None;
    if by.remembered && !listed {
        let hash = hash::syn(by.flow, by.seq);
        match drop_cache::lookup(tables.drop_cache_set(hash)?, hash, now) {
            Lookup::Before => return None,
            Lookup::Duplicate => {}
            Lookup::No => new = Some(hash),
        }
    }
    let counters = tables.listener_counters(by.listener)?;
    if (counters.syn + 1) & by.unsampled == 0 {
        return None;
    }
    // From here on it is dropped.
    counters.syn += 1;
    if listed {
        counters.dropped_source += 1;
    } else {
        counters.dropped_signature += 1;
    }
    tables.syns().one_more();
    *tables.last_syn_ns() = now;
    if let Some(registers) = tables.distinct_sources(by.listener) {
        distinct::add(registers, hash::source_of_sum(by.source_sum));
    }
    if let Some(hits) = tables.rule_hits(rule.slot) {
        *hits += 1;
    }
    if let Some(hash) = new
        && let Some(bucket) = tables.drop_cache_set(hash)
    {
        drop_cache::remember(bucket, hash, now);
    }
    Some(match (by.mode == Mode::Enforce as u8, listed) {
        (true, true) => Reason::DropSource,
        (true, false) => Reason::DropSignature,
        (false, true) => Reason::WouldDropSource,
        (false, false) => Reason::WouldDropSignature,
    })
}

/// EtherTypes (IEEE 802).
const V4: u16 = 0x0800;
const V6: u16 = 0x86dd;
/// Offset of the TCP options in a frame that has neither tags nor options nor extensions of IP.
const OPTIONS_V4: u16 = 14 + 20 + 20;
const OPTIONS_V6: u16 = 14 + 40 + 20;
/// IP protocol number of TCP.
const TCP: u32 = 6;

/// Pieces of eight bytes that are compared of a frame's headers, but for the addresses of IPv6.
const HEADERS: usize = 6;
/// Bytes of the pieces that are alike: not type of service, identification, checksums, source, port and
/// sequence number. In IPv4 from version to fragment offset, from TTL to source address, their address and the
/// ports, sequence number and acknowledgement, and the rest.
const ALIKE_V4: [[u8; 8]; 5] = [
    [0xff, 0, 0xff, 0xff, 0, 0, 0xff, 0xff],
    [0xff, 0xff, 0, 0, 0, 0, 0, 0],
    [0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff],
    [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
    [0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff],
];
/// Bytes of the pieces that are alike in IPv6: from version to hop limit, their address in two pieces, the
/// ports and sequence number, from the acknowledgement to the window, and once more from data offset to urgent
/// pointer.
const ALIKE_V6: [[u8; 8]; HEADERS] = [
    [0xf0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
    [0xff; 8],
    [0xff; 8],
    [0, 0, 0xff, 0xff, 0, 0, 0, 0],
    [0xff; 8],
    [0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff],
];

/// Positions of TTL and hop limit in the first or second piece, and of the window in others.
const TTL_V4: [usize; 2] = [0, 0];
const HOP_LIMIT: [usize; 2] = [7, 7];
const WINDOW: [usize; 2] = [2, 3];
const WINDOW_BEFORE: [usize; 2] = [6, 7];

/// The mask of a piece, without the bytes at `at` unless some rule compares them.
#[inline(always)]
const fn mask(mut piece: [u8; 8], at: [usize; 2], compared: bool) -> u64 {
    if !compared {
        piece[at[0]] = 0;
        piece[at[1]] = 0;
    }
    u64::from_ne_bytes(piece)
}

impl Template {
    /// The fields of an IPv4 frame that form its template, and the slot of the template.
    #[inline(always)]
    fn of_v4<F: Frame + ?Sized>(frame: &F, compared: Compared) -> Option<(usize, Self)> {
        let head = frame.window::<54>(0)?;
        let offer = plain(head.u32::<46>(), head.u32::<42>(), head.u16::<52>(), head.u32::<38>())?;
        // Without options of IP and data, no fragment, and TCP.
        let alone = head.u32::<14>() & 0xff00_ffff == 0x4500_0000 | (20 + bytes(offer))
            && head.u32::<20>() & 0x3fff_00ff == TCP;
        if !alone {
            return None;
        }
        let [network, hop, to, ack, offered] = ALIKE_V4;
        let masks = [
            u64::from_ne_bytes(network),
            mask(hop, TTL_V4, compared.ttl),
            u64::from_ne_bytes(to),
            u64::from_ne_bytes(ack),
            mask(offered, WINDOW, compared.window),
            0,
        ];
        let headers = [
            head.raw::<14>() & masks[0],
            head.raw::<22>() & masks[1],
            head.raw::<30>() & masks[2],
            head.raw::<38>() & masks[3],
            head.raw::<46>() & masks[4],
            0,
        ];
        let options = [
            option::<_, 54>(frame, offer, 0)?,
            option::<_, 58>(frame, offer, 1)?,
            option::<_, 62>(frame, offer, 2)?,
        ];
        let option_words = (offer >> 28) - PLAIN;
        let template = Self { headers, masks, options, option_words, ..Self::default() };
        Some((place(head.u8::<37>(), head.u8::<17>()), template))
    }

    /// Returns the fields of an IPv6 frame that form its template, and the slot of the template.
    #[inline(always)]
    fn of_v6<F: Frame + ?Sized>(frame: &F, compared: Compared) -> Option<(usize, Self)> {
        let head = frame.window::<74>(0)?;
        let offer = plain(head.u32::<66>(), head.u32::<62>(), head.u16::<72>(), head.u32::<58>())?;
        if head.u32::<14>() >> 28 != 6 || head.u32::<18>() >> 8 != bytes(offer) << 8 | TCP {
            return None;
        }
        let [network, to, to_rest, port, ack, offered] = ALIKE_V6;
        let masks = [
            mask(network, HOP_LIMIT, compared.ttl),
            u64::from_ne_bytes(to),
            u64::from_ne_bytes(to_rest),
            u64::from_ne_bytes(port),
            mask(ack, WINDOW_BEFORE, compared.window),
            mask(offered, WINDOW, compared.window),
        ];
        let headers = [
            head.raw::<14>() & masks[0],
            head.raw::<38>() & masks[1],
            head.raw::<46>() & masks[2],
            head.raw::<54>() & masks[3],
            head.raw::<62>() & masks[4],
            head.raw::<66>() & masks[5],
        ];
        let options = [
            option::<_, 74>(frame, offer, 0)?,
            option::<_, 78>(frame, offer, 1)?,
            option::<_, 82>(frame, offer, 2)?,
        ];
        let option_words = (offer >> 28) - PLAIN;
        let template = Self { headers, masks, options, option_words, ..Self::default() };
        Some((place(head.u8::<57>(), head.u8::<19>()), template))
    }

    /// Returns whether SYNs are dropped by it.
    #[inline(always)]
    fn holds(&self, config: &Config, packets: u32, now: u64) -> bool {
        now < self.until_ns
            && self.set == config.rule_set
            && self.mode == config.mode
            && packets < self.packets
    }

    /// Returns whether the headers of an IPv4 frame are as here, but for their options.
    #[inline(always)]
    fn is_of_v4<W: Window>(&self, head: &W) -> bool {
        let mut differs = self.differs(0, head.raw::<14>());
        differs |= self.differs(1, head.raw::<22>());
        differs |= self.differs(2, head.raw::<30>());
        differs |= self.differs(3, head.raw::<38>());
        differs |= self.differs(4, head.raw::<46>());
        differs == 0 && head.u32::<38>() != 0
    }

    /// Returns whether the headers of an IPv6 frame are as here, but for their options.
    #[inline(always)]
    fn is_of_v6<W: Window>(&self, head: &W) -> bool {
        let mut differs = self.differs(0, head.raw::<14>());
        differs |= self.differs(1, head.raw::<38>());
        differs |= self.differs(2, head.raw::<46>());
        differs |= self.differs(3, head.raw::<54>());
        differs |= self.differs(4, head.raw::<62>());
        differs |= self.differs(5, head.raw::<66>());
        differs == 0 && head.u32::<58>() != 0
    }

    #[inline(always)]
    const fn differs(&self, number: usize, piece: u64) -> u64 {
        piece & self.masks[number] ^ self.headers[number]
    }

    /// Returns whether the options that begin at `AT`, `SECOND` and `THIRD` are as here.
    #[inline(always)]
    fn has_options<F, const AT: usize, const SECOND: usize, const THIRD: usize>(
        &self,
        frame: &F,
    ) -> Option<bool>
    where
        F: Frame + ?Sized,
    {
        let offer = (PLAIN + self.option_words) << 28;
        let differs = (option::<_, AT>(frame, offer, 0)? ^ self.options[0])
            | (option::<_, SECOND>(frame, offer, 1)? ^ self.options[1])
            | (option::<_, THIRD>(frame, offer, 2)? ^ self.options[2]);
        Some(differs == 0)
    }

    /// Returns the facts to count a SYN by that is as here. `None`: it is tracked.
    #[inline(always)]
    fn counted(&self, config: &Config, own: &Own) -> Option<Counted> {
        let key = &config.hash_key;
        let client = hash::client_sum(key, &own.client);
        let flow = hash::flow_of_sums(key, client, own.port, self.server_sum);
        if hash::sampled(flow, self.tracked) {
            return None;
        }
        Some(Counted {
            rule: self.rule,
            listener: self.listener,
            unsampled: self.unsampled,
            mode: self.mode,
            remembered: drop_cache::is_remembered(flow, self.remembered),
            port: own.server_port,
            flow,
            seq: own.seq,
            source_sum: match own.client.as_v4() {
                Some(_) => client,
                None => hash::client_sum(key, &own.client.client()),
            },
        })
    }
}

/// Returns the slot of a template, by the lower bytes of port and length, which no mask leaves out.
#[inline(always)]
const fn place(port: u8, length: u8) -> usize {
    (port ^ length >> 2) as usize
}

/// Offset, flags and window of a plain SYN: no other flag, nothing acknowledged, nothing urgent, a sequence
/// number other than zero, and few options.
#[inline(always)]
fn plain(offer: u32, ack: u32, urgent: u16, seq: u32) -> Option<u32> {
    let words = offer >> 28;
    let is_plain = offer >> 16 & 0x0fff == u32::from(flag::SYN)
        && ack | u32::from(urgent) == 0
        && seq != 0
        && words >= PLAIN
        && words <= PLAIN + OPTION_WORDS as u32;
    is_plain.then_some(offer)
}

/// Bytes of the TCP header.
#[inline(always)]
const fn bytes(offer: u32) -> u32 {
    (offer >> 28) * 4
}

/// The option word with this number, at `AT` in the frame; 0 where there are fewer.
#[inline(always)]
fn option<F: Frame + ?Sized, const AT: usize>(frame: &F, offer: u32, number: u32) -> Option<u32> {
    if offer >> 28 > PLAIN + number { frame.u32(AT) } else { Some(0) }
}
