//! The page of `tcpguard status`: the situation, the action, and the listeners and interfaces.
//!
//! Without `--full` it fits a terminal of 24 lines: listeners and findings share the lines that the situation leaves.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::time::Duration;

use tcpguard_engine::{ListenerKind, ListenerState, Mode};
use tcpguard_host::doctor::is_command;
use tcpguard_host::finding::{Finding, Severity};
use tcpguard_host::units::{percent, short, span, whole};

use super::carpet::together;
use super::clients::{clients_by_listener, clients_in_short, clients_tone};
use super::findings::{in_short, list};
use super::incident;
use super::incidents::{between, paragraph};
use super::mode::mode_end;
use super::reason::held_back;
use super::rules::pending_confirmation;
use super::table::{Cell, Table};
use super::view::{Tone, View};
use super::{details, losses};
use crate::documents::{
    Advised, AttachMode, Connect, Hook, Incident, Interface, Listener, MOSTLY_STOPPED, NextProgram,
    State, Status,
};

/// Lines of a page without `--full`. A terminal of 24 lines has room for it and for the prompt.
const LINES: usize = 22;
/// Most rows of a table without `--listeners` and `--full`.
const ROWS: usize = 6;
/// A flood that is known for less than this may have no rate yet.
const JUST_BEGUN: Duration = Duration::from_secs(3);
/// Most interfaces named in one line.
const NAMED: usize = 4;
/// Fewest rows of a table, and lines of findings.
const FEWEST_ROWS: usize = 2;
/// Most lines of actions.
const ACTIONS: usize = 4;
/// Fewest blanks between the two ends of the first line.
const GAP: usize = 3;
/// One fact of the situation.
#[derive(Clone, Debug)]
pub struct Fact {
    /// The heading; empty for one more fact under the same.
    pub heading: &'static str,
    pub text: String,
    /// The meaning of its colour.
    pub tone: Tone,
}

/// Beginnings of commands that only root may give.
const ROOT_ONLY: [&str; 8] = [
    "ethtool -K ",
    "sysctl -w ",
    "systemctl restart ",
    "tcpguard block ",
    "tcpguard confirm",
    "tcpguard mitigation ",
    "tcpguard mode ",
    "tcpguard reload",
];

/// The first line alone.
pub fn brief(out: &mut impl Write, status: &Status, view: &View) -> fmt::Result {
    let daemon = &status.daemon;
    let (sign, words, tone) = headline(status);
    let left = format!("{sign} tcpguard {} on {} — ", daemon.version, daemon.hostname);
    let left_of_mode = daemon
        .mode_reverts
        .as_ref()
        .map_or_else(String::new, |end| format!(" for {}", span(Duration::from_secs(end.in_s))));
    let mode = format!("mode {}{left_of_mode}", daemon.mode.name());
    let up = format!("   up {}", span(Duration::from_secs(daemon.uptime_s)));
    let used = left.chars().count() + words.len() + GAP + mode.len();
    // Where there is no room for all, the mode says more than the age, and the situation than both.
    let right = match view.width {
        wide if used + up.len() <= wide => mode + &up,
        narrow if used <= narrow => mode,
        _ => String::new(),
    };
    let used = left.chars().count() + words.len() + right.len();
    let blanks = view.width.saturating_sub(used).max(GAP);
    writeln!(out, "{left}{}{:blanks$}{right}", view.paint(tone, &words), "")
}

