//! Incidents of the whole host: port scans, unsolicited replies, SYNs to closed ports that take time of the
//! host's own stack, and SYNs in frames that the XDP program cannot read.

mod beyond;
pub(crate) mod closed;
pub(crate) mod scan;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use self::beyond::Beyond;
use self::closed::CLOSED_PORT_RESETS;
use crate::evidence::{Assessment, Evidence, IncidentClass, Quantity, SourceShare, VerdictLine};
use crate::incident::{Event, Incident, IncidentCounts, IncidentReport, Opening};
use crate::input::sample::since;
use crate::input::{
    ClosedPortSource, Flow, HostCounters, Listener, ListenerId, Mode, Sample, Timestamp,
};
use crate::listener::{
    REFLECTION_POLLS, REFLECTION_RATE, REFLECTION_SHARE, SCAN_ADDRESSES, SCAN_PORTS, Signal,
    Tick as Counted,
};
use crate::output::Command;
use crate::settings::Settings;
pub(crate) use beyond::Passing;

/// Rates are judged over this span.
const SPAN: Duration = Duration::from_secs(1);
/// Flows are looked at this often when nothing is the matter, and a scanner's last ones must have had
/// their time.
const INSPECTED: Duration = Duration::from_secs(7);
/// Sources reported.
const TOP: usize = 8;
/// Ports or addresses from which they are several: a scan of one is about that one.
const SEVERAL: u32 = 2;
/// Polls running for which a rate must hold, as `fast_polls`.
const POLLS: u32 = 2;
/// Fraction of the opening rate at which an open incident is held: 2:1 hysteresis, as in pf.
const HELD: f64 = 0.5;

/// Counts of the time between two polls.
#[derive(Clone, Copy, Debug, Default)]
struct Tick {
    span: Duration,
    own: Option<u64>,
    replies: u64,
    unsolicited: u64,
    segments: u64,
    /// Variance of `unsolicited`, which is known by sample.
    variance: f64,
    refused: u64,
    resets: u64,
    no_listener_own: u64,
    closed_over: u64,
    closed_dropped: u64,
    beyond_passed: u64,
    beyond_dropped: u64,
    short_fragments: u64,
    /// SYNs among the passed frames for which no handshake completes.
    evading: u64,
}

impl Tick {
    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.span.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// The host's counters, scanners and incidents.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    counters: HostCounters,
    ticks: VecDeque<Tick>,
    closed_port_sources: Vec<ClosedPortSource>,
    /// Sources that leave handshakes half-open where something listens.
    half_open: Vec<ClosedPortSource>,
    unsolicited_streak: u32,
    closed_streak: u32,
    /// The stack's resets are not seen while there is a flood of closed ports.
    resets_unseen: bool,
    beyond: Beyond,
    /// The last orders to the kernel: the number of SYNs to closed ports that are left to the stack, whether the
    /// stack's resets are unseen, and whether unreadable frames are dropped.
    ordered: (Option<u32>, bool, bool),
    open: Vec<Open>,
}

/// An open incident, and the time at which its packets were last seen.
#[derive(Clone, Debug)]
struct Open {
    incident: Incident,
    seen: Timestamp,
}

/// Something that is the matter now.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    listener: Listener,
    started: Timestamp,
    /// Packets it is about so far.
    so_far: IncidentCounts,
    /// Those since the last poll.
    fresh: IncidentCounts,
    rate: f64,
    assessment: Assessment,
    /// Actions about it.
    notes: Vec<Event>,
}

impl Finding {
    /// Class of the finding.
    pub fn class(&self) -> IncidentClass {
        self.assessment.class
    }
}

/// Result of a [`Finding`].
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// Nothing to report.
    None,
    /// A new incident.
    Opened(Box<IncidentReport>),
    /// An incident that has grown or of which more is known.
    Changed(Box<IncidentReport>),
}

