//! Documents of other hosts, rules of operators, and reports of agents: as they would be in an attack on port 443 by
//! SYNs without options.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use ipnet::IpNet;
use tcpguard_engine as engine;
use tcpguard_engine::{
    ClientLength, FleetReport, IncidentClass, LinkPressure, Listener, Mode, Ports, Severity,
    SharedEvidence, Victim,
};
use tcpguard_fleet::document::{
    Document, Envelope, HostId, HostSelector, Kind, Label, Part, Relief, ReliefRoute, RuleBody,
    RuleKey, RuleKind, Sender, Signature, SignatureEvidence, Subject, signature_id,
};
use tcpguard_fleet::trust::OperatorKey;
use tcpguard_host::linux::boot_time;
use tcpguard_host::time::{Clock, Time};
pub use tcpguard_kit::daemon::siege::{PORT, signature};

/// SYNs per second of the attacks.
const RATE: f64 = 100_000.0;

/// A host that speaks for itself on the bus.
#[derive(Clone, Debug)]
pub struct Peer {
    sender: Sender,
}

/// A document and its subject.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Subject under which it is to be published.
    pub subject: String,
    /// The document.
    pub document: Vec<u8>,
}

/// An operator of the role `ops`.
pub struct Operator {
    key: OperatorKey,
    serial: u64,
}

/// A rule, and its key in the durable store.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Subject under which it is stored.
    pub subject: String,
    /// The signed rule.
    pub document: Vec<u8>,
    /// Number of the rule in its role.
    pub serial: u64,
}

/// Name of host `number` on the bus.
pub fn name(number: impl Into<u16>) -> String {
    format!("a1b2{:04x}", number.into())
}

/// Both clocks now.
pub fn clock() -> Clock {
    Clock { now: boot_time(), wall: jiff::Timestamp::now() }
}

/// A host's evidence about the signature with this window.
pub fn evidence(port: u16, window: u16) -> SignatureEvidence {
    let signature = signature(window);
    SignatureEvidence {
        port,
        id: signature_id(&signature),
        signature,
        class: IncidentClass::RandomSpoofed,
        syn_pps: RATE,
        share: 0.999,
        confidence: 0.938,
        clients_like_it: 0,
        hits: 1_400_000,
    }
}

impl Peer {
    /// Host `number`, started now.
    pub fn new(number: u8) -> Result<Self> {
        let host: HostId = name(number).parse().context("a name of a host")?;
        Ok(Self { sender: Sender::new(host, None, Sender::boot(clock(), 0)) })
    }

    /// Its evidence about the signature with this window.
    pub fn signature(&mut self, port: u16, window: u16) -> Result<Sent> {
        let envelope = self.envelope(Kind::Signature);
        sent(&Document::Signature(Signature { envelope, evidence: evidence(port, window) }))
    }

    /// Its request for these routes, or for none any longer. A host may ask for five in one document.
    pub fn relief(&mut self, wanted: &[ReliefRoute]) -> Result<Vec<Sent>> {
        let parts = Part::divide(wanted, Relief::MAX_ROUTES).into_iter();
        let parts = parts.map(|(part, wanted)| {
            let envelope = self.envelope(Kind::Relief);
            sent(&Document::Relief(Relief { envelope, part, incident: 1, pressure: 0.95, wanted }))
        });
        parts.collect()
    }

    fn envelope(&mut self, kind: Kind) -> Envelope {
        self.sender.envelope(clock(), kind)
    }
}

fn sent(document: &Document) -> Result<Sent> {
    let subject = Subject::of(document).context("a document of a host")?.to_string();
    Ok(Sent { subject, document: document.to_json()? })
}

/// A FlowSpec rule for SYNs of this length to port 443 of an address, which lets 12,500 bytes per second pass.
pub fn flowspec(destination: &str, length: u16) -> Result<ReliefRoute> {
    Ok(ReliefRoute::Flowspec {
        destination: destination.parse()?,
        port: PORT,
        length: Some([length, length]),
        rate_bytes_per_s: Some(12_500),
    })
}

/// A route that gives up an address.
pub fn blackhole(destination: &str) -> Result<ReliefRoute> {
    Ok(ReliefRoute::Rtbh { destination: destination.parse()? })
}

