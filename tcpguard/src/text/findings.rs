//! The findings of an examination of the host, in one line and line by line.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use tcpguard_host::finding::{Finding, Severity};

use super::attack::paragraph;
use super::view::{Tone, View};

/// Findings of one kind that are shown one by one.
const LISTED: usize = 5;

/// `! 23 listeners — 1 critical, 2 warnings`
pub(super) fn headline(
    out: &mut impl Write,
    view: &View,
    what: &str,
    findings: &[Finding],
) -> fmt::Result {
    let worst = findings.iter().map(|finding| finding.severity).max();
    let (sign, tone) = match worst {
        Some(Severity::Critical) => ("✗", Tone::Bad),
        Some(Severity::Warning) => ("!", Tone::Warning),
        Some(Severity::Notice) | None => ("●", Tone::Good),
    };
    let count = |severity, one: &str, many: &str| {
        let count = findings.iter().filter(|finding| finding.severity == severity).count();
        match count {
            0 => None,
            1 => Some(format!("1 {one}")),
            _ => Some(format!("{count} {many}")),
        }
    };
    let counts: Vec<String> = [
        count(Severity::Critical, "critical", "critical"),
        count(Severity::Warning, "warning", "warnings"),
        count(Severity::Notice, "notice", "notices"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let words = if counts.is_empty() { "nothing unusual".to_owned() } else { counts.join(", ") };
    writeln!(out, "{sign} {what} — {}", view.paint(tone, &words))
}

/// Each finding with advice; of many of one kind the first.
pub(super) fn notes(
    out: &mut impl Write,
    view: &View,
    findings: &[Finding],
    more: &str,
) -> fmt::Result {
    let mut per_code: BTreeMap<&str, usize> = BTreeMap::new();
    let mut heading = "Notes";
    for finding in findings {
        let number = per_code.entry(finding.code).or_default();
        *number += 1;
        if *number > LISTED {
            continue;
        }
        note(out, view, heading, finding.severity, &finding.text, &finding.hint)?;
        heading = "";
    }
    let left_out: usize = per_code.values().map(|number| number.saturating_sub(LISTED)).sum();
    match left_out {
        0 => Ok(()),
        some => paragraph(out, view, heading, &format!("- {some} more of these kinds → {more}")),
    }
}

/// One deviation, with advice.
pub(super) fn note(
    out: &mut impl Write,
    view: &View,
    heading: &str,
    severity: Severity,
    text: &str,
    hint: &str,
) -> fmt::Result {
    let sign = match severity {
        Severity::Critical => "✗",
        Severity::Warning => "!",
        Severity::Notice => "-",
    };
    paragraph(out, view, heading, &format!("{sign} {text} → {hint}"))
}

/// The parts that could not be read, and why.
pub(super) fn unread(out: &mut impl Write, view: &View, unread: &[String]) -> fmt::Result {
    let mut heading = "Not seen";
    for text in unread {
        paragraph(out, view, heading, text)?;
        heading = "";
    }
    Ok(())
}
