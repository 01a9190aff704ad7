//! A host on a bus in memory.

use std::sync::Arc;

use futures_util::FutureExt as _;
use tcpguard_engine::{FleetMessage, FleetName, FleetReport, Ports};

use super::super::link::tests::{Memory, settle};
use super::*;
use crate::agent::tests::report;
use crate::config;
use crate::daemon::role::Role as _;
use crate::document::tests::{AT, envelope, evidence, host, time};
use crate::document::{
    Announced, AnnouncedRoute, Document, Envelope, HostSelector, Kind, Part, RouteState, RuleBody,
    RuleKey, RuleKind, Signature,
};
use crate::relief::edge::{Phase, Settings as ReliefSettings};
use crate::trust::{OperatorKey, Role, Roles};

fn clock_at(seconds: u64) -> Clock {
    let passed = Duration::from_secs(seconds);
    let wall = time(AT).0.checked_add(passed).expect("a time");
    Clock { now: Timestamp::from_millis(1_000_000) + passed, wall }
}

fn operator() -> OperatorKey {
    OperatorKey::from_seed(&[7; 32])
}

/// Name of the host.
fn own() -> HostId {
    host(1)
}

struct Host {
    edge: Edge<Memory>,
    bus: Memory,
    _directory: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let role = "ops".parse().expect("a role");
        let settings = Settings {
            host: own(),
            boot: 1,
            site: None,
            hostname: "web1".to_owned(),
            version: "0.1.0".to_owned(),
            roles: Roles([(role, Role::new(vec![operator().public()]))].into()),
            redundancy: REDUNDANCY,
        };
        let bus = Memory::default();
        let now = clock_at(0);
        let relief = config::Edge {
            settings: ReliefSettings { pps: Some(1000.0), ..ReliefSettings::default() },
            spare: Vec::new(),
            link_bps: Some(1e9),
        };
        let mut edge = Edge::new(
            now.now,
            own(),
            Share::new(settings, now, 1),
            BusLink::new(bus.clone()),
            Outbox::default(),
            Hooks::start("web1".to_owned(), &[]).expect("no hooks"),
            Some(Relief::new(now.now, relief)),
            Store::new(directory.path(), "edge"),
        );
        edge.subscribe();
        Self { edge, bus, _directory: directory }
    }

    fn agent(&mut self, seconds: u64, connection: u64) {
        self.agent_with(seconds, connection, Vec::new());
    }

    /// Takes a report of the agent that names these rules.
    fn agent_with(&mut self, seconds: u64, connection: u64, names: Vec<FleetName>) {
        let report = Some(Arc::new(FleetReport { names, ..report() }));
        let state = AgentState { connection, report, problem: None };
        self.edge.handle_agent(clock_at(seconds), &state);
        self.edge.carry_out(clock_at(seconds));
    }

    fn time(&mut self, seconds: u64) {
        self.edge.handle_time(clock_at(seconds));
        self.edge.carry_out(clock_at(seconds));
    }

    fn receive(&mut self, seconds: u64, subject: String, document: &Document) {
        let document = document.to_json().expect("JSON");
        let news = News::Received(Received { subject, document });
        self.edge.handle_news(clock_at(seconds), news);
        self.edge.carry_out(clock_at(seconds));
    }

    /// Stores a rule with this serial on the bus, without notice to the hosts that listen.
    async fn store_rule(&self, serial: u64) {
        let rule = RuleBody {
            kind: RuleKind::Block,
            prefix: "203.0.113.0/24".parse().expect("a prefix"),
            ports: Ports::EVERY,
            hosts: HostSelector::default(),
            not_after: Time(clock_at(3600).wall),
            reason: "abuse".to_owned(),
            who: "ada".to_owned(),
            serial,
        };
        let role = || "ops".parse().expect("a role");
        let signed = operator().sign(role(), &rule).expect("signed");
        let key = RuleKey { role: role(), target: rule.target() }.to_string();
        let document = Document::Rule(signed).to_json().expect("JSON");
        self.bus.store(&key, Some(document)).await.expect("stored");
    }

    /// Takes the next news of the bus.
    async fn news(&mut self, seconds: u64) {
        let news = self.edge.link.next().await;
        self.edge.handle_news(clock_at(seconds), news);
        self.edge.carry_out(clock_at(seconds));
    }

    /// The messages to the agent so far.
    fn messages(&self) -> Vec<FleetMessage> {
        std::iter::from_fn(|| self.edge.outbox.next().now_or_never()).collect()
    }

    /// Kinds of the documents that were published.
    async fn published(&self) -> Vec<Kind> {
        settle().await;
        let published = std::mem::take(&mut *self.bus.published.lock().expect("no panic"));
        let kinds = published
            .iter()
            .map(|(_, document)| Document::parse(document).expect("a document").kind());
        kinds.collect()
    }
}