impl Operator {
    /// An operator with the key of this seed.
    pub fn new(seed: u8) -> Self {
        Self { key: OperatorKey::from_seed(&[seed; 32]), serial: 0 }
    }

    /// The section of a host's configuration that trusts the operator.
    pub fn role(&self) -> String {
        format!("[[role]]\nname = \"ops\"\nkeys = [\"{}\"]\n", self.key.public())
    }

    /// Content of the operator's key file.
    pub fn key_file(&self) -> String {
        self.key.to_file()
    }

    /// The next rule, for these sources, at every host, for ten minutes.
    pub fn rule(&mut self, kind: RuleKind, prefix: &str) -> Result<Stored> {
        self.serial += 1;
        let serial = self.serial;
        let role: Label = "ops".parse().context("a name of a role")?;
        let prefix: IpNet = prefix.parse()?;
        let not_after = jiff::Timestamp::now().checked_add(Duration::from_secs(600))?;
        let rule = RuleBody {
            kind,
            prefix,
            ports: Ports::EVERY,
            hosts: HostSelector::default(),
            not_after: Time(not_after),
            reason: "test".to_owned(),
            who: "ada".to_owned(),
            serial,
        };
        let key = RuleKey { role: role.clone(), target: rule.target() };
        let document = Document::Rule(self.key.sign(role, &rule)?).to_json()?;
        Ok(Stored { subject: format!("$KV.rule.{key}"), document, serial })
    }
}

/// The report of an agent without incidents.
pub fn calm_report() -> FleetReport {
    FleetReport {
        schema: FleetReport::SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        boot: "b0".to_owned(),
        mode: Mode::Enforce,
        ports: vec![PORT],
        incidents: Vec::new(),
        links: vec![link(1_000.0)],
        backlog_lost_pps: Some(0.0),
        hints: Vec::new(),
        rules: 0,
        allowed: 0,
        refused: BTreeMap::new(),
        names: Vec::new(),
        refused_rules: Vec::new(),
        dropped: 0,
    }
}

/// The link of a host that receives so many frames of 512 bits per second.
pub fn link(rx_pps: f64) -> LinkPressure {
    LinkPressure {
        interface: "eth0".to_owned(),
        rx_pps,
        rx_bps: 512.0 * rx_pps,
        lost_pps: Some(0.0),
    }
}

/// The incident of an agent that drops SYNs with this window to `victim`.
pub fn incident(number: u64, victim: &str, window: u16) -> Result<SharedEvidence> {
    let addr = victim.parse()?;
    Ok(SharedEvidence {
        incident: number,
        class: IncidentClass::RandomSpoofed,
        severity: Severity::Critical,
        listener: Listener { addr, port: PORT },
        listeners: 1,
        victims: vec![Victim { addr, share: 1.0 }],
        age_s: 10,
        syn_pps: RATE,
        peak_syn_pps: 1.2 * RATE,
        dropped_pps: 0.97 * RATE,
        cookie_pps: 0.03 * RATE,
        syns: 1_000_000,
        dropped: 970_000,
        cookies_sent: 30_000,
        completion: 0.001,
        sources: 900_000,
        indicators: 4,
        confidence: 0.938,
        top_networks: Vec::new(),
        signatures: vec![engine::SignatureEvidence {
            signature: signature(window),
            share: 0.999,
            clients: 0,
            hits: 970_000,
        }],
        client_lengths: vec![ClientLength {
            ipv6: addr.is_ipv6(),
            length: Some(60),
            completions: 1_000,
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_those_that_every_host_accepts() {
        let mut peer = Peer::new(1).unwrap();
        let first = peer.signature(PORT, 512).unwrap();
        assert_eq!(first.subject, "tg.1.sig.443.a1b20001");
        assert!(Document::parse(&first.document).is_ok());
        let routes: Vec<_> =
            (40..47).map(|length| flowspec("192.0.2.10/32", length).unwrap()).collect();
        assert_eq!(peer.relief(&routes).unwrap().len(), 2, "seven routes are two parts");
        assert_eq!(peer.relief(&[]).unwrap().len(), 1, "an empty list is a part");
        let mut operator = Operator::new(7);
        let rule = operator.rule(RuleKind::Block, "203.0.113.0/24").unwrap();
        assert!(rule.subject.starts_with("$KV.rule.ops."), "{}", rule.subject);
        assert!(Document::parse(&rule.document).is_ok());
    }
}
