//! The results for people, as tables that Markdown understands.

use std::fmt::Write as _;

use tcpguard_e2e::clients::Attempts;
use tcpguard_e2e::measure::lower_bound;

use super::record::{LIMITS, Record, Spread};
use super::run::{PATIENCE, Setting};

const HEAD: &str = "\
| defence | new ≤ 1 s % (≥) | new ≤ 4 s % (≥) | known ≤ 1 s % (≥) | known ≤ 4 s % (≥) | new p50 / p99 ms | known p50 / p99 ms | × idle p50 / p99 | taken/s (min–max) | CPU ns/packet (min–max) | × drop (min–max) | clients, runs |
|---|---|---|---|---|---|---|---|---|---|---|---|
";

/// All tables, one for each setting, in the order in which they were measured.
pub fn render(records: &[Record]) -> String {
    let mut text = String::new();
    let mut shown: Vec<Setting> = Vec::new();
    for record in records {
        if shown.contains(&record.setting) {
            continue;
        }
        shown.push(record.setting);
        let _ = write!(text, "\n{}\n\n{HEAD}", title(&record.setting));
        for row in records.iter().filter(|other| other.setting == record.setting) {
            text.push_str(&line(row, idle(records, &row.setting)));
        }
    }
    text
}

/// The run without a flood that belongs to a setting.
fn idle<'a>(records: &'a [Record], setting: &Setting) -> Option<&'a Record> {
    records.iter().find(|r| r.setting.rate.is_none() && r.setting.far == setting.far)
}

fn title(setting: &Setting) -> String {
    let rate = setting.rate.map_or("idle".to_owned(), super::attack::Rate::title);
    let link = if setting.far { ", clients at 100 ms ± 20 ms" } else { "" };
    let linear = setting.linear.map_or(String::new(), |n| format!(", tcp_syn_linear_timeouts={n}"));
    format!("**{rate}{link}{linear}**")
}

fn line(record: &Record, idle: Option<&Record>) -> String {
    let title = record.arm.title();
    if let Some(reason) = &record.unavailable {
        return format!("| {title} | not available: {reason} |\n");
    }
    let (strangers, regulars) = (record.strangers(), record.regulars());
    let shares = |attempts: &Attempts| LIMITS.map(|limit| share(attempts, limit)).join(" | ");
    let flaw = |count: usize, word: &str| match count {
        0 => String::new(),
        count => format!(", {count} {word}"),
    };
    let flaws = flaw(record.marked(), "marked") + &flaw(record.failed, "failed");
    let flooded = record.setting.rate.is_some();
    let spread = |spread: Option<Spread>, digits: usize| match spread.filter(|_| flooded) {
        None => "–".to_owned(),
        Some(Spread { median, least, most }) => {
            format!("{median:.digits$} ({least:.digits$}–{most:.digits$})")
        }
    };
    format!(
        "| {title} | {} | {} | {} | {} | {} | {} | {} | {} | {}, {}{flaws} |\n",
        shares(&strangers),
        shares(&regulars),
        quantiles(&strangers),
        quantiles(&regulars),
        idle.map_or("–".to_owned(), |idle| times(&strangers, &idle.strangers())),
        spread(record.taken(), 0),
        spread(record.ns_per_packet(), 0),
        spread(record.times_drop(), 2),
        strangers.0.len(),
        record.runs.len(),
    )
}

fn share(attempts: &Attempts, limit: std::time::Duration) -> String {
    let (successes, count) = (attempts.within(limit), attempts.0.len());
    if count == 0 {
        return "–".to_owned();
    }
    let percent = 100.0 * successes as f64 / count as f64;
    format!("{percent:.2} ({:.2})", 100.0 * lower_bound(successes, count))
}

/// p50 and p99 of the time until the connection was open, in ms.
fn connect_times(attempts: &Attempts) -> Option<[f64; 2]> {
    let ms = |share| attempts.connect_quantile(share, PATIENCE).map(|t| t.as_secs_f64() * 1e3);
    Some([ms(0.5)?, ms(0.99)?])
}

fn quantiles(attempts: &Attempts) -> String {
    let shown = |ms: f64| match ms >= PATIENCE.as_secs_f64() * 1e3 {
        true => "never".to_owned(),
        false => format!("{ms:.2}"),
    };
    match connect_times(attempts) {
        None => "–".to_owned(),
        Some([half, most]) => format!("{} / {}", shown(half), shown(most)),
    }
}

fn times(attempts: &Attempts, idle: &Attempts) -> String {
    match (connect_times(attempts), connect_times(idle)) {
        (Some(these), Some(idle)) => {
            format!("{:.2} / {:.2}", these[0] / idle[0], these[1] / idle[1])
        }
        _ => "–".to_owned(),
    }
}
