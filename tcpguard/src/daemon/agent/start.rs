//! Start of the agent: from nothing, or from the state that an earlier agent left, to attached programs.
//!
//! The order opens no gap: the maps with their rules are taken over first, then everything in them is
//! brought in line, and only then the programs on the interfaces are replaced.

use std::io;
use std::time::Duration;

use tcpguard_common::abi::{ABI_VERSION, Config as KernelConfig, Mask, Rate};
use tcpguard_common::fastpath::PREEXISTING_NS;
use tcpguard_engine::{Engine, Listener, Mode, Rule, Timestamp};
use tcpguard_host::finding::Finding;
use tcpguard_host::hint::{Failure, Hint as _};
use tcpguard_host::linux::{ListenerGroup, SockDiag, SocketOffsets, boot_id, netns, sockstat};
use tcpguard_host::time::Clock;
use tcpguard_host::units::counted;

use super::{Agent, Capture, HEARTBEAT_LIMIT, Outages, clock, protect};
use crate::bpf::{
    self, Dataplane, KernelError, KernelMatcher, KernelRule, Load, Object, Pins, secrets,
};
use crate::config::{Config, ModeSource};
use crate::daemon::configuration::Configuration;
use crate::daemon::configuration::provenance::Provenance;
use crate::daemon::executor::client_filter::ClientFilter;
use crate::daemon::executor::repairs::Repairs;
use crate::daemon::executor::{Executor, Exemptions, Removals};
use crate::daemon::interfaces::{Interfaces, log_detached};
use crate::daemon::listeners::{Criteria, Selection};
use crate::daemon::mitigations::firewall::Firewall;
use crate::daemon::mitigations::{Cookies, MitigationContext, Mitigations};
use crate::daemon::mode_clock::{Lapsed, ModeClock};
use crate::daemon::programs::Programs;
use crate::daemon::reading::Readings;
use crate::daemon::reading::host_view::HostView;
use crate::daemon::reading::pace::Pace;
use crate::daemon::store::records::Records;
use crate::daemon::store::state::{InKernel, Reconciled, State, reconcile};
use crate::daemon::ways_back::WaysBack;
use crate::driver::kernel_mode;

impl Agent {
    /// Loads and attaches everything, and takes over the state that an earlier agent left in the kernel.
    ///
    /// # Errors
    /// When any part cannot start. Then nothing is attached that was not before.
    pub fn start(config: Config, provenance: Provenance) -> anyhow::Result<Self> {
        bpf::features::require_features()?;
        let pins = Pins::open(&config.pin_dir, config.settings.rules)?;
        remove_ended(&pins);
        let maps = pins.maps();
        let started = Self::start_with(config, provenance, pins);
        if started.is_err() {
            Pins::forget_unused_maps(&maps)?;
        }
        started
    }

    fn start_with(config: Config, provenance: Provenance, pins: Pins) -> anyhow::Result<Self> {
        let mut health = Vec::new();
        let offsets = SocketOffsets::of_running_kernel()
            .inspect_err(|error| health.push(no_tracepoint(&error.to_string())))
            .ok();
        let (mut object, dataplane) = load(&config, &pins, offsets)?;
        let earlier = Earlier::find(&config, &dataplane)?;
        health.extend(earlier.lost.as_deref().map(state_lost));
        let now = earlier.clock.now;
        let configuration = Configuration::start(config, provenance).map_err(no_thread)?;
        let config = &configuration.config;
        let (mut mode_clock, settled) = earlier.mode_clock(config);
        let lapsed = mode_clock.expire(now);
        let mode = mode_clock.pending().map_or(settled, |pending| pending.mode);
        let kernel_config = earlier.kernel_config(mode, offsets)?;
        let preexisting = kernel_config.preexisting_connections != 0;
        let mut executor = take_tables(now, &configuration, dataplane, kernel_config)?;
        let rules = executor.dataplane.rules(executor.config.rule_set)?;
        let mut readings = Readings::of(now, HostView::default(), SockDiag::open()?);
        let selection = select(now, config, &rules, &mut readings, &mut executor)?;
        let mut exemptions = Exemptions::default();
        let protected = protect(now, config, &mut readings, &mut exemptions, &mut executor)?;
        let mut engine = Engine::new(config.tuning(), mode)?;
        engine.set_secret(secrets::network_secret().map_err(no_random)?);
        engine.set_protected(protected);
        let going_on = earlier.hand_over(rules, config, &mut engine, &mut executor)?;
        let records = Records::load(&config.state_dir, now, earlier.boot, going_on);
        let records = records.map_err(no_thread)?;
        engine.number_after(records.incidents.last_number());
        engine.leave_past();
        let mut interfaces = Interfaces::attach(
            &config.interfaces.names,
            |name| config.xdp_mode_of(name),
            config.next_programs(),
            pins,
            &mut object,
            &executor.dataplane,
        )?;
        let mitigations =
            mitigate(now, config, &interfaces, &mut object, &mut executor, &mut engine)?;
        let pins = interfaces.pins();
        let hung = offsets.map(|_| bpf::attach_tracepoint(&mut object, pins)).transpose();
        let tracepoint = hung.unwrap_or_else(|error| {
            health.push(no_tracepoint(&error.to_string()));
            executor.config.established_seen = 0;
            None
        });
        if let Err(error) = executor.dataplane.set_config(&executor.config) {
            interfaces.undo();
            return Err(error.into());
        }
        interfaces.detach_unwanted();
        forget_others(interfaces.pins());
        let mut agent = Self {
            configuration,
            engine,
            executor,
            mode_clock,
            programs: Programs { object, interfaces, tracepoint },
            mitigations,
            selection,
            listening: Pace::default(),
            exemptions,
            client_filter: ClientFilter::default(),
            removals: Removals::default(),
            ways_back: WaysBack::default(),
            outages: Outages::default(),
            readings,
            repairs: Repairs::to_count(),
            records,
            health,
            capture: Capture::default(),
            fleet: None,
            preexisting_until: if preexisting { now + PREEXISTING } else { now },
            last_second: None,
            last_slow: None,
            unreplaced: None,
        };
        agent.report_start(lapsed);
        Ok(agent)
    }

