//! Documents as pages for people.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use tcpguard_host::escape;
use tcpguard_host::finding::Finding;
use tcpguard_host::time::Time;
use tcpguard_host::units::{counted, percent, short, span};

use crate::collect::{FleetHost, FleetIncident, FleetRoute, FleetStatus};
use crate::daemon::status::{ControllerStatus, EdgeStatus, ProcessStatus};
use crate::document::{AnnouncedRoute, HostId, ReliefRoute, RouteState};

/// Incidents that have ended and are shown.
const PAST: usize = 5;
/// Reasons and senders of refused documents that are shown, and ignored hosts.
const LISTED: usize = 8;

/// The fleet.
pub(super) fn fleet(fleet: &FleetStatus) -> String {
    let mut page = String::new();
    let summary = &fleet.summary;
    let state = match (fleet.incidents.is_empty(), fleet.health.is_empty()) {
        (false, _) => counted(fleet.incidents.len() as u64, "open incident"),
        (true, true) => "no open incident".to_owned(),
        (true, false) => "no open incident, and problems".to_owned(),
    };
    let _ = writeln!(
        page,
        "{}, {} silent, {} attacked: {state}",
        counted(summary.hosts.into(), "host"),
        summary.silent,
        summary.attacked
    );
    if fleet.listening_s < 40 {
        let _ = writeln!(
            page,
            "incomplete: listening for {}s, every host reports within 40s",
            fleet.listening_s
        );
    }
    health(&mut page, &fleet.health);
    let senders = fleet.hosts.iter().filter(|host| host.refused > 0);
    refused(&mut page, &fleet.refused, senders.map(|host| (&*host.hostname, host.refused)));
    if !fleet.incidents.is_empty() {
        page.push_str("\nIncidents\n");
        let rows = fleet.incidents.iter().map(|open| incident(open, fleet.generated_at));
        table(&mut page, ["ID", "CLASS", "HOSTS", "SYN/S", "DROPPED", "FOR", "VICTIMS"], rows);
    }
    if !fleet.past_incidents.is_empty() {
        page.push_str("\nPast incidents\n");
        let past = fleet.past_incidents.iter().take(PAST);
        let rows = past.map(|past| incident(past, fleet.generated_at));
        table(&mut page, ["ID", "CLASS", "HOSTS", "SYN/S", "DROPPED", "FOR", "VICTIMS"], rows);
    }
    if !fleet.routes.is_empty() {
        page.push_str("\nRoutes\n");
        let rows = fleet.routes.iter().map(|route| fleet_route(fleet, route));
        table(&mut page, ["HOST", "STATE", "ROUTE", "REASON"], rows);
    }
    if !fleet.hosts.is_empty() {
        page.push_str("\nHosts\n");
        let rows = fleet.hosts.iter().map(|host| fleet_host(host, fleet.generated_at));
        table(
            &mut page,
            ["HOST", "NAME", "SITE", "STATE", "MODE", "VERSION", "SYN/S", "SEEN"],
            rows,
        );
    }
    page
}

/// A process of this host.
pub(super) fn process(process: &ProcessStatus) -> String {
    let mut page = String::new();
    let _ = writeln!(page, "host {}: bus {}", process.host, process.bus.words());
    health(&mut page, &process.health);
    if let Some(edge) = &process.edge {
        self::edge(&mut page, edge);
    }
    if let Some(controller) = &process.controller {
        self::controller(&mut page, controller);
    }
    page
}

