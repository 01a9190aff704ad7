//! Real clients under a signature rule: they come back, are let in, and take the rule down if they
//! are many.

use tcpguard_engine::{Mode, Severity};

use crate::sim::*;

/// A flood, and from 20 on `rate` clients a second that look exactly like it.
fn lab(rate: f64) -> Lab {
    let alike = Clients { from: 20.0, shape: Some(Shape::Bare), ..Clients::steady(rate) };
    Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients::steady(50.0))
        .clients(alike)
        .flood(Flood::random(5000.0, 10.0..60.0))
}

#[test]
fn a_few_are_let_in_after_their_first_repetition_and_the_rule_stays() {
    let mut lab = lab(2.0);
    lab.run_until(60.0);
    assert_eq!(lab.times("rule_withdrawn").len(), 0, "{}", lab.story());
    let rule = &lab.report().rules[0];
    assert!((60..100).contains(&rule.returned), "{}", rule.returned);
    assert!(lab.connected(10.0, 19.0) == 1.0);
}

#[test]
fn those_let_in_from_far_away_are_not_cleaned_up_with_the_flood() {
    // Without cookies a handshake whose half-open entry is gone cannot complete, and half a second
    // passes between the answer and the third ACK.
    let far =
        Clients { from: 10.5, shape: Some(Shape::Bare), rtt: 0.5..0.8, ..Clients::steady(2.0) };
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server { cookies: false, ..Server::default() })
        .clients(Clients::steady(50.0))
        .clients(far)
        .flood(Flood::random(5000.0, 10.0..60.0));
    lab.run_until(60.0);
    assert_eq!(lab.signature_rules().len(), 1, "{}", lab.story());
    let (installed, _) = lab.installed[0];
    let let_in = lab.group_connected(1, 2.0, installed, 57.0);
    assert_eq!(let_in, 1.0, "after the first repetition: {}", lab.story());
}

#[test]
fn many_have_it_withdrawn_for_the_rest_of_the_attack() {
    let mut lab = lab(100.0);
    lab.run_until(60.0);
    let withdrawn = lab.times("rule_withdrawn");
    assert_eq!(withdrawn.len(), 1, "{}", lab.story());
    assert!((21.0..25.0).contains(&withdrawn[0]), "{}", lab.story());
    let alert = lab.told.iter().find(|told| told.event == "rule_withdrawn").expect("the alert");
    assert_eq!(alert.severity, Severity::Warning);
    assert!(alert.message.ends_with("that is for SYN cookies"));
    assert_eq!(lab.installed.len(), 1, "not again in this attack: {}", lab.story());
    assert_eq!(lab.connected(26.0, 58.0), 1.0, "cookies let them in");
    lab.run_until(95.0);
    assert_eq!(lab.times("attack_ended").len(), 1, "{} {:?}", lab.story(), lab.listener_report(0));
}

#[test]
fn a_trial_that_hits_clients_ends_within_two_seconds() {
    // Nobody has been seen here before, the queue is full, and cookies are off: a crowd of odd
    // clients whose answers nobody waits for would look like a flood.
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server { cookies: false, ..Server::default() })
        .clients(Clients { from: 12.0, shape: Some(Shape::Bare), ..Clients::steady(100.0) })
        .flood(Flood::random(1000.0, 10.0..40.0));
    lab.run_until(40.0);
    assert!(lab.installed[0].1.reason.contains("on trial"), "{}", lab.story());
    let withdrawn = lab.times("rule_withdrawn");
    assert!((13.0..14.0).contains(&withdrawn[0]), "{}", lab.story());
    assert_eq!(lab.installed.len(), 1, "{}", lab.story());
}
