//! Faults of the bus. None of them reaches the agent, and nothing grows meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Instant;

use serde_json::Value;
use tcpguard_fleet::document::RuleKind;
use tcpguard_fleet_kit::client::Client;
use tcpguard_fleet_kit::documents::{self, Operator, PORT, Peer};
use tcpguard_fleet_kit::keys::{Keys, Role};
use tcpguard_fleet_kit::process::{self, Part, Process};
use tcpguard_fleet_kit::stage::Fleet;
use tcpguard_fleet_kit::stand_in::StandIn;
use tcpguard_fleet_kit::write_secret;
use tcpguard_kit::measure::peak::{Footprint, forget_peak};
use tcpguard_kit::net::netns::Netns;

use crate::support::{
    LEARNED_WITHIN, MEMORY, REPEATED_WITHIN, SECOND, SOON, attack, connected, ends_hint, is_block,
    is_hint, next_signature, publish, refused, store,
};

/// Numbers of the machines.
const HOST: u8 = 2;
const PEER: u8 = 3;
const OTHER: u8 = 4;
const OBSERVER: u8 = 5;
const OPERATOR: u8 = 6;

/// A connection that hears every signature.
fn observer(fleet: &Fleet, from: &Netns) -> Client {
    let mut observer = fleet.client(from, OBSERVER, Role::Collector).unwrap();
    assert_eq!(observer.subscribe("tg.1.sig.>").unwrap(), None);
    observer
}

fn has_finding(state: &Value, code: &str) -> bool {
    state["health"].as_array().is_some_and(|all| all.iter().any(|it| it["code"] == code))
}

/// Growth of a process's memory, at its peak, while something happens.
fn growth(pid: u32, during: impl FnOnce()) -> u64 {
    forget_peak(pid).unwrap();
    let before = Footprint::of(pid).unwrap().own();
    during();
    Footprint::of(pid).unwrap().own().saturating_sub(before)
}

#[test]
fn a_bus_that_is_killed_has_the_evidence_again_soon_after_its_return() {
    let mut fleet = Fleet::new().unwrap();
    let machine = fleet.machine(HOST, Role::Host).unwrap();
    let watch = fleet.machine(OBSERVER, Role::Collector).unwrap();
    let agent = StandIn::start(&machine, &[PORT]).unwrap();
    let edge = Process::start(&machine, Part::Edge, &fleet.config(HOST, "")).unwrap();
    connected(&edge);
    let name = documents::name(HOST);
    let mut seen = observer(&fleet, &watch);
    attack(&agent, 512);
    next_signature(&mut seen, &name, LEARNED_WITHIN).unwrap();

    fleet.bus.kill().unwrap();
    let lost = edge.wait_until("the loss of the bus", SOON, |state| {
        state["bus"]["connected"] == false && has_finding(state, "fleet_bus")
    });
    assert_eq!(lost.unwrap()["edge"]["agent"], true, "the agent is connected all the same");
    sleep(5 * SECOND);
    fleet.bus.start().unwrap();
    let mut seen = observer(&fleet, &watch);
    // The pauses between two tries have grown to 8 s at most, and evidence is repeated within an interval.
    let took = next_signature(&mut seen, &name, 8 * SECOND + REPEATED_WITHIN).unwrap();
    println!("  evidence again {took:.1?} after the return of the bus");
    edge.wait_until("no problem is left", SOON, |state| !has_finding(state, "fleet_bus")).unwrap();
}