/// The situation as a sign, in words and in a tone: the mitigation of an attack, whether clients
/// connect where the state suggests otherwise, and the cause of a degraded state.
pub fn headline(status: &Status) -> (&'static str, Cow<'static, str>, Tone) {
    let unattached = status.health.iter().find(|finding| finding.code == "detached");
    let unattached = unattached.and_then(|finding| finding.subject.as_deref());
    let connect = status.clients.connect();
    if let (State::AttackMitigated | State::Off, Some(ends)) =
        (status.daemon.state, status.attack_ends().filter(|_| connect != Some(Connect::Few)))
    {
        let left = span(between(status.generated_at, ends));
        return ("!", format!("ATTACK STOPPED, over in {left}").into(), Tone::Warning);
    }
    if let (State::Elevated, Some(ends)) =
        (status.daemon.state, status.incidents_end().filter(|_| connect != Some(Connect::Few)))
    {
        let left = span(between(status.generated_at, ends));
        return ("!", format!("RECOVERED, over in {left}").into(), Tone::Warning);
    }
    match (status.daemon.state, connect, unattached) {
        (State::AttackUnmitigated, ..) if status.daemon.mode == Mode::Off => {
            ("✗", "UNDER ATTACK, NOT mitigating: the mode is off".into(), Tone::Bad)
        }
        (State::AttackUnmitigated, Some(Connect::All), _) => {
            ("✗", "UNDER ATTACK, NOT mitigating, clients connect".into(), Tone::Bad)
        }
        (State::AttackMitigated, Some(Connect::Few), _) => {
            ("✗", "UNDER ATTACK, CLIENTS DO NOT CONNECT".into(), Tone::Bad)
        }
        (State::Elevated, Some(Connect::Few), _) => {
            // In the first seconds of a flood its class is not known yet.
            let is_open = status.listeners.iter().any(|one| one.state == ListenerState::Suspect);
            let cause = if is_open { "cause under examination" } else { "not an attack" };
            ("✗", format!("CLIENTS DO NOT CONNECT, {cause}").into(), Tone::Bad)
        }
        (State::Degraded, _, Some(interface)) => {
            ("✗", format!("DEGRADED: no XDP program on {interface}").into(), Tone::Bad)
        }
        (state, ..) => {
            let (sign, words, tone) = state_in_words(state);
            let cause = cause(status).filter(|_| state == State::Degraded);
            match cause {
                Some(cause) => (sign, format!("{words}: {cause}").into(), tone),
                None => (sign, words.into(), tone),
            }
        }
    }
}

/// The cause of the state `degraded`, by the code and the subject of its finding:
/// `listeners full LISTENERS`.
fn cause(status: &Status) -> Option<String> {
    // A refused configuration is a warning, and makes the state degraded where the last valid one applies.
    let is_cause = |it: &&Finding| it.severity == Severity::Critical || it.code == "config_refused";
    let note = status.health.iter().find(is_cause).or(status.health.first())?;
    let subject = note.subject.as_deref().map_or_else(String::new, |it| format!(" {it}"));
    Some(format!("{}{subject}", note.code.replace('_', " ")))
}

fn state_in_words(state: State) -> (&'static str, &'static str, Tone) {
    match state {
        State::Protecting => ("●", "protecting", Tone::Good),
        State::Observing => ("●", "observing", Tone::Good),
        State::Elevated => ("!", "ELEVATED", Tone::Warning),
        State::AttackMitigated => ("!", "UNDER ATTACK, mitigating", Tone::Warning),
        State::AttackUnmitigated => ("✗", "UNDER ATTACK, NOT mitigating", Tone::Bad),
        State::DroppedBeforeXdp => ("✗", "PACKETS DROPPED BEFORE XDP", Tone::Bad),
        State::Degraded => ("✗", "DEGRADED", Tone::Bad),
        State::Off => ("!", "off", Tone::Warning),
        State::Unknown => ("!", "in a state of a newer version", Tone::Warning),
    }
}

