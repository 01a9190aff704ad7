//! Retransmitted SYNs under a signature rule: they pass, and withdraw the rule if they are clients'. The
//! handshakes that they complete show this. These must be many, and cookies must be able to answer the flood,
//! or hardly any of it may be left.

use tcpguard_engine::{
    Event, Fallback, Mitigation, Mode, Order, Request, RuleReason, Severity, SignatureBasis,
};

use crate::sim::*;
use crate::{at_its_end, order_mitigation};

/// A flood, and from 20 on `rate` clients a second with exactly its fingerprint.
fn lab(rate: f64) -> Lab {
    let alike = Clients { from: 20.0, shape: Some(Shape::Bare), ..Clients::steady(rate) };
    Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients::steady(50.0))
        .clients(alike)
        .flood(Flood::random(5000.0, 10.0..60.0))
}

#[test]
fn a_few_get_in_with_their_first_retransmission_and_the_rule_stays() {
    let mut lab = lab(2.0);
    lab.run_until(60.0);
    assert_eq!(lab.times("rule_withdrawn").len(), 0, "{}", lab.story());
    let rule = &lab.report().rules[0];
    assert!((60..100).contains(&rule.accepted_retransmits), "{}", rule.accepted_retransmits);
    assert!((60..=rule.accepted_retransmits).contains(&rule.completed), "{}", rule.completed);
    assert!(lab.connected(10.0, 19.0) == 1.0);
}

#[test]
fn those_let_in_from_far_away_are_not_cleaned_up_with_the_flood() {
    // Without cookies a handshake that has lost its half-open entry cannot complete, and half a second passes between
    // the SYN-ACK and the third ACK.
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
    assert!((23.0..30.0).contains(&withdrawn[0]), "{}", lab.story());
    let cookies = lab
        .mitigations
        .iter()
        .find(|(_, mitigation)| *mitigation == Mitigation::Cookies)
        .expect("cookies")
        .0;
    assert!(cookies + 3.0 <= withdrawn[0], "they answered before: {}", lab.story());
    let alert = lab
        .alerts
        .iter()
        .find(|reported| reported.event.name() == "rule_withdrawn")
        .expect("the alert");
    assert_eq!(alert.event.severity(), Severity::Warning);
    assert!(
        matches!(alert.event, Event::RuleWithdrawn { then: Fallback::Cookies, .. }),
        "{alert:?}"
    );
    assert_eq!(lab.installed.len(), 1, "not again in this attack: {}", lab.story());
    assert_eq!(lab.connected(31.0, 58.0), 1.0, "cookies let them in");
    lab.run_until(95.0);
    assert_eq!(lab.times("attack_ended").len(), 1, "{} {:?}", lab.story(), lab.listener_report(0));
}

/// A flood of which a share is retransmitted after a second, and never completes.
fn repeated(server: Server, rate: f64, share: f64) -> Lab {
    Lab::new(Mode::Enforce)
        .listener(server)
        .clients(Clients::steady(50.0))
        .flood(Flood { repeated: share, ..Flood::random(rate, 10.0..60.0) })
}

#[test]
fn syns_that_a_flood_sends_twice_take_no_rule_away() {
    for cookies in [true, false] {
        let server = Server { cookies, ..Server::default() };
        for (rate, share) in [(3000.0, 0.02), (20_000.0, 0.04), (3000.0, 0.3)] {
            let mut lab = repeated(server, rate, share);
            lab.run_until(60.0);
            let story = format!("{cookies} {rate} {share} {}", lab.story());
            assert_eq!(lab.times("rule_withdrawn").len(), 0, "{story}");
            assert_eq!(lab.signature_rules().len(), 1, "{story}");
            let rule = &lab.report().rules[0];
            assert!(rule.accepted_retransmits > 100 && rule.completed == 0, "{rule:?}");
            assert!(lab.connected(13.0, 58.0) >= 0.99, "{story}");
        }
    }
}

/// The flood's retransmissions complete no handshake. Without the cookies that XDP sends, the stack would take so few
/// of them that hardly any client's would be among these.
#[test]
fn cookies_cover_a_flood_that_retransmits_more_than_the_stack_takes() {
    let again = Flood { repeated: 1.0, ..Flood::random(3000.0, 20.0..100.0) };
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients::steady(50.0))
        .clients(Clients { from: 60.0, shape: Some(Shape::Bare), ..Clients::steady(5.0) })
        .flood(Flood::random(3000.0, 10.0..20.0))
        .flood(again);
    lab.run_until(100.0);
    let story = lab.story();
    assert!(lab.kernel.mitigations(0).contains(&Mitigation::Cookies), "{story}");
    assert!(lab.group_connected(1, 2.0, 60.0, 97.0) >= 0.99, "{story}");
    assert_eq!(lab.times("rule_withdrawn").len(), 0, "{story}");
    assert_eq!(lab.signature_rules().len(), 1, "{story}");
}

