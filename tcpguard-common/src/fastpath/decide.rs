//! The fate of a packet. The kernel, replay, fuzzing and the property tests all run these lines.

use super::{Fingerprint, Mask, Rate, Tables, classify, distinct, hash, seen};
use crate::ABI_VERSION;
use crate::abi::{
    Action, Addr, Class, Client, Config, Flow, FlowKey, FlowState, ListenerCounters, ListenerEntry,
    ListenerKey, Mode, PORT_ANY_V4, PORT_ANY_V6, PORT_EXACT, Reason, SignatureKey, SourceCounters,
};
use crate::wire::{self, Frame, Segment};

/// SYNs of a validated client that pass in spite of a rule: its address can be forged too, and a
/// bot can complete one handshake.
pub const VALIDATED_RATE: Rate = Rate {
    interval_ns: 50_000_000,
    burst: 50,
};
/// ACKs are compared with the flow table for this long after a SYN, in ns. A handshake whose third
/// packet takes longer has lost its entry in the stack's SYN queue as well.
pub const HANDSHAKE_NS: u64 = 65_000_000_000;

/// What is known of the packet at hand, handed from step to step.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// The TCP segment.
    pub segment: Segment,
    /// The listener it is for, all-zero unless `known`.
    listener: ListenerEntry,
    /// Whether there is such a listener.
    known: bool,
    /// Whether its flow belongs to the sample.
    sampled: bool,
    /// Hash of its flow.
    flow_hash: u64,
    /// Boot time in ns.
    now: u64,
    /// What it looks like, if it is a SYN and anybody wants to know.
    print: Fingerprint,
}

/// The steps of the decision about an arriving frame, which [`ingress`] puts together.
///
/// On the host each is a call of the function of the same name in [`step`]. In the kernel each is a
/// BPF function of its own around the same call, so that the verifier's work for the steps adds up
/// rather than multiplies, and so that a call chain stays below 512 bytes of stack.
pub trait Steps {
    /// See [`step::parse`].
    fn parse(&mut self) -> Result<Class, Reason>;
    /// See [`step::count_syn`].
    fn count_syn(&mut self);
    /// See [`step::fingerprint`].
    fn fingerprint(&mut self);
    /// See [`step::judge_syn`].
    fn judge_syn(&mut self) -> Reason;
    /// See [`step::record_syn`].
    fn record_syn(&mut self, dropped: bool);
    /// See [`step::follow`].
    fn follow(&mut self, reset: bool) -> Reason;
    /// See [`step::illegal`].
    fn illegal(&mut self) -> Reason;
}

/// Decides about a frame that arrived, and counts it. Counting comes before dropping, so that a
/// flood that is being dropped is still measured and its end is seen.
#[inline(always)]
pub fn ingress<S: Steps>(config: &Config, steps: &mut S) -> Reason {
    if config.abi_version != ABI_VERSION {
        return Reason::Unconfigured;
    }
    match steps.parse() {
        Err(reason) => reason,
        Ok(Class::Syn) => {
            steps.count_syn();
            steps.fingerprint();
            let reason = steps.judge_syn();
            steps.record_syn(matches!(reason.action(), Action::Drop));
            reason
        }
        Ok(Class::SynAck) => Reason::SynAck,
        Ok(Class::Ack | Class::Fin) => steps.follow(false),
        Ok(Class::Rst) => steps.follow(true),
        Ok(_) => steps.illegal(),
    }
}

/// Looks at a frame that leaves: the host's own SYN-ACKs and resets.
#[inline(always)]
pub fn egress<F: Frame + ?Sized, T: Tables>(frame: &F, config: &Config, tables: &mut T) {
    if config.abi_version != ABI_VERSION {
        return;
    }
    let Ok(segment) = wire::parse(frame) else {
        return;
    };
    match classify(segment.flags) {
        Class::SynAck => syn_ack_sent(config, tables, &segment),
        Class::Rst => {
            if let Some(listener) = find_listener(tables, &segment.flow.reversed()) {
                count(tables, listener.id, |counters| counters.refused += 1);
            }
        }
        _ => {}
    }
}

/// Records a handshake that the kernel completed.
#[inline(always)]
pub fn established<T: Tables>(config: &Config, tables: &mut T, flow: &FlowKey) {
    if config.abi_version != ABI_VERSION {
        return;
    }
    let Some(listener) = find_listener(tables, flow) else {
        return;
    };
    count(tables, listener.id, |counters| counters.established += 1);
    let now = tables.now_ns();
    validate(tables, &flow.client, now, 1);
}

/// The steps themselves; see [`Steps`].
pub mod step {
    use super::*;

