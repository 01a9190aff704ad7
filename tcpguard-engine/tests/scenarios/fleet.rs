//! Hints and rules of a fleet. Any of its hosts may be an attacker's.

use std::time::Duration;

use tcpguard_common::abi::{Fingerprint, Mask, layout, maps, quirk};
use tcpguard_engine::{
    ClientsWithin, Event, FleetAction, FleetMessage, FleetName, FleetRefusal, FleetRule, Force,
    Hint, IncidentClass, Limits, Mitigation, Mode, Ports, RemovalReason, Request, RequestError,
    Response, RuleReason, RuleToImport, Settings, SharedSignature, SignatureBasis, Victim, Which,
    Whose,
};

use crate::operator::{lab, net};
use crate::sim::*;
use crate::{alike, at_its_end};

/// SYNs without options, as [`Shape::FarBare`].
fn bare() -> SharedSignature {
    let print = Fingerprint { window: 512, wscale: 255, ..Fingerprint::default() };
    SharedSignature::of(Mask::NoTtl, &print)
}

/// The clients' SYNs, as [`Shape::Linux`].
fn linux() -> SharedSignature {
    let options = layout::MSS
        | layout::SACK_OK << 4
        | layout::TIMESTAMP << 8
        | layout::NOP << 12
        | layout::WSCALE << 16;
    let print = Fingerprint {
        options,
        mss: 1460,
        window: 64240,
        quirks: quirk::DF,
        wscale: 7,
        ..Fingerprint::default()
    };
    SharedSignature::of(Mask::NoTtl, &print)
}

fn hint(port: u16, signature: &SharedSignature, reporters: u16) -> FleetMessage {
    FleetMessage::Hint(Hint { port, signature: signature.clone(), reporters, ttl_s: 60 })
}

/// Plays until `end`, while other hosts report a signature at the first listener every five seconds.
fn run_hinted(lab: &mut Lab, end: f64, signature: &SharedSignature, reporters: u16) {
    let mut now = seconds(lab.kernel.now);
    while now < end {
        lab.fleet(hint(443, signature, reporters), 0).expect("taken");
        now = end.min(now + 5.0);
        lab.run_until(now);
    }
}

/// A flood with two indicators before it is known that no SYN is retransmitted: one tool, and sources seen once.
fn far_flood() -> Flood {
    Flood { shape: Shape::FarBare, ..Flood::random(2000.0, 10.1..40.1) }
}

fn attacked() -> Lab {
    Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients::steady(100.0))
        .flood(far_flood())
}

fn answers_with_cookies(lab: &Lab, listener: usize) -> bool {
    lab.kernel.mitigations(listener).contains(&Mitigation::Cookies)
}

/// The worst that a poisoner gets: cookies, at a few listeners and for a while.
#[test]
fn hints_without_a_flood_drop_nothing_and_buy_a_few_cookies() {
    let listeners = 20;
    let mut lab = Lab::new(Mode::Enforce);
    for to in 0..listeners {
        let clients = Clients { to, shape: Some(Shape::Linux), ..Clients::steady(10.0) };
        lab = lab.listener(Server::default()).clients(clients);
    }
    lab.run_until(10.0);
    let mut most = 0;
    for end in 11..160 {
        for port in 443..443 + listeners as u16 {
            for signature in [linux(), bare()] {
                lab.fleet(hint(port, &signature, 1000), 0).expect("taken");
            }
        }
        lab.run_until(f64::from(end));
        let taken = (0..listeners).filter(|to| answers_with_cookies(&lab, *to)).count();
        most = most.max(taken);
    }
    assert_eq!(most, 16, "{}", lab.story());
    let still = (0..listeners).filter(|to| answers_with_cookies(&lab, *to)).count();
    assert!(still <= listeners - 16, "those had their time: {still}");
    assert_eq!(lab.installed.len(), 0, "{}", lab.story());
    assert_eq!(lab.report().incidents.len(), 0, "{}", lab.story());
    for to in 0..listeners {
        assert_eq!(lab.connected_to(to, 10.0, 155.0), 1.0, "{to}: {}", lab.story());
    }
}

