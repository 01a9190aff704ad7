//! The agent of a replay: the engine, polled by packet time as the running agent polls it.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_common::abi::{
    self, ABI_VERSION, Action, Class, Config, Flow, FlowKey, ListenerKey, ReturnedCookies,
};
use tcpguard_common::fastpath::{HANDSHAKE_NS, hash};
use tcpguard_common::model::{Recent, hash_key};
use tcpguard_engine::{
    ClosedPortSource, Command, Engine, FOLLOWED_PER_SECOND, Flows, HostCounters, IncidentClass,
    IncidentReport, Listener, ListenerCounters, ListenerId, ListenerSample, ListenerState, Matcher,
    Mode, POLL, Rule, RuleCounters, RuleId, Sample, Severity, TcpExt, Timestamp, Tuning,
    ValidatedClients,
};

use super::ahead::Waiting;
use super::backend::Backend;
use super::handshakes::{Direction, RepliesSeen};
use super::listeners::{self, Listeners};
use super::silence::Silence;
use crate::bpf::{self, KernelError, signature_scope, source_table};
use crate::documents::replay::START;
use crate::driver::distinct;
use crate::driver::headers::Headers;
use crate::driver::timeline::{Line, Recorder};
use crate::text::event_line;

/// Estimates of distinct sources start again this often, as the agent's do.
const DISTINCT_WINDOW: Duration = Duration::from_secs(10);
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
pub struct Agent<'a> {
    backend: &'a mut dyn Backend,
    engine: Engine,
    config: Config,
    next_poll: Timestamp,
    last_packet: Timestamp,
    /// Packets since the last silence.
    packets: u64,
    distinct_since: Timestamp,
    listeners: Listeners,
    rules: BTreeMap<RuleId, Matcher>,
    dropped: Recent<FlowKey, (), DROPPED>,
    incidents: BTreeMap<u64, IncidentReport>,
    /// Every verdict as it was reported, oldest first.
    pub detections: Vec<Detection>,
    /// Alerts raised since this was last emptied, oldest first.
    pub alerts: Vec<Alert>,
    recorder: Recorder,
    /// Counters over time, by the incident's number.
    pub lines: BTreeMap<u64, Line>,
    answers: RepliesSeen,
    headers: Headers,
    /// One flow in `2^thinned` is examined.
    thinned: u8,
    /// Number of polls made.
    pub polls: u64,
    /// Incidents that were too many to be kept.
    pub left_out: u64,
}

impl<'a> Agent<'a> {
    /// An agent that has seen nothing.
    pub fn new(backend: &'a mut dyn Backend, tuning: Tuning, mode: Mode) -> anyhow::Result<Self> {
        let config = Config {
            abi_version: ABI_VERSION,
            mode: kernel_mode(mode) as u8,
            // No heartbeat is needed, because the rules of a replay drop no live traffic.
            heartbeat_limit_ns: u64::MAX,
            hash_key: hash_key(SEED),
            tracked_bits: Config::follow(FOLLOWED_PER_SECOND),
            ..Config::default()
        };
        backend.set_config(&config)?;
        Ok(Self {
            backend,
            engine: Engine::new(tuning, mode)?,
            config,
            next_poll: START,
            last_packet: START,
            packets: 0,
            distinct_since: START,
            listeners: Listeners::default(),
            rules: BTreeMap::new(),
            dropped: Recent::default(),
            incidents: BTreeMap::new(),
            detections: Vec::new(),
            alerts: Vec::new(),
            recorder: Recorder::default(),
            lines: BTreeMap::new(),
            answers: RepliesSeen::All,
            headers: Headers::default(),
            thinned: 0,
            polls: 0,
            left_out: 0,
        })
    }

    /// Follows a listener, from the next poll on.
    pub fn add_listener(&mut self, now: Timestamp, key: ListenerKey) -> Result<(), KernelError> {
        self.listeners.add(now, key, self.backend)
    }

    /// Listeners followed now, and whether there were too many.
    pub fn listeners(&self) -> (usize, bool) {
        (self.listeners.iter().count(), self.listeners.unfollowed > 0)
    }