    /// Reads the segment into [`Work::segment`] and counts its class.
    ///
    /// # Errors
    /// The reason why there is no segment to be read.
    #[inline(always)]
    pub fn parse<F: Frame + ?Sized, T: Tables>(
        frame: &F,
        tables: &mut T,
        work: &mut Work,
    ) -> Result<Class, Reason> {
        work.segment = wire::parse(frame)?;
        let class = classify(work.segment.flags);
        tables.count_class(class);
        Ok(class)
    }

    /// Finds the listener of a SYN and counts the SYN and its source.
    #[inline(always)]
    pub fn count_syn<T: Tables>(config: &Config, tables: &mut T, work: &mut Work) {
        let flow = &work.segment.flow;
        work.now = tables.now_ns();
        work.flow_hash = hash::flow(config.hash_key, flow);
        work.sampled = hash::sampled(work.flow_hash, config.sample_shift);
        if work.sampled {
            let syn = 1 << (config.sample_shift & 31);
            count_source(
                tables,
                &flow.client,
                work.now,
                Seen {
                    syn,
                    ..Seen::default()
                },
            );
        }
        work.known = false;
        work.listener = ListenerEntry::default();
        let Some(listener) = find_listener(tables, flow) else {
            return;
        };
        work.known = true;
        work.listener = listener;
        *tables.last_syn_ns() = work.now;
        count(tables, listener.id, |counters| counters.syn += 1);
        if let Some(registers) = tables.distinct_sources(listener.id) {
            distinct::add(
                registers,
                hash::source(config.hash_key, &flow.client.client()),
            );
        }
    }

    /// Takes the fingerprint of a SYN, where a rule or the sample needs it.
    #[inline(always)]
    pub fn fingerprint<F: Frame + ?Sized>(frame: &F, work: &mut Work) {
        if work.known && (work.sampled || work.listener.masks != 0) {
            work.print = wire::fingerprint(frame, &work.segment);
        }
    }

    /// The fate of a SYN: the first rule that matches, unless its source is exempt or it came back.
    #[inline(always)]
    pub fn judge_syn<T: Tables>(config: &Config, tables: &mut T, work: &Work) -> Reason {
        let passed = if work.known {
            Reason::Syn
        } else {
            Reason::NoListener
        };
        if config.mode == Mode::Off as u8 {
            return passed;
        }
        let Some(matched) = matching_rule(config, tables, work) else {
            return passed;
        };
        if agent_gone(config, work.now) {
            return Reason::AgentGone;
        }
        if let Some(reason) = spared(tables, work) {
            count_listener(tables, work, |counters| counters.spared += 1);
            return reason;
        }
        // A source rule means the source, however often it tries.
        if matched.by_signature && came_back(config, tables, work) {
            if let Some(hits) = tables.rule_hits(matched.slot) {
                hits.returned += 1;
            }
            count_listener(tables, work, |counters| counters.returned += 1);
            return Reason::SynReturned;
        }
        if let Some(hits) = tables.rule_hits(matched.slot) {
            hits.hits += 1;
        }
        let enforced = config.mode == Mode::Enforce as u8;
        if matched.by_signature {
            count_listener(tables, work, |counters| counters.dropped_signature += 1);
            if enforced {
                Reason::DropSignature
            } else {
                Reason::WouldDropSignature
            }
        } else {
            count_listener(tables, work, |counters| counters.dropped_source += 1);
            if enforced {
                Reason::DropSource
            } else {
                Reason::WouldDropSource
            }
        }
    }

    /// Records a SYN of the sample among the flows.
    #[inline(always)]
    pub fn record_syn<T: Tables>(config: &Config, tables: &mut T, work: &Work, dropped: bool) {
        if !work.sampled || !work.known {
            return;
        }
        let listener = &work.listener;
        if let Some(flow) = tables.flow(&work.segment.flow)
            && flow.syn_seq == work.segment.seq && flow.done_ns == 0 {
                let weight = weight(config, flow.sample_shift);
                flow.syn_retransmits = flow.syn_retransmits.saturating_add(1);
                if flow.state == FlowState::Dropped as u8 && !dropped {
                    flow.state = FlowState::Syn as u8;
                }
                count(tables, listener.id, |counters| {
                    counters.syn_retransmit += weight
                });
                return;
            }
        let state = if dropped {
            FlowState::Dropped
        } else {
            FlowState::Syn
        };
        let flow = Flow {
            syn_ns: work.now,
            syn_seq: work.segment.seq,
            listener: listener.id,
            state: state as u8,
            sample_shift: config.sample_shift,
            fingerprint: work.print,
            ..Flow::default()
        };
        tables.insert_flow(&work.segment.flow, &flow);
    }

