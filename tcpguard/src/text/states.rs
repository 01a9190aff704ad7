//! Connections by state, the resources they use, and their owners.

use std::fmt::{self, Write};

use tcpguard_host::finding::{Owner, Severity};
use tcpguard_host::linux::TcpState;
use tcpguard_host::states::{
    Holder, NO_LIMIT, Queues, Resource, ResourceKind, StateCount, StatesReport,
};
use tcpguard_host::units::{bytes, percent, whole};

use super::findings::{headline, list, unread};
use super::table::{Cell, Table};
use super::view::{Tone, View};

/// Processes with connections in CLOSE_WAIT that are shown.
const HOLDERS_SHOWN: usize = 5;
/// Processes shown with the data that waits in their connections.
const QUEUES_SHOWN: usize = 15;

pub fn states(out: &mut impl Write, report: &StatesReport, view: &View) -> fmt::Result {
    let what = match report.states.iter().map(StateCount::total).sum::<u64>() {
        1 => "1 TCP socket".to_owned(),
        all => format!("{} TCP sockets", whole(all)),
    };
    headline(out, view, &what, &report.findings)?;
    out.write_char('\n')?;
    counts(out, report, view)?;
    out.write_char('\n')?;
    resources(out, report, view)?;
    if !report.close_wait.is_empty() {
        out.write_char('\n')?;
        close_wait(out, &report.close_wait, view)?;
    }
    if let Some(found) = &report.queues {
        out.write_char('\n')?;
        queues(out, found, view)?;
    }
    if !report.unread.is_empty() {
        out.write_char('\n')?;
    }
    unread(out, view, &report.unread)?;
    if !report.findings.is_empty() {
        out.write_char('\n')?;
    }
    list(out, view, &report.findings, "tcpguard states --json")
}

/// The tone of a judgement.
fn tone(severity: Option<Severity>) -> Tone {
    match severity {
        None => Tone::Plain,
        Some(Severity::Critical) => Tone::Bad,
        Some(_) => Tone::Warning,
    }
}

fn counts(out: &mut impl Write, report: &StatesReport, view: &View) -> fmt::Result {
    let mut table = Table::new(["STATE", "IPV4", "IPV6", "TOTAL", "EXPECTED", "JUDGEMENT"]);
    for count in &report.states {
        // It is passed through in a moment.
        if count.state == TcpState::Close && count.total() == 0 {
            continue;
        }
        let tone = tone(count.severity);
        let judgement = match (count.expected_max, count.severity) {
            (None, _) => "".into(),
            (Some(_), None) => Cell::toned("● ok", Tone::Good),
            (Some(_), Some(Severity::Critical)) => Cell::toned("✗ too high", Tone::Bad),
            (Some(_), Some(_)) => Cell::toned("! high", Tone::Warning),
        };
        table.row([
            count.state.name().into(),
            whole(count.ipv4).into(),
            whole(count.ipv6).into(),
            Cell::toned(whole(count.total()), tone),
            count.expected_max.map_or_else(String::new, |most| format!("≤ {}", whole(most))).into(),
            judgement,
        ]);
    }
    table.write(out, view)
}

fn resources(out: &mut impl Write, report: &StatesReport, view: &View) -> fmt::Result {
    let mut table = Table::new(["RESOURCE", "USED", "LIMIT", "SHARE"]);
    for resource in &report.resources {
        table.row([
            name(resource).into(),
            resource.used.map_or_else(|| "-".to_owned(), whole).into(),
            limit(resource.limit).into(),
            Cell::toned(
                resource.ratio.map_or_else(|| "-".to_owned(), percent),
                tone(resource.severity),
            ),
        ]);
    }
    table.write(out, view)
}

fn limit(limit: Option<u64>) -> String {
    match limit {
        None => "-".to_owned(),
        Some(NO_LIMIT..) => "none".to_owned(),
        Some(some) => whole(some),
    }
}

fn name(resource: &Resource) -> String {
    match (resource.resource, &resource.process, resource.destination) {
        (ResourceKind::TimeWait, ..) => "TIME_WAIT (tcp_max_tw_buckets)".to_owned(),
        (ResourceKind::Orphans, ..) => "orphans (tcp_max_orphans)".to_owned(),
        (ResourceKind::Memory, ..) => "TCP memory, pages (tcp_mem)".to_owned(),
        (ResourceKind::Files, ..) => "open files (file-max)".to_owned(),
        (ResourceKind::LocalPorts, _, Some(destination)) => format!("local ports to {destination}"),
        (ResourceKind::LocalPorts, _, None) => "local ports".to_owned(),
        (ResourceKind::Descriptors, Some(process), _) => format!("descriptors of {process}"),
        (ResourceKind::Descriptors, None, _) => "descriptors".to_owned(),
    }
}

fn close_wait(out: &mut impl Write, holders: &[Holder], view: &View) -> fmt::Result {
    let mut table = Table::new(["CLOSE_WAIT BY PROCESS", "CONNECTIONS", "DESCRIPTORS"]);
    for holder in holders.iter().take(HOLDERS_SHOWN) {
        let descriptors = match (holder.descriptors, holder.descriptor_limit) {
            (Some(used), Some(limit)) => format!("{} of {}", whole(used), whole(limit)),
            (Some(used), None) => whole(used),
            (None, _) => "-".to_owned(),
        };
        table.row([
            process(holder.process.as_ref(), holder.accept_queue).into(),
            whole(holder.connections).into(),
            descriptors.into(),
        ]);
    }
    table.write(out, view)?;
    left_out(out, HOLDERS_SHOWN, holders.len())
}

fn queues(out: &mut impl Write, queues: &Queues, view: &View) -> fmt::Result {
    let mut table =
        Table::new(["PROCESS", "CONNECTIONS", "UNREAD", "MAX", "UNACKNOWLEDGED", "MAX"]);
    for of_process in queues.processes.iter().take(QUEUES_SHOWN) {
        table.row([
            process(of_process.process.as_ref(), of_process.accept_queue).into(),
            whole(of_process.connections).into(),
            bytes(of_process.unread).into(),
            bytes(of_process.unread_max.into()).into(),
            bytes(of_process.unacknowledged).into(),
            bytes(of_process.unacknowledged_max.into()).into(),
        ]);
    }
    table.write(out, view)?;
    left_out(out, QUEUES_SHOWN, queues.processes.len())?;
    if queues.worst.is_empty() {
        return Ok(());
    }
    out.write_char('\n')?;
    let mut table = Table::new(["RECV-Q", "SEND-Q", "STATE", "PORT", "PEER", "PROCESS"]);
    for connection in &queues.worst {
        table.row([
            bytes(connection.unread.into()).into(),
            bytes(connection.unacknowledged.into()).into(),
            connection.state.name().into(),
            connection.local.port().to_string().into(),
            connection.remote.to_string().into(),
            process(connection.process.as_ref(), connection.accept_queue).into(),
        ]);
    }
    table.write(out, view)
}

fn process(owner: Option<&Owner>, accept_queue: Option<u16>) -> String {
    match (owner, accept_queue) {
        (Some(owner), _) => owner.to_string(),
        (None, Some(port)) => format!("accept queue of :{port}"),
        (None, None) => "unknown".to_owned(),
    }
}

/// Writes that a table has more rows than are shown, if it has.
fn left_out(out: &mut impl Write, shown: usize, all: usize) -> fmt::Result {
    if all <= shown {
        return Ok(());
    }
    writeln!(out, "({shown} of {} shown; --json shows all)", whole(all as u64))
}
