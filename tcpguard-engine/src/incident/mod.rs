//! An open incident: its evidence, the actions for it, and the alerts about it.

mod declined;
mod event;
mod facts;
mod news;
mod record;
mod report;
mod restraint;
mod retention;

use std::collections::BTreeMap;
use std::time::Duration;

use tcpguard_common::abi::{Fingerprint, Mask};

use self::declined::Declined;
use self::news::Notified;
use crate::evidence::{
    Assessment, Candidate, Evidence, Failing, INDICATORS_DROP, IncidentClass, Measured,
    VerdictLine, Victims,
};
use crate::input::{Listener, ListenerId, Matcher, Mitigation, RuleReason, Timestamp};
use crate::listener::{Admitted, Moment, Rates, Signal, Steady, Sums, Tick};
use crate::rules::{RemovalReason, RuleReport, Wanted};
use crate::settings::Limits;
pub(crate) use declined::Instead;
pub use event::{Event, Fallback, NamedRule, Restored, RuleObstacle, RuleTerms, Target};
pub use facts::{EndFacts, EndReason, IncidentFacts};
pub use record::{FirstVerdict, PendingClass, Record, RemovedRule, RuleRecord};
pub use report::{ActionReport, IncidentCounts, IncidentReport, QuietReport};
pub(crate) use restraint::without_rule;
pub use restraint::{Restraint, RestraintReason};
pub use retention::{Worth, retained};

/// Refinements that must agree on another class before the first change.
const FIRST_REQUIRED: u32 = 2;

/// Time for which the class that an earlier run found stays. After a start no flow is older than a client's first
/// retransmission (1 s, RFC 6298 §2.1), so a mimicking flood would pass for a broken path.
const RELEARNING: Duration = Duration::from_secs(5);

/// An incident that is open.
#[derive(Clone, Debug)]
pub(crate) struct Incident {
    id: u64,
    listener_id: ListenerId,
    listener: Listener,
    /// Number of listeners that it is about.
    listeners: u32,
    class: IncidentClass,
    /// Pending class of the last refinements, and the number of refinements that found it.
    doubt: Option<(IncidentClass, u32)>,
    /// Number of refinements that must agree.
    required_agreements: u32,
    /// Time from which another class may be found.
    judged_from: Timestamp,
    /// True if the verdict so far holds only until more evidence is there.
    provisional: bool,
    signal: Signal,
    started: Timestamp,
    detected: Timestamp,
    evidence: Evidence,
    /// The signature that is a tool's by the evidence of this host alone.
    tool: Option<Candidate>,
    /// Local addresses of the failed flows at the last inspection.
    victims: Victims,
    record: Box<Record>,
    counts: IncidentCounts,
    /// Time of its counts, which leaves out that without an agent.
    counted: Duration,
    /// Counts since it was last seen, which are not its own if it is over.
    tail: Sums,
    baseline_completed: Option<f64>,
    steady: Steady,
    rate: f64,
    /// SYNs a second dropped, where it concerns the whole host.
    stopped: f64,
    peak: f64,
    sources: u64,
    actions: Vec<ActionReport>,
    wanted: Vec<Wanted>,
    /// Fingerprints of the clients that completed a handshake since it began.
    pub admitted: Admitted,
    declined: Declined,
    /// Reasons that rules are no longer asked for, kept until the plan has taken note.
    pub removal_reasons: BTreeMap<Matcher, RemovalReason>,
    notified: Notified,
}

/// Data of an incident at its opening.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub id: u64,
    pub listener_id: ListenerId,
    pub listener: Listener,
    pub signal: Signal,
    /// The numbers of the alarm.
    pub alarm: Vec<Measured>,
    /// Rates of the time before it began.
    pub before: Option<Rates>,
    /// Counters and signals at the alarm.
    pub moment: Option<Moment>,
    pub started: Timestamp,
    pub detected: Timestamp,
    pub counts: IncidentCounts,
    /// Baseline of completed handshakes a second.
    pub baseline_completed: Option<f64>,
    pub syn_rate: f64,
}