/// The page; with `all_listeners` it holds every listener.
pub fn status(
    out: &mut impl Write,
    status: &Status,
    view: &View,
    all_listeners: bool,
) -> fmt::Result {
    let mut top = String::new();
    brief(&mut top, status, view)?;
    top.push('\n');
    for Fact { heading, text, .. } in situation(status, view) {
        paragraph(&mut top, view, heading, &text)?;
    }
    let joined = together(status);
    let mut open: Vec<&Incident> = joined.incidents.iter().collect();
    open.sort_by_key(|one| Reverse(one.severity));
    let more: Vec<_> = open.iter().skip(1).map(|it| it.id.to_string()).collect();
    let more = match more.is_empty() {
        true => String::new(),
        false => format!(" (also {})", more.join(", ")),
    };
    let explain = open.first().copied().or(status.past_incidents.first());
    let explain =
        explain.map_or_else(String::new, |it| format!("tcpguard explain {}{more}; ", it.id));
    paragraph(&mut top, view, "Details", &format!("{explain}tcpguard status --full"))?;
    if let Some(cost) = details::costs(&status.programs) {
        paragraph(&mut top, view, "Cost", &cost)?;
    }

    let fewest_of_findings = if status.health.is_empty() { 0 } else { FEWEST_ROWS };
    let mut tables = String::new();
    let mut left = 0;
    for rows in (FEWEST_ROWS..=ROWS).rev() {
        tables.clear();
        listeners(&mut tables, status, view, if all_listeners { usize::MAX } else { rows })?;
        tables.push('\n');
        interfaces(&mut tables, status, view, rows)?;
        // A blank line stands before the tables, and one before the findings.
        let used = top.lines().count() + tables.lines().count() + 2;
        left = LINES.saturating_sub(used);
        if left >= fewest_of_findings {
            break;
        }
    }
    write!(out, "{top}\n{tables}")?;
    if !status.health.is_empty() {
        out.write_char('\n')?;
        in_short(out, view, &status.health, left.max(FEWEST_ROWS))?;
    }
    Ok(())
}

/// The page of `--full`, with everything that is known.
pub fn full_status(out: &mut impl Write, status: &Status, view: &View) -> fmt::Result {
    let status = &*together(status);
    brief(out, status, view)?;
    out.write_char('\n')?;
    for Fact { heading, text, .. } in situation(status, view) {
        paragraph(out, view, heading, &text)?;
    }
    details::story(out, status, view)?;
    out.write_char('\n')?;
    listeners(out, status, view, usize::MAX)?;
    out.write_char('\n')?;
    interfaces(out, status, view, usize::MAX)?;
    paragraph(out, view, "Losses", &losses::in_words(&status.losses))?;
    if let Some(cost) = details::costs(&status.programs) {
        paragraph(out, view, "Cost", &cost)?;
    }
    details::counters(out, status, view)?;
    if !status.health.is_empty() {
        out.write_char('\n')?;
    }
    list(out, view, &status.health, "tcpguard status --json")?;
    details::log(out, status, view)
}

/// The situation: incident, mitigation, clients, action, pending changes and rates, one fact each.
pub fn situation(status: &Status, view: &View) -> Vec<Fact> {
    let status = &*together(status);
    let mut facts = Vec::new();
    let mut add = |heading, text, tone| facts.push(Fact { heading, text, tone });
    for incident in &status.incidents {
        let (title, since) = (incident::title(incident), view.time(incident.since));
        let lasts = span(between(incident.since, status.generated_at));
        let text = format!("#{} {title}, since {since} ({lasts})", incident.id);
        add(incident::heading(incident), text, severity_tone(incident.severity));
    }
    if status.incidents.is_empty() {
        let last = status.past_incidents.first().map_or_else(String::new, |last| {
            let ended = last.ended_at.unwrap_or(status.generated_at);
            let ago = span(between(ended, status.generated_at));
            format!("; the last, #{}, ended {} ({ago} ago)", last.id, view.time(ended))
        });
        add("Attack", format!("none{last}"), Tone::Plain);
    }
    add("Mitigation", mitigation(status), Tone::Plain);
    for (number, (line, tone)) in clients_by_listener(status).into_iter().enumerate() {
        add(if number == 0 { "Clients" } else { "" }, line, tone);
    }
    for (number, action) in actions(status).into_iter().enumerate() {
        add(if number == 0 { "Action" } else { "" }, action, Tone::Plain);
    }
    if let Some(end) = &status.daemon.mode_reverts {
        add("Mode", mode_end(status.daemon.mode, end, view), Tone::Warning);
    }
    if let Some(waiting) = pending_confirmation(&status.rules.list, view) {
        add("Pending", waiting, Tone::Warning);
    }
    let floods: Vec<_> = status.incidents.iter().filter(|it| it.class.is_flood()).collect();
    for flood in &floods {
        let name = if floods.len() > 1 { format!("#{}: ", flood.id) } else { String::new() };
        add("Rate", name.clone() + &rate(flood), Tone::Plain);
        add("Total", name + &total(flood), Tone::Plain);
    }
    facts
}

