//! The stages of the decision about an arriving frame; see [`super::Stages`].

use super::clients::validate;
use super::count::{
    SourceDelta, count, count_acknowledged, count_listener, count_source, follows, listener_at,
    weight,
};
use super::decide::completed;
use super::exempt::is_exempt;
use super::ladder::{self, Trust};
use super::rules::{self, By, agent_gone};
use super::{
    Disposition, Family, HANDSHAKE_NS, PacketCtx, Reply, Socket, SynPlan, Tables, classify, closed,
    closed_port_sources, cookie_networks, cookies, distinct, drop_cache, hash, kernel_cookies,
    let_through, own, pace, pending, retransmit_timing, samples, sets, signatures, templates,
};
use crate::abi::{
    CLASS_SLOTS, Class, Config, Flow, FlowKey, FlowState, ListenerEntry, ListenerKind, Mode,
    Reason, RuleRef,
};
use crate::wire::{self, Frame, FrameMut, Segment, flag};

/// Returns the address family of a frame that is to go to one of the next two functions, and the time to hand
/// to it, boot time in ns. `None`: it goes to neither.
#[inline(always)]
pub fn family<F: Frame + ?Sized, T: Tables>(frame: &F, tables: &mut T) -> Option<(Family, u64)> {
    templates::family(frame, tables)
}

/// Drops an IPv4 SYN that is word for word like one that a signature dropped a moment ago, where nothing
/// speaks for it, and counts it, but for its class; else `None`, and nothing has happened.
#[inline(always)]
pub fn match_template_v4<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    config: &Config,
    tables: &mut T,
    now: u64,
) -> Option<Reason> {
    templates::dropped_v4(frame, config, tables, now)
}

/// Drops an IPv6 SYN as [`match_template_v4`] drops an IPv4 SYN.
#[inline(always)]
pub fn match_template_v6<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    config: &Config,
    tables: &mut T,
    now: u64,
) -> Option<Reason> {
    templates::dropped_v6(frame, config, tables, now)
}

/// Reads the segment into [`PacketCtx::segment`] and counts its class.
///
/// # Errors
/// The reason why there is no segment to be read.
#[inline(always)]
pub fn parse<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    classes: &mut [u64; CLASS_SLOTS],
    pkt: &mut PacketCtx,
) -> Result<Class, Reason> {
    wire::parse_into(frame, &mut pkt.segment)?;
    frame.spill();
    let class = classify(pkt.segment.flags);
    classes[T::opaque(class as u64) as usize & (CLASS_SLOTS - 1)] += 1;
    Ok(class)
}

/// Finds out whether a SYN is delivered to this host itself, if this CPU was asked a moment ago. Returns whether it
/// was.
#[inline(always)]
pub fn recall_own<T: Tables>(tables: &mut T, pkt: &mut PacketCtx) -> bool {
    pkt.now = tables.now_ns();
    own::recall(tables, pkt)
}

/// Finds out whether a SYN is delivered to this host itself.
#[inline(always)]
pub fn look_up_own<T: Tables>(tables: &mut T, pkt: &mut PacketCtx) {
    own::look_up(tables, pkt);
}

