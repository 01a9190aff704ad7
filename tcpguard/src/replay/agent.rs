//! The agent of a replay: the engine, polled by packet time as the running agent polls it.

use std::collections::BTreeMap;
use std::time::Duration;

use tcpguard_common::abi::{ABI_VERSION, Action, Class, Config, FlowKey, ListenerKey, maps};
use tcpguard_common::fastpath::{HANDSHAKE_NS, hash};
use tcpguard_common::model::{Recent, hash_key};
use tcpguard_common::wire;
use tcpguard_engine::{
    Command, Engine, Flows, HostCounters, IncidentClass, IncidentReport, Listener,
    ListenerCounters, ListenerState, Mode, POLL, Sample, Severity, TRACKED_PER_SECOND, TcpExt,
    Timestamp, Tuning,
};

use super::ahead::Waiting;
use super::backend::Backend;
use super::handshakes::{Direction, RepliesSeen};
use super::listeners::{Admission, Traffic};
use super::silence::Silence;
use crate::bpf::{self, KernelError};
use crate::documents::replay::START;
use crate::driver::timeline::{Line, Recorder};
use crate::driver::{Executor, Tables, kernel_mode};
use crate::text::event_line;

/// The last packets are given this long to be judged. It is not longer, because a client's retransmitted SYN
/// can no longer be seen, and its absence would soon count against the client.
const TAIL: Duration = Duration::from_secs(1);
/// An alarm raised in that time is given this long to become an incident.
const VERDICT: Duration = Duration::from_secs(2);
/// Age beyond which a flow is no longer inspected. A handshake is tracked for 65 s, and its outcome
/// is looked up every 5 s.
const FOLLOWED: Duration =
    Duration::from_nanos(HANDSHAKE_NS).saturating_add(Duration::from_secs(10));
/// Number of flows above which a sample is examined from the next time on. The engine examines half as many,
/// and all of them would take longer than the packets between two inspections.
const INSPECTED: usize = 16_384;
/// Capacity for dropped SYNs. Replies to them are left out of the replay.
const DROPPED: usize = 65_536;
/// Capacity for SYNs that were cut: as many as the table of flows holds.
const CUT: usize = 2 * maps::MAX_FLOWS as usize;
/// Incidents kept at most.
const INCIDENTS: usize = 4096;
/// Incidents with a timeline, the first ones of those kept.
const LINES: usize = 64;
/// Seed of the hash key: fixed, so that the same capture has the same verdict every time.
const SEED: u64 = 0x7463_7067_7561_7264;

/// A verdict when it was reported, first or changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// Time after the first packet.
    pub after: Duration,
    /// The incident's number: its class changes, its number does not.
    pub incident: u64,
    /// The class that was reported.
    pub class: IncidentClass,
    /// Listener of the incident, or the address or host that it is about.
    pub listener: Listener,
}

/// An alert as the agent would have raised it for an operator.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Alert {
    /// Time after the first packet.
    pub after: Duration,
    /// Severity of the event.
    pub severity: Severity,
    /// Description of the event, for people.
    pub message: String,
}

/// The agent of a replay, over one capture.
pub struct Agent<B: Backend> {
    backend: B,
    executor: Executor<B::Tables, Traffic>,
    engine: Engine,
    next_poll: Timestamp,
    last_packet: Timestamp,
    /// Packets since the last silence.
    packets: u64,
    admission: Admission,
    dropped: Recent<FlowKey, (), DROPPED>,
    /// Flows with a SYN that was cut in its options, with the number of bytes captured of it.
    cut: Recent<FlowKey, u16, CUT>,
    incidents: BTreeMap<u64, IncidentReport>,
    /// Every verdict as it was reported, oldest first.
    pub detections: Vec<Detection>,
    /// Alerts raised since this was last emptied, oldest first.
    pub alerts: Vec<Alert>,
    recorder: Recorder,
    /// Counters over time, by the incident's number.
    pub lines: BTreeMap<u64, Line>,
    answers: RepliesSeen,
    /// One flow in `2^thinned` is examined.
    thinned: u8,
    /// Number of polls made.
    pub polls: u64,
    /// Incidents that were too many to be kept.
    pub left_out: u64,
}