impl Incident {
    pub fn open(now: Timestamp, opening: Opening, assessment: &Assessment) -> Self {
        let class = assessment.class;
        let held = assessment.evidence.indicators.iter().filter(|one| one.holds);
        let first = FirstVerdict { at: now, class, indicators: held.map(|one| one.name).collect() };
        let mut record = Record::new(opening.alarm, opening.before, opening.moment, first);
        record.at_last = assessment.moment;
        record.lines.clone_from(&assessment.lines);
        Self {
            record: Box::new(record),
            id: opening.id,
            listener_id: opening.listener_id,
            listener: opening.listener,
            listeners: u32::from(opening.listener_id != ListenerId::HOST),
            class,
            doubt: None,
            required_agreements: FIRST_REQUIRED,
            judged_from: now,
            provisional: assessment.provisional,
            signal: opening.signal,
            started: opening.started,
            detected: opening.detected,
            evidence: assessment.evidence.clone(),
            tool: tool(assessment),
            victims: assessment.victims.clone(),
            counts: opening.counts,
            counted: now.since(opening.started),
            tail: Sums::default(),
            baseline_completed: opening.baseline_completed,
            steady: Steady::default(),
            rate: opening.syn_rate,
            stopped: 0.0,
            peak: opening.syn_rate,
            sources: assessment.evidence.sources_estimate,
            actions: Vec::new(),
            wanted: Vec::new(),
            admitted: Admitted::default(),
            declined: Declined::default(),
            removal_reasons: BTreeMap::new(),
            notified: Notified {
                unreported: false,
                at: now,
                class,
                rate: opening.syn_rate,
                actions: 0,
            },
        }
    }

    /// Resumes an incident that an earlier run left open, at the listener that has number `listener_id` now.
    /// Returns `None` where it is of no signal that this version knows.
    pub fn resume(
        now: Timestamp,
        listener_id: ListenerId,
        report: &IncidentReport,
    ) -> Option<Self> {
        let mut record = report.record.clone();
        // The rules that still act are added again whenever it is reported.
        record.rules.retain(|rule| rule.ended_at.is_some());
        (record.doubt, record.after, record.removed) = (None, None, None);
        let opening = Opening {
            id: report.id,
            listener_id,
            listener: report.listener,
            signal: report.signal,
            alarm: record.alarm.clone(),
            before: record.before,
            moment: record.at_alarm,
            started: report.started,
            detected: report.detected,
            counts: report.counts,
            baseline_completed: report.baseline_completed_rate,
            syn_rate: report.syn_rate,
        };
        let line = VerdictLine::earlier(report.class);
        let verdict = Assessment::of_counters(line, report.evidence.clone());
        let opened = Self::open(now, opening, &verdict);
        let mut resumed = Self {
            record,
            judged_from: now + RELEARNING,
            counted: report.counted,
            peak: report.peak_syn_rate,
            actions: report.actions.clone(),
            notified: Notified { actions: report.actions.len() + 1, ..opened.notified },
            ..opened
        };
        resumed.actions.push(ActionReport { at: now, action: Event::AgentRestarted });
        resumed.actions.truncate(Limits::ACTIONS);
        Some(resumed)
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn class(&self) -> IncidentClass {
        self.class
    }

    /// Its listener, or the host.
    pub fn listener_id(&self) -> ListenerId {
        self.listener_id
    }

    /// The signature that is a tool's by the evidence of this host alone, at the last inspection.
    pub fn tool(&self) -> Option<&Candidate> {
        self.tool.as_ref()
    }

    /// Local addresses of the failed flows at the last inspection.
    pub fn victims(&self) -> &Victims {
        &self.victims
    }

    /// The record that is kept beside its evidence.
    pub fn record(&mut self) -> &mut Record {
        &mut self.record
    }

    pub fn signal(&self) -> Signal {
        self.signal
    }

    pub fn detected(&self) -> Timestamp {
        self.detected
    }

    pub fn started(&self) -> Timestamp {
        self.started
    }

    pub fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }

    /// Adds SYNs that belong to no listener.
    pub fn count_syns(&mut self, syns: u64) {
        self.counts.syns += syns;
    }

    /// Raises the number of its SYNs to at least `syns`.
    pub fn raise_syns(&mut self, syns: u64) {
        self.counts.syns = self.counts.syns.max(syns);
    }

