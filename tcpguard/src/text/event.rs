//! Events in words: one line for an alert or an action.
//!
//! A line is `subject: object: numbers. consequence: command`. Words of an operator, of the kernel and of obstacles
//! stand in it as they are. Everything else fits in [`LINE`] characters.

#[cfg(test)]
pub(super) mod tests;

use std::net::SocketAddr;

use tcpguard_engine::{
    Event, Fallback, Listener, NamedRule, Order, Origin, Restored, RuleReason, RuleTerms, Target,
};
use tcpguard_host::units::percent;

use super::incident::{self, on};
use super::incident_line::{ended, fitted, running};
use super::mitigations::withheld_from;
use super::reason::{
    User, harm, held_back, mitigation_noun, mitigation_reason, removal_reason, rule_obstacle,
    rule_reason, seconds, with_remedy,
};

/// Most characters of a line.
pub(super) const LINE: usize = 160;

/// An event in one line.
#[allow(clippy::too_many_lines, reason = "a table: one line an event")]
pub fn event_line(event: &Event) -> String {
    match event {
        Event::AttackStarted(facts)
        | Event::HandshakesDegraded(facts)
        | Event::IncidentStarted(facts) => running("started", facts),
        Event::AttackUpdated(facts)
        | Event::HandshakesUpdated(facts)
        | Event::IncidentUpdated(facts) => running("goes on", facts),
        Event::AttackEnded(facts)
        | Event::HandshakesRecovered(facts)
        | Event::IncidentEnded(facts) => ended(facts),
        Event::RuleInstalled { rule, origin, reason, mode, terms } => {
            let counts = match (mode, terms) {
                (tcpguard_engine::Mode::Enforce, _) | (_, Some(_)) => "",
                _ => " (counts only)",
            };
            installed(rule, origin, reason, terms.as_ref(), counts)
        }
        Event::RuleDeclined { target: Some(target), why } => {
            format!("no rule on {}: {}", matched(target), rule_obstacle(why))
        }
        Event::RuleDeclined { target: None, why } => format!("no rule: {}", rule_obstacle(why)),
        Event::RuleAdvised { target, why } => {
            format!("rule advised, not installed ({}): {}", held_back(*why), matched(target))
        }
        Event::RuleRemoved { rules, rule: None, why } => {
            format!("{rules} rules removed: {}", removal_reason(why))
        }
        Event::RuleRemoved { rule: Some(rule), why, .. } => {
            let NamedRule { id, target } = rule;
            format!("rule {} removed ({}): {}", id.0, removal_reason(why), matched(target))
        }
        Event::RuleWithdrawn { rule, why, then } => {
            let then = match then {
                Fallback::Cookies => "SYN cookies take its place".to_owned(),
                Fallback::Nothing => "It matches hardly any other SYN".to_owned(),
                Fallback::Retry { after_s } => format!("Next attempt in {}", seconds(*after_s)),
            };
            let why = removal_reason(why);
            format!("rule {} withdrawn (false positives): {why}. {then}", rule.id.0)
        }
        Event::RuleFailed { rule: None, error, .. } => {
            format!("rules not replaced: {error}. The previous rules stay in effect")
        }
        Event::RuleFailed { rule: Some(rule), error, retry_s } => {
            let then = match retry_s {
                Some(after) => format!("Next attempt in {}", seconds(*after)),
                None => "Retry: tcpguard block PREFIX".to_owned(),
            };
            format!("rule {} not installed: {error}. {then}", rule.id.0)
        }
        Event::RulesImported { uid, added, kept, removed, total, pending, confirm_s } => {
            let confirm = confirm_s.map_or_else(String::new, |within| {
                let within = seconds(within);
                format!(". {pending} expire in {within} unless confirmed: sudo tcpguard confirm")
            });
            format!(
                "rules imported by {}: {added} added, {kept} kept, {removed} removed, {total} in \
                 all{confirm}",
                User(*uid)
            )
        }
        Event::RuleConfirmed { uid, rules, rule: None, .. } => {
            format!("{rules} rules confirmed by {}", User(*uid))
        }
        Event::RuleConfirmed { uid, rule: Some(rule), left_s, .. } => {
            let left =
                left_s.map_or_else(String::new, |left| format!(", expires in {}", seconds(left)));
            let NamedRule { id, target } = rule;
            format!("rule {} confirmed by {}: {}{left}", id.0, User(*uid), matched(target))
        }
        Event::RuleReverted { rule, restored } => {
            let restored = match restored {
                None => String::new(),
                Some(Restored { target, rule: Some(id) }) => {
                    format!(". Rule {} on {} is restored", id.0, matched(target))
                }
                Some(Restored { target, rule: None }) => {
                    format!(". {} is not restored, all rule slots are taken", matched(target))
                }
            };
            format!(
                "rule {} reverted, not confirmed in time: {}{restored}. Retry: tcpguard block PREFIX \
                 --force",
                rule.id.0,
                matched(&rule.target)
            )
        }
        Event::MitigationStarted { listener, with_others, mitigation, rate, why } => {
            let rate = rate.map_or_else(String::new, |rate| format!(" ({rate} SYN/s)"));
            format!(
                "{}{rate} started on {}: {}",
                mitigation_noun(*mitigation),
                place(*listener, *with_others),
                mitigation_reason(why)
            )
        }
        Event::MitigationStopped { listener, with_others, mitigation, why } => format!(
            "{} stopped on {}: {}",
            mitigation_noun(*mitigation),
            place(*listener, *with_others),
            mitigation_reason(why)
        ),
        Event::MitigationWithdrawn { listener, mitigation, family, addresses, harm, retry_s } => {
            let noun = mitigation_noun(*mitigation);
            let whose = withheld_from(*family, None);
            let at = match addresses.as_slice() {
                [] => listener.to_string(),
                [addr] => SocketAddr::new(*addr, listener.port).to_string(),
                [addr, others @ ..] => {
                    let first = SocketAddr::new(*addr, listener.port);
                    format!("{first} and {} others", others.len())
                }
            };
            let then = match retry_s {
                Some(after) => format!("Next attempt in {}", seconds(*after)),
                None => "No retry. See: tcpguard doctor".to_owned(),
            };
            format!("{noun}{whose} withdrawn on {at}: {}. {then}", self::harm(harm))
        }
        Event::MitigationFailed { listener, mitigation, error, remedy, retry_s } => {
            let then =
                retry_s.map_or_else(|| "soon".to_owned(), |after| format!("in {}", seconds(after)));
            let noun = mitigation_noun(*mitigation);
            let why = with_remedy(error, remedy.as_deref());
            format!("{noun} not started on {listener} (next attempt {then}): {why}")
        }
        Event::MitigationAdvised { mitigation, why } => format!(
            "{} advised, not started outside enforce mode: {}",
            mitigation_noun(*mitigation),
            mitigation_reason(why)
        ),
        Event::MitigationOrdered { listener, mitigation, order, uid, lifetime_s } => {
            let lifetime = seconds(*lifetime_s);
            let did = match order {
                Order::On => format!("ordered for {lifetime}"),
                Order::Off => format!("forbidden for {lifetime}"),
                Order::Auto => "left to the agent".to_owned(),
            };
            format!("{} on {listener}: {did} by {}", mitigation_noun(*mitigation), User(*uid))
        }
        Event::ListenerOverloaded { listener, accept_queue, accept_limit } => {
            let queue = accept_queue.zip(*accept_limit);
            let queue = queue.map_or_else(String::new, |(of, limit)| format!(" ({of} of {limit})"));
            format!(
                "Accept queue of {listener} full{queue}: the application is too slow, and new clients are lost"
            )
        }
        Event::AllowAdded { net, uid, fleet, lifetime_s, reason } => {
            let lifetime = seconds(*lifetime_s);
            let by = fleet.as_ref().map_or_else(|| User(*uid).to_string(), ToString::to_string);
            format!("allowlist: {net} added by {by} for {lifetime}: {reason}")
        }
        Event::AllowRemoved { net, uid: Some(uid), .. } => {
            format!("allowlist: {net} removed by {}", User(*uid))
        }
        Event::AllowRemoved { net, uid: None, fleet: Some(name) } => {
            format!("allowlist: {net} no longer allowed by {name}")
        }
        Event::AllowRemoved { net, uid: None, fleet: None } => format!("allowlist: {net} expired"),
        Event::ModeChanged { uid, from, to } => {
            let by = uid.map_or_else(String::new, |uid| format!(" by {}", User(uid)));
            format!("mode changed from {} to {}{by}", from.name(), to.name())
        }
        Event::ClassChanged { class } => format!("class changed: {}", incident::class(*class)),
        Event::ListenerJoined { listener, class } => on(*class, &listener.to_string()),
        Event::ListenersCounted { listeners } => format!("{listeners} listeners in all"),
        Event::ListenerExempted { listener } => {
            format!("{listener} exempt from the rules for every listener: its clients match them")
        }
        Event::ScannerFound { source, port: Some(port), .. } => {
            format!("{source} tries port {port} at many addresses")
        }
        Event::ScannerFound { source, many_addresses: true, .. } => {
            format!("{source} tries many ports at many addresses")
        }
        Event::ScannerFound { source, .. } => format!("{source} tries many closed ports"),
        Event::BaselineRaised { share } => {
            format!("baseline raised: up to {} failed handshakes", percent(*share))
        }
        Event::ClosedPortsLimited { per_second, enforced } => {
            let rest = if *enforced { "are dropped" } else { "would be dropped in enforce mode" };
            format!(
                "SYNs to closed ports limited: {per_second}/s pass, besides those of clients and one \
                 per port and minute. Others {rest}"
            )
        }
        Event::UnreadableDropped { enforced: true } => "unreadable frames are dropped".to_owned(),
        Event::UnreadableDropped { enforced: false } => {
            "unreadable frames would be dropped in enforce mode".to_owned()
        }
        Event::AgentRestarted => "agent restarted".to_owned(),
        Event::AgentEnded => {
            "agent ended while this was open. Its continuation has another number".to_owned()
        }
    }
}

