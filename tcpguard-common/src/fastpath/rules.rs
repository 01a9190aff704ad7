//! The source rule that matches a SYN, and the exemptions and retransmissions that let a matched
//! SYN pass.

use super::count::count_listener;
use super::exempt::is_exempt_from;
use super::ladder::{self, Trust};
use super::{PacketCtx, Tables, clients, drop_cache, source_rules};
use crate::abi::{Addr, Config, EVERY_PORT, Mode, Reason, RuleRef};

/// Returns whether the agent is gone. Without an agent no rule drops: the rules fail open.
#[inline(always)]
pub(super) const fn agent_gone(config: &Config, now: u64) -> bool {
    now.saturating_sub(config.heartbeat_ns) > config.heartbeat_limit_ns
}

/// The source rule of a set that matches a SYN from `client` to `port` (in network byte order) at `now`, or none.
#[inline(always)]
pub(super) fn of_source<T: Tables>(
    config: &Config,
    tables: &T,
    set: u64,
    port: [u8; 2],
    client: &Addr,
    now: u64,
) -> RuleRef {
    // The rule for this port first: it is always an operator's word, which spares fewer.
    if config.port_rules != 0 {
        let rule = source_rules::over(config.port_rules, tables, set, port, client);
        if rule.is_rule() && tables.rule_expiry_ns(rule.slot) > now {
            return rule;
        }
    }
    if config.source_rules != 0 {
        let rule = source_rules::over(config.source_rules, tables, set, EVERY_PORT, client);
        if rule.is_rule() && tables.rule_expiry_ns(rule.slot) > now {
            return rule;
        }
    }
    RuleRef::NONE
}

/// The property of a SYN that a rule matches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum By {
    Source,
    Signature,
}

/// The fate of a SYN that a rule matches: dropped, unless its source is exempt or it was retransmitted.
///
/// An operator's rule means its sources, however often they try. Automatic rules rest on SYNs, which any
/// sender can spoof with a client's address: the client's own SYN passes when it is retransmitted.
#[inline(always)]
pub(super) fn judge<T: Tables>(
    config: &Config,
    tables: &mut T,
    pkt: &mut PacketCtx,
    rule: RuleRef,
    by: By,
) -> Reason {
    if agent_gone(config, pkt.now) {
        return Reason::AgentGone;
    }
    let by_signature = matches!(by, By::Signature);
    if let Some(reason) = exemption(config, tables, pkt, rule.flags, by_signature) {
        count_listener(tables, pkt, |counters| counters.exempt += 1);
        if by_signature || matches!(reason, Reason::SynValidated) {
            pkt.trust = Trust::Validated;
        }
        return reason;
    }
    // An operator's source rule means its sources, however often they try.
    let is_absolute = !by_signature && rule.flags & RuleRef::BY_OPERATOR != 0;
    if !is_absolute {
        pkt.slot = rule.slot;
        pkt.by_source = !by_signature;
        if drop_cache::was_retransmitted(tables, pkt) {
            pkt.trust = Trust::Retransmitted;
            return Reason::SynRetransmitted;
        }
    }
    if let Some(hits) = tables.rule_hits(rule.slot) {
        *hits += 1;
    }
    let enforced = config.mode == Mode::Enforce as u8;
    if by_signature {
        count_listener(tables, pkt, |counters| counters.dropped_signature += 1);
        if enforced { Reason::DropSignature } else { Reason::WouldDropSignature }
    } else {
        count_listener(tables, pkt, |counters| counters.dropped_source += 1);
        if enforced { Reason::DropSource } else { Reason::WouldDropSource }
    }
}

/// Returns the reason why a SYN may not be dropped by its source or signature: the address is protected, or its
/// owner completed a handshake before. Neither spares more SYNs than a client sends, but that no rule for its source
/// drops those of a protected address.
#[inline(always)]
fn exemption<T: Tables>(
    config: &Config,
    tables: &mut T,
    pkt: &PacketCtx,
    flags: u32,
    by_signature: bool,
) -> Option<Reason> {
    let source = &pkt.segment.flow.client;
    if flags & RuleRef::FORCED == 0 {
        let exempt = match by_signature {
            true => ladder::exempt(config, tables, pkt),
            false => is_exempt_from(tables, source, flags, pkt.now),
        };
        if exempt {
            return Some(Reason::SynExempt);
        }
    }
    if flags & RuleRef::BY_OPERATOR != 0 {
        return None;
    }
    let client = clients::find(config, tables, &source.client())?;
    if clients::take(client, pkt) { Some(Reason::SynValidated) } else { None }
}