fn edge(page: &mut String, edge: &EdgeStatus) {
    let agent = if edge.agent { "connected" } else { "not connected" };
    let _ = writeln!(
        page,
        "agent {agent}, {}, {}",
        counted(edge.hints.into(), "hint"),
        counted(edge.rules.len() as u64, "rule"),
    );
    refused(page, &edge.refused, []);
    if !edge.muted.is_empty() {
        let muted: Vec<&str> = edge.muted.iter().map(HostId::as_str).take(LISTED).collect();
        let more = match edge.muted.len().saturating_sub(LISTED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let _ = writeln!(page, "ignored for 10m: {}{more}", muted.join(", "));
    }
    if !edge.rules.is_empty() {
        page.push_str("\nRules of the fleet\n");
        let rows = edge.rules.iter().map(|rule| {
            let state = rule.refused.as_deref().unwrap_or_default();
            [
                rule.name.clone(),
                rule.action.clone(),
                format!("{}{}", rule.prefix, rule.ports),
                rule.ends.to_string(),
                shown(&rule.who),
                shown(&rule.reason),
                shown(state),
            ]
        });
        table(page, ["RULE", "ACTION", "PREFIX", "ENDS", "BY", "REASON", "REFUSED"], rows);
    }
    if let Some(relief) = &edge.relief {
        let _ = writeln!(page, "\nRelief: {}", <&str>::from(relief.phase));
        for asked in &relief.asked {
            let state = if relief.announced.contains(asked) { "announced" } else { "asked for" };
            let _ = writeln!(page, "  {state}: {}", route(asked));
        }
    }
    for hook in &edge.hooks {
        let (target, failed) = (shown(&hook.target), hook.failed + hook.dropped);
        let _ = writeln!(page, "hook {target}: {} delivered, {failed} lost", hook.delivered);
    }
}

fn controller(page: &mut String, controller: &ControllerStatus) {
    let session = match (controller.dry_run, controller.established) {
        (true, _) => "dry run",
        (false, true) => "BGP session established",
        (false, false) => "no BGP session",
    };
    let _ = writeln!(page, "controller: {session}, {}", counted(controller.table.into(), "route"));
    for (host, routes) in &controller.hosts {
        for AnnouncedRoute { route: asked, state, reason, .. } in routes {
            let reason = reason.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
            let _ = writeln!(page, "  {host}: {} {}{}", name(*state), route(asked), shown(&reason));
        }
    }
}

fn health(page: &mut String, findings: &[Finding]) {
    for finding in findings {
        let mark = finding.severity.name().to_uppercase();
        let _ = writeln!(page, "{mark}: {}", shown(&finding.text));
        if let Some(hint) = &finding.hint {
            let _ = writeln!(page, "  hint: {}", shown(hint));
        }
    }
}

/// Documents that were refused, by reason and by sender, the largest numbers first.
fn refused<'a>(
    page: &mut String,
    reasons: &BTreeMap<String, u64>,
    senders: impl IntoIterator<Item = (&'a str, u64)>,
) {
    let listed = |mut counts: Vec<(&str, u64)>| {
        counts.sort_by_key(|(_, count)| Reverse(*count));
        let most = counts.iter().take(LISTED);
        let items: Vec<String> =
            most.map(|(name, count)| format!("{} {count}", shown(name))).collect();
        items.join(", ")
    };
    if reasons.is_empty() {
        return;
    }
    let total = counted(reasons.values().sum(), "document");
    let reasons = reasons.iter().map(|(reason, count)| (&**reason, *count)).collect();
    let _ = writeln!(page, "{total} refused: {}", listed(reasons));
    let senders: Vec<_> = senders.into_iter().collect();
    if !senders.is_empty() {
        let _ = writeln!(page, "  from: {}", listed(senders));
    }
}

fn incident(incident: &FleetIncident, now: Time) -> [String; 7] {
    let victims: Vec<String> = incident.victims.iter().take(3).map(ToString::to_string).collect();
    let more = match incident.victims.len().saturating_sub(3) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let rate = if incident.ended.is_some() { incident.peak_syn_pps } else { incident.syn_pps };
    [
        incident.id.to_string(),
        incident.class.name().to_owned(),
        format!("{}/{}", incident.open, incident.parts),
        short(rate),
        percent(incident.dropped_share),
        since(incident.since, incident.ended.unwrap_or(now)),
        victims.join(", ") + &more,
    ]
}

fn fleet_route(fleet: &FleetStatus, found: &FleetRoute) -> [String; 4] {
    let host = fleet.hosts.iter().find(|host| host.host == found.host);
    [
        host.map_or_else(|| found.host.to_string(), |host| shown(&host.hostname)),
        name(found.state).to_owned(),
        route(&found.route),
        found.reason.as_deref().map(shown).unwrap_or_default(),
    ]
}

fn fleet_host(host: &FleetHost, now: Time) -> [String; 8] {
    let (state, mode, version, rate) = match &host.agent {
        _ if host.silent => ("silent".to_owned(), String::new(), String::new(), String::new()),
        None => ("no agent".to_owned(), String::new(), host.version.clone(), String::new()),
        Some(agent) => {
            let mode = agent.mode.name().to_owned();
            (agent.state.clone(), mode, agent.version.clone(), short(agent.syn_pps))
        }
    };
    [
        host.host.to_string(),
        shown(&host.hostname),
        host.site.as_ref().map(ToString::to_string).unwrap_or_default(),
        state,
        mode,
        shown(&version),
        rate,
        format!("{} ago", since(host.last_seen, now)),
    ]
}

/// A route in words.
fn route(route: &ReliefRoute) -> String {
    match route {
        ReliefRoute::Rtbh { destination } => format!("blackhole {destination}"),
        ReliefRoute::Flowspec { destination, port, length, rate_bytes_per_s } => {
            let length = match length {
                None => String::new(),
                Some([first, last]) if first == last => format!(" of {first} bytes"),
                Some([first, last]) => format!(" of {first} to {last} bytes"),
            };
            let rate = match rate_bytes_per_s {
                None => "drop".to_owned(),
                Some(rate) => format!("limit to {rate} bytes/s"),
            };
            format!("SYNs{length} to {destination} port {port}: {rate}")
        }
    }
}

const fn name(state: RouteState) -> &'static str {
    match state {
        RouteState::Announced => "announced",
        RouteState::DryRun => "dry run",
        RouteState::Pending => "pending",
        RouteState::Refused => "refused",
    }
}

/// Time from one moment to another.
fn since(begin: Time, end: Time) -> String {
    let passed = end.0.as_millisecond().saturating_sub(begin.0.as_millisecond());
    span(std::time::Duration::from_millis(u64::try_from(passed).unwrap_or_default()))
}

