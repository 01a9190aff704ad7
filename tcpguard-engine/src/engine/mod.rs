//! The engine's interface and its work at every poll.

mod adopt;
mod alerts;
mod asking;
mod confirmation;
mod constants;
mod exempt_listeners;
mod fleet;
mod flows;
mod headers;
mod held_back;
mod hints;
pub(crate) mod host;
mod import;
pub(crate) mod lifecycle;
pub(crate) mod mitigations;
pub(crate) mod monitor;
mod monitors;
mod places;
mod pressure;
mod requests;
mod rollup;
mod routes;
mod shared_evidence;
mod together;
mod unblock;
mod upkeep;
mod view;
mod withhold;

pub use constants::all_constants;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ipnet::IpNet;

use self::host::{Host, Passing};
use self::mitigations::Starts;
use self::monitor::ListenerMonitor;
use self::monitors::Monitors;
use self::rollup::RollUp;
use self::together::AllClients;
use crate::evidence::{EVIDENCE_WINDOW, Hints};
use crate::incident::{Incident, IncidentReport};
use crate::input::{
    Listener, ListenerId, ListenerSample, Matcher, Mitigation, Mode, POLL, Sample, TcpExt,
    Timestamp,
};
use crate::listener::{
    Growth, LearnedListener, Networks, PollContext, Refusals, Sampling, Suspect,
};
use crate::mitigation::retransmit_budget;
use crate::output::Command;
use crate::rules::{Exempt, FleetBounds, Recurrence, RemovalReason, RuleTable};
use crate::settings::{SettingsError, Tuned, Tuning};

/// The state machine: observations go in, commands come out.
///
/// A poll is: [`Engine::handle_sample`]; then [`Engine::next_command`] until it is empty, where a
/// [`Command::InspectFlows`] is answered by [`Engine::handle_flows`]. Cloning it is a dry run.
#[derive(Clone, Debug)]
pub struct Engine {
    settings: Tuned,
    mode: Mode,
    /// Time of the last change of the mode: in enforce mode, matches are dropped since then.
    enforced: Timestamp,
    now: Timestamp,
    epoch: Option<u64>,
    tcp_ext: TcpExt,
    /// The stack's count of segments with a wrong checksum.
    checksum_errors: u64,
    growth: Growth,
    sample_shift: u8,
    monitors: Monitors,
    rule_table: RuleTable,
    exempt: Exempt,
    /// State that an earlier run learned, of listeners not seen yet, and how long ago.
    restored: BTreeMap<Listener, (LearnedListener, Duration)>,
    networks: Networks,
    host: Host,
    one_sided: bool,
    recurrence: Recurrence,
    sampling: Sampling,
    /// True if queues dropped SYNs that a count would attribute to their listeners.
    uncounted: bool,
    /// Incidents that an earlier run left open, until their listeners are known.
    left_open: Vec<IncidentReport>,
    /// Mitigations of an earlier run, until their listeners are known: since when, listener, mitigation, rate.
    inherited: Vec<(Timestamp, ListenerId, Mitigation, u32)>,
    /// True if SYN headers of all listeners are wanted.
    sample_all: bool,
    /// Listeners of which SYN headers are kept, each with the share `n`: one SYN in `2^n`.
    sampled: BTreeMap<ListenerId, u8>,
    inspected: Timestamp,
    /// Time at which the flows of all listeners were last inspected.
    surveyed: Timestamp,
    counted: Timestamp,
    incidents: u64,
    rolled: Option<RollUp>,
    all_clients: AllClients,
    past: VecDeque<IncidentReport>,
    /// True if closed incidents are kept there.
    keeps_past: bool,
    /// Handshakes a second that complete at listeners after a signature rule has let their retransmitted SYNs
    /// pass; no entry where none do.
    completing: BTreeMap<Listener, f64>,
    /// Reasons for which rules are no longer wanted, until the plan has taken note.
    removal_reasons: BTreeMap<Matcher, RemovalReason>,
    commands: VecDeque<Command>,
    starts: Starts,
    /// Signatures of floods that other hosts of the fleet report.
    hints: Hints,
    /// Time up to which SYNs with these signatures are counted.
    hints_counted: Timestamp,
    /// Listeners at which cookies were sent ahead of a flood a short while ago, and the time at which that began.
    ahead: BTreeMap<ListenerId, Timestamp>,
    /// Bounds on the rules of the fleet.
    fleet: FleetBounds,
    /// The rules as they were before the last replacement, until the kernel has surely taken it.
    replaced: Option<RuleTable>,
}

