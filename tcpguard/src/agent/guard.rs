//! Everything that the loop owns, and what it does with it. Synchronous: a poll is some dozens of
//! system calls.

use std::collections::VecDeque;
use std::io::Stderr;
use std::time::Duration;

use tcpguard_common::abi::{Class, Config as KernelConfig, PacketCounters};
use tcpguard_common::fastpath::FAILED_COOKIE_NS;
use tcpguard_engine::{
    Command, Engine, HostCounters, ListenerId, ListenerSample, Mode, Sample, Severity, Step,
    TcpExt, Timestamp,
};

use super::client_filter::ClientFilter;
use super::distinct;
use super::executor::{Executor, Followup};
use super::headers::Headers;
use super::incidents::Incidents;
use super::interfaces::{Interfaces, Received};
use super::listeners::per_second_of;
use super::reload::Provenance;
use super::state::{State, StateWriter};
use super::steps::{Means, Steps};
use crate::config::Config;
use crate::control::{Peer, RefusalKind, Request, Response, engine_request, response};
use crate::host::{self, ListenerGroup, SockDiag, boot_time, protected_set, tcp_ext};
use crate::kernel::{self, Object};
use crate::observe::{Alert, AlertSink};
use crate::status::{Clock, Health, Listener};

/// Rules stop dropping when the agent has not been heard of for this long.
pub(super) const HEARTBEAT_LIMIT: Duration = Duration::from_secs(30);
/// The protected set is read again this often, and rules in the kernel are counted.
const SLOW_PERIOD: Duration = Duration::from_secs(5);
/// Services seen only by their SYN-ACKs are looked for this often, and interfaces checked.
const SECOND: Duration = Duration::from_secs(1);
/// Estimates of distinct sources start again this often.
const DISTINCT_WINDOW: Duration = Duration::from_secs(10);
/// What is learned is stored this often.
const STORE_PERIOD: Duration = Duration::from_secs(60);
/// An answer waits no longer for the disk: polls wait for it.
const STORE_LIMIT: Duration = Duration::from_millis(500);
/// Per-source ACK counts are exact below this many segments per second and CPU.
const SEGMENTS_PER_CPU: u64 = 50_000;

/// Counters as they were at one poll.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub at: Timestamp,
    pub packets: Vec<PacketCounters>,
    pub tcp_ext: TcpExt,
}

/// The running agent.
pub struct Guard {
    pub(super) config: Config,
    pub(super) provenance: Provenance,
    pub(super) engine: Engine,
    pub(super) executor: Executor,
    pub(super) interfaces: Interfaces,
    pub(super) alerts: AlertSink<Stderr>,
    pub(super) snapshots: VecDeque<Snapshot>,
    pub(super) started_at: Timestamp,
    pub(super) rules_in_kernel: Option<u32>,
    pub(super) drift_since: Option<Timestamp>,
    pub(super) health: Vec<Health>,
    pub(super) object: Object,
    pub(super) sockets: SockDiag,
    pub(super) tracepoint: bool,
    pub(super) client_filter: ClientFilter,
    pub(super) steps: Steps,
    pub(super) count_half_open: bool,
    pub(super) count_rules: bool,
    pub(super) last_second: Option<Timestamp>,
    pub(super) last_slow: Option<Timestamp>,
    pub(super) distinct_since: Timestamp,
    /// Which boot this is.
    pub(super) boot: String,
    /// The mode that an operator set, in this run or an earlier one.
    pub(super) set_mode: Option<Mode>,
    pub(super) writer: StateWriter,
    /// Past incidents, of earlier runs too.
    pub(super) incidents: Incidents,
    pub(super) headers: Headers,
    /// When the state was written last.
    pub(super) stored_at: Timestamp,
    /// Whether something has changed since that must not wait.
    pub(super) unstored: bool,
    /// Why the kernel did not take the rules that an operator asked for just now.
    pub(super) unreplaced: Option<String>,
}

impl Guard {
    /// The line at start.
    pub fn started(&self) -> String {
        format!(
            "tcpguard {} protects {}, mode {}, {} listeners; see: tcpguard status",
            env!("CARGO_PKG_VERSION"),
            self.interfaces.in_words(),
            mode_name(self.engine.mode()),
            self.executor.listeners.iter().count(),
        )
    }

