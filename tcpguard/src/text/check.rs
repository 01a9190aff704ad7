//! A line for monitoring, as its plugins print it (Monitoring Plugins Development Guidelines, "Plugin
//! Output" and "Performance data").

use std::fmt::{self, Write};

use tcpguard_host::escape;
use tcpguard_host::units::short;

use super::clients::clients;
use crate::documents::monitoring::{Level, Measured, Metric, Report};

/// Reasons shown in the line; the rest is in the status.
const REASONS_LISTED: usize = 3;

/// One line: the level and the situation, then whether clients connect, then the reasons. The numbers for
/// graphs follow behind a bar.
pub fn check(out: &mut impl Write, report: &Report) -> fmt::Result {
    let level = match report.level {
        Level::Ok => "OK",
        Level::Warning => "WARNING",
        Level::Critical => "CRITICAL",
        Level::Unknown => "UNKNOWN",
    };
    let mut text = report.situation.clone();
    if let Some(known) = &report.clients {
        write!(text, ", {}", clients(known, None))?;
    }
    let syns = report.metrics.iter().find(|it| it.metric == Metric::SynPps);
    if let Some(syns) = syns.and_then(|it| it.value) {
        write!(text, ", {} SYN/s", short(syns))?;
    }
    for reason in report.reasons.iter().take(REASONS_LISTED) {
        write!(text, "; {reason}")?;
    }
    if !report.reasons.is_empty() {
        text.push_str("; see: tcpguard status");
    }
    // A bar ends the words, and a line the plugin's answer.
    let is_foreign = |char: char| char == '|' || escape::is_unseen(char);
    write!(out, "TCPGUARD {level} - {}", text.replace(is_foreign, "/"))?;
    for (number, measured) in report.metrics.iter().enumerate() {
        out.write_str(if number == 0 { " | " } else { " " })?;
        data(out, measured)?;
    }
    out.write_char('\n')
}

/// Writes `name=value;warning;critical;least`.
fn data(out: &mut impl Write, measured: &Measured) -> fmt::Result {
    let Measured { metric, value, warn, crit } = measured;
    // `U` says that a number exists and is not known.
    let value = value.map_or_else(
        || "U".to_owned(),
        |value| format!("{}{}", (value * 100.0).round() / 100.0, metric.unit()),
    );
    let range = |range: &Option<String>| range.clone().unwrap_or_default();
    // No highest value: there can be more half-open handshakes than the queue's capacity, and more clients than
    // the baseline.
    write!(out, "{}={value};{};{};0", metric.name(), range(warn), range(crit))
}