fn installed(
    rule: &NamedRule,
    origin: &Origin,
    reason: &RuleReason,
    terms: Option<&RuleTerms>,
    counts: &str,
) -> String {
    let NamedRule { id, target } = rule;
    let by = match origin {
        Origin::Incident(number) => format!("for attack #{number}"),
        Origin::Operator { uid } => format!("by {}", User(*uid)),
        Origin::Fleet(name) => format!("by {name}"),
    };
    let lasts = match terms {
        None => String::new(),
        Some(RuleTerms { lifetime_s, confirm_s: None, .. }) => {
            format!(" for {}", seconds(*lifetime_s))
        }
        Some(RuleTerms { lifetime_s, confirm_s: Some(within), .. }) => {
            format!(" for {} if confirmed in {}", seconds(*lifetime_s), seconds(*within))
        }
    };
    let replaces = terms.and_then(|terms| terms.replaces);
    let replaces = replaces.map_or_else(String::new, |id| format!(", replaces rule {}", id.0));
    let (target, reason) = (matched(target), rule_reason(reason));
    let head = format!("rule {} installed {by}{counts}", id.0);
    match origin {
        Origin::Incident(_) => fitted(&head, &[target, reason], ""),
        Origin::Operator { .. } | Origin::Fleet(_) => {
            format!("{head}: {target}{lasts}{replaces}: {reason}")
        }
    }
}

/// The SYNs that a rule matches: a prefix with its ports, or a signature.
fn matched(target: &Target) -> String {
    match target {
        Target::Source { net, ports } => format!("{net}{ports}"),
        Target::Signature { signature } => signature.clone(),
    }
}

fn place(listener: Listener, with_others: bool) -> String {
    let others = if with_others { " and others" } else { "" };
    format!("{listener}{others}")
}