    /// Reports what a start changes, and what it could not do.
    fn report_start(&mut self, lapsed: Option<Lapsed>) {
        if let Some(lapsed) = lapsed {
            self.alert_lapse(&lapsed);
        }
        let Configuration { provenance, file, .. } = &mut self.configuration;
        match (provenance.refused_at_start(), provenance.unkept()) {
            (Some(refused), _) => self.raise_own(refused),
            (None, Some(valid)) => file.keep(valid),
            (None, None) => {}
        }
        for event in self.programs.interfaces.shortcomings() {
            self.raise_own(event);
        }
    }
}

/// Traces of an earlier agent, in the kernel and on the disk.
struct Earlier {
    clock: Clock,
    /// Id of this boot.
    boot: String,
    kernel: Option<KernelConfig>,
    state: Option<State>,
    /// Reason for which a state on the disk is not used.
    lost: Option<String>,
}

impl Earlier {
    fn find(config: &Config, dataplane: &Dataplane) -> anyhow::Result<Self> {
        let kernel = Some(dataplane.config()?).filter(|it| it.abi_version == ABI_VERSION);
        let state = State::load(&config.state_dir);
        let lost = state.as_ref().err().cloned().flatten();
        Ok(Self { clock: clock(), boot: boot_id(), kernel, state: state.ok(), lost })
    }

    /// The permanent mode, and the one that replaces it for a time.
    fn mode_clock(&self, config: &Config) -> (ModeClock, Mode) {
        let set = self.state.as_ref().and_then(|state| state.mode);
        if config.mode_source == ModeSource::CommandLine {
            return (ModeClock::resume(set, None), config.mode);
        }
        let settled = set.unwrap_or(config.mode);
        let pending = self.state.as_ref().and_then(|state| {
            let pending = state.pending_mode.as_ref()?;
            pending.resume(&self.clock, state.is_of(&self.boot), settled)
        });
        (ModeClock::resume(set, pending), settled)
    }

    /// The configuration of the programs, as far as it does not come from the file.
    fn kernel_config(
        &self,
        mode: Mode,
        offsets: Option<SocketOffsets>,
    ) -> anyhow::Result<KernelConfig> {
        let hash_key = match &self.kernel {
            // The tables in the kernel are made with it.
            Some(before) => before.hash_key,
            None => secrets::hash_key().map_err(no_random)?,
        };
        // Clients may return to a connection of which this host still has state: hardly any host has connections and
        // none in TIME_WAIT. If the count cannot be read, they may.
        let preexisting = self.kernel.is_none_or(|before| before.preexisting_connections != 0)
            && sockstat().map_or(true, |sockets| sockets.time_wait != Some(0));
        Ok(KernelConfig {
            abi_version: ABI_VERSION,
            mode: kernel_mode(mode) as u8,
            heartbeat_ns: self.clock.now.as_nanos(),
            heartbeat_limit_ns: HEARTBEAT_LIMIT.as_nanos() as u64,
            hash_key,
            netns_cookie: netns::cookie()?,
            established_seen: offsets.is_some().into(),
            preexisting_connections: preexisting.into(),
            // The engine says anew whether there is a flood of them.
            closed_ports: Rate::default(),
            resets_unseen: 0,
            ..self.kernel.unwrap_or_default()
        })
    }