    /// The line at the end.
    pub fn stopped(&self) -> String {
        format!(
            "stopped; the filter and its rules stay on {} and drop nothing any more {} s from now, unless \
             an agent takes both over before; take them off: tcpguard detach --all",
            self.interfaces.in_words(),
            HEARTBEAT_LIMIT.as_secs()
        )
    }

    /// Notices interfaces that came, went or changed.
    pub fn check_interfaces(&mut self) {
        for (interfaces, news) in self.interfaces.check(&mut self.object, &self.executor.dataplane)
        {
            self.tell_of_interfaces(Severity::Warning, "interface_changed", news, interfaces);
        }
    }

    /// Has what is known of incidents written before the agent ends.
    pub fn keep_incidents(&mut self) {
        self.incidents.keep(&self.engine, clock());
    }

    /// What `systemctl status` shows.
    pub fn in_brief(&self) -> String {
        format!(
            "guards {}, mode {}; see: tcpguard status",
            self.config.interfaces.join(", "),
            mode_name(self.engine.mode())
        )
    }

    /// One round: read everything, think, act. Returns when, if all of it succeeded.
    pub fn poll(&mut self) -> Option<Timestamp> {
        let now = boot_time();
        let done = self.try_poll(now);
        self.object.flush_log();
        if let Err(error) = &done {
            // The next poll tries again; when all fail, the watchdog ends it.
            log::error!("a poll failed: {error:#}");
        }
        done.is_ok().then_some(now)
    }

    fn try_poll(&mut self, now: Timestamp) -> anyhow::Result<()> {
        self.executor.config.heartbeat_ns = now.as_nanos();
        self.executor.config.segment_shift = self.segment_shift();
        self.executor.dataplane.set_config(&self.executor.config)?;
        // Sockets before what was only seen to answer: a service that has just started is local.
        let groups = ListenerGroup::merge(&self.sockets.listeners()?);
        let (executor, config) = (&mut self.executor, &self.config);
        let ignored = |listener: &_| config.ignores(listener);
        executor.listeners.update(now, &groups, ignored, &executor.dataplane)?;
        self.housekeeping(now)?;
        let received = self.interfaces.received(&self.executor.dataplane)?;
        let sample = self.sample(now, &received)?;
        self.take_headers()?;
        self.engine.handle_sample(&sample);
        self.act(now)?;
        self.store(now);
        self.incidents.tend(&self.engine, clock());
        let tcp_ext = sample.tcp_ext;
        self.snapshots.push_back(Snapshot { at: now, packets: received.packets, tcp_ext });
        while self.snapshots.front().is_some_and(|first| now.since(first.at) > SECOND * 5) {
            self.snapshots.pop_front();
        }
        Ok(())
    }

    fn housekeeping(&mut self, now: Timestamp) -> anyhow::Result<()> {
        if due(&mut self.last_second, now, SECOND) {
            self.check_interfaces();
            let (executor, config) = (&mut self.executor, &self.config);
            let unknown = executor.dataplane.take_unknown_listeners()?;
            let ignored = |listener: &_| config.ignores(listener);
            executor.listeners.add_forwarded(now, &unknown, ignored, &executor.dataplane)?;
        }
        if due(&mut self.last_slow, now, SLOW_PERIOD) {
            self.protect()?;
            self.count_rules = true;
        }
        if self.count_rules {
            self.compare_rules(now)?;
        }
        self.tend_client_filter(now)?;
        let guarded = self.interfaces.guarded();
        let (steps, mut means) = self.means(&guarded);
        let unkept = steps.tend(now, &mut means)?;
        for id in &unkept {
            steps.leave(now, *id, Step::Cookies, &mut means)?;
        }
        for id in unkept {
            let why = "an administrator has changed net.ipv4.tcp_syncookies";
            self.engine.step_failed(now, id, Step::Cookies, why, false);
        }
        if now.since(self.distinct_since) >= DISTINCT_WINDOW {
            self.distinct_since = now;
            for followed in self.executor.listeners.iter() {
                self.executor.dataplane.reset_distinct_sources(followed.slot())?;
            }
        }
        Ok(())
    }

    /// Reads the protected set and exempts it.
    pub(super) fn protect(&mut self) -> anyhow::Result<()> {
        let config = &self.config;
        let protected =
            protected_set(&mut self.sockets, &config.ssh_ports, &config.protect_prefixes)?;
        let nets: Vec<_> = protected.iter().map(|protected| protected.net).collect();
        self.executor.protect(nets)?;
        self.engine.set_protected(protected.into_iter().map(|p| (p.net, p.what)).collect());
        Ok(())
    }