    /// Hands a packet to the backend, after all polls that are due before it. `answers` states which replies
    /// the capture holds so far.
    pub fn packet(&mut self, packet: &Waiting, answers: RepliesSeen) -> Result<(), KernelError> {
        if self.answers != answers {
            self.answers = answers;
            self.config.one_sided = (answers != RepliesSeen::All).into();
            self.backend.set_config(&self.config)?;
        }
        self.poll_until(packet.at)?;
        self.last_packet = packet.at;
        self.packets += 1;
        self.backend.set_now(packet.at.as_nanos())?;
        let flow = &packet.flow;
        match packet.direction {
            Direction::In => {
                let action = self.backend.ingress(&packet.frame)?;
                if packet.class == Class::Syn {
                    let key = ListenerKey::new(flow.server, flow.server_port);
                    if let Some(followed) = self.listeners.see(packet.at, &key) {
                        let source = flow.client.client();
                        followed.sources.add(hash::source(&self.config.hash_key, &source));
                    }
                    self.note_fate(flow, action);
                }
                Ok(())
            }
            // A dropped SYN does not reach the stack, so no reply to it would exist.
            Direction::Out if self.dropped.peek(&flow.reversed()).is_some() => Ok(()),
            Direction::Out => self.backend.egress(&packet.frame),
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
        let mut incidents: Vec<_> = std::mem::take(&mut self.incidents).into_values().collect();
        // No more packets arrive, so an incident is described by its peak and not by its final
        // rate.
        incidents.iter_mut().for_each(|incident| incident.syn_rate = 0.0);
        Ok(incidents)
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
        self.take_headers()?;
        self.engine.handle_sample(&sample);
        self.recorder.note(&sample, self.engine.mode());
        if now.since(self.distinct_since) >= DISTINCT_WINDOW {
            self.distinct_since = now;
            for followed in self.listeners.iter_mut() {
                self.backend.reset_distinct_sources(followed.slot())?;
                if let Some((_, sources)) = &mut followed.reported {
                    *sources = 0;
                }
            }
        }
        self.part_sources(now);
        while let Some(command) = self.engine.next_command() {
            self.execute(now, command)?;
        }
        Ok(())
    }

    fn take_headers(&mut self) -> Result<(), KernelError> {
        if self.listeners.are_sampled() {
            let headers = self.headers.take(&self.backend.syn_samples()?).into_iter();
            let of = |(slot, header)| Some((self.listeners.at(slot)?, header));
            self.engine.handle_headers(headers.filter_map(of));
        }
        Ok(())
    }

    fn part_sources(&mut self, now: Timestamp) {
        let mut due = self.listeners.iter_mut().filter(|f| f.sources.is_due(now)).peekable();
        if due.peek().is_some() {
            let incidents = match self.engine.is_at_rest() {
                true => Vec::new(),
                false => self.engine.report(now).incidents,
            };
            for followed in due {
                let its = incidents.iter().find(|one| one.listener_id == followed.id);
                followed.sources.next_part(now, its);
            }
        }
    }

    fn sample(&mut self, now: Timestamp) -> Result<Sample, KernelError> {
        self.config.note_poll(now.as_nanos());
        self.backend.set_config(&self.config)?;
        let mut samples = Vec::new();
        for followed in self.listeners.iter_mut() {
            let counters = match followed.reported {
                // Counts from before the first sample belong to no listener, so the first sample is
                // zero.
                None => {
                    followed.reported = Some((0, 0));
                    ListenerCounters::default()
                }
                Some((syns, _)) => {
                    let counters = self.backend.listener_counters(followed.slot())?;
                    if counters.syn != syns {
                        let registers = self.backend.distinct_sources(followed.slot())?;
                        followed.reported = Some((counters.syn, distinct::estimate(&registers)));
                    }
                    let late = self.backend.late(followed.slot())?;
                    let returned = ReturnedCookies::default();
                    bpf::listener_counters(&counters, late, &returned, false)
                }
            };
            samples.push(ListenerSample {
                id: followed.id,
                listener: followed.listener,
                kind: listeners::KIND,
                counters,
                queues: None,
                distinct_sources: followed.reported.map_or(0, |(_, sources)| sources),
            });
        }
        let packets = self.backend.packets()?;
        let host = self.backend.host_counters()?;
        Ok(Sample {
            syns_by_cpu: Vec::new(),
            lost: 0,
            at: now,
            epoch: START.as_nanos(),
            listeners: samples,
            tcp_ext: TcpExt::default(),
            rules: self.rule_counters()?,
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
            closed_port_sources: self.closed_port_sources(now)?,
            sample_shift: self.config.sample_shift,
            one_sided: self.answers == RepliesSeen::None,
        })
    }

    fn closed_port_sources(&self, now: Timestamp) -> Result<Vec<ClosedPortSource>, KernelError> {
        let client = |addr| self.backend.client(addr).ok().flatten();
        let cells = self.backend.closed_port_sources()?;
        Ok(cells.iter().filter_map(|cell| bpf::closed_port_source(cell, now, client)).collect())
    }

    fn rule_counters(&self) -> Result<Vec<RuleCounters>, KernelError> {
        self.rules
            .keys()
            .map(|id| {
                let hits = self.backend.rule_hits(id.0)?;
                Ok(bpf::rule_counters(*id, &hits))
            })
            .collect()
    }

    fn execute(&mut self, now: Timestamp, command: Command) -> Result<(), KernelError> {
        match command {
            Command::InstallRule(rule) => self.install(&rule),
            Command::RenewRule { id, expires } => {
                self.backend.set_rule_expiry(id.0, expires.as_nanos())
            }
            Command::RemoveRule { rule, .. } => self.remove(&rule),
            Command::SetMode(mode) => {
                self.config.mode = kernel_mode(mode) as u8;
                self.backend.set_config(&self.config)
            }
            Command::SetSampling { shift } => {
                self.config.sample_shift = shift;
                self.backend.set_config(&self.config)
            }
            Command::SampleSyns { listener, shift } => {
                self.listeners.sample_syns(listener, shift, self.backend)
            }
            Command::InspectFlows => self.inspect_flows(now),
            Command::Alert { severity, event, incident } => {
                let message = event_line(&event);
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
        let config =
            Config { sample_shift: self.config.sample_shift.max(self.thinned), ..self.config };
        let listeners = &self.listeners;
        let mut flows = Flows::default();
        let keep = |key: &FlowKey, flow: &Flow| {
            flow.syn_ns >= oldest
                && hash::sampled(hash::flow(&config.hash_key, key), config.sample_shift)
        };
        let mut take = |key: &FlowKey, flow: &Flow| {
            let listener = listeners.at(flow.listener);
            let flow = listener.and_then(|_| bpf::flow(&config, key, flow));
            if let (Some(listener), Some(flow)) = (listener, flow) {
                flows.extend([tcpguard_engine::Flow { listener, ..flow }]);
            }
        };
        // In a long silence the whole table would be read to find nothing.
        if now.since(self.last_packet) <= FOLLOWED {
            self.backend.flows(&keep, &mut take)?;
        }
        match flows.len() {
            many if many > INSPECTED => self.thinned = config.sample_shift + 1,
            few if few < INSPECTED / 4 => self.thinned = self.thinned.saturating_sub(1),
            _ => {}
        }
        let clients = Clients { backend: self.backend, now };
        self.engine.handle_flows(now, &flows, &clients);
        Ok(())
    }

    fn install(&mut self, rule: &Rule) -> Result<(), KernelError> {
        let slot_of_rule = rule.id.0;
        let again = self.rules.insert(rule.id, rule.matcher) == Some(rule.matcher);
        if !again {
            self.backend.reset_rule_hits(slot_of_rule)?;
        }
        self.backend.set_rule_expiry(slot_of_rule, rule.expires.as_nanos())?;
        match &rule.matcher {
            Matcher::Source(net, _) => self.backend.set_source_rule(net, slot_of_rule)?,
            Matcher::Signature { listener, mask, fingerprint } => {
                let scope = signature_scope(*listener);
                self.backend.set_signature(scope, *mask, fingerprint, slot_of_rule)?;
                if !again {
                    self.listeners.add_rule(*listener, *mask, self.backend)?;
                }
            }
        }
        self.write_tables_in_use()
    }

    fn remove(&mut self, rule: &Rule) -> Result<(), KernelError> {
        let Some(matcher) = self.rules.remove(&rule.id) else { return Ok(()) };
        self.backend.set_rule_expiry(rule.id.0, 0)?;
        match matcher {
            Matcher::Source(net, _) => self.backend.remove_source_rule(&net, rule.id.0)?,
            Matcher::Signature { listener, mask, fingerprint } => {
                let scope = signature_scope(listener);
                self.backend.remove_signature(scope, mask, &fingerprint)?;
                self.listeners.remove_rule(listener, mask, self.backend)?;
            }
        }
        self.write_tables_in_use()
    }

    fn write_tables_in_use(&mut self) -> Result<(), KernelError> {
        (self.config.source_rules, self.config.masks) = (0, 0);
        for matcher in self.rules.values() {
            match matcher {
                Matcher::Source(net, _) => self.config.source_rules |= source_table(net),
                Matcher::Signature { listener: ListenerId::HOST, mask, .. } => {
                    self.config.masks |= 1 << mask.code();
                }
                Matcher::Signature { .. } => {}
            }
        }
        self.backend.set_config(&self.config)
    }

    fn keep_line(&mut self, id: u64, line: Line) {
        if self.lines.len() < LINES {
            self.lines.insert(id, line);
        }
    }

    /// Keeps an incident as it is now, or was at its end.
    fn keep(&mut self, now: Timestamp, mut report: IncidentReport) {
        if let Some(followed) = self.listeners.find(report.listener_id) {
            report.evidence.sources_estimate = followed.sources.of(now, &report);
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

/// The clients that completed a handshake in the capture.
struct Clients<'a> {
    backend: &'a dyn Backend,
    now: Timestamp,
}

impl ValidatedClients for Clients<'_> {
    fn completed_within(&self, net: &IpNet) -> bool {
        let since = self.now - bpf::RECENT;
        // If the kernel cannot be queried, no client may be banned, so the network counts as
        // validated.
        self.backend.validated_since(net, since.as_nanos()).unwrap_or(true)
    }
}

fn kernel_mode(mode: Mode) -> abi::Mode {
    match mode {
        Mode::Off => abi::Mode::Off,
        Mode::Observe => abi::Mode::Observe,
        Mode::Enforce => abi::Mode::Enforce,
    }
}
