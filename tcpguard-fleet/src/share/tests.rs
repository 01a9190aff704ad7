//! A simulated fleet on a bus that takes 20 ms for each message, the time to 1,000 hosts on one NATS server (measured).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use tcpguard_engine::{Ports, Timestamp};
use tcpguard_host::time::{Clock, Time};

use super::*;
use crate::document::tests::{AT, agent, evidence, facts, host, time};
use crate::document::{
    Agent, Announced, Document, HostSelector, Kind, Part, RuleBody, RuleKey, RuleKind, Sender,
    SignatureEvidence, Subject,
};
use crate::trust::{OperatorKey, Reason, Role, Roles, RuleName};

const LATENCY_MS: u64 = 20;

fn clock(ms: u64) -> Clock {
    let passed = Duration::from_millis(ms);
    let wall = time(AT).0.checked_add(passed).expect("a time");
    Clock { now: Timestamp::from_millis(1_000_000) + passed, wall }
}

fn operator() -> OperatorKey {
    OperatorKey::from_seed(&[7; 32])
}

fn starting(number: u32, redundancy: usize) -> Share {
    let role = "ops".parse().expect("a role");
    let settings = Settings {
        host: host(number),
        boot: 1,
        site: None,
        hostname: format!("web{number}"),
        version: "0.1.0".to_owned(),
        roles: Roles([(role, Role::new(vec![operator().public()]))].into()),
        redundancy,
    };
    Share::new(settings, clock(0), number.into())
}

/// State of an agent with these signatures, and listeners at port 443.
fn state(signatures: Vec<SignatureEvidence>) -> Evidence {
    Evidence {
        agent: agent(),
        ports: BTreeSet::from([443]),
        incidents: Vec::new(),
        signatures,
        matches: Vec::new(),
    }
}

fn effects(share: &mut Share) -> Vec<Effect> {
    std::iter::from_fn(|| share.next_effect()).collect()
}

/// Hosts, and the bus between them.
struct Fleet {
    now_ms: u64,
    shares: Vec<Share>,
    /// Time at which each share is to be called.
    next: Vec<u64>,
    /// The same times in order, and earlier ones that no longer count.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    /// Messages by the time of their arrival and a number.
    on_the_way: BTreeMap<(u64, usize), (usize, String, Vec<u8>)>,
    /// False while the bus loses all messages.
    is_up: bool,
    /// Times at which signatures were sent.
    sent: Vec<u64>,
    /// Time at which each host has its first hint.
    learned: BTreeMap<usize, u64>,
    /// Hosts that have a hint now.
    hinted: BTreeSet<usize>,
}

impl Fleet {
    fn new(hosts: usize, redundancy: usize) -> Self {
        let shares: Vec<_> = (0..hosts).map(|number| starting(number as u32, redundancy)).collect();
        let mut fleet = Self {
            now_ms: 0,
            next: vec![0; hosts],
            shares,
            due: BinaryHeap::new(),
            on_the_way: BTreeMap::new(),
            is_up: true,
            sent: Vec::new(),
            learned: BTreeMap::new(),
            hinted: BTreeSet::new(),
        };
        fleet.set(0..hosts, &[]);
        fleet
    }

    /// Gives hosts these signatures.
    fn set(&mut self, hosts: std::ops::Range<usize>, signatures: &[SignatureEvidence]) {
        for number in hosts {
            let evidence = state(signatures.to_vec());
            self.shares[number].handle_evidence(clock(self.now_ms), evidence);
            self.carry_out(number);
        }
    }

    fn carry_out(&mut self, number: usize) {
        let share = &mut self.shares[number];
        while let Some(effect) = share.next_effect() {
            match effect {
                Effect::Publish { subject, document } if subject.starts_with("tg.1.sig.") => {
                    self.sent.push(self.now_ms);
                    if self.is_up {
                        let arrival = (self.now_ms + LATENCY_MS, self.sent.len());
                        self.on_the_way.insert(arrival, (number, subject, document));
                    }
                }
                Effect::Hint(_) => {
                    self.learned.entry(number).or_insert(self.now_ms);
                    self.hinted.insert(number);
                }
                Effect::ForgetHint { .. } => {
                    self.hinted.remove(&number);
                }
                _ => {}
            }
        }
        let now = clock(self.now_ms).now;
        let wait = share.due(now).since(now).as_nanos().div_ceil(1_000_000) as u64;
        self.next[number] = self.now_ms + wait.max(1);
        self.due.push(Reverse((self.next[number], number)));
    }

