//! One incident from its headline to the last byte that is kept of it.

use std::fmt::{self, Write};

use tcpguard_host::finding::Severity;
use tcpguard_host::units::{elapsed, span};

use super::moments::{Moment, moments};
use super::plot::Stage;
use super::plot::lines::figure;
use super::times::Times;
use super::{Chapter, blocks, panels};
use crate::documents::timeline::Timeline;
use crate::documents::{FullIncident, Incident};
use crate::html::markup::escaped;
use crate::text::{self, Section, between};

/// Page on which a chapter stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Setting {
    /// The chapter is the whole page, and the remaining tasks can be done on this host.
    Alone,
    /// The chapter is one of those of a capture.
    OfCapture,
}

impl Setting {
    /// Writes a heading; `level` 0 is the chapter's own.
    pub fn heading(self, out: &mut impl Write, level: u8, text: &str) -> fmt::Result {
        let level = level + if self == Self::Alone { 1 } else { 2 };
        writeln!(out, "<h{level}>{}</h{level}>", escaped(text))
    }
}

pub(super) fn write(
    out: &mut impl Write,
    chapter: &Chapter,
    times: &Times,
    setting: Setting,
) -> fmt::Result {
    let full = &chapter.full;
    writeln!(out, "<article id=\"attack-{}\">", full.incident.id)?;
    headline(out, &full.incident, times, setting)?;
    let shown = |time| times.show(time);
    // The headline names the incident and its time.
    let blocks = text::conclusion(&full.incident, None, &shown).into_iter().skip(1).collect();
    blocks::write(out, &[Section { title: "Conclusion", blocks }], setting)?;
    over_time(out, chapter, times, setting)?;
    blocks::write(out, &text::outcome(full, &shown), setting)?;
    out.write_str("<details><summary>Evidence</summary>\n")?;
    blocks::write(out, &text::evidence(full, &shown), setting)?;
    out.write_str("</details>\n")?;
    out.write_str("</article>\n")
}

/// Writes the class, the severity, the listener or host, and the time of the incident.
fn headline(
    out: &mut impl Write,
    attack: &Incident,
    times: &Times,
    setting: Setting,
) -> fmt::Result {
    let (class, sign, word) = match attack.severity {
        Severity::Critical => ("critical", "✗", "critical"),
        Severity::Warning => ("warning", "!", "warning"),
        Severity::Notice => ("notice", "●", "notice"),
    };
    let when = match attack.ended_at {
        Some(ended) => format!(
            "{} to {} ({})",
            times.show_in_full(attack.since),
            times.show(ended),
            span(between(attack.since, ended))
        ),
        None => format!("since {}", times.show_in_full(attack.since)),
    };
    let level = if setting == Setting::Alone { 1 } else { 2 };
    writeln!(
        out,
        "<header>\n<p class=\"state {class}\"><span class=\"sign\" aria-hidden=\"true\">{sign}</span> {word} \
         · #{}</p>\n<h{level}>{}</h{level}>\n<p class=\"when\">{}</p>\n</header>",
        attack.id,
        escaped(&text::title(attack)),
        escaped(&when),
    )
}

/// Writes the plots, and the events at the moments marked in them.
fn over_time(
    out: &mut impl Write,
    chapter: &Chapter,
    times: &Times,
    setting: Setting,
) -> fmt::Result {
    out.write_str("<section>\n")?;
    setting.heading(out, 1, "Over time")?;
    let moments = moments(&chapter.full);
    match &chapter.line {
        Ok(line) if !line.points.is_empty() => {
            let stage = stage(&chapter.full, line, &moments, times);
            for panel in panels::panels(&chapter.full, line, times) {
                figure(out, &panel, &stage)?;
            }
            writeln!(
                out,
                "<p class=\"note\">{} The attack is shaded. Each step is {} long; rates are its mean, \
                 queues the fullest they were in it.</p>",
                escaped(&times.in_words(line.began)),
                escaped(&steps(line))
            )?;
        }
        Ok(_) => out.write_str("<p>Nothing was recorded over time.</p>\n")?,
        Err(why) => writeln!(out, "<p>No plots: {}</p>", escaped(why))?,
    }
    out.write_str("<ol class=\"moments\">\n")?;
    for moment in &moments {
        let after = elapsed(between(chapter.full.incident.since, moment.at));
        writeln!(
            out,
            "<li><span class=\"at\">{}</span> <span class=\"after\">+{}</span> {}</li>",
            escaped(&times.show(moment.at)),
            escaped(&after),
            escaped(&moment.text)
        )?;
    }
    out.write_str("</ol>\n</section>\n")
}

/// The typical length of a step.
fn steps(line: &Timeline) -> String {
    match line.interval_ms {
        below if below < 1000 => format!("{below}ms"),
        _ => span(std::time::Duration::from_millis(line.interval_ms.into())),
    }
}

fn stage<'a>(
    full: &FullIncident,
    line: &Timeline,
    moments: &[Moment],
    times: &'a Times,
) -> Stage<'a> {
    let ends: Vec<f64> = line.points.iter().map(|point| point.at_ms as f64 / 1000.0).collect();
    let length = ends.last().copied().unwrap_or_default();
    let place = |time| panels::place(line, time);
    // It is numbered as in the list, where those before the line stand too.
    let marks = (1..).zip(moments).map(|(number, moment)| (place(moment.at), number));
    Stage {
        times,
        began: line.began,
        attack: [place(full.incident.since), full.incident.ended_at.map_or(length, place)],
        marks: marks.filter(|(at, _)| (0.0..=length + 1.0).contains(at)).collect(),
        ends,
    }
}
