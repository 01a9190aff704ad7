//! The fate of a packet. The kernel, replay, fuzzing and the property tests all run these lines.

use super::clients::{ClientStatus, validate};
use super::count::{
    SourceDelta, count, count_acknowledged, count_source, find_listener, follows, listener_at,
    weight,
};
use super::kernel_cookies::Given;
use super::ladder::{BY_TRUST, Trust};
use super::{
    Accepted, Note, Origin, OutOfStateStages, Reply, Socket, Tables, classify, closed,
    cookie_networks, hash, let_through, out_of_state, sets,
};
use crate::abi::{
    ABI_VERSION, Action, Class, Config, Fingerprint, Flow, FlowKey, FlowState, ListenerEntry,
    ListenerKey, Rate, Reason, SynAckRecord,
};
use crate::wire::{self, Frame, Segment, SynOptions, Timestamps};

/// SYNs of a validated client that pass in spite of a rule or a limit, besides those with a handshake that it
/// completes: its address can be spoofed too, and a bot can complete one handshake. Also those of an exempt address.
pub const VALIDATED_RATE: Rate = Rate { interval_ns: 50_000_000, burst: 50 };
/// ACKs are compared with the flow table for this long after a SYN, in ns. A handshake with a later
/// third packet has lost its entry in the stack's SYN queue as well.
pub const HANDSHAKE_NS: u64 = 65_000_000_000;

/// State of the packet that is being judged, handed from stage to stage.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct PacketCtx {
    /// The TCP segment.
    pub segment: Segment,
    /// The listener it is for, all-zero unless `has_listener`.
    pub(super) listener: ListenerEntry,
    /// True if there is such a listener.
    pub(super) has_listener: bool,
    /// True if its flow belongs to the sample.
    pub(super) sampled: bool,
    /// True if a handshake of its flow may be under way, if it is no SYN.
    pub(super) pending: bool,
    /// The active mitigations of its listener, as in [`ListenerEntry::mitigations`].
    pub(super) mitigations: u8,
    /// The evidence for its sender.
    pub(super) trust: Trust,
    /// True if it is a SYN beyond a limit of replies, so that only a token takes it to the stack.
    pub(super) beyond_limit: bool,
    /// True if it was answered with a cookie.
    pub(super) cookie_sent: bool,
    /// True if it is delivered to this host itself, if it is a SYN.
    pub(super) own: bool,
    /// The rule that it matches, if the packet is to be counted for that rule later: its
    /// [`RuleRef::slot`](crate::abi::RuleRef).
    pub(super) slot: u32,
    /// True if that rule is about the packet's source.
    pub(super) by_source: bool,
    /// Sequence number of the SYN-ACK: the cookie.
    pub(super) isn: u32,
    /// Hash of its flow.
    pub(super) flow_hash: u64,
    /// Boot time in ns.
    pub(super) now: u64,
    /// Number of segments that it is to be counted for at its source, if it is no SYN; mostly none.
    pub(super) counted: u64,
    /// The rule set that counts. Read by an earlier stage than the one that uses it, so that a SYN which is
    /// being judged while the agent changes over to another set is judged by one of them.
    pub(super) rule_set: u64,
    /// Its fingerprint, if it is a SYN and a rule or the sample needs it.
    pub(super) print: Fingerprint,
    /// Its options, if it may be answered.
    pub(super) options: SynOptions,
    /// The cookie that the kernel made for it, if it was asked for one.
    pub(super) given: Given,
    /// The look of the reply, if there is a [`Reply::Possible`]: the record of its listener, with the MSS of the way.
    pub(super) record: SynAckRecord,
    /// The Ethernet address to which the reply goes, as [`NextHop::mac`](crate::abi::NextHop).
    pub(super) to: u64,
    /// True if the cookie that it may bring back may be checked.
    pub(super) checked: bool,
    /// Its timestamps, if it may bring back a cookie.
    pub(super) times: Timestamps,
    /// The connection of the cookie that it brought back, as it is described to the kernel.
    pub accepted: Accepted,
}

/// The further stages that a SYN needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct SynPlan {
    /// True if a listener is known at its destination.
    pub has_listener: bool,
    /// True if there are rules that its source may match.
    pub sources: bool,
    /// Take its fingerprint: a rule or the sample needs it.
    pub fingerprint: bool,
    /// Record it among the flows: it belongs to the sample.
    pub record: bool,
    /// Keep its header: its listener has an incident, and it belongs to that sample.
    pub sample: bool,
    /// The active mitigations of its listener, as in [`ListenerEntry::mitigations`].
    pub mitigations: u8,
}

