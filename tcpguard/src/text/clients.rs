//! Success of clients in words and numbers: the same ones wherever it is shown.

use tcpguard_engine::{self as engine, MitigationState};
use tcpguard_host::units::short;

use super::view::Tone;
use crate::documents::{Clients, Connect, Incident, Listener, Mitigation, Status};

/// Most listeners under attack that are shown.
const LISTED: usize = 4;

/// `19 handshakes/s (baseline 19/s)`, with the listener where there is one to be named.
pub fn clients(clients: &Clients, at: Option<&str>) -> String {
    let at = at.map_or_else(String::new, |at| format!(" at {at}"));
    let baseline = match clients.baseline_pps {
        Some(normal) => format!("baseline {}/s", short(normal)),
        None => "baseline not known yet".to_owned(),
    };
    let verdict = match clients.connect() {
        Some(Connect::Few) => ": MOST CLIENTS FAIL",
        Some(Connect::Some) => ": some clients fail",
        Some(Connect::All) | None if clients.arrive_few() => ": few clients arrive",
        Some(Connect::All) if clients.arrive_fewer() => ": all that try connect",
        Some(Connect::All) | None => "",
    };
    format!("{} handshakes/s{at} ({baseline}){verdict}", short(clients.completed_pps))
}

/// The same as a cell of a table: `19 (19)`.
pub fn clients_in_short(clients: &Clients) -> String {
    let normal = clients.baseline_pps.map_or_else(|| "-".to_owned(), short);
    format!("{} ({normal})", short(clients.completed_pps))
}

/// Returns the tone: good or bad.
pub fn clients_tone(clients: &Clients) -> Tone {
    match clients.connect() {
        Some(Connect::Few) => Tone::Bad,
        Some(Connect::Some) => Tone::Warning,
        Some(Connect::All) if clients.arrive_few() => Tone::Plain,
        Some(Connect::All) => Tone::Good,
        None => Tone::Plain,
    }
}

/// A line for each listener under attack, the one at which the fewest connect first; without an attack
/// one for all.
pub fn clients_by_listener(status: &Status) -> Vec<(String, Tone)> {
    let known = |attack: &Incident| Some((attack.clients?, attack.place(), limit(status, attack)));
    let mut attacked: Vec<_> = status.incidents.iter().filter_map(known).collect();
    if attacked.is_empty() {
        return vec![(clients(&status.clients, None), clients_tone(&status.clients))];
    }
    let share = |clients: &Clients| clients.ratio.unwrap_or(f64::MAX);
    attacked.sort_by(|(a, ..), (b, ..)| share(a).total_cmp(&share(b)));
    attacked.truncate(LISTED);
    let line = |(one, at, limit): &(Clients, String, &str)| {
        (clients(one, Some(at)) + limit, clients_tone(one))
    };
    attacked.iter().map(line).collect()
}

/// The delay of new clients at the listener of an attack: the first SYNs of some are dropped while a SYN rate limit is
/// active, and they retransmit them a second later at the earliest.
fn limit(status: &Status, attack: &Incident) -> &'static str {
    let at = |one: &&Listener| (one.addr, one.port) == (attack.dst, attack.port);
    let limits = |it: &Mitigation| {
        it.mitigation == engine::Mitigation::Budget && it.state == MitigationState::Active
    };
    match status.listeners.iter().find(at).is_some_and(|one| one.mitigations.iter().any(limits)) {
        true => "; new ones may wait 1s or more (SYN rate limit)",
        false => "",
    }
}