    /// Hands rules, allowlist, learned values and open incidents to the engine. Returns the numbers of those that go on.
    fn hand_over(
        &self,
        rules: Vec<KernelRule>,
        config: &Config,
        engine: &mut Engine,
        executor: &mut Executor,
    ) -> anyhow::Result<Vec<u64>> {
        let Self { clock, boot, kernel, state, .. } = self;
        let now = clock.now;
        let counting = kernel.map(|before| before.rule_set);
        let listeners = &executor.listeners;
        let all = reconcile(
            clock,
            boot,
            state.as_ref(),
            InKernel { counting, rules, room: config.settings.rules },
            |slot| {
                let id = listeners.at_slot(slot)?;
                Some((id, listeners.get(id)?.listener))
            },
            |listener: &Listener| {
                let mut all = listeners.iter();
                all.find(|monitored| monitored.listener == *listener).map(|monitored| monitored.id)
            },
        );
        if let Some(state) = state {
            state.hand_to(engine, clock, boot);
        }
        adopt(engine, executor, now, all)?;
        let polled = kernel.map(|before| Timestamp::from_nanos(before.heartbeat_ns));
        let left_open = state.as_ref().map(|state| state.left_open(now, boot, polled));
        Ok(engine.resume(now, left_open.unwrap_or_default()))
    }
}

/// Takes over the mitigations that an earlier agent left.
fn mitigate(
    now: Timestamp,
    config: &Config,
    interfaces: &Interfaces,
    object: &mut Object,
    executor: &mut Executor,
    engine: &mut Engine,
) -> anyhow::Result<Mitigations> {
    let (attached, pins) = (interfaces.attached(), interfaces.pins());
    let cookies = Cookies::load(pins, &config.state_dir, config.cookies.backend, &attached)?;
    let mut mitigations = Mitigations::new(cookies, Firewall::of(now, config));
    let mut context = MitigationContext { executor, object, pins, interfaces: &attached };
    for (id, mitigation) in mitigations.adopt(now, &mut context)? {
        engine.adopt_mitigation(now, id, mitigation, 0);
    }
    Ok(mitigations)
}

/// The programs and maps of other layouts are obsolete.
fn forget_others(pins: &Pins) {
    log_detached(pins.detach_other_interfaces(), "another version");
    if let Err(error) = pins.forget_maps_of_others() {
        log::warn!("obsolete BPF maps not removed: {}", error.with_hint());
    }
}

/// The executor over the tables, which the programs use as configured from now on.
fn take_tables(
    now: Timestamp,
    configuration: &Configuration,
    dataplane: Dataplane,
    mut kernel_config: KernelConfig,
) -> anyhow::Result<Executor> {
    configuration.apply(&mut kernel_config);
    // Until the first poll.
    configuration.share_replies(&mut kernel_config, 1);
    dataplane.set_config(&kernel_config)?;
    let secret = secrets::cookie_secret(dataplane.cookie_secret()?).map_err(no_random)?;
    dataplane.set_cookie_secret(&secret)?;
    // Remains of an agent that ended while it replaced one rule set by another.
    let left = dataplane.remove_other_sets(kernel_config.rule_set)?;
    if left > 0 {
        log::info!("{left} rules of an interrupted replacement removed");
    }
    Ok(Executor::new(now, dataplane, kernel_config))
}

/// Monitors the listeners that an earlier agent left, and those that are there now.
fn select(
    now: Timestamp,
    config: &Config,
    rules: &[KernelRule],
    readings: &mut Readings,
    executor: &mut Executor,
) -> anyhow::Result<Selection> {
    let Executor { listeners, dataplane, .. } = executor;
    listeners.adopt_all(now, &signatures(now, rules), dataplane)?;
    let groups = ListenerGroup::merge(&readings.sockets.open_listeners()?);
    let criteria = Criteria {
        ignored: &|listener| config.ignores(listener),
        wanted: &|_| false,
        budget: &|_, backlog| tcpguard_engine::budget(backlog),
    };
    let mut selection = Selection::default();
    selection.update(now, &groups, criteria, (listeners, dataplane))?;
    Ok(selection)
}