#[test]
fn a_bus_that_hangs_costs_neither_memory_nor_the_agent() {
    let fleet = Fleet::new().unwrap();
    let machine = fleet.machine(HOST, Role::Host).unwrap();
    let watch = fleet.machine(OBSERVER, Role::Collector).unwrap();
    let agent = StandIn::start(&machine, &[PORT]).unwrap();
    let edge = Process::start(&machine, Part::Edge, &fleet.config(HOST, "")).unwrap();
    connected(&edge);
    attack(&agent, 512);
    let grown = growth(edge.pid(), || {
        fleet.bus.pause().unwrap();
        // Three pings without a reply.
        edge.wait_until("the loss of the bus", 20 * SECOND, |state| {
            state["bus"]["connected"] == false
        })
        .unwrap();
        // More signatures than the queue of publications holds.
        for window in 1..=200 {
            attack(&agent, window);
            sleep(SECOND / 20);
        }
        assert_eq!(edge.status().unwrap()["edge"]["agent"], true);
        fleet.bus.resume().unwrap();
        edge.wait_until("the bus", 40 * SECOND, |state| state["bus"]["connected"] == true).unwrap();
    });
    assert!(grown <= MEMORY, "{grown} bytes more");
    let mut seen = observer(&fleet, &watch);
    attack(&agent, 1024);
    next_signature(&mut seen, &documents::name(HOST), REPEATED_WITHIN).unwrap();
}

/// Hints are soft state: without a bus they end, and the host is as alone as before.
#[test]
fn hints_end_in_a_partition_and_return_after_it() {
    let fleet = Fleet::new().unwrap();
    let machine = fleet.machine(HOST, Role::Host).unwrap();
    let (place, mut client, mut peer) = fleet.peer(PEER).unwrap();
    let agent = StandIn::start(&machine, &[PORT]).unwrap();
    let edge = Process::start(&machine, Part::Edge, &fleet.config(HOST, "")).unwrap();
    connected(&edge);
    publish(&mut client, &peer.signature(PORT, 512).unwrap());
    agent.wait_for("the hint", LEARNED_WITHIN, |message| is_hint(message, 512)).unwrap();

    fleet.network.isolate(HOST).unwrap();
    let begun = Instant::now();
    agent.wait_for("the end of the hint", 65 * SECOND, |message| ends_hint(message, 512)).unwrap();
    let took = begun.elapsed();
    assert!(took >= 55 * SECOND, "it ended after {took:.1?}, as if it had been withdrawn");
    agent.forget();
    fleet.network.reconnect(HOST).unwrap();
    edge.wait_until("the bus", 40 * SECOND, |state| state["bus"]["connected"] == true).unwrap();
    sleep(SECOND);
    // The server has ended the idle connection meanwhile.
    let mut client = fleet.client(&place, PEER, Role::Host).unwrap();
    publish(&mut client, &peer.signature(PORT, 512).unwrap());
    agent.wait_for("the hint again", LEARNED_WITHIN, |message| is_hint(message, 512)).unwrap();
}

#[test]
fn rules_that_were_stored_in_a_partition_are_read_after_it() {
    let fleet = Fleet::new().unwrap();
    let machine = fleet.machine(HOST, Role::Host).unwrap();
    let desk = fleet.machine(OPERATOR, Role::Operator).unwrap();
    let mut operator = Operator::new(7);
    let mut client = fleet.client(&desk, OPERATOR, Role::Operator).unwrap();
    let agent = StandIn::start(&machine, &[PORT]).unwrap();
    let config = fleet.config(HOST, &operator.role());
    let edge = Process::start(&machine, Part::Edge, &config).unwrap();
    connected(&edge);
    let first = operator.rule(RuleKind::Block, "203.0.113.0/24").unwrap();
    store(&mut client, &first).unwrap();
    agent.wait_for("the rule", SOON, |message| is_block(message, first.serial)).unwrap();

    fleet.network.isolate(HOST).unwrap();
    let missed = operator.rule(RuleKind::Block, "198.51.100.0/24").unwrap();
    store(&mut client, &missed).unwrap();
    edge.wait_until("the loss of the bus", 20 * SECOND, |state| state["bus"]["connected"] == false)
        .unwrap();
    fleet.network.reconnect(HOST).unwrap();
    let is_missed = |message: &_| is_block(message, missed.serial);
    agent.wait_for("the rule that was missed", 100 * SECOND, is_missed).unwrap();
    let rules = edge.status().unwrap()["edge"]["rules"].as_array().map(Vec::len);
    assert_eq!(rules, Some(2), "the first one went on");
}

