//! A host's part in the fleet: its own evidence, that of others, and the hints and rules that its agent should have.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use tcpguard_engine::{FleetName, Timestamp};
use tcpguard_host::escape;
use tcpguard_host::time::{Clock, Time};

use super::effect::{Effect, Evidence};
use super::feed::Feed;
use super::heard::{Change as HintChange, Heard};
use super::hint::Hint;
use super::own::{OwnIncidents, OwnSignatures};
use super::random::Random;
use crate::document::{
    Agent, Document, FleetCounts, Host, HostId, Incident, Kind, Label, Part, Relief, ReliefRoute,
    RuleKey, Sender, Signature, Subject,
};
use crate::trust::{
    ActiveRule, Admission, Bounds, Change, Identity, OperatorRules, Reason, Refusals, Roles,
    RuleName, SavedRules,
};

/// Time between the reports of a host, at least.
const LEAST_HEARTBEAT: Duration = Duration::from_secs(20);
/// Time between the reports of a host, at most. Collectors take a host for silent after 90 s, so that two may be lost.
const MOST_HEARTBEAT: Duration = Duration::from_secs(40);
/// Time within which a host reports itself after its start and after each new connection to the bus. After a power
/// failure all hosts of a fleet start at once.
const FIRST_HEARTBEAT: Duration = Duration::from_secs(10);
/// Time between the reports of a host, at least, whose agent changes its state again and again, or whose connection
/// to the bus ends again and again.
const CHANGED_HEARTBEAT: Duration = Duration::from_secs(5);
/// Time within which a change of the agent's state is reported. Many hosts may be attacked at the same moment.
const CHANGED_WITHIN: Duration = Duration::from_secs(2);
/// Longest time between two calls of [`Share::handle_time`].
const TICK: Duration = Duration::from_secs(1);
/// Subscriptions to single ports. The bus permits a host 16 in all; with more ports it hears all signatures, and
/// skips those at others.
const MAX_PORT_SUBSCRIPTIONS: usize = 12;

/// The host, as its configuration has it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name on the bus.
    pub host: HostId,
    /// Number of the run: [`Sender::boot`].
    pub boot: u64,
    /// Site of the host.
    pub site: Option<Label>,
    /// Name of the host.
    pub hostname: String,
    /// Version of this process.
    pub version: String,
    /// Roles of operators.
    pub roles: Roles,
    /// Other hosts whose reports of a signature are enough: [`crate::share::REDUNDANCY`] by default.
    pub redundancy: usize,
}

/// A host's part in the fleet. It has no clock and no connection: inputs come with their time, and effects are taken
/// out by [`Self::next_effect`] after each.
///
/// Evidence is soft state. A host repeats its own for as long as it has some, and forgets that of others when it is
/// not repeated. So nothing is lost that matters when documents are, and nothing has to be caught up with.
#[derive(Clone, Debug)]
pub struct Share {
    hostname: String,
    version: String,
    redundancy: usize,
    sender: Sender,
    random: Random,
    admission: Admission,
    rules: OperatorRules,
    feed: Feed,
    heard: Heard,
    ports: BTreeSet<u16>,
    agent: Option<Agent>,
    signatures: OwnSignatures,
    incidents: OwnIncidents,
    heartbeat: Timestamp,
    /// Time of the last report of the host.
    reported: Timestamp,
    /// Documents of this host that no other would take, since a field is out of its range.
    unsendable: u64,
    effects: VecDeque<Effect>,
}

/// Numbers of a host's part in the fleet.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ShareCounts {
    /// Messages that were not sent because enough others had sent them.
    pub suppressed: u64,
    /// Documents of this host that could not be written.
    pub unsendable: u64,
    /// Documents of others that were refused.
    pub refused: Refusals,
}

