//! An open incident: what is known of it, what was done, what was told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tcpguard_common::fastpath::{Fingerprint, Mask};

use crate::evidence::{Assessment, Failing};
use crate::rules::Wanted;
use crate::signal::Signal;
use crate::window::Tick;
use crate::{
    ActionReport, Evidence, IncidentClass, IncidentReport, Limits, Listener, ListenerId, Matcher,
    RuleId, Severity, Timestamp,
};

/// News of an incident are at least this far apart, unless they are big.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// A rate that has grown by this factor is told at once.
const TELL_GROWTH: f64 = 4.0;

/// An incident that is open.
#[derive(Clone, Debug)]
pub(crate) struct Incident {
    id: u64,
    listener_id: ListenerId,
    listener: Listener,
    class: IncidentClass,
    /// What the last refinement said instead.
    doubt: Option<IncidentClass>,
    signal: Signal,
    started: Timestamp,
    detected: Timestamp,
    confidence: f64,
    evidence: Evidence,
    syns: u64,
    matched: u64,
    dropped: u64,
    peak: f64,
    sources: u64,
    actions: Vec<ActionReport>,
    wanted: Vec<Wanted>,
    refused: BTreeSet<Matcher>,
    /// Why rules are no longer asked for, until the plan has taken note.
    pub farewells: BTreeMap<Matcher, String>,
    told: Told,
}

/// What people have been told.
#[derive(Clone, Copy, Debug)]
struct Told {
    at: Timestamp,
    class: IncidentClass,
    rate: f64,
    actions: usize,
}

/// What is known when an incident is opened.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub id: u64,
    pub listener_id: ListenerId,
    pub listener: Listener,
    pub signal: Signal,
    pub started: Timestamp,
    pub detected: Timestamp,
    pub syns: u64,
    pub matched: u64,
    pub dropped: u64,
    pub syn_rate: f64,
}

impl Incident {
    pub fn open(now: Timestamp, opening: Opening, assessment: &Assessment) -> Self {
        let class = assessment.class;
        Self {
            id: opening.id,
            listener_id: opening.listener_id,
            listener: opening.listener,
            class,
            doubt: None,
            signal: opening.signal,
            started: opening.started,
            detected: opening.detected,
            confidence: assessment.confidence(),
            evidence: assessment.evidence.clone(),
            syns: opening.syns,
            matched: opening.matched,
            dropped: opening.dropped,
            peak: opening.syn_rate,
            sources: assessment.evidence.sources_estimate,
            actions: Vec::new(),
            wanted: Vec::new(),
            refused: BTreeSet::new(),
            farewells: BTreeMap::new(),
            told: Told { at: now, class, rate: opening.syn_rate, actions: 0 },
        }
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn class(&self) -> IncidentClass {
        self.class
    }

    pub fn is_attack(&self) -> bool {
        self.class != IncidentClass::HandshakeDegraded
    }

    pub fn severity(&self) -> Severity {
        if self.is_attack() { Severity::Critical } else { Severity::Warning }
    }

    pub fn detected(&self) -> Timestamp {
        self.detected
    }

    pub fn started(&self) -> Timestamp {
        self.started
    }

    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    pub fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }

    /// Adds a tick's counts.
    pub fn count(&mut self, tick: &Tick) {
        self.syns += tick.syns;
        self.matched += tick.matched;
        self.dropped += tick.dropped;
    }

    /// Notes the rate over the last second.
    pub fn note_rate(&mut self, syn_rate: f64) {
        self.peak = self.peak.max(syn_rate);
    }

    /// Takes over newer evidence. The class changes when two refinements running say the same other
    /// one; an attack that turns out to be none loses its rules.
    pub fn refine(&mut self, now: Timestamp, assessment: &Assessment) {
        self.sources = self.sources.max(assessment.evidence.sources_estimate);
        self.evidence = Evidence { sources_estimate: self.sources, ..assessment.evidence.clone() };
        self.confidence = assessment.confidence();
        if assessment.class == self.class {
            self.doubt = None;
        } else if self.doubt == Some(assessment.class) {
            self.doubt = None;
            self.class = assessment.class;
            self.note(now, format!("verdict now: {}", self.class.in_words()));
            if !self.is_attack() {
                self.release_rules("the evidence no longer speaks for an attack");
            }
        } else {
            self.doubt = Some(assessment.class);
        }
    }