    /// Sets the listener that it is about, once that is known better.
    pub fn set_listener(&mut self, listener: Listener) {
        self.listener = listener;
    }

    /// Sets the number of listeners that it is about.
    pub fn set_listeners(&mut self, listeners: usize) {
        self.listeners = u32::try_from(listeners).unwrap_or(u32::MAX);
    }

    /// Adds a tick's counts.
    pub fn count(&mut self, tick: &Tick) {
        self.counts.syns += tick.syns;
        self.counts.matched += tick.matched;
        self.counts.dropped += tick.dropped;
        self.counts.cookies_sent += tick.cookies_sent;
        self.counts.cookies_redeemed += tick.cookies_redeemed;
        self.counts.completed += tick.established;
        self.counted += tick.span;
        self.tail += tick;
        self.tail.span += tick.span;
        match self.class {
            IncidentClass::HandshakeDegraded => self.steady.add(tick),
            _ => self.steady = Steady::default(),
        }
    }

    /// The share that has failed evenly for long, once it has.
    pub fn take_steady(&mut self) -> Option<f64> {
        let share = self.steady.share()?;
        self.steady = Steady::default();
        Some(share)
    }

    /// Notes the rate over the last second.
    pub fn note_rate(&mut self, syn_rate: f64) {
        self.rate = syn_rate;
        self.peak = self.peak.max(syn_rate);
    }

    /// Notes how many SYNs were dropped over the last second, where that stands at no listener.
    pub fn note_stopped(&mut self, rate: f64) {
        self.stopped = rate;
    }

    /// Takes over newer evidence. The class changes when two refinements running say the same other
    /// one, and each further change needs twice as many: a verdict settles. A provisional one gives way
    /// at once, and takes nothing back. An attack that turns out to be none loses its rules.
    pub fn refine(&mut self, now: Timestamp, assessment: &Assessment) {
        self.declined.expire(now);
        self.sources = self.sources.max(assessment.evidence.sources_estimate);
        self.evidence = Evidence { sources_estimate: self.sources, ..assessment.evidence.clone() };
        self.tool = tool(assessment);
        self.victims.clone_from(&assessment.victims);
        self.record.at_last = assessment.moment;
        self.record.lines.clone_from(&assessment.lines);
        let stays = now < self.judged_from || assessment.provisional && self.class.is_flood();
        let class = if stays { self.class } else { assessment.class };
        let agreed = match self.doubt {
            _ if class == self.class => 0,
            Some((other, times)) if other == class => times + 1,
            _ => 1,
        };
        self.doubt = (agreed > 0).then_some((class, agreed));
        let settled = !std::mem::replace(&mut self.provisional, assessment.provisional);
        if agreed >= if settled { self.required_agreements } else { 1 } {
            self.doubt = None;
            if settled {
                self.required_agreements = self.required_agreements.saturating_mul(2);
            }
            self.class = class;
            self.note(now, Event::ClassChanged { class });
            if !class.is_flood() {
                self.release_rules(&RemovalReason::NoAttack);
            }
        }
    }

    /// Records why no rule, and no mitigation beside rules, is asked for at the moment.
    pub fn note_restraint(&mut self, no_rule: Option<Restraint>, no_mitigation: Option<Restraint>) {
        (self.record.no_rule, self.record.no_mitigation) = (no_rule, no_mitigation);
    }

    /// Remembers a rule of it that has ended.
    pub fn keep_rule(&mut self, now: Timestamp, rule: RuleReport) {
        self.record.keep_rule(rule, Some(now));
    }

    /// Records that a mitigation was started for its listener.
    pub fn record_mitigation(&mut self, mitigation: Mitigation) {
        if !self.record.mitigations.contains(&mitigation) {
            self.record.mitigations.push(mitigation);
        }
    }

    /// Sets the counts since it was last seen, as far as the window reaches back.
    pub fn set_tail(&mut self, tail: Sums) {
        self.tail = tail;
    }

