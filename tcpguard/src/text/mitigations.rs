//! Mitigations of each listener, and the available SYN cookies.

use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};

use tcpguard_engine::{Family, MitigationState};
use tcpguard_host::units::short;

use super::details::by_count;
use super::incidents::paragraph;
use super::reason::{mitigation_noun, mitigation_reason};
use super::view::View;
use crate::documents::{BackendInUse, Cookies, Listener, Mitigation, Status};

/// Most mitigations that are listed.
const LISTED: usize = 16;

/// The mitigations of the listeners, and the available cookies.
pub(super) fn all(out: &mut impl Write, status: &Status, view: &View) -> fmt::Result {
    let listeners = status.listeners.iter();
    let all = listeners.flat_map(|one| one.mitigations.iter().map(move |it| (one, it)));
    let all: Vec<_> = all.collect();
    for (number, (listener, mitigation)) in all.iter().take(LISTED).enumerate() {
        let heading = if number == 0 { "Mitigations" } else { "" };
        paragraph(out, view, heading, &line(listener, mitigation, view))?;
    }
    if let more @ 1.. = all.len().saturating_sub(LISTED) {
        paragraph(out, view, "", &format!("{more} more: tcpguard status --json"))?;
    }
    paragraph(out, view, "Cookies", &cookies(&status.cookies))
}

/// The mitigations of one listener, for the response to an order.
pub fn of_listener(out: &mut impl Write, listener: &Listener, view: &View) -> fmt::Result {
    if listener.mitigations.is_empty() {
        let at = SocketAddr::new(listener.addr, listener.port);
        return writeln!(out, "{at}: no mitigation");
    }
    for mitigation in &listener.mitigations {
        writeln!(out, "{}", line(listener, mitigation, view))?;
    }
    Ok(())
}

/// One mitigation of a listener: its state, times and reason.
pub(super) fn line(listener: &Listener, mitigation: &Mitigation, view: &View) -> String {
    let at = SocketAddr::new(listener.addr, listener.port);
    let (noun, why) = (mitigation_noun(mitigation.mitigation), mitigation_reason(&mitigation.why));
    let name = format!("{noun}{}", withheld_from(mitigation.family, mitigation.address));
    let until =
        mitigation.until.map_or_else(String::new, |until| format!(" until {}", view.time(until)));
    match mitigation.state {
        MitigationState::Active => {
            let since =
                mitigation.since.map_or_else(String::new, |at| format!(" since {}", view.time(at)));
            let order = if until.is_empty() { until } else { format!(",{until}") };
            format!("{at} {name} active{since}{order}, started for this reason: {why}")
        }
        MitigationState::Refused => format!("{at} {name} refused{until}: {why}"),
        MitigationState::Forbidden => format!("{at} {name} forbidden{until}: {why}"),
        MitigationState::Waiting => format!("{at} {name} not active yet{until}: {why}"),
    }
}

/// Those from whom a mitigation is withheld, while others have it: " for IPv6", " for 192.0.2.80".
pub(super) fn withheld_from(family: Option<Family>, address: Option<IpAddr>) -> String {
    let family = family.map(|family| family.name().to_owned());
    let whom = family.or_else(|| address.map(|address| address.to_string()));
    whom.map_or_else(String::new, |whom| format!(" for {whom}"))
}

/// The backend and the reason for it, of listeners of both families and of one where it differs: "by the kernel, on request
/// of XDP (NAT); at IPv4 listeners by XDP".
pub fn backends(cookies: &Cookies) -> String {
    let made = |backend: BackendInUse, reason: &Option<String>| {
        let who = match backend {
            BackendInUse::Own => "by XDP",
            BackendInUse::KernelHelper => "by the kernel, on request of XDP",
            BackendInUse::Kernel => "by the kernel only, at a full SYN queue",
            BackendInUse::None => "none",
            BackendInUse::Unknown => "by a backend unknown to this command",
        };
        let why = reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
        format!("{who}{why}")
    };
    let mut all = made(cookies.backend, &cookies.reason);
    for of in cookies.by_family.iter().filter(|of| of.backend != cookies.backend) {
        all += &format!("; at {} listeners {}", of.family.name(), made(of.backend, &of.reason));
    }
    all
}

fn cookies(cookies: &Cookies) -> String {
    let made = backends(cookies);
    let counts = match cookies.sent {
        0 => String::new(),
        sent => format!(
            "; {} sent, {} validated, {} invalid",
            short(sent as f64),
            short(cookies.valid as f64),
            short(cookies.invalid as f64)
        ),
    };
    let unanswered = match cookies.unanswered.is_empty() {
        true => String::new(),
        false => format!("; SYNs without one: {}", by_count(&cookies.unanswered)),
    };
    let known = cookies.validated_clients.map_or_else(String::new, |clients| {
        format!("; {} validated clients", short(clients as f64))
    });
    // The host keeps nothing of such a handshake, so no SYN-ACK is retransmitted.
    let limit = match cookies.sent {
        0 => "",
        _ => {
            ". Where the server speaks first (SSH, SMTP), a client whose third ACK is lost waits for its timeout"
        }
    };
    format!("{made}{counts}{unanswered}{known}{limit}")
}