/// Text of others without characters that a terminal would obey.
fn shown(text: &str) -> String {
    escape::shown(text).into_owned()
}

/// Columns under headings, as wide as their content.
fn table<const N: usize>(
    page: &mut String,
    headings: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) {
    let rows: Vec<[String; N]> = rows.collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([headings[column].chars().count()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let headings = headings.map(str::to_owned);
    for row in [&headings].into_iter().chain(&rows) {
        let cells =
            row.iter().zip(widths.iter().copied()).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(page, "  {}", line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tcpguard_engine::Timestamp;
    use tcpguard_host::time::Clock;

    use super::*;
    use crate::collect::Collector;
    use crate::document::tests::{AT, envelope, facts, heartbeat, host, time};
    use crate::document::{Announced, Document, Envelope, Incident, Part, Subject};

    fn clock(seconds: u64) -> Clock {
        let passed = Duration::from_secs(seconds);
        let wall = time(AT).0.checked_add(passed).expect("a time");
        Clock { now: Timestamp::from_millis(1_000_000) + passed, wall }
    }

    fn status() -> FleetStatus {
        let mut collector = Collector::new(clock(0).now);
        let sent = |seq| Envelope { ttl_s: 60, ..envelope(7, seq) };
        let route = ReliefRoute::Flowspec {
            destination: "192.0.2.10/32".parse().expect("a prefix"),
            port: 443,
            length: Some([40, 40]),
            rate_bytes_per_s: Some(12_500),
        };
        let announced = Announced {
            envelope: envelope(9, 1),
            part: Part { part: 0, parts: 1 },
            about: host(7),
            established: true,
            routes: vec![AnnouncedRoute {
                route,
                state: RouteState::Announced,
                since: time(AT),
                reason: None,
            }],
        };
        for document in [
            Document::Host(heartbeat(Envelope { ttl_s: 90, ..sent(1) })),
            Document::Incident(Incident { envelope: sent(2), facts: facts(3, "192.0.2.10/32") }),
            Document::Announced(announced),
        ] {
            let subject = Subject::of(&document).expect("a subject").to_string();
            let bytes = document.to_json().expect("JSON");
            collector.handle_document(clock(1), &subject, &bytes).expect("taken");
        }
        collector.status(clock(61))
    }

    #[test]
    fn the_fleet_is_a_page() {
        let page = fleet(&status());
        let first = page.lines().next().expect("a line");
        assert_eq!(first, "1 host, 0 silent, 1 attacked: 1 open incident");
        for words in [
            "random_spoofed",
            "192.0.2.10/32",
            "SYNs of 40 bytes to 192.0.2.10/32 port 443: limit to 12500 bytes/s",
            "web1.example.net",
            "enforce",
        ] {
            assert!(page.contains(words), "{words}: {page}");
        }
        assert!(page.lines().all(|line| line == line.trim_end()), "{page}");
    }

    #[test]
    fn the_documentation_shows_the_page() {
        let documentation = include_str!("../../../docs/fleet.md");
        let page = fleet(&status());
        assert!(documentation.contains(&format!("```\n{page}```\n")), "{page}");
    }

    #[test]
    fn refused_documents_are_listed_by_reason_and_sender() {
        let mut status = status();
        assert!(!fleet(&status).contains("refused"));
        status.refused = [("clock_skew".to_owned(), 3), ("replayed".to_owned(), 12)].into();
        status.hosts[0].refused = 15;
        let page = fleet(&status);
        let expected =
            "15 documents refused: replayed 12, clock_skew 3\n  from: web1.example.net 15\n";
        assert!(page.contains(expected), "{page}");
    }

    #[test]
    fn a_host_names_the_hosts_that_it_ignores() {
        let mut page = String::new();
        let status = EdgeStatus {
            agent: true,
            ports: 2,
            incidents: 0,
            hints: 1,
            rules: Vec::new(),
            refused: [("same_host".to_owned(), 1)].into(),
            muted: vec![host(7), host(8)],
            suppressed: 0,
            dropped: 0,
            hooks: Vec::new(),
            relief: None,
        };
        edge(&mut page, &status);
        assert_eq!(
            page,
            "agent connected, 1 hint, 0 rules\n1 document refused: same_host 1\n\
             ignored for 10m: 00000007, 00000008\n"
        );
    }

    #[test]
    fn text_of_others_cannot_move_the_cursor() {
        let mut status = status();
        status.hosts[0].hostname = "web\u{1b}[2J".to_owned();
        assert!(!fleet(&status).contains('\u{1b}'));
    }

    #[test]
    fn columns_are_as_wide_as_their_content() {
        let mut page = String::new();
        let rows = [["a".to_owned(), "1".to_owned()], ["long".to_owned(), "2".to_owned()]];
        table(&mut page, ["N", "VALUE"], rows.into_iter());
        assert_eq!(page, "  N     VALUE\n  a     1\n  long  2\n");
    }
}
