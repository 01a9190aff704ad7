//! Lifetimes of rules and mitigations, and the thresholds of their withdrawal.

use super::super::threshold::Field;
use super::super::{Threshold, Unit};

pub(super) const THRESHOLDS: [Threshold; 9] = [
    Threshold {
        name: "rule_ttl",
        key: None,
        unit: Unit::Seconds,
        least: 5.0,
        most: 86_400.0,
        doc: "Lifetime of a rule that hits nothing; also of the first one against a source.",
        source: "Weighed against the pauses of pulsed floods (clear_s, twice), and against blocking \
                 who has stopped.",
        field: |settings| Field::Span(&mut settings.rule_ttl),
    },
    Threshold {
        name: "rule_ttl_max",
        key: Some("policy.rule_ttl_max_s"),
        unit: Unit::Seconds,
        least: 60.0,
        most: 86_400.0,
        doc: "Longest lifetime without hits, reached by doubling whenever a source is back. At most \
              24 h: no rule lives for ever. Lower it where clients share or change addresses \
              (CGNAT).",
        source: "Doubled like fail2ban's bantime.increment, but with a limit: an address changes \
                 hands sooner or later.",
        field: |settings| Field::Span(&mut settings.rule_ttl_max),
    },
    Threshold {
        name: "rule_hit_rate",
        key: None,
        unit: Unit::PerSecond,
        least: 0.01,
        most: 10_000.0,
        doc: "Hits per second that keep a rule alive.",
        source: "Weighed against the single SYNs that the Internet sends to every address, and \
                 against floods of a few SYNs a second that rules still hold off.",
        field: |settings| Field::F64(&mut settings.rule_hit_rate),
    },
    Threshold {
        name: "completed_share",
        key: None,
        unit: Unit::Share,
        least: 0.0001,
        most: 0.2,
        doc: "Signature rules: handshakes that new clients complete after a retransmission, as a share of \
              the SYNs that match, from which a rule is withdrawn if cookies can answer instead.",
        source: "Weighed against 2 clients a second under a rule that drops 5,000 SYN/s (0.04 %), which \
                 connect at their second SYN, and against 100 (2 %), for which it is withdrawn.",
        field: |settings| Field::F64(&mut settings.completed_share),
    },
    Threshold {
        name: "completed_min",
        key: None,
        unit: Unit::Count,
        least: 1.0,
        most: 10_000.0,
        doc: "Completed handshakes below which that share says nothing.",
        source: "Weighed against an attacker with a few addresses of his own, each of which counts once, \
                 and against how many clients may wait a second for their second SYN.",
        field: |settings| Field::U64(&mut settings.completed_min),
    },
    Threshold {
        name: "completed_window",
        key: None,
        unit: Unit::Seconds,
        least: 3.0,
        most: 30.0,
        doc: "The shorter of the two spans over which they are judged; the other is the rule's \
              whole life.",
        source: "Weighed against rules that were right for an hour before they began to hit clients: \
                 their whole life would hide it.",
        field: |settings| Field::Span(&mut settings.completed_window),
    },
    Threshold {
        name: "mitigation_retry",
        key: None,
        unit: Unit::Seconds,
        least: 3.0,
        most: 3_600.0,
        doc: "Time after which a step that failed or did harm is tried again, doubled each time, \
              at most 16 times as long.",
        source: "Weighed against doing the same harm again soon, and against a flood that changes \
                 while the step is off.",
        field: |settings| Field::Span(&mut settings.mitigation_retry),
    },
    Threshold {
        name: "canary",
        key: None,
        unit: Unit::Seconds,
        least: 3.0,
        most: 60.0,
        doc: "Time after which some client must have completed a handshake answered with a cookie, \
              or cookies are withdrawn.",
        source: "Weighed against distant clients that must retransmit a lost SYN (RFC 6298: after 1 s), \
                 and against how long clients fail to connect if cookies do not work.",
        field: |settings| Field::Span(&mut settings.canary),
    },
    Threshold {
        name: "saturation_hold",
        key: None,
        unit: Unit::Seconds,
        least: 3.0,
        most: 3_600.0,
        doc: "Time below saturation_off after which everything is answered again.",
        source: "Weighed against the pauses of pulsed floods (2.75 s in a public capture), and against clients \
                 whose first SYN is dropped for as long after a flood.",
        field: |settings| Field::Span(&mut settings.saturation_hold),
    },
];