impl<B: Backend> Agent<B> {
    /// An agent that has seen nothing.
    pub fn new(backend: B, tuning: Tuning, mode: Mode) -> anyhow::Result<Self> {
        let config = Config {
            abi_version: ABI_VERSION,
            mode: kernel_mode(mode) as u8,
            // No heartbeat is needed, because the rules of a replay drop no live traffic.
            heartbeat_limit_ns: u64::MAX,
            hash_key: hash_key(SEED),
            tracked_bits: Config::tracked_bits(TRACKED_PER_SECOND),
            ..Config::default()
        };
        let mut executor = Executor::new(START, backend.tables()?, config);
        executor.dataplane.set_config(&executor.config)?;
        Ok(Self {
            backend,
            executor,
            engine: Engine::new(tuning, mode)?,
            next_poll: START,
            last_packet: START,
            packets: 0,
            admission: Admission::default(),
            dropped: Recent::default(),
            cut: Recent::default(),
            incidents: BTreeMap::new(),
            detections: Vec::new(),
            alerts: Vec::new(),
            recorder: Recorder::default(),
            lines: BTreeMap::new(),
            answers: RepliesSeen::All,
            thinned: 0,
            polls: 0,
            left_out: 0,
        })
    }

    /// Monitors a listener, from the next poll on.
    pub fn add_listener(&mut self, now: Timestamp, key: ListenerKey) -> Result<(), KernelError> {
        let Executor { listeners, dataplane, .. } = &mut self.executor;
        self.admission.add(now, &key, listeners, dataplane)
    }

    /// Listeners monitored now, and whether there were too many.
    pub fn listeners(&self) -> (usize, bool) {
        (self.executor.listeners.iter().count(), self.admission.left_out > 0)
    }

    /// Number of SYNs to addresses and ports where nothing listens.
    pub fn syns_to_nowhere(&self) -> Result<u64, KernelError> {
        Ok(self.executor.dataplane.host_counters()?.no_listener)
    }

    /// Hands a packet to the backend, after all polls that are due before it. `answers` states which replies
    /// the capture holds so far.
    pub fn packet(&mut self, packet: &Waiting, answers: RepliesSeen) -> Result<(), KernelError> {
        if self.answers != answers {
            self.answers = answers;
            self.executor.config.one_sided = (answers != RepliesSeen::All).into();
            self.executor.dataplane.set_config(&self.executor.config)?;
        }
        self.poll_until(packet.at)?;
        self.last_packet = packet.at;
        self.packets += 1;
        let Executor { dataplane, listeners, config, .. } = &mut self.executor;
        self.backend.set_now(dataplane, packet.at.as_nanos())?;
        let flow = &packet.flow;
        let (server, port) = match packet.direction {
            Direction::In => (flow.server, flow.server_port),
            Direction::Out => (flow.client, flow.client_port),
        };
        let listener = listeners.under(&ListenerKey::new(server, port));
        listeners.touched.extend(listener);
        match packet.direction {
            Direction::In => {
                let action = self.backend.ingress(dataplane, &packet.frame)?;
                if packet.class == Class::Syn {
                    if let Some(kept) = packet.cut {
                        self.cut.insert(*flow, kept);
                    }
                    if let Some(monitored) = listener.and_then(|id| listeners.get_mut(id)) {
                        let source = flow.client.client();
                        monitored.own.seen = packet.at;
                        monitored
                            .own
                            .sources
                            .add(packet.at, hash::source(&config.hash_key, &source));
                    }
                    self.note_fate(flow, action);
                }
                Ok(())
            }
            // A dropped SYN does not reach the stack, so no reply to it would exist.
            Direction::Out if self.dropped.peek(&flow.reversed()).is_some() => Ok(()),
            Direction::Out => self.backend.egress(dataplane, &packet.frame),
        }
    }

    fn note_fate(&mut self, flow: &FlowKey, action: Action) {
        match action {
            // With neither action does the SYN reach the stack. The stack's reply is in the capture
            // nevertheless.
            Action::Drop | Action::Tx => self.dropped.insert(*flow, ()),
            Action::Pass if self.dropped.is_empty() => {}
            Action::Pass => drop(self.dropped.remove(flow)),
        }
    }

    /// Judges the last packets, and returns every incident, oldest first.
    pub fn finish(&mut self) -> Result<Vec<IncidentReport>, KernelError> {
        let end = self.last_packet + TAIL;
        self.poll_until(end)?;
        let mut now = end;
        while self.is_suspicious(now) && now.since(end) < VERDICT {
            now = now + POLL;
            self.poll_until(now)?;
        }
        for report in self.engine.report(now).incidents {
            self.keep(now, report);
        }
        let open = self.recorder.open().clone();
        open.into_iter().for_each(|(id, line)| self.keep_line(id, line));
        Ok(std::mem::take(&mut self.incidents).into_values().collect())
    }