#[test]
fn cookies_ahead_are_reported_only_where_they_are_in_force() {
    for refused in [Vec::new(), vec![Mitigation::Cookies]] {
        let mut lab = Lab::new(Mode::Enforce)
            .listener(Server::default())
            .clients(Clients { shape: Some(Shape::Linux), ..Clients::steady(10.0) });
        let are_taken = refused.is_empty();
        lab.refuse_mitigations = refused;
        lab.run_until(9.0);
        run_hinted(&mut lab, 12.0, &bare(), 2);
        assert_eq!(answers_with_cookies(&lab, 0), are_taken, "{}", lab.story());
        let reported: Vec<bool> = lab.engine.hints().map(|hint| hint.cookies_ahead).collect();
        assert_eq!(reported, [are_taken], "{}", lab.story());
    }
}

/// The limits of replies hold for a flood, not for a flash crowd that a hint calls one.
#[test]
fn syns_beyond_the_limits_of_replies_pass_until_the_flood_is_here() {
    let mut lab = attacked();
    lab.run_until(9.0);
    run_hinted(&mut lab, 10.0, &bare(), 2);
    assert!(answers_with_cookies(&lab, 0) && lab.kernel.passes_excess(0), "{}", lab.story());
    run_hinted(&mut lab, 15.0, &bare(), 2);
    assert!(answers_with_cookies(&lab, 0) && !lab.kernel.passes_excess(0), "{}", lab.story());
    let starts = lab.alerts.iter().filter_map(|alert| match &alert.event {
        Event::MitigationStarted { why, .. } => Some(why.is_hint()),
        _ => None,
    });
    assert_eq!(starts.collect::<Vec<_>>(), [true, false], "and for the flood: {}", lab.story());
    run_hinted(&mut lab, 80.0, &bare(), 2);
    assert!(answers_with_cookies(&lab, 0) && lab.kernel.passes_excess(0), "{}", lab.story());
    lab.run_until(145.0);
    assert!(!answers_with_cookies(&lab, 0) && !lab.kernel.passes_excess(0), "{}", lab.story());
}

/// The naive way drops what others name while anything is wrong here.
#[test]
fn a_poisoner_who_names_the_clients_signature_has_none_dropped() {
    let clients = Clients { shape: Some(Shape::Linux), ..Clients::steady(100.0) };
    let outage = Some(Outage::of(10.0..40.0, 0.6));
    let broken = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients { outage, ..clients.clone() });
    let mimicked = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(clients)
        .flood(alike(2000.0, 10.1, 40.1, Sources::Random));
    for (name, mut lab) in [("broken path", broken), ("mimicking flood", mimicked)] {
        lab.run_until(9.0);
        run_hinted(&mut lab, 60.0, &linux(), 1000);
        assert_eq!(lab.installed.len(), 0, "{name}: {}", lab.story());
        let dropped = lab.listener_report(0).counters;
        assert_eq!(dropped.dropped_signature + dropped.dropped_source, 0, "{name}");
    }
}

#[test]
fn two_hosts_stand_in_for_one_indicator_and_one_does_not() {
    let first_rule = |reporters| {
        let mut lab = attacked();
        lab.run_until(9.0);
        if reporters > 0 {
            run_hinted(&mut lab, 30.0, &bare(), reporters);
        }
        lab.run_until(30.0);
        assert_eq!(lab.incident().class, IncidentClass::RandomSpoofed, "{}", lab.story());
        assert_eq!(lab.signature_rules().len(), 1, "{}", lab.story());
        let (installed, rule) = lab.installed[0].clone();
        assert!(lab.connected(installed + 1.0, 29.0) >= 0.99, "{}", lab.story());
        let RuleReason::Signature { basis, .. } = rule.reason else { panic!("{rule:?}") };
        (installed, basis)
    };
    let (alone, basis) = first_rule(0);
    assert_eq!(basis, SignatureBasis::NoClient);
    let (with_one, basis) = first_rule(1);
    assert_eq!(basis, SignatureBasis::NoClient, "one host may err, or lie");
    assert!((with_one - alone).abs() <= 0.5, "{with_one} {alone}");
    let (hinted, basis) = first_rule(2);
    assert_eq!(basis, SignatureBasis::Hinted);
    assert!(hinted + 0.5 <= alone, "{hinted} {alone}");
}

/// The evidence of another port, or of another tool, says nothing.
#[test]
fn a_hint_about_something_else_changes_nothing() {
    let rule_at = |message: Option<FleetMessage>| {
        let mut lab = attacked();
        lab.run_until(9.0);
        if let Some(message) = message {
            lab.fleet(message, 0).expect("taken");
        }
        lab.run_until(30.0);
        lab.installed[0].0
    };
    let alone = rule_at(None);
    assert_eq!(rule_at(Some(hint(80, &bare(), 9))), alone);
    let other = SharedSignature { window: Some(1024), ..bare() };
    assert!((rule_at(Some(hint(443, &other, 9))) - alone).abs() <= 0.5);
}

