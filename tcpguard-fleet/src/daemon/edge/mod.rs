//! `tcpguard-fleet run`: the part of a host in its fleet. It shares the evidence of the agent, gives it the hints of
//! others and the rules of operators, asks routers for relief, and notifies hooks.
//!
//! One task owns all state. Effects are carried out in one place, and none of them waits.

mod hooks;
mod relief;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use tcpguard_engine::{FleetReport, SharedSignature, Timestamp};
use tcpguard_host::finding::{Finding, worst_first};
use tcpguard_host::hint::Failure;
use tcpguard_host::random;
use tcpguard_host::time::{Clock, Time};
use tokio::sync::watch;

use self::hooks::Hooks;
use self::relief::Relief;
use super::link::{BATCH, BusLink, News, Rounds};
use super::role::{self, Role};
use super::server::Server;
use super::signals::Signals;
use super::status::{EdgeStatus, ProcessStatus, RuleStatus};
use super::store::Store;
use super::{EDGE_SOCKET, Paths, StartError, clock, connect, hostname};
use crate::agent::{self, AgentState, Outbox};
use crate::bus::{Bus, BusStatus, Received, Stored};
use crate::config::Config;
use crate::document::{HostId, Id, Subject};
use crate::share::{Effect, REDUNDANCY, Settings, Share};
use crate::trust::RuleName;

/// Time between two saves of the rules, which a store that is read for the first time changes 4,096 times.
const SAVE: Duration = Duration::from_secs(1);