/// Finds the listener of a SYN and counts the SYN.
#[inline(always)]
pub fn count_syn<T: Tables>(config: &Config, tables: &mut T, pkt: &mut PacketCtx) -> SynPlan {
    let flow = &pkt.segment.flow;
    tables.syns().count(pkt.now);
    pkt.flow_hash = hash::flow(&config.hash_key, flow);
    pkt.sampled = hash::sampled(pkt.flow_hash, config.sample_shift);
    pkt.rule_set = config.rule_set;
    pkt.trust = Trust::Unknown;
    pkt.beyond_limit = false;
    pkt.cookie_sent = false;
    pkt.mitigations = 0;
    let judged = config.mode != Mode::Off as u8;
    let sources = judged && (config.source_rules != 0 || config.port_rules != 0);
    let Some(listener) = listener_at(tables, flow, pkt.own) else {
        pkt.has_listener = false;
        return SynPlan { sources, ..SynPlan::default() };
    };
    pkt.has_listener = true;
    pkt.listener = listener;
    *tables.last_syn_ns() = pkt.now;
    let mut syns = 0;
    count(tables, listener.id, |counters| {
        counters.syn += 1;
        syns = counters.syn;
    });
    if let Some(registers) = tables.distinct_sources(listener.id) {
        distinct::add(registers, hash::source(&config.hash_key, &flow.client.client()));
    }
    pkt.mitigations = ladder::mitigations_in_force(config, &listener, &flow.client, pkt.now);
    let shift = pace::tracked_shift(config, tables.syns(), pkt.mitigations, false);
    let record = pkt.sampled && hash::sampled(pkt.flow_hash, shift);
    let sample = syns & samples::unsampled(listener.samples) == 0;
    let fingerprint = record || judged && signatures::masks(config, pkt) != 0;
    SynPlan {
        has_listener: true,
        sources,
        fingerprint,
        record,
        sample,
        mitigations: pkt.mitigations,
    }
}

/// Keeps the header of a SYN as it came.
#[inline(always)]
pub fn sample_syn<F: Frame + ?Sized, T: Tables>(frame: &F, tables: &mut T, pkt: &PacketCtx) {
    samples::keep(frame, tables, pkt);
}

/// Adds its fate to the header that was kept.
#[inline(always)]
pub fn complete_sample<T: Tables>(tables: &mut T, fate: Reason) {
    samples::complete(tables, fate);
}

/// Counts a SYN to where nothing listens, and its source.
#[inline(always)]
pub fn unwanted<T: Tables>(config: &Config, tables: &mut T, pkt: &mut PacketCtx) {
    pkt.listener = ListenerEntry::default();
    if pkt.sampled {
        count_syn_source(config, tables, pkt, config.sample_shift);
    }
    closed::count(tables, pkt.own);
    note_probe(config, tables, &pkt.segment.flow, pkt.now);
}

/// Counts a segment that a scanner may have sent, for its source.
#[inline(always)]
fn note_probe<T: Tables>(config: &Config, tables: &mut T, flow: &FlowKey, now: u64) {
    if let Some(cell) =
        tables.closed_port_source(hash::source(&config.hash_key, &flow.client.client()))
    {
        closed_port_sources::note(cell, &config.hash_key, flow, now);
    }
}

/// The fate of a SYN that was [`unwanted`] and that no rule is about: dropped where it is one too many to a
/// closed port; else `None`.
#[inline(always)]
pub fn closed_port<T: Tables>(config: &Config, tables: &mut T, pkt: &PacketCtx) -> Option<Reason> {
    closed::over(config, tables, pkt)
}

/// Counts the source of a SYN that is followed for `2^shift` of its like.
#[inline(always)]
fn count_syn_source<T: Tables>(config: &Config, tables: &mut T, pkt: &PacketCtx, shift: u8) {
    let delta = SourceDelta { syn: 1 << (shift & 31), ..SourceDelta::default() };
    count_source(config, tables, &pkt.segment.flow.client, pkt.now, delta);
}

/// The fate of a SYN with a source that a rule matches; `None`: no rule does.
#[inline(always)]
pub fn judge_source<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    config: &Config,
    tables: &mut T,
    pkt: &mut PacketCtx,
) -> Option<Reason> {
    let flow = &pkt.segment.flow;
    let (set, port, now) = (pkt.rule_set, flow.server_port, pkt.now);
    let rule = rules::of_source(config, tables, set, port, &flow.client, now);
    if !rule.is_rule() {
        return None;
    }
    let reason = rules::judge(config, tables, pkt, rule, By::Source);
    let dropped = matches!(reason, Reason::DropSource | Reason::WouldDropSource);
    if dropped && rule.flags & RuleRef::BY_OPERATOR != 0 && pkt.has_listener {
        templates::remember(frame, config, tables, pkt, RuleRef::NONE);
    }
    Some(reason)
}