#[test]
fn a_rule_that_rests_on_a_hint_goes_with_it() {
    let mut lab = attacked();
    lab.run_until(9.0);
    run_hinted(&mut lab, 11.1, &bare(), 2);
    assert_eq!(lab.signature_rules().len(), 1, "{}", lab.story());
    let over = Hint { port: 443, signature: bare(), reporters: 2, ttl_s: 0 };
    lab.fleet(FleetMessage::Hint(over), 0).expect("withdrawn");
    lab.run_until(11.55);
    assert_eq!(lab.signature_rules().len(), 0, "{}", lab.story());
    assert_eq!(lab.removed[0].2, RemovalReason::Unsupported);
    lab.run_until(20.0);
    assert_eq!(lab.signature_rules().len(), 1, "by its own evidence: {}", lab.story());
    let RuleReason::Signature { basis, .. } = lab.installed[1].1.reason else { panic!() };
    assert_eq!(basis, SignatureBasis::NoClient);
}

/// Clients that look like the flood come while the rule stands, and get in with their first retransmission.
#[test]
fn a_rule_that_rests_on_a_hint_gives_way_to_clients() {
    let late =
        Clients { shape: Some(Shape::FarBare), from: 15.0, until: 40.0, ..Clients::steady(10.0) };
    let mut lab = attacked().clients(late);
    lab.run_until(9.0);
    run_hinted(&mut lab, 40.0, &bare(), 1000);
    let story = lab.story();
    let RuleReason::Signature { basis, .. } = lab.installed[0].1.reason else { panic!("{story}") };
    assert_eq!(basis, SignatureBasis::Hinted, "{story}");
    let (gone, _, why) = lab.removed.first().expect(&story);
    let of_clients =
        matches!(why, RemovalReason::MatchesClients { .. } | RemovalReason::Unsupported);
    assert!(of_clients, "{why:?} {story}");
    assert!(*gone < 20.0, "{gone} {story}");
    assert_eq!(lab.signature_rules().len(), 0, "{story}");
    assert!(lab.group_connected(1, 4.0, 15.0, 35.0) > 0.95, "{story}");
    assert!(lab.group_connected(1, 1.0, 25.0, 35.0) > 0.95, "cookies answer them: {story}");
}

#[test]
fn hints_that_go_on_make_no_rule_and_no_incident_last() {
    let mut lab = attacked();
    lab.run_until(9.0);
    run_hinted(&mut lab, 120.0, &bare(), 1000);
    let story = lab.story();
    let over = lab.times("attack_ended");
    assert_eq!(over.len(), 1, "{story}");
    assert!(over[0] - 40.1 <= 35.0, "{story}");
    assert_eq!(lab.kernel.rules().count(), 0, "{story}");
    assert_eq!(lab.times("attack_started").len(), 1, "{story}");
}

#[test]
fn in_observe_mode_a_hint_is_counted_against_live_syns_and_does_nothing() {
    let mut lab = Lab::new(Mode::Observe)
        .listener(Server::default())
        .clients(Clients::steady(100.0))
        .flood(far_flood());
    lab.run_until(9.0);
    for signature in [bare(), SharedSignature { window: Some(1024), ..bare() }] {
        lab.fleet(hint(443, &signature, 2), 0).expect("taken");
    }
    lab.run_until(30.0);
    let hints: Vec<_> = lab.engine.hints().collect();
    let syns = |window| {
        let of = |hint: &&tcpguard_engine::HintReport| hint.signature.window == Some(window);
        hints.iter().find(of).expect("it holds").syns
    };
    assert!(syns(512) > 1000, "{hints:?}");
    assert_eq!(syns(1024), 0);
    assert!(hints.iter().all(|hint| !hint.cookies_ahead));
    let taken = lab.kernel.mitigations(0);
    assert!(!taken.iter().any(|taken| taken.keeps_syns_away()), "{taken:?}: {}", lab.story());
}

