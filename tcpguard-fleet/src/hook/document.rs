//! `tcpguard.hook/1`: an event of an incident, as hooks receive it.
//!
//! Rates are per second, shares are 0 to 1, and times are RFC 3339 in UTC. Readers must tolerate fields and words that
//! they do not know.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Serialize;
use tcpguard_engine::{IncidentClass, SourceOrigin};
use tcpguard_host::finding::Severity;
use tcpguard_host::json;
use tcpguard_host::time::Time;

use super::id::EventId;
use super::provider;
use crate::document::ReliefRoute;
use crate::relief::filter;
use crate::relief::flowspec::FlowSpec;

/// The value of [`Hook::schema`].
pub const SCHEMA: &str = "tcpguard.hook/1";

/// An event of an incident.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub struct Hook {
    /// Name and version of this document: `tcpguard.hook/1`.
    pub schema: &'static str,
    /// Id of the event. A repeated delivery has the same, and later events have greater ones.
    pub id: EventId,
    /// Kind of the event.
    pub event: EventKind,
    /// Time of the event.
    pub at: Time,
    /// Name of the host that reports it.
    pub host: String,
    /// The incident.
    pub incident: Incident,
    /// Packets of the flood as filters; left out where no filter is known.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub packets: Option<Packets>,
    /// Relief by routers; left out where none is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relief: Option<Relief>,
    /// Request to the provider of the network to filter the flood, to be pasted into a message: lines with a label
    /// each. Left out for an incident that is no flood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
}

/// Kind of an event.
#[derive(Clone, Copy, Debug, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The incident has started.
    Start,
    /// The incident goes on. Of several that wait for delivery, only the last is delivered.
    Update,
    /// The incident has ended.
    End,
    /// Routers begin or end to relieve the host.
    Relief,
}

/// An incident, as hooks receive it.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub struct Incident {
    /// Number of the incident at its host.
    pub id: u64,
    /// Class of the incident.
    pub class: IncidentClass,
    /// Severity of the class.
    pub severity: Severity,
    /// Addresses or networks that are attacked, at most 8; empty where they are not known.
    #[schemars(with = "Vec<String>")]
    pub victims: Vec<IpNet>,
    /// Ports that are attacked, at most 8; empty where no single port is concerned.
    pub ports: Vec<u16>,
    /// SYNs per second over the last second.
    pub syn_pps: f64,
    /// Bits per second of these SYNs; left out where they are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bps: Option<f64>,
    /// Share of the SYNs that are dropped at the host.
    pub dropped_share: f64,
    /// Origin of the source addresses.
    pub sources: SourceOrigin,
    /// Time of its start.
    pub since: Time,
    /// Time of its end; left out while it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Time>,
}

/// Packets of a flood, as filters.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize)]
pub struct Packets {
    /// Shortest and longest packet, in bytes with the IP header; left out for any length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<[u16; 2]>,
    /// FlowSpec rule, as the command line of GoBGP takes it.
    pub flowspec: String,
    /// Filter of tcpdump.
    pub pcap: String,
    /// Rule of nftables.
    pub nft: String,
}

/// Relief by routers.
#[derive(Clone, Debug, Default, JsonSchema, PartialEq, Serialize)]
pub struct Relief {
    /// Routes that the host asks for.
    pub asked: Vec<ReliefRoute>,
    /// Routes that a controller announces.
    pub announced: Vec<ReliefRoute>,
}

/// The parts of an event, without those that follow from them.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// See [`Hook::id`].
    pub id: EventId,
    /// See [`Hook::event`].
    pub kind: EventKind,
    /// See [`Hook::at`].
    pub at: Time,
    /// See [`Hook::host`].
    pub host: String,
    /// See [`Hook::incident`].
    pub incident: Incident,
    /// The narrowest rule that matches the flood, if one is known.
    pub rule: Option<FlowSpec>,
    /// See [`Hook::relief`].
    pub relief: Option<Relief>,
}

impl From<Event> for Hook {
    fn from(event: Event) -> Self {
        let Event { id, kind, at, host, incident, rule, relief } = event;
        let packets = rule.as_ref().map(Packets::of);
        let provider = provider::request(&incident, packets.as_ref());
        Self { schema: SCHEMA, id, event: kind, at, host, incident, packets, relief, provider }
    }
}

impl Hook {
    /// The document as it is delivered.
    pub fn to_json(&self) -> Vec<u8> {
        // Every field has a form in JSON.
        json::bytes(self).unwrap_or_default()
    }

