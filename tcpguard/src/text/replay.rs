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
use crate::documents::replay::{NOT_TCP, Replay, Unread, Untimely};

/// A capture in one line, how it was read, and its incidents. Times count from `began`, that of its first packet.
pub fn replay(
    out: &mut impl Write,
    replay: &Replay,
    incidents: &[FullIncident],
    began: Time,
    view: &View,
) -> fmt::Result {
    let found = match replay.incidents.len() {
        0 => None,
        1 => Some("1 incident".to_owned()),
        many => Some(format!("{many} incidents")),
    };
    // A part that is not judged is no good news.
    let bad: Vec<String> = found.into_iter().chain(unjudged(replay)).collect();
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
        let blocks = incident::conclusion(&full.incident, &shown);
        let mut sections = vec![Section { title: "Conclusion", blocks }];
        sections.extend(incident::numbers(&full.incident));
        sections.extend(incident::actions(full, &shown));
        write(out, &sections, view)?;
    }
    Ok(())
}

/// Phrases for the parts of a capture that could not be judged.
pub fn unjudged(replay: &Replay) -> Vec<String> {
    let without_syns = replay.lacks_syns().then(|| "not judged: SYNs are missing".to_owned());
    let unread = replay.unread().as_ref().map(unread);
    let without_acks =
        replay.lacks_acks.then(|| "no ACK recorded: clients count as failed".to_owned());
    let all = unread.into_iter().chain(untimely_phrase(replay));
    all.chain(without_syns).chain(without_acks).collect()
}

/// A sentence about a capture without an ACK, with the remedy.
pub const WITHOUT_ACKS: &str = "It holds no ACK, so every handshake counts as failed. If a filter left the ACKs out \
     (tcp-syn), clients are taken for a flood. Record all of TCP: tcpdump -i INTERFACE -w FILE tcp";

/// Sentences about such a capture, with the remedy.
pub fn without_syns(replay: &Replay) -> String {
    let reason = match replay.connections_without_syn {
        0 => "It holds segments of connections and no SYN, so no handshake was judged. Either no connection was \
              attempted meanwhile, or a filter left the SYNs out, or it was recorded behind XDP"
            .to_owned(),
        many => format!(
            "{} began without a SYN, so most handshakes were not judged. Either a filter left the SYNs out, or it was \
             recorded behind XDP",
            counted(many, "connection"),
        ),
    };
    format!(
        "{reason}: tcpdump and an IDS see no SYN that tcpguard drops or answers on their host. Record these SYNs \
         there: sudo tcpguard capture -w FILE. A mirror port of the switch shows all packets."
    )
}

/// A sentence about a capture by `tcpguard capture`, of which each packet stands for `one_in` SYNs on average.
pub fn sampled_packets(one_in: u64, stand_for: u64) -> String {
    format!(
        "tcpguard capture recorded it: SYNs that XDP dropped or answered, on average 1 in {} of about {}. Rates and \
         counts are those of the sample. SYNs that passed, and replies, are not in it.",
        whole(one_in),
        whole(stand_for),
    )
}

/// A phrase for times by which nothing could be judged.
fn untimely_phrase(replay: &Replay) -> Option<String> {
    let decisive = replay.untimely.filter(|times| times.is_decisive())?;
    let phrase = match decisive {
        Untimely::Missing => "no times: not judged",
        Untimely::SetBack { .. } => "time runs backwards: rates are not judged",
    };
    Some(phrase.to_owned())
}

/// A phrase for the packets of a capture that could not be judged.
fn unread(unread: &Unread<'_>) -> String {
    match unread.why {
        None => "not judged: no packet".to_owned(),
        Some(NOT_TCP) => "not judged: no TCP".to_owned(),
        Some(why) => {
            format!("{} of the packets could not be read ({why})", percent(unread.share()))
        }
    }
}

/// A sentence about the packets of a capture that could not be judged, their reason and the remedy.
pub fn unread_packets(unread: &Unread<'_>) -> String {
    let Some(reason) = unread.why else {
        return "There is no packet in it. Record again, and see that tcpdump counts packets: \
                tcpdump -i INTERFACE -w FILE tcp"
            .to_owned();
    };
    let (why, then) = match reason {
        NOT_TCP => ("there is no TCP in them", "the interface on which the clients arrive"),
        "esp" | "macsec" | "wireguard" => ("they are encrypted", "the tunnel's own interface"),
        "gre" | "gtp_u" | "l2tp" => {
            ("they are in a tunnel that is not looked into", "the tunnel's own interface")
        }
        "mpls" => (
            "they carry something else than IP behind MPLS labels",
            "an interface behind the MPLS network",
        ),
        "link_type" => ("their link type is not read", "an Ethernet or IP interface"),
        "cut_short" => ("too little of each was recorded", ""),
        _ => ("they are fragments, or have longer headers than are followed", ""),
    };
    let then = match (reason, then) {
        ("cut_short", _) => ". Record the whole headers: tcpdump -s 262144 -w FILE".to_owned(),
        (_, "") => ".".to_owned(),
        _ => format!(". Record on {then}: tcpdump -i INTERFACE -w FILE tcp"),
    };
    format!(
        "{} of {} packets ({}) were not judged, most of them because {why} ({reason}){}{then}",
        whole(unread.packets),
        whole(unread.of),
        percent(unread.share()),
        kinds(unread.kinds),
    )
}

/// The kinds of the packets, as far as a sentence has room for them.
fn kinds(kinds: &[(String, u64)]) -> String {
    const SHOWN: usize = 3;
    let shown = kinds.iter().take(SHOWN);
    let mut all: Vec<_> =
        shown.map(|(kind, count)| format!("{} of {kind}", whole(*count))).collect();
    match kinds.iter().skip(SHOWN).map(|(_, count)| count).sum() {
        0 => {}
        others => all.push(format!("{} others", whole(others))),
    }
    if all.is_empty() { String::new() } else { format!(": {}", all.join(", ")) }
}

/// A sentence about the times of a capture, and the remedy.
pub fn untimely(times: &Untimely) -> String {
    match *times {
        Untimely::Missing => "Its packets have no usable times, so no rate is known. Record it \
             again: tcpdump -i INTERFACE -w FILE (from a hex dump: text2pcap -t FORMAT)"
            .to_owned(),
        Untimely::SetBack { times, read, span: spanned, longer } => {
            let then = match longer {
                true => {
                    let (of, read) = (span(spanned), span(read));
                    format!("packets of {of} are read as {read}, so that rates are too low")
                }
                false => "handshakes across it may be missed".to_owned(),
            };
            let times = counted(times, "time");
            format!("Time runs backwards {times}: {then}. Sort them: reordercap IN OUT")
        }
    }
}

/// A sentence about SYNs of which the options were not captured.
pub fn cut_syns(cut: u64, of: u64) -> String {
    format!(
        "{} of {} were cut in their options: they count, but their fingerprints are not known, and \
         no rule by signature is made from them. Record the whole headers: \
         tcpdump -s 262144 -w FILE",
        whole(cut),
        counted(of, "SYN"),
    )
}

/// A sentence about SYNs to ports where nothing listens that are no incident.
pub fn syns_to_nowhere(syns: u64, of: u64, closed_rate: f64) -> String {
    format!(
        "{} of {} went to ports that answered none. Below {} SYNs a second \
         (detection.closed_port_rate) only scanners are looked for among them: a flood of random \
         ports or addresses is not judged.",
        whole(syns),
        counted(of, "SYN"),
        whole(closed_rate as u64),
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