fn signature(number: u32, seq: u64, window: u16) -> (String, Document) {
    let envelope = Envelope { ttl_s: 60, ..envelope(number, seq) };
    let document = Document::Signature(Signature { envelope, evidence: evidence(443, window) });
    (Subject::of(&document).expect("a subject").to_string(), document)
}

#[tokio::test]
async fn evidence_of_the_agent_is_published_and_hints_of_others_reach_it() {
    let mut host = Host::new();
    host.agent(1, 1);
    host.time(2);
    let published = host.published().await;
    assert!(
        published.contains(&Kind::Signature) && published.contains(&Kind::Incident),
        "{published:?}"
    );
    let patterns = host.bus.patterns();
    for pattern in ["tg.1.rule.>", "tg.1.sig.443.*", "tg.1.announced.*"] {
        assert!(patterns.iter().any(|known| known == pattern), "{patterns:?}");
    }

    let (subject, document) = signature(7, 1, 1024);
    host.receive(3, subject, &document);
    let messages = host.messages();
    assert!(
        matches!(&messages[..], [FleetMessage::Hint(hint)] if hint.ttl_s == 60),
        "{messages:?}"
    );
    assert_eq!(
        host.edge.status(clock_at(3), BusStatus::default()).edge.map(|edge| edge.hints),
        Some(1)
    );
    // It is not repeated for a minute.
    host.time(63);
    let messages = host.messages();
    assert!(matches!(&messages[..], [FleetMessage::Hint(hint)] if hint.ttl_s == 0), "{messages:?}");
}

#[tokio::test]
async fn an_agent_that_restarts_is_given_all_again() {
    let mut host = Host::new();
    host.agent(1, 1);
    let (subject, document) = signature(7, 1, 1024);
    host.receive(2, subject, &document);
    assert_eq!(host.messages().len(), 1);
    host.agent(3, 1);
    assert!(host.messages().is_empty());
    // The loss in between was not seen.
    host.agent(4, 2);
    assert_eq!(host.messages().len(), 1);
}

#[tokio::test]
async fn rules_come_from_the_store_and_survive_a_restart() {
    let mut host = Host::new();
    host.agent(1, 1);
    host.store_rule(42).await;
    host.time(2);
    host.news(2).await;
    let messages = host.messages();
    assert!(matches!(&messages[..], [FleetMessage::Rule(_)]), "{messages:?}");
    let status = host.edge.status(clock_at(2), BusStatus::default()).edge.expect("an edge");
    assert_eq!(status.rules[0].name, "fleet:ops/42");
    host.time(4);
    let saved = host.edge.store.rules();
    assert_eq!((saved.rules.len(), saved.position), (1, 1));
}

#[tokio::test]
async fn a_rule_that_the_agent_should_not_have_ends_once_the_store_is_known() {
    let mut host = Host::new();
    host.store_rule(142).await;
    let names = |serials: std::ops::RangeInclusive<u64>| {
        serials.map(|serial| FleetName { role: "ops".to_owned(), serial }).collect::<Vec<_>>()
    };
    host.agent_with(1, 1, names(79..=142));
    assert!(host.messages().is_empty(), "the store may have them");
    host.time(2);
    host.news(2).await;
    host.messages();
    // More than the queue of messages holds end in the turn of their reports.
    let mut ended = Vec::new();
    for (second, serials) in [(3, 1..=64), (4, 65..=128), (5, 129..=142)] {
        host.agent_with(second, 1, names(serials));
        ended.extend(host.messages());
    }
    let expected: Vec<_> = names(1..=141).into_iter().map(FleetMessage::RuleGone).collect();
    assert_eq!(ended, expected);
}