    fn is_suspicious(&self, now: Timestamp) -> bool {
        let report = self.engine.report(now);
        report.listeners.iter().any(|listener| listener.state == ListenerState::Suspect)
    }

    /// Makes every poll that is due until `to`, but in a silence those in which nothing can change.
    fn poll_until(&mut self, to: Timestamp) -> Result<(), KernelError> {
        while self.next_poll <= to {
            let silence = Silence {
                lasted: self.next_poll.since(self.last_packet),
                left: to.since(self.next_poll),
                packets: self.packets,
            };
            if silence.is_settled() {
                self.packets = 0;
            }
            let spare = silence.spare(POLL, || self.engine.is_at_rest());
            let skipped = u128::from(spare) * POLL.as_nanos();
            let skipped = Duration::from_nanos(u64::try_from(skipped).unwrap_or(u64::MAX));
            let now = self.next_poll + skipped;
            self.poll(now)?;
            self.next_poll = now + POLL;
            if self.next_poll == now {
                // The end of time.
                break;
            }
        }
        Ok(())
    }

    /// One round: read everything, think, act.
    fn poll(&mut self, now: Timestamp) -> Result<(), KernelError> {
        self.polls += 1;
        let sample = self.sample(now)?;
        self.executor.submit(&mut self.engine, &sample)?;
        self.recorder.note(&sample, self.engine.mode());
        self.part_sources(now);
        while let Some(command) = self.engine.next_command() {
            self.execute(now, command)?;
        }
        Ok(())
    }

    fn part_sources(&mut self, now: Timestamp) {
        let listeners = self.executor.listeners.iter_mut();
        let mut due = listeners.filter(|one| one.own.sources.is_due(now)).peekable();
        if due.peek().is_some() {
            let incidents = match self.engine.is_at_rest() {
                true => Vec::new(),
                false => self.engine.report(now).incidents,
            };
            for monitored in due {
                let its = incidents.iter().find(|one| one.listener_id == monitored.id);
                monitored.own.sources.next_part(now, its);
            }
        }
    }

    fn sample(&mut self, now: Timestamp) -> Result<Sample, KernelError> {
        self.executor.config.note_poll(now.as_nanos());
        let Executor { dataplane, listeners, config, estimates, .. } = &mut self.executor;
        dataplane.set_config(config)?;
        let mut samples = Vec::new();
        for id in std::mem::take(&mut listeners.touched) {
            let Some(monitored) = listeners.get_mut(id) else { continue };
            let mut sample = monitored.sample(dataplane, estimates, None, false)?;
            if !std::mem::replace(&mut monitored.own.is_sampled, true) {
                // Counts from before the first sample belong to no listener, so the first sample is
                // zero.
                (sample.counters, sample.distinct_sources) = (ListenerCounters::default(), 0);
                listeners.touched.insert(id);
            }
            samples.push(sample);
        }
        let gone = std::mem::take(&mut listeners.gone);
        let executor = &self.executor;
        let packets = B::packets(&executor.dataplane)?;
        let host = executor.dataplane.host_counters()?;
        let cells = executor.dataplane.closed_port_sources()?;
        Ok(Sample {
            at: now,
            epoch: START.as_nanos(),
            listeners: samples,
            gone,
            tcp_ext: TcpExt::default(),
            rules: executor.rule_counters()?.into(),
            host: HostCounters {
                own_syn: (self.answers != RepliesSeen::None).then_some(host.own_syn),
                replies: host.reply_seen,
                unsolicited: host.unsolicited,
                segments: packets.classes[Class::Ack as usize]
                    + packets.classes[Class::Fin as usize],
                no_listener: host.no_listener,
                refused: host.refused,
                closed_over: host.closed_over,
                // Packets that cannot be read are skipped before they get here.
                ..HostCounters::default()
            },
            closed_port_sources: executor.closed_port_sources(now, &cells),
            sample_shift: executor.config.sample_shift,
            one_sided: self.answers == RepliesSeen::None,
        })
    }

