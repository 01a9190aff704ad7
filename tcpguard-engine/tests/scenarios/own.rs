//! Settings of a listener's own. In each scenario two listeners see the same; the second, at port 444,
//! is the one that is different.

use std::time::Duration;

use tcpguard_engine::{
    Event, HeldBack, IncidentReport, Listener, Mitigation, MitigationReason, MitigationReport,
    MitigationState, Mode, Order, Override, Place, RemovalReason, Request, RestraintReason,
    Settings, Signal, Tuning,
};

use crate::sim::*;
use crate::{alike, at_its_end};

const SECOND: Place = Place { addr: None, port: 444 };
const WITHOUT_COOKIES: Server =
    Server { backlog: 128, cookies: false, traced: true, accepting: true, dead: false };

/// An override that changes nothing.
fn own() -> Override {
    Override { at: SECOND, mode: None, barred: Vec::new() }
}

/// Two such listeners with as many clients each.
fn two(server: Server, rate: f64) -> Lab {
    Lab::new(Mode::Enforce)
        .listener(server)
        .listener(server)
        .clients(Clients::steady(rate))
        .clients(Clients { to: 1, ..Clients::steady(rate) })
}

/// The same flood against both.
fn flooded(lab: Lab, flood: Flood) -> Lab {
    lab.flood(flood.clone()).flood(Flood { to: 1, ..flood })
}

/// A flood with exactly the clients' fingerprints.
fn mimicking(rate: f64, from: f64, until: f64) -> Flood {
    Flood { shape: Shape::Mix, ..Flood::random(rate, from..until) }
}

/// The first reported incident of a port.
fn incident(lab: &Lab, port: u16) -> Option<IncidentReport> {
    let mut reported = lab.alerts.iter().filter_map(|reported| reported.incident.clone());
    reported.find(|incident| incident.listener.port == port)
}

fn mitigation(lab: &Lab, listener: usize, mitigation: Mitigation) -> Option<MitigationReport> {
    lab.listener_report(listener)
        .mitigations
        .into_iter()
        .find(|report| report.mitigation == mitigation)
}

#[test]
fn a_listener_that_is_only_observed_is_left_alone_and_it_says_what_would_be_done() {
    let observed = Override { mode: Some(Mode::Observe), ..own() };
    let mut lab =
        flooded(two(Server::default(), 100.0), Flood::random(20_000.0, 10.1..40.1)).own(observed);
    lab.run_until(30.0);
    let story = lab.story();
    assert_eq!(lab.installed.len(), 1, "only of the first: {story}");
    assert_eq!(lab.kernel.mitigations(1), [], "{story}");
    assert_eq!(lab.listener_report(1).counters.dropped_signature, 0, "{story}");
    let open = lab.report().incidents.into_iter().find(|open| open.listener.port == 444);
    let open = open.expect(&story);
    let by = HeldBack::ListenerObserves;
    let reported = |is_it: &dyn Fn(&Event) -> bool| {
        assert!(open.actions.iter().any(|action| is_it(&action.action)), "{:?}", open.actions);
    };
    reported(&|event| matches!(event, Event::RuleAdvised { why, .. } if *why == by));
    reported(&|event| match event {
        Event::MitigationAdvised { mitigation, .. } => *mitigation == Mitigation::Cookies,
        _ => false,
    });
    for restraint in [open.record.no_rule, open.record.no_mitigation] {
        let reason = restraint.map(|restraint| restraint.reason);
        assert_eq!(reason, Some(RestraintReason::HeldBack { by }));
    }
}

#[test]
fn actions_end_with_a_milder_mode_and_resume_with_the_stricter_one() {
    let flood = Flood::random(20_000.0, 10.1..60.1);
    let mut lab = flooded(two(Server::default(), 100.0), flood);
    lab.run_until(20.0);
    assert_eq!(lab.kernel.rules().count(), 2, "{}", lab.story());
    let observed = Override { mode: Some(Mode::Observe), ..own() };
    lab.tune(Tuning { overrides: vec![observed], ..Tuning::default() });
    lab.run_until(20.5);
    assert_eq!(lab.kernel.rules().count(), 1, "{}", lab.story());
    assert_eq!(lab.kernel.mitigations(1), [], "at once: {}", lab.story());
    let by = HeldBack::ListenerObserves;
    assert_eq!(lab.removed[0].2, RemovalReason::HeldBack { by });
    lab.run_until(30.0);
    assert_eq!(lab.kernel.rules().count(), 1, "{}", lab.story());
    assert_eq!(lab.kernel.mitigations(1), [], "{}", lab.story());
    lab.tune(Tuning::default());
    lab.run_until(40.0);
    assert_eq!(lab.kernel.rules().count(), 2, "{}", lab.story());
}

