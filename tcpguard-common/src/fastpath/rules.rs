//! Which rule matches a SYN, and what may keep it from being dropped.

use super::exempt::is_exempt;
use super::{Mask, Tables, VALIDATED_RATE, Work, clients, hash, seen};
use crate::abi::{Config, EVERY_PORT, Reason, RuleRef, SignatureKey};

/// Which rule matches a SYN.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Match {
    pub rule: RuleRef,
    pub by_signature: bool,
}

/// Without an agent nobody answers for the rules: they drop nothing any more.
#[inline(always)]
pub(super) const fn agent_gone(config: &Config, now: u64) -> bool {
    now.saturating_sub(config.heartbeat_ns) > config.heartbeat_limit_ns
}

#[inline(always)]
pub(super) fn matching_rule<T: Tables>(config: &Config, tables: &T, work: &Work) -> Option<Match> {
    let set = work.rule_set;
    let flow = &work.segment.flow;
    // The rule for this port first: it is always an operator's word, which spares fewer.
    if config.port_rules != 0
        && let Some(rule) = tables.source_rule(set, flow.server_port, &flow.client)
        && tables.rule_expiry_ns(rule.slot) > work.now
    {
        return Some(Match { rule, by_signature: false });
    }
    if config.source_rules != 0
        && let Some(rule) = tables.source_rule(set, EVERY_PORT, &flow.client)
        && tables.rule_expiry_ns(rule.slot) > work.now
    {
        return Some(Match { rule, by_signature: false });
    }
    let listener = &work.listener;
    if listener.masks == 0 {
        return None;
    }
    // One body for every mask: the verifier would follow eight of them through all their branches.
    let print = work.print.words();
    for (code, compared) in Mask::WORDS.iter().enumerate() {
        if listener.masks >> code & 1 == 0 {
            continue;
        }
        let fingerprint = [print[0] & compared[0], print[1] & compared[1], print[2] & compared[2]];
        let (mask, set) = (code as u16, set as u16);
        let key = SignatureKey { listener: listener.id, mask, set, fingerprint };
        if let Some(rule) = tables.signature_rule(&key)
            && tables.rule_expiry_ns(rule.slot) > work.now
        {
            return Some(Match { rule, by_signature: true });
        }
    }
    None
}

/// Why a SYN may not be dropped by its source or signature: the address is protected, or its owner
/// completed a handshake before and is not sending more SYNs than a client does.
#[inline(always)]
pub(super) fn spared<T: Tables>(
    config: &Config,
    tables: &mut T,
    work: &Work,
    flags: u32,
) -> Option<Reason> {
    let source = &work.segment.flow.client;
    if flags & RuleRef::FORCED == 0 && is_exempt(tables, source, work.now) {
        return Some(Reason::SynExempt);
    }
    if flags & RuleRef::BY_OPERATOR != 0 {
        return None;
    }
    let client = clients::find(config, tables, &source.client())?;
    if client.bucket.take(work.now, VALIDATED_RATE) { Some(Reason::SynValidated) } else { None }
}

#[inline(always)]
pub(super) fn came_back<T: Tables>(tables: &mut T, work: &Work) -> bool {
    let hash = hash::syn(work.flow_hash, work.segment.seq);
    match tables.seen_bucket(hash) {
        Some(bucket) => seen::returned(bucket, hash, work.now),
        None => false,
    }
}
