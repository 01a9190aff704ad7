//! One incident from its headline to the last byte that is kept of it.

use std::fmt::{self, Write};

use tcpguard_host::finding::Severity;
use tcpguard_host::units::{elapsed, span};

use super::markup::escaped;
use super::moments::{InMode, Moment, modes, moments};
use super::plot::Stage;
use super::plot::lines::figure;
use super::times::Times;
use super::{Chapter, Host, Story, blocks, panels};
use crate::documents::timeline::Timeline;
use crate::documents::{FullIncident, Incident};
use crate::text::{self, between};

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
    story: &Story,
    setting: Setting,
) -> fmt::Result {
    let (full, times) = (&chapter.full, &story.times);
    writeln!(out, "<article id=\"attack-{}\">", full.incident.id)?;
    headline(out, chapter, story, setting)?;
    let shown = |time| times.show(time);
    over_time(out, chapter, times, setting)?;
    blocks::write(out, text::numbers(&full.incident).as_slice(), setting)?;
    provider(out, full, setting)?;
    out.write_str("<details><summary>Evidence</summary>\n")?;
    if let Ok(line) = &chapter.line
        && !line.points.is_empty()
    {
        let queues = panels::queues(line);
        if !queues.lines.is_empty() {
            figure(out, &queues, &stage(full, line, &[], times))?;
        }
    }
    blocks::write(out, text::actions(full, &shown).as_slice(), setting)?;
    blocks::write(out, &text::evidence(full, &shown), setting)?;
    out.write_str("</details>\n")?;
    out.write_str("</article>\n")
}

/// Writes the class and the target, the verdict, and the facts of the host.
fn headline(
    out: &mut impl Write,
    chapter: &Chapter,
    story: &Story,
    setting: Setting,
) -> fmt::Result {
    let incident = &chapter.full.incident;
    let word = incident.severity.name();
    let sign = match incident.severity {
        Severity::Critical => "✗",
        Severity::Warning => "!",
        Severity::Notice => "●",
    };
    let level = if setting == Setting::Alone { 1 } else { 2 };
    writeln!(
        out,
        "<header>\n<p class=\"state {word}\"><span class=\"sign\" aria-hidden=\"true\">{sign}</span> {word} \
         · #{}</p>\n<h{level}>{}</h{level}>\n<p class=\"verdict\">{}</p>\n<dl class=\"subject\">",
        incident.id,
        escaped(&text::title(incident)),
        escaped(&text::verdict(incident)),
    )?;
    for (label, value) in subject(chapter, story) {
        writeln!(out, "<div><dt>{label}</dt><dd>{}</dd></div>", escaped(&value))?;
    }
    out.write_str("</dl>\n</header>\n")
}

/// The facts by which a reader elsewhere knows the incident.
fn subject(chapter: &Chapter, Story { host, times, .. }: &Story) -> Vec<(&'static str, String)> {
    let Chapter { full, line } = chapter;
    let incident = &full.incident;
    let when = match incident.last_seen() {
        Some(last) => format!(
            "{} to {} ({})",
            times.show_in_full(incident.since),
            times.show(last),
            span(between(incident.since, last))
        ),
        None => format!("since {}", times.show_in_full(incident.since)),
    };
    let destination = text::destination(&text::destinations(full), incident.port);
    let mode = match line {
        Ok(line) if !line.points.is_empty() => Some(modes_of(incident, line)),
        _ => host.as_ref().map(|host| format!("{} (now)", host.mode)),
    };
    let action = text::action(incident, &|time| times.show(time));
    let of_host = |value: fn(&Host) -> String| host.as_ref().map(value);
    let all = [
        ("Time", Some(when)),
        ("Destination", Some(destination)),
        ("Host", of_host(|host| host.name.clone())),
        ("Interfaces", of_host(|host| host.interfaces.join(", "))),
        ("Mode", mode),
        ("System", of_host(|host| format!("{}, tcpguard {}", host.kernel, host.version))),
        ("Action", Some(action)),
    ];
    all.into_iter().filter_map(|(label, value)| Some((label, value?))).collect()
}

/// The modes during the incident: `observe, then enforce`.
fn modes_of(incident: &Incident, line: &Timeline) -> String {
    let during = |mode: &InMode| {
        mode.to > incident.since && incident.ended_at.is_none_or(|ended| mode.from < ended)
    };
    let names: Vec<_> =
        modes(line).into_iter().filter(during).map(|mode| mode.mode.name()).collect();
    names.join(", then ")
}

/// Writes the request to the provider, to be copied.
fn provider(out: &mut impl Write, full: &FullIncident, setting: Setting) -> fmt::Result {
    let lines = text::provider(full);
    if lines.is_empty() {
        return Ok(());
    }
    out.write_str("<section>\n")?;
    setting.heading(out, 1, "For the provider")?;
    out.write_str("<pre>")?;
    for line in &lines {
        writeln!(out, "{}", escaped(line))?;
    }
    out.write_str("</pre>\n</section>\n")
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
            out.write_str("<div class=\"plots\">\n")?;
            for panel in panels::panels(&chapter.full, line) {
                figure(out, &panel, &stage)?;
            }
            writeln!(
                out,
                "</div>\n<p class=\"note\">{} The incident is shaded. The band below each plot is the mode. Rates \
                 are means of {}.</p>",
                escaped(&times.in_words(line.began)),
                escaped(&window(line))
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

/// The time of which a plotted rate is the mean.
fn window(line: &Timeline) -> String {
    span(std::time::Duration::from_millis(line.interval_ms.max(1000).into()))
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
        modes: modes(line)
            .into_iter()
            .map(|mode| ([place(mode.from), place(mode.to)], mode.mode))
            .collect(),
        attack: [place(full.incident.since), full.incident.last_seen().map_or(length, place)],
        marks: marks.filter(|(at, _)| (0.0..=length + 1.0).contains(at)).collect(),
        ends,
    }
}
