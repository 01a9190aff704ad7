//! The mitigations between the rules and the stack, for more SYNs than can or may be answered.
//!
//! The agent activates them for a listener ([`ListenerEntry::mitigations`]). They act only in enforce mode and while
//! the agent is alive.
//!
//! Where SYNs are answered with cookies, a SYN goes to the stack before anything else if the host already has a
//! connection for it. Otherwise the third ACK of the cookie would find that connection and not the listener,
//! and the client would hang: after TIME_WAIT, because it uses a port again; after a restart, because the host
//! does not know of it; half-open, because it came before the mitigation began. So the socket table is
//! searched. It is searched only for sources that can have a connection, or a flood would pay for it with each
//! SYN. These are validated clients and SYNs that were answered according to the flow table. While connections
//! may be left that are older than the tables ([`PREEXISTING_NS`]), it is searched for all. Two cases are missed:
//! a new client's half-open connection beyond the sample, and connections of clients that were forgotten since,
//! or that both ends still had after that time.
//!
//! The other SYNs, in the order of the mitigations:
//!
//! 1. Replies by XDP are limited for each network that they go to, and on each CPU: the sources may be spoofed,
//!    and then the replies hit a host that never asked. The last half of a network's limit is shared among its
//!    addresses, so that a flood that spoofs one of them leaves the others theirs. What is returned is not limited:
//!    completed handshakes give tokens back ([`clients`]). A limit is not there against clients, so a SYN beyond it
//!    takes a token of the listener's buckets, as below, and goes to the stack. It is dropped without one. While there
//!    is no incident, it goes to the stack without a token: clients get there what they get without cookies. Then the
//!    socket table is searched for every source, since the stack holds half-open connections of new clients.
//! 2. SYNs that are not answered with a cookie go to the stack. With a SYN rate limit, first SYNs of
//!    unvalidated sources take a token of it each, and retransmitted ones may take one of the bucket of
//!    [`takes_retransmit`]: an attacker retransmits at will. Where cookies are sent, a SYN that gets none takes a
//!    token of the same two buckets, whatever the reason ([`crate::abi::Unanswered`]), with a SYN rate limit and
//!    without: a sender chooses whether its SYN is a fragment, and by which interface its source is answered. One
//!    SYN in a second renews the way back ([`super::way_back`]) and takes none.
//! 3. Protected and allowlisted addresses have a bucket as validated clients have, because anyone can spoof them, and a
//!    listener has one for all of them together, because a prefix has many addresses ([`exempt`]).
//!
//! A SYN that is dropped for want of a token is remembered in [`drop_cache`], so that its retransmission is
//! recognised. A SYN outside of the sample that is remembered counts as a first one.

use super::count::count;
use super::exempt::is_exempt_client;
use super::{
    COOKIE_HEARTBEAT_NS, Disposition, PacketCtx, Tables, VALIDATED_RATE, clients, drop_cache, hash,
    sets,
};
use crate::abi::{Addr, Bucket, Config, FlowState, ListenerEntry, Mode, Rate, Reason};

/// SYNs are answered with cookies, made by XDP or by the kernel.
pub(super) const ANY_COOKIES: u8 = ListenerEntry::OWN_COOKIES | ListenerEntry::KERNEL_COOKIES;
/// Mitigations that treat SYNs by their source.
pub(super) const BY_TRUST: u8 = ANY_COOKIES | ListenerEntry::BUDGET;
/// The part of the replies to a network that go to one address of it, where less than half are left.
const ADDRESSES: u16 = 8;
/// Time after the tables began empty in which a client may return to an earlier connection that the host still
/// remembers: TIME_WAIT lasts 60 s (`TCP_TIMEWAIT_LEN`, include/net/tcp.h), and a little longer for those that
/// end meanwhile.
pub const PREEXISTING_NS: u64 = 65_000_000_000;
/// Tokens of a listener's budget that a CPU takes at once.
///
/// The CPUs share one bucket, and would fight over its cache line if each took its tokens singly. A
/// bucket changes by an exchange that fails if another CPU came between, so no token is given twice
/// and the rate is exact. Only the moment is not: a CPU may still hold up to seven tokens of
/// earlier, so that a flood finds the burst and 7 more on one CPU, 14 on 2, 896 on 128; and the last
/// seven of a burst wait until they are eight.
const BATCH: u32 = 8;