#[test]
fn a_signature_is_evidence_for_others_only_if_this_host_has_it_of_its_own() {
    let mut lab = attacked();
    lab.run_until(9.0);
    run_hinted(&mut lab, 11.1, &bare(), 2);
    assert_eq!(lab.signature_rules().len(), 1, "{}", lab.story());
    let shared = |lab: &Lab| lab.engine.shared_evidence(lab.kernel.now).remove(0);
    assert_eq!(shared(&lab).signatures, [], "an echo is no second host");
    run_hinted(&mut lab, 20.0, &bare(), 2);
    let evidence = shared(&lab);
    assert_eq!(evidence.class, IncidentClass::RandomSpoofed);
    assert_eq!((evidence.listener.port, evidence.listeners), (443, 1));
    assert_eq!(evidence.victims, [Victim { addr: evidence.listener.addr, share: 1.0 }]);
    assert!(evidence.dropped_pps > 1000.0, "{evidence:?}");
    assert!(evidence.indicators >= 3 && evidence.confidence > 0.8, "{evidence:?}");
    let [found] = evidence.signatures.as_slice() else { panic!("{evidence:?}") };
    assert_eq!((&found.signature, found.clients), (&bare(), 0));
    assert!(found.share > 0.9, "{found:?}");
}

#[test]
fn the_lengths_of_clients_syns_are_those_of_completed_handshakes() {
    let clients = Clients { shape: Some(Shape::Linux), ..Clients::steady(100.0) };
    let mut lab =
        Lab::new(Mode::Enforce).listener(Server::default()).clients(clients).flood(far_flood());
    lab.run_until(20.0);
    let evidence = lab.engine.shared_evidence(lab.kernel.now).remove(0);
    let [found] = evidence.client_lengths[..] else { panic!("{evidence:?}") };
    assert_eq!((found.ipv6, found.length), (false, Some(60)), "none without options");
    assert!(found.completions > 100, "{found:?}");
}

fn rule(serial: u64, action: FleetAction, prefix: &str, lifetime_s: u64) -> FleetRule {
    FleetRule {
        name: FleetName { role: "ops".to_owned(), serial },
        action,
        net: net(prefix),
        ports: Ports::EVERY,
        lifetime_s,
        reason: "abuse report".to_owned(),
    }
}

fn block(serial: u64, prefix: &str, lifetime_s: u64) -> FleetMessage {
    FleetMessage::Rule(rule(serial, FleetAction::Block, prefix, lifetime_s))
}

fn allow(serial: u64, prefix: &str) -> FleetMessage {
    FleetMessage::Rule(rule(serial, FleetAction::Allow, prefix, 600))
}

/// The rules, each with its origin.
fn rules(lab: &Lab) -> Vec<(String, String)> {
    let rules = lab.report().rules.into_iter().map(|rule| (rule.matches, rule.origin.to_string()));
    let rules: Vec<_> = rules.collect();
    assert_eq!(rules.len(), lab.kernel.rules().count(), "the kernel has the same");
    rules
}

fn one(matches: &str, origin: &str) -> Vec<(String, String)> {
    vec![(matches.to_owned(), origin.to_owned())]
}

/// An operator of this host blocks a prefix.
fn block_here(lab: &mut Lab, prefix: &str) {
    let request = Request::Block {
        net: net(prefix),
        ports: Ports::EVERY,
        lifetime: Duration::from_secs(600),
        reason: "by hand".to_owned(),
        force: Force::No,
        clients: ClientsWithin::default(),
    };
    lab.request(request).expect("blocked");
}

fn unblock(lab: &mut Lab, which: Which, whose: Whose) -> Result<Response, RequestError> {
    lab.request(Request::Unblock { which, whose })
}

#[test]
fn a_rule_of_the_fleet_has_a_name_is_made_once_and_ends() {
    let mut lab = lab();
    lab.fleet(block(42, "192.0.2.77/24", 20), 0).expect("made");
    assert_eq!(rules(&lab), one("192.0.2.0/24", "fleet:ops/42"));
    lab.run_until(15.0);
    lab.fleet(block(42, "192.0.2.77/24", 15), 0).expect("the same");
    assert_eq!((lab.installed.len(), lab.times("rule_installed").len()), (1, 1));
    lab.run_until(29.5);
    assert_eq!(rules(&lab).len(), 1);
    lab.run_until(30.5);
    assert_eq!(rules(&lab), []);
    assert_eq!(lab.removed[0].2, RemovalReason::Expired);

    lab.fleet(block(43, "192.0.2.0/24", 365 * 86_400), 0).expect("made");
    let made = &lab.report().rules[0];
    assert_eq!(made.expires_at.since(made.created_at), Limits::MAX_MANUAL_RULE);
    let name = FleetName { role: "ops".to_owned(), serial: 43 };
    lab.fleet(FleetMessage::RuleGone(name.clone()), 0).expect("removed");
    assert_eq!(rules(&lab), []);
    assert_eq!(lab.removed[1].2, RemovalReason::Fleet);
    lab.fleet(FleetMessage::RuleGone(name), 0).expect("it has gone already");
}

