//! The story of one attack.

use std::fmt::{self, Write};
use std::time::Duration;

use tcpguard_engine::{IncidentClass, Mode};
use tcpguard_host::finding::Severity;
use tcpguard_host::time::Time;
use tcpguard_host::units::{percent, short, span};

use super::event::event_line;
use super::view::{Tone, View, wrap};
use crate::documents::{Evidence, Incident, Rule, Status};

/// Columns before the text of a section.
pub(super) const INDENT: usize = 14;
/// Most actions shown: half of them the first ones, half the latest ones, which show the present state.
const ACTIONS_LISTED: usize = 8;
/// Share of an attack from which on most of it counts as stopped.
pub(super) const MOST: f64 = 0.5;

/// Time from `earlier` to `later`.
pub(super) fn between(earlier: Time, later: Time) -> Duration {
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
        let blanks = INDENT - 2 - heading.len();
        writeln!(out, "  {}{:blanks$}{line}", view.paint(Tone::Heading, heading), "")?;
    }
    Ok(())
}

/// Returns the severity in a word.
pub const fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Notice => "notice",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

/// An open attack: its class, the actions and their times, the rules that act, and advice.
pub(super) fn open(
    out: &mut impl Write,
    attack: &Incident,
    status: &Status,
    view: &View,
) -> fmt::Result {
    let headline = format!(
        "#{} {} since {} ({}), detected after {} by the {} signal{}",
        attack.id,
        severity_word(attack.severity),
        view.time(attack.since),
        span(between(attack.since, status.generated_at)),
        span(between(attack.since, attack.detected_at)),
        attack.signal,
        sure(attack),
    );
    paragraph(out, view, heading(attack), &headline)?;
    paragraph(out, view, "", &attack.summary)?;
    paragraph(out, view, "", &volume(attack))?;
    because(out, &attack.evidence, view)?;
    mitigations(out, attack, view)?;
    let rules =
        attack.rules.iter().filter_map(|id| status.rules.list.iter().find(|rule| rule.id == *id));
    for (number, rule) in rules.enumerate() {
        paragraph(
            out,
            view,
            if number == 0 { "Rules" } else { "" },
            &acting(rule, status.daemon.mode),
        )?;
    }
    if let Some(advice) = &attack.advice {
        let command =
            advice.command.as_ref().map_or_else(String::new, |command| format!(": {command}"));
        paragraph(out, view, "Advice", &format!("{}{command}", advice.text))?;
    }
    Ok(())
}

/// The heading of an incident: not all are attacks.
pub fn heading(attack: &Incident) -> &'static str {
    if IncidentClass::from(attack.class).is_flood() { "Attack" } else { "Incident" }
}

/// Confidence of the verdict that it is an attack; empty for other incidents.
fn sure(attack: &Incident) -> String {
    match heading(attack) {
        "Attack" => format!(", confidence {}", percent(attack.confidence)),
        _ => String::new(),
    }
}

/// The evidence for an attack, if there is any.
pub(super) fn because(out: &mut impl Write, evidence: &Evidence, view: &View) -> fmt::Result {
    let holding = evidence.gate.iter().filter(|item| item.holds);
    let details: Vec<String> =
        holding.map(|item| format!("{}: {}", item.name, item.detail)).collect();
    if details.is_empty() {
        return Ok(());
    }
    paragraph(out, view, "Because", &details.join("; "))
}

/// The volume of an incident, and the fate of its SYNs.
pub fn volume(attack: &Incident) -> String {
    let baseline = match attack.baseline_pps {
        Some(baseline) => format!(" where {} are usual", short(baseline)),
        None => String::new(),
    };
    let mut text = format!(
        "{} SYN/s now{baseline}, {} at most; {} SYNs so far",
        short(attack.syn_pps),
        short(attack.peak_syn_pps),
        short(attack.syns as f64),
    );
    let share = |count: u64| percent(count as f64 / attack.syns.max(1) as f64);
    if attack.dropped > 0 {
        text.push_str(&format!(", {} dropped", share(attack.dropped)));
    }
    if attack.cookies_sent > 0 {
        text.push_str(&format!(", {} answered with cookies", share(attack.cookies_sent)));
    }
    if attack.matched > attack.dropped {
        let let_pass = share(attack.matched - attack.dropped);
        text.push_str(&format!(", {let_pass} matched by rules in observe mode"));
    }
    match attack.mitigated_ratio {
        Some(share) if share < MOST => text.push_str(&format!(
            "; only {} stopped in the last second, the others reach the stack",
            percent(share)
        )),
        Some(share) => text.push_str(&format!("; {} stopped in the last second", percent(share))),
        None => {}
    }
    if attack.completed > 0 {
        text.push_str(&format!("; {} clients got in", short(attack.completed as f64)));
    }
    text
}

fn mitigations(out: &mut impl Write, attack: &Incident, view: &View) -> fmt::Result {
    let all = attack.actions.len();
    let left_out = all.saturating_sub(ACTIONS_LISTED);
    let listed = attack.actions.iter().enumerate().filter(|(number, _)| {
        *number < ACTIONS_LISTED / 2 || *number >= ACTIONS_LISTED / 2 + left_out
    });
    for (number, action) in listed {
        if number == ACTIONS_LISTED / 2 + left_out && left_out > 0 {
            paragraph(out, view, "", &format!("({left_out} more steps)"))?;
        }
        let after = span(between(attack.since, action.at));
        let text = format!("{} (+{after}) {}", view.time(action.at), event_line(&action.action));
        paragraph(out, view, if number == 0 { "Done" } else { "" }, &text)?;
    }
    Ok(())
}

fn acting(rule: &Rule, mode: Mode) -> String {
    let hits = short(rule.hits as f64);
    let effect = match mode {
        Mode::Enforce => format!("{hits} hits"),
        Mode::Observe | Mode::Off => format!("{hits} hits, nothing dropped"),
    };
    format!(
        "rule {} on {}: {effect}, {} passed when retransmitted and {} completed, ends in {} unless renewed",
        rule.id,
        rule.matches,
        short(rule.accepted_retransmits as f64),
        short(rule.completed as f64),
        span(Duration::from_secs(rule.expires_in_s)),
    )
}

/// A closed attack in one sentence.
pub(super) fn past(attack: &Incident, status: &Status, view: &View) -> String {
    let ended = attack.ended_at.unwrap_or(status.generated_at);
    format!(
        "#{} ended {} ({} ago) after {}: {}; {} SYNs, {} dropped",
        attack.id,
        view.time(ended),
        span(between(ended, status.generated_at)),
        span(between(attack.since, ended)),
        attack.summary,
        short(attack.syns as f64),
        short(attack.dropped as f64),
    )
}