/// Takes the fingerprint of a SYN and, unless it is judged already, looks for the rule that matches it.
/// The fate of one for which there is such a rule; else `None`.
#[inline(always)]
pub fn match_signature<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    config: &Config,
    tables: &mut T,
    pkt: &mut PacketCtx,
    judged: bool,
) -> Option<Reason> {
    pkt.print = wire::fingerprint(frame, &pkt.segment);
    frame.spill();
    if judged || signatures::masks(config, pkt) == 0 || config.mode == Mode::Off as u8 {
        return None;
    }
    let (rule, by_ip_id) = signatures::find(config, tables, pkt);
    if !rule.is_rule() {
        return None;
    }
    let reason = rules::judge(config, tables, pkt, rule, By::Signature);
    // In the identification others differ that are alike otherwise.
    if !by_ip_id && matches!(reason, Reason::DropSignature | Reason::WouldDropSignature) {
        templates::remember(frame, config, tables, pkt, rule);
    }
    Some(reason)
}

/// Returns the course of a SYN that the rules let pass: whether its sender is known, whether the host may have
/// a connection with it, and whether it may be answered. `recorded`: the SYN belongs to the sample. `asked`:
/// [`socket`] was asked, and knows of no connection.
#[inline(always)]
#[expect(clippy::fn_params_excessive_bools, reason = "the two words of a BPF subprogram")]
pub fn disposition<T: Tables>(
    config: &Config,
    tables: &mut T,
    pkt: &mut PacketCtx,
    recorded: bool,
    asked: bool,
) -> Disposition {
    if !asked && ladder::recognise(config, tables, pkt, recorded) {
        return Disposition::AskSockets;
    }
    ladder::limit(config, tables, pkt)
}

/// The socket that the segment finds in the host's own socket table.
#[inline(always)]
pub fn socket<T: Tables>(tables: &mut T, pkt: &PacketCtx) -> Socket {
    tables.socket(&pkt.segment, pkt.checked)
}

/// The fate of a SYN that goes to the stack: dropped beyond its listener's budget; `None`, it passes.
#[inline(always)]
pub fn budget<T: Tables>(config: &Config, tables: &mut T, pkt: &PacketCtx) -> Option<Reason> {
    ladder::budget(config, tables, pkt)
}

/// Counts a SYN that a rule matches and that is let through all the same, and remembers it until
/// its handshake completes. `fate`: its fate so far. Returns its final fate: the rule's, if the SYN
/// is to reach the stack unanswered and the stack has been given enough of them.
#[inline(always)]
pub fn let_through<T: Tables>(
    config: &Config,
    tables: &mut T,
    pkt: &mut PacketCtx,
    fate: Reason,
) -> Reason {
    if fate == Reason::WouldDropSignature {
        let shift = let_through::sample(config, tables.syns(), pkt.mitigations);
        if hash::sampled(pkt.flow_hash, shift) {
            let_through::remember(tables, pkt, shift);
        }
        return fate;
    }
    let enforced = config.mode == Mode::Enforce as u8;
    let limited = enforced && fate == Reason::SynRetransmitted;
    // Where nothing listens no client waits for a reply.
    if limited && !(pkt.has_listener && ladder::takes_retransmit(tables, pkt)) {
        if let Some(hits) = tables.rule_hits(pkt.slot) {
            *hits += 1;
        }
        if pkt.by_source {
            count_listener(tables, pkt, |counters| counters.dropped_source += 1);
            return Reason::DropSource;
        }
        count_listener(tables, pkt, |counters| counters.dropped_signature += 1);
        return Reason::DropSignature;
    }
    let shift = drop_cache::of_how_many(tables.syns());
    if let Some(returns) = tables.rule_returns(pkt.slot) {
        let weight = 1 << (shift & 31);
        returns.accepted_retransmits = returns.accepted_retransmits.saturating_add(weight);
    }
    count_listener(tables, pkt, |counters| counters.accepted_retransmits += 1);
    let_through::remember(tables, pkt, shift);
    fate
}

