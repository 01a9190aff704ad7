//! Everything that the loop owns, and what it does with it. Synchronous: a poll is some dozens of
//! system calls.

use std::collections::VecDeque;
use std::io::Stderr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tcpguard_common::ABI_VERSION;
use tcpguard_common::abi::{Config as KernelConfig, HashKey, PacketCounters};
use tcpguard_engine::{Command, Engine, ListenerSample, Mode, Sample, Settings, TcpExt, Timestamp};

use super::client_filter::ClientFilter;
use super::executor::{Executor, Followup, kernel_mode};
use super::interfaces::Interfaces;
use super::{distinct, mode_file};
use crate::config::{Config, ModeSource};
use crate::control::{Peer, Request, Response, engine_request, response};
use crate::host::{
    self, ListenerGroup, SockDiag, SocketOffsets, boot_time, netns, protected_set, tcp_ext,
};
use crate::kernel::{self, Dataplane, Load, Object, Pins};
use crate::observe::{Alert, AlertSink, journal};
use crate::status::{Clock, Health};

/// Rules stop dropping when the agent has not been heard of for this long.
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(30);
/// The protected set is read again this often, and rules in the kernel are counted.
const SLOW_PERIOD: Duration = Duration::from_secs(5);
/// Services seen only by their SYN-ACKs are looked for this often, and interfaces checked.
const SECOND: Duration = Duration::from_secs(1);
/// Estimates of distinct sources start again this often.
const DISTINCT_WINDOW: Duration = Duration::from_secs(10);
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
    pub(super) engine: Engine,
    pub(super) executor: Executor,
    pub(super) interfaces: Interfaces,
    pub(super) alerts: AlertSink<Stderr>,
    pub(super) snapshots: VecDeque<Snapshot>,
    pub(super) started_at: Timestamp,
    pub(super) rules_in_kernel: Option<u32>,
    pub(super) drift_since: Option<Timestamp>,
    pub(super) health: Vec<Health>,
    object: Object,
    sockets: SockDiag,
    tracepoint: bool,
    client_filter: ClientFilter,
    count_half_open: bool,
    count_rules: bool,
    last_second: Option<Timestamp>,
    last_slow: Option<Timestamp>,
    distinct_since: Timestamp,
}