#[test]
fn a_restart_leaves_no_rule_where_the_mode_is_observe_by_now() {
    let flood = Flood::random(20_000.0, 10.1..60.1);
    let mut lab = flooded(two(Server::default(), 100.0), flood);
    lab.run_until(20.0);
    assert_eq!(lab.kernel.rules().count(), 2, "{}", lab.story());
    let mut lab = lab.own(Override { mode: Some(Mode::Off), ..own() });
    lab.restart();
    lab.run_until(21.0);
    assert_eq!(lab.kernel.rules().count(), 1, "{}", lab.story());
    let by = HeldBack::ListenerOff;
    assert_eq!(lab.removed[0].2, RemovalReason::HeldBack { by });
}

#[test]
fn without_cookies_the_rate_limit_works() {
    let barred = Override { barred: vec![Mitigation::Cookies], ..own() };
    let mut lab = flooded(two(WITHOUT_COOKIES, 40.0), mimicking(5000.0, 10.1, 60.1)).own(barred);
    lab.run_until(60.0);
    let story = lab.story();
    for (to, state) in [(0, MitigationState::Refused), (1, MitigationState::Forbidden)] {
        assert!(!lab.kernel.mitigations(to).contains(&Mitigation::Cookies), "{story}");
        assert!(lab.kernel.mitigations(to).contains(&Mitigation::Budget), "{story}");
        assert!(lab.group_connected(to, 4.0, 20.0, 55.0) >= 0.95, "{to} {story}");
        let cookies = mitigation(&lab, to, Mitigation::Cookies).expect(&story);
        assert_eq!(cookies.state, state, "{story}");
        match &cookies.why {
            MitigationReason::Failed { error, .. } if to == 0 => {
                assert!(error.starts_with("net.ipv4.tcp_syncookies is 0"), "{error}");
            }
            why => assert_eq!((to, why), (1, &MitigationReason::Barred)),
        }
    }
}

#[test]
fn where_the_configuration_forbids_signature_rules_cookies_answer() {
    let barred = Override { barred: vec![Mitigation::Signature], ..own() };
    let flood = Flood::random(20_000.0, 10.1..60.1);
    let mut lab = flooded(two(Server::default(), 100.0), flood).own(barred.clone());
    lab.run_until(30.0);
    let story = lab.story();
    assert_eq!(lab.installed.len(), 1, "only of the first: {story}");
    assert_eq!(lab.listener_report(1).counters.dropped_signature, 0, "{story}");
    assert!(lab.kernel.mitigations(1).contains(&Mitigation::Cookies), "{story}");
    assert!(lab.group_connected(1, 4.0, 15.0, 25.0) >= 0.99, "{story}");
    let report = mitigation(&lab, 1, Mitigation::Signature).expect(&story);
    let expected = (MitigationState::Forbidden, MitigationReason::Barred);
    assert_eq!((report.state, report.why), expected, "{story}");

    lab.tune(Tuning::default());
    lab.run_until(40.0);
    assert_eq!(lab.kernel.rules().count(), 2, "permitted again: {}", lab.story());
    lab.tune(Tuning { overrides: vec![barred.clone()], ..Tuning::default() });
    lab.run_until(40.5);
    assert_eq!(lab.kernel.rules().count(), 1, "at once: {}", lab.story());
    assert_eq!(lab.removed[0].2, RemovalReason::Forbidden);

    lab.tune(Tuning::default());
    lab.run_until(50.0);
    assert_eq!(lab.kernel.rules().count(), 2, "{}", lab.story());
    let mut lab = lab.own(barred);
    lab.restart();
    lab.run_until(51.0);
    assert_eq!(lab.kernel.rules().count(), 1, "{}", lab.story());
    assert_eq!(lab.removed.last().unwrap().2, RemovalReason::Forbidden);
}

