//! Advice about a host's settings, and the outcome of changes.

use std::fmt::{self, Write};

use tcpguard_host::finding::Severity;
use tcpguard_host::tune::change::{Changed, Outcome};
use tcpguard_host::tune::{Row, Tune, Word};
use tcpguard_host::units::bytes;

use super::findings::sign;
use super::incidents::paragraph;
use super::table::{Cell, Table};
use super::view::{Tone, View, cut, wrap};

/// Indentation of a reason on lines of its own.
const INDENT: usize = 4;

/// The settings to change with reason, risk and commands, and then the rest.
pub fn tune(out: &mut impl Write, tune: &Tune, view: &View) -> fmt::Result {
    let (mark, tone) = sign_of(tune);
    writeln!(out, "{}", view.paint(tone, &format!("{mark} {}", headline(tune))))?;
    for row in tune.to_change() {
        writeln!(out)?;
        change(out, row, view)?;
    }
    for row in &tune.settings {
        let word = match row.verdict {
            Word::LeaveAlone => "● leave",
            Word::Short => "- short",
            _ => continue,
        };
        writeln!(out, "\n{word}    {}: {}", row.name, value(row))?;
        reason(out, view, &row.why)?;
    }
    writeln!(out)?;
    rest(out, tune, view)?;
    writeln!(out)?;
    let next = match tune.to_change().is_empty() {
        true => "run again under load: tcpguard tune",
        false => {
            "sudo tcpguard tune --apply sets the sysctls until the next boot, and sudo tcpguard tune --undo restores \
             them. For each boot: sudo tcpguard tune --sysctl | sudo tee /etc/sysctl.d/90-tcpguard.conf"
        }
    };
    paragraph(out, view, "Next", next)
}

/// The outcome for each sysctl.
pub fn tuned(out: &mut impl Write, changed: &Changed, view: &View) -> fmt::Result {
    for change in &changed.changes {
        let (sign, tone, word) = match change.outcome {
            Outcome::Changed => ("●", Tone::Good, "changed"),
            Outcome::Unchanged => ("●", Tone::Plain, "unchanged"),
            Outcome::LeftAlone => ("!", Tone::Warning, "left alone"),
            Outcome::Failed => ("✗", Tone::Bad, "failed"),
        };
        let values = match change.outcome {
            Outcome::Changed | Outcome::Failed => {
                format!("{} → {}", plain(&change.before), plain(&change.to))
            }
            Outcome::Unchanged | Outcome::LeftAlone => plain(&change.before),
        };
        writeln!(out, "{} {}: {values}", view.paint(tone, &format!("{sign} {word}")), change.name)?;
        if let Some(note) = &change.note {
            reason(out, view, note)?;
        }
    }
    Ok(())
}

fn headline(tune: &Tune) -> String {
    let host = &tune.host;
    let cpus = if host.cpus == 1 { "CPU" } else { "CPUs" };
    let memory = bytes(host.memory_bytes);
    let host = format!("Linux {}, {memory}, {} {cpus}", host.kernel, host.cpus);
    let rows = tune.to_change();
    let harmful = rows.iter().filter(|row| row.verdict == Word::Harmful).count();
    let settings = if rows.len() == 1 { "setting" } else { "settings" };
    match (rows.len(), harmful) {
        (0, _) => format!("{host}: no change advised"),
        (some, 0) => format!("{host}: change {some} {settings}"),
        (some, harmful) => {
            format!("{host}: change {some} {settings}, {harmful} of them harmful")
        }
    }
}

fn sign_of(tune: &Tune) -> (&'static str, Tone) {
    let worst = tune.to_change().first().and_then(|row| row.verdict.severity());
    worst.map_or(("●", Tone::Good), sign)
}

fn change(out: &mut impl Write, row: &Row, view: &View) -> fmt::Result {
    let severity = row.verdict.severity().unwrap_or(Severity::Notice);
    let (sign, tone) = sign(severity);
    let word = view.paint(tone, &format!("{sign} {:<8}", severity.name()));
    let to = row.to.as_ref().map(|to| format!(" → {to}")).unwrap_or_default();
    writeln!(out, "{word} {}: {}{to}", row.name, value(row))?;
    paragraph(out, view, "Does", &row.does)?;
    paragraph(out, view, "Why", &row.why)?;
    paragraph(out, view, "Risk", &row.risk)?;
    if let Some(place) = &row.place {
        paragraph(
            out,
            view,
            "At boot",
            &format!("set to {} by {place}: remove the line", value(row)),
        )?;
    }
    // Commands are made to be copied, so that they are never wrapped.
    for (heading, command) in [("Do", &row.command), ("Undo", &row.undo)] {
        if let Some(command) = command {
            writeln!(out, "  {heading:<12}{command}")?;
        }
    }
    Ok(())
}

/// The good settings and those that this host does not have, one line each.
fn rest(out: &mut impl Write, tune: &Tune, view: &View) -> fmt::Result {
    let rows = tune.settings.iter().filter(|row| matches!(row.verdict, Word::Good | Word::Absent));
    let rows: Vec<&Row> = rows.collect();
    let widest = |of: fn(&Row) -> usize| rows.iter().map(|row| of(row)).max().unwrap_or(0);
    let names = widest(|row| row.name.chars().count()).max("SETTING".len());
    let values = widest(|row| value(row).chars().count()).max("VALUE".len());
    let room = view.width.saturating_sub(names + values + 4);
    let mut table = Table::new(["SETTING", "VALUE", "WHY"]);
    for row in rows {
        let tone = if row.verdict == Word::Good { Tone::Good } else { Tone::Plain };
        table.row([
            row.name.as_str().into(),
            Cell::toned(value(row), tone),
            cut(&row.why, room).into(),
        ]);
    }
    table.write(out, view)
}

fn reason(out: &mut impl Write, view: &View, text: &str) -> fmt::Result {
    for line in wrap(text, view.width - INDENT) {
        writeln!(out, "{:INDENT$}{line}", "")?;
    }
    Ok(())
}

fn value(row: &Row) -> String {
    row.value.clone().unwrap_or_else(|| "-".to_owned())
}

/// The value with blanks in place of the kernel's tabs.
fn plain(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}
