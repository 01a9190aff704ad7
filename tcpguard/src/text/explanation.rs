//! The decisions about the SYNs of a prefix, in words.

use std::fmt::{self, Write};

use tcpguard_engine::Mode;
use tcpguard_host::time::Time;
use tcpguard_host::units::whole;

use super::reason::{clients_within, mitigation_reason, rule_reason};
use super::rules::{allowlist, rules};
use super::view::{View, wrap};
use crate::documents::{DecidedBy, Decision, Explanation, Judged, Outcome, Replies, Why};

/// The decisions about a prefix, in the order in which the kernel takes them.
pub fn explanation(out: &mut impl Write, judged: &Judged, view: &View) -> fmt::Result {
    let about = &judged.about;
    // A single address as it is typed.
    let prefix = match about.prefix.prefix_len() == about.prefix.max_prefix_len() {
        true => about.prefix.addr().to_string(),
        false => about.prefix.to_string(),
    };
    let subject = match about.port {
        Some(port) => format!("{prefix} to port {port}"),
        None => prefix,
    };
    if judged.decisions.is_empty() {
        writeln!(out, "{subject}: no rule or mitigation applies, its SYNs pass")?;
    } else {
        writeln!(out, "{subject}: decisions about its SYNs, in order")?;
    }
    for (number, decision) in (1..).zip(&judged.decisions) {
        let text = decision_line(about, decision, |time| view.moment(time));
        for (line, text) in wrap(&text, view.width.saturating_sub(5)).iter().enumerate() {
            match line {
                0 => writeln!(out, "{number:3}. {text}")?,
                _ => writeln!(out, "     {text}")?,
            }
        }
    }
    if let Some(last) = judged.decisions.last().filter(|decision| !decision.last) {
        let rest = match last.by {
            DecidedBy::Cookies => {
                "beyond the replies to its network, SYNs get the SYN rate limit, or are dropped"
            }
            _ => "the remaining SYNs pass",
        };
        writeln!(out, "     {rest}")?;
    }
    match (about.port, about.listeners.as_slice()) {
        (None, _) => {}
        (Some(port), []) => writeln!(out, "no monitored listener on port {port}")?,
        (Some(_), listeners) if about.closed.is_empty() => {
            writeln!(out, "received by {}", listeners.join(", "))?
        }
        _ => writeln!(out, "no socket listens on {}: SYNs are refused", about.closed.join(", "))?,
    }
    if let Some(Replies { network, left, most }) = &about.replies {
        writeln!(out, "{left} of {most} replies left for {network}")?;
    }
    if let Some(part) = &about.exempt_part {
        writeln!(out, "a part of it is exempt from automatic rules: {part}")?;
    }
    let of_network = if about.prefix.addr().is_ipv6() { "its /64: " } else { "" };
    if let Some(completed) = about.completed_at {
        writeln!(out, "{of_network}last completed handshake at {}", view.moment(completed))?;
    }
    if about.source.is_none() && about.clients.validated > 0 {
        writeln!(out, "contains {}", clients_within(about.clients))?;
    }
    if let Some(source) = &about.source {
        writeln!(
            out,
            "{of_network}received {} SYNs, {} ACKs, {} resets, sent {} SYN-ACKs, {} handshakes completed",
            whole(source.syn),
            whole(source.ack),
            whole(source.rst),
            whole(source.syn_ack),
            whole(source.completed),
        )?;
    }
    if !about.rules.is_empty() {
        rules(out, &about.rules, view)?;
    }
    if !about.allowed.is_empty() {
        allowlist(out, &about.allowed, view)?;
    }
    Ok(())
}

/// A decision in one line, with times as `time` writes them.
fn decision_line(
    about: &Explanation,
    decision: &Decision,
    time: impl Fn(Time) -> String,
) -> String {
    let why = match &decision.why {
        Why::Off => "mode off".to_owned(),
        Why::Rule { reason } => rule_reason(reason),
        Why::Exempt { what } => what.clone(),
        Why::Completed if about.prefix.addr().is_ipv6() => {
            "its /64 completed a handshake".to_owned()
        }
        Why::Completed => "it completed a handshake".to_owned(),
        Why::Mitigation { reason } => mitigation_reason(reason),
    };
    let mut text = format!("{}: {why}", outcome(about, decision));
    if let Some(since) = decision.since {
        text.push_str(&format!(", since {}", time(since)));
    }
    if let Some(until) = decision.until {
        text.push_str(&format!(", until {}", time(until)));
    }
    match (decision.until, decision.renewed) {
        (_, false) => {}
        (Some(_), true) => text.push_str(", longer while it hits"),
        (None, true) => text.push_str(", until it is no longer needed"),
    }
    if let Some(until) = decision.confirmed_until {
        let until = time(until);
        text.push_str(&format!(", or {until} if confirmed: tcpguard confirm"));
    }
    text
}

