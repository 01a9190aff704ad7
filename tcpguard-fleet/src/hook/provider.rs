//! A request to the provider of the network to filter a flood, to be pasted into a message.

use std::fmt::Display;

use tcpguard_engine::{Scope, SourceOrigin};
use tcpguard_host::time::Time;
use tcpguard_host::units::short;

use super::document::{Incident, Packets};

/// The request, a label on each line; `None` where there is nothing to filter.
pub fn request(incident: &Incident, packets: Option<&Packets>) -> Option<String> {
    if !incident.class.is_of_provider() {
        return None;
    }
    let mut lines = vec![
        line("Request", asked(incident, packets)),
        line("Destination", destination(incident)),
        line("Start", utc(incident.since)),
        line("End", incident.ended.map_or_else(|| "continues".to_owned(), utc)),
        line("Rate", rate(incident)),
        line("Sources", sources(incident)),
    ];
    if let Some(packets) = packets {
        lines.push(line("Filter (tcpdump)", &packets.pcap));
        lines.push(line("Filter (FlowSpec)", &packets.flowspec));
    }
    Some(lines.join("\n"))
}

fn line(label: &str, value: impl Display) -> String {
    format!("{label}: {value}")
}

const fn asked(incident: &Incident, packets: Option<&Packets>) -> &'static str {
    match (incident.class.facts().scope, incident.sources, packets) {
        (Scope::Replies, _, _) => {
            "please drop SYN-ACKs to this destination that answer no SYN of ours"
        }
        (_, SourceOrigin::Real, Some(_)) => {
            "please limit the rate of the SYNs that the filter matches"
        }
        (_, _, Some(_)) => {
            "please limit the rate of the SYNs that the filter matches, not by source address"
        }
        (_, _, None) => "please mitigate this SYN flood upstream, not by source address",
    }
}

fn destination(incident: &Incident) -> String {
    let victims: Vec<String> = incident.victims.iter().map(ToString::to_string).collect();
    let victims = match victims.is_empty() {
        true => "every address of this host".to_owned(),
        false => victims.join(", "),
    };
    let ports: Vec<String> = incident.ports.iter().map(u16::to_string).collect();
    match ports.len() {
        0 => format!("{victims}, all TCP ports"),
        1 => format!("{victims}, TCP port {}", ports[0]),
        _ => format!("{victims}, TCP ports {}", ports.join(", ")),
    }
}

fn rate(incident: &Incident) -> String {
    let packets = match incident.class.facts().scope {
        Scope::Replies => "SYN-ACK",
        _ => "SYN",
    };
    let packets = format!("{} {packets}/s", short(incident.syn_pps));
    match incident.bps {
        Some(bps) => format!("{packets}, {}bit/s", short(bps)),
        None => packets,
    }
}

const fn sources(incident: &Incident) -> &'static str {
    match (incident.class.facts().scope, incident.sources) {
        (Scope::Replies, _) => "real hosts that answer SYNs spoofed with our address",
        (_, SourceOrigin::Spoofed) => "spoofed",
        (_, SourceOrigin::Real) => "not spoofed",
        (_, SourceOrigin::Unknown) => "not known if spoofed",
    }
}

/// Time in UTC, as providers keep theirs.
fn utc(time: Time) -> String {
    time.0.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use tcpguard_engine::IncidentClass;

    use super::super::document::tests::event;
    use super::super::document::{EventKind, Hook};
    use super::*;

    fn incident() -> Incident {
        event(EventKind::Start, 7).incident
    }

    #[test]
    fn a_flood_is_described_with_its_filter() {
        let hook = Hook::from(event(EventKind::Start, 7));
        assert_eq!(
            hook.provider.unwrap(),
            "Request: please limit the rate of the SYNs that the filter matches, not by source \
             address\n\
             Destination: 192.0.2.10/32, TCP port 443\n\
             Start: 2026-11-20 14:05:01 UTC\n\
             End: continues\n\
             Rate: 1M SYN/s, 512Mbit/s\n\
             Sources: spoofed\n\
             Filter (tcpdump): dst host 192.0.2.10 and tcp dst port 443 and \
             tcp[tcpflags] & (tcp-syn|tcp-ack) = tcp-syn and ip[2:2] = 40\n\
             Filter (FlowSpec): match destination 192.0.2.10/32 protocol tcp \
             destination-port '==443' tcp-flags '=S&!A' packet-length '==40' then rate-limit 12500"
        );
    }

    #[test]
    fn without_a_filter_the_provider_is_asked_to_find_one() {
        let unknown = Incident { victims: Vec::new(), ports: Vec::new(), bps: None, ..incident() };
        let text = request(&unknown, None).unwrap();
        assert!(text.starts_with("Request: please mitigate this SYN flood upstream"), "{text}");
        assert!(text.contains("\nDestination: every address of this host, all TCP ports\n"));
        assert!(text.contains("\nRate: 1M SYN/s\n") && !text.contains("Filter"), "{text}");
    }

    #[test]
    fn only_attacks_are_requests() {
        for class in IncidentClass::ALL {
            let is_attack = class.is_flood() || class == IncidentClass::Reflection;
            let text = request(&Incident { class, ..incident() }, None);
            assert_eq!(text.is_some(), is_attack, "{class:?}");
        }
    }

    #[test]
    fn real_sources_may_be_blocked_and_several_ports_are_listed() {
        let real = Incident { sources: SourceOrigin::Real, ports: vec![80, 443], ..incident() };
        let packets = event(EventKind::Start, 7).rule.as_ref().map(Packets::of);
        let text = request(&real, packets.as_ref()).unwrap();
        assert!(!text.contains("not by source address"), "{text}");
        assert!(text.contains("TCP ports 80, 443\n") && text.contains("Sources: not spoofed\n"));
    }
}
