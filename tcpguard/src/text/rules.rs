//! Rules as tables and sentences.

use std::fmt::{self, Write};
use std::time::Duration;

use tcpguard_engine::{ImportReport, Mitigation, Mode};
use tcpguard_host::units::{counted, short, span};

use super::incidents::paragraph;
use super::reason::{clients_within, rule_reason};
use super::table::Table;
use super::view::{View, wrap};
use crate::documents::{Allowed, Blocked, Rule};

/// A table of rules; under each its matcher and reason, which may be long.
pub fn rules(out: &mut impl Write, rules: &[Rule], view: &View) -> fmt::Result {
    let mut table = Table::new([
        "RULE",
        "KIND",
        "ORIGIN",
        "CREATED",
        "ENDS IN",
        "HITS",
        "PASSED",
        "COMPLETED",
        "MATCHES",
    ]);
    for rule in rules {
        table.row([
            rule.id.to_string().into(),
            rule.kind.name().into(),
            origin(rule).into(),
            view.time(rule.created_at).into(),
            span(Duration::from_secs(rule.expires_in_s)).into(),
            short(rule.hits as f64).into(),
            short(rule.accepted_retransmits as f64).into(),
            short(rule.completed as f64).into(),
            // A prefix fits, with its ports; a signature follows on lines of its own.
            if rule.kind == Mitigation::Source { rule.subject() } else { "(below)".to_owned() }
                .into(),
        ]);
    }
    table.write(out, view)?;
    out.write_char('\n')?;
    for rule in rules {
        let reason = rule_reason(&rule.reason);
        let text = match rule.kind {
            Mitigation::Source => format!("rule {}: {reason}", rule.id),
            _ => format!("rule {}: {} — {reason}", rule.id, rule.matches),
        };
        let text = match reverts(rule, view) {
            Some(back) => format!("{text}; {back}"),
            None => text,
        };
        for (number, line) in wrap(&text, view.width.saturating_sub(2)).iter().enumerate() {
            writeln!(out, "{}{line}", if number == 0 { "" } else { "  " })?;
        }
    }
    Ok(())
}

/// The page of one rule: matcher, effect, reason, lifetime and counters.
pub fn rule(out: &mut impl Write, rule: &Rule, mode: Mode, view: &View) -> fmt::Result {
    let effect = match mode {
        Mode::Enforce => "drops matching SYNs".to_owned(),
        _ => format!("only counts matching SYNs: mode {}", mode.name()),
    };
    let renewed = if rule.incident.is_some() { ", renewed while it matches" } else { "" };
    let ends = format!(
        "{} (in {}){renewed}",
        view.end(rule.created_at, rule.expires_at),
        span(Duration::from_secs(rule.expires_in_s))
    );
    let hits = format!(
        "{}; {} passed when retransmitted, {} of these completed",
        short(rule.hits as f64),
        short(rule.accepted_retransmits as f64),
        short(rule.completed as f64)
    );
    let facts = [
        ("Rule", format!("{}, {}, {}", rule.id, rule.kind.name(), origin(rule))),
        ("Matches", rule.subject()),
        ("Effect", effect),
        ("Reason", rule_reason(&rule.reason)),
        ("Created", view.moment(rule.created_at)),
        ("Expires", ends),
        ("Hits", hits),
    ];
    for (heading, text) in &facts {
        paragraph(out, view, heading, text)?;
    }
    reverts(rule, view).map_or(Ok(()), |pending| paragraph(out, view, "Pending", &pending))
}

fn origin(rule: &Rule) -> String {
    match rule.incident {
        Some(attack) => format!("attack #{attack}"),
        None => rule.origin.to_string(),
    }
}

/// The outcome of `tcpguard block`, done or previewed.
pub fn blocked(out: &mut impl Write, blocked: &Blocked, view: &View) -> fmt::Result {
    let Blocked { rule, replaces, dry_run, clients } = blocked;
    let lifetime = span(Duration::from_secs(rule.expires_in_s));
    let ends = view.end(rule.created_at, rule.expires_at);
    let unless = if rule.confirmed_until.is_some() { " unless confirmed" } else { "" };
    if *dry_run {
        writeln!(out, "would block {} for {lifetime}, until {ends}{unless}", rule.subject())?;
    } else {
        let (subject, id) = (rule.subject(), rule.id);
        writeln!(out, "blocked {subject} for {lifetime}, until {ends}{unless} (rule {id})")?;
    }
    if let Some(old) = replaces {
        let left = span(Duration::from_secs(old.expires_in_s));
        writeln!(out, "it replaces rule {} on {}, which has {left} left", old.id, old.subject())?;
    }
    match (clients.validated, dry_run) {
        (0, _) => Ok(()),
        (_, true) => writeln!(out, "it would cut off {}", clients_within(*clients)),
        (_, false) => writeln!(out, "it cuts off {}", clients_within(*clients)),
    }
}

/// Returns the time at which a rule that is pending confirmation reverts, and the command that confirms it, as text.
fn reverts(rule: &Rule, view: &View) -> Option<String> {
    let until = view.time(rule.confirmed_until?);
    let (left, ends) = (span(Duration::from_secs(rule.expires_in_s)), view.time(rule.expires_at));
    let prefix = &rule.matches;
    Some(format!(
        "it is rolled back in {left} (at {ends}) unless confirmed, then it expires at {until}: tcpguard \
         confirm {prefix}"
    ))
}

