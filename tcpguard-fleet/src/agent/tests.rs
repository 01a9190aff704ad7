//! Samples of messages and reports.

use std::collections::BTreeMap;

use tcpguard_engine::{
    ClientLength, FleetAction, FleetMessage, FleetName, FleetReport, FleetRule, Hint, HintReport,
    IncidentClass, LinkPressure, Listener, Mode, NetworkShare, Ports, Severity, SharedEvidence,
    SignatureEvidence, Victim,
};

use crate::document::tests::evidence;

pub(crate) fn hint(port: u16) -> FleetMessage {
    let signature = evidence(port, 512).signature;
    FleetMessage::Hint(Hint { port, signature, reporters: 2, ttl_s: 60 })
}

pub(crate) fn rule(serial: u64) -> FleetMessage {
    FleetMessage::Rule(FleetRule {
        name: FleetName { role: "ops".to_owned(), serial },
        action: FleetAction::Block,
        net: "203.0.113.0/24".parse().expect("a prefix"),
        ports: Ports::EVERY,
        lifetime_s: 600,
        reason: String::new(),
    })
}

/// A spoofed flood of 100,000 SYN/s at port 443, without options, of which nearly all is dropped.
pub(crate) fn flood(incident: u64) -> SharedEvidence {
    SharedEvidence {
        incident,
        class: IncidentClass::RandomSpoofed,
        severity: Severity::Critical,
        listener: Listener { addr: "192.0.2.10".parse().expect("an address"), port: 443 },
        listeners: 1,
        victims: vec![Victim { addr: "192.0.2.10".parse().expect("an address"), share: 1.0 }],
        age_s: 30,
        syn_pps: 100_000.0,
        peak_syn_pps: 120_000.0,
        dropped_pps: 97_000.0,
        cookie_pps: 3_000.0,
        syns: 3_000_000,
        dropped: 2_910_000,
        cookies_sent: 90_000,
        completion: 0.001,
        sources: 90_000,
        indicators: 4,
        confidence: 0.938,
        top_networks: vec![NetworkShare {
            net: "203.0.113.0/24".parse().expect("a prefix"),
            share: 0.01,
        }],
        signatures: vec![SignatureEvidence {
            signature: evidence(443, 512).signature,
            share: 0.99,
            clients: 0,
            hits: 2_910_000,
        }],
        client_lengths: vec![ClientLength { ipv6: false, length: Some(60), completions: 3_000 }],
    }
}

/// The report of an agent under a flood.
pub(crate) fn report() -> FleetReport {
    FleetReport {
        schema: FleetReport::SCHEMA.to_owned(),
        version: "0.1.0".to_owned(),
        boot: "b0".to_owned(),
        mode: Mode::Enforce,
        ports: vec![22, 443],
        incidents: vec![flood(3)],
        backlog_lost_pps: Some(0.0),
        links: vec![LinkPressure {
            interface: "eth0".to_owned(),
            rx_pps: 120_000.0,
            rx_bps: 60_000_000.0,
            lost_pps: Some(1200.0),
        }],
        hints: vec![HintReport {
            port: 22,
            signature: evidence(22, 1024).signature,
            reporters: 2,
            syns: 7,
            cookies_ahead: false,
        }],
        rules: 1,
        allowed: 0,
        names: Vec::new(),
        refused: BTreeMap::new(),
        refused_rules: Vec::new(),
        dropped: 0,
    }
}
