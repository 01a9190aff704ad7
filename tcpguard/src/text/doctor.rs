//! The page of `tcpguard doctor`: the obstacles for the agent.

use std::fmt::{self, Write};

use tcpguard_host::doctor::{Doctor, Finding, Outcome, is_command};

use super::attack::paragraph;
use super::view::{Tone, View, wrap};

/// Columns before evidence and fix.
const INDENT: usize = 4;
/// The findings, the worst first, with evidence and fix; then the names of the checks that passed.
pub fn doctor(out: &mut impl Write, doctor: &Doctor, view: &View) -> fmt::Result {
    let (sign, tone) = sign(doctor.result);
    writeln!(out, "{}", view.paint(tone, &format!("{sign} {}", headline(doctor))))?;
    for result in Outcome::WORST_FIRST {
        let of_result = doctor.findings.iter().filter(|finding| finding.result == result);
        if result == Outcome::Passed {
            passed(out, of_result, view)?;
        } else {
            for finding in of_result {
                write_finding(out, finding, view)?;
            }
        }
    }
    writeln!(out)?;
    paragraph(out, view, "Next", next(doctor))
}

/// Only the fixes: a command a line, and text that is no command behind a `#`.
pub fn fixes(out: &mut impl Write, doctor: &Doctor) -> fmt::Result {
    for fix in doctor.fixes() {
        let sign = if is_command(fix) { "" } else { "# " };
        writeln!(out, "{sign}{fix}")?;
    }
    Ok(())
}

fn headline(doctor: &Doctor) -> String {
    let kernel = doctor.kernel.as_deref().unwrap_or("of an unknown release");
    let counts: Vec<String> = Outcome::WORST_FIRST
        .into_iter()
        .map(|result| (doctor.count(result), result))
        .filter(|(count, _)| *count > 0)
        .map(|(count, result)| format!("{count} {}", plural(result, count)))
        .collect();
    format!("tcpguard {} on Linux {kernel}: {}", doctor.version, counts.join(", "))
}

fn plural(result: Outcome, count: usize) -> String {
    let name = result.name();
    match result {
        Outcome::Note | Outcome::Warning if count != 1 => format!("{name}s"),
        _ => name.to_owned(),
    }
}

const fn sign(result: Outcome) -> (&'static str, Tone) {
    match result {
        Outcome::Passed => ("●", Tone::Good),
        Outcome::Note => ("●", Tone::Plain),
        Outcome::Unknown | Outcome::Warning => ("!", Tone::Warning),
        Outcome::Blocking => ("✗", Tone::Bad),
    }
}

fn write_finding(out: &mut impl Write, finding: &Finding, view: &View) -> fmt::Result {
    let (sign, tone) = sign(finding.result);
    let word = view.paint(tone, &format!("{sign} {:<8}", finding.result.name()));
    let subject = finding.subject.as_deref().map_or_else(String::new, |it| format!(" {it}"));
    writeln!(out, "\n{word} {}{subject}", finding.id)?;
    for line in wrap(&finding.evidence, view.width - INDENT) {
        writeln!(out, "{:INDENT$}{line}", "")?;
    }
    match &finding.fix {
        // A command is to be copied: one line, however long.
        Some(fix) if is_command(fix) => writeln!(out, "{:INDENT$}→ {fix}", ""),
        Some(fix) => {
            for (number, line) in wrap(fix, view.width - INDENT - 2).iter().enumerate() {
                let arrow = if number == 0 { "→" } else { " " };
                writeln!(out, "{:INDENT$}{arrow} {line}", "")?;
            }
            Ok(())
        }
        None => Ok(()),
    }
}

/// The names of the checks that have nothing to say, each once.
fn passed<'a>(
    out: &mut impl Write,
    findings: impl Iterator<Item = &'a Finding>,
    view: &View,
) -> fmt::Result {
    let mut names: Vec<String> = Vec::new();
    for finding in findings {
        // Of several interfaces each is named.
        let name = match &finding.subject {
            Some(subject) if !subject.starts_with('/') && !subject.contains('.') => {
                format!("{} ({subject})", finding.id)
            }
            _ => finding.id.clone(),
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

const fn next(doctor: &Doctor) -> &'static str {
    match doctor.result {
        Outcome::Blocking | Outcome::Warning => {
            "tcpguard doctor --fix-hints prints only what to do; for somebody who helps: sudo tcpguard \
             doctor --bundle FILE"
        }
        Outcome::Unknown => "look as root: sudo tcpguard doctor",
        Outcome::Note | Outcome::Passed => "what happens now: tcpguard status",
    }
}