    fn execute(&mut self, now: Timestamp, command: Command) -> Result<(), KernelError> {
        match command {
            Command::InstallRule(rule) => self.executor.install(&rule),
            Command::RenewRule { id, expires } => self.executor.renew(id, expires),
            Command::RemoveRule { rule, .. } => self.executor.remove(&rule),
            Command::SetMode(mode) => self.executor.set_mode(mode),
            Command::SetSampling { shift } => self.executor.set_sampling(shift),
            Command::SampleSyns { listener, shift } => self.executor.sample_syns(listener, shift),
            Command::InspectFlows => self.inspect_flows(now),
            Command::Alert { event, incident } => {
                let (severity, message) = (event.severity(), event_line(&event));
                self.alerts.push(Alert { after: now.since(START), severity, message });
                if let Some(incident) = incident {
                    self.keep(now, *incident);
                }
                Ok(())
            }
            // A capture shows no sockets and no routes, and has no operator. Its SYNs were answered
            // as the capture shows.
            Command::StartMitigation { .. }
            | Command::StopMitigation { .. }
            | Command::ExemptListener { .. }
            | Command::PassExcess { .. }
            | Command::WithholdCookies { .. }
            | Command::LimitClosedPorts { .. }
            | Command::DropBeyondBounds(_)
            | Command::LookUpRoutes(_)
            | Command::CountHalfOpen
            | Command::CleanHalfOpen { .. }
            | Command::SetAllowed(_)
            | Command::ReplaceRules { .. } => Ok(()),
        }
    }

    fn inspect_flows(&mut self, now: Timestamp) -> Result<(), KernelError> {
        let oldest = (now - FOLLOWED).as_nanos();
        let Executor { dataplane, listeners, config, .. } = &self.executor;
        let config = Config { sample_shift: config.sample_shift.max(self.thinned), ..*config };
        let mut flows = Flows::default();
        // In a long silence the whole table would be read to find nothing.
        if now.since(self.last_packet) <= FOLLOWED {
            let mut found = B::flows(dataplane, |key, flow| {
                flow.syn_ns >= oldest
                    && hash::sampled(hash::flow(&config.hash_key, key), config.sample_shift)
            })?;
            // Tables have no order, and of very many flows the engine examines a part: always the same one.
            found.sort_unstable_by_key(|(key, flow)| (flow.syn_ns, *key));
            flows.extend(found.iter().filter_map(|(key, flow)| {
                let listener = listeners.at_slot(flow.listener)?;
                let found = bpf::flow(&config, key, flow)?;
                let fingerprint = match self.cut.peek(key) {
                    Some(_) => found.fingerprint.without_options(),
                    None => found.fingerprint,
                };
                Some(tcpguard_engine::Flow { listener, fingerprint, ..found })
            }));
        }
        match flows.len() {
            many if many > INSPECTED => self.thinned = config.sample_shift + 1,
            few if few < INSPECTED / 4 => self.thinned = self.thinned.saturating_sub(1),
            _ => {}
        }
        self.engine.handle_flows(now, &flows, &self.executor.recent_clients(now));
        Ok(())
    }

    fn keep_line(&mut self, id: u64, line: Line) {
        if self.lines.len() < LINES {
            self.lines.insert(id, line);
        }
    }

    /// Keeps an incident as it is now, or was at its end.
    fn keep(&mut self, now: Timestamp, mut report: IncidentReport) {
        if let Some(monitored) = self.executor.listeners.get_mut(report.listener_id) {
            let sources = monitored.own.sources.of(now, &report);
            report.evidence.sources_estimate = sources.min(report.counts.syns);
        }
        for header in &mut report.record.syn_headers {
            let flow = wire::parse_packet(header.bytes.as_slice()).map(|segment| segment.flow);
            if let Some(kept) = flow.ok().and_then(|flow| self.cut.peek(&flow)) {
                let (kept, whole) = (usize::from(*kept), header.bytes.len());
                if kept < whole {
                    header.bytes.truncate(kept);
                    header.length.get_or_insert(whole as u16);
                }
            }
        }
        if report.ended.is_none() {
            self.recorder.begin(report.id, report.listener_id);
        } else if let Some(line) = self.recorder.end(report.id) {
            self.keep_line(report.id, line);
        }
        let known = self.incidents.get(&report.id).map(|known| known.class);
        if self.incidents.len() < INCIDENTS || known.is_some() {
            if known != Some(report.class) {
                let (incident, class, listener) = (report.id, report.class, report.listener);
                self.detections.push(Detection {
                    after: now.since(START),
                    incident,
                    class,
                    listener,
                });
            }
            self.incidents.insert(report.id, report);
        } else {
            self.left_out += 1;
        }
    }
}
