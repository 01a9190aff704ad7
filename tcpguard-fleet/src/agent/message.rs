//! Hints and rules as messages to the agent.

use tcpguard_engine::{FleetAction, FleetMessage, FleetName, FleetRule, SharedSignature};

use crate::share::Hint;
use crate::trust::{ActiveRule, RuleName};

/// Longest lifetime of a hint at the agent, in s.
const LONGEST_HINT: u128 = 60;

/// The message with a hint.
pub fn hint(hint: &Hint) -> FleetMessage {
    let seconds = hint.ttl.as_millis().div_ceil(1000).clamp(1, LONGEST_HINT);
    FleetMessage::Hint(tcpguard_engine::Hint {
        port: hint.port,
        signature: hint.signature.clone(),
        reporters: hint.reporters,
        ttl_s: u16::try_from(seconds).unwrap_or(u16::MAX),
    })
}

/// The message that ends a hint.
pub const fn end_of_hint(port: u16, signature: SharedSignature) -> FleetMessage {
    FleetMessage::Hint(tcpguard_engine::Hint { port, signature, reporters: 0, ttl_s: 0 })
}

/// The message with an operator's rule.
pub fn rule(rule: &ActiveRule) -> FleetMessage {
    FleetMessage::Rule(FleetRule {
        name: name(&rule.name),
        action: if rule.allows { FleetAction::Allow } else { FleetAction::Block },
        net: rule.prefix,
        ports: rule.ports,
        lifetime_s: rule.remaining.as_secs().max(1),
        reason: reason(rule),
    })
}

/// The message that ends an operator's rule.
pub fn end_of_rule(ended: &RuleName) -> FleetMessage {
    FleetMessage::RuleGone(name(ended))
}

fn name(name: &RuleName) -> FleetName {
    FleetName { role: name.role.to_string(), serial: name.serial }
}

/// The reason with the operator's name, as far as both fit.
fn reason(rule: &ActiveRule) -> String {
    let ActiveRule { reason, who, .. } = rule;
    let text = match (reason.is_empty(), who.is_empty()) {
        (_, true) => reason.clone(),
        (true, false) => who.clone(),
        (false, false) => format!("{reason} ({who})"),
    };
    if text.len() <= FleetRule::LONGEST_REASON { text } else { reason.clone() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tcpguard_engine::{IncidentClass, Ports};

    use super::*;
    use crate::document::tests::evidence;
    use crate::document::{Id, RuleKey};

    fn active() -> ActiveRule {
        let role = || "ops".parse().expect("a role");
        ActiveRule {
            name: RuleName { role: role(), serial: 42 },
            key: RuleKey { role: role(), target: Id::of("test", b"") },
            allows: false,
            prefix: "203.0.113.0/24".parse().expect("a prefix"),
            ports: Ports::new(&[443]).expect("a port"),
            remaining: Duration::from_millis(600_400),
            reason: "abuse".to_owned(),
            who: "ada".to_owned(),
        }
    }

    #[test]
    fn a_rule_names_its_role_its_reason_and_its_operator() {
        let FleetMessage::Rule(rule) = rule(&active()) else { panic!("a rule") };
        assert!(rule.is_valid());
        assert_eq!(rule.name.to_string(), "fleet:ops/42");
        assert_eq!((rule.lifetime_s, rule.reason.as_str()), (600, "abuse (ada)"));
        let long = ActiveRule { reason: "r".repeat(256), ..active() };
        assert_eq!(reason(&long), "r".repeat(256));
        assert_eq!(reason(&ActiveRule { reason: String::new(), ..active() }), "ada");
        let last = ActiveRule { remaining: Duration::from_millis(3), ..active() };
        let FleetMessage::Rule(last) = super::rule(&last) else { panic!("a rule") };
        assert_eq!(last.lifetime_s, 1, "a rule without a lifetime is none");
    }

    #[test]
    fn a_hint_lives_for_a_minute_at_most_and_ends_by_a_lifetime_of_zero() {
        let shared = Hint {
            port: 443,
            id: evidence(443, 512).id,
            signature: evidence(443, 512).signature,
            class: IncidentClass::RandomSpoofed,
            reporters: 2,
            confidence: 0.9,
            ttl: Duration::from_millis(59_001),
        };
        let ttl = |ttl| {
            let FleetMessage::Hint(hint) = hint(&Hint { ttl, ..shared.clone() }) else {
                panic!("a hint")
            };
            hint.ttl_s
        };
        assert_eq!(ttl(shared.ttl), 60);
        assert_eq!(ttl(Duration::from_secs(600)), 60);
        assert_eq!(ttl(Duration::ZERO), 1);
        let FleetMessage::Hint(end) = end_of_hint(443, shared.signature.clone()) else {
            panic!("a hint")
        };
        assert_eq!((end.ttl_s, end.signature), (0, shared.signature));
    }
}