/// Returns the same about all rules that are pending confirmation, as a sentence; `None` where there are none.
pub fn pending_confirmation(rules: &[Rule], view: &View) -> Option<String> {
    let waiting: Vec<&Rule> = rules.iter().filter(|rule| rule.confirmed_until.is_some()).collect();
    match waiting.as_slice() {
        [] => None,
        [rule] => {
            let back = reverts(rule, view)?;
            Some(format!("rule {} on {}: {back}", rule.id, rule.subject()))
        }
        several => {
            let first = several.iter().min_by_key(|rule| rule.expires_in_s)?;
            Some(format!(
                "{} rules are rolled back, the first in {} (at {}), unless confirmed: sudo tcpguard confirm",
                several.len(),
                span(Duration::from_secs(first.expires_in_s)),
                view.time(first.expires_at)
            ))
        }
    }
}

/// The outcome of `tcpguard confirm`.
pub fn confirmed(out: &mut impl Write, rules: &[Rule], view: &View) -> fmt::Result {
    for rule in rules {
        let lifetime = span(Duration::from_secs(rule.expires_in_s));
        let ends = view.end(rule.created_at, rule.expires_at);
        let (subject, id) = (rule.subject(), rule.id);
        writeln!(out, "confirmed {subject} for {lifetime}, until {ends} (rule {id})")?;
    }
    Ok(())
}

/// The outcome of `tcpguard rules import`, done or previewed.
pub fn imported(out: &mut impl Write, imported: &ImportReport, dry_run: bool) -> fmt::Result {
    let ImportReport { added, kept, removed, total, .. } = imported;
    let (did, then) = if dry_run { ("would import", "then") } else { ("imported", "now") };
    let rules = counted(u64::from(added + kept), "rule");
    writeln!(out, "{did} {rules}: {added} new, {kept} unchanged; {removed} others removed")?;
    writeln!(out, "{then} in all: {}", counted(u64::from(*total), "rule"))
}

/// The allowlist as a table.
pub fn allowlist(out: &mut impl Write, allowed: &[Allowed], view: &View) -> fmt::Result {
    let mut table = Table::new(["ALLOWED", "ENDS IN", "BY", "REASON"]);
    for one in allowed {
        let by = one.fleet.clone().unwrap_or_else(|| format!("uid {}", one.uid));
        table.row([
            one.prefix.to_string().into(),
            span(Duration::from_secs(one.expires_in_s)).into(),
            by.into(),
            one.reason.as_str().into(),
        ]);
    }
    table.write(out, view)
}

/// The outcome of `tcpguard allow`.
pub fn allowed(out: &mut impl Write, allowed: &Allowed, view: &View) -> fmt::Result {
    let lifetime = span(Duration::from_secs(allowed.expires_in_s));
    let ends = view.end(allowed.created_at, allowed.expires_at);
    writeln!(out, "allowed {} for {lifetime}, until {ends}", allowed.prefix)
}

/// The exemptions that `tcpguard disallow` removed.
pub fn disallowed(out: &mut impl Write, removed: &[Allowed]) -> fmt::Result {
    for one in removed {
        let left = span(Duration::from_secs(one.expires_in_s));
        writeln!(out, "{} is no longer allowed ({}; it had {left} left)", one.prefix, one.reason)?;
    }
    Ok(())
}

/// The rules that `tcpguard unblock` removed, or would remove.
pub fn removed(out: &mut impl Write, rules: &[Rule], dry_run: bool) -> fmt::Result {
    if rules.is_empty() {
        return writeln!(out, "no rules, nothing was removed");
    }
    let (did, had) = if dry_run { ("would remove", "it has") } else { ("removed", "it had") };
    for rule in rules {
        writeln!(
            out,
            "{did} rule {} on {} ({}; {} hits; {had} {} left)",
            rule.id,
            rule.subject(),
            origin(rule),
            short(rule.hits as f64),
            span(Duration::from_secs(rule.expires_in_s)),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tcpguard_engine::{Ports, RuleId, RuleOrigin, RuleReason};

    use super::*;
    use tcpguard_host::time::Time;

    fn rule(id: u32, expires_in_s: u64, confirmed_until: Option<&str>) -> Rule {
        let at = |text: &str| Time(format!("2026-11-20T{text}Z").parse().unwrap());
        Rule {
            id: RuleId(id),
            kind: Mitigation::Source,
            matches: "10.0.0.0/8".to_owned(),
            ports: Ports::EVERY,
            origin: RuleOrigin::Operator,
            incident: None,
            reason: RuleReason::Given { text: "abuse".to_owned() },
            created_at: at("14:05:31"),
            expires_at: at("14:06:31"),
            expires_in_s,
            confirmed_until: confirmed_until.map(at),
            hits: 0,
            accepted_retransmits: 0,
            completed: 0,
        }
    }

    #[test]
    fn what_waits_for_a_word_says_until_when_and_what_to_type() {
        let view =
            View { utf8: true, colour: false, zone: jiff::tz::TimeZone::UTC, width: View::WIDTH };
        let waiting = |rules: &[Rule]| pending_confirmation(rules, &view);
        let (settled, first) = (rule(1, 3600, None), rule(2, 58, Some("15:05:31")));
        assert_eq!(waiting(std::slice::from_ref(&settled)), None);
        assert_eq!(
            waiting(&[settled.clone(), first.clone()]).as_deref(),
            Some(
                "rule 2 on 10.0.0.0/8: it is rolled back in 58s (at 14:06:31) unless confirmed, then it \
                 expires at 15:05:31: tcpguard confirm 10.0.0.0/8"
            )
        );
        assert_eq!(
            waiting(&[rule(3, 90, Some("15:05:31")), settled, first.clone()]).as_deref(),
            Some(
                "2 rules are rolled back, the first in 58s (at 14:06:31), unless confirmed: sudo tcpguard confirm"
            )
        );
        let mut page = String::new();
        rules(&mut page, &[first], &view).unwrap();
        assert!(page.contains("it is rolled back in 58s"), "{page}");
    }
}
