//! The page as a whole: its head, a summary of its subject, and a chapter for each incident.

use std::ffi::OsStr;
use std::fmt::{self, Write};
use std::path::Path;
use std::time::Duration;

use tcpguard_host::units::{short, span, whole};

use super::{Chapter, Story, chapter};
use crate::documents::replay::Replay;
use crate::html::markup::escaped;
use crate::text;

/// Incidents of a capture that are shown in full; the others have a line in the list of all.
const IN_FULL: usize = 32;
/// Lines of that list.
const LISTED: usize = 256;

/// Security policy of the page. Its own inline styles are allowed, and nothing else. It has no
/// script, and fetches nothing.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// Writes the page of `story`.
pub(super) fn write(out: &mut impl Write, story: &Story) -> fmt::Result {
    writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta \
         name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta \
         http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n<meta name=\"color-scheme\" \
         content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n<title>{} \
         · tcpguard</title>\n<style>\n{}</style>\n</head>\n<body>",
        escaped(&title(story)),
        include_str!("style.css"),
    )?;
    out.write_str(PATTERN)?;
    out.write_str("<main>\n")?;
    match &story.capture {
        None => {
            for chapter in &story.chapters {
                chapter::write(out, chapter, story, chapter::Setting::Alone)?;
            }
        }
        Some(replay) => {
            capture(out, replay, story)?;
            for chapter in story.chapters.iter().take(IN_FULL) {
                chapter::write(out, chapter, story, chapter::Setting::OfCapture)?;
            }
        }
    }
    out.write_str("</main>\n")?;
    writeln!(
        out,
        "<footer><p>Written by tcpguard {}. This page needs no network: it holds no script and \
         fetches nothing.</p></footer>\n</body>\n</html>",
        env!("CARGO_PKG_VERSION")
    )
}

/// Stripes for packets that would be dropped. The element must not be hidden, or browsers leave out
/// the areas that it fills.
const PATTERN: &str = "<svg class=\"patterns\" width=\"0\" height=\"0\" aria-hidden=\"true\"><defs>\
     <pattern id=\"stripes\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
     patternTransform=\"rotate(45)\"><rect class=\"paper\" width=\"6\" height=\"6\"/>\
     <rect class=\"stripe\" width=\"2.5\" height=\"6\"/></pattern></defs></svg>\n";

fn title(story: &Story) -> String {
    match (&story.capture, story.chapters.as_slice()) {
        (None, [chapter, ..]) => {
            let attack = &chapter.full.incident;
            format!("{} #{}: {}", text::heading(attack), attack.id, text::title(attack))
        }
        (None, []) => "Nothing".to_owned(),
        (Some(replay), chapters) => {
            format!("{} in {}", found_in(replay, chapters.len()), name(replay))
        }
    }
}

/// The capture's file name. The folders that it is in are left out: the page is read on other hosts, too.
fn name(replay: &Replay) -> String {
    let name = |file| Path::new(file).file_name().and_then(OsStr::to_str).unwrap_or(file);
    replay.file.split(", ").map(name).collect::<Vec<_>>().join(", ")
}

fn incidents(count: usize) -> String {
    match count {
        0 => "no incident".to_owned(),
        1 => "1 incident".to_owned(),
        many => format!("{many} incidents"),
    }
}

/// The findings in a capture, or that most of it was not read or nothing judged.
fn found_in(replay: &Replay, chapters: usize) -> String {
    if chapters > 0 {
        return incidents(chapters);
    }
    match text::unjudged(replay).as_slice() {
        [] => incidents(0),
        unjudged => unjudged.join(", "),
    }
}

/// Writes the read part of a capture, and the findings in it.
fn capture(out: &mut impl Write, replay: &Replay, story: &Story) -> fmt::Result {
    let found = found_in(replay, story.chapters.len());
    writeln!(
        out,
        "<header>\n<h1>{} <span class=\"place\">in {}</span></h1>",
        escaped(&found),
        escaped(&name(replay))
    )?;
    writeln!(out, "<p>{}</p>", escaped(&volume(replay)))?;
    for note in &replay.notes {
        writeln!(out, "<p>{}</p>", escaped(note))?;
    }
    out.write_str(
        "<p>Times count from the first packet on. Rules and drops are those that tcpguard would have \
         made.</p>\n</header>\n",
    )?;
    if story.chapters.len() > 1 {
        contents(out, story)?;
    }
    Ok(())
}

fn volume(replay: &Replay) -> String {
    let began = replay.began.map_or_else(String::new, |began| format!(" from {began} on"));
    let mut text = format!(
        "{} packets in {}{began}: {} SYNs, {} SYN-ACKs, {} handshakes completed",
        whole(replay.packets),
        span(Duration::from_secs_f64(replay.duration_s)),
        whole(replay.syns),
        whole(replay.syn_acks),
        whole(replay.handshakes),
    );
    if !replay.skipped.is_empty() {
        let skipped = replay.skipped.iter().map(|(why, count)| format!("{} {why}", whole(*count)));
        text.push_str(&format!("; skipped: {}", skipped.collect::<Vec<_>>().join(", ")));
    }
    text
}

/// A line for each incident.
fn contents(out: &mut impl Write, story: &Story) -> fmt::Result {
    out.write_str(
        "<div class=\"scroll\"><table><thead><tr><th>Start</th><th>Class</th><th>Target</th><th \
         class=\"number\">Peak</th></tr></thead>\n",
    )?;
    for (number, Chapter { full, .. }) in story.chapters.iter().take(LISTED).enumerate() {
        let attack = &full.incident;
        let kind = text::class(attack.class);
        let what = match number < IN_FULL {
            true => format!("<a href=\"#attack-{}\">{}</a>", attack.id, escaped(kind)),
            false => escaped(kind).to_string(),
        };
        writeln!(
            out,
            "<tr><td>{}</td><td>{what}</td><td>{}</td><td class=\"number\">{}</td></tr>",
            escaped(&story.times.show(attack.since)),
            escaped(&attack.place()),
            escaped(&format!("{}/s", short(attack.peak_syn_pps))),
        )?;
    }
    out.write_str("</table></div>\n")?;
    let more = story.chapters.len().saturating_sub(LISTED);
    if more > 0 {
        writeln!(out, "<p>And {more} more; see all: <code>tcpguard replay FILE</code></p>")?;
    }
    Ok(())
}
