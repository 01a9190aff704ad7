//! Check that the host's packet filter admits clients that got SYN cookies.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::slice;

use super::super::document::Checked;
use super::super::facts::{ConfigFacts, Facts, InterfaceFacts};
use super::service::lacks;
use crate::finding::Finding;
use crate::firewall::{
    FirewallChoice, Kind, Offence, Question, Way, judge, mark_rules, redirection, unread,
};
use crate::obstacle::{Impeded, Obstacle};

/// A mark that is advised where none is configured: a bit that neither systemd, WireGuard's tools nor common container
/// networks take by default.
const MARK: u32 = 0x1000_0000;
/// The most rules that are named.
const NAMED: usize = 8;

/// Rules whose result depends on seeing the SYN, or that would have taken or changed it.
pub(in super::super) fn rules(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "firewall_rules";
    let firewall = &facts.firewall;
    let rules = match &firewall.rules {
        Ok(rules) => rules,
        Err(why) => return vec![Checked::unknown(CODE, why).hint("sudo tcpguard doctor")],
    };
    // Any other device above an attached interface shows its packets under another name.
    let plain = facts.interfaces.iter().all(|one| {
        let link = one.link.as_ref();
        link.is_some_and(|link| link.master.is_none() && link.vlans.is_empty())
    });
    let ways: Vec<Way> = match plain {
        true => facts.interfaces.iter().map(way).collect(),
        false => Vec::new(),
    };
    let open = facts.host.listeners.iter().filter(|one| !one.at.ip().is_loopback());
    let mut found: Vec<(Offence, BTreeSet<u16>)> = Vec::new();
    let mut limits: BTreeMap<u16, BTreeSet<u16>> = BTreeMap::new();
    for listener in open {
        let (addr, port) = (listener.at.ip(), listener.at.port());
        let to = if addr.is_unspecified() { &firewall.own[..] } else { slice::from_ref(&addr) };
        let question = Question {
            port,
            to,
            ipv4: addr.is_ipv4() || addr.is_unspecified(),
            ipv6: addr.is_ipv6(),
            ways: &ways,
            mark: firewall.mark,
        };
        let judged = judge(rules, &question);
        if let Some(limit) = judged.mss_limit {
            limits.entry(limit).or_default().insert(port);
        }
        for offence in judged.offences {
            match found.iter_mut().find(|(known, _)| *known == offence) {
                Some((_, ports)) => drop(ports.insert(port)),
                None => found.push((offence, BTreeSet::from([port]))),
            }
        }
    }
    let more = found.len().saturating_sub(NAMED);
    let mut findings: Vec<Checked> = found
        .iter()
        .take(NAMED)
        .map(|(offence, ports)| finding(CODE, facts, offence, ports))
        .collect();
    if more > 0 {
        findings.push(Checked::notice(CODE, format!("{more} more rules depend on seeing SYNs")));
    }
    findings.extend(limits.iter().map(|(limit, ports)| {
        let text = format!("SYN cookies keep an MSS of at most {limit}, as rules set it");
        Checked::passed(CODE, format!("{text}, on port {}", listed(ports)))
    }));
    if let Some(what) = unread(rules) {
        let text = format!("{what}: their effect on clients with SYN cookies is unknown");
        findings.push(Checked::notice(CODE, text).hint("iptables-legacy -S"));
    }
    let families = facts.service.unit.get("RestrictAddressFamilies").map_or("", String::as_str);
    if rules.chains.iter().any(|chain| chain.legacy) && lacks(families, "AF_INET") {
        let text = format!(
            "RestrictAddressFamilies={families}: the service cannot read iptables-legacy tables"
        );
        let hint =
            "edit by `systemctl edit tcpguard`: [Service] RestrictAddressFamilies=AF_INET AF_INET6";
        findings.push(Checked::warning(CODE, text).hint(hint));
    }
    if findings.is_empty() {
        let count: usize = rules.chains.iter().map(|chain| chain.rules.len()).sum();
        findings.push(Checked::passed(CODE, format!("{count} rules, none depends on seeing SYNs")));
    }
    findings
}

