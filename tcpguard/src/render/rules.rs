//! Rules as tables and sentences.

use std::fmt::{self, Write};
use std::time::Duration;

use super::WIDTH;
use super::number::{short, span};
use super::table::Table;
use super::view::{View, wrap};
use crate::status::Rule;

/// A table of rules; under each what it matches and why, which may be long.
pub fn rules(out: &mut impl Write, rules: &[Rule], view: &View) -> fmt::Result {
    let mut table =
        Table::new(["RULE", "KIND", "ORIGIN", "CREATED", "ENDS IN", "HITS", "RETURNED", "MATCHES"]);
    for rule in rules {
        table.row([
            rule.id.to_string().into(),
            rule.kind.as_str().into(),
            origin(rule).into(),
            view.time(rule.created_at).into(),
            span(Duration::from_secs(rule.expires_in_s)).into(),
            short(rule.hits as f64).into(),
            short(rule.returned as f64).into(),
            // A prefix fits; a signature follows on lines of its own.
            if rule.kind == "source" { rule.matches.as_str() } else { "(below)" }.into(),
        ]);
    }
    table.write(out, view)?;
    out.write_char('\n')?;
    for rule in rules {
        let text = match rule.kind.as_str() {
            "source" => format!("rule {}: {}", rule.id, rule.reason),
            _ => format!("rule {}: {} — {}", rule.id, rule.matches, rule.reason),
        };
        for (number, line) in wrap(&text, WIDTH - 2).iter().enumerate() {
            writeln!(out, "{}{line}", if number == 0 { "" } else { "  " })?;
        }
    }
    Ok(())
}

fn origin(rule: &Rule) -> String {
    match rule.attack {
        Some(attack) => format!("attack #{attack}"),
        None => rule.origin.clone(),
    }
}

/// What `tcpguard block` did or would do.
pub fn blocked(out: &mut impl Write, rule: &Rule, dry_run: bool, view: &View) -> fmt::Result {
    let lifetime = span(Duration::from_secs(rule.expires_in_s));
    let ends = view.time(rule.expires_at);
    if dry_run {
        writeln!(out, "would block {} for {lifetime}, until {ends}", rule.matches)
    } else {
        writeln!(out, "blocked {} for {lifetime}, until {ends} (rule {})", rule.matches, rule.id)
    }
}

/// What `tcpguard unblock` removed.
pub fn removed(out: &mut impl Write, rules: &[Rule]) -> fmt::Result {
    if rules.is_empty() {
        return writeln!(out, "no rules, nothing was removed");
    }
    for rule in rules {
        writeln!(
            out,
            "removed rule {} on {} ({}; {} hits; it had {} left)",
            rule.id,
            rule.matches,
            origin(rule),
            short(rule.hits as f64),
            span(Duration::from_secs(rule.expires_in_s)),
        )?;
    }
    Ok(())
}
