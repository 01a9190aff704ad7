//! The result of a replay.

use std::fmt::{self, Write};
use std::time::Duration;

use tcpguard_host::escape;
use tcpguard_host::units::{elapsed, percent, short, span, whole};

use super::attack::{because, paragraph};
use super::event::event_line;
use super::view::{Tone, View};
use crate::documents::replay::{Incident, Replay};

/// A capture in one line, how it was read, and its incidents.
pub fn replay(out: &mut impl Write, replay: &Replay, view: &View) -> fmt::Result {
    let unread = replay.unread().map(|unread| {
        format!("{} of the packets could not be read ({})", percent(unread.share()), unread.why)
    });
    let found = match replay.incidents.len() {
        0 => None,
        1 => Some("1 incident".to_owned()),
        many => Some(format!("{many} incidents")),
    };
    // An unreadable part is no good news.
    let bad: Vec<String> = found.into_iter().chain(unread).collect();
    let verdict = match bad.as_slice() {
        [] => view.paint(Tone::Good, "● no incident"),
        bad => view.paint(Tone::Bad, &format!("✗ {}", bad.join(", "))),
    };
    writeln!(out, "{verdict} in {}", escape::shown(&replay.file))?;
    paragraph(out, view, "Read", &volume(replay, view))?;
    for note in &replay.notes {
        paragraph(out, view, "", note)?;
    }
    for incident in &replay.incidents {
        writeln!(out)?;
        write_incident(out, incident, view)?;
    }
    Ok(())
}

fn volume(replay: &Replay, view: &View) -> String {
    let mut text = format!(
        "{} in {}",
        counted(replay.packets, "packet"),
        span(Duration::from_secs_f64(replay.duration_s)),
    );
    if let Some(began) = replay.began {
        text.push_str(&format!(" from {} on", view.date(began)));
    }
    text.push_str(&format!(
        ": {}, {} in answer, {} completed",
        counted(replay.syns, "SYN"),
        counted(replay.syn_acks, "SYN-ACK"),
        counted(replay.handshakes, "handshake")
    ));
    if !replay.skipped.is_empty() {
        let skipped: Vec<String> =
            replay.skipped.iter().map(|(why, count)| format!("{} {why}", whole(*count))).collect();
        text.push_str(&format!("; skipped: {}", skipped.join(", ")));
    }
    text
}

fn write_incident(out: &mut impl Write, incident: &Incident, view: &View) -> fmt::Result {
    let grounds = &incident.evidence;
    let ended = match incident.ended_s {
        Some(ended) => format!("until {}", after(ended)),
        None => "open at the end of the capture".to_owned(),
    };
    let headline = format!(
        "{} on {} from {} {ended}, detected after {} by the {} signal, confidence {}",
        incident.class,
        incident.listener,
        after(incident.started_s),
        span(Duration::from_secs_f64(incident.detected_after_s)),
        grounds.signal,
        percent(incident.confidence),
    );
    paragraph(out, view, "Incident", &headline)?;
    paragraph(out, view, "", &grounds.summary)?;
    paragraph(out, view, "", &flood(incident))?;
    because(out, &grounds.numbers, view)?;
    for (number, action) in incident.actions.iter().enumerate() {
        let heading = if number == 0 { "Done" } else { "" };
        paragraph(
            out,
            view,
            heading,
            &format!("{} {}", after(action.at_s), event_line(&action.action)),
        )?;
    }
    Ok(())
}

fn flood(incident: &Incident) -> String {
    let grounds = &incident.evidence;
    let mut text = format!(
        "{} from {}, {} SYN/s at most",
        counted(incident.syns, "SYN"),
        counted(incident.sources_est, "source"),
        short(grounds.peak_syn_pps),
    );
    let share = |count: u64| percent(count as f64 / incident.syns.max(1) as f64);
    if grounds.dropped > 0 {
        text.push_str(&format!("; {} dropped", share(grounds.dropped)));
    } else if grounds.matched > 0 {
        text.push_str(&format!("; {} would be dropped in enforce mode", share(grounds.matched)));
    }
    if !grounds.numbers.top_sources.is_empty() && grounds.numbers.top_source_share >= 0.1 {
        let top: Vec<String> = grounds
            .numbers
            .top_sources
            .iter()
            .map(|source| format!("{} ({})", source.addr, percent(source.share)))
            .collect();
        text.push_str(&format!("; busiest: {}", top.join(", ")));
    }
    text
}

/// A count of things: `1 packet`, `2300 packets`.
fn counted(count: u64, thing: &str) -> String {
    format!("{} {thing}{}", whole(count), if count == 1 { "" } else { "s" })
}

/// A time after the first packet: `+33.8s`.
fn after(seconds: f64) -> String {
    format!("+{}", elapsed(Duration::from_secs_f64(seconds)))
}