#[test]
fn a_full_store_refuses_rules_and_keeps_those_that_it_has() {
    // A rule takes some 700 bytes.
    let fleet = Fleet::with_store(16 << 10).unwrap();
    let machine = fleet.machine(HOST, Role::Host).unwrap();
    let desk = fleet.machine(OPERATOR, Role::Operator).unwrap();
    let mut operator = Operator::new(7);
    let mut client = fleet.client(&desk, OPERATOR, Role::Operator).unwrap();
    let mut stored = 0;
    let refusal = loop {
        assert!(stored < 100, "the store does not fill");
        let prefix = format!("198.51.{stored}.0/24");
        let rule = operator.rule(RuleKind::Block, &prefix).unwrap();
        match store(&mut client, &rule) {
            Ok(_) => stored += 1,
            Err(error) => break error.to_string(),
        }
    };
    assert!(refusal.contains("maximum bytes exceeded"), "{refusal}");
    assert!(stored >= 5, "only {stored} rules fit");

    write_secret(&desk, "/run/ops.key", &operator.key_file()).unwrap();
    desk.write(process::CONFIG, &fleet.config(OPERATOR, "")).unwrap();
    let arguments = ["block", "203.0.113.0/24", "--role", "ops", "--key", "/run/ops.key"];
    let output = process::cli(&desk, &arguments).unwrap();
    assert!(!output.status.success());
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("maximum bytes exceeded"), "{words}");

    let agent = StandIn::start(&machine, &[PORT]).unwrap();
    let config = fleet.config(HOST, &operator.role());
    let edge = Process::start(&machine, Part::Edge, &config).unwrap();
    edge.wait_until("the rules of the full store", SOON, |state| {
        state["edge"]["rules"].as_array().map(Vec::len) == Some(stored)
    })
    .unwrap();
    agent.wait_for("the last rule", SOON, |message| is_block(message, stored as u64)).unwrap();
}

#[test]
fn wrong_credentials_are_named_and_tried_ever_less_often() {
    let fleet = Fleet::new().unwrap();
    let machine = fleet.machine(HOST, Role::Host).unwrap();
    let foreign = Keys::default().user(Role::Host, &documents::name(HOST)).unwrap();
    write_secret(&machine, "/run/fleet.creds", &foreign.credentials().unwrap()).unwrap();
    let _agent = StandIn::start(&machine, &[PORT]).unwrap();
    let edge = Process::start(&machine, Part::Edge, &fleet.config(HOST, "")).unwrap();
    let state = edge
        .wait_until("the refusal", SOON, |state| has_finding(state, "fleet_credentials"))
        .unwrap();
    assert_eq!(state["bus"]["refused"], true);
    sleep(20 * SECOND);
    let log = fleet.bus.log();
    let tries = log.lines().filter(|line| line.contains("authentication error")).count();
    // After 0.5, 1, 2, 4 and 8 s, each shorter by up to a half.
    assert!((2..=12).contains(&tries), "{tries} tries in 20 s:\n{log}");
}

/// Payloads that no host sends. With their header, the longest are nearly the 4,096 bytes that the server takes.
fn garbage() -> Vec<Vec<u8>> {
    let nested = [vec![b'['; 2000], vec![b']'; 2000]].concat();
    vec![
        Vec::new(),
        vec![0; 2048],
        vec![0xff; 4060],
        vec![b'{'; 4060],
        nested,
        b"null".to_vec(),
        br#"{"schema":"tcpguard.fleet.signature/2"}"#.to_vec(),
        br#"{"schema":"tcpguard.fleet.signature/1","port":-1}"#.to_vec(),
    ]
}

