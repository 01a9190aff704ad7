//! Events for hooks: the incidents of this host as they start, change and end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_engine::{FleetReport, SharedEvidence, Timestamp};
use tcpguard_host::hint::Failure;
use tcpguard_host::time::{Clock, Time};
use tcpguard_host::units;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::agent;
use crate::config;
use crate::daemon::status::HookStatus;
use crate::document::IncidentFacts;
use crate::hook::command::Command;
use crate::hook::dispatch::{DeliveryError, Dispatcher};
use crate::hook::document::{Event, EventKind, Hook, Incident, Relief};
use crate::hook::id::EventId;
use crate::hook::secret::Secret;
use crate::hook::webhook::{Settings, Webhook};
use crate::relief::choice::{self, Breadth, Policy};
use crate::relief::flowspec::FlowSpec;
use crate::relief::wanted::Wanted;

/// Time between two updates of an incident that does not change.
const UPDATE: Duration = Duration::from_secs(60);
/// Age of an incident at the first report from which on an earlier process has reported its start.
const REPORTED: u64 = 10;
/// Time for events that wait at the end of the process. The unit of systemd allows for it.
const LAST: Duration = Duration::from_secs(5);
/// Rate in bytes per second in the rule that describes a flood without a length of its own.
const PORT_RATE: u32 = 50_000;

/// The hooks, and the incidents that they know.
#[derive(Debug)]
pub(super) struct Hooks {
    hostname: String,
    targets: Vec<(String, Arc<Dispatcher>)>,
    /// Open incidents by their numbers; `None` before the first report.
    open: Option<BTreeMap<u64, Known>>,
    /// The flood of the last report about relief, while relief goes on.
    relieved: Option<Known>,
}

/// An incident as it was last reported.
#[derive(Clone, Debug)]
struct Known {
    incident: Incident,
    rule: Option<FlowSpec>,
    reported: Timestamp,
}

impl Hooks {
    /// The hooks of the configuration, each with a task that delivers its events. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// When one cannot work: a secret, a URL or a path is wrong.
    pub fn start(hostname: String, hooks: &[config::Hook]) -> Result<Self, Failure> {
        let targets = hooks.iter().map(start).collect::<Result<_, _>>()?;
        Ok(Self { hostname, targets, open: None, relieved: None })
    }

    /// Takes a report of the agent, with the relief that this host has now.
    pub fn handle_report(&mut self, clock: Clock, report: &FleetReport, relief: Option<&Relief>) {
        let is_first = self.open.is_none();
        let mut before = self.open.take().unwrap_or_default();
        let mut open = BTreeMap::new();
        for evidence in &report.incidents {
            let (incident, rule) = (describe(clock, evidence), rule(evidence));
            let (kind, reported) = match before.remove(&evidence.incident) {
                None if is_first && evidence.age_s >= REPORTED => {
                    (Some(EventKind::Update), clock.now)
                }
                None => (Some(EventKind::Start), clock.now),
                Some(known) if known.is_due(clock.now, &incident) => {
                    (Some(EventKind::Update), clock.now)
                }
                Some(known) => (None, known.reported),
            };
            let known = Known { incident, rule, reported };
            if let Some(kind) = kind {
                self.push(clock, kind, known.clone(), relief.cloned());
            }
            open.insert(evidence.incident, known);
        }
        self.open = Some(open);
        for mut known in before.into_values() {
            known.incident.ended = Some(Time(clock.wall));
            known.incident.syn_pps = 0.0;
            if let Some(relieved) = &mut self.relieved
                && relieved.incident.id == known.incident.id
            {
                relieved.clone_from(&known);
            }
            self.push(clock, EventKind::End, known, relief.cloned());
        }
    }

    /// Reports that relief has changed: for the largest open flood, or where relief outlasts it, for the last one.
    pub fn handle_relief(&mut self, clock: Clock, relief: Option<Relief>) {
        let open = self.open.iter().flat_map(BTreeMap::values);
        let floods = open.filter(|known| known.incident.class.is_flood());
        let largest =
            floods.max_by(|one, other| one.incident.syn_pps.total_cmp(&other.incident.syn_pps));
        let known = largest.cloned().or_else(|| self.relieved.take());
        let goes_on = relief.is_some();
        if let Some(known) = known {
            self.push(clock, EventKind::Relief, known.clone(), Some(relief.unwrap_or_default()));
            self.relieved = Some(known).filter(|_| goes_on);
        }
    }

    /// The numbers of events of each target.
    pub fn status(&self) -> Vec<HookStatus> {
        let status = |(target, dispatcher): &(String, Arc<Dispatcher>)| {
            let counts = dispatcher.counts();
            HookStatus {
                target: target.clone(),
                waiting: counts.waiting as u64,
                delivered: counts.delivered,
                failed: counts.failed,
                dropped: counts.dropped,
            }
        };
        self.targets.iter().map(status).collect()
    }

