//! Replay of a capture: the verdicts and rules that tcpguard would have produced.
//!
//! The packets of a capture go through the same decision and the same engine as live ones, with
//! their own time as the clock. Facts that a running agent reads from its host are inferred from
//! the capture: `handshakes` determines the direction of each packet and the listeners.

mod agent;
mod ahead;
mod backend;
mod beginnings;
pub mod capture;
mod clock;
mod copies;
mod encapsulation;
mod handshakes;
mod in_order;
mod link;
mod listeners;
mod reach;
mod silence;
mod sources;
mod unreadable;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::time::Duration;

use tcpguard_common::abi::{Class, FlowKey};
use tcpguard_common::fastpath::classify;
use tcpguard_common::wire;
use tcpguard_engine::{
    IncidentClass, IncidentReport, Mode, Report, Scope, Severity, Timestamp, Tuning,
};
use tcpguard_host::escape;
use tcpguard_host::hint::Hint as _;
use tcpguard_host::time::{self, Time};

use crate::bpf::KernelError;
use crate::documents::replay::{COPY, CUT_OFF, Incident, Replay, START, seconds};
use crate::documents::timeline::Timeline;
use crate::documents::{Advice, FullIncident};
use crate::driver::listeners::CAPACITY;
use crate::driver::timeline::Line;
use crate::text;
use agent::Agent;
pub use agent::{Alert, Detection};
use ahead::{Ahead, Waiting};
pub use backend::{Backend, Kernel, OnHost};
use beginnings::Beginnings;
use capture::{CaptureError, Packet, Recording, Source};
use clock::Clock;
use copies::{Copies, Interface};
pub use handshakes::Direction;
use handshakes::{Handshakes, Noted};
use in_order::InOrder;
use unreadable::{Kind, Unreadable};

/// SYNs to ports where nothing listens from which on a capture that reports no incident about them says so.
const NOWHERE: u64 = 64;

/// A replay, and the damage that ended it before the capture's end.
#[derive(Debug)]
pub struct Outcome {
    /// Findings in the readable part of the capture.
    pub replay: Replay,
    /// Reason why no more could be read. A capture that is merely cut off is reported in the notes instead.
    pub damage: Option<CaptureError>,
    /// Every verdict as it was reported, first or changed, oldest first.
    pub detections: Vec<Detection>,
    /// Number of polls of the engine.
    pub polls: u64,
    /// The incidents, as the source of [`Outcome::in_full`].
    pub kept: Kept,
}

/// Everything that is known of the incidents of a capture.
#[derive(Debug)]
pub struct Kept {
    mode: Mode,
    began: jiff::Timestamp,
    incidents: Vec<IncidentReport>,
    /// Scans that come from the host that the capture is about, by number.
    own_scans: BTreeSet<u64>,
    /// True if the capture holds only SYNs that XDP dropped or answered.
    was_stopped: bool,
    lines: BTreeMap<u64, Line>,
}

impl Outcome {
    /// Returns the severity of its worst incident; `None` where there is none.
    pub fn worst(&self) -> Option<Severity> {
        self.kept.incidents.iter().map(|incident| incident.class.severity()).max()
    }

    /// The time of the first packet; 1970 where the capture does not state it.
    pub fn began(&self) -> jiff::Timestamp {
        self.kept.began
    }

    /// Each incident with all the evidence that it was judged by, in the order of the document. The
    /// first 64 have their counters over time.
    pub fn in_full(&self) -> impl Iterator<Item = (FullIncident, Option<Timeline>)> {
        let Kept { mode, began, incidents, own_scans, was_stopped, lines } = &self.kept;
        let report = Report { mode: *mode, ..Report::default() };
        let clock = time::Clock { now: START, wall: *began };
        incidents.iter().map(move |incident| {
            let line = lines.get(&incident.id);
            let line = line.map(|line| line.document(incident.id, |at| clock.time_at(at)));
            let mut full = FullIncident::build(incident, &report, clock);
            full.incident.of_capture = true;
            full.incident.was_stopped = *was_stopped;
            full.incident.advice.take_if(|_| *was_stopped);
            if full.incident.advice.is_some() && own_scans.contains(&incident.id) {
                full.incident.advice = Some(Advice::to_find_scanner());
            }
            (full, line)
        })
    }
}

