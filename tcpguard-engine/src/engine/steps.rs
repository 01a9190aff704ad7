//! The mitigations beside rules: choosing those that the situation calls for, starting and stopping them, and
//! withdrawing those that keep clients out.

use std::time::Duration;

use super::Engine;
use super::held_back::idle;
use super::upkeep::{acting_since, active_rules};
use crate::ladder::{Harm, Move, Need, Newest};
use crate::rules::{Book, Entry};
use crate::watch::{PATIENCE, Watch};
use crate::words::{percent, short, span};
use crate::{
    Command, Egress, IncidentClass, Limits, Listener, ListenerId, ListenerKind, ListenerReport,
    Matcher, Mode, Order, RequestError, Response, Settings, Severity, Step, StepReport, StepState,
    Timestamp, User,
};

/// A listener with less than this share of the average rate of flooded listeners does not saturate the host.
const OF_THE_MEAN: f64 = 0.5;
/// Share of the limit for retransmitted SYNs from which cookies answer them. Beyond the limit they are
/// dropped, those of clients too.
const USED: f64 = 0.5;
const SECOND: Duration = Duration::from_secs(1);
/// Mitigations started or stopped in a poll from which the other listeners of those that are reported together wait
/// for the next: for each, all others are asked whether it goes without saying, which at 4,096 is some 10 µs. The
/// agent says by itself when it has no time for more.
const AT_ONCE: usize = 32;

impl Engine {
    /// Starts and stops mitigations, and withdraws those that keep clients out.
    pub(super) fn follow_steps(&mut self, now: Timestamp, elapsed: Duration) {
        self.withdraw_harmful(now, elapsed);
        let overloading = self.overloading();
        let sharing = self.watches.values().filter(|watch| watch.shares_rules()).count().max(1);
        let mut moves = Vec::new();
        let mut hints = Vec::new();
        for watch in self.watches.values_mut() {
            // Each start or stop is some work for the agent, and those of a carpet come all at once.
            if watch.rolled.is_some() && moves.len() >= AT_ONCE {
                continue;
            }
            let ruled = ruled_since(watch, &self.book);
            let (newest, _) = acting_since(watch, &self.book);
            let situation = Situation { now, enforced: self.enforced, overloading, ruled, newest };
            let settings = self.settings.of(watch.listener);
            let mode = self.settings.mode(watch.listener, self.mode);
            let retransmitted = retransmitted(watch, &self.book, sharing, now, settings);
            let mut needs = needs(watch, &situation, retransmitted, settings);
            if mode != Mode::Enforce {
                hints.extend(needs.iter().map(|need| (watch.id, would(need))));
            }
            if mode == Mode::Off {
                needs.clear();
            }
            let guard = self.mode;
            let ended = watch.failing_ended();
            let changes =
                watch.ladder.poll(now, &needs, ended, |step| idle(step, mode, guard), settings);
            moves.extend(changes.into_iter().map(|change| (watch.id, change)));
        }
        for (id, hint) in hints {
            if let Some((incident, hint)) = self.incident_at(id).zip(hint) {
                incident.note(now, hint);
            }
        }
        for (id, change) in moves {
            self.make(now, id, change);
        }
    }

    /// SYNs a second from which a listener saturates the host; `None` while the host is not saturated.
    pub(super) fn overloading(&self) -> Option<f64> {
        let flooded = || self.watches.values().filter(|watch| watch.is_flooded());
        let all: f64 = flooded().map(Watch::syn_rate).sum();
        let mean = all / flooded().count().max(1) as f64;
        self.saturated.then_some(OF_THE_MEAN * mean)
    }