#[tokio::test]
async fn rules_are_read_at_each_new_connection() {
    let mut host = Host::new();
    host.agent(1, 1);
    host.time(1);
    host.news(1).await;
    host.store_rule(42).await;
    host.time(2);
    assert!(host.messages().is_empty(), "not before the next minute");
    host.bus.connections.send_modify(|connections| *connections += 1);
    // The connection, and the documents.
    host.news(3).await;
    host.news(3).await;
    let messages = host.messages();
    assert!(matches!(&messages[..], [FleetMessage::Rule(_)]), "{messages:?}");
}

#[tokio::test]
async fn relief_is_asked_for_and_follows_the_controller() {
    let mut host = Host::new();
    for second in 1..8 {
        host.agent(second, 1);
        host.time(second);
    }
    assert!(host.published().await.contains(&Kind::Relief));
    let status = |host: &mut Host, second| {
        let edge = host.edge.status(clock_at(second), BusStatus::default()).edge;
        edge.and_then(|edge| edge.relief).expect("relief")
    };
    let asked = status(&mut host, 8);
    assert_eq!((asked.phase, asked.asked.len()), (Phase::Asked, 1));
    let announced = Announced {
        envelope: Envelope { ttl_s: 30, ..envelope(9, 1) },
        part: Part { part: 0, parts: 1 },
        about: own(),
        established: true,
        routes: vec![AnnouncedRoute {
            route: asked.asked[0],
            state: RouteState::Announced,
            since: time(AT),
            reason: None,
        }],
    };
    let document = Document::Announced(announced);
    let subject = Subject::of(&document).expect("a subject").to_string();
    host.receive(8, subject, &document);
    host.agent(9, 1);
    assert_eq!(status(&mut host, 9).phase, Phase::Announced);
}

#[tokio::test]
async fn problems_are_named_with_their_remedy() {
    let mut host = Host::new();
    let codes = |host: &mut Host, link: BusStatus| -> Vec<String> {
        let status = host.edge.status(clock_at(1), link);
        status.health.into_iter().map(|finding| finding.code).collect()
    };
    let connected = || BusStatus { connected: true, ..BusStatus::default() };
    assert_eq!(codes(&mut host, BusStatus::default()), ["fleet_bus", "fleet_agent"]);
    let refused = BusStatus { refused: true, ..BusStatus::default() };
    assert_eq!(codes(&mut host, refused), ["fleet_credentials", "fleet_agent"]);
    host.agent(1, 1);
    assert_eq!(codes(&mut host, connected()), [""; 0]);
    let denied = || Some("Permissions Violation for Publish to \"tg.1.host.a1b2c3d4\"".to_owned());
    assert_eq!(
        codes(&mut host, BusStatus { denied: denied(), ..connected() }),
        ["fleet_credentials"]
    );
    let ending = |connected: bool, days: i64| {
        let ends = clock_at(1).wall + jiff::SignedDuration::from_hours(24 * days);
        BusStatus {
            connected,
            refused: !connected,
            credentials_end: Some(Time(ends)),
            ..BusStatus::default()
        }
    };
    let mut found = |link: BusStatus| {
        let found = host.edge.status(clock_at(1), link).health.into_iter().next();
        found.map(|finding| format!("{:?}: {}", finding.severity, finding.text))
    };
    assert_eq!(found(ending(true, 15)), None);
    for (link, expected) in [
        (ending(true, 13), "Notice: the credentials of this host end in 13d"),
        (ending(true, 2), "Warning: the credentials of this host end in 2d"),
        (ending(false, 2), "Warning: the bus refuses the credentials of this host"),
        (ending(false, -1), "Warning: the credentials of this host have ended"),
    ] {
        assert_eq!(found(link).as_deref(), Some(expected));
    }
    let error = crate::bus::BusError::Refused("no store".to_owned());
    host.edge.handle_news(clock_at(1), News::Stored(Err(error)));
    assert_eq!(codes(&mut host, connected()), ["fleet_store"]);
    assert!(host.edge.in_brief(&connected()).starts_with("bus connected, agent connected"));
}
