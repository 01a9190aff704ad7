//! Thresholds from which failing handshakes are an attack and rules may be made.

use super::super::threshold::Field;
use super::super::{Threshold, Unit};

pub(super) const THRESHOLDS: [Threshold; 24] = [
    Threshold {
        name: "evidence_window",
        key: None,
        unit: Unit::Seconds,
        least: 4.0,
        most: 63.0,
        doc: "How far back failing handshakes are looked at.",
        source: "Weighed against enough of them at 10 SYN/s (80), and against mixing the flood with \
                 what came before it. 63 s is how long the kernel keeps a half-open handshake \
                 (tcp_synack_retries = 5).",
        field: |settings| Field::Span(&mut settings.evidence_window),
    },
    Threshold {
        name: "evidence_flows",
        key: None,
        unit: Unit::Count,
        least: 8.0,
        most: 1_024.0,
        doc: "Failing handshakes looked at below which no verdict is made, while there is time. \
              Half as many must speak for a slow alarm.",
        source: "At 32 the standard error of a share of one half is 9 %; weighed against floods of \
                 300 SYN/s, which have as many within a poll.",
        field: |settings| Field::Usize(&mut settings.evidence_flows),
    },
    Threshold {
        name: "evidence_patience",
        key: None,
        unit: Unit::Milliseconds,
        least: 1_000.0,
        most: 10_000.0,
        doc: "Time after the alarm by which an incident is told with whatever is known.",
        source: "Weighed against telling late: a flood of 32 SYN/s has shown enough by then.",
        field: |settings| Field::Span(&mut settings.evidence_patience),
    },
    Threshold {
        name: "single_source_share",
        key: None,
        unit: Unit::Share,
        least: 0.3,
        most: 1.0,
        doc: "Share of the failing handshakes from which their source is the attack.",
        source: "Weighed against offices behind one address, and against a single attacker among \
                 other failures: at 100 SYN/s beside 2,000 clients of which 1.5 % fail, 77 % are his.",
        field: |settings| Field::F64(&mut settings.single_source_share),
    },
    Threshold {
        name: "singleton_share",
        key: None,
        unit: Unit::Share,
        least: 0.5,
        most: 1.0,
        doc: "Share of the failing handshakes from sources seen once, from which sources are drawn \
              at random.",
        source: "Of a draw of 1,024 this many are seen once if there are some 10,000 addresses or \
                 more. Weighed against botnets of 3,000.",
        field: |settings| Field::F64(&mut settings.singleton_share),
    },
    Threshold {
        name: "distinct_min",
        key: None,
        unit: Unit::Count,
        least: 16.0,
        most: 1_024.0,
        doc: "Handshakes, or sources, below which shares of sources mean nothing.",
        source: "At 48 the standard error of a share of 90 % is 4 %; weighed against telling within a \
                 second at 100 SYN/s.",
        field: |settings| Field::Usize(&mut settings.distinct_min),
    },
    Threshold {
        name: "fingerprint_share",
        key: None,
        unit: Unit::Share,
        least: 0.1,
        most: 1.0,
        doc: "Share of the failing handshakes that one signature must cover to be a tool's.",
        source: "More than half, so that there is one such tool at most. Weighed against floods of \
                 two tools.",
        field: |settings| Field::F64(&mut settings.fingerprint_share),
    },
    Threshold {
        name: "fingerprint_completion",
        key: None,
        unit: Unit::Share,
        least: 0.0,
        most: 0.5,
        doc: "Share of the handshakes with that signature that may complete.",
        source: "Weighed against tools that share a signature with a few clients; a rule asks for \
                 none at all.",
        field: |settings| Field::F64(&mut settings.fingerprint_completion),
    },
    Threshold {
        name: "ttl_share",
        key: None,
        unit: Unit::Share,
        least: 0.3,
        most: 1.0,
        doc: "Share of the two most frequent TTLs from which the senders are one machine or two.",
        source: "Public captures: two floods had two TTLs each; 239 hosts that answered one of them \
                 showed 48, the two most frequent 21 %.",
        field: |settings| Field::F64(&mut settings.ttl_share),
    },
    Threshold {
        name: "ttl_impossible_share",
        key: None,
        unit: Unit::Share,
        least: 0.05,
        most: 1.0,
        doc: "Share of TTLs that no real host's packets arrive with, from which they are forged.",
        source: "Drawn TTLs are impossible in about half of all cases, those of real hosts never \
                 (hop-count filtering: Jin, Wang, Shin, CCS 2003).",
        field: |settings| Field::F64(&mut settings.ttl_impossible_share),
    },
    Threshold {
        name: "few_networks",
        key: None,
        unit: Unit::Count,
        least: 1.0,
        most: 64.0,
        doc: "Networks (/24, IPv6 /48) with 90 % of the failing handshakes that count as few.",
        source: "Weighed against floods from one /24 or three, and against clients, who stand in as \
                 many networks as they are.",
        field: |settings| Field::U64(&mut settings.few_networks),
    },
    Threshold {
        name: "few_sources",
        key: None,
        unit: Unit::Count,
        least: 1.0,
        most: 1_024.0,
        doc: "Sources with 90 % of the failing handshakes that count as few, when each sends two \
              or more.",
        source: "As many as an incident may have rules against sources; weighed against a flood from \
                 20 sources.",
        field: |settings| Field::U64(&mut settings.few_sources),
    },
    Threshold {
        name: "retransmit_share",
        key: None,
        unit: Unit::Share,
        least: 0.05,
        most: 0.9,
        doc: "Share of the failing handshakes that were tried again, up to which nobody real is \
              behind them.",
        source: "Weighed against clients whose path is broken, nearly all of whom try again, and \
                 against those that give up in the middle of a flood.",
        field: |settings| Field::F64(&mut settings.retransmit_share),
    },
    Threshold {
        name: "retransmit_age",
        key: None,
        unit: Unit::Milliseconds,
        least: 1_100.0,
        most: 10_000.0,
        doc: "Age at which a real client has tried again.",
        source: "RFC 6298 §2.1: 1 s; and half a second for slack and the way here.",
        field: |settings| Field::Span(&mut settings.retransmit_age),
    },
    Threshold {
        name: "silent_share",
        key: None,
        unit: Unit::Share,
        least: 0.3,
        most: 1.0,
        doc: "Share of all handshakes that fail from which a broken path does not explain it, when \
              next to nobody tries again.",
        source: "As fast_ratio. Weighed against swarms of peers, a third of which are gone before the \
                 answer comes.",
        field: |settings| Field::F64(&mut settings.silent_share),
    },
    Threshold {
        name: "silent_retransmitted",
        key: None,
        unit: Unit::Share,
        least: 0.0,
        most: 0.5,
        doc: "Share of the failing handshakes tried again, up to which that is next to nobody.",
        source: "Weighed against clients whose path is broken, nearly all of whom try again.",
        field: |settings| Field::F64(&mut settings.silent_retransmitted),
    },
    Threshold {
        name: "surge_factor",
        key: None,
        unit: Unit::Number,
        least: 10.0,
        most: 1_000_000.0,
        doc: "How many times the usual SYN rate has to fail to be more than clients could begin. It \
              tells a flood that looks like the clients before it is known that nobody tries again.",
        source: "Clients whose path breaks fail at two or three times their rate in the first seconds \
                 (RFC 6298 §5.5); weighed against rushes of 20 times the clients.",
        field: |settings| Field::F64(&mut settings.surge_factor),
    },
    Threshold {
        name: "surge_floor",
        key: None,
        unit: Unit::PerSecond,
        least: 100.0,
        most: 10_000_000.0,
        doc: "Failing handshakes per second below which they may be clients, however few are usual.",
        source: "Weighed against all players of a game who come back at once to a listener that is \
                 usually idle.",
        field: |settings| Field::F64(&mut settings.surge_floor),
    },
    Threshold {
        name: "scattered_share",
        key: None,
        unit: Unit::Share,
        least: 0.05,
        most: 1.0,
        doc: "Share of all handshakes that fail from which SYNs that look like the clients', once \
              each and from everywhere, are forged.",
        source: "Weighed against swarms of peers, some of which are gone before the answer comes, and \
                 against floods that copy the clients at a third of their rate.",
        field: |settings| Field::F64(&mut settings.scattered_share),
    },
    Threshold {
        name: "novel_share",
        key: None,
        unit: Unit::Share,
        least: 0.5,
        most: 1.0,
        doc: "Share of the failing networks (/24, IPv6 /48) from which nobody has come before, from \
              which that speaks for forging; and share of known ones, from which it speaks against.",
        source: "All of a draw are new: a host's 50,000 networks are one in 300. The rest is room for \
                 clients that fail beside them.",
        field: |settings| Field::F64(&mut settings.novel_share),
    },
    Threshold {
        name: "novel_seen",
        key: None,
        unit: Unit::Share,
        least: 0.5,
        most: 1.0,
        doc: "Share of the completing networks that must be known for others to be new.",
        source: "Weighed against rushes of new clients, of whom some always fail, and against a guard \
                 that has just begun to learn.",
        field: |settings| Field::F64(&mut settings.novel_seen),
    },
    Threshold {
        name: "novel_completions",
        key: None,
        unit: Unit::Count,
        least: 100.0,
        most: 1_000_000.0,
        doc: "Completed handshakes from which it is known who is new; a day of fewer does as well.",
        source: "With fewer, of 1,000 networks of clients most have not been seen.",
        field: |settings| Field::U64(&mut settings.novel_completions),
    },
    Threshold {
        name: "indicators_attack",
        key: None,
        unit: Unit::Count,
        least: 1.0,
        most: 6.0,
        doc: "Signs of forging from which failing handshakes are an attack.",
        source: "Two: each sign alone has an innocent cause (an office is few sources, a broken path \
                 fails, a new phone has a new signature), so one is never enough.",
        field: |settings| Field::U32(&mut settings.indicators_attack),
    },
    Threshold {
        name: "indicators_drop",
        key: None,
        unit: Unit::Count,
        least: 1.0,
        most: 6.0,
        doc: "Signs from which SYNs may be dropped by signature or source; never fewer than \
              attack_indicators.",
        source: "One more than names an attack, so that a mistake about one sign costs nobody a \
                 connection; weighed against offices whose path is broken, which may show two: few \
                 networks, one distance.",
        field: |settings| Field::U32(&mut settings.indicators_drop),
    },
];