    /// Leaves out the counts since it was last seen.
    pub fn cut_tail(&mut self) {
        let tail = std::mem::take(&mut self.tail);
        self.counted = self.counted.saturating_sub(tail.span);
        let counts = &mut self.counts;
        for (count, tail) in [
            (&mut counts.syns, tail.syns),
            (&mut counts.matched, tail.matched),
            (&mut counts.dropped, tail.dropped),
            (&mut counts.cookies_sent, tail.cookies_sent),
            (&mut counts.cookies_redeemed, tail.cookies_redeemed),
            (&mut counts.completed, tail.established),
        ] {
            *count = count.saturating_sub(tail);
        }
    }

    /// Remembers the counts of its last seconds.
    pub fn keep_end(&mut self, after: Sums) {
        self.record.after = Some(after.into());
    }

    /// Adds an event to the list of actions, unless it stands there already.
    pub fn note(&mut self, now: Timestamp, action: Event) {
        let known = self.actions.iter().any(|known| known.action == action);
        if !known && self.actions.len() < Limits::ACTIONS {
            self.actions.push(ActionReport { at: now, action });
        }
    }

    /// Adds an event to the list of actions that an operator knows of, though it may stand there already.
    pub fn mark(&mut self, now: Timestamp, action: Event) {
        if self.actions.len() < Limits::ACTIONS {
            let all_notified = self.notified.actions == self.actions.len();
            self.actions.push(ActionReport { at: now, action });
            self.notified.actions += usize::from(all_notified);
        }
    }

    /// Asks for a rule.
    pub fn want(&mut self, matcher: Matcher, reason: RuleReason, ttl: Duration) {
        self.removal_reasons.remove(&matcher);
        self.wanted.push(Wanted { matcher, incident: self.id, reason, ttl });
    }

    /// Asks no more for the rules beyond the first `kept`: they are not in the kernel yet.
    pub fn take_wanted(&mut self, kept: usize) -> Vec<Wanted> {
        self.wanted.split_off(kept.min(self.wanted.len()))
    }

    /// Returns whether a rule is asked for already.
    pub fn wants(&self, matcher: &Matcher) -> bool {
        self.wanted.iter().any(|wanted| wanted.matcher == *matcher)
    }

    /// Asks for a rule no longer; it may be asked for again.
    pub fn forget(&mut self, matcher: &Matcher, why: RemovalReason) {
        if self.wants(matcher) {
            self.wanted.retain(|wanted| wanted.matcher != *matcher);
            self.removal_reasons.insert(*matcher, why);
        }
    }

    /// Asks for a rule no longer, and never again in this incident.
    pub fn refuse(&mut self, matcher: &Matcher, why: RemovalReason) {
        self.forget(matcher, why);
        self.declined.refuse(*matcher, Timestamp::MAX);
    }

    /// No longer asks for a rule that an operator removed, until the removal expires or the operator leaves
    /// the rule to the agent again. An operator's word ends a rule, not the defence against the attack.
    pub fn give_up(&mut self, matcher: &Matcher, removed: RemovedRule) {
        self.forget(matcher, RemovalReason::Operator);
        self.declined.give_up(*matcher, removed);
    }

    /// Allows requests for the rules that an operator removed, of one mitigation or of any. Returns these
    /// rules.
    pub fn take_up(&mut self, mitigation: Option<Mitigation>) -> Vec<Matcher> {
        self.declined.take_up(mitigation)
    }

    /// No longer asks for a rule that drops the SYNs of clients, until [`Self::reclaim`].
    pub fn yield_to(&mut self, instead: Instead, matcher: &Matcher, why: RemovalReason) {
        let wanted = self.wanted.iter().find(|wanted| wanted.matcher == *matcher).cloned();
        if let Some(wanted) = wanted {
            self.forget(matcher, why);
            self.declined.yield_to(instead, wanted);
        }
    }

    /// Asks again for the rules that had been replaced by cookies, because cookies no longer replace them.
    /// Where SYNs are left `unanswered`, this includes the rules that had been withdrawn without a replacement.
    pub fn reclaim(&mut self, unanswered: bool) {
        for wanted in self.declined.reclaim(unanswered) {
            self.want(wanted.matcher, wanted.reason, wanted.ttl);
        }
    }

    /// Stops asking for a rule that the kernel did not take, before `until`.
    pub fn postpone(&mut self, matcher: &Matcher, until: Timestamp) {
        self.wanted.retain(|wanted| wanted.matcher != *matcher);
        self.declined.refuse(*matcher, until);
    }