/// Returns the tone of a severity.
pub const fn severity_tone(severity: Severity) -> Tone {
    match severity {
        Severity::Critical => Tone::Bad,
        Severity::Warning => Tone::Warning,
        Severity::Notice => Tone::Plain,
    }
}

/// The effect on the flood, or the readiness for one.
fn mitigation(status: &Status) -> String {
    let why_none = match status.daemon.mode {
        Mode::Observe => Some("NONE: mode observe drops nothing"),
        Mode::Off => Some("NONE: mode off drops nothing"),
        _ => None,
    };
    let floods: Vec<&Incident> = status.incidents.iter().filter(|it| it.class.is_flood()).collect();
    let answered = status.kernel.rates.as_ref().map_or(0.0, |rates| rates.syncookies_sent);
    let by_kernel = match floods.is_empty() || answered < 1.0 {
        true => String::new(),
        false => format!("; the kernel answers {} SYN/s with its own SYN cookies", short(answered)),
    };
    if let Some(why) = why_none {
        let words = if floods.is_empty() { why.to_lowercase() } else { why.to_owned() };
        let matched = match floods[..] {
            [flood] if flood.counts.matched > 0 => {
                format!(
                    "; rules matched {} of {} SYNs",
                    whole(flood.counts.matched),
                    whole(flood.counts.syns)
                )
            }
            _ => String::new(),
        };
        return words + &matched + &by_kernel;
    }
    let effect = |flood: &&Incident| {
        let of = incident::flood_at(flood);
        if let Some(by) = flood.held_back {
            return format!("NONE for {of}: {}", held_back(by));
        }
        if let Some(quiet) = flood.quiet {
            let lasts = span(between(quiet.since, status.generated_at));
            return format!("no SYN of {of} for {lasts}");
        }
        let Some(share) = flood.mitigated_ratio else {
            let known_for = between(flood.since, status.generated_at)
                .min(Duration::from_secs(status.daemon.uptime_s));
            return match known_for < JUST_BEGUN || flood.listeners > 1 {
                true => format!("not known yet for {of}"),
                false => format!("no SYN of {of} in the last second"),
            };
        };
        let only = if share < MOSTLY_STOPPED { "only " } else { "" };
        format!("{only}{} of {of} stopped in the last second", percent(share))
    };
    let effects: Vec<String> = floods.iter().map(effect).collect();
    if !effects.is_empty() {
        return effects.join("; ") + &by_kernel;
    }
    let names = |attached: bool| {
        let of_state = status.interfaces.iter().filter(|it| it.attached == attached);
        let mut names: Vec<&str> = of_state.map(|it| it.name.as_str()).collect();
        let more = names.len().saturating_sub(NAMED);
        names.truncate(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        names.join(", ") + &more
    };
    match (names(true), names(false)) {
        (on, off) if off.is_empty() => format!("ready on {on}"),
        (on, off) if on.is_empty() => format!("NOT READY: no XDP program on {off}"),
        (on, off) => format!("ready on {on}, NOT READY on {off}"),
    }
}

/// Actions for the operator: a command a line where there is one, and the reason.
fn actions(status: &Status) -> Vec<String> {
    let mut actions: Vec<String> = Vec::new();
    let advised = status.incidents.iter().filter_map(|one| Some((one, one.advice.as_ref()?)));
    let mut advised: Vec<_> = advised.collect();
    advised.sort_by_key(|(incident, _)| Reverse(incident.severity));
    for (incident, advice) in advised {
        actions.extend(advice.command.as_deref().map(as_typed));
        actions.push(incident::advised(&advice.action, !incident.rules.is_empty()).to_owned());
    }
    if !actions.is_empty() {
        let mut said = BTreeSet::new();
        actions.retain(|action| said.insert(action.clone()));
        actions.truncate(ACTIONS);
        return actions;
    }
    let urgent = |finding: &&Finding| finding.severity >= Severity::Warning;
    let fails = match (status.clients.connect(), status.incidents.is_empty()) {
        (Some(Connect::Few), _) | (Some(Connect::Some), false) => true,
        (Some(Connect::Some), true) | (Some(Connect::All) | None, _) => false,
    };
    match status.health.iter().find(urgent) {
        Some(finding) => {
            let hint = finding.hint.as_deref().unwrap_or("tcpguard status --full");
            actions.push(if is_command(hint) { as_typed(hint) } else { hint.to_owned() });
        }
        None if fails || status.daemon.state == State::AttackUnmitigated => {
            actions.push("look for what keeps clients out: tcpguard listeners".to_owned());
        }
        None if status.daemon.mode == Mode::Off => {
            actions.push(as_typed(Advised::TRY_ENFORCE));
        }
        None if confirms(status) => {
            actions.push(as_typed("tcpguard confirm"));
            actions.push("if clients connect, before it reverts".to_owned());
        }
        None => actions.push("none needed".to_owned()),
    }
    actions
}

/// Returns whether a mode or a rule is pending confirmation.
fn confirms(status: &Status) -> bool {
    let mode = status.daemon.mode_reverts.as_ref().is_some_and(|end| end.confirm_by.is_some());
    mode || status.rules.list.iter().any(|rule| rule.confirmed_until.is_some())
}

/// The command with `sudo` where it takes root.
pub(super) fn as_typed(command: &str) -> String {
    let sudo = if ROOT_ONLY.iter().any(|verb| command.starts_with(verb)) { "sudo " } else { "" };
    format!("{sudo}{command}")
}

/// The rate of SYNs of a flood.
fn rate(incident: &Incident) -> String {
    let baseline = match incident.baseline_pps {
        Some(baseline) => format!("baseline {}/s, ", short(baseline)),
        None => String::new(),
    };
    let (now, peak) = (short(incident.syn_pps), short(incident.peak_syn_pps));
    format!("{now} SYN/s ({baseline}peak {peak}/s)")
}

/// The SYNs of a flood, and the shares that were dropped and answered.
fn total(incident: &Incident) -> String {
    let least = if incident.is_partly_counted() { "at least " } else { "" };
    let mut text = format!("{least}{} SYNs", whole(incident.counts.syns));
    let share = |count: u64| percent(count as f64 / incident.counts.syns.max(1) as f64);
    for (count, fate) in [
        (incident.counts.dropped, "dropped"),
        (incident.counts.cookies_sent, "answered with SYN cookies"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {} {fate}", share(count)));
        }
    }
    text
}

fn interfaces(out: &mut impl Write, status: &Status, view: &View, most: usize) -> fmt::Result {
    let mut table = Table::new([
        "IFACE",
        "HOOK",
        "MODE",
        "PACKETS/s",
        "SYN/s",
        "PASS/s",
        "DROP/s",
        "COOKIE/s",
        "NOTE",
    ]);
    let mut sorted: Vec<&Interface> = status.interfaces.iter().collect();
    sorted.sort_by_key(|interface| interface.attached);
    let shown = sorted.len().min(most);
    for interface in &sorted[..shown] {
        table.row(interface_row(interface));
    }
    table.write(out, view)?;
    left_out(out, shown, sorted.len(), "--full")
}

/// Says how many rows of a table are not shown, and the option that shows them.
fn left_out(out: &mut impl Write, shown: usize, all: usize, option: &str) -> fmt::Result {
    if shown == all {
        return Ok(());
    }
    writeln!(out, "({shown} of {all} shown; tcpguard status {option})")
}

fn interface_row(interface: &Interface) -> [Cell; 9] {
    let hook = match interface.hook {
        Hook::Xdp => "xdp",
        Hook::Tcx => "tcx",
        Hook::Tc => "tc",
        Hook::Unknown => "unknown",
    };
    let pinned = if interface.pinned { "pinned" } else { "not pinned" };
    let mode = match interface.mode {
        _ if !interface.attached => "-".into(),
        AttachMode::Native => Cell::from("native"),
        AttachMode::Generic if interface.choice.is_some() => Cell::from("generic"),
        AttachMode::Generic => Cell::toned("generic !", Tone::Warning),
        AttachMode::Unknown => Cell::toned("unknown", Tone::Warning),
    };
    let note = match &interface.next_program {
        _ if !interface.attached => Cell::toned("NOT ATTACHED", Tone::Bad),
        None => "".into(),
        Some(NextProgram { name, id: Some(id) }) => format!("next {name} (id {id})").into(),
        Some(NextProgram { id: None, .. }) => Cell::toned("NO NEXT PROGRAM", Tone::Warning),
    };
    let rate = |rate: fn(&crate::documents::InterfaceRates) -> f64| match &interface.rates {
        Some(rates) => short(rate(rates)),
        None => "-".to_owned(),
    };
    let dropping = interface.rates.as_ref().is_some_and(|rates| rates.drop_pps > 0.0);
    let drop_tone = if dropping { Tone::Warning } else { Tone::Plain };
    [
        interface.name.as_str().into(),
        if interface.attached { format!("{hook} ({pinned})") } else { "-".to_owned() }.into(),
        mode,
        rate(|rates| rates.rx_pps).into(),
        rate(|rates| rates.syn_pps).into(),
        rate(|rates| rates.pass_pps).into(),
        Cell::toned(rate(|rates| rates.drop_pps), drop_tone),
        rate(|rates| rates.cookies_sent_pps).into(),
        note,
    ]
}

/// Returns the listeners, those that are not `ok` first, then those of this host that clients use, then those behind it.
/// Of each the one with the most SYNs comes first.
pub fn worst_first(listeners: &[Listener]) -> Vec<&Listener> {
    let group = |listener: &Listener| match (listener.state, listener.kind) {
        (ListenerState::Ok, _) if listener.syn_pps == 0.0 => 3,
        (ListenerState::Ok, ListenerKind::Forwarded) => 2,
        (ListenerState::Ok, ListenerKind::Local) => 1,
        _ => 0,
    };
    let mut sorted: Vec<&Listener> = listeners.iter().collect();
    sorted.sort_by(|a, b| {
        let by_rate = b.syn_pps.total_cmp(&a.syn_pps);
        group(a).cmp(&group(b)).then(by_rate).then(a.port.cmp(&b.port))
    });
    sorted
}

fn listeners(out: &mut impl Write, status: &Status, view: &View, most: usize) -> fmt::Result {
    let sorted = worst_first(&status.listeners);
    let shown = sorted.len().min(most);
    let mut table = Table::new([
        "LISTENER",
        "SYN/s",
        if status.daemon.mode == Mode::Enforce { "DROP/s" } else { "WOULD DROP/s" },
        "HALF-OPEN",
        "ACCEPT QUEUE",
        "CLIENTS/s",
        "STATE",
    ]);
    for listener in &sorted[..shown] {
        table.row(listener_row(listener));
    }
    table.write(out, view)?;
    left_out(out, shown, sorted.len(), "--listeners")
}

/// Returns the state of a listener as a word and a tone.
pub const fn listener_state(state: ListenerState) -> (&'static str, Tone) {
    match state {
        ListenerState::Ok => ("ok", Tone::Good),
        ListenerState::Suspect => ("suspect", Tone::Warning),
        ListenerState::Failing => ("FAILING", Tone::Bad),
        ListenerState::Attacked => ("ATTACKED", Tone::Bad),
        ListenerState::Mitigating => ("mitigating", Tone::Warning),
        ListenerState::Overloaded => ("OVERLOADED", Tone::Bad),
        ListenerState::Closed => ("NO SOCKET", Tone::Bad),
    }
}

/// A queue as its length and its limit: `128/4096`.
pub fn queue(count: Option<u32>, limit: Option<u32>) -> String {
    let word = |number: Option<u32>| number.map_or("-".to_owned(), |number| number.to_string());
    format!("{}/{}", word(count), word(limit))
}

fn listener_row(listener: &Listener) -> [Cell; 7] {
    let (state, tone) = listener_state(listener.state);
    [
        std::net::SocketAddr::new(listener.addr, listener.port).to_string().into(),
        short(listener.syn_pps).into(),
        short(listener.dropped_pps).into(),
        queue(listener.half_open, listener.half_open_limit).into(),
        queue(listener.accept_queue, listener.accept_limit).into(),
        Cell::toned(clients_in_short(&listener.clients), clients_tone(&listener.clients)),
        Cell::toned(state, tone),
    ]
}
