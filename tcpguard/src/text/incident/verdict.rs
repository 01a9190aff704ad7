//! The outcome of an incident in one sentence.

use tcpguard_host::units::short;

use super::content::treatment;
use crate::documents::{Clients, Connect, Incident};

/// Fate of the SYNs and of the clients: `93.1% of all SYNs dropped, clients connected: mean 50/s (baseline
/// 50/s)`.
pub fn verdict(incident: &Incident) -> String {
    let fate = match incident.class.is_flood() {
        true => treatment(incident).join(", "),
        false => "not an attack, nothing dropped".to_owned(),
    };
    let clients = (!incident.class.is_of_host()).then(|| clients(incident));
    let sentence = [Some(fate), clients].into_iter().flatten().collect::<Vec<_>>().join(", ");
    let (first, rest) = sentence.split_at(1);
    format!("{}{rest}", first.to_uppercase())
}

fn clients(incident: &Incident) -> String {
    let open = incident.ended_at.is_none();
    let known = incident.clients.and_then(|clients| Some((clients.connect()?, clients)));
    let Some((connect, Clients { completed_pps, baseline_pps, .. })) = known else {
        return format!("{} handshakes completed", short(incident.completed as f64));
    };
    let fate = match (connect, open) {
        (Connect::All, true) => "clients connect",
        (Connect::All, false) => "clients connected",
        (Connect::Some, true) => "some clients do not connect",
        (Connect::Some, false) => "some clients did not connect",
        (Connect::Few, true) => "most clients do not connect",
        (Connect::Few, false) => "most clients did not connect",
    };
    let baseline = baseline_pps
        .map_or_else(String::new, |baseline| format!(" (baseline {}/s)", short(baseline)));
    // The rate of a closed incident is the mean of its duration, which may hide a short outage.
    let mean = if open { "" } else { "mean " };
    format!("{fate}: {mean}{}/s{baseline}", short(completed_pps))
}