/// One event of a replay. Events come in the capture's order of time.
#[derive(Debug)]
pub enum ReplayEvent<'a> {
    /// A TCP segment, before it is judged.
    Segment(&'a ReplayedSegment),
    /// An alert of the agent.
    Alert(&'a Alert),
}

/// A TCP segment of a capture, as it is replayed.
#[derive(Clone, Copy, Debug)]
pub struct ReplayedSegment {
    /// Time after the first packet.
    pub after: Duration,
    pub class: Class,
    /// Its direction, as the listeners' host sees it.
    pub direction: Direction,
    /// Its sender as the client, and its receiver as the server.
    pub flow: FlowKey,
}

/// Replays the capture in `source`, which is called `file`.
pub fn replay(
    file: &str,
    source: Box<dyn Read>,
    backend: impl Backend,
    mode: Mode,
) -> anyhow::Result<Outcome> {
    let sources = vec![(file.to_owned(), source)];
    replay_beside(sources, backend, mode, Tuning::default(), &mut |_| {})
}

/// The same of several captures, as one recording, with other thresholds, also those of single listeners, and with every event of it shown to `beside`: to
/// another detector over the same reading, or to a live display.
pub fn replay_beside(
    sources: Vec<Source>,
    backend: impl Backend,
    mode: Mode,
    tuning: impl Into<Tuning>,
    beside: &mut dyn FnMut(ReplayEvent<'_>),
) -> anyhow::Result<Outcome> {
    let file = named(sources.iter().map(|(file, _)| file.as_str()));
    let recording = Recording::new(sources)?;
    let mut reading = Reading { recording, ..Reading::default() };
    let tuning: Tuning = tuning.into();
    let closed_rate = tuning.common.closed_rate;
    let mut agent = Agent::new(backend, tuning, mode)?;
    reading.read_ahead(&mut agent)?;
    while let Some(packet) = reading.ahead.pop() {
        let Waiting { at, class, direction, flow, .. } = packet;
        let seen = ReplayedSegment { after: at.since(START), class, direction, flow };
        beside(ReplayEvent::Segment(&seen));
        agent.packet(&packet, reading.handshakes.replies_seen())?;
        agent.alerts.drain(..).for_each(|alert| beside(ReplayEvent::Alert(&alert)));
        reading.ahead.give_back(packet.frame);
        reading.read_ahead(&mut agent)?;
    }
    let mut incidents = agent.finish()?;
    agent.alerts.drain(..).for_each(|alert| beside(ReplayEvent::Alert(&alert)));
    let own_scans = reading.complete(&mut incidents);
    let notes = reading.notes(&agent);
    let nowhere = agent.syns_to_nowhere()?;
    let mut faults = reading.faults.into_iter();
    let damage = faults.find(|fault| !matches!(fault, CaptureError::Cut { .. }));
    let mut scopes = incidents.iter().map(|report| report.class.facts().scope);
    let on_handshakes = scopes.any(|scope| scope == Scope::Handshakes);
    let mut replay = Replay {
        file,
        packets: reading.packets,
        skipped: reading.skipped.into_iter().map(|(why, n)| (why.to_owned(), n)).collect(),
        kinds: by_number(&reading.kinds),
        syns: reading.handshakes.syns,
        syn_acks: reading.handshakes.answers,
        handshakes: reading.handshakes.completed(),
        connections_without_syn: reading.beginnings.without_syn,
        duration_s: seconds(reading.clock.now().since(START)),
        incidents: incidents.iter().map(Incident::new).collect(),
        began: reading
            .began_ns
            .and_then(|ns| Some(Time(jiff::Timestamp::from_nanosecond(ns.into()).ok()?))),
        untimely: reading.clock.untimely(),
        sampled_one_in: reading.sampled.one_in(),
        lacks_acks: !reading.holds_acks && reading.sampled.packets == 0 && on_handshakes,
        notes,
    };
    replay.notes.extend(replay.lacks_acks.then(|| text::WITHOUT_ACKS.to_owned()));
    let unread = replay.unread().as_ref().map(text::unread_packets);
    let unjudged = replay.lacks_syns().then(|| text::without_syns(&replay));
    replay.notes.splice(0..0, unjudged);
    replay.notes.extend(unread);
    replay.notes.extend(replay.untimely.as_ref().map(text::untimely));
    if nowhere >= NOWHERE && 2 * nowhere >= replay.syns && !replay.has_closed_ports() {
        replay.notes.push(text::syns_to_nowhere(nowhere, replay.syns, closed_rate));
    }
    let (detections, polls) = (std::mem::take(&mut agent.detections), agent.polls);
    let lines = std::mem::take(&mut agent.lines);
    let began = replay.began.map_or(jiff::Timestamp::UNIX_EPOCH, |began| began.0);
    let was_stopped = replay.sampled_one_in.is_some();
    let kept = Kept { mode, began, incidents, own_scans, was_stopped, lines };
    Ok(Outcome { replay, damage, detections, polls, kept })
}

/// Packets that `tcpguard capture` recorded.
#[derive(Clone, Copy, Debug, Default)]
struct Sampled {
    packets: u64,
    /// SYNs that they stand for.
    stand_for: u64,
}

/// The capture as it is read.
#[derive(Default)]
struct Reading {
    recording: Recording,
    in_order: InOrder,
    packet: Packet,
    clock: Clock,
    copies: Copies,
    beginnings: Beginnings,
    handshakes: Handshakes,
    ahead: Ahead,
    packets: u64,
    /// SYNs that were cut in their options.
    cut_syns: u64,
    holds_acks: bool,
    skipped: BTreeMap<&'static str, u64>,
    /// The kinds of the skipped packets: as many as numbers of 16 bits have room for.
    kinds: BTreeMap<Kind, u64>,
    sampled: Sampled,
    began_ns: Option<u64>,
    is_over: bool,
    /// Reasons why captures could not be read to their ends.
    faults: Vec<CaptureError>,
}

impl Sampled {
    /// The number of SYNs that each stands for, on average; `None` where another program recorded them.
    fn one_in(self) -> Option<u64> {
        let average = (self.stand_for + self.packets / 2).checked_div(self.packets);
        average.filter(|one_in| *one_in > 0)
    }
}

impl Reading {
    /// Reads until enough packets wait or there are no more.
    fn read_ahead(&mut self, agent: &mut Agent<impl Backend>) -> Result<(), KernelError> {
        while !self.is_over && !self.ahead.is_full() {
            let recording = &mut self.recording;
            match self.in_order.next(&mut self.packet, |packet| recording.next(packet)) {
                Ok(true) => self.read(agent)?,
                Ok(false) => self.is_over = true,
                Err(error) => {
                    if matches!(error, CaptureError::Cut { .. }) {
                        self.skip(CUT_OFF);
                    }
                    self.faults.push(error);
                }
            }
        }
        Ok(())
    }

    fn read(&mut self, agent: &mut Agent<impl Backend>) -> Result<(), KernelError> {
        self.packets += 1;
        if let Some(one_in) = self.packet.one_in {
            self.sampled.packets += 1;
            self.sampled.stand_for += u64::from(one_in);
        }
        self.began_ns = self.began_ns.or(self.packet.at_ns);
        let at = self.clock.at(self.packet.at_ns);
        let mut frame = self.ahead.buffer();
        let interface = link::interface(&self.packet);
        let first = segment(&self.packet, &mut frame).and_then(|(segment, captured)| {
            match self.copies.note(at, &frame, &segment, interface) {
                true => Err(Unreadable { reason: COPY, kind: None }),
                false => Ok((segment, captured)),
            }
        });
        match first {
            Ok((segment, captured)) => {
                let cut = captured < segment.options_end;
                let cut = cut.then(|| captured.saturating_sub(segment.ip_at));
                self.wait(agent, at, cut, segment, frame)?;
            }
            Err(why) => {
                self.skip(why.reason);
                if let Some(kind) = why.kind {
                    *self.kinds.entry(kind).or_default() += 1;
                }
                self.ahead.give_back(frame);
            }
        }
        Ok(())
    }

    fn wait(
        &mut self,
        agent: &mut Agent<impl Backend>,
        at: Timestamp,
        cut: Option<u16>,
        segment: wire::Segment,
        mut frame: Vec<u8>,
    ) -> Result<(), KernelError> {
        let class = classify(segment.flags);
        self.cut_syns += u64::from(class == Class::Syn && cut.is_some());
        self.holds_acks |= matches!(class, Class::Ack | Class::Fin);
        self.beginnings.note(at, class, &segment);
        let Noted { direction, listener, lost } = self.handshakes.note(class, &segment);
        if let Some(key) = listener {
            agent.add_listener(at, key)?;
        }
        if let Some(third_ack) = lost {
            third_ack.write(&mut frame, &segment);
        }
        self.ahead.push(Waiting { at, class, direction, flow: segment.flow, cut, frame });
        Ok(())
    }

    fn skip(&mut self, why: &'static str) {
        *self.skipped.entry(why).or_default() += 1;
    }

    /// Adds to incidents what the whole capture shows. Returns the numbers of scans that come from the host that it is
    /// about.
    fn complete(&self, incidents: &mut [IncidentReport]) -> BTreeSet<u64> {
        let mut own_scans = BTreeSet::new();
        for report in incidents {
            let scanner = report.evidence.top_sources.first().map(|top| top.addr);
            match (report.class, scanner) {
                (IncidentClass::Reflection, _) => {
                    report.evidence.sources_estimate = self.handshakes.reflectors.estimate();
                }
                (IncidentClass::Scan, Some(addr)) if self.handshakes.is_own(addr) => {
                    own_scans.insert(report.id);
                }
                _ => {}
            }
        }
        own_scans
    }

    fn name(&self, interface: Interface) -> String {
        match interface {
            Interface::Described(number) => match self.recording.interface_name(number) {
                Some(name) => escape::shown(name).to_string(),
                None => format!("interface {number}"),
            },
            Interface::Index(index) => format!("interface {index}"),
        }
    }

    fn notes(&self, agent: &Agent<impl Backend>) -> Vec<String> {
        let (listeners, too_many) = agent.listeners();
        let mut notes = Vec::new();
        if let Some(one_in) = self.sampled.one_in() {
            notes.push(text::sampled_packets(one_in, self.sampled.stand_for));
        }
        // Without SYNs nothing shows it.
        if self.handshakes.one_sided() {
            notes.push(format!(
                "Next to no SYN in it is answered, so it counts as one direction only: every SYN counts \
                 as answered, and a handshake as completed when its client goes on. A port \
                 with many SYNs, or whose clients go on, counts as a listener: {listeners} found."
            ));
        } else if self.handshakes.syns > 0 {
            notes.push(format!(
                "It holds both directions. A port that answers SYNs is a listener: {listeners} found."
            ));
        }
        notes.extend(self.copies.sentence(|interface| self.name(interface)));
        if self.cut_syns > 0 {
            notes.push(text::cut_syns(self.cut_syns, self.handshakes.syns));
        }
        if too_many {
            notes.push(format!(
                "More than {CAPACITY} listeners were in use at a time: the others were left out."
            ));
        }
        if agent.left_out > 0 {
            notes.push(format!("{} further reports of incidents are left out.", agent.left_out));
        }
        let cuts = self.faults.iter().filter(|fault| matches!(fault, CaptureError::Cut { .. }));
        notes.extend(cuts.map(|cut| cut.with_hint()));
        notes
    }
}

/// The names of captures that are read together.
fn named<'a>(files: impl ExactSizeIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 3;
    let more = files.len().saturating_sub(SHOWN);
    let more = (more > 0).then(|| format!("{more} more"));
    let shown = files.take(SHOWN).map(str::to_owned);
    shown.chain(more).collect::<Vec<_>>().join(", ")
}

/// The kinds of packets by their names, the most frequent ones first.
fn by_number(kinds: &BTreeMap<Kind, u64>) -> Vec<(String, u64)> {
    let mut kinds: Vec<_> = kinds.iter().map(|(kind, count)| (kind.to_string(), *count)).collect();
    kinds.sort_by_key(|(_, count)| Reverse(*count));
    kinds
}

/// The TCP segment of a packet and the number of bytes that were captured of its frame, or the reason why there is
/// none. The packet's frame is written to `frame`. The flags must have been captured: without what comes after them a
/// segment counts, and has no fingerprint.
fn segment(packet: &Packet, frame: &mut Vec<u8>) -> Result<(wire::Segment, u16), Unreadable> {
    let captured = link::to_ethernet(packet, frame)?;
    let whole = captured == frame.len();
    match wire::parse(frame.as_slice()) {
        // The options begin 6 bytes after the flags.
        Ok(segment) if usize::from(segment.options_at) <= captured + 6 => {
            Ok((segment, u16::try_from(captured).unwrap_or(u16::MAX)))
        }
        Ok(_) => Err(Unreadable::CUT_SHORT),
        // Bytes that were not captured read as zeros, which no header consists of.
        Err(wire::Skip::Malformed) if !whole => Err(Unreadable::CUT_SHORT),
        Err(skip) => Err(skip.into()),
    }
}