    fn run(&mut self, seconds: u64) {
        let end = self.now_ms + 1000 * seconds;
        loop {
            let arrival = self.on_the_way.keys().next().map_or(u64::MAX, |(at, _)| *at);
            let due = self.due.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
            if arrival.min(due) > end {
                break;
            }
            self.now_ms = arrival.min(due);
            if arrival <= due {
                let Some((_, (from, subject, document))) = self.on_the_way.pop_first() else {
                    break;
                };
                for number in (0..self.shares.len()).filter(|number| *number != from) {
                    let now = clock(self.now_ms);
                    let share = &mut self.shares[number];
                    share.handle_document(now, &subject, &document).expect("taken");
                    self.carry_out(number);
                }
            } else {
                let Some(Reverse((at, number))) = self.due.pop() else { break };
                if at == self.next[number] {
                    self.shares[number].handle_time(clock(at));
                    self.carry_out(number);
                }
            }
        }
        self.now_ms = end;
    }

    fn sent_within(&self, seconds: std::ops::Range<u64>) -> usize {
        self.sent.iter().filter(|at| seconds.contains(&(**at / 1000))).count()
    }
}

#[test]
fn messages_do_not_grow_with_the_number_of_attacked_hosts() {
    let sent = |hosts, redundancy| {
        let mut fleet = Fleet::new(hosts, redundancy);
        fleet.set(0..hosts, &[evidence(443, 512)]);
        fleet.run(180);
        assert_eq!(fleet.hinted.len(), if hosts > 1 { hosts } else { 0 });
        (fleet.sent_within(0..60), fleet.sent_within(120..180))
    };
    for hosts in [1, 3, 10, 100, 300] {
        let (first, later) = sent(hosts, REDUNDANCY);
        assert!(first <= 25, "{hosts} hosts: {first} in the first minute");
        assert!((3..=15).contains(&later), "{hosts} hosts: {later} in the third");
    }
    // Without suppression each host sends its own.
    for hosts in [10, 100] {
        let (_, later) = sent(hosts, usize::MAX);
        assert!(later >= 3 * hosts - hosts / 5, "{hosts} hosts: {later} in the third");
    }
}

#[test]
fn a_host_learns_of_another_within_two_seconds_and_forgets_within_a_minute() {
    let mut fleet = Fleet::new(50, REDUNDANCY);
    fleet.run(30);
    fleet.set(0..1, &[evidence(443, 512)]);
    fleet.run(300);
    assert_eq!(fleet.hinted, (1..50).collect::<BTreeSet<_>>(), "all but the attacked one");
    let latest = fleet.learned.values().max().copied().expect("learned");
    assert!(latest <= 32_000, "{latest} ms");
    assert!((14..=21).contains(&fleet.sent.len()), "{} in 5 minutes", fleet.sent.len());

    fleet.set(0..1, &[]);
    fleet.run(62);
    assert!(fleet.hinted.is_empty(), "{:?}", fleet.hinted);
}

#[test]
fn a_lost_bus_ends_hints_and_its_return_brings_them_back() {
    let mut fleet = Fleet::new(20, REDUNDANCY);
    fleet.set(0..5, &[evidence(443, 512)]);
    fleet.run(60);
    assert_eq!(fleet.hinted.len(), 20);
    fleet.is_up = false;
    fleet.run(62);
    assert!(fleet.hinted.is_empty(), "{:?}", fleet.hinted);
    fleet.is_up = true;
    fleet.run(21);
    assert_eq!(fleet.hinted.len(), 20);
}

/// A change of state is reported soon, and one that changes all the time every 5 s at most.
#[test]
fn a_host_reports_a_change_of_its_state() {
    let mut share = starting(7, REDUNDANCY);
    let mut states = Vec::new();
    for second in 0..160 {
        let word = match second {
            0..60 => "protecting",
            60..100 => "attack_mitigated",
            _ if second % 2 == 0 => "attack",
            _ => "protecting",
        };
        let agent = Agent { state: word.to_owned(), ..agent() };
        share.handle_evidence(clock(1000 * second), Evidence { agent, ..state(vec![]) });
        for effect in effects(&mut share) {
            let Effect::Publish { document, .. } = effect else { continue };
            let Ok(Document::Host(report)) = Document::parse(&document) else { continue };
            states.push((second, report.agent.expect("an agent").state));
        }
    }
    let first = states.iter().find(|(_, state)| state == "attack_mitigated").expect("reported");
    assert!((60..=65).contains(&first.0), "{states:?}");
    let late = states.iter().filter(|(second, _)| *second >= 100).count();
    assert!((8..=13).contains(&late), "{late} in a minute: {states:?}");
}