impl Host {
    /// Takes over a sample. The stack answered `evading` of its SYNs although the XDP program could not read
    /// them. Returns the number of flows that take slots in the table of tracked flows beside those of
    /// listeners: own SYNs.
    pub fn observe(
        &mut self,
        sample: &Sample,
        elapsed: Duration,
        restarted: bool,
        evading: u64,
        settings: &Settings,
    ) -> u64 {
        let before = std::mem::replace(&mut self.counters, sample.host);
        self.closed_port_sources.clone_from(&sample.closed_port_sources);
        let Some(tick) = difference(&before, &sample.host).filter(|_| !restarted) else {
            self.ticks.clear();
            return 0;
        };
        let weight = (1_u64 << sample.sample_shift.min(63)) as f64;
        let variance = tick.unsolicited as f64 * (weight - 1.0);
        let evading = evading.min(tick.beyond_passed).max(tick.short_fragments);
        let tick = Tick { span: elapsed, variance, evading, ..tick };
        self.ticks.push_back(tick);
        while self.ticks.iter().skip(1).map(|tick| tick.span).sum::<Duration>() >= SPAN {
            self.ticks.pop_front();
        }
        let unsolicited = self.unsolicited(&tick, variance);
        let rate = unsolicited / elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        let factor = if self.is_open(IncidentClass::Reflection) { 0.5 } else { 1.0 };
        let reflected = rate >= factor * REFLECTION_RATE
            && unsolicited >= factor * REFLECTION_SHARE * tick.replies as f64;
        self.unsolicited_streak = if reflected { self.unsolicited_streak + 1 } else { 0 };
        self.follow_closed(&tick, settings);
        self.follow_beyond(&tick);
        tick.own.unwrap_or(0)
    }

    /// Total time and total counts of the last `polls` polls, or of those that are remembered if these are fewer.
    fn streak(&self, polls: u32, count: fn(&Tick) -> IncidentCounts) -> (Duration, IncidentCounts) {
        let mut sums = (Duration::ZERO, IncidentCounts::default());
        for tick in self.ticks.iter().rev().take(polls as usize) {
            let IncidentCounts { syns, matched, dropped, .. } = count(tick);
            sums.0 += tick.span;
            sums.1.syns += syns;
            sums.1.matched += matched;
            sums.1.dropped += dropped;
        }
        sums
    }

    /// Notes the rates of the last second in the open incident of a class.
    fn note_rates(&mut self, class: IncidentClass, count: fn(&Tick) -> IncidentCounts) {
        let (span, packets) = self.streak(u32::MAX, count);
        let per_second = |count: u64| count as f64 / span.as_secs_f64().max(f64::MIN_POSITIVE);
        for open in self.open.iter_mut().filter(|open| open.incident.class() == class) {
            open.incident.note_rate(per_second(packets.syns));
            open.incident.note_stopped(per_second(packets.dropped));
        }
    }

    /// Returns whether frames that cannot be read are dropped, as far as the configuration leaves that to the engine.
    pub fn drops_beyond(&self) -> bool {
        self.is_open(IncidentClass::Evasion) && self.beyond.pressed
    }

    /// Commands to the kernel, where they differ from the last ones.
    pub fn orders(&mut self) -> impl Iterator<Item = Command> + use<> {
        let is_open = self.is_open(IncidentClass::ClosedPorts);
        let per_second = is_open.then_some(CLOSED_PORT_RESETS);
        let (unseen, drop) = (is_open && self.resets_unseen, self.drops_beyond());
        let before = std::mem::replace(&mut self.ordered, (per_second, unseen, drop));
        let limit = ((before.0, before.1) != (per_second, unseen))
            .then_some(Command::LimitClosedPorts { per_second, unseen });
        let drops = (before.2 != drop).then_some(Command::DropBeyondBounds(drop));
        limit.into_iter().chain(drops)
    }

    /// Replies of a tick that were certainly unsolicited.
    ///
    /// It may be that no SYN of this host has ever been seen, because only one direction is visible or they
    /// leave by an interface that is not attached. Then connections that are in use show that replies were
    /// solicited, and none counts.
    fn unsolicited(&self, tick: &Tick, variance: f64) -> f64 {
        let total = |count: fn(&Tick) -> u64| self.ticks.iter().map(count).sum::<u64>();
        let unseen = self.counters.own_syn.unwrap_or(0) == 0;
        if unseen && total(|tick| tick.segments) >= total(|tick| tick.replies) {
            return 0.0;
        }
        match tick.own {
            None => tick.replies as f64,
            Some(_) => (tick.unsolicited as f64 - 2.0 * variance.sqrt()).max(0.0),
        }
    }

    /// Looks for scanners among the sampled flows of listeners without an incident or an alarm. A flooded listener
    /// is left out: it has many half-open handshakes, of addresses that may be spoofed. Flows come with their
    /// listener's port.
    pub fn inspect(&mut self, now: Timestamp, flows: impl Iterator<Item = (Flow, u16)>) {
        self.half_open = scan::half_open(now, flows, INSPECTED);
    }

    /// The present findings.
    pub fn findings(&self, now: Timestamp, mode: Mode, settings: &Settings) -> Vec<Finding> {
        let reflection = self.reflection(now);
        let closed = self.closed(now, mode, settings);
        let evasion = self.evasion(now, mode);
        let scan = self.scan(now).into_iter();
        scan.chain(reflection).chain(closed).chain(evasion).collect()
    }