impl SynPlan {
    #[inline(always)]
    const fn wants(self, mitigations: u8) -> bool {
        self.mitigations & mitigations != 0
    }
}

/// Course of a SYN that the rules let pass, while mitigations are active for its listener.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Disposition {
    /// The SYN is answered with a cookie, if one can be made for it; else it goes to the stack.
    Answer,
    /// The SYN goes to the stack.
    Stack,
    /// The course is open until the host's own socket table is asked: there may be a connection with its
    /// sender.
    AskSockets,
    /// The SYN is beyond a limit of replies: it goes to the stack with a token of the listener's budgets, and without
    /// one it is dropped for this reason.
    Limited(Reason),
}

/// The stages of the decision about an arriving frame, which [`ingress`] puts together.
///
/// On the host each is a call of the function of the same name in [`super::stage`]. In the kernel those that
/// every packet takes are the same, and each of the others is a BPF function of its own around that call, so
/// that the verifier's work for the stages adds up rather than multiplies, and so that a call chain stays below
/// 512 bytes of stack.
pub trait Stages: OutOfStateStages {
    /// [`super::stage::family`] and the stages that its result asks for. Counts the class if they give
    /// a verdict.
    fn match_template(&mut self) -> Option<Reason>;
    /// See [`super::stage::parse`].
    fn parse(&mut self) -> Result<Class, Reason>;
    /// See [`super::stage::recall_own`].
    fn recall_own(&mut self) -> bool;
    /// See [`super::stage::look_up_own`].
    fn look_up_own(&mut self);
    /// See [`super::stage::count_syn`].
    fn count_syn(&mut self) -> SynPlan;
    /// See [`super::stage::unwanted`].
    fn unwanted(&mut self);
    /// See [`super::stage::closed_port`].
    fn closed_port(&mut self) -> Option<Reason>;
    /// See [`super::stage::sample_syn`].
    fn sample_syn(&mut self);
    /// See [`super::stage::complete_sample`].
    fn complete_sample(&mut self, fate: Reason);
    /// See [`super::stage::judge_source`].
    fn judge_source(&mut self) -> Option<Reason>;
    /// See [`super::stage::match_signature`].
    fn match_signature(&mut self, judged: bool) -> Option<Reason>;
    /// See [`super::stage::disposition`].
    #[expect(clippy::fn_params_excessive_bools, reason = "the two words of a BPF subprogram")]
    fn disposition(&mut self, recorded: bool, asked: bool) -> Disposition;
    /// See [`super::stage::socket`].
    fn socket(&mut self) -> Socket;
    /// See [`super::stage::options`].
    fn options(&mut self);
    /// See [`super::stage::find_reply`].
    fn find_reply(&mut self) -> Reply;
    /// See [`super::stage::send_cookie`].
    fn send_cookie(&mut self) -> Option<Reason>;
    /// See [`super::stage::budget`].
    fn budget(&mut self) -> Option<Reason>;
    /// See [`super::stage::let_through`].
    fn let_through(&mut self, fate: Reason) -> Reason;
    /// See [`super::stage::record_syn`].
    fn record_syn(&mut self, dropped: bool);
    /// See [`super::stage::reply_seen`].
    fn reply_seen(&mut self);
    /// See [`super::stage::is_tracked`].
    fn is_tracked(&mut self) -> bool;
    /// See [`super::stage::track`].
    fn track(&mut self, reset: bool) -> Reason;
    /// See [`super::stage::acknowledged`].
    fn acknowledged(&mut self);
    /// Marks a segment for the program at tc, if [`super::no_cookie::is_known`].
    fn mark_without_cookie(&mut self);
    /// See [`super::stage::illegal`].
    fn illegal(&mut self) -> Reason;
    /// See [`super::stage::drops_unread`].
    fn drops_unread(&mut self) -> bool;
}