/// Listeners that get no SYN cookies, or none of tcpguard's own, because addresses or ports are translated.
pub(in super::super) fn cookies(facts: &Facts) -> Vec<Checked> {
    let firewall = &facts.firewall;
    let open = facts.host.listeners.iter().filter(|one| !one.at.ip().is_loopback());
    let redirects = open.filter_map(|one| {
        let rules = firewall.rules.as_ref().ok()?;
        Some(redirected(one.at, redirection(rules, &firewall.own, one.at.port())?))
    });
    let nat = firewall.nat().map(|nat| {
        let (obstacle, at) = (Obstacle::Nat { nat, no_helper: None }, Vec::<SocketAddr>::new());
        Impeded { obstacle, at }.finding()
    });
    redirects.chain(nat).map(Checked::from).collect()
}

/// The finding about a rule that translates a port of clients to a socket at `to`. The socket may have other clients.
fn redirected(to: SocketAddr, offence: Offence) -> Finding {
    let text = format!("no SYN cookies at the port that {offence} translates to {to}");
    let redirected = Obstacle::Redirected { offence: Box::new(offence), port: None };
    Finding::new(redirected.severity(), redirected.code(), text)
        .about(to.to_string())
        .hint(redirected.remedy())
}

fn way(interface: &InterfaceFacts) -> Way {
    Way { name: interface.name.clone(), index: 0 }
}

fn listed(ports: &BTreeSet<u16>) -> String {
    ports.iter().take(6).map(u16::to_string).collect::<Vec<_>>().join(", ")
}

fn finding(id: &str, facts: &Facts, offence: &Offence, ports: &BTreeSet<u16>) -> Checked {
    let firewall = &facts.firewall;
    let allowed = firewall.choice == FirewallChoice::Allow;
    let then = match (allowed, offence.kind) {
        (false, _) => "tcpguard's SYN cookies are not used",
        (true, Kind::Steers | Kind::Translates) => {
            "clients with SYN cookies reach another socket (allowed by cookies.firewall)"
        }
        (true, Kind::Bypassed | Kind::Changes | Kind::Rewrites) => {
            "SYN cookies bypass it (allowed by cookies.firewall)"
        }
        (true, _) => "clients with SYN cookies may be refused (allowed by cookies.firewall)",
    };
    let mut text = format!("{offence} {}: {then} on port {}", offence.why(), listed(ports));
    if matches!(offence.kind, Kind::NotSyn | Kind::BySyn) {
        text += ". The rules of the remedy accept. Put rules that deny sources above them";
    }
    let found = if allowed { Checked::notice(id, text) } else { Checked::warning(id, text) };
    let path = match &facts.config {
        ConfigFacts::Absent { path }
        | ConfigFacts::Valid { path, .. }
        | ConfigFacts::Invalid { path, .. }
        | ConfigFacts::Unreadable { path, .. } => path.display(),
    };
    let hint = match offence.kind {
        Kind::Strict => "sysctl -w net.netfilter.nf_conntrack_tcp_loose=1".to_owned(),
        Kind::Bypassed
        | Kind::Synproxy
        | Kind::Steers
        | Kind::Translates
        | Kind::Changes
        | Kind::Rewrites => offence.listing(),
        Kind::NotSyn | Kind::BySyn => {
            let mark = if firewall.mark == 0 { MARK } else { firewall.mark };
            let rules = mark_rules(offence, mark).join(" && ");
            match firewall.mark {
                0 => format!("edit {path}: set mark = {MARK:#x} under [cookies], then: {rules}"),
                _ => rules,
            }
        }
    };
    found.about(format!("{} {} {}", offence.family.name(), offence.table, offence.chain)).hint(hint)
}
