//! A request to the provider of the network to filter a flood, to be pasted into a message.

use std::net::IpAddr;

use tcpguard_engine::{IncidentClass, Scope, SignatureShare, SourceOrigin};
use tcpguard_host::time::Time;
use tcpguard_host::units::{percent, short};

use super::super::class::words;
use super::content::DOMINATES;
use crate::documents::{self, FullIncident, Incident};

/// Most destinations that are listed one by one.
const LISTED: usize = 4;

/// The request in lines; none where there is nothing to filter.
pub fn provider(full: &FullIncident) -> Vec<String> {
    let incident = &full.incident;
    if !incident.class.is_of_provider() {
        return Vec::new();
    }
    let destinations = destinations(full);
    let end = incident.last_seen().map_or_else(|| "continues".to_owned(), utc);
    let facts = incident.class.facts();
    let packets = if facts.scope == Scope::Replies { "SYN-ACK" } else { "SYN" };
    let line = |label: &str, value: &str| format!("{label}: {value}");
    let mut lines = vec![
        line("Request", request(incident)),
        line("Destination", &destination(&destinations, incident.port)),
        line("Start", &utc(incident.since)),
        line("End", &end),
        line(
            "Rate",
            &format!(
                "peak {} {packets}/s (mean of 1s), total {}",
                short(incident.peak_syn_pps),
                short(incident.counts.syns as f64)
            ),
        ),
        line("Sources", &sources(incident)),
    ];
    // No filter reads the frames that XDP cannot read.
    if facts.scope != Scope::UnreadableFrames {
        lines.push(line("Filter (tcpdump)", &filter(incident, &destinations)));
    }
    let signature = match (filtered(incident), dominant(incident)) {
        (Some(top), _) => format!("{}, {} of the flood", top.text, percent(top.share)),
        (None, Some(_)) => "that of our clients, so do not filter by signature".to_owned(),
        (None, None) => return lines,
    };
    lines.push(line("Signature", &signature));
    lines
}

/// Time in UTC, as providers keep theirs.
fn utc(time: Time) -> String {
    time.0.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn request(incident: &Incident) -> &'static str {
    match words(incident.class).request {
        "" if filtered(incident).is_some() => {
            "please drop the SYNs that the filter matches, not by source address"
        }
        "" => "please mitigate this SYN flood upstream, not by source address",
        request => request,
    }
}

/// The signature of most SYNs of the flood.
fn dominant(incident: &Incident) -> Option<&SignatureShare> {
    incident.evidence.signatures.first().filter(|top| top.share >= DOMINATES)
}

/// The same, unless clients have it: a filter by it would drop them too.
fn filtered(incident: &Incident) -> Option<&SignatureShare> {
    dominant(incident).filter(|top| top.completed == 0)
}

/// The attacked addresses: that of the listener, else those in the recorded SYNs.
pub fn destinations(full: &FullIncident) -> Vec<IpAddr> {
    let FullIncident { incident, record, .. } = full;
    if !incident.dst.is_unspecified() {
        return vec![incident.dst];
    }
    let recorded =
        record.syn_headers.iter().filter_map(|header| documents::destination(&header.bytes));
    let mut addresses: Vec<IpAddr> = recorded.collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(LISTED);
    addresses
}

/// Addresses and port in words.
pub fn destination(addresses: &[IpAddr], port: u16) -> String {
    let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    let addresses = match addresses.as_slice() {
        [] => "every address of this host".to_owned(),
        some => some.join(", "),
    };
    match port {
        0 => format!("{addresses}, all TCP ports"),
        port => format!("{addresses}, TCP port {port}"),
    }
}

fn sources(incident: &Incident) -> String {
    let evidence = &incident.evidence;
    let top = evidence.top_sources.iter().filter(|top| top.share >= DOMINATES / 10.0);
    let top: Vec<String> = top.map(|top| format!("{} {}", top.addr, percent(top.share))).collect();
    let facts = incident.class.facts();
    match (facts.origin, facts.scope) {
        (SourceOrigin::Spoofed, _) => "spoofed".to_owned(),
        (_, Scope::Replies) => "real hosts that answer SYNs spoofed with our address".into(),
        _ if !top.is_empty() => format!("{} (not known if spoofed)", top.join(", ")),
        _ if evidence.sources_estimate > 0 => {
            let sources = short(evidence.sources_estimate as f64);
            format!("at least {sources} (not known if spoofed)")
        }
        _ => "not known".to_owned(),
    }
}

/// The packets as a filter of tcpdump.
fn filter(incident: &Incident, destinations: &[IpAddr]) -> String {
    let evidence = &incident.evidence;
    let mut terms: Vec<String> = Vec::new();
    let hosts: Vec<String> = destinations.iter().map(|addr| format!("dst host {addr}")).collect();
    match hosts.as_slice() {
        [] => {}
        [one] => terms.push(one.clone()),
        several => terms.push(format!("({})", several.join(" or "))),
    }
    if incident.class.facts().scope == Scope::Replies {
        terms.push("tcp[tcpflags] & (tcp-syn|tcp-ack) = (tcp-syn|tcp-ack)".to_owned());
        return terms.join(" and ");
    }
    if incident.port != 0 {
        terms.push(format!("tcp dst port {}", incident.port));
    }
    if incident.class == IncidentClass::SingleSource
        && let Some(top) = evidence.top_sources.first()
    {
        terms.push(format!("src host {}", top.addr));
    }
    let of_signature = filtered(incident).and(evidence.signature_filter.clone());
    terms
        .push(of_signature.unwrap_or_else(|| "tcp[tcpflags] & (tcp-syn|tcp-ack) = tcp-syn".into()));
    terms.join(" and ")
}