/// Its first report is lost where the bus was not connected yet.
#[test]
fn a_host_reports_itself_within_ten_seconds_of_a_connection() {
    let mut share = starting(7, REDUNDANCY);
    share.handle_evidence(clock(0), state(vec![]));
    let reports = |share: &mut Share, seconds: std::ops::Range<u64>| {
        seconds.for_each(|second| share.handle_time(clock(1000 * second)));
        let effects = effects(share);
        effects.iter().filter(|effect| matches!(effect, Effect::Publish { .. })).count()
    };
    assert_eq!(reports(&mut share, 0..11), 1);
    assert_eq!(reports(&mut share, 11..20), 0);
    share.handle_connection(clock(19_000).now);
    assert_eq!(reports(&mut share, 20..30), 1);
}

/// A report for each of 120 connections would be 120.
#[test]
fn connections_that_end_at_once_do_not_multiply_the_reports_of_a_host() {
    let mut share = starting(7, REDUNDANCY);
    share.handle_evidence(clock(0), state(vec![]));
    for second in 0..120 {
        share.handle_connection(clock(1000 * second).now);
        share.handle_time(clock(1000 * second));
    }
    let effects = effects(&mut share);
    let reports = effects.iter().filter(|effect| matches!(effect, Effect::Publish { .. })).count();
    assert!((12..=24).contains(&reports), "{reports} in two minutes");
}

#[test]
fn a_host_reports_itself_every_half_minute() {
    let mut share = starting(7, REDUNDANCY);
    share.handle_evidence(clock(0), state(vec![]));
    let mut reports = Vec::new();
    for second in 0..600 {
        share.handle_time(clock(1000 * second));
        for effect in effects(&mut share) {
            let Effect::Publish { subject, document } = effect else { continue };
            assert_eq!(subject, Subject::Host(host(7)).to_string());
            let Ok(Document::Host(report)) = Document::parse(&document) else {
                panic!("{}", String::from_utf8_lossy(&document));
            };
            reports.push((second, report));
        }
    }
    assert!((15..=30).contains(&reports.len()), "{} in 10 minutes", reports.len());
    assert!(reports[0].0 <= 10);
    for pair in reports.windows(2) {
        assert!((20..=41).contains(&(pair[1].0 - pair[0].0)), "{} s", pair[0].0);
        assert!(pair[0].1.envelope.seq < pair[1].1.envelope.seq);
    }
    assert_eq!(reports[0].1.agent, Some(agent()));
    assert_eq!(reports[0].1.hostname, "web7");
}

#[test]
fn an_agent_that_returns_is_given_all_again() {
    let (mut one, mut other) = (starting(1, REDUNDANCY), starting(2, REDUNDANCY));
    one.handle_evidence(clock(0), state(vec![evidence(443, 512)]));
    other.handle_evidence(clock(0), state(vec![]));
    one.handle_time(clock(500));
    for effect in effects(&mut one) {
        if let Effect::Publish { subject, document } = effect {
            other.handle_document(clock(520), &subject, &document).expect("taken");
        }
    }
    let (key, document) = signed(&block(1));
    other.handle_stored(clock(520), &key.to_string(), 5, Some(&document)).expect("taken");
    let is_given = |effects: &[Effect]| {
        let hints = effects.iter().filter(|effect| matches!(effect, Effect::Hint(_))).count();
        let rules = effects.iter().filter(|effect| matches!(effect, Effect::Rule(_))).count();
        (hints, rules)
    };
    assert_eq!(is_given(&effects(&mut other)), (1, 1));
    other.handle_evidence(clock(1000), state(vec![]));
    assert_eq!(is_given(&effects(&mut other)), (0, 0));
    other.handle_agent_lost();
    other.handle_evidence(clock(2000), state(vec![]));
    assert_eq!(is_given(&effects(&mut other)), (1, 1));
    assert_eq!(
        (other.hints(clock(2000).now).count(), other.rules(clock(2000).now).count()),
        (1, 1)
    );
}

fn block(serial: u64) -> RuleBody {
    RuleBody {
        kind: RuleKind::Block,
        prefix: "203.0.113.0/24".parse().expect("a prefix"),
        ports: Ports::EVERY,
        hosts: HostSelector::default(),
        not_after: Time(clock(3_600_000).wall),
        reason: "abuse".to_owned(),
        who: "ada".to_owned(),
        serial,
    }
}

fn signed(rule: &RuleBody) -> (RuleKey, Vec<u8>) {
    let role = || "ops".parse().expect("a role");
    let signed = operator().sign(role(), rule).expect("signed");
    let document = Document::Rule(signed).to_json().expect("JSON");
    (RuleKey { role: role(), target: rule.target() }, document)
}