/// Decides about a frame that arrived, and counts it. Counting comes before dropping, so that a
/// flood that is being dropped is still measured and its end is seen.
#[inline(always)]
pub fn ingress<S: Stages>(config: &Config, stages: &mut S) -> Reason {
    if config.abi_version != ABI_VERSION {
        return Reason::Unconfigured;
    }
    if let Some(reason) = stages.match_template() {
        return reason;
    }
    match stages.parse() {
        Err(reason) if config.drop_beyond_bounds & reason.bound() != 0 && stages.drops_unread() => {
            Reason::DropBeyondBounds
        }
        Err(reason) => reason,
        Ok(Class::Syn) => syn(config, stages),
        Ok(Class::SynAck) => {
            stages.reply_seen();
            Reason::SynAck
        }
        Ok(Class::Ack | Class::Fin) => {
            let followed = stages.is_tracked();
            if config.resets_unseen != 0 {
                stages.acknowledged();
            }
            let reason = if followed { stages.track(false) } else { Reason::Segment };
            let reason = out_of_state::judged(config, stages, reason);
            if config.marks_segments != 0 && matches!(reason.action(), Action::Pass) {
                stages.mark_without_cookie();
            }
            reason
        }
        Ok(Class::Rst) => {
            stages.reply_seen();
            let followed = stages.is_tracked();
            let reason = if followed { stages.track(true) } else { Reason::Rst };
            out_of_state::judged(config, stages, reason)
        }
        Ok(_) => stages.illegal(),
    }
}

#[inline(always)]
fn syn<S: Stages>(config: &Config, stages: &mut S) -> Reason {
    if !stages.recall_own() {
        stages.look_up_own();
    }
    let plan = stages.count_syn();
    if !plan.has_listener {
        stages.unwanted();
    }
    if plan.sample {
        stages.sample_syn();
    }
    let mut reason = if plan.has_listener { Reason::Syn } else { Reason::NoListener };
    let by_source = if plan.sources { stages.judge_source() } else { None };
    // The fingerprint of a SYN that a source rule has judged is taken only if the SYN is recorded.
    let judged = by_source.is_some();
    let fingerprints = plan.fingerprint && (plan.record || !judged);
    let by_signature = if fingerprints { stages.match_signature(judged) } else { None };
    if let Some(judged) = by_source.or(by_signature) {
        reason = judged;
    } else if !plan.has_listener && config.closed_ports.interval_ns != 0 {
        reason = stages.closed_port().unwrap_or(reason);
    }
    let ruled = reason;
    if plan.mitigations != 0 && matches!(reason.action(), Action::Pass) {
        reason = mitigate(stages, plan).unwrap_or(reason);
    }
    // A SYN that only would be dropped completes at its first attempt: the sample shows how many do.
    let counts =
        ruled == Reason::SynRetransmitted || ruled == Reason::WouldDropSignature && plan.record;
    if counts && !matches!(reason.action(), Action::Drop) {
        reason = stages.let_through(reason);
    }
    if plan.record {
        stages.record_syn(matches!(reason.action(), Action::Drop));
    }
    if plan.sample {
        stages.complete_sample(reason);
    }
    reason
}

/// The fate of a SYN that the rules let pass, while mitigations of the ladder are active for its
/// listener. `None`: it goes to the stack.
#[inline(always)]
fn mitigate<S: Stages>(stages: &mut S, plan: SynPlan) -> Option<Reason> {
    if !plan.wants(BY_TRUST) {
        return None;
    }
    let mut disposition = stages.disposition(plan.record, false);
    if disposition == Disposition::AskSockets {
        if matches!(stages.socket(), Socket::Connection) {
            return None;
        }
        disposition = stages.disposition(plan.record, true);
    }
    match disposition {
        Disposition::Limited(reason) => return stages.budget().map(|_| reason),
        Disposition::Answer => {
            stages.options();
            match stages.find_reply() {
                Reply::Reflection => return Some(Reason::DropReflection),
                Reply::Possible => {
                    if let Some(sent) = stages.send_cookie() {
                        return Some(sent);
                    }
                }
                Reply::None => {}
            }
        }
        Disposition::Stack | Disposition::AskSockets => {}
    }
    // Not only with a budget: a fragment cannot be answered, and costs the listener as much as without cookies.
    stages.budget()
}

/// Looks at a frame that leaves: the host's own SYN-ACKs, resets and SYNs. `made_here`: it was not
/// forwarded. Returns whether [`super::learn`] can learn from it; then `sent` is the SYN-ACK.
#[inline(always)]
pub fn egress<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    config: &Config,
    tables: &mut T,
    sent: &mut Segment,
    made_here: bool,
) -> bool {
    if config.abi_version != ABI_VERSION {
        return false;
    }
    if wire::parse_into(frame, sent).is_err() {
        return false;
    }
    match classify(sent.flags) {
        Class::SynAck => match Replying::find(tables, sent) {
            Some(listener) => return syn_ack_sent(config, tables, sent, listener),
            None if made_here => return true,
            None => {
                let key = ListenerKey::new(sent.flow.client, sent.flow.client_port);
                tables.note_syn_ack(&key, Note::new(Origin::Foreign, 0));
            }
        },
        Class::Syn | Class::Null | Class::NoAck | Class::FinNoAck | Class::Xmas => {
            own_syn(config, tables, sent);
        }
        Class::Rst => match Replying::find(tables, sent) {
            Some(listener) => count(tables, listener.id(), |counters| counters.refused += 1),
            None if made_here => closed::note(config, tables, sent),
            None => {}
        },
        _ => {}
    }
    false
}