/// An operator forbids the rule for the first ten seconds. Otherwise it is made before it is known that the
/// SYNs are retransmitted.
#[test]
fn a_flood_that_sends_its_syns_twice_from_the_start_is_dropped_where_it_cannot_be_answered() {
    let flood = Flood { repeated: 0.9, ..Flood::random(2000.0, 10.1..50.1) };
    let mut lab = at_its_end().clients(Clients::steady(50.0)).flood(flood);
    lab.run_until(10.0);
    order_mitigation(&mut lab, Mitigation::Signature, Order::Off);
    lab.run_until(20.0);
    assert_eq!(lab.installed.len(), 0, "{}", lab.story());
    order_mitigation(&mut lab, Mitigation::Signature, Order::Auto);
    lab.run_until(25.0);
    assert_eq!(lab.signature_rules().len(), 1, "{}", lab.story());
}

/// A flood, a host without cookies, and from 20 on so many clients a second with the flood's fingerprint. The stack
/// takes 16 retransmissions a second, and more only as their handshakes complete.
fn alike_without_cookies(rate: f64) -> Lab {
    let alike = Clients { from: 20.0, shape: Some(Shape::Bare), ..Clients::steady(rate) };
    Lab::new(Mode::Enforce)
        .listener(Server { cookies: false, ..Server::default() })
        .clients(Clients::steady(50.0))
        .clients(alike)
        .flood(Flood::random(2000.0, 10.0..60.0))
}

#[test]
fn more_retransmissions_pass_where_clients_complete_their_handshakes() {
    let mut lab = alike_without_cookies(60.0);
    lab.run_until(60.0);
    let story = lab.story();
    assert!(lab.group_connected(1, 4.0, 40.0, 55.0) >= 0.95, "{story}");
    assert!(lab.group_connected(0, 1.0, 20.0, 58.0) >= 0.99, "{story}");
    assert_eq!(lab.times("rule_withdrawn").len(), 0, "{story}");
}

#[test]
fn more_clients_than_the_stack_takes_at_first_end_the_rule_once_the_flood_is_over() {
    let mut lab = alike_without_cookies(100.0);
    lab.run_until(60.0);
    assert_eq!(lab.times("rule_withdrawn").len(), 0, "while it is on: {}", lab.story());
    lab.run_until(115.0);
    let story = lab.story();
    let (withdrawn, ended) = (lab.times("rule_withdrawn"), lab.times("attack_ended"));
    assert!(withdrawn.len() == 1 && (68.0..76.0).contains(&withdrawn[0]), "{story}");
    assert!(lab.group_connected(1, 0.9, 80.0, 113.0) >= 0.99, "at their first SYN: {story}");
    assert_eq!((ended.len(), lab.kernel.rules().count()), (1, 0), "{story}");
}

/// Helpers complete 40 handshakes a second from new addresses, and from 40 s on a flood retransmits.
#[test]
fn helpers_that_complete_handshakes_open_the_queue_to_no_flood() {
    let again = Flood { repeated: 1.0, ..Flood::random(3000.0, 40.0..60.0) };
    let mut lab = alike_without_cookies(40.0).flood(again);
    lab.run_until(60.0);
    let story = lab.story();
    assert_eq!(lab.times("rule_withdrawn").len(), 0, "{story}");
    assert_eq!(lab.signature_rules().len(), 1, "{story}");
    assert!(lab.group_connected(0, 1.0, 20.0, 58.0) >= 0.99, "the queue is not full: {story}");
}

#[test]
fn without_cookies_clients_that_share_the_floods_signature_withdraw_no_rule() {
    let mut lab = alike_without_cookies(100.0);
    lab.run_until(60.0);
    let story = lab.story();
    assert!(!lab.times("mitigation_failed").is_empty(), "cookies were wanted: {story}");
    assert_eq!(lab.times("rule_withdrawn").len(), 0, "{story}");
    assert!(lab.group_connected(0, 1.0, 20.0, 58.0) >= 0.99, "all others go on: {story}");
    assert!(lab.report().rules[0].completed > 1000, "most of them connect: {story}");
}

/// A flood, a host without cookies, and from 20 on five clients a second with the flood's fingerprint.
fn without_cookies() -> Lab {
    Lab::new(Mode::Enforce)
        .listener(Server { cookies: false, ..Server::default() })
        .clients(Clients::steady(30.0))
        .clients(Clients { from: 20.0, shape: Some(Shape::Bare), ..Clients::steady(5.0) })
        .flood(Flood::random(2000.0, 10.0..60.0))
}