    fn make(&mut self, now: Timestamp, id: ListenerId, change: Move) {
        let (Move::Take { step, .. } | Move::Leave { step, .. }) = &change;
        let is_told = self.goes_without_saying(id, *step);
        let Some(watch) = self.watches.get_mut(&id) else { return };
        // The drop of out-of-state segments beside a flood changes nothing for any client.
        let matters = match &change {
            Move::Take { step, .. } => step.keeps_syns_away() || watch.class().is_none(),
            Move::Leave { step, .. } => step.keeps_syns_away(),
        };
        let listener = match watch.rolled {
            Some(_) => format!("{} and others that are told together", watch.listener),
            None => watch.listener.to_string(),
        };
        let (command, event, text) = match change {
            Move::Take { step, rate, why } => {
                if step.keeps_syns_away() && watch.ladder.since(step) == Some(now) {
                    watch.try_out(now, Newest::Step(step), self.settings.of(watch.listener));
                }
                if let Some(incident) = self.incident_at(id) {
                    incident.keep_step(step);
                }
                let limit = match step {
                    Step::Budget => format!(" to {} a second", short(f64::from(rate))),
                    _ => String::new(),
                };
                let text = format!("{listener}: the guard {}{limit}: {why}", step.in_words());
                (Command::TakeStep { listener: id, step, rate }, "step_taken", text)
            }
            Move::Leave { step, why } => {
                watch.ladder.breaker.forget(&Newest::Step(step));
                watch.ladder.canary.forget(&step);
                let text = format!("{listener}: the guard no longer {}: {why}", step.in_words());
                (Command::LeaveStep { listener: id, step }, "step_left", text)
            }
        };
        self.commands.push_back(command);
        if matters && !is_told {
            self.tell_of_step(now, id, Severity::Notice, event, text);
        }
    }

    /// Withdraws the newest rule or mitigation where fewer clients get in since.
    fn withdraw_harmful(&mut self, now: Timestamp, elapsed: Duration) {
        let harmful: Vec<(ListenerId, Newest, Harm)> = self
            .watches
            .values_mut()
            .filter_map(|watch| {
                let settings = self.settings.of(watch.listener);
                let (newest, harm) = watch.judge_newest(now, elapsed, settings)?;
                Some((watch.id, newest, harm))
            })
            .collect();
        for (id, newest, harm) in harmful {
            match newest {
                Newest::Step(step) => self.withdraw_step(now, id, step, &harm),
                Newest::Rule(matcher) => self.withdraw_rule(now, id, &matcher, &harm.to_string()),
            }
        }
    }

