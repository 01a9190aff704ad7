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
use crate::documents::replay::{Replay, Unread};

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

/// A sentence about the packets of a capture that could not be read, their reason and the remedy.
pub fn unread_packets(unread: &Unread<'_>) -> String {
    const TUNNEL: &str =
        ". Record them on the tunnel's own interface: tcpdump -i INTERFACE -w FILE";
    let (why, then) = match unread.why {
        "gre" => ("they are in a GRE tunnel", TUNNEL),
        "ip_in_ip" => ("they are in an IP-in-IP tunnel", TUNNEL),
        "etherip" => ("they are in an EtherIP tunnel", TUNNEL),
        "l2tp" => ("they are in an L2TP tunnel", TUNNEL),
        "vxlan" => ("they are in a VXLAN tunnel", TUNNEL),
        "geneve" => ("they are in a Geneve tunnel", TUNNEL),
        "gtp_u" => ("they are in a GTP tunnel", TUNNEL),
        "esp" => ("they are encrypted (IPsec ESP)", TUNNEL),
        "mpls" => (
            "they carry more than 3 MPLS labels, or something else than IP behind them",
            ". Record them on an interface behind the MPLS network: tcpdump -i INTERFACE -w FILE",
        ),
        "vlan_depth" => (
            "they carry more than 2 VLAN tags",
            ". Record them on the VLAN's own interface: tcpdump -i INTERFACE -w FILE",
        ),
        "link_type" => (
            "their link type is not known",
            ". Record them on an Ethernet or IP interface: tcpdump -i INTERFACE -w FILE",
        ),
        "cut_short" => (
            "too little of each was recorded",
            ". Record the whole headers: tcpdump -s 262144 -w FILE",
        ),
        _ => ("they are fragments, or have longer headers than are followed", "."),
    };
    format!(
        "{} of {} packets ({}) were not judged, most of them because {why} ({}){then}",
        whole(unread.packets),
        whole(unread.of),
        percent(unread.share()),
        unread.why,
    )
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