/// SYNs for the same addresses and ports are one attempt for this long after the first, in ns, whatever their
/// sequence numbers. One source has 65,536 ports: beyond 20,000 SYNs a second it reuses each before this time
/// is over. If every new number began a new attempt, none would get old enough to show that its SYN is not
/// retransmitted. A stack that does retransmit it keeps the number, and has done so twice by then (after 1 and
/// 3 s: RFC 6298, 2.1 and 5.5).
const ATTEMPT_NS: u64 = 3_000_000_000;

/// Records a SYN of the sample among the flows, and counts its source.
#[inline(always)]
pub fn record_syn<T: Tables>(config: &Config, tables: &mut T, pkt: &PacketCtx, dropped: bool) {
    let shift = pace::tracked_shift(config, tables.syns(), pkt.mitigations, dropped);
    if !hash::sampled(pkt.flow_hash, shift) {
        return;
    }
    count_syn_source(config, tables, pkt, shift);
    let state = if dropped { FlowState::Dropped } else { FlowState::Syn };
    let mut flow = Flow {
        syn_ns: pkt.now,
        syn_seq: pkt.segment.seq,
        syn_tick: retransmit_timing::tick(pkt.now),
        listener: pkt.listener.id,
        state: state as u8,
        sample_shift: shift,
        fingerprint: pkt.print,
        ..Flow::default()
    };
    answered(&mut flow, pkt);
    if let Some(mark) = tables.pending(pending::place(pkt.flow_hash)) {
        *mark = pending::mark(pkt.now);
    }
    let Some(known) = sets::flow(tables, pkt.flow_hash, &pkt.segment.flow) else {
        return sets::insert_flow(tables, pkt.flow_hash, &pkt.segment.flow, &flow);
    };
    let again = known.syn_seq == pkt.segment.seq && retransmit_timing::may_repeat(known, pkt.now);
    // A client that retransmits its SYN has not reset the SYN-ACK. A device on the way did so in
    // its name.
    let refused = again && known.state == FlowState::Reset as u8;
    if !refused && (!again || known.done_ns != 0) {
        if is_same_attempt(known, pkt) {
            flow.syn_ns = known.syn_ns;
        }
        *known = flow;
        return;
    }
    let weight = weight(config, known.sample_shift);
    let timed = retransmit_timing::is_clients(known.syn_tick, known.syn_retransmits, pkt.now);
    if timed {
        known.syn_retransmits = known.syn_retransmits.saturating_add(1);
    }
    if refused {
        known.state = state as u8;
        known.done_ns = 0;
    }
    if known.state == FlowState::Dropped as u8 && !dropped {
        known.state = FlowState::Syn as u8;
        // From now on it is one of those that were let in, recorded before or not.
        known.sample_shift = shift;
    }
    answered(known, pkt);
    count(tables, pkt.listener.id, |counters| counters.syn_retransmit += weight);
    if timed && let Some(late) = tables.late(pkt.listener.id) {
        late.syn_retransmit_timed += weight;
    }
    // The SYN of a validated client is counted when it is answered.
    if timed && pkt.cookie_sent && pkt.trust != Trust::Validated {
        cookie_networks::asked(tables, pkt);
    }
}

/// Returns whether a SYN with another sequence number than the recorded one goes on with that attempt.
#[inline(always)]
const fn is_same_attempt(flow: &Flow, pkt: &PacketCtx) -> bool {
    flow.listener == pkt.listener.id
        && flow.state != FlowState::Completed as u8
        // At a forwarded listener no flow becomes `Completed`.
        && (flow.state != FlowState::Acknowledged as u8
            || pkt.listener.kind == ListenerKind::Local as u8)
        && pkt.now.saturating_sub(flow.syn_ns) < ATTEMPT_NS
}

/// A flow with a SYN that was answered with a cookie goes on as if the stack had answered: its
/// third packet completes it.
#[inline(always)]
const fn answered(flow: &mut Flow, pkt: &PacketCtx) {
    if pkt.cookie_sent {
        flow.isn = sets::bound(pkt.flow_hash, pkt.isn);
        flow.state = FlowState::SynAck as u8;
        flow.syn_ack_ns = pkt.now;
    }
}

