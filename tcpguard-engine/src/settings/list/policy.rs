//! Thresholds of the rules and of the other measures against a flood.

use tcpguard_common::abi::maps;

use super::super::threshold::Field;
use super::super::{Threshold, Unit};

pub(super) const THRESHOLDS: [Threshold; 17] = [
    Threshold {
        name: "source_flows",
        key: None,
        unit: Unit::Count,
        least: 2.0,
        most: 10_000.0,
        doc: "Failing handshakes of a source or network from which a rule against it is \
              considered.",
        source: "Weighed against what a flood forges in one name by chance, which the queue holds, \
                 and against 20 sources at 300 SYN/s, of which each sends about as many in a second.",
        field: |settings| Field::U64(&mut settings.source_flows),
    },
    Threshold {
        name: "network_sources",
        key: None,
        unit: Unit::Count,
        least: 2.0,
        most: 256.0,
        doc: "Failing sources in a /24 (IPv6: /48) from which the network is blocked rather than \
              each of them.",
        source: "Weighed against neighbours who would be blocked too, and against the number of \
                 rules; a network with a client in it is not blocked as a whole.",
        field: |settings| Field::Usize(&mut settings.network_sources),
    },
    Threshold {
        name: "signature_coverage",
        key: None,
        unit: Unit::Share,
        least: 0.1,
        most: 1.0,
        doc: "Share of the failing handshakes that a signature must cover to be dropped.",
        source: "As fingerprint_share. Weighed against floods of two tools: the second rule is judged \
                 by what the first leaves.",
        field: |settings| Field::F64(&mut settings.signature_coverage),
    },
    Threshold {
        name: "signature_tolerance",
        key: None,
        unit: Unit::Share,
        least: 0.0,
        most: 0.1,
        doc: "Coverage that a more specific signature may lose against the best one.",
        source: "Weighed against rules wider than they need be, which hit more clients, and against \
                 the usual failures among a flood's, 2 %.",
        field: |settings| Field::F64(&mut settings.signature_tolerance),
    },
    Threshold {
        name: "clients_known",
        key: None,
        unit: Unit::Count,
        least: 10.0,
        most: 100_000.0,
        doc: "Completed handshakes on record from which it is knowledge that no client looks like \
              a signature.",
        source: "If one client in a hundred looked so, 200 would all miss it with 13 %; one in \
                 twenty, with 0.004 %. Weighed against listeners that few use. A client whose SYN is \
                 dropped retransmits it and connects.",
        field: |settings| Field::U64(&mut settings.clients_known),
    },
    Threshold {
        name: "replied_unfinished",
        key: None,
        unit: Unit::Count,
        least: 50.0,
        most: 1_000_000.0,
        doc: "Answered SYNs of a signature that led to nothing, which say the same where clients \
              are not known.",
        source: "Five times clients_known, since lost clients leave them too. Weighed against \
                 dropping within six seconds at 300 SYN/s.",
        field: |settings| Field::U64(&mut settings.replied_unfinished),
    },
    Threshold {
        name: "residual_flows",
        key: None,
        unit: Unit::Count,
        least: 8.0,
        most: 8_192.0,
        doc: "Failing handshakes that no rule covers from which the rest is answered with cookies.",
        source: "Weighed against the usual lost clients beside a flood that its rules cover, and \
                 against mixed floods, a part of which looks like the clients.",
        field: |settings| Field::U64(&mut settings.residual_flows),
    },
    Threshold {
        name: "residual_share",
        key: None,
        unit: Unit::Share,
        least: 0.001,
        most: 1.0,
        doc: "Their share of the failing handshakes.",
        source: "As failure_share.",
        field: |settings| Field::F64(&mut settings.residual_share),
    },
    Threshold {
        name: "reply_cost",
        key: None,
        unit: Unit::Nanoseconds,
        least: 50.0,
        most: 100_000.0,
        doc: "CPU time of a SYN that is answered with a cookie, from the driver to the answer on \
              its way. It decides from what rate on not every SYN is answered.",
        source: "Measured between virtual interfaces (cargo xtask bench e2e); a network card's driver \
                 is no dearer.",
        field: |settings| Field::Span(&mut settings.reply_cost),
    },
    Threshold {
        name: "saturation_on",
        key: None,
        unit: Unit::Share,
        least: 0.1,
        most: 1.0,
        doc: "Share of the busiest CPU that answering every SYN would take, from which only \
              validated clients and SYNs that come again are answered.",
        source: "Weighed against what else the CPU must do (the listener's own work), and against \
                 making clients come twice.",
        field: |settings| Field::F64(&mut settings.saturation_on),
    },
    Threshold {
        name: "saturation_off",
        key: None,
        unit: Unit::Share,
        least: 0.01,
        most: 1.0,
        doc: "The share below which every SYN is answered again, which must be smaller.",
        source: "Nearly 2:1, as pf's watermarks.",
        field: |settings| Field::F64(&mut settings.saturation_off),
    },
    Threshold {
        name: "saturation_polls",
        key: None,
        unit: Unit::Count,
        least: 1.0,
        most: 60.0,
        doc: "Polls running for which it must hold.",
        source: "Two, as fast_polls.",
        field: |settings| Field::U32(&mut settings.saturation_polls),
    },
    Threshold {
        name: "budget_fill",
        key: None,
        unit: Unit::Seconds,
        least: 3.0,
        most: 60.0,
        doc: "Where cookies are not to be had: time in which the SYNs let through fill a quarter \
              of the queue at most.",
        source: "How long a clean-up leaves the flood's half-open handshakes in the queue. Without \
                 one Linux ends the oldest of a queue that is more than half full, so that it holds \
                 eight seconds of them, two thirds of its limit (reqsk_timer_handler, \
                 net/ipv4/inet_connection_sock.c).",
        field: |settings| Field::Span(&mut settings.budget_fill),
    },
    Threshold {
        name: "budget_min",
        key: None,
        unit: Unit::Count,
        least: 1.0,
        most: 100_000.0,
        doc: "SYNs per second let through however small the queue is.",
        source: "As many fill a queue of 64 where nothing but time ends them; some clients must \
                 connect.",
        field: |settings| Field::U32(&mut settings.budget_min),
    },
    Threshold {
        name: "ordered_budget",
        key: None,
        unit: Unit::Count,
        least: 1.0,
        most: 10_000_000.0,
        doc: "SYNs per second let through where tcpguard mitigation asks for a limit that the situation \
              does not call for.",
        source: "Weighed against an operator who tries it on a live host: most hosts have fewer \
                 connects.",
        field: |settings| Field::U32(&mut settings.ordered_budget),
    },
    Threshold {
        name: "closed_port_resets",
        key: None,
        unit: Unit::Count,
        least: 1.0,
        most: 1_000_000.0,
        doc: "SYNs per second to closed ports that the host's own stack is left to refuse while there is a \
              flood of them. The others are dropped, so that the flood does not take its time.",
        source: "FreeBSD's net.inet.icmp.icmplim, which limits a host's resets, is 200. Weighed against \
                 whoever tries a closed port meanwhile and is to be refused rather than to wait.",
        field: |settings| Field::U32(&mut settings.closed_port_resets),
    },
    Threshold {
        name: "rules",
        key: Some("policy.rules"),
        unit: Unit::Count,
        least: maps::MIN_RULES as f64,
        most: maps::MAX_RULES as f64,
        doc: "Room for rules of all kinds; one for certain ports counts once for each of them. More \
              room takes memory: for each 10,000 rules about 0.5 MiB, 0.3 MiB for each CPU, and 1 \
              MiB for those that are made. A restart applies it and keeps the rules. Raise it for \
              imported lists of more addresses, lower it where memory is short.",
        source: "Weighed against memory that most hosts do not need: published lists of addresses have \
                 1,000 to 100,000 entries.",
        field: |settings| Field::U32(&mut settings.rules),
    },
];