#[test]
fn where_cookies_are_not_to_be_had_the_attack_ends_though_clients_look_like_the_flood() {
    let mut lab = without_cookies();
    lab.run_until(60.0);
    assert_eq!(lab.times("rule_withdrawn").len(), 0, "while it is on: {}", lab.story());
    lab.run_until(95.0);
    let story = lab.story();
    let (withdrawn, ended) = (lab.times("rule_withdrawn"), lab.times("attack_ended"));
    assert!(withdrawn.len() == 1 && (68.0..73.0).contains(&withdrawn[0]), "{story}");
    assert!(lab.group_connected(1, 0.9, 74.0, 93.0) > 0.99, "at their first SYN: {story}");
    assert!(ended.len() == 1 && ended[0] <= 92.0, "{story}");
    assert_eq!(lab.kernel.rules().count(), 0, "{story}");
}

#[test]
fn a_rule_that_hit_mostly_clients_is_installed_again_with_the_flood() {
    let mut lab = without_cookies().flood(Flood::random(2000.0, 80.0..110.0));
    lab.run_until(79.0);
    assert_eq!(lab.times("rule_withdrawn").len(), 1, "{}", lab.story());
    assert_eq!(lab.signature_rules().len(), 0, "{}", lab.story());
    lab.run_until(110.0);
    let story = lab.story();
    assert_eq!(lab.installed.len(), 2, "{story}");
    assert!(lab.installed[1].0 <= 80.5, "as soon as the queue is full: {story}");
    assert_eq!(lab.times("rule_withdrawn").len(), 1, "{story}");
    assert_eq!(lab.times("attack_started").len(), 1, "{story}");
    assert!(lab.group_connected(0, 1.0, 84.0, 108.0) >= 0.99, "{story}");
}

#[test]
fn a_rule_withdrawn_for_cookies_may_return_without_them() {
    let mut lab = lab(100.0);
    lab.run_until(40.0);
    assert_eq!(lab.times("rule_withdrawn").len(), 1, "{}", lab.story());
    order_mitigation(&mut lab, Mitigation::Cookies, Order::Off);
    lab.run_until(59.0);
    assert_eq!(lab.installed.len(), 2, "nothing answers: {}", lab.story());
}

fn forbid_signatures(lab: &mut Lab) {
    order_mitigation(lab, Mitigation::Signature, Order::Off);
}

fn turn_off_and_on(lab: &mut Lab) {
    for mode in [Mode::Off, Mode::Enforce] {
        lab.request(Request::SetMode { mode }).expect("set");
    }
}

#[test]
fn a_rule_that_went_for_cookies_does_not_come_again_once_an_operator_has_released_it() {
    let words: [fn(&mut Lab); 2] = [forbid_signatures, turn_off_and_on];
    for word in words {
        let mut lab = lab(100.0);
        lab.run_until(40.0);
        assert_eq!(lab.times("rule_withdrawn").len(), 1, "{}", lab.story());
        word(&mut lab);
        order_mitigation(&mut lab, Mitigation::Cookies, Order::Off);
        lab.run_until(59.0);
        assert_eq!(lab.installed.len(), 1, "{}", lab.story());
    }
}

#[test]
fn in_observe_mode_clients_show_at_their_first_syn() {
    let alike = Clients { from: 20.0, shape: Some(Shape::Bare), ..Clients::steady(100.0) };
    let mut lab = Lab::new(Mode::Observe)
        .listener(Server::default())
        .clients(Clients::steady(50.0))
        .clients(alike)
        .flood(Flood::random(5000.0, 10.0..60.0));
    lab.run_until(40.0);
    let withdrawn = lab.times("rule_withdrawn");
    assert_eq!(withdrawn.len(), 1, "{}", lab.story());
    assert!((20.0..23.0).contains(&withdrawn[0]), "{}", lab.story());
}

#[test]
fn a_trial_that_hits_clients_ends_when_cookies_answer_them() {
    // No client has connected here before, the queue is full, and cookies are unavailable. A flash crowd of clients
    // with an unusual fingerprint that do not wait for the SYN-ACK would pass for a flood.
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server { cookies: false, ..Server::default() })
        .clients(Clients { from: 12.0, shape: Some(Shape::Bare), ..Clients::steady(100.0) })
        .flood(Flood::random(1000.0, 10.0..120.0));
    lab.run_until(15.0);
    // An administrator allows them, and they are tried again after a minute.
    lab.kernel.set_cookies(true);
    lab.run_until(110.0);
    assert!(
        lab.installed.first().is_some_and(|(_, rule)| match rule.reason {
            RuleReason::Signature { basis, .. } => basis == SignatureBasis::FullQueue,
            _ => false,
        }),
        "{}",
        lab.story()
    );
    let withdrawn = lab.times("rule_withdrawn");
    assert!((70.0..82.0).contains(&withdrawn[0]), "{}", lab.story());
    assert_eq!(lab.installed.len(), 1, "{}", lab.story());
}