    fn withdraw_step(&mut self, now: Timestamp, id: ListenerId, step: Step, harm: &Harm) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        let (listener, settings) = (watch.listener, &self.settings.common);
        let again = match harm.is_lasting() {
            true => format!(
                "it is not tried again until the firewall or the configuration changes, or: tcpguard \
                 step {listener} {} auto",
                step.name()
            ),
            false => format!("it is tried again in {}", span(watch.ladder.pause(step, settings))),
        };
        let why = harm.to_string();
        let text = format!("{listener}: the guard no longer {}: {why}; {again}", step.in_words());
        let taken = match harm.is_lasting() {
            true => watch.ladder.withhold(step, &why),
            false => watch.ladder.refuse(now, step, &why, settings),
        };
        if taken {
            self.commands.push_back(Command::LeaveStep { listener: id, step });
            self.tell_of_step(now, id, Severity::Warning, "step_withdrawn", text);
        }
    }

    fn withdraw_rule(&mut self, now: Timestamp, id: ListenerId, matcher: &Matcher, why: &str) {
        let Some(rule) = self.book.find(matcher).map(|entry| entry.rule.id) else { return };
        let retry = self.settings.common.step_retry;
        self.postpone(matcher, now + retry, why);
        let pause = span(retry);
        let text = format!("rule {} withdrawn: {why}; it may come again in {pause}", rule.0);
        self.note_at(now, id, text.clone());
        let incident = self.incident_at(id).map(|incident| incident.id());
        self.tell_of_rule(Severity::Warning, "rule_withdrawn", text, matcher.prefix(), incident);
    }

    /// Says that a mitigation could not be started and that nothing of it is in the kernel. It is tried again
    /// after a minute, later each time, or when an operator asks. Where the reason may be gone `soon`, it is
    /// tried again after a second, without an alert.
    pub fn step_failed(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        step: Step,
        why: &str,
        soon: bool,
    ) {
        let is_told = self.failed_before(now, id, step, soon);
        let Some(watch) = self.watches.get_mut(&id) else { return };
        if soon {
            watch.ladder.defer(now, step, why, &self.settings.common);
            let text = format!("{}: no {} yet: {why}", watch.listener, step.name());
            if !is_told {
                self.note_at(now, id, text);
            }
            return;
        }
        let pause = span(watch.ladder.pause(step, &self.settings.common));
        watch.ladder.refuse(now, step, why, &self.settings.common);
        let text =
            format!("{}: no {}: {why}; it is tried again in {pause}", watch.listener, step.name());
        if !is_told {
            self.tell_of_step(now, id, Severity::Warning, "step_failed", text);
        }
    }

    /// Whether a mitigation is refused anywhere: then a change of the possible reasons for a refusal matters.
    pub fn refuses_step(&self, now: Timestamp, step: Step) -> bool {
        let is_refused =
            |report: StepReport| report.step == step && report.state == StepState::Refused;
        self.watches.values().any(|watch| watch.ladder.report(now).any(is_refused))
    }

    /// Notes that a cause for which a mitigation can be refused has changed on the host. Where the mitigation was
    /// withheld until something changes, it may be tried again: the first time at once, and later each time after a
    /// longer pause. At the `freed` listeners the obstacle is gone: it is tried at once.
    pub fn reconsider_step(&mut self, now: Timestamp, step: Step, freed: &[ListenerId]) {
        for watch in self.watches.values_mut() {
            let freed = freed.contains(&watch.id);
            watch.ladder.reconsider(now, step, freed, &self.settings.common);
        }
    }

    /// Takes over a mitigation that an earlier run left in the kernel, so that a restart under attack opens no gap.
    /// Called after the first sample's listeners are known.
    pub fn adopt_step(&mut self, now: Timestamp, id: ListenerId, step: Step, rate: u32) {
        self.inherited.push((now, id, step, rate));
    }

    /// Gives the mitigations of an earlier run to their listeners.
    pub(super) fn settle_steps(&mut self) {
        for (at, id, step, rate) in std::mem::take(&mut self.inherited) {
            match self.watches.get_mut(&id) {
                Some(watch) => watch.ladder.adopt(at, step, rate, self.settings.common.quiet),
                None => self.commands.push_back(Command::LeaveStep { listener: id, step }),
            }
        }
    }

    /// An operator orders a mitigation, forbids it, or leaves it to the agent again.
    pub(super) fn order_step(
        &mut self,
        now: Timestamp,
        listener: Listener,
        step: Step,
        order: Order,
        lifetime: Duration,
        uid: u32,
    ) -> Result<Response, RequestError> {
        if step.is_done_by_rules() && order == Order::On {
            return Err(RequestError::DoneByRules { step });
        }
        let found = self.watches.values_mut().find(|watch| watch.listener == listener);
        let watch = found.ok_or(RequestError::NoListener { listener })?;
        let id = watch.id;
        let lifetime = lifetime.min(Limits::MAX_ORDER);
        watch.ladder.order(step, order, uid, now + lifetime);
        let user = User(uid);
        let text = match order {
            Order::On => format!("{user} takes {} for {}", step.name(), span(lifetime)),
            Order::Off => format!("{user} forbids {} for {}", step.name(), span(lifetime)),
            Order::Auto => format!("{user} leaves {} to the guard", step.name()),
        };
        if order == Order::Auto {
            watch.take_up(now + self.settings.common.armed, Some(step));
        }
        let text = format!("{listener}: {text}");
        self.tell_of_step(now, id, Severity::Notice, "step_ordered", text);
        if order == Order::Off && step.is_done_by_rules() {
            self.release_forbidden(now, id, step);
        }
        self.follow_steps(now, Duration::ZERO);
        let report = self.report_of(id).ok_or(RequestError::NoListener { listener })?;
        Ok(Response::StepOrdered(Box::new(report)))
    }

    /// One listener, as [`Engine::report`] says it.
    pub fn listener(&self, listener: &Listener) -> Option<ListenerReport> {
        let id = self.watches.values().find(|watch| watch.listener == *listener)?.id;
        self.report_of(id)
    }

    /// Takes back the automatic rules of a kind that an operator forbids at a listener.
    fn release_forbidden(&mut self, now: Timestamp, id: ListenerId, step: Step) {
        let own = self.watches.get_mut(&id).and_then(|watch| watch.incident.as_deref_mut());
        // A rule for every listener is one for this, too.
        let all = self.rolled.as_mut().map(|rolled| &mut rolled.incident);
        for incident in own.into_iter().chain(all) {
            incident.release_step(step, "an operator forbids it");
        }
        self.carry_out_plan(now);
    }

    fn note_at(&mut self, now: Timestamp, id: ListenerId, text: String) {
        if let Some(incident) = self.incident_at(id) {
            incident.note(now, text);
            incident.actions_told();
        }
    }

    fn tell_of_step(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        severity: Severity,
        event: &'static str,
        message: String,
    ) {
        self.note_at(now, id, message.clone());
        let incident = self.report_at(id).map(Box::new);
        self.commands.push_back(Command::Alert {
            severity,
            event,
            message,
            prefix: None,
            incident,
        });
    }
}