/// Reads the options of a SYN that [`send_cookie`] is to answer, and asks the kernel for its cookie where
/// it is to be one of those. The client's MSS is what the host's packet filter would leave of it. Likewise of a
/// segment that may bring back a cookie.
#[inline(always)]
pub fn options<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    config: &Config,
    tables: &mut T,
    pkt: &mut PacketCtx,
) {
    pkt.options = wire::syn_options(frame, &pkt.segment);
    pkt.times = pkt.options.timestamps();
    let limit = pkt.listener.mss_limit;
    if limit != 0 && u32::from(pkt.options.mss) > limit {
        pkt.options.mss = limit as u16;
    }
    kernel_cookies::ask(config, tables, pkt);
}

/// Finds out how the listener of a SYN would reply that came in by this interface, and which way.
#[inline(always)]
pub fn find_reply<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    tables: &mut T,
    pkt: &mut PacketCtx,
    ifindex: u32,
) -> Reply {
    cookies::find_reply(frame, tables, pkt, ifindex)
}

/// Turns a SYN with a possible [`find_reply`] into the SYN-ACK with a cookie that answers it. `None`: it is as it
/// was, and goes on to the stack.
#[inline(always)]
pub fn send_cookie<F: FrameMut + ?Sized, T: Tables>(
    frame: &mut F,
    tables: &mut T,
    pkt: &mut PacketCtx,
) -> Option<Reason> {
    cookies::send_cookie(frame, tables, pkt)
}

/// Counts a segment that only ever answers a segment without ACK, and whether this host asked for it: a SYN-ACK, or
/// a reset with sequence number zero and ACK, which RFC 9293 §3.10.7.1 prescribes for a SYN to a
/// closed port, and for a scanner's segment to one.
#[inline(always)]
pub fn reply_seen<T: Tables>(config: &Config, tables: &mut T, segment: &Segment) {
    if segment.flags & flag::SYN == 0 && (segment.flags & flag::ACK == 0 || segment.seq != 0) {
        return;
    }
    let key = segment.flow.reversed();
    let hash = hash::flow(&config.hash_key, &key);
    let unsolicited = if hash::sampled(hash, config.sample_shift) {
        match sets::flow(tables, hash, &key) {
            Some(flow) if flow.state == FlowState::Own as u8 => 0,
            _ => 1 << (config.sample_shift & 31),
        }
    } else {
        0
    };
    if let Some(counters) = tables.host_counters() {
        counters.reply_seen += 1;
        counters.unsolicited += unsolicited;
    }
}

/// Returns whether there is anything to [`track`] in a segment that only a peer with a connection (or a
/// half-open one) sends. Most have their handshake long behind them.
#[inline(always)]
pub fn is_tracked<T: Tables>(config: &Config, tables: &mut T, pkt: &mut PacketCtx) -> bool {
    pkt.now = tables.now_ns();
    let segments = tables.segments();
    segments.count(pkt.now);
    let shift = segments.over(pace::SEGMENT_BITS);
    pkt.counted = if tables.segment_sampled(shift) { 1 << (shift & 31) } else { 0 };
    pkt.pending = is_pending(config, tables, pkt);
    pkt.counted != 0 || pkt.pending
}

/// Returns whether a handshake of the segment's flow may be under way.
#[inline(always)]
fn is_pending<T: Tables>(config: &Config, tables: &mut T, pkt: &mut PacketCtx) -> bool {
    let last_syn = *tables.last_syn_ns();
    if last_syn == 0 {
        return false;
    }
    if pkt.now.saturating_sub(last_syn) > HANDSHAKE_NS {
        return false;
    }
    pkt.flow_hash = hash::flow(&config.hash_key, &pkt.segment.flow);
    hash::sampled(pkt.flow_hash, config.sample_shift)
        && tables
            .pending(pending::place(pkt.flow_hash))
            .is_some_and(|mark| pending::is_fresh(*mark, pkt.now))
}

