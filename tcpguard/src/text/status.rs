//! `tcpguard status` on one screen.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;

use tcpguard_engine::{ListenerState, Mode};
use tcpguard_host::finding::Severity;
use tcpguard_host::units::{exact, percent, short, span};

use super::attack::{self, between, paragraph, severity_word};
use super::clients::{clients_by_listener, clients_in_short, clients_tone};
use super::findings::note;
use super::losses;
use super::mitigations;
use super::mode::mode_end;
use super::rules::pending_confirmation;
use super::table::{Cell, Table};
use super::view::{Tone, View, wrap};
use crate::config::mode_name;
use crate::documents::{
    AlertEntry, AttachMode, Connect, Health, Hook, Interface, Listener, Program, Rules, State,
    Status,
};

/// Listeners shown without `--listeners`.
const LISTENERS_SHOWN: usize = 8;
const SOURCES_SHOWN: usize = 5;
/// Alerts shown at the end.
const ALERTS_SHOWN: usize = 5;
/// Fill ratio, from 0 to 1, below which a table is not shown.
const FILL_SHOWN: f64 = 0.01;
/// Fewest blanks between the two ends of the first line.
const GAP: usize = 3;

/// The first line alone.
pub fn brief(out: &mut impl Write, status: &Status, view: &View) -> fmt::Result {
    let daemon = &status.daemon;
    let (sign, words, tone) = headline(status);
    let left = format!("{sign} tcpguard {} on {} — ", daemon.version, daemon.hostname);
    let left_of_mode = daemon
        .mode_reverts
        .as_ref()
        .map_or_else(String::new, |end| format!(" for {}", span(Duration::from_secs(end.in_s))));
    let mode = format!("mode {}{left_of_mode}", mode_name(daemon.mode.into()));
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
    match (status.daemon.state, status.clients.connect(), unattached) {
        (State::AttackUnmitigated, Some(Connect::All), _) => {
            ("✗", "UNDER ATTACK, NOT mitigating, clients connect".into(), Tone::Bad)
        }
        (State::AttackMitigated, Some(Connect::Few), _) => {
            ("✗", "UNDER ATTACK, CLIENTS DO NOT CONNECT".into(), Tone::Bad)
        }
        (State::Degraded, _, Some(interface)) => {
            ("✗", format!("DEGRADED, {interface} IS NOT GUARDED").into(), Tone::Bad)
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

/// The cause of the state `degraded`, by the code and the subject of its health note:
/// `listeners_full LISTENERS`.
fn cause(status: &Status) -> Option<String> {
    // A refused configuration is a warning, and makes the state degraded where the last valid one applies.
    let is_cause = |it: &&Health| it.severity == Severity::Critical || it.code == "config_refused";
    let note = status.health.iter().find(is_cause).or(status.health.first())?;
    let subject = note.subject.as_deref().map_or_else(String::new, |it| format!(" {it}"));
    Some(format!("{}{subject}", note.code))
}

fn state_in_words(state: State) -> (&'static str, &'static str, Tone) {
    match state {
        State::Protecting => ("●", "protecting", Tone::Good),
        State::Observing => ("●", "observing", Tone::Good),
        State::Elevated => ("!", "ELEVATED", Tone::Warning),
        State::AttackMitigated => ("!", "UNDER ATTACK, mitigating", Tone::Warning),
        State::AttackUnmitigated => ("✗", "UNDER ATTACK, NOT mitigating", Tone::Bad),
        State::DroppedBeforeXdp => ("✗", "CLIENTS ARE LOST BEFORE THE GUARD", Tone::Bad),
        State::Degraded => ("✗", "DEGRADED", Tone::Bad),
        State::Off => ("!", "off", Tone::Warning),
        State::Unknown => ("!", "in a state that this command does not know", Tone::Warning),
    }
}

/// The whole page. Without `all_listeners` only the most interesting ones are shown.
pub fn status(
    out: &mut impl Write,
    status: &Status,
    view: &View,
    all_listeners: bool,
) -> fmt::Result {
    brief(out, status, view)?;
    for (number, (line, _)) in clients_by_listener(status).iter().enumerate() {
        paragraph(out, view, if number == 0 { "Clients" } else { "" }, line)?;
    }
    paragraph(out, view, "Config", &config(status, view))?;
    if let Some(end) = &status.daemon.mode_reverts {
        paragraph(out, view, "Mode", &mode_end(status.daemon.mode, end, view))?;
    }
    if let Some(waiting) = pending_confirmation(&status.rules.list, view) {
        paragraph(out, view, "Trial", &waiting)?;
    }
    for attack in &status.incidents {
        attack::open(out, attack, status, view)?;
    }
    if let (true, Some(last)) = (status.incidents.is_empty(), status.past_incidents.first()) {
        paragraph(out, view, "Last", &attack::past(last, status, view))?;
    }
    out.write_char('\n')?;
    interfaces(out, status, view)?;
    listeners(out, status, view, all_listeners)?;
    sources(out, status, view)?;
    mitigations::all(out, status, view)?;
    paragraph(out, view, "Kernel", &kernel(status))?;
    paragraph(out, view, "Rules", &rules(status))?;
    paragraph(out, view, "Tables", &tables(status))?;
    if let Some(alerts) = alert_counts(status) {
        paragraph(out, view, "Alerts", &alerts)?;
    }
    notes(out, status, view)?;
    log(out, status, view)
}

fn config(status: &Status, view: &View) -> String {
    let config = &status.daemon.config;
    let path = config.path.as_deref().unwrap_or("defaults (no file)");
    if let (Some(read_at), Some(error)) = (config.stands_in, &config.error) {
        return format!(
            "{error}; the last valid one, of {}, applies; correct it, then: sudo tcpguard reload",
            view.date(read_at)
        );
    }
    let valid = if config.valid { "valid" } else { "a newer one was refused" };
    let heartbeat = status.daemon.watchdog_age_ms.map_or_else(String::new, |age| {
        format!("; heartbeat {} ago", span(Duration::from_millis(age)))
    });
    format!("{path}, loaded {}, {valid}{heartbeat}", view.date(config.loaded_at))
}

fn interfaces(out: &mut impl Write, status: &Status, view: &View) -> fmt::Result {
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
    for interface in &status.interfaces {
        table.row(interface_row(interface));
    }
    table.write(out, view)?;
    for interface in &status.interfaces {
        let totals = &interface.totals;
        let deciding = match totals.unaccounted {
            0 => String::new(),
            some => format!(" + {} being decided", exact(some)),
        };
        let answered = match totals.answered {
            0 => String::new(),
            some => format!(" + {} answered", exact(some)),
        };
        paragraph(
            out,
            view,
            "Packets",
            &format!(
                "{}: {} in = {} passed + {} dropped{answered}{deciding}",
                interface.name,
                exact(totals.rx_packets),
                exact(totals.pass),
                exact(totals.drop_total),
            ),
        )?;
        for (word, reasons) in [("passed", &totals.pass_reasons), ("dropped", &totals.drop)] {
            if !reasons.is_empty() {
                paragraph(out, view, "", &format!("{word}: {}", by_count(reasons)))?;
            }
        }
    }
    paragraph(out, view, "Losses", &losses::in_words(&status.losses))?;
    if let Some(cost) = costs(&status.programs) {
        paragraph(out, view, "Cost", &cost)?;
    }
    out.write_char('\n')
}

/// The cost of the programs, where it is measured.
fn costs(programs: &[Program]) -> Option<String> {
    let cost = |program: &Program| {
        let cost = program.cost?;
        let each = cost.ns_per_run.map_or_else(String::new, |ns| format!(" {ns:.0} ns each,"));
        let (runs, cpu) = (short(cost.runs_pps), percent(cost.cpu_ratio));
        Some(format!("{}: {runs} runs/s,{each} {cpu} of one CPU", program.name))
    };
    let costs: Vec<_> = programs.iter().filter_map(cost).collect();
    (!costs.is_empty()).then(|| costs.join("; "))
}

/// Returns the reasons with their counts as text, the most frequent first.
fn by_count(reasons: &BTreeMap<String, u64>) -> String {
    let mut sorted: Vec<_> = reasons.iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let parts: Vec<_> =
        sorted.iter().map(|(name, count)| format!("{name} {}", short(**count as f64))).collect();
    parts.join(", ")
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
        AttachMode::Native => Cell::from("native"),
        AttachMode::Generic => Cell::toned("generic !", Tone::Warning),
        AttachMode::Unknown => Cell::toned("unknown", Tone::Warning),
    };
    let note = if interface.attached { "".into() } else { Cell::toned("NOT ATTACHED", Tone::Bad) };
    let rate = |rate: fn(&crate::documents::InterfaceRates) -> f64| match &interface.rates {
        Some(rates) => short(rate(rates)),
        None => "-".to_owned(),
    };
    let dropping = interface.rates.as_ref().is_some_and(|rates| rates.drop_pps > 0.0);
    let drop_tone = if dropping { Tone::Warning } else { Tone::Plain };
    [
        interface.name.as_str().into(),
        format!("{hook} ({pinned})").into(),
        mode,
        rate(|rates| rates.rx_pps).into(),
        rate(|rates| rates.syn_pps).into(),
        rate(|rates| rates.pass_pps).into(),
        Cell::toned(rate(|rates| rates.drop_pps), drop_tone),
        rate(|rates| rates.cookie_tx_pps).into(),
        note,
    ]
}

fn listeners(out: &mut impl Write, status: &Status, view: &View, all: bool) -> fmt::Result {
    let mut sorted: Vec<&Listener> = status.listeners.iter().collect();
    sorted.sort_by(|a, b| {
        let calm = |listener: &Listener| listener.state == ListenerState::Ok;
        calm(a).cmp(&calm(b)).then(b.syn_pps.total_cmp(&a.syn_pps)).then(a.port.cmp(&b.port))
    });
    let shown = if all { sorted.len() } else { sorted.len().min(LISTENERS_SHOWN) };
    let mut table = Table::new([
        "LISTENER",
        "SYN/s",
        if status.daemon.mode == Mode::Enforce { "DROP/s" } else { "WOULD DROP/s" },
        "HALF-OPEN/LIMIT",
        "ACCEPT-Q/LIMIT",
        "CLIENTS/s (BASELINE)",
        "STATE",
    ]);
    for listener in &sorted[..shown] {
        table.row(listener_row(listener));
    }
    table.write(out, view)?;
    if shown < sorted.len() {
        let left_out = format!("({shown} of {} shown; tcpguard status --listeners)", sorted.len());
        writeln!(out, "{left_out}")?;
    }
    out.write_char('\n')
}

/// Returns the state of a listener as a word and a tone.
pub const fn listener_state(state: ListenerState) -> (&'static str, Tone) {
    match state {
        ListenerState::Ok => ("ok", Tone::Good),
        ListenerState::Suspect => ("suspect", Tone::Warning),
        ListenerState::Attacked => ("ATTACKED", Tone::Bad),
        ListenerState::Mitigating => ("mitigating", Tone::Warning),
        ListenerState::Overloaded => ("OVERLOADED", Tone::Bad),
    }
}

fn listener_row(listener: &Listener) -> [Cell; 7] {
    let of = |count: Option<u32>, limit: Option<u32>| {
        let word = |number: Option<u32>| number.map_or("-".to_owned(), |number| number.to_string());
        format!("{} / {}", word(count), word(limit))
    };
    let (state, tone) = listener_state(listener.state);
    [
        std::net::SocketAddr::new(listener.addr, listener.port).to_string().into(),
        short(listener.syn_pps).into(),
        short(listener.dropped_pps).into(),
        of(listener.half_open, listener.half_open_limit).into(),
        of(listener.accept_queue, listener.accept_limit).into(),
        Cell::toned(clients_in_short(&listener.clients), clients_tone(&listener.clients)),
        Cell::toned(state, tone),
    ]
}

fn sources(out: &mut impl Write, status: &Status, view: &View) -> fmt::Result {
    if status.sources.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(["SOURCE", "SYN", "SYN-ACK", "ACK", "RST", "COMPLETED", "KNOWN"]);
    for source in status.sources.iter().take(SOURCES_SHOWN) {
        let count = |count: u64| Cell::from(short(count as f64));
        table.row([
            source.addr.to_string().into(),
            count(source.syn),
            count(source.syn_ack),
            count(source.ack),
            count(source.rst),
            count(source.completed),
            if source.validated { "client" } else { "no" }.into(),
        ]);
    }
    table.write(out, view)?;
    let sampled = match status.sampling.one_in {
        1 => String::new(),
        many => format!(", estimated from one flow in {many}"),
    };
    let age = status
        .sources_age_ms
        .map_or_else(String::new, |age| format!("as of {} ago", span(Duration::from_millis(age))));
    writeln!(out, "({age}{sampled})")?;
    out.write_char('\n')
}

/// The losses and replies of the kernel's own TCP.
pub fn kernel(status: &Status) -> String {
    let (kernel, total) = (&status.kernel, &status.kernel.tcp_ext);
    let words = |name: &str, total: u64, rate: Option<f64>| match rate {
        Some(rate) => format!("{name} {}/s ({} ever)", short(rate), short(total as f64)),
        None => format!("{name} {} ever", short(total as f64)),
    };
    let rates = kernel.rates.as_ref();
    let conntrack =
        kernel.conntrack_ratio.map(|share| format!("conntrack {} full", percent(share)));
    let words = [
        words("syncookies sent", total.syncookies_sent, rates.map(|rates| rates.syncookies_sent)),
        words(
            "listen overflows",
            total.listen_overflows,
            rates.map(|rates| rates.listen_overflows),
        ),
        words("listen drops", total.listen_drops, rates.map(|rates| rates.listen_drops)),
        words("SYN queue full", total.req_q_full_drop, rates.map(|rates| rates.req_q_full_drop)),
    ];
    words.into_iter().chain(conntrack).collect::<Vec<_>>().join(", ")
}

/// Returns the number of rules, and whether they are in the kernel, as text.
pub fn rules(status: &Status) -> String {
    let rules = &status.rules;
    let agreement = match rules.in_kernel {
        Some(found) if found == rules.wanted => {
            format!("wanted {} = in kernel {found} ✓", rules.wanted)
        }
        Some(found) => format!("wanted {}, in kernel {found} ✗", rules.wanted),
        None => format!("wanted {}, in kernel not counted yet", rules.wanted),
    };
    let next = rules.next_expiry_s.map_or_else(String::new, |seconds| {
        format!(", next expiry in {}", span(Duration::from_secs(seconds)))
    });
    let Rules { block_auto, block_manual, allow, .. } = rules;
    format!("{block_auto} automatic, {block_manual} manual; {agreement}{next}; {allow} allowed")
}

fn tables(status: &Status) -> String {
    let filled: Vec<_> = status
        .maps
        .iter()
        .filter_map(|map| Some((map, map.fill_ratio.filter(|share| *share >= FILL_SHOWN)?)))
        .map(|(map, share)| format!("{} {}", map.name, percent(share)))
        .collect();
    let fill = if filled.is_empty() { "all but empty".to_owned() } else { filled.join(", ") };
    let sampling = match status.sampling.one_in {
        1 => "every flow is followed".to_owned(),
        many => format!("one flow in {many} is followed"),
    };
    format!("{fill}; {sampling}")
}

fn alert_counts(status: &Status) -> Option<String> {
    let count = status.alerts_24h;
    let parts: Vec<_> =
        [(count.critical, "critical"), (count.warning, "warning"), (count.notice, "notice")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
    (!parts.is_empty()).then(|| format!("last 24 h: {}", parts.join(", ")))
}

fn notes(out: &mut impl Write, status: &Status, view: &View) -> fmt::Result {
    for (number, finding) in status.health.iter().enumerate() {
        let heading = if number == 0 { "Notes" } else { "" };
        note(out, view, heading, finding.severity, &finding.text, &finding.hint)?;
    }
    Ok(())
}

fn log(out: &mut impl Write, status: &Status, view: &View) -> fmt::Result {
    let first = status.alerts.len().saturating_sub(ALERTS_SHOWN);
    if !status.alerts.is_empty() {
        out.write_char('\n')?;
    }
    for alert in &status.alerts[first..] {
        let ago = span(between(alert.at, status.generated_at));
        alert_line(out, alert, &format!("{} ({ago} ago)", view.time(alert.at)), view)?;
    }
    Ok(())
}

/// One alert a line, with its date and time.
pub fn alerts(out: &mut impl Write, alerts: &[AlertEntry], view: &View) -> fmt::Result {
    alerts.iter().try_for_each(|alert| alert_line(out, alert, &view.moment(alert.at), view))
}

/// One alert that has just been raised, with its time.
pub fn event(out: &mut impl Write, alert: &AlertEntry, view: &View) -> fmt::Result {
    alert_line(out, alert, &view.time(alert.at), view)
}

fn alert_line(out: &mut impl Write, alert: &AlertEntry, when: &str, view: &View) -> fmt::Result {
    let line = format!("{when} {} {}", severity_word(alert.severity), alert.message);
    for (number, line) in wrap(&line, view.width.saturating_sub(2)).iter().enumerate() {
        writeln!(out, "{}{line}", if number == 0 { "" } else { "  " })?;
    }
    Ok(())
}