    /// A segment that only a peer with a connection (or a half-open one) sends: third ACKs and
    /// resets are compared with the sampled handshakes.
    #[inline(always)]
    pub fn follow<T: Tables>(
        config: &Config,
        tables: &mut T,
        segment: &Segment,
        reset: bool,
    ) -> Reason {
        let passed = if reset { Reason::Rst } else { Reason::Segment };
        let now = tables.now_ns();
        if tables.segment_sampled(config.segment_shift) {
            let weight = 1 << (config.segment_shift & 31);
            let seen = if reset {
                Seen {
                    rst: weight,
                    ..Seen::default()
                }
            } else {
                Seen {
                    ack: weight,
                    ..Seen::default()
                }
            };
            count_source(tables, &segment.flow.client, now, seen);
        }
        let last_syn = *tables.last_syn_ns();
        if last_syn == 0 || now.saturating_sub(last_syn) > HANDSHAKE_NS {
            return passed;
        }
        if tables.port_bits(segment.flow.server_port) == 0 {
            return passed;
        }
        if !hash::sampled(
            hash::flow(config.hash_key, &segment.flow),
            config.sample_shift,
        ) {
            return passed;
        }
        let Some(flow) = tables.flow(&segment.flow) else {
            return passed;
        };
        if flow.state != FlowState::SynAck as u8 || segment.seq != flow.syn_seq.wrapping_add(1) {
            return passed;
        }
        if !reset && segment.ack != flow.isn.wrapping_add(1) {
            return passed;
        }
        let listener = flow.listener;
        let weight = weight(config, flow.sample_shift);
        flow.done_ns = now;
        if reset {
            flow.state = FlowState::Reset as u8;
            count(tables, listener, |counters| counters.reset += weight);
            return passed;
        }
        flow.state = FlowState::Completed as u8;
        count(tables, listener, |counters| counters.acknowledged += weight);
        // Where the tracepoint counts completions, it counts this one too.
        let completed = if config.established_seen != 0 {
            0
        } else {
            weight
        };
        validate(tables, &segment.flow.client, now, completed);
        Reason::HandshakeAck
    }

    /// A flag combination that no TCP sends.
    #[inline(always)]
    pub fn illegal<T: Tables>(config: &Config, tables: &mut T) -> Reason {
        if config.drop_illegal == 0 || config.mode != Mode::Enforce as u8 {
            return Reason::Illegal;
        }
        if agent_gone(config, tables.now_ns()) {
            Reason::Illegal
        } else {
            Reason::DropIllegal
        }
    }
}

/// Which rule matches a SYN.
#[derive(Clone, Copy)]
struct Match {
    slot: u32,
    by_signature: bool,
}

/// Without an agent nobody answers for the rules: they drop nothing any more.
#[inline(always)]
const fn agent_gone(config: &Config, now: u64) -> bool {
    now.saturating_sub(config.heartbeat_ns) > config.heartbeat_limit_ns
}

#[inline(always)]
fn matching_rule<T: Tables>(config: &Config, tables: &T, work: &Work) -> Option<Match> {
    if config.source_rules != 0
        && let Some(rule) = tables.source_rule(&work.segment.flow.client)
            && tables.rule_expiry_ns(rule.slot) > work.now {
                return Some(Match {
                    slot: rule.slot,
                    by_signature: false,
                });
            }
    let listener = &work.listener;
    if listener.masks == 0 {
        return None;
    }
    for mask in Mask::ALL {
        if listener.masks & (1 << mask.code()) != 0 {
            let key = SignatureKey {
                listener: listener.id,
                mask: mask.code() as u32,
                fingerprint: work.print.masked(mask),
            };
            if let Some(rule) = tables.signature_rule(&key)
                && tables.rule_expiry_ns(rule.slot) > work.now {
                    return Some(Match {
                        slot: rule.slot,
                        by_signature: true,
                    });
                }
        }
    }
    None
}

/// Why a SYN may not be dropped by its source or signature: the address is protected, or its owner
/// completed a handshake before and is not sending more SYNs than a client does.
#[inline(always)]
fn spared<T: Tables>(tables: &mut T, work: &Work) -> Option<Reason> {
    let source = &work.segment.flow.client;
    if u64::from(tables.exempt_until_s(source)) * 1_000_000_000 > work.now {
        return Some(Reason::SynExempt);
    }
    let client = tables.client(&source.client())?;
    if client.bucket.take(work.now, VALIDATED_RATE) {
        Some(Reason::SynValidated)
    } else {
        None
    }
}

#[inline(always)]
fn came_back<T: Tables>(config: &Config, tables: &mut T, work: &Work) -> bool {
    let hash = hash::syn(config.hash_key, work.flow_hash, work.segment.seq);
    match tables.seen_bucket(hash) {
        Some(bucket) => seen::returned(bucket, hash, work.now),
        None => false,
    }
}

