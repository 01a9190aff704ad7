//! Trust between hosts: the real server refuses what is not a host's own, and a host refuses what the server cannot
//! know to be wrong.

use serde_json::{Value, json};
use tcpguard_fleet::document::RuleKind;
use tcpguard_fleet_kit::documents::{self, Operator, PORT, Sent, Stored};
use tcpguard_fleet_kit::keys::Role;
use tcpguard_fleet_kit::network::Network;
use tcpguard_fleet_kit::process::{Part, Process};
use tcpguard_fleet_kit::stage::Fleet;
use tcpguard_fleet_kit::stand_in::StandIn;

use crate::support::{
    LEARNED_WITHIN, SECOND, SOON, connected, ends_rule, is_block, is_hint, publish, refused, store,
};

/// Numbers of the machines.
const HOST: u8 = 2;
const PEER: u8 = 3;
const OPERATOR: u8 = 6;

/// Subjects that a host must not publish under. Each is another one's, or the bus's own.
fn foreign() -> Vec<String> {
    let other = documents::name(HOST);
    let own = documents::name(PEER);
    [
        format!("tg.1.sig.{PORT}.{other}"),
        format!("tg.1.inc.{other}"),
        format!("tg.1.host.{other}"),
        format!("tg.1.relief.{other}"),
        format!("tg.1.announced.{own}"),
        "tg.1.rule.ops.0123456789abcdef".to_owned(),
        "$KV.rule.ops.0123456789abcdef".to_owned(),
        format!("_INBOX.{other}.1"),
        format!("tg.1.sig.{PORT}.{own}.more"),
        "$JS.API.STREAM.DELETE.KV_rule".to_owned(),
        "$JS.API.STREAM.PURGE.KV_rule".to_owned(),
        "$JS.API.STREAM.INFO.KV_rule".to_owned(),
        "$JS.API.CONSUMER.CREATE.KV_rule".to_owned(),
        "$SYS.REQ.SERVER.PING".to_owned(),
    ]
    .into()
}

#[test]
fn the_server_refuses_subjects_that_are_not_a_hosts_own() {
    let fleet = Fleet::new().unwrap();
    let (machine, mut client, _) = fleet.peer(PEER).unwrap();
    for subject in foreign() {
        let refusal = client.refusal(&subject, b"{}").unwrap();
        assert!(
            refusal.as_ref().is_some_and(|why| why.contains("Permissions Violation")),
            "{subject}: {refusal:?}"
        );
    }
    let other = documents::name(HOST);
    for pattern in [">", "tg.1.>", "tg.1.host.*", "$KV.rule.>", "$SYS.>"] {
        assert!(client.subscribe(pattern).unwrap().is_some(), "{pattern}");
    }
    assert!(client.subscribe(&format!("_INBOX.{other}.>")).unwrap().is_some());
    let own = format!("tg.1.sig.{PORT}.{}", documents::name(PEER));
    assert_eq!(client.refusal(&own, b"{}").unwrap(), None, "its own subject is permitted");

    // Too long a message ends the connection.
    let mut long = fleet.client(&machine, PEER, Role::Host).unwrap();
    long.publish(&own, &[b'x'; 5000]).unwrap();
    assert!(long.flush().is_err());

    // The permissions do that, and not the server: the owner of the bus has none.
    let mut owner = fleet.bus.client().unwrap();
    let foreign = format!("tg.1.sig.{PORT}.{other}");
    assert_eq!(owner.refusal(&foreign, b"{}").unwrap(), None);
}

/// A document with another value in a field.
fn changed(sent: &Sent, field: &str, value: Value) -> Sent {
    let mut document: Value = serde_json::from_slice(&sent.document).unwrap();
    document[field] = value;
    Sent { subject: sent.subject.clone(), document: serde_json::to_vec(&document).unwrap() }
}

#[test]
fn a_document_that_is_replayed_late_or_in_anothers_name_is_refused() {
    let fleet = Fleet::new().unwrap();
    let machine = fleet.machine(HOST, Role::Host).unwrap();
    let (_machine, mut client, mut peer) = fleet.peer(PEER).unwrap();
    let agent = StandIn::start(&machine, &[PORT]).unwrap();
    let edge = Process::start(&machine, Part::Edge, &fleet.config(HOST, "")).unwrap();
    connected(&edge);
    let (first, second) = (peer.signature(PORT, 512).unwrap(), peer.signature(PORT, 512).unwrap());
    publish(&mut client, &second);
    agent.wait_for("the hint", LEARNED_WITHIN, |message| is_hint(message, 512)).unwrap();

    let late = jiff::Timestamp::now().checked_sub(600 * SECOND).unwrap().to_string();
    let next = peer.signature(PORT, 1024).unwrap();
    let cases = [
        ("replayed", second, 1),
        ("replayed", first, 2),
        ("clock_skew", changed(&next, "at", json!(late)), 1),
        ("mismatch", changed(&next, "host", json!(documents::name(HOST))), 1),
        ("mismatch", changed(&next, "port", json!(80)), 2),
        ("out_of_range", changed(&next, "share", json!(7)), 1),
        ("malformed", changed(&next, "seq", json!("one")), 1),
    ];
    for (reason, sent, count) in cases {
        publish(&mut client, &sent);
        edge.wait_until(reason, SOON, |state| refused(state, reason) == count).unwrap();
    }
    let hinted = agent.messages().iter().any(|(_, message)| is_hint(message, 1024));
    assert!(!hinted, "{:?}", agent.messages());
    publish(&mut client, &next);
    agent
        .wait_for("the hint, unchanged", LEARNED_WITHIN, |message| is_hint(message, 1024))
        .unwrap();
}

