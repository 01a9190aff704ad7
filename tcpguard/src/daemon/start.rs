//! Start of the agent: from nothing, or from the state that an earlier agent left, to attached programs.
//!
//! The order opens no gap: the maps with their rules are taken over first, then everything in them is
//! brought in line, and only then the programs on the interfaces are replaced.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tcpguard_common::abi::{ABI_VERSION, Config as KernelConfig, Mask, Rate};
use tcpguard_common::fastpath::PREEXISTING_NS;
use tcpguard_engine::{AllowReport, Engine, Listener, Rule, Timestamp};
use tcpguard_host::finding::Finding;
use tcpguard_host::hint::{Failure, Hint as _};
use tcpguard_host::linux::{ListenerGroup, SockDiag, SocketOffsets, boot_id, netns, sockstat};
use tcpguard_host::time::Clock;
use tcpguard_host::units::counted;

use super::agent::{Agent, Capture, HEARTBEAT_LIMIT, apply_policy, clock, share_replies};
use super::executor::{Executor, Exemptions, Removals};
use super::interfaces::{Interfaces, log_detached};
use super::listeners::Selection;
use super::mitigations::{Cookies, MitigationContext, Mitigations};
use crate::bpf::{
    self, Dataplane, KernelError, KernelMatcher, KernelRule, Load, Object, Pins, secrets,
};
use crate::config::{Config, ModeSource};
use crate::daemon::agent::arrivals::Arrivals;
use crate::daemon::configuration::kept_config::ConfigFile;
use crate::daemon::configuration::provenance::Provenance;
use crate::daemon::executor::audit::Audit;
use crate::daemon::executor::client_filter::ClientFilter;
use crate::daemon::mitigations::firewall::{Firewall, Need};
use crate::daemon::reading::counters::Counters;
use crate::daemon::reading::host_view::HostView;
use crate::daemon::reading::hot_sources::HotSources;
use crate::daemon::reading::loss_watch::LossWatch;
use crate::daemon::reading::pace::Pace;
use crate::daemon::reading::read_cache::{Cells, Handshakes, Hits};
use crate::daemon::reading::routes::Routes;
use crate::daemon::requests::confirm::ModeClock;
use crate::daemon::requests::counts::Counts;
use crate::daemon::store::alerts::AlertFile;
use crate::daemon::store::incidents::Incidents;
use crate::daemon::store::state::{
    InKernel, Reconciled, State, StateWriter, Times, reconcile, store,
};
use crate::daemon::ways_back::WaysBack;
use crate::driver::kernel_mode;
use crate::telemetry::AlertSink;
use crate::text::learned_error;

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
        let offsets = match SocketOffsets::of_running_kernel() {
            Ok(offsets) => Some(offsets),
            Err(error) => {
                health.push(no_tracepoint(&error.to_string()));
                None
            }
        };
        let (mut object, dataplane) = load(&config, &pins, offsets)?;
        let clock = clock();
        let now = clock.now;
        let boot = boot_id();
        let state = State::load(&config.state_dir);
        let set_mode = state.as_ref().and_then(|state| state.mode);
        // The permanent mode, and then the one that replaces it for a time.
        let (mode, pending) = match config.mode_source {
            ModeSource::CommandLine => (config.mode, None),
            ModeSource::File => {
                let settled = set_mode.unwrap_or(config.mode);
                let pending = state.as_ref().and_then(|state| {
                    let pending = state.pending_mode.as_ref()?;
                    pending.resume(&clock, state.is_of(&boot), settled)
                });
                (settled, pending)
            }
        };
        let mut mode_clock = ModeClock::resume(pending);
        let lapsed = mode_clock.expire(now);
        let mode = mode_clock.pending().map_or(mode, |pending| pending.mode);
        let before = Some(dataplane.config()?).filter(|before| before.abi_version == ABI_VERSION);
        let hash_key = match &before {
            // The tables in the kernel are made with it.
            Some(before) => before.hash_key,
            None => secrets::hash_key().map_err(no_random)?,
        };
        let counting = before.map(|before| before.rule_set);
        let preexisting_connections = before
            .is_none_or(|before| before.preexisting_connections != 0)
            && has_connections_left();
        let mut kernel_config = KernelConfig {
            abi_version: ABI_VERSION,
            mode: kernel_mode(mode) as u8,
            heartbeat_ns: now.as_nanos(),
            heartbeat_limit_ns: HEARTBEAT_LIMIT.as_nanos() as u64,
            hash_key,
            netns_cookie: netns::cookie()?,
            established_seen: offsets.is_some().into(),
            preexisting_connections: preexisting_connections.into(),
            // The engine says anew whether there is a flood of them.
            closed_ports: Rate::default(),
            resets_unseen: 0,
            ..before.unwrap_or_default()
        };
        apply_policy(&mut kernel_config, &config, false);
        // Until the first poll.
        share_replies(&mut kernel_config, &config, 1);
        dataplane.set_config(&kernel_config)?;
        let secret = secrets::cookie_secret(dataplane.cookie_secret()?).map_err(no_random)?;
        dataplane.set_cookie_secret(&secret)?;
        // Remains of an agent that ended while it replaced one rule set by another.
        let left = dataplane.remove_other_sets(kernel_config.rule_set)?;
        if left > 0 {
            log::info!("{left} rules of an interrupted replacement removed");
        }
        let mut sockets = SockDiag::open()?;
        let mut executor = Executor::new(now, dataplane, kernel_config);
        let rules = executor.dataplane.rules(kernel_config.rule_set)?;
        let signatures = signatures(now, &rules);
        executor.listeners.adopt_all(now, &signatures, &mut executor.dataplane)?;
        let groups = ListenerGroup::merge(&sockets.open_listeners()?);
        let ignored = |listener: &Listener| config.ignores(listener);
        let budget = |_: &Listener, backlog| tcpguard_engine::budget(backlog);
        let mut selection = Selection::default();
        let Executor { listeners, dataplane, .. } = &mut executor;
        selection.update(now, &groups, ignored, budget, listeners, dataplane)?;
        let mut host = HostView::default();
        let protected = host.protected(now, &mut sockets, &config);
        let mut exemptions = Exemptions::default();
        exemptions.protect(&protected, &executor.dataplane)?;
        executor.listeners.own_known = host.knows_own_addresses(&protected);
        executor.listeners.write(&mut executor.dataplane)?;
        let mut engine = Engine::new(config.tuning(), mode)?;
        engine.set_secret(secrets::network_secret().map_err(no_random)?);
        engine.set_protected(protected.into_iter().map(|p| (p.net, p.what)).collect());
        let listeners = &executor.listeners;
        let all = reconcile(
            &clock,
            &boot,
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
        if let Some(state) = &state {
            take_over(&mut engine, &clock, state, &boot);
        }
        adopt(&mut engine, &mut executor, now, all)?;
        let polled = before.as_ref().map(|before| Timestamp::from_nanos(before.heartbeat_ns));
        let left_open = state.as_ref().map(|state| state.left_open(now, &boot, polled));
        let going_on = engine.resume(now, left_open.unwrap_or_default());
        let lost = "rules, mode and learned values";
        let writer = StateWriter::start("state", config.state_dir.clone(), store, lost)
            .map_err(no_thread)?;
        let config_file = ConfigFile::start(&config.state_dir).map_err(no_thread)?;
        let (alert_file, history) = AlertFile::load(&config.state_dir).map_err(no_thread)?;
        let incidents = Incidents::load(&config.state_dir, going_on).map_err(no_thread)?;
        engine.number_after(incidents.last_number());
        engine.leave_past();
        let mut interfaces = Interfaces::attach(
            &config.interfaces.names,
            |name| config.xdp_mode_of(name),
            config.next_programs(),
            pins,
            &mut object,
            &executor.dataplane,
        )?;
        let attached_interfaces = interfaces.attached();
        let cookies = Cookies::load(
            interfaces.pins(),
            &config.state_dir,
            config.cookies.backend,
            &attached_interfaces,
        )?;
        let mut mitigations = Mitigations::new(cookies);
        let mut firewall = Firewall::default();
        firewall.poll(now, &config, Need::Now);
        firewall.refresh(now, Need::Now);
        let mut context = MitigationContext {
            executor: &mut executor,
            object: &mut object,
            pins: interfaces.pins(),
            interfaces: &attached_interfaces,
            firewall: &mut firewall,
        };
        for (id, mitigation) in mitigations.adopt(now, &mut context)? {
            engine.adopt_mitigation(now, id, mitigation, 0);
        }
        let attached =
            offsets.map(|_| bpf::attach_tracepoint(&mut object, interfaces.pins())).transpose();
        let mut tracepoint = None;
        match attached {
            Ok(link) => tracepoint = link,
            Err(error) => {
                health.push(no_tracepoint(&error.to_string()));
                executor.config.established_seen = 0;
                if let Err(error) = executor.dataplane.set_config(&executor.config) {
                    interfaces.undo();
                    return Err(error.into());
                }
            }
        }
        interfaces.detach_unwanted();
        // From here on the programs and maps of other layouts are obsolete.
        log_detached(interfaces.pins().detach_other_interfaces(), "another version");
        if let Err(error) = interfaces.pins().forget_maps_of_others() {
            log::warn!("obsolete BPF maps not removed: {}", error.with_hint());
        }
        let mut agent = Self {
            config,
            provenance,
            config_file,
            engine,
            executor,
            exemptions,
            selection,
            interfaces,
            alerts: AlertSink::of_host(history),
            alert_file,
            snapshots: VecDeque::new(),
            started_at: now,
            rules_in_kernel: None,
            drift_since: None,
            audit: Audit::default(),
            repaired: Vec::new(),
            health,
            object,
            sockets,
            host,
            firewall,
            tracepoint,
            client_filter: ClientFilter::default(),
            mitigations,
            obstacles: Vec::new(),
            foreseeing: Pace::default(),
            removals: Removals::default(),
            counters: Counters::default(),
            count_half_open: true,
            count_rules: true,
            last_second: None,
            listening: Pace::default(),
            last_slow: None,
            cells: Cells::default(),
            hits: Hits::default(),
            handshakes: Handshakes::default(),
            arrivals: Arrivals::default(),
            routes: Routes::default(),
            ways_back: WaysBack::default(),
            pressed: false,
            boot,
            set_mode,
            mode_clock,
            writer,
            incidents,
            capture: Capture::default(),
            hot_sources: HotSources::default(),
            counts: Counts::default(),
            fleet: None,
            loss_watch: LossWatch::default(),
            preexisting_until: if preexisting_connections { now + PREEXISTING } else { now },
            stored_at: now,
            unstored: true,
            unreplaced: None,
        };
        if let Some(lapsed) = lapsed {
            agent.alert_lapse(&lapsed);
        }
        match (agent.provenance.refused_at_start(), agent.provenance.unkept()) {
            (Some(refused), _) => agent.raise_own(refused),
            (None, Some(valid)) => agent.config_file.keep(valid),
            (None, None) => {}
        }
        agent.alert_shortcomings();
        Ok(agent)
    }
}

