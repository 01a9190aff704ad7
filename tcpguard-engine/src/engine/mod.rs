//! The engine's interface and its work at every poll.
//!
//! Each part owns its state and changes it by itself. The engine hands samples, flows and requests to them, and lets one
//! act on the others.

mod adopt;
mod alerts;
mod archive;
mod constants;
mod fleet;
pub(crate) mod hints;
pub(crate) mod host;
mod judging;
mod lifecycle;
pub(crate) mod listeners;
mod mandate;
mod mitigations;
pub(crate) mod monitor;
mod monitors;
pub(crate) mod needs;
mod outbox;
mod pace;
mod plan;
mod pressure;
mod questions;
mod requests;
mod rule_book;
mod stack;
mod view;

use std::collections::BTreeMap;

use ipnet::IpNet;

use self::archive::Archive;
pub use self::constants::all_constants;
use self::hints::Hinted;
use self::host::{Host, Passing};
use self::listeners::Listeners;
use self::mandate::Mandate;
use self::outbox::{Outbox, Start};
use self::questions::Questions;
use self::rule_book::RuleBook;
use self::stack::Stack;
use crate::input::{
    Listener, ListenerId, Mitigation, Mode, POLL, Route, RouteQuestion, Sample, SynHeader,
    Timestamp,
};
use crate::listener::PollContext;
use crate::mitigation::retransmit_budget;
use crate::output::{Command, HintReport};
use crate::settings::{SettingsError, Tuned, Tuning};

/// The state machine: observations go in, commands come out.
///
/// A poll is: [`Engine::handle_sample`]; then [`Engine::next_command`] until it is empty, where a
/// [`Command::InspectFlows`] is answered by [`Engine::handle_flows`]. Cloning it is a dry run.
#[derive(Clone, Debug)]
pub struct Engine {
    mandate: Mandate,
    stack: Stack,
    listeners: Listeners,
    rules: RuleBook,
    archive: Archive,
    host: Host,
    hinted: Hinted,
    questions: Questions,
    outbox: Outbox,
}

impl Engine {
    /// An engine that has seen nothing yet. Its first command sets the mode in the kernel.
    ///
    /// # Errors
    /// When a threshold is out of its range.
    pub fn new(tuning: impl Into<Tuning>, mode: Mode) -> Result<Self, SettingsError> {
        let settings = Tuned::new(tuning.into())?;
        let rules = RuleBook::new(settings.common.rules);
        let mut outbox = Outbox::default();
        outbox.push(Command::SetMode(mode));
        Ok(Self {
            mandate: Mandate { settings, mode, enforced: Timestamp::default() },
            stack: Stack::default(),
            listeners: Listeners::default(),
            rules,
            archive: Archive::default(),
            host: Host::default(),
            hinted: Hinted::default(),
            questions: Questions::default(),
            outbox,
        })
    }

    /// Goes on with other settings. The capacity for rules stays as it was. Rules and mitigations that a
    /// listener's own mode no longer allows end with the next poll.
    ///
    /// # Errors
    /// When a threshold is out of its range; then nothing changes.
    pub fn set_settings(&mut self, tuning: impl Into<Tuning>) -> Result<(), SettingsError> {
        self.mandate.settings = Tuned::new(tuning.into())?;
        self.listeners.monitors.wake();
        for monitor in self.listeners.monitors.values_mut() {
            monitor.ladder.bar(self.mandate.settings.barred(monitor.listener));
            monitor.ladder.reconsider(self.listeners.now, Mitigation::Cookies, true);
        }
        Ok(())
    }

    /// Replaces the prefixes that no automatic rule may touch, each with its description ("default gateway",
    /// "own address", …). Automatic rules and those of the fleet that touch one now are withdrawn.
    pub fn set_protected(&mut self, prefixes: Vec<(IpNet, String)>) {
        let added = self.rules.exempt.protect(prefixes);
        self.release_exempt(self.listeners.now);
        self.release_fleet(self.listeners.now, &added);
    }

    /// Takes over the observations of one poll. A sample that is not newer than the last one is ignored. Its
    /// counts are part of the next.
    pub fn handle_sample(&mut self, sample: &Sample) {
        let now = sample.at;
        if !self.stack.is_new() && now <= self.listeners.now {
            return;
        }
        self.rules.replaced = None;
        let elapsed = now.since(self.listeners.now);
        let restarted = self.stack.restarts(sample);
        let passing = match restarted {
            true => Passing::default(),
            false => self.host.passing(&sample.host),
        };
        let syns = self.observe_listeners(sample, passing.lately);
        self.archive.end_gone(&mut self.outbox);
        self.listeners.resume_mitigations(&self.mandate, &mut self.outbox);
        self.rules.table.read(now, &sample.rules);
        let evading = self.listeners.evading(elapsed, passing);
        let settings = &self.mandate.settings.common;
        let elsewhere = self.host.observe(sample, elapsed, restarted, evading, settings);
        if !restarted {
            // Every tracked flow takes a slot in the same table.
            let rate = (syns + elsewhere) as f64 / elapsed.as_secs_f64();
            self.questions.adapt_sampling(now, rate, sample.sample_shift, &mut self.outbox);
        }

        self.rules.expire_allowed(now, &mut self.outbox);
        self.listeners.exempt_listeners(&self.rules, &self.mandate, &mut self.outbox);
        self.withdraw_harmful_rules(now);
        self.end_quiet_incidents(now);
        self.open_overdue(now);
        self.follow_pressure(now);
        self.report_overload(now);
        self.follow_rolled(now);
        self.follow_host(now);
        self.hinted.follow(now, &self.listeners, &self.mandate);
        self.poll_mitigations(now, elapsed);
        self.carry_out_plan(now);
        self.listeners.count_completing(now, &self.rules, &self.mandate);
        self.alert_news(now);
        self.listeners.clean_half_open(&self.rules, &self.mandate, &mut self.outbox);
        self.questions.ask_for_headers(&mut self.listeners, &mut self.outbox);
        self.questions.ask_for_counts(now, &self.listeners, &mut self.outbox);
        self.questions.ask_for_flows(now, &self.listeners, &mut self.outbox);
    }