/// Conditions of mitigations beside the listener.
struct Situation {
    now: Timestamp,
    /// Time since which the agent may act.
    enforced: Timestamp,
    /// SYNs a second from which a listener saturates the host, while more arrive than it can answer.
    overloading: Option<f64>,
    /// Time since which the listener's rules have acted.
    ruled: Option<Timestamp>,
    /// Time since which the newest of these rules has acted.
    newest: Option<Timestamp>,
}

/// Returns the time since which rules have acted for a listener. The oldest one counts, since the next one is
/// no reason to wait anew.
pub(super) fn ruled_since(watch: &Watch, book: &Book) -> Option<Timestamp> {
    active_rules(watch, book).map(|entry| entry.rule.created).min()
}

/// Returns the reason that cookies should answer the retransmitted SYNs that a listener's rules let pass: new
/// clients are among them, or they are so many that the stack takes only a part. An attacker can retransmit
/// at will, but cookies harm no client. The rules for every listener are shared by `sharing` listeners.
fn retransmitted(
    watch: &Watch,
    book: &Book,
    sharing: usize,
    now: Timestamp,
    settings: &Settings,
) -> Option<&'static str> {
    if active_rules(watch, book).any(|entry| entry.hits_clients(now, settings)) {
        return Some("clients look like the SYNs that a rule drops");
    }
    let returning = |entry: &Entry| match entry.is_shared() {
        true => entry.meter.returning(now) / sharing as f64,
        false => entry.meter.returning(now),
    };
    let passed: f64 = active_rules(watch, book).map(returning).sum();
    let backlog = watch.queues.map_or(0, |queues| queues.backlog);
    let many = passed >= USED * f64::from(settings.budget(backlog));
    many.then_some("many SYNs are retransmitted, and the SYN queue takes only a part of them")
}