#[inline(never)]
fn syn_ack_sent<T: Tables>(config: &Config, tables: &mut T, segment: &Segment) {
    let key = segment.flow.reversed();
    let Some(listener) = find_listener(tables, &key) else {
        tables.note_unknown_listener(&ListenerKey::new(key.server, key.server_port));
        return;
    };
    count(tables, listener.id, |counters| counters.syn_ack += 1);
    if !hash::sampled(hash::flow(config.hash_key, &key), config.sample_shift) {
        return;
    }
    let now = tables.now_ns();
    let syn_ack = 1 << (config.sample_shift & 31);
    count_source(
        tables,
        &key.client,
        now,
        Seen {
            syn_ack,
            ..Seen::default()
        },
    );
    let Some(flow) = tables.flow(&key) else {
        return;
    };
    if segment.ack != flow.syn_seq.wrapping_add(1) || flow.done_ns != 0 {
        return;
    }
    // With cookies a repeated SYN is answered with another sequence number: keep the last.
    flow.isn = segment.seq;
    if flow.state == FlowState::SynAck as u8 {
        flow.syn_ack_retransmits = flow.syn_ack_retransmits.saturating_add(1);
        let weight = weight(config, flow.sample_shift);
        count(tables, listener.id, |counters| {
            counters.syn_ack_retransmit += weight
        });
        return;
    }
    flow.state = FlowState::SynAck as u8;
    flow.syn_ack_ns = now;
}

/// How many flows one stands for that was recorded under `recorded_shift` and looked up now: when
/// the shift has grown since, only one in `2^sample_shift` of those recorded is looked up at all.
#[inline(always)]
const fn weight(config: &Config, recorded_shift: u8) -> u64 {
    let shift = if recorded_shift > config.sample_shift {
        recorded_shift
    } else {
        config.sample_shift
    };
    1 << (shift & 31)
}

/// The listener that a flow belongs to: the one bound to exactly this address, else the one bound
/// to all of the family. (A dual-stack socket has an entry for each.)
#[inline(always)]
fn find_listener<T: Tables>(tables: &T, flow: &FlowKey) -> Option<ListenerEntry> {
    let port = flow.server_port;
    let bits = tables.port_bits(port);
    if bits == 0 {
        return None;
    }
    if bits & PORT_EXACT != 0
        && let Some(listener) = tables.listener(&ListenerKey::new(flow.server, port)) {
            return Some(listener);
        }
    let (bit, any) = if flow.server.as_v4().is_some() {
        (PORT_ANY_V4, Addr::ANY_V4)
    } else {
        (PORT_ANY_V6, Addr::ANY_V6)
    };
    if bits & bit == 0 {
        return None;
    }
    tables.listener(&ListenerKey::new(any, port))
}

#[inline(always)]
fn count<T: Tables>(tables: &mut T, id: u32, count: impl FnOnce(&mut ListenerCounters)) {
    if let Some(counters) = tables.listener_counters(id) {
        count(counters);
    }
}

#[inline(always)]
fn count_listener<T: Tables>(
    tables: &mut T,
    work: &Work,
    counting: impl FnOnce(&mut ListenerCounters),
) {
    if work.known {
        count(tables, work.listener.id, counting);
    }
}

/// What a packet adds to its source's counters.
#[derive(Clone, Copy, Default)]
struct Seen {
    syn: u64,
    syn_ack: u64,
    ack: u64,
    rst: u64,
}

impl Seen {
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
fn count_source<T: Tables>(tables: &mut T, addr: &Addr, now: u64, seen: Seen) {
    let addr = addr.client();
    if let Some(client) = tables.client(&addr) {
        seen.add(&mut client.counters, now);
        return;
    }
    if let Some(counters) = tables.source(&addr) {
        seen.add(counters, now);
        return;
    }
    let mut counters = SourceCounters::default();
    seen.add(&mut counters, now);
    tables.insert_source(&addr, &counters);
}

/// Records that the owner of an address completed a handshake. Only this makes a client.
#[inline(never)]
fn validate<T: Tables>(tables: &mut T, addr: &Addr, now: u64, completed: u64) {
    let addr = addr.client();
    if let Some(client) = tables.client(&addr) {
        client.completed_ns = now;
        client.counters.completed += completed;
        return;
    }
    let mut client = Client {
        completed_ns: now,
        ..Client::default()
    };
    if let Some(counters) = tables.source(&addr) {
        client.counters = *counters;
    }
    client.counters.completed += completed;
    tables.insert_client(&addr, &client);
}