impl Engine {
    /// An engine that has seen nothing yet. Its first command sets the mode in the kernel.
    ///
    /// # Errors
    /// When a threshold is out of its range.
    pub fn new(tuning: impl Into<Tuning>, mode: Mode) -> Result<Self, SettingsError> {
        let settings = Tuned::new(tuning.into())?;
        let rule_table = RuleTable::new(settings.common.rules);
        Ok(Self {
            settings,
            mode,
            enforced: Timestamp::default(),
            now: Timestamp::default(),
            epoch: None,
            tcp_ext: TcpExt::default(),
            checksum_errors: 0,
            growth: Growth::default(),
            sample_shift: 0,
            monitors: Monitors::default(),
            rule_table,
            exempt: Exempt::default(),
            restored: BTreeMap::new(),
            networks: Networks::default(),
            host: Host::default(),
            one_sided: false,
            recurrence: Recurrence::default(),
            sampling: Sampling::default(),
            uncounted: false,
            left_open: Vec::new(),
            inherited: Vec::new(),
            sample_all: false,
            sampled: BTreeMap::new(),
            inspected: Timestamp::default(),
            surveyed: Timestamp::default(),
            counted: Timestamp::default(),
            incidents: 0,
            rolled: None,
            all_clients: AllClients::default(),
            past: VecDeque::new(),
            keeps_past: true,
            completing: BTreeMap::new(),
            removal_reasons: BTreeMap::new(),
            commands: VecDeque::from([Command::SetMode(mode)]),
            starts: Starts::default(),
            hints: Hints::default(),
            hints_counted: Timestamp::default(),
            ahead: BTreeMap::new(),
            fleet: FleetBounds::default(),
            replaced: None,
        })
    }

    /// Goes on with other settings. The capacity for rules stays as it was. Rules and mitigations that a
    /// listener's own mode no longer allows end with the next poll.
    ///
    /// # Errors
    /// When a threshold is out of its range; then nothing changes.
    pub fn set_settings(&mut self, tuning: impl Into<Tuning>) -> Result<(), SettingsError> {
        self.settings = Tuned::new(tuning.into())?;
        self.monitors.wake();
        for monitor in self.monitors.values_mut() {
            monitor.ladder.bar(self.settings.barred(monitor.listener));
            monitor.ladder.reconsider(self.now, Mitigation::Cookies, true);
        }
        Ok(())
    }

    /// Replaces the prefixes that no automatic rule may touch, each with its description ("default gateway",
    /// "own address", …). Automatic rules and those of the fleet that touch one now are withdrawn.
    pub fn set_protected(&mut self, prefixes: Vec<(IpNet, String)>) {
        let added = self.exempt.protect(prefixes);
        self.release_exempt(self.now);
        self.release_fleet(self.now, &added);
    }

    /// Withdraws the automatic rules that touch an exempt prefix now, and the matchers for which incidents
    /// would make rules once the mode is no longer off.
    fn release_exempt(&mut self, now: Timestamp) {
        let automatic = self.rule_table.iter().filter(|entry| entry.incident().is_some());
        let wanted = self.open_incidents().flat_map(Incident::wanted);
        let matchers = automatic.map(|entry| entry.rule.matcher);
        let touching: BTreeMap<Matcher, RemovalReason> = matchers
            .chain(wanted.map(|wanted| wanted.matcher))
            .filter_map(|matcher| {
                let Matcher::Source(net, _) = matcher else { return None };
                let (_, what) = self.exempt.touched_by(&net)?;
                Some((matcher, RemovalReason::Exempt { what }))
            })
            .collect();
        for (matcher, why) in &touching {
            self.refuse(matcher, why);
        }
        if !touching.is_empty() {
            self.carry_out_plan(now);
        }
    }

