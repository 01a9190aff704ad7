//! Sentences for alerts and the list of actions.

use crate::evidence::{Evidence, IncidentClass, SourceShare};
use crate::incident::IncidentReport;
use crate::input::{Listener, Mode, percent, short};

/// The incident, its target and the advice for it, in one line.
pub(crate) fn story(incident: &IncidentReport, mode: Mode) -> String {
    let sentence = incident.in_words();
    match incident.class.advice() {
        Some(advice) => format!("{sentence}; {advice}"),
        None => format!("{sentence}{}", mode_advice(mode, incident.class)),
    }
}

/// A source that sends less than this share of the SYNs of failing handshakes dominates nothing.
const DOMINATES: f64 = 0.5;

impl IncidentReport {
    /// The source of most SYNs of failing handshakes at present. The class may say so for a moment longer.
    pub fn dominating_source(&self) -> Option<&SourceShare> {
        self.evidence.top_sources.first().filter(|top| top.share >= DOMINATES)
    }

    /// Returns whether a rule against sources stands for it, or stood to its end.
    pub fn has_source_rules(&self) -> bool {
        self.record.rules.iter().any(|rule| rule.kind == "source" && rule.ended.is_none())
    }

    /// Its target: the listener, the number of listeners that are reported together, or the address, port or host
    /// that it concerns.
    pub fn place(&self) -> String {
        if self.listener == Listener::HOST && self.listeners > 0 {
            return several(self.listeners.into(), "listener");
        }
        self.listener.to_string()
    }

    /// The incident and its target, in one line and numbers.
    pub fn in_words(&self) -> String {
        let evidence = &self.evidence;
        let unit = match self.class {
            IncidentClass::Reflection => "answers/s",
            _ => "SYN/s",
        };
        // At the end of a capture nothing arrives.
        let rate = match self.syn_rate < 0.5 {
            true => format!("up to {}", short(self.peak_syn_rate)),
            false => short(self.syn_rate),
        };
        let head = format!("{} on {}: {rate} {unit}", self.class.in_words(), self.place());
        let complete = format!("{} of SYNs complete a handshake", percent(evidence.completion));
        let sources = format!(
            "from at least {} sources ({:.1} SYN each)",
            short(evidence.sources_estimate as f64),
            evidence.syns_per_source
        );
        match self.class {
            IncidentClass::RandomSpoofed => format!(
                "{head} {sources}, {complete}, {}; banning sources would not help",
                signature(evidence)
            ),
            IncidentClass::Distributed => {
                format!("{head} {sources}, {complete}, {}", signature(evidence))
            }
            IncidentClass::SingleSource => match self.dominating_source() {
                Some(top) => format!(
                    "{head}, {} of the failing ones from {}, {complete}",
                    percent(top.share),
                    top.addr
                ),
                None => format!("{head} now {sources}, {complete}"),
            },
            IncidentClass::FewSource => format!(
                "{head}, 90% of the failing ones from {} in {}, {complete}",
                several(evidence.k90_sources, "source"),
                several(evidence.k90_networks, "network")
            ),
            IncidentClass::HandshakeDegraded => {
                let retransmitted =
                    evidence.retransmitted_share.map_or_else(String::new, |share| {
                        format!(", {} of the failing clients repeat their SYN", percent(share))
                    });
                format!("{head}, {complete}{retransmitted}")
            }
            IncidentClass::FlashCrowd => format!(
                "{head} where {} are usual, {sources}, {complete}",
                short(evidence.baseline_syn_rate)
            ),
            IncidentClass::ListenerOverload => {
                format!("{head}, {complete}, but the application does not accept them fast enough")
            }
            IncidentClass::Scan => {
                let who = match evidence.top_sources.as_slice() {
                    [] => String::new(),
                    [one] => format!(" by {}", one.addr),
                    [first, ..] => format!(
                        " by {} sources, the busiest {}",
                        evidence.sources_estimate, first.addr
                    ),
                };
                format!(
                    "{head}{who}, which tried about {} of about {}",
                    several(evidence.ports_tried, "closed port"),
                    several(evidence.addresses_tried, "address")
                )
            }
            IncidentClass::Reflection => {
                format!("{head} to SYNs that this host did not send")
            }
            IncidentClass::ClosedPorts => format!(
                "{head} to ports at which nothing listens, {} of them dropped before the stack has to refuse \
                 them",
                percent(share(self.stopped_rate, self.syn_rate))
            ),
            IncidentClass::Evasion => format!(
                "{head} in fragments or behind headers that the guard does not read and the stack does, {} \
                 of them dropped",
                percent(share(self.stopped_rate, self.syn_rate))
            ),
        }
    }
}

impl IncidentClass {
    /// Advice to the operator for a class for which no rule is made.
    pub const fn advice(self) -> Option<&'static str> {
        match self {
            Self::RandomSpoofed
            | Self::SingleSource
            | Self::FewSource
            | Self::Distributed
            | Self::ClosedPorts
            | Self::Evasion => None,
            Self::HandshakeDegraded => {
                Some("nothing is dropped: look at the path to the clients and at what answers them")
            }
            Self::FlashCrowd => Some(
                "nothing is dropped: these are clients, and they are served; add capacity if they \
                 are to stay",
            ),
            Self::ListenerOverload => Some(
                "nothing is dropped: the application accepts too slowly; which one that is, and which \
                 setting limits its queue: tcpguard listeners",
            ),
            Self::Scan => Some(
                "nothing is dropped: nothing listens there; block it if you mind: tcpguard block PREFIX",
            ),
            Self::Reflection => Some(
                "nothing is dropped, and SYN rules would not help: somebody sends SYNs elsewhere in \
                 this host's name; ask the provider to filter SYN-ACKs if the link suffers",
            ),
        }
    }
}

/// A part of a whole, of which there may be nothing.
fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { (part / whole).min(1.0) } else { 0.0 }
}

fn several(number: u64, what: &str) -> String {
    match (number, what.strip_suffix("ss")) {
        (1, _) => format!("1 {what}"),
        (_, Some(_)) => format!("{number} {what}es"),
        (_, None) => format!("{number} {what}s"),
    }
}

fn signature(evidence: &Evidence) -> String {
    match evidence.signatures.first() {
        Some(top) => format!("one signature covers {}", percent(top.share)),
        None => "no signature is known yet".to_owned(),
    }
}

fn mode_advice(mode: Mode, class: IncidentClass) -> String {
    let so = match mode {
        Mode::Enforce => return String::new(),
        Mode::Observe if class.is_of_host() => "observe mode drops nothing, this would drop them",
        Mode::Observe => "observe mode drops nothing, this would drop what the rules match",
        Mode::Off => "the guard is off and drops nothing",
    };
    format!("; {so}: {}", Mode::TRY_ENFORCE)
}
