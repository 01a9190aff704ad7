//! The lines that report the start, the course and the end of an incident.

use tcpguard_engine::{EndFacts, EndReason, IncidentClass, IncidentFacts, Listener, Mode, Scope};
use tcpguard_host::units::{counted, percent, short};

use super::class::words;
use super::event::LINE;
use super::incident::{on, tried};
use super::reason::seconds;
use crate::documents::{Advised, is_this_host, target};

/// An incident that is open: `did` says what became of it.
pub(super) fn running(did: &str, facts: &IncidentFacts) -> String {
    let head = head(facts.number, facts.class, did, facts.listener, facts.listeners);
    let numbers = words(facts.class).numbers.iter().filter_map(|number| number.show(facts));
    fitted(&head, &numbers.collect::<Vec<_>>(), &consequence(facts))
}

/// An incident that is over.
pub(super) fn ended(facts: &EndFacts) -> String {
    let why = match facts.why {
        EndReason::Quiet { for_s } => format!(". Quiet for {}", seconds(for_s)),
        EndReason::HandshakesFail => ". Handshakes fail now".to_owned(),
        EndReason::ListenerGone => ". The listener is gone".to_owned(),
        EndReason::AgentRestarted => ". The agent restarted".to_owned(),
    };
    let count = |number: u64| short(number as f64);
    let (syns, dropped) = (facts.syns as f64, facts.dropped as f64);
    let mut numbers = vec![format!("duration {}", seconds(facts.lasted_s))];
    let packets = if is_of_replies(facts.class) { "replies" } else { "SYNs" };
    let least = if facts.at_least { "at least " } else { "" };
    numbers.push(format!("{least}{} {packets}", count(facts.syns)));
    let of_handshakes = facts.class.facts().scope == Scope::Handshakes;
    if of_handshakes || facts.class.is_flood() {
        numbers.push(format!("{} dropped", percent((dropped / syns.max(1.0)).min(1.0))));
    }
    if of_handshakes {
        numbers.push(format!("{} client handshakes", count(facts.completed)));
        if facts.cookies_sent > 0 {
            numbers.push(format!("{} SYN cookies", count(facts.cookies_sent)));
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

fn is_of_replies(class: IncidentClass) -> bool {
    class.facts().scope == Scope::Replies
}

/// A number of an alert.
#[derive(Clone, Copy)]
pub(super) enum Number {
    /// Packets a second.
    Rate,
    /// The same, beside the baseline.
    RateOverBaseline,
    /// Completed share of the handshakes.
    Success,
    /// Distinct sources.
    Sources,
    /// Share of the source that sends most; the sources where none does.
    TopSource,
    /// Share of the retransmitted SYNs.
    Retransmitted,
    /// Sources that scan.
    Scanners,
    /// The busiest of them.
    Busiest,
    /// Ports and addresses that it tried.
    Tried,
    /// Dropped share.
    Dropped,
}

impl Number {
    /// The number in words; `None` where it is not known.
    fn show(self, facts: &IncidentFacts) -> Option<String> {
        Some(match (self, facts.top_source) {
            (Self::Rate, _) => rate(facts),
            (Self::RateOverBaseline, _) => {
                format!("{} (baseline {})", rate(facts), short(facts.baseline_syn_rate))
            }
            (Self::Success, _) => format!("handshake success {}", percent(facts.completion)),
            (Self::TopSource, Some(source)) => {
                format!("{} of failed handshakes from {source}", percent(facts.top_source_share))
            }
            (Self::Sources | Self::TopSource, _) => {
                format!("at least {}", counted(facts.sources, "source"))
            }
            (Self::Retransmitted, _) => format!("{} retransmitted", percent(facts.retransmitted?)),
            (Self::Scanners, _) => counted(facts.sources, "source"),
            (Self::Busiest, source) => format!("busiest {}", source?),
            (Self::Tried, _) => tried(facts.ports_tried, facts.addresses_tried),
            (Self::Dropped, _) => format!("{} dropped", percent(facts.stopped)),
        })
    }
}

fn rate(facts: &IncidentFacts) -> String {
    let unit = if is_of_replies(facts.class) { "replies/s" } else { "SYN/s" };
    // At the end of a capture nothing arrives.
    match facts.syn_rate < 0.5 {
        true => format!("up to {} {unit}", short(facts.peak_syn_rate)),
        false => format!("{} {unit}", short(facts.syn_rate)),
    }
}

/// Consequence for the operator.
fn consequence(facts: &IncidentFacts) -> String {
    match (words(facts.class).consequence, facts.top_source) {
        (_, Some(source)) if facts.class == IncidentClass::Scan && !is_this_host(source) => {
            format!(". To block: tcpguard block {source}")
        }
        ("", _) => match (facts.listener_mode, facts.mode) {
            (Some(own), _) => {
                format!(". NOT MITIGATED: mode {} in its [[listener]] block", own.name())
            }
            (None, Mode::Enforce) => String::new(),
            (None, _) => format!(". NOT MITIGATED: {}", Advised::TRY_ENFORCE),
        },
        (consequence, _) => format!(". {consequence}"),
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
