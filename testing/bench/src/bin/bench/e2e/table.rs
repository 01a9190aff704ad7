//! The tables of the report.

use tcpguard_kit::measure::lower_bound;

use super::attack::Rate;
use super::record::{Clients, Record};
use super::run::Setting;
use crate::part::Report;

const COLUMNS: [&str; 10] = [
    "defence",
    "new ≤ 1 s % (≥)",
    "new ≤ 3 s % (≥)",
    "known ≤ 1 s % (≥)",
    "open connection lost %",
    "offered/s",
    "taken/s",
    "CPU ns/packet",
    "× ideal (min–max)",
    "clients, runs",
];

/// All tables, one for each setting, in the order in which they were measured.
pub fn tables(report: &mut Report, records: &[Record]) {
    let mut shown: Vec<Setting> = Vec::new();
    for record in records {
        if shown.contains(&record.setting) {
            continue;
        }
        shown.push(record.setting);
        report.text(title(&record.setting));
        let rows = records.iter().filter(|other| other.setting == record.setting);
        report.table(&COLUMNS, rows.map(line));
    }
}

fn title(setting: &Setting) -> String {
    let rate = setting.rate.map_or("idle".to_owned(), |rate| {
        format!("{} flood, {}", setting.flood.title(), Rate::title(rate))
    });
    let family = if setting.ipv6 { ", IPv6" } else { "" };
    let link = if setting.far { ", clients at 100 ms ± 20 ms" } else { "" };
    let linear = setting.linear.map_or(String::new(), |n| format!(", tcp_syn_linear_timeouts={n}"));
    format!("**{rate}{family}{link}{linear}**")
}

fn line(record: &Record) -> Vec<String> {
    let title = record.arm.title().to_owned();
    if let Some(reason) = &record.unavailable {
        return vec![title, format!("not available: {reason}")];
    }
    let (new_clients, validated_clients) = (record.new_clients(), record.validated_clients());
    let flaw = |count: usize, word: &str| match count {
        0 => String::new(),
        count => format!(", {count} {word}"),
    };
    let flaws = flaw(record.marked(), "marked") + &flaw(record.failed, "failed");
    let flooded = |value: Option<f64>| value.filter(|_| record.setting.rate.is_some());
    let [new_soon, new_late, _] = shares(&new_clients);
    let [validated_soon, ..] = shares(&validated_clients);
    vec![
        title,
        new_soon,
        new_late,
        validated_soon,
        record.samples(|run| Some(run.open_lost)).middle(2),
        record.samples(|run| flooded(Some(run.offered))).middle(0),
        record.samples(|run| flooded(Some(run.taken))).middle(0),
        record.samples(|run| flooded(run.ns_per_packet)).middle(0),
        record.samples(|run| flooded(run.times_drop())).cell(2),
        format!("{}, {}{flaws}", new_clients.attempts, record.runs.len()),
    ]
}

/// Answered within one, three and seven seconds.
fn shares(clients: &Clients) -> [String; 3] {
    let share = |successes| match clients.attempts {
        0 => "–".to_owned(),
        count => format!(
            "{:.2} ({:.2})",
            100.0 * successes as f64 / count as f64,
            100.0 * lower_bound(successes, count)
        ),
    };
    clients.counts().map(share)
}
