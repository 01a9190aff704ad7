//! The sentences that describe an incident and advise the operator.

use std::net::IpAddr;

use tcpguard_engine as engine;
use tcpguard_engine::{IncidentClass, IncidentReport, Timestamp};
use tcpguard_host::units::{percent, short, span};

use super::Advice;

/// The address and port that clients connect to: `:443` for a wildcard, else `192.0.2.1:443` or
/// `[2001:db8::1]:443`. It is `this host` for an incident that concerns no port.
pub(crate) fn place(addr: IpAddr, port: u16) -> String {
    engine::Listener { addr, port }.to_string()
}

/// One sentence about the incident and its meaning for the defence.
pub(crate) fn summary(incident: &IncidentReport) -> String {
    let evidence = &incident.evidence;
    let place = target(incident);
    let sources = short(evidence.sources_estimate as f64);
    let complete = percent(evidence.completion);
    match incident.class {
        IncidentClass::RandomSpoofed => format!(
            "{} on {place}, at least {sources} sources, {:.2} SYN each, {complete} of SYNs complete a handshake, \
             {}; banning sources would not help",
            incident.class.in_words(),
            evidence.syns_per_source,
            signature_words(incident),
        ),
        IncidentClass::SingleSource => {
            let from = match incident.dominating_source() {
                Some(top) => format!(
                    " from {}, which sends {} of the failing SYNs",
                    top.addr,
                    percent(top.share)
                ),
                None => format!(
                    ", now from {sources} sources, {:.2} SYN each",
                    evidence.syns_per_source
                ),
            };
            let ban = match incident.has_source_rules() && incident.dominating_source().is_some() {
                true => "; a ban on the source stops it",
                false => "",
            };
            format!(
                "{} on {place}{from}, {complete} of SYNs complete a handshake{ban}",
                incident.class.in_words(),
            )
        }
        IncidentClass::HandshakeDegraded => {
            let repeated = evidence.retransmitted_share.map_or_else(String::new, |share| {
                format!(
                    ", {} of the failing clients repeat their SYN as real ones do",
                    percent(share)
                )
            });
            format!(
                "{} on {place}: {complete} of SYNs complete a handshake, at least {sources} sources{repeated}; \
                 a rule would only hit clients",
                incident.class.in_words(),
            )
        }
        _ => in_words(incident),
    }
}

/// Target of an incident: the listener, the number of listeners that are reported together, or the address, port or host
/// that it concerns.
pub(crate) fn target(incident: &IncidentReport) -> String {
    if incident.listener == engine::Listener::HOST && incident.listeners > 0 {
        return several(incident.listeners.into(), "listener");
    }
    incident.listener.to_string()
}

/// The incident and its target, in one line and numbers.
fn in_words(incident: &IncidentReport) -> String {
    let evidence = &incident.evidence;
    let unit = match incident.class {
        IncidentClass::Reflection => "answers/s",
        _ => "SYN/s",
    };
    // At the end of a capture nothing arrives.
    let rate = match incident.syn_rate < 0.5 {
        true => format!("up to {}", short(incident.peak_syn_rate)),
        false => short(incident.syn_rate),
    };
    let head = format!("{} on {}: {rate} {unit}", incident.class.in_words(), target(incident));
    let complete = format!("{} of SYNs complete a handshake", percent(evidence.completion));
    let sources = format!(
        "from at least {} sources ({:.1} SYN each)",
        short(evidence.sources_estimate as f64),
        evidence.syns_per_source
    );
    match incident.class {
        IncidentClass::RandomSpoofed
        | IncidentClass::SingleSource
        | IncidentClass::HandshakeDegraded => head,
        IncidentClass::Distributed => {
            format!("{head} {sources}, {complete}, {}", signature_words(incident))
        }
        IncidentClass::FewSource => format!(
            "{head}, 90 % of the failing ones from {} in {}, {complete}",
            several(evidence.k90_sources, "source"),
            several(evidence.k90_networks, "network")
        ),
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
                [first, ..] => {
                    format!(" by {} sources, the busiest {}", evidence.sources_estimate, first.addr)
                }
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
            percent(share(incident.stopped_rate, incident.syn_rate))
        ),
        IncidentClass::Evasion => format!(
            "{head} in fragments or behind headers that the guard does not read and the stack does, {} \
             of them dropped",
            percent(share(incident.stopped_rate, incident.syn_rate))
        ),
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

fn signature_words(incident: &IncidentReport) -> String {
    match incident.evidence.signatures.first() {
        Some(top) if top.share >= 0.5 => format!("one signature covers {}", percent(top.share)),
        Some(top) => format!("no common signature (the top one covers {})", percent(top.share)),
        None => "no signature known yet".to_owned(),
    }
}

/// Advice to the operator for a class in which nothing is dropped.
pub(crate) const fn class_advice(class: IncidentClass) -> Option<&'static str> {
    match class {
        IncidentClass::RandomSpoofed
        | IncidentClass::SingleSource
        | IncidentClass::FewSource
        | IncidentClass::Distributed
        | IncidentClass::ClosedPorts
        | IncidentClass::Evasion => None,
        IncidentClass::HandshakeDegraded => {
            Some("nothing is dropped. Check packet loss and filtering on the path to the clients")
        }
        IncidentClass::FlashCrowd => {
            Some("nothing is dropped. The clients are served. Add capacity if they stay")
        }
        IncidentClass::ListenerOverload => Some(
            "nothing is dropped. The application accepts too slowly; find it: tcpguard listeners",
        ),
        IncidentClass::Scan => {
            Some("nothing is dropped. Nothing listens there; to block it: tcpguard block PREFIX")
        }
        IncidentClass::Reflection => Some(
            "nothing is dropped. A third party spoofs this host's address. Ask the provider to filter \
             SYN-ACKs if the link suffers",
        ),
    }
}