/// The listener that sent a segment: its id, and its active mitigations in the high half. In a register, so that
/// neither the look-up nor what follows it holds an entry on the stack.
#[derive(Clone, Copy)]
struct Replying(u64);

impl Replying {
    #[inline(always)]
    fn find<T: Tables>(tables: &T, sent: &Segment) -> Option<Self> {
        let found = listener_sending(tables, sent);
        if found == NOBODY { None } else { Some(Self(found)) }
    }

    #[inline(always)]
    const fn id(self) -> u32 {
        self.0 as u32
    }

    #[inline(always)]
    const fn mitigations(self) -> u8 {
        (self.0 >> 32) as u8
    }
}

/// No [`Replying`].
const NOBODY: u64 = u64::MAX;

#[inline(never)]
fn listener_sending<T: Tables>(tables: &T, sent: &Segment) -> u64 {
    match find_listener(tables, &sent.flow.reversed()) {
        Some(listener) => u64::from(listener.id) | u64::from(listener.mitigations) << 32,
        None => NOBODY,
    }
}

/// Index of the loopback interface in every network namespace: `LOOPBACK_IFINDEX` of include/net/flow.h.
const LOOPBACK: u32 = 1;

/// The interface by which a handshake came that the kernel completed, given the index in its socket (0:
/// none). A connection of the host to itself comes by its loopback interface, which has this index in
/// every network namespace, whatever addresses it uses.
#[inline(always)]
pub fn came_by(flow: &FlowKey, says: u32) -> u32 {
    if flow.client == flow.server || flow.client.is_no_source() { LOOPBACK } else { says }
}

/// Records a handshake that the kernel completed with a client of an interface that is not attached. Its SYN was not
/// counted, so it is no completion of those that were, and proves nothing of its client.
#[inline(always)]
pub fn established_elsewhere<T: Tables>(tables: &mut T, ifindex: u32) {
    if ifindex != LOOPBACK
        && let Some(counters) = tables.host_counters()
    {
        counters.elsewhere += 1;
        counters.elsewhere_by = ifindex.into();
    }
}

/// Records a handshake that the kernel completed.
#[inline(always)]
pub fn established<T: Tables>(config: &Config, tables: &mut T, key: &FlowKey) {
    if config.abi_version != ABI_VERSION {
        return;
    }
    let Some(listener) = listener_at(tables, key, true) else {
        // A socket elsewhere took the connection: the SYN-ACK was the host's own, even if it left unseen.
        let key = ListenerKey::new(key.server, key.server_port);
        tables.note_syn_ack(&key, Note::new(Origin::Own, 0));
        return;
    };
    count(tables, listener.id, |counters| counters.established += 1);
    let now = tables.now_ns();
    cookie_networks::completed(config, tables, &listener, key, now);
    let hash = hash::flow(&config.hash_key, key);
    let client = validate(config, tables, &key.client, now, 1);
    completed(tables, listener.id, hash, now, client, 1);
    // Last, or the verifier would follow all that comes after from each of its ends.
    if hash::sampled(hash, config.sample_shift) {
        complete_flow(config, tables, hash, key, now);
    }
}

/// Counts a completed handshake of a client that was known so well before: `weight` where it stands for
/// others.
#[inline(always)]
pub(super) fn completed<T: Tables>(
    tables: &mut T,
    listener: u32,
    hash: u64,
    now: u64,
    client: ClientStatus,
    weight: u64,
) {
    match client {
        ClientStatus::New => let_through::completed(tables, listener, hash, now),
        ClientStatus::Validated => {}
        ClientStatus::Returning => {
            count(tables, listener, |counters| counters.established_returning += weight);
        }
    }
}

/// A handshake of the sample that the kernel completed. Its third ACK counts here if it did not count when it
/// passed, just before: where no SYN-ACK was seen, because it left by an interface that is not attached, the
/// ACK could not be checked. The kernel has done so.
#[inline(always)]
fn complete_flow<T: Tables>(config: &Config, tables: &mut T, hash: u64, key: &FlowKey, now: u64) {
    let Some(flow) = sets::flow(tables, hash, key) else {
        return;
    };
    let acknowledged =
        flow.state == FlowState::Acknowledged as u8 || flow.state == FlowState::Ignored as u8;
    let open = flow.state == FlowState::Syn as u8 || flow.state == FlowState::SynAck as u8;
    if !acknowledged && !open {
        return;
    }
    flow.state = FlowState::Completed as u8;
    if acknowledged {
        return;
    }
    flow.done_ns = now;
    let (listener, weight) = (flow.listener, weight(config, flow.sample_shift));
    let syn_ns = flow.syn_ns;
    count_acknowledged(config, tables, listener, weight, syn_ns);
}