/// The bus and its owner can lose rules. They can neither make nor change nor end one.
#[test]
fn a_rule_rests_on_its_operators_signature_and_not_on_the_bus() {
    let fleet = Fleet::new().unwrap();
    let machine = fleet.machine(HOST, Role::Host).unwrap();
    let desk = fleet.machine(OPERATOR, Role::Operator).unwrap();
    let mut operator = Operator::new(7);
    let agent = StandIn::start(&machine, &[PORT]).unwrap();
    let config = fleet.config(HOST, &operator.role());
    let edge = Process::start(&machine, Part::Edge, &config).unwrap();
    connected(&edge);
    let mut client = fleet.client(&desk, OPERATOR, Role::Operator).unwrap();
    let rule = operator.rule(RuleKind::Block, "203.0.113.0/24").unwrap();
    store(&mut client, &rule).unwrap();
    agent.wait_for("the rule", LEARNED_WITHIN, |message| is_block(message, rule.serial)).unwrap();

    let mut owner = fleet.bus.client().unwrap();
    let unknown = Operator::new(8).rule(RuleKind::Block, "198.51.100.0/24").unwrap();
    let wider = String::from_utf8(rule.document.clone()).unwrap().replace("/24", "/17");
    let wider = Stored { document: wider.into_bytes(), ..rule.clone() };
    let next = operator.rule(RuleKind::Block, "198.51.100.0/24").unwrap();
    let elsewhere = Stored { subject: rule.subject.clone(), ..next };
    let wide = operator.rule(RuleKind::Block, "198.0.0.0/8").unwrap();
    for (reason, document) in [
        ("unknown_key", &unknown),
        ("bad_signature", &wider),
        ("mismatch", &elsewhere),
        ("too_wide", &wide),
    ] {
        store(&mut owner, document).unwrap();
        edge.wait_until(reason, SOON, |state| refused(state, reason) > 0).unwrap();
    }
    // A deletion in the store ends nothing.
    let reply = owner.request("$JS.API.STREAM.PURGE.KV_rule", b"").unwrap().json().unwrap();
    assert_eq!(reply["success"], true, "{reply}");
    std::thread::sleep(2 * SECOND);
    let rules = edge.status().unwrap()["edge"]["rules"].clone();
    assert_eq!(rules.as_array().map(Vec::len), Some(1), "{rules}");
    assert_eq!(rules[0]["prefix"], "203.0.113.0/24");
    assert!(!agent.messages().iter().any(|(_, message)| ends_rule(message, rule.serial)));

    let end = operator.rule(RuleKind::Revoke, "203.0.113.0/24").unwrap();
    store(&mut client, &end).unwrap();
    agent.wait_for("the end", LEARNED_WITHIN, |message| ends_rule(message, rule.serial)).unwrap();
}

/// Rules survive a restart of the process, and an older one does not come back.
#[test]
fn rules_are_there_after_a_kill_and_older_ones_are_refused() {
    let mut fleet = Fleet::new().unwrap();
    let machine = fleet.machine(HOST, Role::Host).unwrap();
    let desk = fleet.machine(OPERATOR, Role::Operator).unwrap();
    let mut operator = Operator::new(7);
    let agent = StandIn::start(&machine, &[PORT]).unwrap();
    let config = fleet.config(HOST, &operator.role());
    let mut edge = Process::start(&machine, Part::Edge, &config).unwrap();
    connected(&edge);
    let mut client = fleet.client(&desk, OPERATOR, Role::Operator).unwrap();
    let old = operator.rule(RuleKind::Block, "203.0.113.0/24").unwrap();
    store(&mut client, &old).unwrap();
    agent.wait_for("the rule", LEARNED_WITHIN, |message| is_block(message, old.serial)).unwrap();
    let end = operator.rule(RuleKind::Revoke, "203.0.113.0/24").unwrap();
    store(&mut client, &end).unwrap();
    let kept = operator.rule(RuleKind::Block, "198.51.100.0/24").unwrap();
    store(&mut client, &kept).unwrap();
    agent.wait_for("the last rule", LEARNED_WITHIN, |it| is_block(it, kept.serial)).unwrap();
    // Rules are saved once a second at most.
    std::thread::sleep(2 * SECOND);

    edge.kill();
    fleet.bus.kill().unwrap();
    agent.forget();
    edge.start_again().unwrap();
    agent.wait_for("the rule, without a bus", SOON, |it| is_block(it, kept.serial)).unwrap();
    fleet.bus.start().unwrap();
    edge.wait_until("the bus", 20 * SECOND, |state| state["bus"]["connected"] == true).unwrap();
    let mut owner = fleet.bus.client().unwrap();
    store(&mut owner, &old).unwrap();
    edge.wait_until("the old rule", SOON, |state| refused(state, "superseded") > 0).unwrap();
    assert!(!agent.messages().iter().any(|(_, message)| is_block(message, old.serial)));
}

#[test]
fn a_server_of_another_authority_is_not_used() {
    let fleet = Fleet::new().unwrap();
    let machine = fleet.machine(HOST, Role::Host).unwrap();
    let foreign = Network::new().unwrap().authority().unwrap();
    machine.write("/run/fleet-ca.pem", &foreign).unwrap();
    let _agent = StandIn::start(&machine, &[PORT]).unwrap();
    let edge = Process::start(&machine, Part::Edge, &fleet.config(HOST, "")).unwrap();
    std::thread::sleep(5 * SECOND);
    let state = edge.status().unwrap();
    assert_eq!(state["bus"]["connected"], false, "{state:#}");
    assert_eq!(state["edge"]["agent"], true);
}