    /// Adds a line to the list of actions, unless it stands there already.
    pub fn note(&mut self, now: Timestamp, text: String) {
        let known = self.actions.iter().any(|action| action.text == text);
        if !known && self.actions.len() < Limits::ACTIONS {
            self.actions.push(ActionReport { at: now, text });
        }
    }

    /// Asks for a rule.
    pub fn want(&mut self, matcher: Matcher, reason: String, ttl: Duration) {
        self.farewells.remove(&matcher);
        self.wanted.push(Wanted { matcher, incident: self.id, reason, ttl });
    }

    /// Whether a rule is asked for already.
    pub fn wants(&self, matcher: &Matcher) -> bool {
        self.wanted.iter().any(|wanted| wanted.matcher == *matcher)
    }

    /// Asks for a rule no longer; it may be asked for again.
    pub fn forget(&mut self, matcher: &Matcher, why: &str) {
        if self.wants(matcher) {
            self.wanted.retain(|wanted| wanted.matcher != *matcher);
            self.farewells.insert(*matcher, why.to_owned());
        }
    }

    /// Asks for a rule no longer, and never again in this incident.
    pub fn refuse(&mut self, matcher: &Matcher, why: &str) {
        self.forget(matcher, why);
        self.refused.insert(*matcher);
    }

    /// Whether a rule, or one that it would include, has been refused.
    pub fn has_refused(&self, matcher: &Matcher) -> bool {
        self.refused.iter().any(|refused| match (refused, matcher) {
            (
                Matcher::Signature { fingerprint: old, mask: old_mask, .. },
                Matcher::Signature { mask, fingerprint, .. },
            ) => includes(*mask, *old_mask) && old.masked(*mask) == *fingerprint,
            _ => refused == matcher,
        })
    }

    /// Asks for no rule any more.
    pub fn release_rules(&mut self, why: &str) {
        for wanted in self.wanted.drain(..) {
            self.farewells.insert(wanted.matcher, why.to_owned());
        }
    }

    /// The signatures that are dropped for it.
    pub fn signatures(&self) -> impl Iterator<Item = (Mask, Fingerprint)> {
        self.wanted.iter().filter_map(|wanted| match wanted.matcher {
            Matcher::Signature { mask, fingerprint, .. } => Some((mask, fingerprint)),
            Matcher::Source(_) => None,
        })
    }

    /// Whether a rule that is asked for covers a flow.
    pub fn covers(&self, flow: &Failing) -> bool {
        self.wanted.iter().any(|wanted| match wanted.matcher {
            Matcher::Source(net) => net.contains(&flow.addr),
            Matcher::Signature { mask, fingerprint, .. } => flow.print.masked(mask) == fingerprint,
        })
    }

    /// What has been done so far has been told as it was done.
    pub fn actions_told(&mut self) {
        self.told.actions = self.actions.len();
    }

    /// Whether there is something to tell now; if so, it counts as told, and the class told before
    /// is the answer.
    pub fn news(&mut self, now: Timestamp, syn_rate: f64) -> Option<IncidentClass> {
        let before = self.told.class;
        let reclassified = self.class != before;
        let grown = syn_rate >= TELL_GROWTH * self.told.rate.max(1.0);
        let acted = self.actions.len() > self.told.actions;
        let news = reclassified || grown || (acted && now.since(self.told.at) >= TELL_EVERY);
        if news {
            self.told =
                Told { at: now, class: self.class, rate: syn_rate, actions: self.actions.len() };
        }
        news.then_some(before)
    }

    /// Everything that is known of it.
    pub fn report(
        &self,
        syn_rate: f64,
        rules: Vec<RuleId>,
        ended: Option<Timestamp>,
    ) -> IncidentReport {
        IncidentReport {
            id: self.id,
            listener_id: self.listener_id,
            listener: self.listener,
            class: self.class,
            severity: self.severity(),
            started: self.started,
            detected: self.detected,
            ended,
            signal: self.signal.name().to_owned(),
            confidence: self.confidence,
            evidence: self.evidence.clone(),
            syns: self.syns,
            matched: self.matched,
            dropped: self.dropped,
            syn_rate,
            peak_syn_rate: self.peak,
            actions: self.actions.clone(),
            rules,
        }
    }
}

/// Whether `wide` compares nothing that `narrow` does not compare.
fn includes(wide: Mask, narrow: Mask) -> bool {
    let all = Fingerprint {
        options: 1,
        mss: 1,
        window: 1,
        ip_id: 1,
        quirks: 1,
        wscale: 1,
        ttl: 1,
        pad: [0; 6],
    };
    all.masked(narrow).masked(wide) == all.masked(wide)
}
