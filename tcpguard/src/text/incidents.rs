//! The incidents of a status page.

use std::fmt::{self, Write};
use std::time::Duration;

use tcpguard_host::time::Time;
use tcpguard_host::units::{percent, short, span};

use super::incident::{self, Block, Section, write};
use super::table::Table;
use super::view::{Tone, View, wrap};
use crate::documents::{Incident, Incidents, Status};

/// Columns before the text of a section.
pub(super) const INDENT: usize = 14;

/// Most rules of an incident that are listed.
const RULES: usize = 8;

/// Time from `earlier` to `later`; nothing where it is the other way round.
pub(crate) fn between(earlier: Time, later: Time) -> Duration {
    later.0.duration_since(earlier.0).try_into().unwrap_or_default()
}

/// `text`, wrapped, behind a heading on its first line.
pub(super) fn paragraph(
    out: &mut impl Write,
    view: &View,
    heading: &str,
    text: &str,
) -> fmt::Result {
    for (number, line) in wrap(text, view.width.saturating_sub(INDENT)).iter().enumerate() {
        let heading = if number == 0 { heading } else { "" };
        let blanks = (INDENT - 2).saturating_sub(heading.len());
        writeln!(out, "  {}{:blanks$}{line}", view.paint(Tone::Heading, heading), "")?;
    }
    Ok(())
}

/// The table of open and past incidents.
pub fn incidents(out: &mut impl Write, all: &Incidents, view: &View) -> fmt::Result {
    let mut table = Table::new(["ID", "START", "END", "PEAK/s", "DONE", "INCIDENT"]);
    for one in &all.incidents {
        let end = |ended| view.end(one.since, ended);
        table.row([
            format!("#{}", one.id).into(),
            view.moment(one.since).into(),
            match one.was_left_open() {
                true => "not known".to_owned(),
                false => one.ended_at.map_or_else(|| "open".to_owned(), end),
            }
            .into(),
            short(one.peak_syn_pps).into(),
            done(one).into(),
            incident::title(one).into(),
        ]);
    }
    table.write(out, view)
}

/// Effect of the mitigations on the SYNs of an incident.
fn done(incident: &Incident) -> String {
    let share = |count: u64| percent((count as f64 / incident.counts.syns.max(1) as f64).min(1.0));
    let dropped = format!("{} dropped", share(incident.counts.dropped));
    let cookies = format!("{} SYN cookies", short(incident.counts.cookies_sent as f64));
    match (incident.counts.dropped, incident.counts.cookies_sent) {
        (0, 0) if incident.counts.matched > 0 => {
            format!("{} matched only", share(incident.counts.matched))
        }
        (0, 0) => "nothing".to_owned(),
        (_, 0) => dropped,
        (0, _) => cookies,
        _ => format!("{dropped}, {cookies}"),
    }
}

/// An open incident beside the situation, which says most of it: its numbers, and the rules that act.
pub(super) fn open(
    out: &mut impl Write,
    attack: &Incident,
    status: &Status,
    view: &View,
) -> fmt::Result {
    let name = format!("#{} {}", attack.id, incident::title(attack));
    let mut blocks = vec![Block::Fact(incident::heading(attack), name)];
    blocks.extend(incident::facts(attack));
    let rules =
        attack.rules.iter().filter_map(|id| status.rules.list.iter().find(|rule| rule.id.0 == *id));
    let more = attack.rules.len().saturating_sub(RULES);
    blocks.extend(rules.take(RULES).map(|rule| {
        let text = format!(
            "{}: {}, {} hits, {} passed when retransmitted, {} completed",
            rule.id,
            rule.matches,
            short(rule.hits as f64),
            short(rule.accepted_retransmits as f64),
            short(rule.completed as f64)
        );
        Block::Fact("Rule", text)
    }));
    if more > 0 {
        blocks.push(Block::Fact("Rule", format!("{more} more: tcpguard rules list")));
    }
    blocks.push(Block::Fact("Details", format!("tcpguard explain {}", attack.id)));
    write(out, &[Section { title: "", blocks }], view)
}

/// A closed incident in one line.
pub(super) fn past(attack: &Incident, status: &Status, view: &View) -> String {
    let ended = attack.ended_at.unwrap_or(status.generated_at);
    let dropped =
        percent((attack.counts.dropped as f64 / attack.counts.syns.max(1) as f64).min(1.0));
    format!(
        "#{} {}, {} to {} ({}), {} SYNs, {dropped} dropped",
        attack.id,
        incident::title(attack),
        view.time(attack.since),
        view.time(ended),
        span(between(attack.since, ended)),
        short(attack.counts.syns as f64),
    )
}