/// Returns whether there is something to learn from it: its flow belongs to the sample, or mitigations are active at its
/// listener.
#[inline(never)]
fn syn_ack_sent<T: Tables>(
    config: &Config,
    tables: &mut T,
    segment: &Segment,
    listener: Replying,
) -> bool {
    let key = segment.flow.reversed();
    count(tables, listener.id(), |counters| counters.syn_ack += 1);
    let hash = hash::flow(&config.hash_key, &key);
    if !hash::sampled(hash, config.sample_shift) {
        return listener.mitigations() != 0;
    }
    syn_ack_of_sample(config, tables, segment, hash, listener.id());
    true
}

#[inline(always)]
fn syn_ack_of_sample<T: Tables>(
    config: &Config,
    tables: &mut T,
    segment: &Segment,
    hash: u64,
    listener: u32,
) {
    let now = tables.now_ns();
    let key = segment.flow.reversed();
    let syn_ack = 1 << (config.sample_shift & 31);
    count_source(
        config,
        tables,
        &key.client,
        now,
        SourceDelta { syn_ack, ..SourceDelta::default() },
    );
    let Some(flow) = sets::flow(tables, hash, &key) else {
        return;
    };
    if !follows(flow, segment.ack) {
        return;
    }
    let isn = sets::bound(hash, segment.seq);
    if flow.done_ns != 0 {
        if isn != flow.isn {
            return;
        }
        // The host has ignored the client's third ACK: its accept queue is full, or the checksum was wrong.
        // The handshake is as half-open as before.
        if flow.state != FlowState::Reset as u8 {
            if flow.state == FlowState::Acknowledged as u8 {
                flow.state = FlowState::Ignored as u8;
            }
            // A handshake counts once, however often it is answered again.
            flow.isn = !isn;
            let weight = weight(config, flow.sample_shift);
            count(tables, listener, |counters| counters.ack_ignored += weight);
            return;
        }
        (flow.state, flow.done_ns) = (FlowState::SynAck as u8, 0);
    }
    // With cookies a retransmitted SYN is answered with another sequence number: keep the last.
    flow.isn = isn;
    if flow.state == FlowState::SynAck as u8 {
        let weight = weight(config, flow.sample_shift);
        count(tables, listener, |counters| counters.syn_ack_retransmit += weight);
        return;
    }
    flow.state = FlowState::SynAck as u8;
    flow.syn_ack_ns = now;
}

/// Counts a SYN of this host, or what a scanner on it sends instead, and records it if its flow is in the sample, so
/// that a reply to it is not unsolicited.
#[inline(never)]
fn own_syn<T: Tables>(config: &Config, tables: &mut T, segment: &Segment) {
    if let Some(counters) = tables.host_counters() {
        counters.own_syn += 1;
    }
    let hash = hash::flow(&config.hash_key, &segment.flow);
    if !hash::sampled(hash, config.sample_shift) {
        return;
    }
    let flow = Flow {
        syn_ns: tables.now_ns(),
        syn_seq: segment.seq,
        listener: u32::MAX,
        state: FlowState::Own as u8,
        sample_shift: config.sample_shift,
        ..Flow::default()
    };
    match sets::flow(tables, hash, &segment.flow) {
        Some(known) => *known = flow,
        None => sets::insert_flow(tables, hash, &segment.flow, &flow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Addr;

    #[test]
    fn what_a_host_says_to_itself_comes_by_its_loopback_interface() {
        let came = |client, server| {
            let (client_port, server_port) = ([0x9c, 0x40], [1, 0xbb]);
            came_by(&FlowKey { client, server, client_port, server_port }, 7)
        };
        let (here, there) = (Addr::from_v4([192, 0, 2, 1]), Addr::from_v4([198, 51, 100, 1]));
        assert_eq!(came(there, here), 7);
        assert_eq!(came(here, here), 1);
        assert_eq!(came(Addr::from_v4([127, 3, 2, 1]), Addr::from_v4([127, 0, 0, 1])), 1);
        let loopback = Addr::from_v6_words([0, 0, 0, 1]);
        assert_eq!(came(loopback, loopback), 1);
    }
}