    /// Delivers the events that wait, within a few seconds, and reports the number of those that did not arrive.
    pub async fn finish(self) {
        let end = Instant::now() + LAST;
        let last = |(_, dispatcher): (String, Arc<Dispatcher>)| async move {
            dispatcher.finish(end).await
        };
        let targets: JoinSet<u64> = self.targets.into_iter().map(last).collect();
        let missing = targets.join_all().await.iter().sum();
        if missing > 0 {
            log::warn!("{} of hooks not delivered at the end", units::counted(missing, "event"));
        }
    }

    fn push(&self, clock: Clock, kind: EventKind, known: Known, relief: Option<Relief>) {
        if self.targets.is_empty() {
            return;
        }
        let id = match EventId::new(clock.wall) {
            Ok(id) => id,
            Err(error) => {
                log::error!("event of incident {} not delivered: {error}", known.incident.id);
                return;
            }
        };
        let Known { incident, rule, .. } = known;
        let (at, host) = (Time(clock.wall), self.hostname.clone());
        let hook = Hook::from(Event { id, kind, at, host, incident, rule, relief });
        for (_, dispatcher) in &self.targets {
            dispatcher.push(hook.clone());
        }
    }
}

impl Known {
    /// Returns whether its next report is due, or it has changed.
    fn is_due(&self, now: Timestamp, incident: &Incident) -> bool {
        now.since(self.reported) >= UPDATE
            || self.incident.class != incident.class
            || self.incident.severity != incident.severity
    }
}

/// Starts the task of a target.
fn start(hook: &config::Hook) -> Result<(String, Arc<Dispatcher>), Failure> {
    let dispatcher = Arc::new(Dispatcher::default());
    let name = match hook {
        config::Hook::Command(words) => words.first().cloned().unwrap_or_default(),
        // Its path may be a secret.
        config::Hook::Webhook { url, .. } => url.split('/').take(3).collect::<Vec<_>>().join("/"),
    };
    let events = Arc::clone(&dispatcher);
    let report = |hook: &Hook, error: &DeliveryError| {
        log::warn!("event {} of incident {} not delivered: {error}", hook.id, hook.incident.id);
    };
    match hook {
        config::Hook::Command(words) => {
            let command = Command::new(words)?;
            tokio::spawn(async move { events.run(&command, report).await });
        }
        config::Hook::Webhook { url, key, token, authorities } => {
            let secret = |path: &Option<PathBuf>| path.as_deref().map(Secret::read).transpose();
            let (key, token) = (secret(key)?, secret(token)?);
            let (url, authorities) = (url.clone(), authorities.clone());
            let webhook = Webhook::new(&Settings { url, key, token, authorities })?;
            tokio::spawn(async move { events.run(&webhook, report).await });
        }
    }
    Ok((name, dispatcher))
}

/// The incident as hooks receive it.
fn describe(clock: Clock, evidence: &SharedEvidence) -> Incident {
    let since = clock.now - Duration::from_secs(evidence.age_s);
    let victims = evidence.victims.iter().map(|victim| IpNet::from(victim.addr));
    Incident {
        id: evidence.incident,
        class: evidence.class,
        severity: evidence.severity,
        victims: victims.take(IncidentFacts::MAX_TARGETS).collect(),
        ports: Some(evidence.listener.port).filter(|port| *port != 0).into_iter().collect(),
        syn_pps: evidence.syn_pps,
        bps: bits(evidence),
        dropped_share: match evidence.syn_pps > 0.0 {
            true => (evidence.dropped_pps / evidence.syn_pps).clamp(0.0, 1.0),
            false => 0.0,
        },
        sources: evidence.class.facts().origin,
        since: clock.time_at(since),
        ended: None,
    }
}

/// Bits per second of its SYNs, where nearly all have one length.
fn bits(evidence: &SharedEvidence) -> Option<f64> {
    let most = evidence.signatures.iter().find(|signature| signature.share >= 0.95)?;
    Some(evidence.syn_pps * 8.0 * f64::from(most.signature.length()?))
}