/// Advice for the operator about an open incident in `mode`. `acts`: a mitigation acts against it.
pub(super) fn advice(
    incident: &IncidentReport,
    mode: engine::Mode,
    acts: bool,
    now: Timestamp,
) -> Option<Advice> {
    let advice = |text: String, command: Option<&str>| {
        Some(Advice { text, command: command.map(str::to_owned) })
    };
    if incident.ended.is_some() {
        return None;
    }
    if incident.class == IncidentClass::HandshakeDegraded {
        return advice(
            "look at the path to the clients and at the application (a full accept queue, a \
             firewall that drops answers); no rule is made"
                .to_owned(),
            None,
        );
    }
    if let Some(text) = class_advice(incident.class) {
        return advice(text.to_owned(), None);
    }
    if let (engine::Mode::Enforce, Some(removed)) = (mode, &incident.record.removed) {
        let ago = now.since(removed.at);
        let text = format!(
            "you removed rule {} {} ago, and it is made again in {}",
            removed.id.0,
            span(ago),
            span(removed.until.since(now)),
        );
        // Mitigations are ordered for one listener.
        if incident.listener == engine::Listener::HOST {
            return advice(text, None);
        }
        let place = place(incident.listener.addr, incident.listener.port);
        return advice(
            format!("{text}; have tcpguard make it now"),
            Some(&format!("tcpguard mitigation {place} {} auto", removed.mitigation.name())),
        );
    }
    let evades = incident.class == IncidentClass::Evasion;
    match mode {
        engine::Mode::Enforce if acts => None,
        engine::Mode::Enforce if evades => advice(
            "they go to the stack: have frames that the guard cannot read dropped with [policy] \
             beyond_bounds = \"drop\""
                .to_owned(),
            Some("tcpguard reload"),
        ),
        engine::Mode::Enforce if incident.class == IncidentClass::ClosedPorts => advice(
            "the stack refuses most of them: have the host's packet filter drop what no listener is for"
                .to_owned(),
            None,
        ),
        engine::Mode::Enforce if incident.rules.is_empty() => advice(
            "nothing stops it yet: keep net.ipv4.tcp_syncookies=1 and raise the listener's backlog"
                .to_owned(),
            Some("tcpguard status --listeners"),
        ),
        engine::Mode::Enforce => None,
        engine::Mode::Observe if evades => advice(
            "observe mode drops nothing; enforce mode drops frames that the guard cannot read".to_owned(),
            Some(engine::Mode::TRY_ENFORCE),
        ),
        engine::Mode::Observe if incident.rules.is_empty() && !incident.class.is_of_host() => advice(
            "observe mode drops nothing; no rule is found yet that enforce mode would apply"
                .to_owned(),
            Some(engine::Mode::TRY_ENFORCE),
        ),
        engine::Mode::Observe => advice(
            format!(
                "observe mode drops nothing; enforce mode would have dropped {} of {} SYNs so far",
                short(incident.matched as f64),
                short(incident.syns as f64)
            ),
            Some(engine::Mode::TRY_ENFORCE),
        ),
        engine::Mode::Off => {
            advice("the guard is off and drops nothing".to_owned(), Some(engine::Mode::TRY_ENFORCE))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_listener_or_the_host_and_never_port_0() {
        for (addr, port, expected) in [
            ("0.0.0.0", 443, ":443"),
            ("::", 443, ":443"),
            ("192.0.2.1", 443, "192.0.2.1:443"),
            ("2001:db8::1", 443, "[2001:db8::1]:443"),
            ("192.0.2.1", 0, "192.0.2.1"),
            ("0.0.0.0", 0, "this host"),
        ] {
            assert_eq!(place(addr.parse().unwrap(), port), expected);
        }
    }
}
