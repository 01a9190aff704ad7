//! The findings about the host and the agent: counted in one line, and one by one with what to do.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use tcpguard_host::doctor::{Doctor, is_command};
use tcpguard_host::finding::{Finding, Severity};

use super::incidents::paragraph;
use super::view::{Tone, View, wrap};

/// Columns before text and hint.
const INDENT: usize = 4;
/// Columns before the text of a finding in short: sign and severity.
const IN_SHORT: usize = 12;
/// Findings with one code that are shown one by one.
const LISTED: usize = 5;

/// `! 23 listeners — 1 critical, 2 warnings`
pub(super) fn headline(
    out: &mut impl Write,
    view: &View,
    what: &str,
    findings: &[Finding],
) -> fmt::Result {
    let worst = findings.iter().map(|finding| finding.severity).max();
    let counts = counts(findings);
    let words = if counts.is_empty() { "nothing unusual".to_owned() } else { counts.join(", ") };
    first_line(out, view, what, worst, &words)
}

fn first_line(
    out: &mut impl Write,
    view: &View,
    what: &str,
    worst: Option<Severity>,
    words: &str,
) -> fmt::Result {
    let (sign, tone) = match worst {
        Some(severity @ (Severity::Critical | Severity::Warning)) => sign(severity),
        Some(Severity::Notice) | None => ("●", Tone::Good),
    };
    writeln!(out, "{sign} {what} — {}", view.paint(tone, words))
}

/// `1 critical`, `2 warnings`: what there is.
fn counts(findings: &[Finding]) -> Vec<String> {
    let words = [Severity::Critical, Severity::Warning, Severity::Notice].map(|severity| {
        let count = findings.iter().filter(|finding| finding.severity == severity).count();
        let plural = if count == 1 || severity == Severity::Critical { "" } else { "s" };
        (count > 0).then(|| format!("{count} {}{plural}", severity.name()))
    });
    words.into_iter().flatten().collect()
}

/// The sign and tone of a severity.
pub(super) const fn sign(severity: Severity) -> (&'static str, Tone) {
    match severity {
        Severity::Critical => ("✗", Tone::Bad),
        Severity::Warning => ("!", Tone::Warning),
        Severity::Notice => ("-", Tone::Plain),
    }
}

/// Each finding with its text and hint; of many with one code the first, and `more`, the command that shows
/// the rest.
pub(super) fn list(
    out: &mut impl Write,
    view: &View,
    findings: &[Finding],
    more: &str,
) -> fmt::Result {
    let mut per_code: BTreeMap<&str, usize> = BTreeMap::new();
    for finding in findings {
        let number = per_code.entry(&finding.code).or_default();
        *number += 1;
        if *number <= LISTED {
            one(out, view, finding.severity.name(), finding)?;
        }
    }
    match per_code.values().map(|number| number.saturating_sub(LISTED)).sum::<usize>() {
        0 => Ok(()),
        some => writeln!(out, "- {some} more with these codes\n{:INDENT$}→ {more}", ""),
    }
}

/// The findings in at most `lines` lines, without their hints.
pub(super) fn in_short(
    out: &mut impl Write,
    view: &View,
    findings: &[Finding],
    lines: usize,
) -> fmt::Result {
    let texts =
        findings.iter().map(|finding| (finding, wrap(&finding.text, view.width - IN_SHORT)));
    let texts: Vec<(&Finding, Vec<String>)> = texts.collect();
    let fits = |shown: usize| {
        let used: usize = texts[..shown].iter().map(|(_, lines)| lines.len()).sum();
        used + usize::from(shown < texts.len()) <= lines
    };
    // The most severe one is shown, however long it is.
    let shown = (1..=texts.len()).rev().find(|shown| fits(*shown)).unwrap_or(1);
    for (finding, lines) in texts.iter().take(shown) {
        let (sign, tone) = sign(finding.severity);
        let word = view.paint(tone, &format!("{sign} {:<8}", finding.severity.name()));
        for (number, line) in lines.iter().enumerate() {
            match number {
                0 => writeln!(out, "{word}  {line}")?,
                _ => writeln!(out, "{:IN_SHORT$}{line}", "")?,
            }
        }
    }
    match texts.len().saturating_sub(shown) {
        0 => Ok(()),
        1 => writeln!(out, "- 1 more finding: tcpguard status --full"),
        some => writeln!(out, "- {some} more findings: tcpguard status --full"),
    }
}

/// One finding: its severity in a word, code and subject, then the text, then the hint.
fn one(out: &mut impl Write, view: &View, word: &str, finding: &Finding) -> fmt::Result {
    let (sign, tone) = sign(finding.severity);
    let word = view.paint(tone, &format!("{sign} {word:<8}"));
    let subject = finding.subject.as_deref().map_or_else(String::new, |it| format!(" {it}"));
    writeln!(out, "{word} {}{subject}", finding.code)?;
    for line in wrap(&finding.text, view.width - INDENT) {
        writeln!(out, "{:INDENT$}{line}", "")?;
    }
    match &finding.hint {
        // A command is to be copied: one line, however long.
        Some(hint) if is_command(hint) => writeln!(out, "{:INDENT$}→ {hint}", ""),
        Some(hint) => {
            for (number, line) in wrap(hint, view.width - INDENT - 2).iter().enumerate() {
                let arrow = if number == 0 { "→" } else { " " };
                writeln!(out, "{:INDENT$}{arrow} {line}", "")?;
            }
            Ok(())
        }
        None => Ok(()),
    }
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

/// The page of `tcpguard doctor`: the findings, the checks that could not be made, and the names of those
/// that passed.
pub fn doctor(out: &mut impl Write, doctor: &Doctor, view: &View) -> fmt::Result {
    let kernel = doctor.kernel.as_deref().unwrap_or("of an unknown release");
    let mut words = counts(&doctor.findings);
    for (checks, word) in [(&doctor.unknown, "unknown"), (&doctor.passed, "passed")] {
        words.extend((!checks.is_empty()).then(|| format!("{} {word}", checks.len())));
    }
    let what = format!("tcpguard {} on Linux {kernel}", doctor.version);
    first_line(out, view, &what, doctor.worst(), &words.join(", "))?;
    for finding in &doctor.findings {
        writeln!(out)?;
        one(out, view, finding.severity.name(), finding)?;
    }
    for check in &doctor.unknown {
        writeln!(out)?;
        one(out, view, "unknown", check)?;
    }
    passed(out, &doctor.passed, view)?;
    writeln!(out)?;
    paragraph(out, view, "Next", next(doctor))
}

/// The names of the checks that have nothing to say, each once.
fn passed(out: &mut impl Write, passed: &[Finding], view: &View) -> fmt::Result {
    let mut names: Vec<String> = Vec::new();
    for finding in passed {
        // Of several interfaces each is named.
        let name = match &finding.subject {
            Some(subject) if !subject.starts_with('/') && !subject.contains('.') => {
                format!("{} ({subject})", finding.code)
            }
            _ => finding.code.clone(),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{}", view.paint(Tone::Good, "● passed"))?;
    for line in wrap(&names.join(", "), view.width - INDENT) {
        writeln!(out, "{:INDENT$}{line}", "")?;
    }
    Ok(())
}

fn next(doctor: &Doctor) -> &'static str {
    match doctor.findings.first().map(|finding| finding.severity) {
        Some(Severity::Critical | Severity::Warning) => {
            "correct the first, then check again: sudo tcpguard doctor"
        }
        _ if !doctor.unknown.is_empty() => "check as root: sudo tcpguard doctor",
        Some(Severity::Notice) | None => "the present state: tcpguard status",
    }
}