    /// Takes over the observations of one poll. A sample that is not newer than the last one is ignored. Its
    /// counts are part of the next.
    pub fn handle_sample(&mut self, sample: &Sample) {
        let now = sample.at;
        let first = self.epoch.is_none();
        if !first && now <= self.now {
            return;
        }
        self.replaced = None;
        let elapsed = now.since(self.now);
        let restarted = self.epoch != Some(sample.epoch);
        let passing = match restarted {
            true => Passing::default(),
            false => self.host.passing(&sample.host),
        };
        if restarted {
            self.monitors.wake();
        }
        let readings = self.monitors.follow(sample);
        let around = PollContext {
            at: now,
            elapsed,
            poll: POLL,
            mode: self.mode,
            queue_drops: Some(0),
            unseen_cookies: self.unseen_cookies(sample),
            queues: None,
            overflowed: sample.tcp_ext.listen_overflows > self.tcp_ext.listen_overflows,
            queue_full: false,
            sample_shift: sample.sample_shift,
            one_sided: sample.one_sided,
            unread: false,
            answering: false,
            beyond: passing.lately,
        };
        let refusals = self.refusals(sample, &readings);
        self.uncounted = refusals.ask_for_count();
        self.now = now;
        self.epoch = Some(sample.epoch);
        self.tcp_ext = sample.tcp_ext;
        let grown = self.growth.over(now, EVIDENCE_WINDOW, sample.tcp_ext);
        let checksum_errors = sample.host.checksum_errors;
        let wrong_checksums = checksum_errors.saturating_sub(self.checksum_errors);
        self.checksum_errors = checksum_errors;
        self.one_sided = sample.one_sided;

        let mut syns = 0;
        self.drop_missing(now, sample);
        let mitigating = self.mitigated();
        for listener in &readings {
            let counted = listener.counters.syn;
            match self.monitors.get_mut(&listener.id) {
                None => {
                    syns += counted;
                    let mut monitor = ListenerMonitor::new(listener);
                    monitor.ladder.bar(self.settings.barred(listener.listener));
                    if let Some((learned, age)) = self.restored.remove(&listener.listener) {
                        monitor.restore(now, &learned, age);
                    }
                    if first {
                        self.go_on(now, &mut monitor);
                    }
                    self.monitors.insert(listener.id, monitor);
                }
                Some(monitor) if restarted => monitor.restart(listener),
                Some(monitor) => {
                    syns += counted.saturating_sub(monitor.counters().syn);
                    let mitigating = mitigating.contains(&listener.id);
                    // Where cookies answer, the drops of queues belong to other listeners.
                    let cookies = monitor.ladder.has(Mitigation::Cookies);
                    let queue_drops = if cookies { Some(0) } else { refusals.at(listener.id) };
                    let around = PollContext { queue_drops, ..around };
                    (monitor.tcp_ext, monitor.wrong_checksums) = (grown, wrong_checksums);
                    let settings = &self.settings.common;
                    monitor.observe(listener, &around, mitigating, settings);
                }
            }
        }
        self.monitors.pass(&around, &self.settings.common);
        self.end_gone();
        self.resume_mitigations();
        self.rule_table.read(now, &sample.rules);
        let evading = self.evading(elapsed, passing);
        let settings = &self.settings.common;
        let elsewhere = self.host.observe(sample, elapsed, first || restarted, evading, settings);
        if !first && !restarted {
            // Every tracked flow takes a slot in the same table.
            let rate = (syns + elsewhere) as f64 / elapsed.as_secs_f64();
            self.adapt_sampling(now, rate, sample.sample_shift);
        }
        self.sample_shift = sample.sample_shift;

        self.expire_allowed(now);
        self.exempt_listeners(now);
        self.withdraw_harmful_rules(now);
        self.end_quiet_incidents(now);
        self.open_overdue(now);
        self.follow_pressure(now);
        self.report_overload(now);
        self.follow_rolled(now);
        self.follow_host(now);
        self.follow_hints(now);
        self.poll_mitigations(now, elapsed);
        self.carry_out_plan(now);
        self.count_completing(now);
        self.alert_news(now);
        self.clean_half_open(now);
        self.ask_for_headers();
        self.ask_for_counts(now);
        self.ask_for_flows(now);
    }