impl Share {
    /// The part of a host that has heard nothing yet. The seed must differ between hosts.
    pub fn new(settings: Settings, clock: Clock, seed: u64) -> Self {
        let Settings { host, boot, site, hostname, version, roles, redundancy } = settings;
        let own = Identity { host: host.clone(), boot };
        let mut random = Random::new(seed);
        Self {
            hostname: shortened(&hostname, Host::MAX_HOSTNAME),
            version: shortened(&version, Host::MAX_VERSION),
            redundancy,
            sender: Sender::new(host, site.clone(), boot),
            heartbeat: clock.now + random.between(Duration::ZERO, FIRST_HEARTBEAT),
            reported: clock.now,
            random,
            admission: Admission::new(Some(own.clone()), Bounds::EDGE),
            rules: OperatorRules::new(own, site.clone(), roles),
            feed: Feed::default(),
            heard: Heard::new(site),
            ports: BTreeSet::new(),
            agent: None,
            signatures: OwnSignatures::default(),
            incidents: OwnIncidents::default(),
            unsendable: 0,
            effects: VecDeque::new(),
        }
    }

    /// The next effect of the inputs so far.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Takes the operators' rules of an earlier run, before any other input.
    pub fn restore_rules(&mut self, clock: Clock, saved: SavedRules) {
        self.rules.restore(clock, saved);
    }

    /// Takes a new connection to the bus, by which the host reports itself soon: its last report may be lost.
    pub fn handle_connection(&mut self, now: Timestamp) {
        self.report_within(now, FIRST_HEARTBEAT);
    }

    /// Takes the state of the agent. It replaces the last one: incidents and signatures that are missing are over.
    pub fn handle_evidence(&mut self, clock: Clock, evidence: Evidence) {
        let Evidence { agent, ports, incidents, signatures, matches } = evidence;
        match &self.agent {
            None => self.give_all(clock.now),
            Some(before) if (before.mode, &before.state) != (agent.mode, &agent.state) => {
                self.report_within(clock.now, CHANGED_WITHIN);
            }
            Some(_) => {}
        }
        self.agent = Some(agent);
        if self.ports != ports {
            let before = self.subscriptions();
            self.ports = ports;
            self.heard.keep_ports(&self.ports);
            if self.subscriptions() != before {
                self.effects.push_back(Effect::Subscribe);
            }
        }
        for counted in matches {
            self.heard.match_locally(counted.port, counted.id, counted.syns);
        }
        let random = &mut self.random;
        self.signatures.set(clock.now, signatures, &self.heard, self.redundancy, random);
        self.incidents.set(clock.now, Time(clock.wall), incidents, random);
        self.handle_time(clock);
    }

    /// Has the host report itself at a random moment of the time `within`, so that a fleet does not do so at once.
    fn report_within(&mut self, now: Timestamp, within: Duration) {
        let moment = now + self.random.between(Duration::ZERO, within);
        let soonest = moment.max(self.reported + CHANGED_HEARTBEAT);
        self.heartbeat = self.heartbeat.min(soonest);
    }

    /// Takes the names of some rules that the agent has, once this host knows the rules of the store. Rules that the
    /// agent should not have end again: the notice of their end was lost.
    pub fn handle_agent_rules(&mut self, names: &[FleetName]) {
        let named = names.iter().map(|name| (name.role.as_str(), name.serial));
        let mut others: BTreeSet<(&str, u64)> = named.collect();
        self.rules.names().for_each(|(role, serial)| _ = others.remove(&(role.as_str(), serial)));
        let ended = others.into_iter().filter_map(|(role, serial)| {
            // The agent has its rules from here, where each role is a label.
            Some(RuleName { role: role.parse().ok()?, serial })
        });
        self.effects.extend(ended.map(Effect::EndRule));
    }

    /// The agent is not reachable: this host has no evidence, and the others are left to forget it. When the agent
    /// returns, it is given all hints and rules again.
    pub fn handle_agent_lost(&mut self) {
        self.agent = None;
        self.signatures.clear();
        self.incidents.clear();
    }

    /// Takes a document that the bus delivered.
    ///
    /// # Errors
    /// The reason for which it is refused, which is counted.
    pub fn handle_document(
        &mut self,
        clock: Clock,
        subject: &str,
        bytes: &[u8],
    ) -> Result<(), Reason> {
        match self.admission.admit(clock, subject, bytes)? {
            Some((_, Document::Signature(signature))) => self.take_signature(clock, &signature),
            Some((Subject::Rule(key), Document::Rule(rule))) => {
                let change = self.rules.accept(clock, &key, &rule);
                self.take_rule(clock, change)
            }
            Some((_, Document::Announced(announced))) if announced.about == *self.sender.host() => {
                self.effects.push_back(Effect::Announced(announced));
                Ok(())
            }
            // An echo, and documents for collectors, controllers and other hosts.
            Some(_) | None => Ok(()),
        }
    }

