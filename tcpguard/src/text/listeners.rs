//! Queues of listeners and their limits.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

use tcpguard_host::finding::Severity;
use tcpguard_host::linux::sysctl::TcpSettings;
use tcpguard_host::listeners::limits::SetBy;
use tcpguard_host::listeners::{Listener, ListenersReport, Losses, Queue};
use tcpguard_host::units::{short, whole};

use super::findings::{headline, list, unread};
use super::incidents::paragraph;
use super::table::{Cell, Table};
use super::view::{Tone, View};

/// Listeners shown without `--all`.
const SHOWN: usize = 20;

/// The page of all listeners, or without `all` of those with problems or waiting connections.
pub fn listeners(
    out: &mut impl Write,
    report: &ListenersReport,
    view: &View,
    all: bool,
) -> fmt::Result {
    let what = match report.listeners.len() {
        1 => "1 listener".to_owned(),
        many => format!("{} listeners", whole(many as u64)),
    };
    headline(out, view, &what, &report.findings)?;
    out.write_char('\n')?;
    table(out, report, view, all)?;
    out.write_char('\n')?;
    paragraph(out, view, "Limits", &limits(&report.settings))?;
    if let Some(host) = &report.host {
        paragraph(out, view, "Host", &losses(host))?;
    }
    unread(out, view, &report.unread)?;
    if !report.findings.is_empty() {
        out.write_char('\n')?;
    }
    list(out, view, &report.findings, "tcpguard listeners --json")
}

fn table(out: &mut impl Write, report: &ListenersReport, view: &View, all: bool) -> fmt::Result {
    let names: BTreeMap<u32, &str> =
        report.processes.iter().map(|owner| (owner.pid, owner.name.as_str())).collect();
    let mut severities: BTreeMap<&str, Severity> = BTreeMap::new();
    for finding in &report.findings {
        if let Some(subject) = &finding.subject {
            // The worst comes first.
            severities.entry(subject).or_insert(finding.severity);
        }
    }
    let severity = |listener: &Listener| severities.get(&*listener.to_string()).copied();
    let mut sorted: Vec<(&Listener, Option<Severity>)> =
        report.listeners.iter().map(|listener| (listener, severity(listener))).collect();
    sorted.sort_by_key(|(listener, severity)| {
        let waiting = u64::from(listener.accept.waiting) + u64::from(listener.syn.waiting);
        (
            Reverse(*severity),
            Reverse(waiting),
            Reverse(listener.drops),
            listener.port,
            listener.addr,
        )
    });
    let shown = if all { sorted.len() } else { sorted.len().min(SHOWN) };
    let mut table =
        Table::new(["LISTENER", "ACCEPT-Q/LIMIT", "SYN-Q/LIMIT", "SET BY", "DROPS", "PROCESS"]);
    for (listener, severity) in &sorted[..shown] {
        table.row(row(listener, *severity, &names));
    }
    table.write(out, view)?;
    if shown < sorted.len() {
        let every = whole(sorted.len() as u64);
        writeln!(out, "({shown} of {every} shown; tcpguard listeners --all)")?;
    }
    Ok(())
}

fn row(listener: &Listener, severity: Option<Severity>, names: &BTreeMap<u32, &str>) -> [Cell; 6] {
    let tone = match severity {
        Some(Severity::Critical) => Tone::Bad,
        Some(Severity::Warning) => Tone::Warning,
        Some(Severity::Notice) | None => Tone::Plain,
    };
    let sockets = match listener.sockets.len() {
        0 => String::new(),
        many => format!(" ×{many}"),
    };
    let drops = match (listener.drops, listener.drops_pps) {
        (None, _) => "-".to_owned(),
        (Some(drops), None) => whole(drops),
        (Some(drops), Some(rate)) => format!("{}, {}/s", whole(drops), short(rate)),
    };
    let queue = |queue: &Queue| {
        let mark = if queue.set_by == SetBy::TcpMaxSynBacklog { "*" } else { "" };
        format!("{}/{}{mark}", whole(queue.waiting.into()), whole(queue.limit.into()))
    };
    let set_by = match listener.accept.set_by {
        SetBy::Application => "application",
        SetBy::Somaxconn => "somaxconn",
        SetBy::Earlier => "earlier",
        // Of the accept queue it is never the limit.
        SetBy::TcpMaxSynBacklog | SetBy::Unknown => "?",
    };
    [
        Cell::toned(format!("{listener}{sockets}"), tone),
        queue(&listener.accept).into(),
        queue(&listener.syn).into(),
        set_by.into(),
        drops.into(),
        holders(listener, names).into(),
    ]
}

/// `nginx (1201 +4)`
fn holders(listener: &Listener, names: &BTreeMap<u32, &str>) -> String {
    let of_name: BTreeSet<&str> =
        listener.pids.iter().filter_map(|pid| names.get(pid).copied()).collect();
    let name = of_name.into_iter().collect::<Vec<_>>().join(", ");
    match listener.pids[..] {
        [] => format!("not seen (uid {})", listener.uid),
        [pid] => format!("{name} ({pid})"),
        [pid, ..] => format!("{name} ({pid} +{})", listener.pids.len() - 1),
    }
}

/// Limits of the queues, with this host's settings.
fn limits(settings: &TcpSettings) -> String {
    let number = |setting: Option<u64>| setting.map_or_else(|| "unknown".to_owned(), whole);
    let syn_queue = match settings.syncookies {
        Some(1) => {
            "A full SYN queue sends SYN cookies (tcp_syncookies 1), and tcp_max_syn_backlog has no \
                    effect."
                .to_owned()
        }
        Some(0) | None => format!(
            "Without SYN cookies (tcp_syncookies 0), new clients get at most three quarters of \
             tcp_max_syn_backlog ({}), which limits the SYN queues marked *.",
            number(settings.max_syn_backlog)
        ),
        Some(_) => "Every SYN gets a SYN cookie (tcp_syncookies 2), and the SYN queue is not used."
            .to_owned(),
    };
    format!(
        "The application's backlog, at most net.core.somaxconn ({}), limits both queues. {syn_queue}",
        number(settings.somaxconn)
    )
}

fn losses(host: &Losses) -> String {
    let with_rate = |count: u64, rate: Option<f64>| match rate {
        Some(rate) => format!("{} ({}/s)", whole(count), short(rate)),
        None => whole(count),
    };
    let syns = |count: u64, what: &str| match count {
        0 => String::new(),
        some => format!(", {} SYNs {what}", whole(some)),
    };
    format!(
        "Since the network namespace was created: {} SYNs and ACKs dropped at full accept \
         queues (ListenOverflows), {} dropped by listeners for that or for lack of resources (ListenDrops){}{}.",
        with_rate(host.overflows, host.overflows_pps),
        with_rate(host.drops, host.drops_pps),
        syns(host.syn_queue_full_drops, "dropped at a full SYN queue"),
        syns(
            host.syn_queue_full_cookies,
            "answered with SYN cookies at a full SYN queue or with tcp_syncookies 2"
        ),
    )
}