    /// Returns whether both are about the same incident.
    pub fn is_about_same(&self, other: &Self) -> bool {
        self.host == other.host && self.incident.id == other.incident.id
    }
}

impl Packets {
    /// The packets that a rule matches.
    pub fn of(rule: &FlowSpec) -> Self {
        Self {
            length: rule.terms().lengths.map(|lengths| [lengths.first, lengths.last]),
            flowspec: filter::flowspec(rule),
            pcap: filter::pcap(rule),
            nft: filter::nft(rule),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::relief::flowspec::{Action, Lengths, Terms};

    /// An event of a flood.
    pub fn event(kind: EventKind, incident: u64) -> Event {
        let at = |time: &str| Time(time.parse().expect("a time"));
        let terms = Terms {
            destination: [192, 0, 2, 10].into(),
            port: 443,
            lengths: Some(Lengths { first: 40, last: 40 }),
            action: Action::RateLimit(12_500),
        };
        Event {
            id: EventId::with_random(at("2026-11-20T14:05:31Z").0, incident.into()),
            kind,
            at: at("2026-11-20T14:05:31Z"),
            host: "web1".to_owned(),
            incident: Incident {
                id: incident,
                class: IncidentClass::RandomSpoofed,
                severity: Severity::Critical,
                victims: vec!["192.0.2.10/32".parse().expect("a prefix")],
                ports: vec![443],
                syn_pps: 1e6,
                bps: Some(512e6),
                dropped_share: 0.97,
                sources: SourceOrigin::Spoofed,
                since: at("2026-11-20T14:05:01Z"),
                ended: None,
            },
            rule: Some(FlowSpec::new(terms).expect("a rule within the bounds")),
            relief: None,
        }
    }

    pub fn hook(kind: EventKind, incident: u64) -> Hook {
        event(kind, incident).into()
    }

    #[test]
    fn a_document_has_the_described_form() {
        let rule = ReliefRoute::Rtbh { destination: "192.0.2.10/32".parse().unwrap() };
        let relief = Some(Relief { asked: vec![rule], announced: Vec::new() });
        let hook = Hook::from(Event { relief, ..event(EventKind::Relief, 7) });
        let json: serde_json::Value = serde_json::from_slice(&hook.to_json()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "schema": "tcpguard.hook/1",
                "id": "01M7WMDMZR0000000000000007",
                "event": "relief",
                "at": "2026-11-20T14:05:31.000Z",
                "host": "web1",
                "incident": {
                    "id": 7,
                    "class": "random_spoofed",
                    "severity": "critical",
                    "victims": ["192.0.2.10/32"],
                    "ports": [443],
                    "syn_pps": 1_000_000.0,
                    "bps": 512_000_000.0,
                    "dropped_share": 0.97,
                    "sources": "spoofed",
                    "since": "2026-11-20T14:05:01.000Z",
                },
                "match": {
                    "length": [40, 40],
                    "flowspec": "match destination 192.0.2.10/32 protocol tcp \
                        destination-port '==443' tcp-flags '=S&!A' packet-length '==40' \
                        then rate-limit 12500",
                    "pcap": "dst host 192.0.2.10 and tcp dst port 443 and \
                        tcp[tcpflags] & (tcp-syn|tcp-ack) = tcp-syn and ip[2:2] = 40",
                    "nft": "ip daddr 192.0.2.10 ip length 40 tcp dport 443 \
                        tcp flags & (syn | ack) == syn \
                        limit rate over 12500 bytes/second counter drop",
                },
                "relief": {
                    "asked": [{ "kind": "rtbh", "destination": "192.0.2.10/32" }],
                    "announced": [],
                },
                "provider": json["provider"],
            })
        );
    }

    #[test]
    fn a_document_without_the_parts_that_are_not_known_leaves_them_out() {
        let event = Event { rule: None, ..event(EventKind::Start, 7) };
        let json: serde_json::Value = serde_json::from_slice(&Hook::from(event).to_json()).unwrap();
        assert!(json.get("match").is_none() && json.get("relief").is_none(), "{json}");
        assert!(json["incident"].get("ended").is_none());
    }

    #[test]
    fn a_document_is_small() {
        let mut event = event(EventKind::Start, u64::MAX);
        event.incident.victims = vec!["2001:db8:ffff:ffff::/64".parse().unwrap(); 8];
        event.incident.ports = vec![u16::MAX; 8];
        let length = Hook::from(event).to_json().len();
        // Less than a pipe holds: a command that does not read its input delays nothing.
        assert!(length < 4096, "{length} bytes");
    }
}