    fn tend_client_filter(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let Executor { dataplane, config, .. } = &mut self.executor;
        let change = self.client_filter.tend(now, config.client_filter, dataplane)?;
        if let Some(filter) = change {
            config.client_filter = filter;
            dataplane.set_config(config)?;
        }
        Ok(())
    }

    /// Compares the rules in the kernel with those that should be there.
    fn compare_rules(&mut self, now: Timestamp) -> anyhow::Result<()> {
        self.count_rules = false;
        let count = self.executor.dataplane.rule_count(self.executor.config.rule_set)?;
        self.rules_in_kernel = Some(count);
        let wanted = self.engine.report(now).rules.len();
        let drifts = count as usize != wanted;
        match (drifts, self.drift_since) {
            (true, None) => {
                self.drift_since = Some(now);
                let message = format!(
                    "{wanted} rules are wanted and {count} are in the kernel; if it stays so: \
                     systemctl restart tcpguard"
                );
                self.tell(Severity::Warning, "rule_drift", message);
            }
            (false, Some(_)) => {
                self.drift_since = None;
                let message = format!("the {count} rules wanted are in the kernel again");
                self.tell(Severity::Notice, "rule_drift_over", message);
            }
            _ => {}
        }
        Ok(())
    }

    fn sample(&mut self, now: Timestamp, received: &Received) -> anyhow::Result<Sample> {
        let half_open = if std::mem::take(&mut self.count_half_open) {
            Some(self.sockets.half_open(None)?)
        } else {
            None
        };
        // Whatever is seen from now on is for the next sample.
        self.executor.config.note_poll(boot_time().as_nanos());
        self.executor.dataplane.set_config(&self.executor.config)?;
        let executor = &self.executor;
        let mut listeners = Vec::new();
        for followed in executor.listeners.iter() {
            let counters = executor.dataplane.listener_counters(followed.slot())?;
            let late = executor.dataplane.late(followed.slot())?;
            let registers = executor.dataplane.distinct_sources(followed.slot())?;
            let mut queues = followed.queues;
            if let (Some(queues), Some(entries)) = (&mut queues, &half_open) {
                let own = |entry: &&host::HalfOpen| {
                    executor.listeners.of(entry.server.ip(), entry.server.port())
                        == Some(followed.id)
                };
                queues.half_open = Some(entries.iter().filter(own).count() as u32);
            }
            listeners.push(ListenerSample {
                id: followed.id,
                listener: followed.listener,
                kind: followed.kind,
                counters: kernel::listener_counters(&counters, late, self.tracepoint),
                queues,
                distinct_sources: distinct::estimate(&registers),
            });
        }
        // Without an answer a source counts as a stranger; nothing is dropped for it.
        let client = |addr| executor.dataplane.client(addr).ok().flatten();
        Ok(Sample {
            at: now,
            // The maps are made at start: nothing starts again from zero while an agent runs.
            epoch: self.started_at.as_nanos(),
            listeners,
            tcp_ext: tcp_ext()?,
            rules: executor.rule_counters()?,
            sample_shift: executor.config.sample_shift,
            host: self.host_counters(&received.packets)?,
            probes: executor
                .dataplane
                .probes()?
                .iter()
                .filter_map(|(_, cell)| kernel::probe(cell, now, client))
                .collect(),
            syns_by_cpu: received.syns_by_cpu.clone(),
            lost: host::lost(self.config.interfaces.iter().map(String::as_str))?,
            one_sided: false,
        })
    }

    /// Hands the engine the headers of SYNs that it asked for.
    fn take_headers(&mut self) -> anyhow::Result<()> {
        let Executor { dataplane, listeners, .. } = &self.executor;
        if listeners.are_sampled() {
            let headers = self.headers.take(&dataplane.syn_samples()?).into_iter();
            let of = |(slot, header)| Some((listeners.at_slot(slot)?, header));
            self.engine.handle_headers(headers.filter_map(of));
        }
        Ok(())
    }

    fn host_counters(&self, packets: &[PacketCounters]) -> anyhow::Result<HostCounters> {
        let counters = self.executor.dataplane.host_counters()?;
        let of = |class: Class| packets.iter().map(|one| one.classes[class as usize]).sum::<u64>();
        Ok(HostCounters {
            own_syn: Some(counters.own_syn),
            answers: counters.answer,
            unsolicited: counters.unsolicited,
            segments: of(Class::Ack) + of(Class::Fin),
            no_listener: counters.no_listener,
        })
    }