    /// Takes a document of the durable store, which was found there at this position. A deleted one changes nothing:
    /// only its role can revoke a rule.
    ///
    /// # Errors
    /// The reason for which it is refused, which is counted.
    pub fn handle_stored(
        &mut self,
        clock: Clock,
        key: &str,
        position: u64,
        document: Option<&[u8]>,
    ) -> Result<(), Reason> {
        self.rules.set_position(position);
        self.save_rules();
        let Some(bytes) = document else { return Ok(()) };
        let Ok(key) = key.parse::<RuleKey>() else {
            return Err(self.admission.refuse(clock.now, None, Reason::Subject));
        };
        let rule = self.admission.admit_stored(clock.now, &key, bytes)?;
        let change = self.rules.accept(clock, &key, &rule);
        self.take_rule(clock, change)
    }

    /// Replaces the roles of operators.
    pub fn handle_roles(&mut self, clock: Clock, roles: Roles) {
        let ended = self.rules.set_roles(clock, roles);
        self.end_rules(ended);
    }

    /// Asks the routers for relief: publishes these routes, or none. It is to be repeated every 5 s for as long as
    /// they are wanted.
    pub fn handle_relief(
        &mut self,
        clock: Clock,
        incident: u64,
        pressure: f64,
        wanted: &[ReliefRoute],
    ) {
        let pressure = pressure.clamp(0.0, 1.0);
        for (part, wanted) in Part::divide(wanted, Relief::MAX_ROUTES) {
            let envelope = self.sender.envelope(clock, Kind::Relief);
            let relief = Relief { envelope, part, incident, pressure, wanted };
            self.publish(&Document::Relief(relief));
        }
    }

    /// Sends the evidence and the report of the host if they are due, and forgets evidence that was not repeated.
    pub fn handle_time(&mut self, clock: Clock) {
        for change in self.heard.expire(clock.now) {
            self.hint(change);
        }
        self.admission.forget_silent(clock.now);
        let ended = self.rules.expire(clock);
        self.end_rules(ended);
        if self.agent.is_some() {
            let repeated = self.feed.due_now(clock.now, &self.rules);
            self.effects.extend(repeated.into_iter().map(Effect::Rule));
        }
        for evidence in self.signatures.due_now(clock.now, &mut self.random) {
            let envelope = self.sender.envelope(clock, Kind::Signature);
            self.publish(&Document::Signature(Signature { envelope, evidence }));
        }
        for facts in self.incidents.due_now(clock.now, &mut self.random) {
            let envelope = self.sender.envelope(clock, Kind::Incident);
            self.publish(&Document::Incident(Incident { envelope, facts }));
        }
        if self.heartbeat <= clock.now {
            self.heartbeat = clock.now + self.random.between(LEAST_HEARTBEAT, MOST_HEARTBEAT);
            self.reported = clock.now;
            self.report(clock);
        }
    }

    /// Time at which [`Self::handle_time`] is to be called again, after the call at `last`.
    pub fn due(&self, last: Timestamp) -> Timestamp {
        let dues = [self.signatures.due(), self.incidents.due(last), Some(self.heartbeat)];
        dues.into_iter().flatten().fold(last + TICK, Timestamp::min)
    }

    /// Patterns of the subjects to which the host listens.
    pub fn subscriptions(&self) -> Vec<String> {
        let signatures = match self.ports.len() <= MAX_PORT_SUBSCRIPTIONS {
            true => self.ports.iter().map(|port| Subject::signatures_at(*port)).collect(),
            false => vec![Subject::ALL_SIGNATURES.to_owned()],
        };
        [vec![Subject::ALL_RULES.to_owned()], signatures].concat()
    }

    /// The hints that the agent should have.
    pub fn hints(&self, now: Timestamp) -> impl Iterator<Item = Hint> {
        self.heard.hints(now)
    }