    /// Hands their counters to the listeners, of which there may be new ones. `beyond`: the frames that passed unread
    /// lately. Returns the number of SYNs since the last sample.
    fn observe_listeners(&mut self, sample: &Sample, beyond: u64) -> u64 {
        let now = sample.at;
        let (first, restarted) = (self.stack.is_new(), self.stack.restarts(sample));
        if restarted {
            self.listeners.monitors.wake();
        }
        let readings = self.listeners.monitors.follow(sample);
        let around = PollContext {
            at: now,
            elapsed: now.since(self.listeners.now),
            poll: POLL,
            mode: self.mandate.mode,
            queue_drops: Some(0),
            unseen_cookies: self.listeners.unseen_cookies(sample, &self.stack),
            queues: None,
            overflowed: sample.tcp_ext.listen_overflows > self.stack.tcp_ext.listen_overflows,
            queue_full: false,
            sample_shift: sample.sample_shift,
            one_sided: sample.one_sided,
            unread: false,
            answering: false,
            beyond,
        };
        let refusals = self.listeners.refusals(sample, &readings, &self.stack, &self.mandate);
        self.questions.uncounted = refusals.ask_for_count();
        (self.listeners.now, self.listeners.one_sided) = (now, sample.one_sided);
        let (grown, wrong_checksums) = self.stack.take(sample);

        let mut syns = 0;
        self.drop_missing(now, sample);
        let mitigating = self.listeners.mitigated(&self.rules, &self.mandate);
        let settings = &self.mandate.settings;
        for listener in &readings {
            let counted = listener.counters.syn;
            match self.listeners.monitors.get_mut(&listener.id) {
                None => {
                    syns += counted;
                    let mut monitor = self.listeners.new_monitor(listener, settings);
                    if first {
                        self.archive.go_on(now, &mut monitor, &self.rules);
                    }
                    self.listeners.monitors.insert(listener.id, monitor);
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
                    monitor.observe(listener, &around, mitigating, &settings.common);
                }
            }
        }
        self.listeners.monitors.pass(&around, &settings.common);
        syns
    }

    /// The next command, in the order in which they must be executed. The one before has been executed, or its
    /// failure reported.
    pub fn next_command(&mut self) -> Option<Command> {
        if let Some(Start { at, listener, mitigation, alert }) = self.outbox.started() {
            self.record_start(at, listener, mitigation, alert);
        }
        self.outbox.next()
    }

    /// Retransmitted SYNs a second that rules and the SYN rate limit let through to the stack of a listener whose
    /// SYN queue has this limit, where no cookies answer them. It changes with each sample.
    pub fn return_limit(&self, listener: &Listener, backlog: u32) -> u32 {
        retransmit_budget(backlog, self.listeners.completing(listener))
    }

    /// Returns whether the configuration forbids a mitigation at a listener.
    pub fn bars(&self, listener: Listener, mitigation: Mitigation) -> bool {
        self.mandate.settings.barred(listener).contains(&mitigation)
    }

    /// The action on a rule match.
    pub fn mode(&self) -> Mode {
        self.mandate.mode
    }

    /// Takes over headers of SYNs that arrived since the last poll, each with the listener that it
    /// was for, as asked for by [`Command::SampleSyns`].
    pub fn handle_headers(&mut self, headers: impl IntoIterator<Item = (ListenerId, SynHeader)>) {
        for (id, header) in headers {
            if let Some(incident) = self.listeners.incident_at(id)
                && header.at >= incident.started()
            {
                incident.record().keep_header(header);
            }
        }
    }

    /// Has headers of the SYNs to every listener kept, or only for incidents again.
    pub const fn sample_all(&mut self, all: bool) {
        self.questions.sample_all = all;
    }

    /// Takes over the routes of replies to sources from the kernel, as asked for by
    /// [`crate::Command::LookUpRoutes`].
    pub fn handle_routes(&mut self, now: Timestamp, answers: &[(RouteQuestion, Route)]) {
        let mut by_listener = BTreeMap::<ListenerId, Vec<(RouteQuestion, Route)>>::new();
        for answer in answers {
            by_listener.entry(answer.0.listener).or_default().push(*answer);
        }
        for (id, answers) in by_listener {
            if let Some(monitor) = self.listeners.monitors.get_mut(&id) {
                monitor.learn_routes(now, &answers);
            }
        }
    }

    /// The hints of other hosts that hold, with their effect here.
    pub fn hints(&self) -> impl Iterator<Item = HintReport> {
        self.hinted.report(&self.listeners)
    }
}