/// The evidence for the sender of a SYN.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum Trust {
    /// No evidence, as far as was asked.
    #[default]
    Unknown = 0,
    /// The source completed a handshake before, or is exempt, and does not send more SYNs than a client does.
    Validated = 1,
    /// Its SYN was retransmitted after a rule dropped it. [`super::let_through`] bounds how many reach the stack.
    Retransmitted = 2,
    /// No evidence, but its SYN goes to the stack to renew the way back; see [`super::way_back`].
    Renewing = 3,
}

/// Tokens of a listener's budget that a CPU holds. All-zero is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Allowance {
    /// Listener of the tokens, by id.
    pub listener: u32,
    /// Number of tokens.
    pub tokens: u32,
}

/// The mitigations that are in force for this client's SYNs to a listener now.
#[inline(always)]
pub(super) const fn mitigations_in_force(
    config: &Config,
    listener: &ListenerEntry,
    client: &Addr,
    now_ns: u64,
) -> u8 {
    if listener.mitigations == 0
        || config.mode != Mode::Enforce as u8
        || now_ns.saturating_sub(config.heartbeat_ns) > COOKIE_HEARTBEAT_NS
    {
        return 0;
    }
    let family = if client.as_v4().is_some() { ListenerEntry::NO_V4 } else { ListenerEntry::NO_V6 };
    if listener.withheld & family != 0 {
        return listener.mitigations & !ANY_COOKIES;
    }
    listener.mitigations
}

/// Finds out whether the sender of a SYN is a validated client, and returns whether the host may have a
/// connection with it that the reply would miss. `recorded`: its flow belongs to the sample.
#[inline(always)]
pub(super) fn recognise<T: Tables>(
    config: &Config,
    tables: &mut T,
    pkt: &mut PacketCtx,
    recorded: bool,
) -> bool {
    // A SYN brings no cookie.
    pkt.checked = false;
    let validated = match clients::find(config, tables, &pkt.segment.flow.client.client()) {
        Some(client) => {
            if pkt.trust == Trust::Unknown && clients::take(client, pkt) {
                pkt.trust = Trust::Validated;
            }
            true
        }
        None => false,
    };
    pkt.mitigations & ANY_COOKIES != 0
        && (validated
            || config.preexisting_connections != 0
            || pkt.mitigations & ListenerEntry::PASS_EXCESS != 0
            || recorded && was_answered(tables, pkt))
}

/// Returns whether this very SYN was answered before, by the stack or with a cookie.
#[inline(always)]
fn was_answered<T: Tables>(tables: &mut T, pkt: &PacketCtx) -> bool {
    sets::flow(tables, pkt.flow_hash, &pkt.segment.flow).is_some_and(|flow| {
        flow.state == FlowState::SynAck as u8 && flow.syn_seq == pkt.segment.seq
    })
}

/// The course of a SYN that passed the rules, as far as the limits of replies are concerned.
#[inline(always)]
pub(super) fn limit<T: Tables>(
    config: &Config,
    tables: &mut T,
    pkt: &mut PacketCtx,
) -> Disposition {
    if pkt.mitigations & ANY_COOKIES == 0 {
        return Disposition::Stack;
    }
    if pkt.trust == Trust::Validated {
        return Disposition::Answer;
    }
    let reason = if !may_be_replied_to(config, tables, pkt) {
        Reason::DropReflection
    } else if !tables.reply_limit_of_cpu().take(pkt.now, config.replies_per_cpu) {
        Reason::DropReplyLimit
    } else {
        return Disposition::Answer;
    };
    if exempt(config, tables, pkt) {
        return Disposition::Answer;
    }
    if pkt.mitigations & ListenerEntry::PASS_EXCESS != 0 {
        return Disposition::Stack;
    }
    pkt.beyond_limit = true;
    Disposition::Limited(reason)
}

/// Returns whether the network that a reply goes to may get another one. If so, takes a token for it.
#[inline(always)]
fn may_be_replied_to<T: Tables>(config: &Config, tables: &mut T, pkt: &PacketCtx) -> bool {
    let (client, rate) = (&pkt.segment.flow.client, config.replies_per_network);
    let network = hash::source(&config.hash_key, &client.network());
    let Some(bucket) = tables.reply_limit(network) else {
        return true;
    };
    if !rate.is_half_empty(*bucket, pkt.now) {
        return rate.take(bucket, pkt.now, 1);
    }
    // Other bits than those that distinguish networks: an address may be its network's first.
    let address = hash::source(&config.hash_key, &client.client()) >> 32;
    let mut takes = |bucket, weight| {
        tables.reply_limit(bucket).is_none_or(|bucket| rate.take(bucket, pkt.now, weight))
    };
    takes(address, ADDRESSES) && takes(network, 1)
}