/// Returns the mitigations that a listener's situation calls for. `retransmitted` is the reason that SYNs
/// that a rule matches call for cookies when they are retransmitted.
fn needs(
    watch: &Watch,
    around: &Situation,
    retransmitted: Option<&'static str>,
    settings: &Settings,
) -> Vec<Need> {
    let now = around.now;
    let hold = settings.quiet;
    let mut needs = Vec::new();
    let flood = watch.alarmed().filter(|_| watch.is_flooded());
    let last = watch.window.last(SECOND);
    let resets = last.per_second(last.resets);
    if watch.kind == ListenerKind::Local && (flood.is_some() || resets >= settings.stray_rate) {
        let why = match flood {
            Some(_) => "an attack may bring them".to_owned(),
            None => format!("{} resets a second answer such segments", short(resets)),
        };
        needs.push(Need { step: Step::Strays, why, rate: 0, hold });
    }
    let rest = watch.rest.filter(|rest| rest.matters(settings));
    let uncovered =
        rest.map(|rest| format!("no rule covers {} of the failing SYNs", percent(rest.share)));
    let why = uncovered.or(retransmitted.map(str::to_owned)).filter(|_| flood.is_some());
    let why = why.or_else(|| watch.resembles_the_flood().map(str::to_owned));
    let pressed = watch.pressed(now, around.ruled, settings);
    let why = why.or(pressed.map(str::to_owned));
    // How a listener answers is learned from its answers.
    let is_known = watch.kind == ListenerKind::Local && watch.egress() != Egress::Unseen;
    if let Some(why) = why.filter(|_| is_known) {
        needs.push(Need { step: Step::Cookies, why, rate: 0, hold });
    }
    if !watch.handshakes_failed() {
        return needs;
    }
    // A mitigation that keeps clients waiting starts against a flood only, for the SYNs that the newest rule
    // leaves. It stops when the queue has free slots again, or rules drop the SYNs that filled it. A verdict
    // that changes meanwhile does not stop it.
    let has = |step| watch.ladder.has(step);
    let newest = around.newest.unwrap_or_default();
    // A flood that retransmits passes the first-SYN drop. None of its first SYNs is left unanswered then.
    let passes = has(Step::Overload) && watch.is_nearly_full(now, settings);
    let full = (watch.is_unanswered(now, newest, settings) || passes) && !has(Step::Cookies);
    let begins = flood.is_some_and(|alarmed| {
        let patient = now.since(alarmed.max(around.enforced)) >= PATIENCE;
        patient && (rest.is_some() || pressed.is_some())
    });
    let fails = watch.quiet(now) < PATIENCE && watch.still_fails(now, newest, settings);
    let goes_on = |step| has(step) && !has(Step::Cookies);
    let saturates = around.overloading.is_some_and(|least| watch.syn_rate() >= least);
    if saturates && flood.is_some() && rest.is_some() {
        let why = "more SYNs arrive than can be answered".to_owned();
        // That has a hold of its own, and every new client waits for a second meanwhile.
        needs.push(Need { step: Step::Overload, why, rate: 0, hold: Duration::ZERO });
    } else if full && begins
        || goes_on(Step::Overload) && (fails || watch.is_half_full(now, settings))
    {
        let why = "the SYN queue is full, and cookies are not to be had".to_owned();
        needs.push(Need { step: Step::Overload, why, rate: 0, hold: PATIENCE });
    }
    // There is no use in waiting for a barred mitigation.
    let tried = match watch.ladder.bars(Step::Overload) {
        true => needs.iter().any(|need| need.step == Step::Overload),
        false => watch.ladder.lasts(Step::Overload, now).is_some_and(|lasts| lasts >= PATIENCE),
    };
    let rate = settings.budget(watch.queues.map_or(0, |queues| queues.backlog));
    let is_of_use = fails && watch.takes_budget(rate) || watch.is_nearly_full(now, settings);
    if tried && full || goes_on(Step::Budget) && is_of_use {
        let why = "the SYN queue still fills".to_owned();
        needs.push(Need { step: Step::Budget, why, rate, hold: PATIENCE });
    }
    needs
}

/// Returns the reason that no mitigation that keeps SYNs away is started against an incident of this class,
/// where one can be given. Rules have acted since `ruled`. `idle` is the reason that the agent starts no
/// mitigation there at all.
pub(super) fn without_step(
    class: IncidentClass,
    watch: &Watch,
    now: Timestamp,
    ruled: Option<Timestamp>,
    idle: Option<&str>,
    settings: &Settings,
) -> Option<String> {
    if watch.ladder.keeps_syns_away() {
        return None;
    }
    let rest = watch.rest?;
    if watch.pressed(now, ruled, settings).is_none() {
        if !class.is_flood() {
            return None;
        }
        if !rest.matters(settings) {
            return Some(format!(
                "no rule covers {} of the followed SYNs that fail ({}); {} and {} call for cookies",
                short(rest.flows as f64),
                percent(rest.share),
                settings.rest_flows,
                percent(settings.rest_share),
            ));
        }
    }
    if let Some(idle) = idle {
        return Some(idle.to_owned());
    }
    if watch.kind != ListenerKind::Local {
        return Some("cookies are for listeners of this host only".to_owned());
    }
    let mut refused = watch.ladder.report(now).filter(|report| report.step.keeps_syns_away());
    refused.next().map(|report| format!("no {}: {}", report.step.name(), report.why))
}

/// The effect in enforce mode, for the list of actions.
fn would(need: &Need) -> Option<String> {
    let would = match need.step {
        Step::Cookies => "answer SYNs with cookies",
        Step::Overload => "let only validated clients and repeated SYNs through",
        Step::Budget => "limit the SYNs of clients that are not validated",
        Step::Strays | Step::Source | Step::Signature => return None,
    };
    Some(format!("in enforce mode the guard would {would}: {}", need.why))
}