/// The narrowest rule that matches the flood.
fn rule(evidence: &SharedEvidence) -> Option<FlowSpec> {
    let policy = Policy { port_rate: Some(PORT_RATE), ..Policy::default() };
    let floods = agent::floods(slice::from_ref(evidence), |_| false);
    let routes = choice::choose(floods.first()?, &policy, Breadth::Narrow);
    routes.into_iter().find_map(|route| match route {
        Wanted::FlowSpec(rule) => Some(rule),
        Wanted::Blackhole(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use tcpguard_engine::{IncidentClass, SourceOrigin};
    use tcpguard_host::finding::Severity;

    use super::*;
    use crate::agent::tests::{flood, report};
    use crate::document::tests::{AT, time};

    fn clock(seconds: u64) -> Clock {
        let passed = Duration::from_secs(seconds);
        let wall = time(AT).0.checked_add(passed).expect("a time");
        Clock { now: Timestamp::from_millis(1_000_000) + passed, wall }
    }

    /// Hooks whose events wait for ever, and their queue.
    fn hooks() -> (Hooks, Arc<Dispatcher>) {
        let dispatcher = Arc::new(Dispatcher::default());
        let targets = vec![("/bin/true".to_owned(), Arc::clone(&dispatcher))];
        (Hooks { hostname: "web1".to_owned(), targets, open: None, relieved: None }, dispatcher)
    }

    fn waiting(hooks: &Hooks) -> u64 {
        hooks.status()[0].waiting
    }

    fn with(incidents: Vec<SharedEvidence>) -> FleetReport {
        FleetReport { incidents, ..report() }
    }

    #[test]
    fn an_incident_has_a_start_updates_and_an_end() {
        let (mut hooks, _) = hooks();
        hooks.handle_report(clock(0), &with(vec![]), None);
        hooks.handle_report(clock(1), &with(vec![flood(3)]), None);
        assert_eq!(waiting(&hooks), 1);
        (2..60).for_each(|second| hooks.handle_report(clock(second), &with(vec![flood(3)]), None));
        assert_eq!(waiting(&hooks), 1, "no update within a minute");
        hooks.handle_report(clock(61), &with(vec![flood(3)]), None);
        assert_eq!(waiting(&hooks), 2);
        let few = SharedEvidence { class: IncidentClass::FewSource, ..flood(3) };
        hooks.handle_report(clock(62), &with(vec![few]), None);
        assert_eq!(waiting(&hooks), 2, "updates that wait collapse");
        hooks.handle_relief(clock(63), Some(Relief::default()));
        assert_eq!(waiting(&hooks), 3);
        hooks.handle_report(clock(64), &with(vec![]), None);
        assert_eq!(waiting(&hooks), 3, "the end replaces the update");
        // Relief lasts for minutes longer than the flood.
        hooks.handle_relief(clock(65), None);
        assert_eq!(waiting(&hooks), 4, "relief has ended");
        hooks.handle_relief(clock(66), None);
        assert_eq!(waiting(&hooks), 4, "no flood was relieved");
    }

    /// A restart of the process is no second start of the incident.
    #[test]
    fn an_incident_that_is_open_at_the_start_of_the_process_is_updated() {
        let (mut hooks, _) = hooks();
        hooks.handle_report(clock(0), &with(vec![flood(3)]), None);
        hooks.handle_report(clock(61), &with(vec![flood(3)]), None);
        assert_eq!(waiting(&hooks), 1, "two updates are one");
    }

    #[test]
    fn a_flood_is_described_with_a_rule() {
        let incident = describe(clock(0), &flood(3));
        assert_eq!((incident.severity, incident.dropped_share), (Severity::Critical, 0.97));
        assert_eq!((incident.bps, incident.sources), (Some(32_000_000.0), SourceOrigin::Spoofed));
        let narrow = rule(&flood(3)).expect("a rule");
        assert_eq!(narrow.terms().lengths.map(|lengths| lengths.first), Some(40));
        let unknown = SharedEvidence { signatures: Vec::new(), ..flood(3) };
        assert_eq!(rule(&unknown).map(|rule| rule.terms().lengths), Some(None), "by its port");
        let crowd = SharedEvidence { class: IncidentClass::FlashCrowd, ..flood(3) };
        assert_eq!(rule(&crowd), None);
    }

    #[tokio::test]
    async fn a_hook_that_cannot_work_is_an_error_at_the_start() {
        let of = |hook| Hooks::start("web1".to_owned(), &[hook]).map(|_| ());
        assert!(of(config::Hook::Command(vec!["/bin/true".to_owned()])).is_ok());
        let webhook = |key: Option<&str>| config::Hook::Webhook {
            url: "https://example.org/".to_owned(),
            key: key.map(Into::into),
            token: None,
            authorities: Some("/no/such/ca.pem".into()),
        };
        let failure = of(webhook(Some("/no/such/key"))).expect_err("no key");
        assert!(failure.message.contains("/no/such/key"), "{failure}");
        let failure = of(webhook(None)).expect_err("no authorities");
        assert!(failure.message.contains("/no/such/ca.pem"), "{failure}");
    }
}
