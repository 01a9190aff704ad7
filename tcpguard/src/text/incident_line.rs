//! The lines that report the start, the course and the end of an incident.

use tcpguard_engine::{EndFacts, EndReason, IncidentClass, IncidentFacts, Listener, Mode};
use tcpguard_host::units::{percent, short};

use super::event::LINE;
use super::incident::{on, tried};
use super::reason::seconds;
use crate::documents::{Advised, is_this_host, target};

/// An incident that is open: `did` says what became of it.
pub(super) fn running(did: &str, facts: &IncidentFacts) -> String {
    let head = head(facts.number, facts.class, did, facts.listener, facts.listeners);
    fitted(&head, &numbers(facts), &consequence(facts))
}

/// An incident that is over.
pub(super) fn ended(facts: &EndFacts) -> String {
    let why = match facts.why {
        EndReason::Quiet { for_s } => format!(". Quiet for {}", seconds(for_s)),
        EndReason::HandshakesFail => ". Handshakes fail now".to_owned(),
        EndReason::ListenerGone => ". The listener is gone".to_owned(),
        EndReason::AgentRestarted => ". The agent restarted".to_owned(),
        EndReason::Merged { into, .. } => format!(". Continued in #{into}"),
    };
    let count = |number: u64| short(number as f64);
    let (syns, dropped) = (facts.syns as f64, facts.dropped as f64);
    let mut numbers = vec![format!("duration {}", seconds(facts.lasted_s))];
    let drops = format!("{} dropped", percent((dropped / syns.max(1.0)).min(1.0)));
    match facts.class {
        IncidentClass::Reflection => numbers.push(format!("{} replies", count(facts.syns))),
        IncidentClass::Scan | IncidentClass::FlashCrowd | IncidentClass::ListenerOverload => {
            numbers.push(format!("{} SYNs", count(facts.syns)));
        }
        IncidentClass::ClosedPorts | IncidentClass::Evasion => {
            numbers.extend([format!("{} SYNs", count(facts.syns)), drops]);
        }
        _ => {
            numbers.extend([format!("{} SYNs", count(facts.syns)), drops]);
            numbers.push(format!("{} client handshakes", count(facts.completed)));
            if facts.cookies_sent > 0 {
                numbers.push(format!("{} SYN cookies", count(facts.cookies_sent)));
            }
        }
    }
    let head = head(facts.number, facts.class, "ended", facts.listener, facts.listeners);
    fitted(&head, &numbers, &why)
}

fn head(
    number: u64,
    class: IncidentClass,
    did: &str,
    listener: Listener,
    listeners: u32,
) -> String {
    let what = if class.is_flood() { "attack" } else { "incident" };
    format!("{what} #{number} {did}: {}", on(class, &target(listener, listeners)))
}

/// The numbers that matter for the class, the most important first.
fn numbers(facts: &IncidentFacts) -> Vec<String> {
    let unit = match facts.class {
        IncidentClass::Reflection => "replies/s",
        _ => "SYN/s",
    };
    // At the end of a capture nothing arrives.
    let rate = match facts.syn_rate < 0.5 {
        true => format!("up to {} {unit}", short(facts.peak_syn_rate)),
        false => format!("{} {unit}", short(facts.syn_rate)),
    };
    let success = format!("handshake success {}", percent(facts.completion));
    let sources = format!("at least {} sources", short(facts.sources as f64));
    match facts.class {
        IncidentClass::SingleSource => {
            let from = facts.top_source.map(|source| {
                format!("{} of failed handshakes from {source}", percent(facts.top_source_share))
            });
            vec![rate, from.unwrap_or(sources), success]
        }
        IncidentClass::RandomSpoofed | IncidentClass::FewSource | IncidentClass::Distributed => {
            vec![rate, success, sources]
        }
        IncidentClass::HandshakeDegraded => {
            let again = facts.retransmitted.map(|it| format!("{} retransmitted", percent(it)));
            [success, rate].into_iter().chain(again).collect()
        }
        IncidentClass::FlashCrowd => {
            vec![format!("{rate} (baseline {})", short(facts.baseline_syn_rate)), success, sources]
        }
        IncidentClass::ListenerOverload => vec![rate, success],
        IncidentClass::Scan => {
            let busiest = facts.top_source.map(|source| format!("busiest {source}"));
            let all = [format!("{} sources", short(facts.sources as f64))];
            let tried = tried(facts.ports_tried, facts.addresses_tried);
            all.into_iter().chain(busiest).chain([tried]).collect()
        }
        IncidentClass::Reflection => vec![rate],
        IncidentClass::ClosedPorts | IncidentClass::Evasion => {
            vec![rate, format!("{} dropped", percent(facts.stopped))]
        }
    }
}

/// Consequence for the operator.
fn consequence(facts: &IncidentFacts) -> String {
    match facts.class {
        IncidentClass::HandshakeDegraded => {
            ". Not an attack: check loss and filtering on the path".to_owned()
        }
        IncidentClass::FlashCrowd => ". Not an attack: nothing is dropped".to_owned(),
        IncidentClass::ListenerOverload => {
            ". The application accepts too slowly: tcpguard listeners".to_owned()
        }
        IncidentClass::Scan => match facts.top_source {
            Some(source) if !is_this_host(source) => {
                format!(". To block: tcpguard block {source}")
            }
            _ => ". Nothing is dropped".to_owned(),
        },
        IncidentClass::Reflection => {
            ". A third party spoofs this host's address, nothing is dropped".to_owned()
        }
        _ if facts.mode == Mode::Enforce => String::new(),
        _ => format!(". NOT MITIGATED: {}", Advised::TRY_ENFORCE),
    }
}

/// Returns `numbers`, as many as fit in a line, between its beginning and its end.
pub(super) fn fitted(head: &str, numbers: &[String], tail: &str) -> String {
    let (mut line, fixed) = (head.to_owned(), tail.chars().count());
    for (place, number) in numbers.iter().enumerate() {
        let joined = format!("{}{number}", if place == 0 { ": " } else { ", " });
        if line.chars().count() + joined.chars().count() + fixed > LINE {
            break;
        }
        line.push_str(&joined);
    }
    line + tail
}