#[test]
fn a_rule_reaches_the_agent_and_only_its_role_ends_it() {
    let mut share = starting(7, REDUNDANCY);
    let (key, document) = signed(&block(1));
    share.handle_stored(clock(0), &key.to_string(), 5, Some(&document)).expect("taken");
    let given = effects(&mut share);
    assert!(matches!(given[..], [Effect::Rule(_), Effect::SaveRules]), "{given:?}");
    assert_eq!(share.position(), 5);

    // The bus deletes the document, or publishes another.
    share.handle_stored(clock(0), &key.to_string(), 6, None).expect("nothing to refuse");
    let subject = Subject::Rule(key.clone()).to_string();
    let revoke = RuleBody { kind: RuleKind::Revoke, ..block(2) };
    let other = OperatorKey::from_seed(&[8; 32]).sign("ops".parse().expect("a role"), &revoke);
    let other = Document::Rule(other.expect("signed")).to_json().expect("JSON");
    let refused = share.handle_document(clock(0), &subject, &other);
    assert_eq!(refused, Err(Reason::UnknownKey));
    assert_eq!(share.counts().refused.of(Reason::UnknownKey), 1);
    assert_eq!(effects(&mut share), vec![Effect::SaveRules]);
    assert_eq!(share.rules(clock(0).now).count(), 1);

    let saved = share.saved_rules();
    let mut restarted = starting(7, REDUNDANCY);
    restarted.restore_rules(clock(0), saved);
    assert_eq!(restarted.rules(clock(0).now).count(), 1);

    let (_, revoked) = signed(&revoke);
    share.handle_document(clock(0), &subject, &revoked).expect("taken");
    let end = Effect::EndRule(RuleName { role: key.role, serial: 1 });
    assert_eq!(effects(&mut share), vec![end.clone(), Effect::SaveRules]);

    restarted.handle_time(clock(3_600_000));
    assert!(effects(&mut restarted).contains(&end));
}

#[test]
fn a_host_listens_to_its_own_ports_until_they_are_too_many() {
    let mut share = starting(7, REDUNDANCY);
    assert_eq!(share.subscriptions(), ["tg.1.rule.>"]);
    share.handle_evidence(clock(0), state(vec![]));
    assert!(effects(&mut share).contains(&Effect::Subscribe));
    assert_eq!(share.subscriptions(), ["tg.1.rule.>", "tg.1.sig.443.*"]);
    share.handle_evidence(clock(1000), state(vec![]));
    assert!(!effects(&mut share).contains(&Effect::Subscribe));
    let many = Evidence { ports: (1..=13).collect(), ..state(vec![]) };
    share.handle_evidence(clock(2000), many);
    assert_eq!(share.subscriptions(), ["tg.1.rule.>", "tg.1.sig.>"]);
}

#[test]
fn an_incident_and_a_request_for_relief_are_documents_of_the_host() {
    let mut share = starting(7, REDUNDANCY);
    let incidents = vec![facts(3, "192.0.2.10/32")];
    share.handle_evidence(clock(0), Evidence { incidents, ..state(vec![]) });
    share.handle_time(clock(500));
    share.handle_relief(clock(500), 3, 1.5, &[]);
    let mut kinds = Vec::new();
    for effect in effects(&mut share) {
        if let Effect::Publish { subject, document } = effect {
            let subject: Subject = subject.parse().expect("a subject");
            let document = Document::parse(&document).expect("a document");
            assert_eq!(subject.check(&document), Ok(()));
            kinds.push(document.kind());
        }
    }
    kinds.retain(|kind| *kind != Kind::Host);
    assert_eq!(kinds, [Kind::Incident, Kind::Relief]);
}

#[test]
fn a_host_is_given_the_reports_of_controllers_about_itself() {
    let mut share = starting(7, REDUNDANCY);
    let mut sender = Sender::new(host(9), None, 1);
    for number in [7, 8] {
        let announced = Announced {
            envelope: sender.envelope(clock(0), Kind::Announced),
            part: Part { part: 0, parts: 1 },
            about: host(number),
            established: true,
            routes: Vec::new(),
        };
        let document = Document::Announced(announced).to_json().expect("JSON");
        let subject = Subject::Announced(host(9)).to_string();
        share.handle_document(clock(0), &subject, &document).expect("taken");
    }
    let about = effects(&mut share).into_iter().filter_map(|effect| match effect {
        Effect::Announced(announced) => Some(announced.about),
        _ => None,
    });
    assert_eq!(about.collect::<Vec<_>>(), [host(7)]);
}

#[test]
fn evidence_that_no_host_would_take_is_counted_and_not_sent() {
    let mut share = starting(7, REDUNDANCY);
    let bad = SignatureEvidence { syn_pps: f64::NAN, ..evidence(443, 512) };
    share.handle_evidence(clock(0), state(vec![bad]));
    share.handle_time(clock(500));
    let published = effects(&mut share).into_iter().filter(
        |effect| matches!(effect, Effect::Publish { subject, .. } if subject.contains(".sig.")),
    );
    assert_eq!((published.count(), share.counts().unsendable), (0, 1));
}