    fn reflection(&self, now: Timestamp) -> Option<Finding> {
        if self.unsolicited_streak < REFLECTION_POLLS {
            return None;
        }
        let count = |tick: &Tick| self.unsolicited(tick, tick.variance) as u64;
        let streak = self.ticks.iter().rev().take(self.unsolicited_streak as usize);
        let (span, unsolicited, all) = streak.fold((Duration::ZERO, 0, 0), |sums, tick| {
            (sums.0 + tick.span, sums.1 + count(tick), sums.2 + tick.replies)
        });
        let rate = unsolicited as f64 / span.as_secs_f64().max(f64::MIN_POSITIVE);
        let share = if all == 0 { 0.0 } else { unsolicited as f64 / all as f64 };
        let evidence = Evidence { unsolicited_rate: rate, ..Evidence::default() };
        let measured = vec![
            Quantity::UnsolicitedRate.is(rate).at_least(REFLECTION_RATE),
            Quantity::UnsolicitedShare.is(share).at_least(REFLECTION_SHARE),
        ];
        let line = VerdictLine::fits(IncidentClass::Reflection, measured);
        Some(Finding {
            listener: Listener::HOST,
            started: now - span,
            so_far: IncidentCounts { syns: unsolicited, ..IncidentCounts::default() },
            fresh: IncidentCounts {
                syns: self.ticks.back().map_or(0, count),
                ..IncidentCounts::default()
            },
            rate,
            assessment: Assessment::of_counters(line, evidence),
            notes: Vec::new(),
        })
    }

    fn scan(&self, now: Timestamp) -> Option<Finding> {
        let mut scanners = self.scanners(now);
        scanners.sort_by_key(|probe| (std::cmp::Reverse(probe.syns), probe.source));
        let busiest = scanners.first()?;
        let syns: u64 = scanners.iter().map(|probe| u64::from(probe.syns)).sum();
        let started = scanners.iter().map(|probe| probe.since).min().unwrap_or(now).min(now);
        let share = |probe: &ClosedPortSource| f64::from(probe.syns) / syns as f64;
        let source =
            |probe: &ClosedPortSource| SourceShare { addr: probe.source, share: share(probe) };
        let evidence = Evidence {
            sources_estimate: scanners.len() as u64,
            syns_per_source: syns as f64 / scanners.len() as f64,
            top_source_share: share(busiest),
            top_sources: scanners.iter().take(TOP).map(source).collect(),
            ports_tried: busiest.ports.into(),
            addresses_tried: busiest.servers.into(),
            ..Evidence::default()
        };
        let measured = vec![
            Quantity::PortsTried.counts(evidence.ports_tried).at_least(SCAN_PORTS.into()),
            Quantity::AddressesTried
                .counts(evidence.addresses_tried)
                .at_least(SCAN_ADDRESSES.into()),
        ];
        let line = VerdictLine::fits(IncidentClass::Scan, measured);
        Some(Finding {
            listener: place(&scanners),
            started,
            so_far: IncidentCounts { syns, ..IncidentCounts::default() },
            fresh: IncidentCounts::default(),
            rate: scanners.iter().map(|probe| rate(now, probe)).sum(),
            assessment: Assessment::of_counters(line, evidence),
            notes: scanners.iter().map(found).collect(),
        })
    }

    fn scanners(&self, now: Timestamp) -> Vec<ClosedPortSource> {
        let recent = || self.half_open.iter().filter(|open| now.since(open.last) <= INSPECTED);
        let closed = self.closed_port_sources.iter().filter_map(|closed| {
            match recent().find(|open| open.source == closed.source) {
                Some(open) => Some(scan::together(closed, open)),
                None => (now.since(closed.last) <= SPAN).then_some(*closed),
            }
        });
        let only_open = recent().filter(|open| {
            self.closed_port_sources.iter().all(|closed| closed.source != open.source)
        });
        closed.chain(only_open.copied()).filter(scan::is_scanner).collect()
    }

    /// Returns whether an incident of this class is open.
    pub fn is_open(&self, class: IncidentClass) -> bool {
        self.incidents().any(|incident| incident.class() == class)
    }