impl Guard {
    /// Loads and attaches everything.
    ///
    /// # Errors
    /// When any part cannot start. Then nothing is attached that was not before.
    pub fn start(config: Config) -> anyhow::Result<Self> {
        let mut health = Vec::new();
        let offsets = match SocketOffsets::of_running_kernel() {
            Ok(offsets) => Some(offsets),
            Err(error) => {
                health.push(no_tracepoint(&error.to_string()));
                None
            }
        };
        let mut object =
            Object::load(Load { offsets, log: config.bpf_log.to_level(), fixed_clock: false })?;
        let dataplane = Dataplane::of(&object)?;
        let stored = mode_file::load(&config.state_dir);
        let mode = match (config.mode_source, stored) {
            (ModeSource::File, Some(stored)) => stored,
            _ => config.mode,
        };
        let now = boot_time();
        let kernel_config = KernelConfig {
            abi_version: ABI_VERSION,
            mode: kernel_mode(mode) as u8,
            drop_illegal: config.drop_illegal_flags.into(),
            heartbeat_ns: now.as_nanos(),
            heartbeat_limit_ns: HEARTBEAT_LIMIT.as_nanos() as u64,
            hash_key: random_key().context("cannot read random numbers from the kernel")?,
            netns_cookie: netns::cookie()?,
            established_seen: offsets.is_some().into(),
            ..KernelConfig::default()
        };
        dataplane.set_config(&kernel_config)?;
        let mut sockets = SockDiag::open()?;
        let mut executor = Executor::new(dataplane, kernel_config);
        let groups = ListenerGroup::merge(&sockets.listeners()?);
        executor.listeners.update(now, &groups, &config.ignore_ports, &executor.dataplane)?;
        let protected = protected_set(&mut sockets, &config.ssh_ports, &config.protect_prefixes)?;
        let nets: Vec<_> = protected.iter().map(|protected| protected.net).collect();
        executor.protect(nets)?;
        let mut engine = Engine::new(settings(&config), mode)?;
        engine.set_protected(protected.into_iter().map(|p| (p.net, p.what)).collect());
        let pins = Pins::open(&config.pin_dir)?;
        let mut interfaces = Interfaces::attach(
            &config.interfaces,
            config.xdp_mode,
            pins,
            &mut object,
            &executor.dataplane,
        )?;
        let mut tracepoint = offsets.is_some();
        if tracepoint && let Err(error) = kernel::attach_tracepoint(&mut object) {
            health.push(no_tracepoint(&error.to_string()));
            tracepoint = false;
            executor.config.established_seen = 0;
            if let Err(error) = executor.dataplane.set_config(&executor.config) {
                interfaces.undo();
                return Err(error.into());
            }
        }
        Ok(Self {
            config,
            engine,
            executor,
            interfaces,
            alerts: AlertSink::new(Path::new(journal::SOCKET), std::io::stderr()),
            snapshots: VecDeque::new(),
            started_at: now,
            rules_in_kernel: None,
            drift_since: None,
            health,
            object,
            sockets,
            tracepoint,
            client_filter: ClientFilter::default(),
            count_half_open: true,
            count_rules: true,
            last_second: None,
            last_slow: None,
            distinct_since: now,
        })
    }

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
            "stopped; the filter and its rules stay on {} and drop nothing any more {} s from now; the \
             next agent takes the filter over and makes its rules anew; take it off: tcpguard detach --all",
            self.interfaces.in_words(),
            HEARTBEAT_LIMIT.as_secs()
        )
    }

    /// Notices interfaces that came, went or changed.
    pub fn check_interfaces(&mut self) {
        for news in self.interfaces.check(&mut self.object, &self.executor.dataplane) {
            log::warn!("{news}");
        }
    }

    /// One round: read everything, think, act.
    pub fn poll(&mut self) {
        let now = boot_time();
        if let Err(error) = self.try_poll(now) {
            // The next poll tries again; a kernel that goes on refusing shows as stale data.
            log::error!("a poll failed: {error:#}");
        }
        self.object.flush_log();
    }

    fn try_poll(&mut self, now: Timestamp) -> anyhow::Result<()> {
        self.executor.config.heartbeat_ns = now.as_nanos();
        self.executor.config.segment_shift = self.segment_shift();
        self.executor.dataplane.set_config(&self.executor.config)?;
        // Sockets before what was only seen to answer: a service that has just started is local.
        let groups = ListenerGroup::merge(&self.sockets.listeners()?);
        let executor = &mut self.executor;
        executor.listeners.update(now, &groups, &self.config.ignore_ports, &executor.dataplane)?;
        self.housekeeping(now)?;
        let sample = self.sample(now)?;
        self.engine.handle_sample(&sample);
        self.act(now)?;
        let packets = self.interfaces.packets(&self.executor.dataplane)?;
        self.snapshots.push_back(Snapshot { at: now, packets, tcp_ext: sample.tcp_ext });
        while self.snapshots.front().is_some_and(|first| now.since(first.at) > SECOND * 5) {
            self.snapshots.pop_front();
        }
        Ok(())
    }

    fn housekeeping(&mut self, now: Timestamp) -> anyhow::Result<()> {
        if due(&mut self.last_second, now, SECOND) {
            self.check_interfaces();
            let executor = &mut self.executor;
            let unknown = executor.dataplane.take_unknown_listeners()?;
            let ignored = &self.config.ignore_ports;
            executor.listeners.add_forwarded(now, &unknown, ignored, &executor.dataplane)?;
        }
        if due(&mut self.last_slow, now, SLOW_PERIOD) {
            let config = &self.config;
            let protected =
                protected_set(&mut self.sockets, &config.ssh_ports, &config.protect_prefixes)?;
            let nets: Vec<_> = protected.iter().map(|protected| protected.net).collect();
            self.executor.protect(nets)?;
            self.engine.set_protected(protected.into_iter().map(|p| (p.net, p.what)).collect());
            self.count_rules = true;
        }
        if self.count_rules {
            self.compare_rules(now)?;
        }
        self.tend_client_filter(now)?;
        if now.since(self.distinct_since) >= DISTINCT_WINDOW {
            self.distinct_since = now;
            for followed in self.executor.listeners.iter() {
                self.executor.dataplane.reset_distinct_sources(followed.slot())?;
            }
        }
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
        let count = self.executor.dataplane.rule_count()?;
        self.rules_in_kernel = Some(count);
        if count as usize == self.engine.report(now).rules.len() {
            self.drift_since = None;
        } else {
            self.drift_since.get_or_insert(now);
        }
        Ok(())
    }

    fn sample(&mut self, now: Timestamp) -> anyhow::Result<Sample> {
        let half_open = if std::mem::take(&mut self.count_half_open) {
            Some(self.sockets.half_open(None)?)
        } else {
            None
        };
        let executor = &self.executor;
        let mut listeners = Vec::new();
        for followed in executor.listeners.iter() {
            let counters = executor.dataplane.listener_counters(followed.slot())?;
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
                counters: kernel::listener_counters(&counters, self.tracepoint),
                queues,
                distinct_sources: distinct::estimate(&registers),
            });
        }
        Ok(Sample {
            at: now,
            // The maps are made at start: nothing starts again from zero while an agent runs.
            epoch: self.started_at.as_nanos(),
            listeners,
            tcp_ext: tcp_ext()?,
            rules: executor.rule_counters()?,
            sample_shift: executor.config.sample_shift,
        })
    }

    /// Carries out what the engine wants, until it wants nothing more.
    fn act(&mut self, now: Timestamp) -> anyhow::Result<()> {
        while let Some(command) = self.engine.next_command() {
            self.count_rules |=
                matches!(command, Command::InstallRule(_) | Command::RemoveRule { .. });
            match self.executor.execute(command, &mut self.sockets) {
                Ok(Followup::None) => {}
                Ok(Followup::CountHalfOpen) => self.count_half_open = true,
                Ok(Followup::InspectFlows) => {
                    let flows = self.flows()?;
                    self.engine.handle_flows(now, &flows, &self.executor);
                }
                Ok(Followup::Alert(alert)) => self.raise(&alert),
                Err(error) => log::error!("{error}"),
            }
        }
        Ok(())
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

    fn raise(&mut self, alert: &Alert) {
        self.alerts.raise(alert, clock());
    }

    /// Answers a request of the control socket.
    pub fn answer(&mut self, request: &Request, peer: Peer) -> Response {
        let now = boot_time();
        if let Request::Detach { interfaces } = request {
            let detached = self.interfaces.detach(interfaces);
            if !detached.is_empty() {
                log::warn!("uid {} took the filter off {}", peer.uid, detached.join(", "));
            }
            return Response::Detached { interfaces: detached };
        }
        let Some(asked) = engine_request(request, peer.uid) else {
            return self.read(request);
        };
        let dry_run = matches!(request, Request::Block { dry_run: true, .. });
        let result = if dry_run {
            self.engine.clone().handle_request(now, asked)
        } else {
            log::info!(
                "uid {} (pid {}): {request:?}",
                peer.uid,
                peer.pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string())
            );
            self.engine.handle_request(now, asked)
        };
        if let (Request::SetMode { mode }, Ok(_)) = (request, &result) {
            self.keep_mode((*mode).into());
        }
        if let Err(error) = self.act(now).and_then(|()| self.compare_rules(now)) {
            log::error!("{error:#}");
        }
        response(request, result, clock())
    }

    /// A mode set by an operator survives a restart; one from the file or the command line does not.
    fn keep_mode(&self, mode: Mode) {
        if let Err(error) = mode_file::store(&self.config.state_dir, mode) {
            log::warn!(
                "the mode lasts until the next restart only: cannot write to {}: {error}",
                self.config.state_dir.display()
            );
        }
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

fn random_key() -> std::io::Result<HashKey> {
    let mut bytes = [0u8; size_of::<HashKey>()];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    let mut key = HashKey::default();
    for (word, bytes) in key.0.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    Ok(key)
}

fn settings(config: &Config) -> Settings {
    let detection = &config.detection;
    Settings {
        poll: detection.poll,
        fast_failures: detection.fast_min,
        fast_share: detection.fast_ratio,
        occupancy_on: detection.occupancy_on,
        occupancy_off: detection.occupancy_off,
        quiet: detection.clear,
        armed: detection.armed,
        ..Settings::default()
    }
}

fn no_tracepoint(why: &str) -> Health {
    Health {
        code: "no_tracepoint".to_owned(),
        severity: crate::status::Severity::Warning,
        subject: None,
        text: format!("completed handshakes are only seen in a sample: {why}"),
        hint: "use a kernel with BTF (CONFIG_DEBUG_INFO_BTF)".to_owned(),
    }
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Off => "off",
        Mode::Observe => "observe",
        Mode::Enforce => "enforce",
    }
}
