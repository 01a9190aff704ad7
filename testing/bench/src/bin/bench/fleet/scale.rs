//! The needs of a fleet of 100,000 hosts, computed from the costs that were measured with fewer: the cost of a delivery
//! and of a connection does not depend on the number of hosts.

use anyhow::Result;
use serde::Serialize;
use tcpguard_fleet::document::RuleKind;
use tcpguard_fleet::trust::MAX_RULES;
use tcpguard_fleet_kit::documents::{Operator, PORT, Peer};

/// Number of hosts, and of servers of sites that share them.
pub const HOSTS: f64 = 100_000.0;
pub const SERVERS: f64 = 10.0;
/// Different signatures at a time in the whole fleet.
const SIGNATURES: f64 = 50.0;
/// Attacked hosts and signatures of each, without suppression.
const ATTACKED: f64 = 1_000.0;
const OF_EACH: f64 = 2.0;
/// Seconds within which all hosts are back after a loss of all servers: the longest pause between two tries.
const RETURN: f64 = 30.0;

/// Sizes of documents in bytes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Documents {
    /// Evidence about a signature, with its subject.
    pub signature: usize,
    /// A signed rule, with its subject.
    pub rule: usize,
}

impl Documents {
    /// Sizes of documents as hosts and operators write them.
    pub fn measured() -> Result<Self> {
        let signature = Peer::new(1)?.signature(PORT, 512)?;
        let rule = Operator::new(7).rule(RuleKind::Block, "203.0.113.0/24")?;
        Ok(Self {
            signature: signature.subject.len() + signature.document.len(),
            rule: rule.subject.len() + rule.document.len(),
        })
    }
}

/// Measured costs that do not depend on the number of hosts.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// CPU time of the server for a delivery, in µs.
    pub delivery_us: f64,
    /// Memory of the server for a connection, in KiB.
    pub connection_kib: f64,
    /// CPU time of the server for a connection, in ms.
    pub connection_ms: f64,
    /// Messages about one signature in a minute, of all hosts together, with suppression.
    pub per_signature: f64,
    /// Messages about one signature in a minute of one host, without suppression.
    pub unsuppressed: f64,
    /// Messages of a host about itself in a minute.
    pub heartbeats: f64,
    /// Sizes of documents.
    pub documents: Documents,
}

/// One need: of each server of a site, and of the fleet.
#[derive(Clone, Debug, PartialEq)]
pub struct Need {
    /// Subject of the row, with its unit.
    pub name: String,
    /// The assumption.
    pub given: String,
    /// Value of each server, if it is one of servers.
    pub server: Option<f64>,
    /// Value of the fleet.
    pub fleet: f64,
}

/// The needs of the fleet.
pub fn needs(costs: &Costs) -> Vec<Need> {
    let Costs { delivery_us, connection_kib, connection_ms, per_signature, .. } = *costs;
    let Costs { unsuppressed, heartbeats, documents, .. } = *costs;
    let each = |name: &str, given: String, fleet: f64| Need {
        name: name.to_owned(),
        given,
        server: Some(fleet / SERVERS),
        fleet,
    };
    let once = |name: &str, given: String, fleet: f64| Need {
        name: name.to_owned(),
        given,
        server: None,
        fleet,
    };
    let evidence = SIGNATURES * per_signature / 60.0;
    let flood = ATTACKED * OF_EACH * unsuppressed / 60.0;
    let cores = |messages: f64| messages * HOSTS * delivery_us / 1e6;
    vec![
        each("connections", "TLS".to_owned(), HOSTS),
        each(
            "memory of connections (GB)",
            format!("{connection_kib:.0} KiB each"),
            HOSTS * connection_kib * 1024.0 / 1e9,
        ),
        once(
            "evidence (messages/s)",
            format!("{SIGNATURES} signatures, {per_signature:.0} messages a minute each"),
            evidence,
        ),
        each(
            "deliveries of evidence (1/s)",
            "every host listens on the attacked port".to_owned(),
            evidence * HOSTS,
        ),
        each("CPU for these (cores)", format!("{delivery_us:.1} µs each"), cores(evidence)),
        each(
            "traffic of evidence (MB/s)",
            format!("{} bytes each", documents.signature),
            evidence * HOSTS * documents.signature as f64 / 1e6,
        ),
        each(
            "CPU without suppression (cores)",
            format!("{ATTACKED} attacked hosts, {OF_EACH} signatures each"),
            cores(flood),
        ),
        once(
            "heartbeats, to each collector (1/s)",
            format!("{heartbeats:.1} a minute of each host"),
            HOSTS * heartbeats / 60.0,
        ),
        each(
            "CPU time of one message to all (s)",
            "such as an operator's rule".to_owned(),
            HOSTS * delivery_us / 1e6,
        ),
        each(
            "CPU for a return of all within 30 s (cores)",
            format!("{connection_ms:.2} ms each"),
            HOSTS / RETURN * connection_ms / 1e3,
        ),
        once(
            "rules that a new host reads (MB)",
            format!("{MAX_RULES} rules of {} bytes", documents.rule),
            MAX_RULES as f64 * documents.rule as f64 / 1e6,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSTS: Costs = Costs {
        delivery_us: 10.0,
        connection_kib: 40.0,
        connection_ms: 0.3,
        per_signature: 9.0,
        unsuppressed: 3.0,
        heartbeats: 2.0,
        documents: Documents { signature: 500, rule: 700 },
    };

    fn need(name: &str) -> Need {
        needs(&COSTS).into_iter().find(|need| need.name.starts_with(name)).expect(name)
    }

    #[test]
    fn servers_share_the_connections_and_the_deliveries() {
        assert_eq!(need("connections").server, Some(10_000.0));
        let evidence = need("evidence (messages/s)");
        assert_eq!((evidence.server, evidence.fleet), (None, 7.5));
        assert_eq!(need("deliveries").fleet, 750_000.0);
        assert_eq!(need("CPU for these").server, Some(0.75));
        assert_eq!(need("CPU time of one message").server, Some(0.1));
    }

    /// With suppression the load does not depend on the number of attacked hosts.
    #[test]
    fn suppression_saves_what_a_server_could_not_carry() {
        assert_eq!(need("CPU without suppression").server, Some(10.0));
    }

    #[test]
    fn documents_are_far_below_what_the_bus_takes() {
        let documents = Documents::measured().unwrap();
        assert!((200..2048).contains(&documents.signature), "{documents:?}");
        assert!((400..2048).contains(&documents.rule), "{documents:?}");
    }
}