    /// The open incidents.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.open.iter().map(|open| &open.incident)
    }

    /// Resumes an incident that an earlier run left open. Returns false where there is no such class.
    pub fn resume(&mut self, now: Timestamp, report: &IncidentReport) -> bool {
        let resumed = Incident::resume(now, ListenerId::HOST, report);
        let resumed = resumed.filter(|incident| incident.class().is_of_host());
        let is_one = resumed.is_some();
        self.open.extend(resumed.map(|incident| Open { incident, seen: now }));
        is_one
    }

    /// The open incidents, each with the time at which its packets were last seen.
    pub fn seen(&self) -> impl Iterator<Item = (&Incident, Timestamp)> {
        self.open.iter().map(|open| (&open.incident, open.seen))
    }

    /// Takes a finding into the open incident of its class, or opens one with this number.
    pub fn take(&mut self, now: Timestamp, finding: Finding, number: Option<u64>) -> News {
        let Finding { listener, started, so_far, fresh, rate, assessment, notes } = finding;
        let class = assessment.class;
        let known = self.open.iter_mut().find(|open| open.incident.class() == class);
        let Some(open) = known else {
            let Some(id) = number else { return News::None };
            let opening = Opening {
                id,
                listener_id: ListenerId::HOST,
                listener,
                signal: Signal::Host,
                alarm: assessment.lines.last().map_or_else(Vec::new, |line| line.measured.clone()),
                before: None,
                moment: None,
                started,
                detected: now,
                counts: so_far,
                baseline_completed: None,
                syn_rate: rate,
            };
            let mut incident = Incident::open(now, opening, &assessment);
            incident.note_stopped(rate * so_far.dropped as f64 / so_far.syns.max(1) as f64);
            for note in notes {
                incident.note(now, note);
            }
            incident.note_actions_notified();
            let report = incident.report(Vec::new(), None);
            self.open.push(Open { incident, seen: now });
            return News::Opened(Box::new(report));
        };
        let incident = &mut open.incident;
        open.seen = now;
        incident.refine(now, &assessment);
        match class {
            // Cells count each source from its first SYN.
            IncidentClass::Scan => {
                incident.note_rate(rate);
                incident.set_listener(listener);
                incident.raise_syns(so_far.syns);
            }
            IncidentClass::Reflection => {
                incident.note_rate(rate);
                incident.count_syns(fresh.syns);
            }
            // Their rates are noted at every poll.
            _ => {
                let IncidentCounts { syns, matched, dropped, .. } = fresh;
                incident.count(&Counted { syns, matched, dropped, ..Counted::default() });
            }
        }
        for note in notes {
            incident.note(now, note);
        }
        match incident.news(now) {
            Some(_) => News::Changed(Box::new(incident.report(Vec::new(), None))),
            None => News::None,
        }
    }

    /// Closes the incidents whose packets were last seen `quiet` ago or earlier.
    pub fn end_quiet(&mut self, now: Timestamp, quiet: Duration) -> Vec<IncidentReport> {
        let over = |open: &mut Open| now.since(open.seen) >= quiet;
        let ended = self.open.extract_if(.., over);
        ended.map(|open| open.incident.report(Vec::new(), Some(open.seen))).collect()
    }
}

fn difference(before: &HostCounters, now: &HostCounters) -> Option<Tick> {
    let own = match (before.own_syn, now.own_syn) {
        (Some(before), Some(now)) => Some(now.checked_sub(before)?),
        _ => None,
    };
    // The kernel's own count.
    let resets = now.resets.saturating_sub(before.resets);
    let Tick { span, variance, evading, .. } = Tick::default();
    since!(now, before, Tick {
        replies, unsolicited, segments, refused, no_listener_own, closed_over, closed_dropped, beyond_passed,
        beyond_dropped, short_fragments; own, resets, span, variance, evading
    })
}

/// Target of the scanners: one address, one port, or the whole host.
fn place(scanners: &[ClosedPortSource]) -> Listener {
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let Some(first) = scanners.first() else { return Listener::HOST };
    let all = |which: &dyn Fn(&ClosedPortSource) -> bool| scanners.iter().all(which);
    if all(&|probe| probe.servers < SEVERAL && probe.server == first.server) {
        Listener { addr: first.server, port: 0 }
    } else if all(&|probe| probe.ports < SEVERAL && probe.port == first.port) {
        Listener { addr: any, port: first.port }
    } else {
        Listener::HOST
    }
}

/// SYNs per second of a source since its first one.
fn rate(now: Timestamp, probe: &ClosedPortSource) -> f64 {
    f64::from(probe.syns) / now.since(probe.since).max(SPAN).as_secs_f64()
}

/// The event that reports a scanner.
fn found(probe: &ClosedPortSource) -> Event {
    let many_addresses = probe.servers >= SCAN_ADDRESSES;
    let port = (many_addresses && probe.ports < SEVERAL).then_some(probe.port);
    Event::ScannerFound { source: probe.source, port, many_addresses }
}