/// Even an attacker who holds the fleet process cannot cut off what this host serves or needs.
#[test]
fn a_rule_of_the_fleet_that_would_do_harm_here_is_refused() {
    let mut lab = lab();
    lab.allow("198.51.100.0/24", 600);
    let clients = ClientsWithin { validated: 3, last_minute: 0 };
    let (wide, client) = (net("192.0.0.0/15"), net("192.0.2.0/24"));
    let refused = lab.fleet(block(1, "192.0.0.0/15", 60), 0);
    let why = RequestError::TooWide { net: wide, shortest: Limits::MIN_PREFIX_V4 };
    assert_eq!(refused, Err(FleetRefusal::Harmful(why)));
    let refused = lab.fleet(block(2, "192.0.2.0/24", 60), 3);
    let why = RequestError::Clients { net: client, clients };
    assert_eq!(refused, Err(FleetRefusal::Harmful(why)));
    for protected in ["203.0.113.7/32", "203.0.0.0/16", "198.51.100.9/32"] {
        let refused = lab.fleet(block(3, protected, 60), 0);
        let is_protected = |why: &FleetRefusal| {
            matches!(why, FleetRefusal::Harmful(RequestError::Protected { .. }))
        };
        assert!(refused.as_ref().is_err_and(is_protected), "{protected}: {refused:?}");
    }
    assert_eq!(rules(&lab), []);

    lab.fleet(block(4, "192.0.2.0/24", 600), 0).expect("made");
    let mut lab = lab.protect("192.0.2.7/32", "SSH client");
    lab.run_until(11.0);
    assert_eq!(rules(&lab), [], "it is protected from now on");
    assert!(matches!(lab.removed[0].2, RemovalReason::Exempt { .. }));
}

#[test]
fn the_word_of_an_operator_of_this_host_outranks_the_fleet() {
    let mut lab = lab();
    let message = || block(1, "192.0.2.0/24", 600);
    lab.fleet(message(), 0).expect("made");
    block_here(&mut lab, "192.0.2.0/24");
    assert_eq!(rules(&lab), one("192.0.2.0/24", "operator"));
    assert_eq!(lab.fleet(message(), 0), Err(FleetRefusal::Overruled));
    let refused = lab.fleet(allow(2, "192.0.2.7/32"), 0);
    assert_eq!(refused, Err(FleetRefusal::Overruled));

    unblock(&mut lab, Which::All, Whose::Operators).expect("removed");
    lab.fleet(message(), 0).expect("it is no longer overruled");
    assert!(unblock(&mut lab, Which::All, Whose::Operators).is_err(), "it is none of theirs");
    unblock(&mut lab, Which::Within(net("192.0.2.0/24")), Whose::All).expect("removed");
    assert_eq!(
        lab.fleet(message(), 0),
        Err(FleetRefusal::Overruled),
        "the fleet repeats its rules"
    );
    let overruled: Vec<u64> = lab.engine.overruled().map(|(name, _)| name.serial).collect();
    assert_eq!(overruled, [1]);
    lab.fleet(block(3, "192.0.2.0/24", 600), 0).expect("a new word");

    lab.allow("192.0.2.7/32", 600);
    assert_eq!(rules(&lab), []);
    let exempt = lab.fleet(block(3, "192.0.2.0/24", 600), 0);
    assert!(matches!(exempt, Err(FleetRefusal::Harmful(_))), "{exempt:?}");
}

#[test]
fn an_exemption_by_the_fleet_outranks_automatic_rules_and_gives_way_to_an_operator() {
    let attacker = Sources::One([198, 51, 100, 7].into());
    let mut lab = at_its_end().flood(alike(2000.0, 10.1, 60.1, attacker));
    lab.run_until(20.0);
    assert_eq!(rules(&lab).len(), 1, "{}", lab.story());
    lab.fleet(allow(7, "198.51.100.0/24"), 0).expect("allowed");
    lab.run_until(30.0);
    assert_eq!(rules(&lab), [], "{}", lab.story());
    assert_eq!(lab.report().allowed[0].fleet.as_ref().map(|name| name.serial), Some(7));
    block_here(&mut lab, "198.51.100.7/32");
    assert_eq!(rules(&lab), one("198.51.100.7/32", "operator"));
    assert_eq!(lab.report().allowed, []);
    unblock(&mut lab, Which::All, Whose::Operators).expect("removed");
    lab.fleet(allow(7, "198.51.100.0/24"), 0).expect("allowed again");
    lab.request(Request::Disallow { net: net("198.51.100.0/24") }).expect("revoked");
    let again = lab.fleet(allow(7, "198.51.100.0/24"), 0);
    assert_eq!(again, Err(FleetRefusal::Overruled));
}