    /// The operators' rules that the agent should have.
    pub fn rules(&self, now: Timestamp) -> impl Iterator<Item = ActiveRule> {
        self.rules.rules(now)
    }

    /// The operators' rules as their file keeps them.
    pub fn saved_rules(&self) -> SavedRules {
        self.rules.saved()
    }

    /// Position in the store up to which documents were read.
    pub const fn position(&self) -> u64 {
        self.rules.position()
    }

    /// Numbers of the host's part in the fleet.
    pub fn counts(&self) -> ShareCounts {
        ShareCounts {
            suppressed: self.signatures.suppressed(),
            unsendable: self.unsendable,
            refused: self.admission.refused().clone(),
        }
    }

    /// Hosts whose documents are dropped unread.
    pub fn muted(&self, now: Timestamp) -> impl Iterator<Item = &HostId> {
        self.admission.muted(now)
    }

    /// Sends the report of the host.
    fn report(&mut self, clock: Clock) {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let host = Host {
            envelope: self.sender.envelope(clock, Kind::Host),
            hostname: self.hostname.clone(),
            version: self.version.clone(),
            agent: self.agent.clone(),
            fleet: FleetCounts {
                hints: count(self.heard.given()),
                rules: count(self.rules.len()),
                refused: self.admission.refused().total(),
                muted: count(self.admission.muted(clock.now).count()),
            },
        };
        self.publish(&Document::Host(host));
    }

    fn take_signature(&mut self, clock: Clock, signature: &Signature) -> Result<(), Reason> {
        if !self.ports.contains(&signature.evidence.port) {
            return Ok(());
        }
        match self.heard.take(clock.now, signature) {
            Ok(changes) => {
                changes.into_iter().for_each(|change| self.hint(change));
                self.signatures.hear(signature);
                Ok(())
            }
            Err(reason) => {
                let host = Some(&signature.envelope.host);
                Err(self.admission.refuse(clock.now, host, reason))
            }
        }
    }

    fn take_rule(&mut self, clock: Clock, change: Result<Change, Reason>) -> Result<(), Reason> {
        match change {
            Ok(Change::None) => return Ok(()),
            Ok(Change::Set { rule, replaced }) => {
                // An exemption would protect its sources from a rule that replaces it.
                self.effects.extend(replaced.map(Effect::EndRule));
                self.effects.push_back(Effect::Rule(rule));
            }
            Ok(Change::Ended(name)) => self.effects.push_back(Effect::EndRule(name)),
            Err(reason) => return Err(self.admission.refuse(clock.now, None, reason)),
        }
        self.save_rules();
        Ok(())
    }

    fn end_rules(&mut self, ended: Vec<RuleName>) {
        if !ended.is_empty() {
            self.effects.extend(ended.into_iter().map(Effect::EndRule));
            self.save_rules();
        }
    }

    /// Asks for the file to be written, once for all changes that are taken out together.
    fn save_rules(&mut self) {
        self.effects.retain(|effect| *effect != Effect::SaveRules);
        self.effects.push_back(Effect::SaveRules);
    }

    fn hint(&mut self, change: HintChange) {
        self.effects.push_back(match change {
            HintChange::Give(hint) => Effect::Hint(hint),
            HintChange::Forget(port, id) => Effect::ForgetHint { port, id },
        });
    }

    /// Gives an agent that has nothing all hints, and the first rules.
    fn give_all(&mut self, now: Timestamp) {
        self.heard.give_again();
        for change in self.heard.expire(now) {
            self.hint(change);
        }
        self.effects.extend(self.feed.begin(now, &self.rules).into_iter().map(Effect::Rule));
    }

    fn publish(&mut self, document: &Document) {
        let Some(subject) = Subject::of(document) else { return };
        match document.to_json() {
            Ok(document) => {
                let subject = subject.to_string();
                self.effects.push_back(Effect::Publish { subject, document });
            }
            Err(_) => self.unsendable += 1,
        }
    }
}

/// The beginning of a text that is longer than a document may hold, without characters that have no form.
fn shortened(text: &str, most: usize) -> String {
    let mut text = escape::shown(text).into_owned();
    text.truncate(text.floor_char_boundary(most));
    text
}