    /// Carries out what the engine wants, until it wants nothing more.
    fn act(&mut self, now: Timestamp) -> anyhow::Result<()> {
        while let Some(command) = self.engine.next_command() {
            let changes_rules = matches!(
                command,
                Command::InstallRule(_)
                    | Command::RenewRule { .. }
                    | Command::RemoveRule { .. }
                    | Command::ReplaceRules { .. }
            );
            let replaces = matches!(command, Command::ReplaceRules { .. });
            self.count_rules |= changes_rules;
            self.unstored |=
                changes_rules || matches!(command, Command::SetMode(_) | Command::SetAllowed(_));
            let installs = match &command {
                Command::InstallRule(rule) => Some(rule.id),
                _ => None,
            };
            match self.executor.execute(command, &mut self.sockets) {
                Ok(Followup::None) => {}
                Ok(Followup::CountHalfOpen) => self.count_half_open = true,
                Ok(Followup::InspectFlows) => {
                    let flows = self.flows()?;
                    self.engine.handle_flows(now, &flows, &self.executor);
                }
                Ok(Followup::Alert(alert)) => {
                    if let Some(incident) = &alert.incident {
                        self.incidents.told(incident, &self.engine, clock());
                    }
                    self.raise(&alert);
                }
                Ok(Followup::TakeStep { listener, step, rate }) => {
                    self.take_step(now, listener, step, rate);
                }
                Ok(Followup::LeaveStep { listener, step }) => {
                    let guarded = self.interfaces.guarded();
                    let (steps, mut means) = self.means(&guarded);
                    steps.leave(now, listener, step, &mut means)?;
                }
                Err(error) => {
                    log::error!("{error}");
                    if let Some(id) = installs {
                        self.engine.rule_failed(now, id, &error.to_string());
                    }
                    if replaces {
                        self.engine.replacement_failed(&error.to_string());
                        self.unreplaced = Some(error.to_string());
                    }
                }
            }
        }
        Ok(())
    }

    fn take_step(&mut self, now: Timestamp, listener: ListenerId, step: Step, rate: u32) {
        let guarded = self.interfaces.guarded();
        let (steps, mut means) = self.means(&guarded);
        if let Err(refusal) = steps.take(now, listener, step, rate, &mut means) {
            let soon = refusal.is_passing();
            self.engine.step_failed(now, listener, step, &refusal.to_string(), soon);
        }
    }