/// Runs until a signal ends it.
///
/// # Errors
/// When it cannot start.
pub async fn run(config: Config, paths: &Paths) -> Result<(), StartError> {
    let signals = Signals::new()?;
    let host = config.host()?;
    let store = Store::new(&paths.state_dir, "edge");
    let server = Server::bind(&paths.runtime_dir.join(EDGE_SOCKET))?;
    let now = clock();
    let boot = store.begin_run(now)?;
    let bus = connect(&config, &host).await?;
    let (outbox, reports) = start_agent(&config);
    let hooks = Hooks::start(hostname(), &config.hooks).map_err(StartError::Configuration)?;
    let settings = Settings {
        host: host.clone(),
        boot,
        site: config.site.clone(),
        hostname: hostname(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        roles: config.roles.clone(),
        redundancy: REDUNDANCY,
    };
    let [seed] = random::words().map_err(|error| {
        Failure::new(format!("no random numbers: {error}"), "ls -l /dev/urandom")
    })?;
    let mut share = Share::new(settings, now, seed);
    share.restore_rules(now, store.rules());
    let relief = config.edge.clone().map(|settings| Relief::new(now.now, settings));
    let link = BusLink::new(bus.clone());
    let mut edge = Edge::new(now.now, host, share, link, outbox, hooks, relief, store);
    (edge.reports, edge.config) = (reports, paths.config.clone());
    edge.subscribe();
    log::info!("host {} takes part in the fleet", edge.host);
    role::run(&mut edge, signals, server, &bus).await;
    edge.save();
    edge.hooks.finish().await;
    log::info!("host {} leaves the fleet", edge.host);
    Ok(())
}

/// Starts the task that is connected to the agent.
fn start_agent(config: &Config) -> (Outbox, watch::Receiver<AgentState>) {
    let (sender, receiver) = watch::channel(AgentState::default());
    let outbox = Outbox::default();
    let (socket, messages) = (config.agent.clone(), outbox.clone());
    tokio::spawn(async move { agent::run(&socket, &messages, &sender).await });
    (outbox, receiver)
}

/// The part of a host in its fleet.
struct Edge<B> {
    host: HostId,
    /// File of the configuration.
    config: PathBuf,
    reports: watch::Receiver<AgentState>,
    share: Share,
    link: BusLink<B>,
    rounds: Rounds,
    outbox: Outbox,
    agent: AgentState,
    /// Hints that the agent has.
    hints: BTreeMap<(u16, Id), SharedSignature>,
    /// Rules that were reported in the journal.
    rules: BTreeSet<RuleName>,
    hooks: Hooks,
    relief: Option<Relief>,
    /// Time of the last report of the agent that relief has seen.
    stepped: Timestamp,
    store: Store,
    /// True if the rules have changed since they were saved.
    unsaved: bool,
    saved: Timestamp,
    /// True if the store of the bus was read to its end since the start.
    knows_store: bool,
    /// Reason for which the store of the bus could not be read.
    store_problem: Option<String>,
}

impl<B: Bus> Edge<B> {
    #[expect(clippy::too_many_arguments, reason = "the parts of the process, once")]
    fn new(
        now: Timestamp,
        host: HostId,
        share: Share,
        link: BusLink<B>,
        outbox: Outbox,
        hooks: Hooks,
        relief: Option<Relief>,
        store: Store,
    ) -> Self {
        Self {
            host,
            config: PathBuf::new(),
            reports: watch::Sender::default().subscribe(),
            share,
            link,
            rounds: Rounds::new(now),
            outbox,
            agent: AgentState::default(),
            hints: BTreeMap::new(),
            rules: BTreeSet::new(),
            hooks,
            relief,
            stepped: Timestamp::default(),
            store,
            unsaved: false,
            saved: now,
            knows_store: false,
            store_problem: None,
        }
    }

    fn handle_time(&mut self, clock: Clock) {
        self.share.handle_time(clock);
        if let Some(request) = self.relief.as_mut().and_then(|relief| relief.request(clock.now)) {
            let relief::Request { incident, pressure, routes } = request;
            self.share.handle_relief(clock, incident, pressure, &routes);
        }
        self.read_store(clock.now);
        if self.unsaved && clock.now.since(self.saved) >= SAVE {
            self.saved = clock.now;
            self.save();
        }
    }

    /// Takes the state of the agent.
    fn handle_agent(&mut self, clock: Clock, state: &AgentState) {
        let is_lost = state.connection != self.agent.connection || state.report.is_none();
        if is_lost && self.agent.report.is_some() {
            self.share.handle_agent_lost();
            self.hints.clear();
            log::warn!(
                "the agent is not connected: {}",
                state.problem.as_deref().unwrap_or("it has restarted")
            );
        }
        if self.agent.report.is_none() && state.report.is_some() {
            log::info!("the agent is connected");
        }
        self.agent = state.clone();
        if let Some(report) = state.report.clone() {
            self.handle_report(clock, &report);
        }
    }

    fn handle_report(&mut self, clock: Clock, report: &FleetReport) {
        self.share.handle_evidence(clock, agent::evidence(clock, report));
        // A rule that the saved ones lack may still come from the store.
        if self.knows_store {
            self.share.handle_agent_rules(&report.names);
        }
        let relief = self.relief.as_ref().and_then(Relief::of_hooks);
        self.hooks.handle_report(clock, report, relief.as_ref());
        let is_due = clock.now.since(self.stepped) >= Duration::from_millis(900);
        let Some(relief) = self.relief.as_mut().filter(|_| is_due) else { return };
        self.stepped = clock.now;
        if let Some(event) = relief.handle_report(clock.now, report) {
            log::warn!("{}", relief::describe(&event));
            self.hooks.handle_relief(clock, relief.of_hooks());
        }
    }

    fn handle_news(&mut self, clock: Clock, news: News) {
        match news {
            News::Connected => {
                self.share.handle_connection(clock.now);
                self.rounds.restart(clock.now);
                self.read_store(clock.now);
            }
            News::Received(Received { subject, document }) => {
                // A refusal is counted.
                let _ = self.share.handle_document(clock, &subject, &document);
            }
            News::Stored(Ok(batch)) => {
                self.store_problem = None;
                for Stored { key, sequence, document } in &batch {
                    // A refusal is counted.
                    let _ = self.share.handle_stored(clock, key, *sequence, document.as_deref());
                }
                self.knows_store |= batch.len() < BATCH;
                self.rounds.end(clock.now, Some(batch.len()));
            }
            News::Stored(Err(error)) => {
                self.store_problem = Some(error.to_string());
                self.rounds.end(clock.now, None);
            }
        }
    }

    /// Reads the store of the bus, if it is time.
    fn read_store(&mut self, now: Timestamp) {
        if let Some(after) = self.rounds.begin(now, self.share.position()) {
            self.link.read_store(after);
        }
    }

    fn subscribe(&mut self) {
        let announced = self.relief.as_ref().map(|_| Subject::ALL_ANNOUNCED.to_owned());
        self.link.subscribe(self.share.subscriptions().into_iter().chain(announced));
    }

    /// Writes the rules to their file, if they have changed.
    fn save(&mut self) {
        if !self.unsaved {
            return;
        }
        match self.store.save_rules(&self.share.saved_rules()) {
            Ok(()) => self.unsaved = false,
            Err(failure) => log::error!("{failure}. {}", failure.hint),
        }
    }

    fn findings(&self, now: jiff::Timestamp, bus: &BusStatus) -> Vec<Finding> {
        let agent = self.agent.report.is_none().then(|| {
            let why = self.agent.problem.as_deref().unwrap_or("no report yet");
            Finding::warning("fleet_agent", format!("the agent is not connected: {why}")).hint(
                "set listen = true under [fleet] in /etc/tcpguard/tcpguard.toml, then: systemctl restart tcpguard",
            )
        });
        let store = self.store_problem.as_ref().filter(|_| bus.connected).map(|why| {
            Finding::warning("fleet_store", format!("operators' rules cannot be read: {why}"))
                .hint("make the store once: tcpguard-fleet make-store")
        });
        let no_route = self.relief.as_ref().is_some_and(Relief::lacks_route).then(|| {
            Finding::critical("fleet_no_route", "the link is overloaded, and no route can be asked for: clients may send the same SYNs")
                .hint("set port_rate_bytes_per_s under [edge] in /etc/tcpguard/fleet.toml; it limits SYNs of clients too")
        });
        let mut findings: Vec<Finding> =
            [bus.finding(now), agent, store, no_route].into_iter().flatten().collect();
        worst_first(&mut findings);
        findings
    }
}

impl<B: Bus> Role for Edge<B> {
    const NAME: &str = "process of a host";
    type Status = ProcessStatus;

    async fn step(&mut self, clock: Clock) {
        self.handle_time(clock);
    }

    async fn hear(&mut self) {
        // In this order: a flood of documents does not delay the agent.
        tokio::select! {
            biased;
            Ok(()) = self.reports.changed() => {
                let state = self.reports.borrow_and_update().clone();
                self.handle_agent(clock(), &state);
            }
            news = self.link.next() => self.handle_news(clock(), news),
        }
    }

    fn due(&self, stepped: Timestamp) -> Timestamp {
        self.share.due(stepped)
    }

    /// Reads the configuration again. Roles of operators change at once, and all else with a restart.
    fn reload(&mut self, clock: Clock) {
        match Config::read(&self.config) {
            Ok(config) => {
                self.share.handle_roles(clock, config.roles);
                log::info!("roles of operators applied; other changes need a restart");
            }
            Err(error) => log::error!("configuration refused, the running one stays: {error}"),
        }
    }

    fn carry_out(&mut self, clock: Clock) {
        while let Some(effect) = self.share.next_effect() {
            match effect {
                Effect::Publish { subject, document } => self.link.publish(subject, document),
                Effect::Hint(hint) => {
                    self.hints.insert((hint.port, hint.id), hint.signature.clone());
                    self.outbox.push(agent::hint(&hint));
                }
                Effect::ForgetHint { port, id } => {
                    if let Some(signature) = self.hints.remove(&(port, id)) {
                        self.outbox.push(agent::end_of_hint(port, signature));
                    }
                }
                Effect::Rule(rule) => {
                    // It is repeated.
                    if self.rules.insert(rule.name.clone()) {
                        let action = if rule.allows { "allows" } else { "blocks" };
                        log::info!(
                            "{} {action} {}: {} ({})",
                            rule.name,
                            rule.prefix,
                            rule.reason,
                            rule.who
                        );
                    }
                    self.outbox.push(agent::rule(&rule));
                }
                Effect::EndRule(name) => {
                    if self.rules.remove(&name) {
                        log::info!("{name} has ended");
                    }
                    self.outbox.push(agent::end_of_rule(&name));
                }
                Effect::Announced(report) => {
                    if let Some(relief) = &mut self.relief {
                        relief.handle_announced(clock.now, &report);
                    }
                }
                Effect::SaveRules => self.unsaved = true,
                Effect::Subscribe => self.subscribe(),
            }
        }
    }

    fn in_brief(&mut self, bus: &BusStatus) -> String {
        let agent = if self.agent.report.is_some() { "connected" } else { "not connected" };
        let rules = self.rules.len();
        format!("bus {}, agent {agent}, {} hints, {rules} rules", bus.words(), self.hints.len())
    }

    fn status(&mut self, clock: Clock, mut bus: BusStatus) -> ProcessStatus {
        bus.unsent += self.link.dropped();
        let report = self.agent.report.as_deref();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let refused_rules = report.map(|report| &report.refused_rules[..]).unwrap_or_default();
        let rules = self.share.rules(clock.now).map(|rule| {
            let name = rule.name.to_string();
            let refused = refused_rules.iter().find(|refused| refused.rule.to_string() == name);
            RuleStatus {
                name,
                action: if rule.allows { "allow" } else { "block" }.to_owned(),
                prefix: rule.prefix,
                ports: rule.ports,
                ends: clock.time_at(clock.now + rule.remaining),
                reason: rule.reason,
                who: rule.who,
                refused: refused.map(|refused| refused.text.clone()),
            }
        });
        let counts = self.share.counts();
        let edge = EdgeStatus {
            agent: report.is_some(),
            ports: report.map_or(0, |report| count(report.ports.len())),
            incidents: report.map_or(0, |report| count(report.incidents.len())),
            hints: count(self.hints.len()),
            rules: rules.collect(),
            refused: counts
                .refused
                .iter()
                .map(|(why, count)| (why.name().to_owned(), count))
                .collect(),
            muted: self.share.muted(clock.now).cloned().collect(),
            suppressed: counts.suppressed,
            dropped: self.outbox.dropped(),
            hooks: self.hooks.status(),
            relief: self.relief.as_ref().map(Relief::status),
        };
        ProcessStatus {
            schema: ProcessStatus::SCHEMA.to_owned(),
            generated_at: Time(clock.wall),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: self.host.clone(),
            health: self.findings(clock.wall, &bus),
            bus,
            edge: Some(edge),
            controller: None,
        }
    }
}

#[cfg(test)]
mod tests;
