//! Thresholds that raise and end an alarm.

use super::super::threshold::Field;
use super::super::{Threshold, Unit};

pub(super) const THRESHOLDS: [Threshold; 26] = [
    Threshold {
        name: "poll",
        key: None,
        unit: Unit::Milliseconds,
        least: 50.0,
        most: 1_000.0,
        doc: "Time between two polls of the kernel's counters. Shorter ones find a flood sooner \
              and cost more CPU; only a restart applies it.",
        source: "A flood is found at its third poll, so this is a third of what an alarm may take; \
                 weighed against the agent's CPU, which all polls of all listeners share.",
        field: |settings| Field::Span(&mut settings.poll),
    },
    Threshold {
        name: "fast_failures",
        key: Some("detection.fast_min"),
        unit: Unit::Count,
        least: 8.0,
        most: 1_000_000.0,
        doc: "Handshakes left uncompleted, in two polls, below which the fast alarm says nothing. A \
              higher number misses smaller floods of idle listeners for some seconds more. Raise it \
              for an idle listener with harmless bursts of unfinished connects, such as those of \
              scanners.",
        source: "Weighed against a harmless burst of 38 SYNs in a public capture, and against floods \
                 of 300 SYN/s, which leave 150 in two polls.",
        field: |settings| Field::U64(&mut settings.fast_failures),
    },
    Threshold {
        name: "fast_share",
        key: None,
        unit: Unit::Share,
        least: 0.1,
        most: 1.0,
        doc: "Share of the attempts left uncompleted, in two polls, that raises the fast alarm. A \
              smaller share is reached by clients far away.",
        source: "Weighed against bursts of clients up to 0.5 s away, which must stay below, and \
                 against floods of five times the clients' rate, which must reach it.",
        field: |settings| Field::F64(&mut settings.fast_share),
    },
    Threshold {
        name: "fast_polls",
        key: None,
        unit: Unit::Count,
        least: 1.0,
        most: 20.0,
        doc: "Polls running for which both must hold. With 1 a single burst is an alarm.",
        source: "Two: a single bad tick is no alarm (in the first poll of a burst, no client can have \
                 answered).",
        field: |settings| Field::U32(&mut settings.fast_polls),
    },
    Threshold {
        name: "slow_limit",
        key: None,
        unit: Unit::Number,
        least: 4.0,
        most: 1_000.0,
        doc: "Value of the cumulative sum at which the slow alarm is raised. Each unit more makes \
              false alarms e times rarer and small floods slower to find.",
        source: "Wald's bound: at the limit h the mean time between false alarms is at least e^h \
                 ticks. e^16 ticks are 26 days, if the dispersion is right. Weighed against floods of \
                 a twentieth of the clients' rate, which must be found within seconds.",
        field: |settings| Field::F64(&mut settings.slow_limit),
    },
    Threshold {
        name: "failure_floor",
        key: Some("detection.failure_floor"),
        unit: Unit::PerSecond,
        least: 0.1,
        most: 10_000.0,
        doc: "Failing handshakes per second that matter at all. Smaller floods are not found, \
              unless they fill the queue; half of it ends an incident. Raise it where many clients \
              on radio links give up, and smaller floods matter less.",
        source: "Weighed against lost clients (2 % of 200 a second are 4), which must stay quiet, and \
                 against floods of 10 SYN/s, which must not.",
        field: |settings| Field::F64(&mut settings.failure_floor),
    },
    Threshold {
        name: "failure_share",
        key: None,
        unit: Unit::Share,
        least: 0.001,
        most: 0.5,
        doc: "Share of the handshakes whose failure matters. At busy listeners this counts rather \
              than failure_floor.",
        source: "Weighed against mobile clients of which one in fifty is lost, and against floods of \
                 a tenth of the clients' rate.",
        field: |settings| Field::F64(&mut settings.failure_share),
    },
    Threshold {
        name: "health_check_rate",
        key: Some("detection.health_check_rate"),
        unit: Unit::PerSecond,
        least: 0.0,
        most: 10_000.0,
        doc: "Handshakes per second that clients may reset before they count as failures for the \
              slow alarm. Half-open health checks end so. Raise it for more than two load balancers \
              that check with half-open handshakes.",
        source: "Two balancers of five processes ask once a second. More are told from floods whose own \
                 kernel resets the answers by their flows.",
        field: |settings| Field::F64(&mut settings.health_check_rate),
    },
    Threshold {
        name: "assumed_rtt",
        key: None,
        unit: Unit::Milliseconds,
        least: 10.0,
        most: 5_000.0,
        doc: "Round-trip time of clients, until it has been measured. A handshake is judged after \
              four of them, a second at least.",
        source: "Four of them are the second that every handshake is given; far clients are measured \
                 within their first completions.",
        field: |settings| Field::Span(&mut settings.assumed_rtt),
    },
    Threshold {
        name: "occupancy_on",
        key: None,
        unit: Unit::Share,
        least: 0.01,
        most: 1.0,
        doc: "Share of a listener's backlog filled by half-open handshakes that raises the \
              occupancy alarm.",
        source: "pf's adaptive SYN cookies: set syncookies adaptive (start 25%, end 12%), pf.conf(5).",
        field: |settings| Field::F64(&mut settings.occupancy_on),
    },
    Threshold {
        name: "occupancy_off",
        key: None,
        unit: Unit::Share,
        least: 0.0,
        most: 1.0,
        doc: "The share below which it is taken back, which must be smaller.",
        source: "As occupancy_on.",
        field: |settings| Field::F64(&mut settings.occupancy_off),
    },
    Threshold {
        name: "occupancy_min",
        key: None,
        unit: Unit::Count,
        least: 1.0,
        most: 65_536.0,
        doc: "Half-open handshakes below which the queue raises no alarm, however small it is.",
        source: "Weighed against a few slow clients at a tiny queue, and against 4 SYN/s at a queue \
                 of 128, which must be found.",
        field: |settings| Field::U32(&mut settings.occupancy_min),
    },
    Threshold {
        name: "occupancy_polls",
        key: None,
        unit: Unit::Count,
        least: 1.0,
        most: 60.0,
        doc: "Readings of the queue running for which it must hold.",
        source: "Two, as for the fast alarm: a single burst of connects fills a queue for a round \
                 trip.",
        field: |settings| Field::U32(&mut settings.occupancy_polls),
    },
    Threshold {
        name: "overload_polls",
        key: None,
        unit: Unit::Count,
        least: 1.0,
        most: 1_200.0,
        doc: "Polls with a full accept queue from which the application is told to be overloaded.",
        source: "Two seconds of polls: weighed against servers that pause for a moment, to collect \
                 garbage for instance.",
        field: |settings| Field::U32(&mut settings.overload_polls),
    },
    Threshold {
        name: "flash_crowd_factor",
        key: None,
        unit: Unit::Number,
        least: 1.5,
        most: 1_000.0,
        doc: "Multiple of the usual SYN rate from which completing handshakes are a rush of \
              clients.",
        source: "Weighed against what a day brings anyway; a rush is only a notice, and nothing is \
                 done about it.",
        field: |settings| Field::F64(&mut settings.flash_crowd_factor),
    },
    Threshold {
        name: "flash_crowd_floor",
        key: None,
        unit: Unit::PerSecond,
        least: 1.0,
        most: 1_000_000.0,
        doc: "SYNs per second below which there is no rush, whatever is usual.",
        source: "Weighed against idle listeners, where three times the usual is next to nothing.",
        field: |settings| Field::F64(&mut settings.flash_crowd_floor),
    },
    Threshold {
        name: "flash_crowd_served",
        key: None,
        unit: Unit::Share,
        least: 0.1,
        most: 1.0,
        doc: "Share of the handshakes that must complete in a rush.",
        source: "Weighed against a rush from 0.5 s away, many of whose handshakes are still on their \
                 way.",
        field: |settings| Field::F64(&mut settings.flash_crowd_served),
    },
    Threshold {
        name: "flash_crowd_polls",
        key: None,
        unit: Unit::Count,
        least: 1.0,
        most: 1_200.0,
        doc: "Polls running for which all must hold.",
        source: "Three seconds of polls: weighed against small bursts, which are worth no notice.",
        field: |settings| Field::U32(&mut settings.flash_crowd_polls),
    },
    Threshold {
        name: "reflection_rate",
        key: None,
        unit: Unit::PerSecond,
        least: 1.0,
        most: 10_000_000.0,
        doc: "Answers per second to SYNs that this host did not send, from which somebody sends \
              SYNs in its name.",
        source: "64 in a poll, as fast_min. Weighed against a proxy with 2,000 connections a second.",
        field: |settings| Field::F64(&mut settings.reflection_rate),
    },
    Threshold {
        name: "reflection_share",
        key: None,
        unit: Unit::Share,
        least: 0.01,
        most: 1.0,
        doc: "Their share of all answers.",
        source: "Weighed against a busy proxy, also while the sample of its own SYNs changes; half of \
                 all is far above both.",
        field: |settings| Field::F64(&mut settings.reflection_share),
    },
    Threshold {
        name: "reflection_polls",
        key: None,
        unit: Unit::Count,
        least: 1.0,
        most: 60.0,
        doc: "Polls running for which both must hold.",
        source: "Two, as fast_polls.",
        field: |settings| Field::U32(&mut settings.reflection_polls),
    },
    Threshold {
        name: "closed_rate",
        key: Some("detection.closed_port_rate"),
        unit: Unit::PerSecond,
        least: 100.0,
        most: 10_000_000.0,
        doc: "SYNs per second to closed ports, refused by the host's own stack or dropped in its \
              place, from which they are a flood. Raise it for a honeypot, or a network whose \
              closed ports are scanned all day.",
        source: "Weighed against scanners, which send a single host hundreds a second (nmap) up to their \
                 own limit (masscan: 100 by default), and against the stack, for which as many \
                 resets are 4 % of one CPU.",
        field: |settings| Field::F64(&mut settings.closed_rate),
    },
    Threshold {
        name: "beyond_rate",
        key: None,
        unit: Unit::PerSecond,
        least: 1.0,
        most: 10_000_000.0,
        doc: "SYNs per second in frames whose headers go on beyond what the guard reads, from which they \
              are a flood that evades it.",
        source: "Weighed against networks where none of them comes, and against the smallest SYN queue of \
                 128, which 100 a second fill in little more than a second.",
        field: |settings| Field::F64(&mut settings.beyond_rate),
    },
    Threshold {
        name: "out_of_state_rate",
        key: None,
        unit: Unit::PerSecond,
        least: 1.0,
        most: 10_000_000.0,
        doc: "Resets per second that a listener sends, from which segments that belong to no \
              connection are looked for.",
        source: "64 in a poll, as fast_min. Weighed against servers that close with data unread, \
                 which send resets of their own.",
        field: |settings| Field::F64(&mut settings.out_of_state_rate),
    },
    Threshold {
        name: "quiet",
        key: Some("detection.clear_s"),
        unit: Unit::Seconds,
        least: 5.0,
        most: 3_600.0,
        doc: "Time that everything must be quiet before an incident is over. Raise it for floods in \
              pulses with longer pauses.",
        source: "Weighed against the pauses of pulsed floods: 2.75 s in a public capture, 10 s \
                 assumed, three times that to be sure; and against keeping rules longer than needed.",
        field: |settings| Field::Span(&mut settings.quiet),
    },
    Threshold {
        name: "alert_window",
        key: None,
        unit: Unit::Seconds,
        least: 0.0,
        most: 86_400.0,
        doc: "Time after an incident in which its return is recognised at the first bad poll, and \
              its signature dropped again at once.",
        source: "Weighed against attackers who come back within minutes, and against trusting an old \
                 signature for long.",
        field: |settings| Field::Span(&mut settings.alert_window),
    },
];