    /// The steps, and what is needed to carry them out.
    fn means<'a>(&'a mut self, interfaces: &'a [host::Interface]) -> (&'a mut Steps, Means<'a>) {
        let Self { steps, executor, object, interfaces: all, .. } = self;
        (steps, Means { executor, object, pins: all.pins(), interfaces })
    }

    fn flows(&self) -> anyhow::Result<Vec<tcpguard_engine::Flow>> {
        let executor = &self.executor;
        let flows = executor.dataplane.flows()?;
        Ok(flows
            .iter()
            .filter_map(|(key, flow)| {
                let listener = executor.listeners.at_slot(flow.listener)?;
                Some(tcpguard_engine::Flow {
                    listener,
                    ..kernel::flow(&executor.config, key, flow)?
                })
            })
            .collect())
    }

    pub(super) fn raise(&mut self, alert: &Alert) {
        self.alerts.raise(alert, self.engine.mode(), clock());
    }

    /// Answers a request of the control socket.
    pub fn answer(&mut self, request: &Request, peer: Peer) -> Response {
        let now = boot_time();
        if let Request::Detach { interfaces } = request {
            let before = self.interfaces.guarded();
            let detached = self.interfaces.detach(interfaces);
            let gone = |one: &&host::Interface| detached.contains(&one.name);
            let gone: Vec<u32> = before.iter().filter(gone).map(|one| one.index).collect();
            self.steps.cookies.take_off(|ifindex| gone.contains(&ifindex));
            if !detached.is_empty() {
                let names = detached.join(", ");
                let message = format!("uid {} took the filter off {names}", peer.uid);
                let all = detached.clone();
                self.tell_of_interfaces(Severity::Warning, "filter_detached", message, all);
            }
            return Response::Detached { interfaces: detached };
        }
        let Some(asked) = engine_request(request, peer.uid) else {
            return self.read(request);
        };
        let dry_run = matches!(
            request,
            Request::Block { dry_run: true, .. } | Request::ImportRules { dry_run: true, .. }
        );
        let result = if dry_run {
            self.engine.clone().handle_request(now, asked)
        } else {
            let pid = peer.pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
            log::info!("uid {} (pid {pid}): {}", peer.uid, request.in_brief());
            let before = request.replaces_rules().then(|| self.state(now));
            let result = self.engine.handle_request(now, asked);
            if let (Some(before), Ok(_)) = (before, &result) {
                // Whichever of the two sets the next agent finds in the kernel, it finds its reasons
                // on the disk.
                let after = self.state(now);
                self.writer.write_and_wait(before.staging(after.rules), STORE_LIMIT);
            }
            result
        };
        if let (Request::SetMode { mode }, Ok(_)) = (request, &result) {
            // One from the file or the command line does not survive a restart.
            self.set_mode = Some((*mode).into());
        }
        if let Err(error) = self.act(now).and_then(|()| self.compare_rules(now)) {
            log::error!("{error:#}");
        }
        if let (Request::OrderStep { listener, .. }, Ok(_)) = (request, &result) {
            // The kernel may have refused it since.
            if let Some(listener) = self.engine.listener(listener) {
                return Response::StepOrdered(Box::new(Listener::build(&listener, clock())));
            }
        }
        if let Some(why) = self.unreplaced.take() {
            self.unstored = true;
            return Response::refused(RefusalKind::Failed, not_replaced(&why));
        }
        if !dry_run && result.is_ok() {
            let state = self.state(now);
            self.writer.write_and_wait(state, STORE_LIMIT);
        }
        response(request, result, clock())
    }

    /// Has the state written: soon after a change, and now and then for what is learned.
    fn store(&mut self, now: Timestamp) {
        if !self.unstored && now.since(self.stored_at) < STORE_PERIOD {
            return;
        }
        let state = self.state(now);
        self.writer.write(state);
    }

    fn state(&mut self, now: Timestamp) -> State {
        (self.stored_at, self.unstored) = (now, false);
        let mut state = State::of(&self.engine, self.boot.clone(), &clock());
        state.mode = self.set_mode;
        state.rule_set = self.executor.config.rule_set;
        state
    }

    /// Per-source counts of segments other than SYNs are sampled so that they cost little.
    fn segment_shift(&self) -> u8 {
        let (Some(first), Some(last)) = (self.snapshots.front(), self.snapshots.back()) else {
            return 0;
        };
        let entered = |snapshot: &Snapshot| -> u64 {
            snapshot.packets.iter().map(|packets| packets.entry).sum()
        };
        let elapsed = last.at.since(first.at).as_millis().max(1) as u64;
        let rate = (entered(last) - entered(first)) * 1000 / elapsed;
        let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64);
        let per_cpu = rate / cpus;
        (0..16).find(|shift| per_cpu >> shift <= SEGMENTS_PER_CPU).unwrap_or(16)
    }
}

fn not_replaced(why: &str) -> String {
    format!(
        "the kernel did not take the rules ({why}), and those of before are still there; try again"
    )
}

/// Both clocks, now.
pub(super) fn clock() -> Clock {
    Clock { now: boot_time(), wall: jiff::Timestamp::now() }
}

fn due(last: &mut Option<Timestamp>, now: Timestamp, period: Duration) -> bool {
    let due = last.is_none_or(|last| now.since(last) >= period);
    if due {
        *last = Some(now);
    }
    due
}

/// What of the configuration the programs read.
pub(super) fn apply_policy(kernel: &mut KernelConfig, config: &Config) {
    kernel.drop_illegal = config.drop_illegal_flags.into();
    kernel.drop_strays = config.drop_strays.into();
    kernel.failed_cookie_ns = FAILED_COOKIE_NS;
    let per_network = config.answers_per_network;
    kernel.answers_per_network = per_second_of(per_network, 2 * per_network);
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64);
    let of_cpu = config.answers_total / cpus;
    // A tenth of a second's worth at once.
    kernel.answers_per_cpu = per_second_of(of_cpu, of_cpu / 10);
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Off => "off",
        Mode::Observe => "observe",
        Mode::Enforce => "enforce",
    }
}
