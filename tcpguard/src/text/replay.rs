//! The result of a replay.

use std::fmt::{self, Write};
use std::time::Duration;

use tcpguard_host::escape;
use tcpguard_host::time::Time;
use tcpguard_host::units::{counted, elapsed, percent, span, whole};

use super::incident::{self, Section, write};
use super::incidents::{between, paragraph};
use super::view::{Tone, View};
use crate::documents::FullIncident;
use crate::documents::replay::Replay;

/// A capture in one line, how it was read, and its incidents. Times count from `began`, that of its first packet.
pub fn replay(
    out: &mut impl Write,
    replay: &Replay,
    incidents: &[FullIncident],
    began: Time,
    view: &View,
) -> fmt::Result {
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
    let shown = |time| format!("+{}", elapsed(between(began, time)));
    for full in incidents {
        writeln!(out)?;
        let blocks = incident::conclusion(&full.incident, None, &shown);
        let mut sections = vec![Section { title: "Conclusion", blocks }];
        sections.extend(incident::numbers(&full.incident));
        sections.extend(incident::actions(full, &shown));
        write(out, &sections, view)?;
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