#[test]
fn garbage_is_refused_and_its_sender_muted() {
    let fleet = Fleet::new().unwrap();
    let machine = fleet.machine(HOST, Role::Host).unwrap();
    let (_machine, mut hostile, _) = fleet.peer(PEER).unwrap();
    let (_other, mut client, mut peer) = fleet.peer(OTHER).unwrap();
    let agent = StandIn::start(&machine, &[PORT]).unwrap();
    let edge = Process::start(&machine, Part::Edge, &fleet.config(HOST, "")).unwrap();
    connected(&edge);
    let subject = format!("tg.1.sig.{PORT}.{}", documents::name(PEER));
    let grown = growth(edge.pid(), || {
        for payload in garbage().iter().cycle().take(160) {
            hostile.publish(&subject, payload).unwrap();
        }
        hostile.flush().unwrap();
        edge.wait_until("the sender is muted", SOON, |state| {
            state["edge"]["muted"][0] == documents::name(PEER).as_str()
        })
        .unwrap();
    });
    assert!(grown <= MEMORY, "{grown} bytes more");
    let state = edge.status().unwrap();
    for reason in ["malformed", "too_long", "unknown_schema", "rate"] {
        assert!(refused(&state, reason) > 0, "{reason}: {state:#}");
    }
    assert!(agent.messages().is_empty(), "{:?}", agent.messages());
    publish(&mut client, &peer.signature(PORT, 512).unwrap());
    agent.wait_for("the hint of another", LEARNED_WITHIN, |it| is_hint(it, 512)).unwrap();

    // Bytes that are no protocol cost their own connection.
    let mut odd = fleet.client(&machine, OBSERVER, Role::Collector).unwrap();
    odd.send(&[0x16, 3, 1, 0xff, 0xff, b'\r', b'\n']).unwrap();
    assert!(odd.flush().is_err(), "the server closes the connection");
    assert_eq!(edge.status().unwrap()["bus"]["connected"], true);
}

/// A peer that sends 1,000 documents a second until another host is heard: twice as many as a host takes of all
/// senders, and no more than the server delivers. The process reads only the first of them, and drops the others by
/// their subject. Then the peer sends all that its connection takes, by which only memory is judged: the server delays
/// others.
#[test]
fn a_flooding_peer_delays_no_other_and_costs_little_memory() {
    const DOCUMENTS: usize = 100_000;
    /// Documents of one sender that a host reads: 20 at once, and a few until it mutes the sender.
    const READ: u64 = 30;
    let fleet = Fleet::new().unwrap();
    let machine = fleet.machine(HOST, Role::Host).unwrap();
    let (_hostile, mut hostile, mut flooder) = fleet.peer(PEER).unwrap();
    let (_other, mut client, mut peer) = fleet.peer(OTHER).unwrap();
    let agent = StandIn::start(&machine, &[PORT]).unwrap();
    let edge = Process::start(&machine, Part::Edge, &fleet.config(HOST, "")).unwrap();
    connected(&edge);
    let valid = flooder.signature(PORT, 1024).unwrap();
    let is_heard = AtomicBool::new(false);
    let grown = growth(edge.pid(), || {
        std::thread::scope(|scope| {
            let flood = scope.spawn(|| {
                (0..DOCUMENTS).try_for_each(|_| {
                    if !is_heard.load(Ordering::Relaxed) {
                        sleep(SECOND / 1000);
                    }
                    hostile.publish(&valid.subject, &valid.document)
                })
            });
            let unread = |state: &Value| refused(state, "muted") > 1000;
            edge.wait_until("a flood that is not read", SOON, unread).unwrap();
            publish(&mut client, &peer.signature(PORT, 512).unwrap());
            agent.wait_for("a hint meanwhile", LEARNED_WITHIN, |it| is_hint(it, 512)).unwrap();
            is_heard.store(true, Ordering::Relaxed);
            // The server may cut the flooder off. That is its right.
            let _ = flood.join().unwrap();
        });
    });
    assert!(grown <= MEMORY, "{grown} bytes more");
    let state = edge.status().unwrap();
    assert!(refused(&state, "replayed") <= READ, "{state:#}");
    assert_eq!(state["edge"]["agent"], true);
}

/// A flood of documents is possible in this stage, so that the test above proves something.
#[test]
fn without_a_limit_per_sender_a_flood_of_documents_arrives() {
    let fleet = Fleet::new().unwrap();
    let machine = fleet.machine(OBSERVER, Role::Collector).unwrap();
    let mut seen = observer(&fleet, &machine);
    let (_hostile, mut hostile, mut flooder) = fleet.peer(PEER).unwrap();
    let valid = flooder.signature(PORT, 1024).unwrap();
    for _ in 0..1000 {
        hostile.publish(&valid.subject, &valid.document).unwrap();
    }
    hostile.flush().unwrap();
    let received = (0..1000).take_while(|_| seen.next(SOON).unwrap().is_some()).count();
    assert_eq!(received, 1000);
}