/// Time after the tables began empty in which clients may return to connections that are older.
const PREEXISTING: Duration = Duration::from_nanos(PREEXISTING_NS);

/// Returns whether clients may return to a connection of which this host still has state: hardly any host has
/// connections and none in TIME_WAIT. If the count cannot be read, they may.
fn has_connections_left() -> bool {
    sockstat().map_or(true, |sockets| sockets.time_wait != Some(0))
}

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

/// Hands the allowlist and the learned values to the engine.
pub(super) fn take_over(engine: &mut Engine, clock: &Clock, state: &State, boot: &str) {
    let times = Times::of(state, clock, boot);
    for (name, until) in &state.overruled {
        engine.overrule(clock.now, name.clone(), times.at(*until));
    }
    for allow in &state.allowed {
        let (created, expires) = (times.at(allow.created), times.at(allow.expires));
        let exemption = AllowReport { created, expires, ..allow.clone() };
        if !engine.adopt_exemption(clock.now, exemption) {
            let net = allow.net;
            log::warn!(
                "exemption of {net} not restored: the allowlist is full. Retry: tcpguard allow {net}"
            );
        }
    }
    if let Err(error) = engine.restore(state.learned.clone(), times.age()) {
        let what = learned_error(&error);
        log::warn!("{what}. They are learned again. See: tcpguard status");
    }
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

fn no_tracepoint(why: &str) -> Finding {
    let text = format!("no tracepoint, completed handshakes are only sampled: {why}");
    let hint = "check that the kernel has BTF: ls -l /sys/kernel/btf/vmlinux";
    Finding::warning("no_tracepoint", text).hint(hint)
}