    /// The next command, in the order in which they must be executed. The one before has been executed, or its
    /// failure reported.
    pub fn next_command(&mut self) -> Option<Command> {
        self.report_start();
        let command = self.commands.pop_front();
        self.starts.executing = match command {
            Some(Command::StartMitigation { listener, mitigation, .. }) => {
                Some((listener, mitigation))
            }
            _ => None,
        };
        command
    }

    /// Retransmitted SYNs a second that rules and the SYN rate limit let through to the stack of a listener whose
    /// SYN queue has this limit, where no cookies answer them. It changes with each sample.
    pub fn return_limit(&self, listener: &Listener, backlog: u32) -> u32 {
        let completing = self.completing.get(listener).copied().unwrap_or_default();
        retransmit_budget(backlog, completing)
    }

    /// Returns whether the configuration forbids a mitigation at a listener.
    pub fn bars(&self, listener: Listener, mitigation: Mitigation) -> bool {
        self.settings.barred(listener).contains(&mitigation)
    }

    /// The action on a rule match.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The SYNs that full SYN queues have dropped since the last poll, and the listeners to which they may
    /// belong.
    fn refusals(&self, sample: &Sample, readings: &[ListenerSample]) -> Refusals {
        let suspects: Vec<Suspect> = readings
            .iter()
            .filter_map(|listener| {
                let (monitor, queues) = (self.monitors.get(&listener.id)?, listener.queues?);
                let half_open = queues.half_open.or_else(|| monitor.half_open_lately(sample.at));
                let unanswered = monitor.unanswered(listener, self.mode, sample.one_sided);
                Some(Suspect { id: listener.id, queues, half_open, unanswered })
            })
            .collect();
        Refusals::of(&self.tcp_ext, &sample.tcp_ext, &suspects)
    }

    /// Cookies that the kernel has sent since the last poll, beyond the SYN-ACKs that were seen.
    fn unseen_cookies(&self, sample: &Sample) -> u64 {
        let cookies = sample.tcp_ext.syncookies_sent.saturating_sub(self.tcp_ext.syncookies_sent);
        let seen = sample.listeners.iter().filter_map(|listener| {
            let before = self.monitors.get(&listener.id)?.counters().syn_ack;
            Some(listener.counters.syn_ack.saturating_sub(before))
        });
        cookies.saturating_sub(seen.sum())
    }

    /// The open incidents of listeners, and the one of those that are reported together.
    fn open_incidents(&self) -> impl Iterator<Item = &Incident> {
        let own = self.monitors.values().filter_map(|monitor| monitor.incident.as_deref());
        own.chain(self.rolled.as_ref().map(|rolled| &rolled.incident))
    }

    /// Returns the same incidents, to be changed.
    fn open_incidents_mut(&mut self) -> impl Iterator<Item = &mut Incident> {
        let own = self.monitors.values_mut().filter_map(|monitor| monitor.incident.as_deref_mut());
        own.chain(self.rolled.as_mut().map(|rolled| &mut rolled.incident))
    }

    /// SYNs of the last poll that the stack answered although the XDP program could not read them, or that took the
    /// queue slots of those that it could; some of the frames that were `passing`.
    fn evading(&self, elapsed: Duration, passing: Passing) -> u64 {
        if passing.lately == 0 {
            return 0;
        }
        let of = |monitor: &ListenerMonitor| monitor.evading(self.now, elapsed, passing.routed);
        self.monitors.values().map(of).sum()
    }

    /// Queues a command unless it waits already.
    fn command_once(&mut self, command: Command) {
        if !self.commands.contains(&command) {
            self.commands.push_back(command);
        }
    }
}