/// The outcome of a decision, with its rule or listener.
fn outcome(about: &Explanation, decision: &Decision) -> String {
    let rule = decision
        .rule
        .and_then(|id| about.rules.iter().chain(&about.signatures).find(|rule| rule.id.0 == id));
    let drops = match about.mode {
        Mode::Enforce => "drops",
        _ => "would, in enforce mode, drop",
    };
    let subject = match (rule, &decision.listener) {
        (Some(rule), _) => match rule.incident {
            Some(incident) => format!("rule {} (attack #{incident}) ", rule.id),
            None => format!("rule {} ({}) ", rule.id, rule.origin),
        },
        (None, Some(listener)) => format!("{listener}: "),
        (None, None) => String::new(),
    };
    let matched = rule.map_or_else(String::new, |rule| rule.subject());
    let predicate = match decision.outcome {
        Outcome::Pass => "its SYNs pass".to_owned(),
        Outcome::Drop => format!("{drops} its SYNs ({matched})"),
        Outcome::DropSignature => {
            format!("{drops} SYNs with the signature {matched}, unless retransmitted by a client")
        }
        Outcome::NoSourceRule => "no source rule drops its SYNs".to_owned(),
        Outcome::PassUpTo { per_second } => {
            format!(
                "up to {} of its SYNs per second pass automatic rules, besides those that complete",
                whole(per_second)
            )
        }
        Outcome::Cookies => "SYNs are answered with SYN cookies".to_owned(),
        Outcome::RateLimit => "SYNs pass up to the SYN rate limit".to_owned(),
        Outcome::Unlimited => "its SYNs do not count for the SYN rate limit".to_owned(),
    };
    subject + &predicate
}

#[cfg(test)]
mod tests {
    use tcpguard_engine::{
        ClientsWithin, Mitigation, MitigationReason, Ports, RuleId, RuleOrigin, RuleReason,
    };

    use super::*;
    use crate::documents::{DecidedBy, Rule};

    fn time(text: &str) -> Time {
        Time(format!("2026-11-20T{text}Z").parse().unwrap())
    }

    fn about() -> Explanation {
        let rule = Rule {
            id: RuleId(7),
            kind: Mitigation::Source,
            matches: "203.0.113.0/24".to_owned(),
            ports: Ports::new(&[443]).unwrap(),
            origin: RuleOrigin::Incident,
            incident: Some(3),
            reason: RuleReason::Source { share: 0.9 },
            created_at: time("14:05:31"),
            expires_at: time("14:06:31"),
            expires_in_s: 60,
            confirmed_until: None,
            hits: 0,
            accepted_retransmits: 0,
            completed: 0,
        };
        let other = Rule {
            id: RuleId(8),
            kind: Mitigation::Signature,
            matches: "opts=none".to_owned(),
            ports: Ports::EVERY,
            origin: RuleOrigin::Operator,
            incident: None,
            ..rule.clone()
        };
        Explanation {
            prefix: "203.0.113.7/32".parse().unwrap(),
            port: None,
            listeners: Vec::new(),
            closed: Vec::new(),
            mode: Mode::Enforce,
            rules: vec![rule],
            forced: Vec::new(),
            signatures: vec![other],
            allowed: Vec::new(),
            exempt: None,
            exempt_part: None,
            completed_at: None,
            source: None,
            clients: ClientsWithin::default(),
            mitigations: Vec::new(),
            replies: None,
        }
    }

    fn decision(outcome: Outcome) -> Decision {
        Decision {
            by: DecidedBy::Budget,
            rule: None,
            listener: Some("[::]:443".to_owned()),
            outcome,
            why: Why::Mitigation { reason: MitigationReason::QueueFull },
            since: Some(time("03:04:06")),
            until: None,
            renewed: true,
            confirmed_until: None,
            last: false,
        }
    }

    #[test]
    fn a_decision_states_its_reason_start_and_end() {
        let line = |decision: &Decision| {
            decision_line(&about(), decision, |time| time.0.strftime("%H:%M:%S").to_string())
        };
        let decision = decision(Outcome::RateLimit);
        assert_eq!(
            line(&decision),
            "[::]:443: SYNs pass up to the SYN rate limit: SYN queue full, since 03:04:06, until it \
             is no longer needed"
        );
        let until = Some(time("05:00:00"));
        let ordered = Decision { until, renewed: false, ..decision };
        assert!(line(&ordered).ends_with("since 03:04:06, until 05:00:00"));
    }

    #[test]
    fn an_outcome_names_its_rule_or_its_listener() {
        let mut about = about();
        let by = |rule, outcome| Decision { rule: Some(rule), listener: None, ..decision(outcome) };
        let source = by(7, Outcome::Drop);
        assert_eq!(
            outcome(&about, &source),
            "rule 7 (attack #3) drops its SYNs (203.0.113.0/24 to port 443)"
        );
        about.mode = Mode::Observe;
        assert_eq!(
            outcome(&about, &by(8, Outcome::DropSignature)),
            "rule 8 (operator) would, in enforce mode, drop SYNs with the signature opts=none, unless \
             retransmitted by a client"
        );
        let client = Decision { listener: None, ..decision(Outcome::PassUpTo { per_second: 20 }) };
        assert_eq!(
            outcome(&about, &client),
            "up to 20 of its SYNs per second pass automatic rules, besides those that complete"
        );
    }
}