/// A host may ask for documents of the store, and have the server send its replies to the subject of another host.
#[test]
fn replies_that_a_host_has_sent_to_others_subjects_are_ignored() {
    const STORE: &str = "$JS.API.DIRECT.GET.KV_rule";
    let fleet = Fleet::new().unwrap();
    let machine = fleet.machine(HOST, Role::Host).unwrap();
    let watch = fleet.machine(OBSERVER, Role::Collector).unwrap();
    let desk = fleet.machine(OPERATOR, Role::Operator).unwrap();
    let (_hostile, mut hostile, _) = fleet.peer(PEER).unwrap();
    let (_other, mut client, mut peer) = fleet.peer(OTHER).unwrap();
    let mut operator = Operator::new(7);
    let mut writer = fleet.client(&desk, OPERATOR, Role::Operator).unwrap();
    let agent = StandIn::start(&machine, &[PORT]).unwrap();
    let config = fleet.config(HOST, &operator.role());
    let edge = Process::start(&machine, Part::Edge, &config).unwrap();
    connected(&edge);
    let first = operator.rule(RuleKind::Block, "203.0.113.0/24").unwrap();
    store(&mut writer, &first).unwrap();
    agent.wait_for("the rule", LEARNED_WITHIN, |it| is_block(it, first.serial)).unwrap();

    let mut seen = observer(&fleet, &watch);
    let of_other = format!("tg.1.sig.{PORT}.{}", documents::name(OTHER));
    for question in
        [&b"{}"[..], br#"{"seq":1}"#, br#"{"seq":1,"batch":64}"#, br#"{"seq":1,"no_hdr":true}"#]
    {
        for _ in 0..200 {
            hostile.ask_for(&of_other, STORE, question).unwrap();
        }
        for _ in 0..2000 {
            hostile.ask_for("tg.1.rule.ops.0123456789abcdef", STORE, question).unwrap();
        }
        assert_eq!(hostile.flush().unwrap(), [""; 0], "the server permits it");
    }
    let reply = seen.next(SOON).unwrap().expect("a reply under the subject of the other host");
    assert_eq!(reply.subject, of_other);
    let state = edge
        .wait_until("the replies", SOON, |state| {
            state["bus"]["misdirected"].as_u64().is_some_and(|count| count > 400)
        })
        .unwrap();
    assert_eq!(state["edge"]["refused"], serde_json::json!({}), "{state:#}");
    publish(&mut client, &peer.signature(PORT, 512).unwrap());
    agent.wait_for("the hint of the other", LEARNED_WITHIN, |it| is_hint(it, 512)).unwrap();
    let next = operator.rule(RuleKind::Block, "198.51.100.0/24").unwrap();
    store(&mut writer, &next).unwrap();
    agent.wait_for("the next rule", LEARNED_WITHIN, |it| is_block(it, next.serial)).unwrap();
}

/// A machine with the name of this one, such as a copy of it, is reported and not believed.
#[test]
fn a_copy_of_this_host_is_noticed() {
    let fleet = Fleet::new().unwrap();
    let machine = fleet.machine(HOST, Role::Host).unwrap();
    let copy = fleet.machine(PEER, Role::Host).unwrap();
    let mut client = fleet.client(&copy, HOST, Role::Host).unwrap();
    let _agent = StandIn::start(&machine, &[PORT]).unwrap();
    let edge = Process::start(&machine, Part::Edge, &fleet.config(HOST, "")).unwrap();
    connected(&edge);
    publish(&mut client, &Peer::new(HOST).unwrap().signature(PORT, 512).unwrap());
    edge.wait_until("the copy", SOON, |state| refused(state, "same_host") == 1).unwrap();
}