/// Time after the tables began empty in which clients may return to connections that are older.
const PREEXISTING: Duration = Duration::from_nanos(PREEXISTING_NS);

fn no_random(error: io::Error) -> Failure {
    Failure::new(format!("cannot read random numbers from the kernel: {error}"), "tcpguard doctor")
}

fn no_thread(error: io::Error) -> Failure {
    Failure::new(
        format!("cannot start a thread: {error}"),
        "systemctl edit tcpguard ([Service] TasksMax=)",
    )
}

/// The object over the maps that are pinned. Maps of another layout (of a build whose version was not
/// raised) cannot be used; then it starts with new ones.
fn load(
    config: &Config,
    pins: &Pins,
    offsets: Option<SocketOffsets>,
) -> anyhow::Result<(Object, Dataplane)> {
    let maps = pins.maps();
    let log = config.bpf_log.to_level();
    let load = || -> Result<_, KernelError> {
        let rules = config.settings.rules;
        let load = Load { maps: Some(&maps), offsets, log, rules, ..Load::default() };
        let carried = pins.carry_maps(rules)?;
        let object = Object::load(load)?;
        let dataplane = Dataplane::of(&object)?;
        if let Some(carried) = carried {
            dataplane.restore_rules(&carried)?;
            dataplane.renew_next_hops(clock().now.as_nanos())?;
        }
        Ok((object, dataplane))
    };
    match load() {
        Err(KernelError::Mismatch(why)) => {
            log::warn!(
                "BPF maps of the previous agent unusable: {}: {why}. Starting with empty ones",
                maps.display()
            );
            Pins::forget_maps(&maps)?;
            Ok(load()?)
        }
        loaded => Ok(loaded?),
    }
}

/// Slot of the listener and mask of each signature rule that has not ended.
fn signatures(now: Timestamp, rules: &[KernelRule]) -> Vec<(u32, Mask)> {
    let signature = |rule: &KernelRule| match &rule.matcher {
        KernelMatcher::Signature(key) if rule.expires_ns > now.as_nanos() => {
            Some((key.listener, Mask::from_code(u8::try_from(key.mask).ok()?)?))
        }
        _ => None,
    };
    rules.iter().filter_map(signature).collect()
}

fn adopt(
    engine: &mut Engine,
    executor: &mut Executor,
    now: Timestamp,
    rules: Reconciled,
) -> anyhow::Result<()> {
    let Reconciled { kept, lost, dead, without_room, reverted } = rules;
    for rule in &dead {
        executor.dataplane.set_rule_expiry(rule.slot, 0)?;
        executor.dataplane.remove_rule(executor.config.rule_set, rule.slot, &rule.matcher)?;
    }
    executor.adopt(&kept)?;
    for rule in &kept {
        executor.dataplane.set_rule_expiry(rule.id.0, rule.expires.as_nanos())?;
    }
    let (kept_count, lost_count) = (kept.len(), lost.len());
    let rules: Vec<Rule> = kept.into_iter().chain(lost).collect();
    if lost_count > 0 {
        executor.replace(&rules)?;
    }
    if kept_count + lost_count + dead.len() > 0 {
        log::info!(
            "rules: {kept_count} adopted from the kernel, {lost_count} restored, {} expired",
            dead.len()
        );
    }
    if without_room > 0 {
        log::warn!(
            "{without_room} rules not restored: rule limit reached. Raise policy.rules, then: systemctl \
             restart tcpguard"
        );
    }
    engine.adopt(now, rules);
    engine.revert(now, reverted);
    Ok(())
}

/// Frees what agents of ended containers left.
fn remove_ended(pins: &Pins) {
    let (removed, left) = pins.remove_ended();
    if removed > 0 {
        log::info!("maps of {} removed", counted(removed as u64, "ended network namespace"));
    }
    for error in left {
        log::warn!("maps of an ended network namespace not removed: {}", error.with_hint());
    }
}

/// Code of the finding about a state on the disk that is not used.
pub(super) const STATE_LOST: &str = "state_lost";

fn state_lost(line: &str) -> Finding {
    let hint = "the mode is that of the configuration; set it again: tcpguard mode";
    Finding::warning(STATE_LOST, line.to_owned()).hint(hint)
}

fn no_tracepoint(why: &str) -> Finding {
    let text = format!("no tracepoint, completed handshakes are only sampled: {why}");
    let hint = "check that the kernel has BTF: ls -l /sys/kernel/btf/vmlinux";
    Finding::warning("no_tracepoint", text).hint(hint)
}