/// Returns whether the stack is given a retransmitted SYN that a rule or a budget would keep from it.
///
/// A retransmission proves nothing: an attacker retransmits at will. So the stack gets no more of them
/// than its queue can hold, from all senders together, and among all that are retransmitted a client's
/// SYN has the same chance as any other.
#[inline(always)]
pub(super) fn takes_retransmit<T: Tables>(tables: &mut T, pkt: &PacketCtx) -> bool {
    let rate = pkt.listener.retransmit_budget;
    take_shared::<T>(tables.retransmit_budget(pkt.listener.id), rate, pkt.now)
}

/// Takes a token of a bucket that all CPUs share. If another CPU takes one in between, this one has none this time.
#[inline(always)]
fn take_shared<T: Tables>(bucket: Option<&mut Bucket>, rate: Rate, now_ns: u64) -> bool {
    let Some(bucket) = bucket else {
        return true;
    };
    let before = *bucket;
    match before.after(now_ns, rate, 1) {
        Some(after) => T::exchange(bucket, before, after),
        None => false,
    }
}

/// The fate of a SYN that goes to the stack: `None`, it does.
#[inline(always)]
pub(super) fn budget<T: Tables>(
    config: &Config,
    tables: &mut T,
    pkt: &PacketCtx,
) -> Option<Reason> {
    if pkt.trust != Trust::Unknown {
        return None;
    }
    let budgeted = pkt.mitigations & ListenerEntry::BUDGET != 0;
    let ahead = pkt.mitigations & ListenerEntry::PASS_EXCESS != 0;
    let unanswered = pkt.mitigations & ANY_COOKIES != 0 && !ahead;
    let evades = unanswered && pkt.segment.fragment || pkt.beyond_limit;
    if !budgeted && !unanswered && !pkt.beyond_limit {
        return None;
    }
    let rate = if budgeted { pkt.listener.budget } else { pkt.listener.retransmit_budget };
    let passes = take_of_budget(tables, pkt, rate)
        // An exempt address lets no fragment past the buckets: it costs an attacker nothing.
        || !evades && exempt(config, tables, pkt)
        // Retransmitted SYNs have a bucket of their own, so that a flood of first SYNs leaves it to
        // clients.
        || drop_cache::was_retransmitted(tables, pkt) && takes_retransmit(tables, pkt);
    if passes {
        return None;
    }
    count_limited(tables, pkt);
    Some(Reason::DropBudget)
}

#[inline(always)]
fn count_limited<T: Tables>(tables: &mut T, pkt: &PacketCtx) {
    count(tables, pkt.listener.id, |counters| counters.limited += 1);
}

/// Returns whether the sender is protected or allowlisted and may be a client, and no more such SYNs come than a client
/// sends, from its address, and than the listener's queue can hold, from all such addresses.
#[inline(always)]
pub(super) fn exempt<T: Tables>(config: &Config, tables: &mut T, pkt: &PacketCtx) -> bool {
    let source = &pkt.segment.flow.client;
    if !is_exempt_client(tables, source, pkt.now) {
        return false;
    }
    let address = hash::source(&config.hash_key, &source.client());
    let is_few = |bucket: &mut Bucket| bucket.take(pkt.now, VALIDATED_RATE);
    let rate = pkt.listener.retransmit_budget;
    tables.exempt_rate(address).is_none_or(is_few)
        && take_shared::<T>(tables.exempt_budget(pkt.listener.id), rate, pkt.now)
}

/// Takes a token of the listener's budget of this rate: one that this CPU holds, or the first of a batch.
#[inline(always)]
fn take_of_budget<T: Tables>(tables: &mut T, pkt: &PacketCtx, rate: Rate) -> bool {
    let listener = pkt.listener.id;
    let Some(allowance) = tables.allowance(listener) else {
        return true;
    };
    if allowance.listener == listener && allowance.tokens != 0 {
        allowance.tokens -= 1;
        return true;
    }
    let batch = if rate.burst < BATCH { 1 } else { BATCH };
    let Some(bucket) = tables.budget(listener) else {
        return true;
    };
    let before = *bucket;
    let Some(after) = before.after(pkt.now, rate, batch) else {
        return false;
    };
    // If another CPU takes a batch in between, this one has none this time.
    if !T::exchange(bucket, before, after) {
        return false;
    }
    if let Some(allowance) = tables.allowance(listener) {
        *allowance = Allowance { listener, tokens: batch - 1 };
    }
    true
}