#[test]
fn where_the_configuration_forbids_source_rules_no_source_is_blocked() {
    for (barred, expected) in [(vec![], 1), (vec![Mitigation::Source], 0)] {
        let at = Place { addr: None, port: 443 };
        let attacker = Sources::One([198, 51, 100, 7].into());
        let mut lab = at_its_end()
            .own(Override { at, mode: None, barred })
            .flood(alike(2000.0, 10.1, 40.1, attacker));
        lab.run_until(40.0);
        assert_eq!(lab.installed.len(), expected, "{}", lab.story());
    }
}

#[test]
fn where_the_configuration_forbids_cookies_and_the_rate_limit_neither_starts() {
    let own = Override { barred: vec![Mitigation::Cookies, Mitigation::Budget], ..own() };
    let mut lab = flooded(two(WITHOUT_COOKIES, 100.0), mimicking(5000.0, 10.1, 40.1)).own(own);
    lab.run_until(40.0);
    assert_eq!(lab.kernel.mitigations(1), [Mitigation::OutOfState], "{}", lab.story());
}

#[test]
fn a_barred_mitigation_stops_at_once_and_an_operators_order_overrides_the_file() {
    let mut lab = flooded(two(Server::default(), 100.0), mimicking(5000.0, 10.1, 60.1));
    lab.run_until(20.0);
    assert!(lab.kernel.mitigations(1).contains(&Mitigation::Cookies), "{}", lab.story());
    let barred = Override { barred: vec![Mitigation::Cookies], ..own() };
    lab.tune(Tuning { overrides: vec![barred], ..Tuning::default() });
    lab.run_until(20.3);
    assert!(!lab.kernel.mitigations(1).contains(&Mitigation::Cookies), "{}", lab.story());
    assert!(lab.kernel.mitigations(0).contains(&Mitigation::Cookies), "{}", lab.story());
    let listener = Listener { addr: [203, 0, 113, 10].into(), port: 444 };
    let (mitigation, order, lifetime) = (Mitigation::Cookies, Order::On, Duration::from_secs(10));
    let ordered = Request::OrderMitigation { listener, mitigation, order, lifetime };
    lab.request(ordered).expect("taken");
    assert!(lab.kernel.mitigations(1).contains(&Mitigation::Cookies), "{}", lab.story());
    lab.run_until(31.0);
    assert!(
        !lab.kernel.mitigations(1).contains(&Mitigation::Cookies),
        "for its time: {}",
        lab.story()
    );
}

/// The signal of the first incident of two listeners with the same traffic and these thresholds.
fn signal(settings: Settings, server: Server, flood: Flood) -> Option<Signal> {
    let until = flood.until;
    let mut lab = flooded(two(server, 20.0), flood);
    lab.tune(settings.into());
    lab.run_until(until);
    let signals = [443, 444].map(|port| incident(&lab, port).map(|incident| incident.signal));
    assert_eq!(signals[0], signals[1], "{}", lab.story());
    signals.into_iter().next().flatten()
}

#[test]
fn each_threshold_decides() {
    let large = Server { backlog: 4096, ..Server::default() };
    let defaults = Settings::default();
    for (flood, settings, expected) in [
        // Found by the slow path all the same.
        (
            Flood::random(2000.0, 10.1..20.1),
            Settings { fast_failures: 100_000, ..defaults.clone() },
            [Some(Signal::Fast), Some(Signal::Slow)],
        ),
        (
            Flood::random(10.0, 10.1..60.1),
            Settings { failure_floor: 200.0, ..defaults.clone() },
            [Some(Signal::Slow), None],
        ),
        (
            Flood { resets: true, ..Flood::random(90.0, 10.1..60.1) },
            Settings { health_check_rate: 200.0, ..defaults.clone() },
            [Some(Signal::Slow), None],
        ),
    ] {
        let signals = [&defaults, &settings].map(|with| signal(with.clone(), large, flood.clone()));
        assert_eq!(signals, expected, "{settings:?}");
    }
}