/// Counts a segment for its source, and compares third ACKs and resets with the sampled handshakes.
#[inline(always)]
pub fn track<T: Tables>(config: &Config, tables: &mut T, pkt: &PacketCtx, reset: bool) -> Reason {
    let passed = if reset { Reason::Rst } else { Reason::Segment };
    let (segment, hash) = (&pkt.segment, pkt.flow_hash);
    let now = pkt.now;
    if pkt.counted != 0 {
        let delta = if reset {
            SourceDelta { rst: pkt.counted, ..SourceDelta::default() }
        } else {
            SourceDelta { ack: pkt.counted, ..SourceDelta::default() }
        };
        count_source(config, tables, &segment.flow.client, now, delta);
    }
    if !pkt.pending {
        return passed;
    }
    let Some(flow) = sets::flow(tables, hash, &segment.flow) else {
        return passed;
    };
    let acknowledged =
        flow.state == FlowState::Acknowledged as u8 || flow.state == FlowState::Ignored as u8;
    let answered = flow.state == FlowState::SynAck as u8 || reset && acknowledged;
    let unseen = config.one_sided != 0 && flow.state == FlowState::Syn as u8;
    if !(answered || unseen) || !follows(flow, segment.seq) {
        return passed;
    }
    let isn = sets::bound(hash, flow.isn);
    if !reset && answered && segment.ack != isn.wrapping_add(1) {
        return passed;
    }
    let listener = flow.listener;
    let weight = weight(config, flow.sample_shift);
    let syn_ns = flow.syn_ns;
    flow.done_ns = now;
    if reset {
        flow.state = FlowState::Reset as u8;
        count(tables, listener, |counters| counters.reset += weight);
        return passed;
    }
    // The kernel has not accepted this ACK yet: a firewall may drop it, and its checksum may be wrong. Where
    // the tracepoint runs, only the kernel completes a handshake and validates a client, unless the listener
    // is behind this host.
    let asked = config.established_seen != 0;
    flow.state = if asked { FlowState::Acknowledged } else { FlowState::Completed } as u8;
    count_acknowledged(config, tables, listener, weight, syn_ns);
    let is_local = |entry: ListenerEntry| entry.kind == ListenerKind::Local as u8;
    let is_reported = asked && tables.listener(listener).is_some_and(is_local);
    if answered && !is_reported {
        let client = validate(config, tables, &segment.flow.client, now, weight);
        completed(tables, listener, hash, now, client, weight);
    }
    Reason::HandshakeAck
}

/// Takes note that a handshake may go on at a port without a known listener.
#[inline(always)]
pub fn acknowledged<T: Tables>(config: &Config, tables: &mut T, pkt: &PacketCtx) {
    closed::acknowledged(config, tables, pkt);
}

/// A flag combination that no TCP sends.
#[inline(always)]
pub fn illegal<T: Tables>(config: &Config, tables: &mut T, pkt: &PacketCtx) -> Reason {
    // Without ACK and RST it is a scanner's: closed ports refuse it as they refuse a SYN (RFC 9293 §3.10.7.1).
    if pkt.segment.flags & (flag::ACK | flag::RST) == 0 {
        let now = tables.now_ns();
        note_probe(config, tables, &pkt.segment.flow, now);
    }
    if config.drop_illegal == 0 || config.mode != Mode::Enforce as u8 {
        return Reason::Illegal;
    }
    let now = tables.now_ns();
    if agent_gone(config, now) || is_exempt(tables, &pkt.segment.flow.client, now) {
        Reason::Illegal
    } else {
        Reason::DropIllegal
    }
}

/// Returns whether a frame that could not be read may be dropped for it, where the configuration says so of its
/// bound. No source can be exempt, since the source is not known.
#[inline(always)]
pub fn drops_unread<T: Tables>(config: &Config, tables: &mut T) -> bool {
    config.mode == Mode::Enforce as u8 && !agent_gone(config, tables.now_ns())
}