    /// Returns whether a rule, or one that it would include, has been refused.
    pub fn has_refused(&self, now: Timestamp, matcher: &Matcher) -> bool {
        self.declined.has(now, matcher)
    }

    /// Returns the removed rule, where an operator removed this rule or one that it would include.
    pub fn has_removed(&self, now: Timestamp, matcher: &Matcher) -> Option<&RemovedRule> {
        self.declined.has_removed(now, matcher)
    }

    /// Releases all rules, and those that made way for clients.
    pub fn release_rules(&mut self, why: &RemovalReason) {
        self.release(why, |_| true);
    }

    /// Releases the rules of one mitigation, and those that made way for clients.
    pub fn release_mitigation(&mut self, mitigation: Mitigation, why: &RemovalReason) {
        self.release(why, |matcher| matcher.mitigation() == mitigation);
    }

    fn release(&mut self, why: &RemovalReason, which: impl Fn(&Matcher) -> bool) {
        let wanted = std::mem::take(&mut self.wanted).into_iter();
        let (released, kept): (Vec<Wanted>, Vec<Wanted>) =
            wanted.partition(|wanted| which(&wanted.matcher));
        self.wanted = kept;
        for wanted in released {
            self.removal_reasons.insert(wanted.matcher, why.clone());
        }
        self.declined.refuse_for_good(which);
    }

    /// Returns the signatures that are dropped for it at its listener, or for an incident of the host at every one.
    pub fn signatures(&self) -> impl Iterator<Item = (Mask, Fingerprint)> {
        self.wanted.iter().filter_map(|wanted| match wanted.matcher {
            Matcher::Signature { listener, mask, fingerprint } if listener == self.listener_id => {
                Some((mask, fingerprint))
            }
            _ => None,
        })
    }

    /// Returns whether a rule that is asked for covers a flow. One for a single listener, which an incident of the
    /// host may have taken over, says nothing of flows at the others.
    pub fn covers(&self, flow: &Failing) -> bool {
        self.wanted.iter().any(|wanted| match wanted.matcher {
            Matcher::Source(net, _) => net.contains(&flow.addr),
            Matcher::Signature { listener, mask, fingerprint } => {
                listener == self.listener_id && flow.print.masked(mask) == fingerprint
            }
        })
    }

    /// Everything that is known of it, with its rules that are in the kernel now.
    pub fn report(&self, rules: Vec<RuleReport>, ended: Option<Timestamp>) -> IncidentReport {
        let ids = match ended {
            Some(_) => Vec::new(),
            None => rules.iter().map(|rule| rule.id).collect(),
        };
        let mut record = self.record.clone();
        let doubt = |(class, inspections)| PendingClass {
            class,
            inspections,
            needed: self.required_agreements,
        };
        record.doubt = self.doubt.map(doubt);
        let made_up = |removed: &RemovedRule| {
            self.wanted.iter().any(|wanted| wanted.matcher.mitigation() == removed.mitigation)
        };
        let removed = self.declined.removed().filter(|removed| !made_up(removed));
        record.removed = removed.max_by_key(|removed| removed.at).cloned();
        if record.removed.is_some() {
            record.no_rule = Some(RestraintReason::Removed.into());
        }
        for rule in rules {
            record.keep_rule(rule, None);
        }
        IncidentReport {
            record,
            id: self.id,
            listener_id: self.listener_id,
            listener: self.listener,
            listeners: self.listeners,
            class: self.class,
            severity: self.class.severity(),
            started: self.started,
            detected: self.detected,
            ended,
            quiet: None,
            signal: self.signal,
            evidence: self.evidence.clone(),
            counts: self.counts,
            counted: self.counted,
            baseline_completed_rate: self.baseline_completed,
            syn_rate: self.rate,
            stopped_rate: self.stopped,
            peak_syn_rate: self.peak,
            actions: self.actions.clone(),
            rules: ids,
        }
    }
}

/// The signature that may be dropped by the flows of an inspection, without a hint of other hosts.
fn tool(assessment: &Assessment) -> Option<Candidate> {
    assessment.signature.filter(|tool| assessment.gate >= INDICATORS_DROP && tool.may_be_tried())
}