#[test]
fn a_later_rule_of_a_role_replaces_its_earlier_one() {
    let mut lab = lab();
    let ports = Ports::new(&[443]).expect("a port");
    let of_port = FleetRule { ports, ..rule(5, FleetAction::Block, "192.0.2.0/24", 600) };
    lab.fleet(FleetMessage::Rule(of_port), 0).expect("made");
    lab.fleet(block(6, "192.0.2.0/24", 600), 0).expect("made");
    assert_eq!(rules(&lab), one("192.0.2.0/24", "fleet:ops/6"));
    assert!(matches!(lab.removed[0].2, RemovalReason::Replaced { .. }));
    let by = FleetName { role: "ops".to_owned(), serial: 6 };
    for (role, serial) in [("ops", 5), ("soc", 99)] {
        let name = FleetName { role: role.to_owned(), serial };
        let other = FleetRule { name, ..rule(0, FleetAction::Block, "192.0.2.0/24", 600) };
        let refused = lab.fleet(FleetMessage::Rule(other), 0);
        assert_eq!(refused, Err(FleetRefusal::Outranked { by: by.clone() }), "{role}/{serial}");
    }
}

/// The naive way lets the fleet process fill the table, or keep the agent busy.
#[test]
fn rules_of_the_fleet_have_a_pace_and_leave_room() {
    let settings = Settings { rules: maps::MIN_RULES, ..Settings::default() };
    let mut lab = Lab::seeded(settings, Mode::Enforce, 1).listener(Server::default());
    lab.run_until(10.0);
    let ports = Ports::new(&[22, 80, 443, 8443]).expect("up to four");
    let mut serial = 0;
    // The reason for which the next rule is refused, and the number of rules until then.
    let mut until_refused = |lab: &mut Lab| {
        for made in 0..1000 {
            serial += 1;
            let prefix = format!("198.18.{}.{}/32", serial / 256, serial % 256);
            let next = FleetRule { ports, ..rule(serial, FleetAction::Block, &prefix, 600) };
            if let Err(why) = lab.fleet(FleetMessage::Rule(next), 0) {
                return (made, why);
            }
        }
        panic!("no bound");
    };
    assert_eq!(until_refused(&mut lab), (64, FleetRefusal::TooFast));
    lab.run_until(30.0);
    let limit = maps::MIN_RULES / 4;
    assert_eq!(until_refused(&mut lab), (64, FleetRefusal::RulesFull { limit }));
    assert_eq!(rules(&lab).len(), 128, "each has an entry of the kernel for each port");
    block_here(&mut lab, "192.0.2.0/24");
}

#[test]
fn what_operators_of_this_host_clear_away_leaves_the_rules_of_the_fleet() {
    let mut lab = lab();
    lab.fleet(block(1, "192.0.2.0/24", 600), 0).expect("made");
    lab.fleet(block(2, "198.18.0.0/24", 600), 0).expect("made");
    block_here(&mut lab, "198.51.100.0/24");
    unblock(&mut lab, Which::All, Whose::Operators).expect("removed");
    assert_eq!(rules(&lab).len(), 2);
    let imported = RuleToImport {
        net: net("192.0.2.0/24"),
        ports: Ports::new(&[443]).expect("a port"),
        lifetime: None,
        reason: None,
    };
    let rules_to_import = vec![imported];
    let request = Request::ImportRules { rules: rules_to_import, merge: false, force: Force::No };
    lab.request(request).expect("imported");
    let mut origins: Vec<String> = rules(&lab).into_iter().map(|(_, origin)| origin).collect();
    origins.sort();
    assert_eq!(origins, ["fleet:ops/2", "operator"], "of one prefix, the operator's rule counts");
    lab.restart();
    assert_eq!(rules(&lab).len(), 2);
    unblock(&mut lab, Which::All, Whose::Fleet).expect("removed");
    assert_eq!(rules(&lab), one("192.0.2.0/24", "operator"));
}
