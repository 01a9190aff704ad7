//! The details of `tcpguard status --full`: the incidents as they went, every counter, and the latest alerts.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;

use tcpguard_host::units::{percent, short, span, whole};

use super::incidents::{self, between, paragraph};
use super::mitigations;
use super::table::{Cell, Table};
use super::view::{View, wrap};
use crate::documents::{AlertEntry, Fleet, FleetHint, Program, Rules, Status};

const SOURCES_SHOWN: usize = 5;
/// Alerts shown at the end.
const ALERTS_SHOWN: usize = 5;
/// Fill ratio, from 0 to 1, below which a table is not shown.
const FILL_SHOWN: f64 = 0.01;

/// The configuration in force, and the open incidents with evidence, actions and rules, or the last one.
pub(super) fn story(out: &mut impl Write, status: &Status, view: &View) -> fmt::Result {
    out.write_char('\n')?;
    paragraph(out, view, "Config", &config(status, view))?;
    for incident in &status.incidents {
        incidents::open(out, incident, status, view)?;
    }
    match status.past_incidents.first() {
        Some(last) if status.incidents.is_empty() => {
            paragraph(out, view, "Last", &incidents::past(last, status, view))
        }
        _ => Ok(()),
    }
}

/// The packets by what became of them, sources, mitigations, and the counters of kernel, rules and tables.
pub(super) fn counters(out: &mut impl Write, status: &Status, view: &View) -> fmt::Result {
    packets(out, status, view)?;
    out.write_char('\n')?;
    sources(out, status, view)?;
    mitigations::all(out, status, view)?;
    paragraph(out, view, "Kernel", &kernel(status))?;
    paragraph(out, view, "Rules", &rules(status))?;
    status.fleet.iter().try_for_each(|one| paragraph(out, view, "Fleet", &fleet(one, view)))?;
    paragraph(out, view, "Tables", &tables(status))?;
    alert_counts(status).iter().try_for_each(|alerts| paragraph(out, view, "Alerts", alerts))
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

fn packets(out: &mut impl Write, status: &Status, view: &View) -> fmt::Result {
    for interface in &status.interfaces {
        let totals = &interface.totals;
        let more = [(totals.cookies_sent, "SYN cookies"), (totals.unaccounted, "being decided")];
        let more = more.map(|(count, what)| match count {
            0 => String::new(),
            some => format!(" + {} {what}", whole(some)),
        });
        let text = format!(
            "{}: {} in = {} passed + {} dropped{}",
            interface.name,
            whole(totals.rx_packets),
            whole(totals.pass),
            whole(totals.drop_total),
            more.concat(),
        );
        paragraph(out, view, "Packets", &text)?;
        for (word, reasons) in [("passed", &totals.pass_reasons), ("dropped", &totals.drop)] {
            if !reasons.is_empty() {
                paragraph(out, view, "", &format!("{word}: {}", by_count(reasons)))?;
            }
        }
    }
    Ok(())
}

/// The cost of the programs, where it is measured.
pub(super) fn costs(programs: &[Program]) -> Option<String> {
    let cost = |program: &Program| {
        let cost = program.cost?;
        let each = cost.ns_per_run.map_or_else(String::new, |ns| format!(" {ns:.0}ns each,"));
        let (runs, cpu) = (short(cost.runs_pps), percent(cost.cpu_ratio));
        Some(format!("{}: {runs} runs/s,{each} {cpu} of one CPU", program.name))
    };
    let costs: Vec<_> = programs.iter().filter_map(cost).collect();
    (!costs.is_empty()).then(|| costs.join("; "))
}

/// Returns the reasons with their counts as text, the most frequent first.
pub(super) fn by_count(reasons: &BTreeMap<String, u64>) -> String {
    let mut sorted: Vec<_> = reasons.iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let parts: Vec<_> =
        sorted.iter().map(|(name, count)| format!("{name} {}", whole(**count))).collect();
    parts.join(", ")
}

fn sources(out: &mut impl Write, status: &Status, view: &View) -> fmt::Result {
    if status.sources.is_empty() {
        return Ok(());
    }
    let mut table =
        Table::new(["SOURCE", "SYN", "SYN-ACK", "ACK", "RST", "COMPLETED", "VALIDATED"]);
    for source in status.sources.iter().take(SOURCES_SHOWN) {
        let count = |count: u64| Cell::from(whole(count));
        table.row([
            source.addr.to_string().into(),
            count(source.syn),
            count(source.syn_ack),
            count(source.ack),
            count(source.rst),
            count(source.completed),
            if source.validated { "yes" } else { "no" }.into(),
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

/// The losses and replies of the kernel's own TCP, by the names of its counters.
fn kernel(status: &Status) -> String {
    let (kernel, counts) = (&status.kernel, &status.kernel.tcp_ext);
    let words = |name: &str, total: u64, rate: Option<f64>| match rate {
        Some(rate) => format!("{name} {}/s ({} ever)", short(rate), whole(total)),
        None => format!("{name} {} ever", whole(total)),
    };
    let rates = kernel.rates.as_ref();
    let conntrack =
        kernel.conntrack_ratio.map(|share| format!("conntrack {} full", percent(share)));
    let words = [
        words("SyncookiesSent", counts.syncookies_sent, rates.map(|rates| rates.syncookies_sent)),
        words(
            "ListenOverflows",
            counts.listen_overflows,
            rates.map(|rates| rates.listen_overflows),
        ),
        words("ListenDrops", counts.listen_drops, rates.map(|rates| rates.listen_drops)),
        words("TCPReqQFullDrop", counts.req_q_full_drop, rates.map(|rates| rates.req_q_full_drop)),
    ];
    words.into_iter().chain(conntrack).collect::<Vec<_>>().join(", ")
}

/// Returns the number of rules, and whether they are in the kernel, as text.
fn rules(status: &Status) -> String {
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
    let Rules { block_auto, block_manual, block_fleet, allow, .. } = rules;
    let of_fleet = match block_fleet {
        0 => String::new(),
        count => format!(", {count} of the fleet"),
    };
    format!(
        "{block_auto} automatic, {block_manual} manual{of_fleet}; {agreement}{next}; {allow} allowed"
    )
}

/// Returns the exchange with other hosts, with the hints that are seen here, as text.
fn fleet(fleet: &Fleet, view: &View) -> String {
    let connected = match (fleet.connected, fleet.heard_at) {
        (true, _) => "connected".to_owned(),
        (false, Some(at)) => format!("not connected, last heard {}", view.moment(at)),
        (false, None) => "not connected".to_owned(),
    };
    let refused: u64 = fleet.refused.values().sum();
    let seen = fleet.top_hints.iter().filter(|hint| hint.syns > 0).map(|hint| {
        let FleetHint { port, signature, reporters, syns, .. } = hint;
        format!("port {port}, {reporters} hosts, {} SYNs here: {signature}", short(*syns as f64))
    });
    let summary = format!(
        "{connected}; {} hints, {} messages refused, {} dropped",
        fleet.hints,
        whole(refused),
        whole(fleet.dropped)
    );
    std::iter::once(summary).chain(seen).collect::<Vec<_>>().join("; ")
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
        1 => "every flow is tracked".to_owned(),
        many => format!("one flow in {many} is tracked"),
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
    (!parts.is_empty()).then(|| format!("last 24h: {}", parts.join(", ")))
}

/// The latest alerts.
pub(super) fn log(out: &mut impl Write, status: &Status, view: &View) -> fmt::Result {
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
    let line = format!("{when} {} {}", alert.severity.name(), alert.message);
    for (number, line) in wrap(&line, view.width.saturating_sub(2)).iter().enumerate() {
        writeln!(out, "{}{line}", if number == 0 { "" } else { "  " })?;
    }
    Ok(())
}
