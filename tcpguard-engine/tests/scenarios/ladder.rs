//! The mitigations beside rules: the right one for each class, started in time, and stopped again.

use std::time::Duration;

use tcpguard_engine::{
    ActionReport, Event, HeldBack, IncidentClass, IncidentReport, Listener, ListenerState,
    Mitigation, MitigationReason, MitigationState, Mode, Order, Request, RequestError, Response,
    Severity,
};

use crate::sim::*;

/// A flood with exactly the clients' fingerprints.
pub(super) fn mimicking(rate: f64, from: f64, until: f64) -> Flood {
    Flood { shape: Shape::Mix, ..Flood::random(rate, from..until) }
}

pub(super) fn lab(server: Server, flood: Flood) -> Lab {
    Lab::new(Mode::Enforce).listener(server).clients(Clients::steady(100.0)).flood(flood)
}

const NO_COOKIES: Server =
    Server { backlog: 128, cookies: false, traced: true, accepting: true, dead: false };

/// Returns the time at which a mitigation was first started, s.
pub(super) fn taken(lab: &Lab, mitigation: Mitigation) -> Option<f64> {
    lab.mitigations.iter().find(|(_, taken)| *taken == mitigation).map(|(at, _)| *at)
}

#[test]
fn a_mimicking_flood_is_answered_with_cookies_and_no_client_is_dropped() {
    let shaken = Clients { rtt: 0.08..0.12, ..Clients::steady(100.0) };
    for (name, server, clients) in [
        ("cookies on", Server::default(), Clients::steady(100.0)),
        ("100 ms away", Server::default(), shaken),
        ("untraced", Server { traced: false, ..Server::default() }, Clients::steady(100.0)),
    ] {
        let mut lab = Lab::new(Mode::Enforce)
            .listener(server)
            .clients(clients)
            .flood(mimicking(20_000.0, 10.1, 40.1));
        lab.run_until(40.0);
        let story = format!("{name}\n{}", lab.story());
        assert_eq!(lab.incident().class, IncidentClass::RandomSpoofed, "{story}");
        assert_eq!(lab.installed.len(), 0, "{story}");
        let armed = taken(&lab, Mitigation::Cookies).expect(&story);
        // Its sources send one SYN each. Its other indicator is the number of SYNs.
        assert!(armed <= 11.1, "{armed} {story}");
        assert!(lab.connected(armed + 1.0, 39.0) >= 0.999, "{story}");
        assert_eq!(
            lab.kernel.mitigations(0),
            [Mitigation::OutOfState, Mitigation::Cookies],
            "{story}"
        );
        assert_eq!(lab.listener_report(0).state, ListenerState::Mitigating);
        let incident = lab.incident();
        assert!(incident.counts.cookies_sent > 400_000, "{}", incident.counts.cookies_sent);
        assert!(incident.counts.completed > 2000, "{}", incident.counts.completed);

        lab.run_until(80.0);
        let story = format!("{name}\n{}", lab.story());
        assert_eq!(lab.times("attack_started").len(), 1, "{story}");
        let over = lab.times("attack_ended");
        assert!(over.len() == 1 && over[0] - 40.1 <= 35.0, "{story}");
        lab.run_until(111.0);
        assert_eq!(lab.kernel.mitigations(0), [], "{}", lab.story());
        assert_eq!(lab.mitigations.len(), 2, "each once: {}", lab.story());
    }
}

#[test]
fn five_minutes_of_it_are_one_incident_without_a_release() {
    let mut lab = lab(Server::default(), mimicking(1000.0, 10.1, 310.1));
    lab.run_until(310.0);
    assert_eq!(lab.times("attack_started").len(), 1, "{}", lab.story());
    assert_eq!(lab.times("attack_ended").len() + lab.times("mitigation_stopped").len(), 0);
    assert_eq!(lab.mitigations.len(), 2, "{}", lab.story());
    assert!(lab.connected(14.0, 309.0) >= 0.999, "{}", lab.story());
    lab.run_until(346.0);
    assert_eq!(lab.times("attack_ended").len(), 1, "{}", lab.story());
}

#[test]
fn that_a_thin_sample_shows_no_client_for_a_while_does_not_make_their_look_a_tools() {
    let clients = Clients { shape: Some(Shape::Linux), ..Clients::steady(5.0) };
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(clients)
        .flood(Flood { shape: Shape::Linux, ..Flood::random(300_000.0, 2.1..92.1) });
    lab.run_until(92.0);
    assert!(lab.kernel.sample().sample_shift >= 4, "thin: {}", lab.kernel.sample().sample_shift);
    assert_eq!(lab.installed.len(), 0, "{}", lab.story());
    assert!(lab.connected(5.0, 90.0) >= 0.999, "{}", lab.story());
}

#[test]
fn of_a_mixed_flood_the_signature_drops_its_part_and_cookies_answer_the_rest() {
    let mut lab = lab(Server::default(), mimicking(5000.0, 10.1, 40.1))
        .flood(Flood::random(20_000.0, 10.1..40.1));
    lab.run_until(40.0);
    let story = lab.story();
    assert_eq!(lab.installed.len(), 1, "{story}");
    assert!(taken(&lab, Mitigation::Cookies).is_some_and(|at| at < 13.0), "{story}");
    let counters = lab.listener_report(0).counters;
    assert!(counters.dropped_signature > 500_000, "{story}");
    let answered = counters.cookies_sent;
    assert!(
        (100_000..250_000).contains(&answered),
        "{answered}: not those of a fixed fingerprint: {story}"
    );
    assert!(lab.connected(15.0, 39.0) >= 0.999, "{story}");
}

#[test]
fn where_a_signature_covers_all_cookies_go_after_half_a_minute() {
    let mut lab = lab(Server::default(), Flood::random(20_000.0, 10.1..70.1));
    lab.run_until(70.0);
    let story = lab.story();
    assert_eq!(lab.installed.len(), 1, "{story}");
    assert_eq!(lab.kernel.mitigations(0), [Mitigation::OutOfState], "{story}");
    assert_eq!(lab.times("attack_ended").len(), 0, "{story}");
}

#[test]
fn syns_spoofing_the_gateway_get_cookies_because_no_rule_may_drop_them() {
    let gateway = Sources::One("192.0.2.1".parse().unwrap());
    let flood = Flood { sources: gateway, ..mimicking(20_000.0, 10.1, 40.1) };
    let mut lab = lab(Server::default(), flood).protect("192.0.2.1/32", "default gateway");
    lab.run_until(40.0);
    assert_eq!(lab.installed.len(), 0, "{}", lab.story());
    let armed = taken(&lab, Mitigation::Cookies).expect("cookies");
    assert!(lab.connected(armed + 1.0, 39.0) >= 0.999, "{}", lab.story());
}

#[test]
fn without_cookies_the_second_syn_gets_in_and_a_budget_keeps_the_queue_open() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(NO_COOKIES)
        .clients(Clients::steady(40.0))
        .flood(mimicking(5000.0, 10.1, 60.1));
    lab.run_until(60.0);
    let story = lab.story();
    assert!(!lab.times("mitigation_failed").is_empty(), "{story}");
    let starts = |alert: &RaisedAlert| {
        matches!(alert.event, Event::MitigationStarted { mitigation: Mitigation::Cookies, .. })
    };
    assert!(!lab.alerts.iter().any(starts), "a start that fails is no start: {story}");
    let limited = taken(&lab, Mitigation::Budget).expect(&story);
    assert!(limited <= 16.0, "{limited} {story}");
    assert!(lab.group_connected(0, 4.0, limited + 1.0, 55.0) >= 0.95, "{story}");
    let refused = |report: &tcpguard_engine::MitigationReport| {
        report.mitigation == Mitigation::Cookies && report.state == MitigationState::Refused
    };
    let report = lab.listener_report(0);
    let cookies = report.mitigations.iter().find(|report| refused(report)).expect("refused");
    let refused = "net.ipv4.tcp_syncookies is 0";
    assert!(
        matches!(&cookies.why, MitigationReason::Failed { error, .. } if error.starts_with(refused)),
        "{cookies:?}"
    );
}

#[test]
fn in_observe_mode_nothing_is_taken_that_touches_a_syn_and_it_says_what_would_be() {
    let mut lab = Lab::new(Mode::Observe)
        .listener(Server::default())
        .clients(Clients::steady(100.0))
        .flood(mimicking(5000.0, 10.1, 40.1));
    lab.run_until(20.0);
    assert_eq!(lab.kernel.mitigations(0), [Mitigation::OutOfState]);
    let actions = lab.incident().actions;
    let advised = |action: &ActionReport| {
        let Event::MitigationAdvised { mitigation, .. } = &action.action else { return false };
        *mitigation == Mitigation::Cookies
    };
    assert!(actions.iter().any(advised), "{actions:?}");
    lab.request(Request::SetMode { mode: Mode::Enforce }).expect("enforced");
    lab.run_until(20.5);
    assert!(lab.kernel.mitigations(0).contains(&Mitigation::Cookies), "{}", lab.story());
    lab.request(Request::SetMode { mode: Mode::Observe }).expect("observed");
    lab.run_until(21.0);
    assert_eq!(lab.kernel.mitigations(0), [Mitigation::OutOfState], "{}", lab.story());
}

#[test]
fn a_restart_in_the_middle_keeps_the_active_mitigations() {
    let mut lab = lab(Server::default(), mimicking(5000.0, 10.1, 40.1));
    lab.run_until(20.0);
    lab.restart();
    lab.run_until(40.0);
    let story = lab.story();
    assert_eq!(lab.times("mitigation_stopped").len(), 0, "{story}");
    assert_eq!(
        lab.mitigations.iter().filter(|(_, mitigation)| *mitigation == Mitigation::Cookies).count(),
        1,
        "{story}"
    );
    assert!(lab.connected(14.0, 39.0) >= 0.999, "{story}");
    lab.run_until(111.0);
    assert_eq!(lab.kernel.mitigations(0), [], "{}", lab.story());
}

/// Asserts that something was reported with advice, that nothing was dropped, and that no mitigation but `mitigations` was
/// started.
#[track_caller]
fn only_advised(lab: &Lab, mitigations: &[Mitigation]) {
    let story = lab.story();
    assert!(
        lab.mitigations.iter().all(|(_, mitigation)| mitigations.contains(mitigation)),
        "{story}"
    );
    assert!(lab.installed.is_empty(), "{story}");
    let advised = |alert: &RaisedAlert| match &alert.event {
        Event::IncidentStarted(facts) | Event::HandshakesDegraded(facts) => !facts.class.is_flood(),
        _ => false,
    };
    assert!(lab.alerts.iter().any(advised), "{story}");
}

/// The application hangs in the flood. Its health checks are to fail, as they do without cookies.
#[test]
fn a_full_accept_queue_has_no_cookies_not_even_by_order() {
    for ordered in [false, true] {
        let mut lab = lab(Server::default(), mimicking(5000.0, 10.1, 70.1));
        lab.run_until(5.0);
        if ordered {
            lab.request(order(Mitigation::Cookies, Order::On, 600)).expect("ordered");
        }
        let answers = |lab: &Lab| lab.kernel.mitigations(0).contains(&Mitigation::Cookies);
        lab.run_until(20.0);
        assert!(answers(&lab), "{}", lab.story());
        lab.kernel.set_accepting(0, false);
        // 128 clients fill it, and two seconds of that are no chance.
        lab.run_until(24.5);
        assert!(!answers(&lab), "{ordered}: {}", lab.story());
        let stopped = lab.alerts.iter().any(|alert| {
            let why = MitigationReason::HeldBack { by: HeldBack::AcceptQueueFull };
            matches!(&alert.event, Event::MitigationStopped { why: by, .. } if *by == why)
        });
        assert!(stopped, "{}", lab.story());
        assert_eq!(overloads(&lab), [(23.0, Severity::Warning)], "{}", lab.story());
        // Longer than an incident may be quiet: a kernel that answers no SYN lets no handshake fail.
        lab.run_until(60.0);
        assert!(!answers(&lab), "{ordered}: {}", lab.story());
        assert_eq!(lab.listener_report(0).state, ListenerState::Overloaded);
        let incidents = lab.report().incidents;
        let goes_on =
            |incident: &IncidentReport| incident.ended.is_none() && incident.quiet.is_none();
        assert!(incidents.len() == 1 && goes_on(&incidents[0]), "{}", lab.story());
        lab.kernel.set_accepting(0, true);
        lab.run_until(66.0);
        assert!(answers(&lab), "{ordered}: {}", lab.story());
    }
}

/// The alerts of a full accept queue beside a flood: the second, and the severity.
fn overloads(lab: &Lab) -> Vec<(f64, Severity)> {
    let is_overload =
        |alert: &&RaisedAlert| matches!(alert.event, Event::ListenerOverloaded { .. });
    let row = |alert: &RaisedAlert| (alert.at.floor(), alert.event.severity());
    lab.alerts.iter().filter(is_overload).map(row).collect()
}

/// A rule drops all of a flood with one fingerprint. The application hangs meanwhile, then serves, and hangs again.
#[test]
fn a_full_accept_queue_is_reported_beside_a_flood_that_rules_alone_stop() {
    let mut lab = lab(Server::default(), Flood::random(5000.0, 10.1..90.1));
    lab.run_until(20.0);
    assert!(!lab.kernel.mitigations(0).contains(&Mitigation::Cookies), "{}", lab.story());
    lab.kernel.set_accepting(0, false);
    lab.run_until(40.0);
    assert_eq!(overloads(&lab).len(), 1, "{}", lab.story());
    assert_eq!(lab.listener_report(0).state, ListenerState::Overloaded);
    lab.kernel.set_accepting(0, true);
    lab.run_until(60.0);
    lab.kernel.set_accepting(0, false);
    lab.run_until(80.0);
    assert_eq!(overloads(&lab).len(), 2, "{}", lab.story());
}

#[test]
fn nothing_is_done_about_flash_crowds_overload_and_broken_paths() {
    let crowd = Clients { from: 60.0, ..Clients::steady(2000.0) };
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients::steady(100.0))
        .clients(crowd);
    lab.run_until(90.0);
    only_advised(&lab, &[]);

    let server = Server { accepting: false, ..Server::default() };
    let mut lab = Lab::new(Mode::Enforce).listener(server).clients(Clients::steady(100.0));
    lab.run_until(40.0);
    only_advised(&lab, &[]);

    let outage = Outage::of(10.0..40.0, 0.6);
    let cut = Clients { outage: Some(outage), ..Clients::steady(200.0) };
    for (backlog, mitigations) in [(128, &[Mitigation::Cookies][..]), (16_384, &[])] {
        let server = Server { backlog, ..Server::default() };
        let mut lab = Lab::new(Mode::Enforce).listener(server).clients(cut.clone());
        lab.run_until(60.0);
        only_advised(&lab, mitigations);
        assert_eq!(lab.mitigations.is_empty(), mitigations.is_empty(), "{}", lab.story());
    }
}

pub(super) fn order(mitigation: Mitigation, order: Order, seconds: u64) -> Request {
    let listener = Listener { addr: [203, 0, 113, 10].into(), port: 443 };
    Request::OrderMitigation { listener, mitigation, order, lifetime: Duration::from_secs(seconds) }
}

#[test]
fn an_operator_forces_or_forbids_a_mitigation_for_a_time() {
    let mut lab = lab(Server::default(), mimicking(5000.0, 40.1, 70.1));
    lab.run_until(10.0);
    let answer = lab.request(order(Mitigation::Cookies, Order::On, 10)).expect("taken");
    let Response::MitigationOrdered(listener) = answer else { panic!("{answer:?}") };
    assert_eq!(listener.mitigations[0].state, MitigationState::Active);
    assert_eq!(listener.mitigations[0].why, MitigationReason::Ordered { uid: 1000 });
    assert_eq!(lab.kernel.mitigations(0), [Mitigation::Cookies]);
    lab.run_until(51.0);
    assert!(lab.kernel.mitigations(0).contains(&Mitigation::Cookies), "{}", lab.story());
    lab.request(order(Mitigation::Cookies, Order::Off, 3600)).expect("forbidden");
    assert_eq!(lab.kernel.mitigations(0), [Mitigation::OutOfState]);
    lab.run_until(60.0);
    assert_eq!(lab.kernel.mitigations(0), [Mitigation::OutOfState], "{}", lab.story());
    lab.request(order(Mitigation::Cookies, Order::Auto, 1)).expect("left to the agent");
    lab.run_until(61.0);
    assert!(lab.kernel.mitigations(0).contains(&Mitigation::Cookies), "{}", lab.story());
}

#[test]
fn an_operator_forbids_signatures_and_cookies_do_their_work() {
    let mut lab = lab(Server::default(), Flood::random(20_000.0, 10.1..40.1));
    lab.run_until(20.0);
    assert_eq!(lab.kernel.rules().count(), 1);
    lab.request(order(Mitigation::Signature, Order::Off, 3600)).expect("forbidden");
    assert_eq!(lab.kernel.rules().count(), 0);
    lab.run_until(39.0);
    assert_eq!(lab.kernel.rules().count(), 0, "{}", lab.story());
    assert!(lab.kernel.mitigations(0).contains(&Mitigation::Cookies), "{}", lab.story());
    assert!(lab.connected(22.0, 38.0) >= 0.999, "{}", lab.story());
}

#[test]
fn what_rules_do_cannot_be_ordered_and_what_is_not_there_neither() {
    let mut lab = lab(Server::default(), mimicking(1.0, 1000.0, 1001.0));
    lab.run_until(1.0);
    let error = lab.request(order(Mitigation::Signature, Order::On, 60)).expect_err("by rules");
    assert_eq!(error, RequestError::DoneByRules { mitigation: Mitigation::Signature });
    let listener = Listener { addr: [203, 0, 113, 10].into(), port: 444 };
    let request = Request::OrderMitigation {
        listener,
        mitigation: Mitigation::Cookies,
        order: Order::On,
        lifetime: Duration::from_secs(60),
    };
    let error = lab.request(request).expect_err("not there");
    assert_eq!(error, RequestError::NoListener { listener });
}

/// The naive way keeps the mitigation for as long as the flood lasts, though the rule drops all of it, and new clients
/// wait.
#[test]
fn the_rate_limit_ends_when_rules_drop_what_filled_the_queue() {
    let mut lab = lab(NO_COOKIES, Flood::random(3000.0, 10.1..60.1));
    lab.run_until(5.0);
    lab.request(order(Mitigation::Signature, Order::Off, 13)).expect("forbidden until 18 s");
    lab.run_until(60.0);
    let story = lab.story();
    let limited = taken(&lab, Mitigation::Budget).expect(&story);
    assert!(limited < 14.0, "{story}");
    assert_eq!(lab.signature_rules().len(), 1, "{story}");
    assert_eq!(lab.kernel.mitigations(0), [Mitigation::OutOfState], "{story}");
    assert!(lab.connected(25.0, 58.0) >= 0.99, "{story}");
}

/// The naive way starts the mitigation because of the SYNs that were left unanswered before the rule. The clients whose
/// first SYNs it drops then retransmit, are taken for failed handshakes, and keep it active until the flood ends.
#[test]
fn a_rule_that_empties_the_queue_makes_no_client_wait() {
    let shape = Shape::RandomWindowMss;
    let second = Flood { shape, ..Flood::random(20_000.0, 20.1..60.1) };
    let mut lab = lab(NO_COOKIES, Flood::random(20_000.0, 10.1..20.1)).flood(second);
    lab.run_until(60.0);
    let story = lab.story();
    assert_eq!(lab.signature_rules().len(), 2, "{story}");
    assert_eq!(taken(&lab, Mitigation::Budget), None, "{story}");
    assert!(lab.connected(24.0, 58.0) >= 0.99, "{story}");
}

/// Their retransmissions are not limited less because clients' complete: the queue has no slots for that.
#[test]
fn without_cookies_a_flood_that_retransmits_as_clients_do_gets_a_budget() {
    let copies = Flood { repeated: 1.0, again: &[1.0, 3.0], ..mimicking(4000.0, 10.1, 40.1) };
    let mut lab = lab(NO_COOKIES, copies);
    lab.run_until(40.0);
    let story = lab.story();
    let budget = taken(&lab, Mitigation::Budget).expect(&story);
    assert!(budget < 20.0, "{story}");
    assert!(lab.kernel.mitigations(0).contains(&Mitigation::Budget), "{story}");
    assert!(lab.kernel.half_open(0) < 3 * 128 / 4, "{} {story}", lab.kernel.half_open(0));
    assert_eq!(lab.times("mitigation_stopped").len(), 0, "{story}");
    lab.run_until(75.0);
    assert_eq!(lab.kernel.mitigations(0), [], "{}", lab.story());
}

#[test]
fn each_of_many_flooded_listeners_is_relieved() {
    let mut lab = Lab::new(Mode::Enforce);
    for to in 0..11 {
        lab = lab
            .listener(NO_COOKIES)
            .clients(Clients { to, ..Clients::steady(20.0) })
            .flood(Flood { to, ..mimicking(2000.0, 10.1, 20.1) });
    }
    lab.run_until(20.0);
    for to in 0..11 {
        assert!(lab.kernel.mitigations(to).contains(&Mitigation::Budget), "{to}: {}", lab.story());
    }
}

#[test]
fn clients_that_stop_completing_handshakes_in_an_attack_withdraw_no_mitigation() {
    let helpers = Clients { from: 10.1, until: 12.1, ..Clients::steady(300.0) };
    for flood in [Flood::random(20_000.0, 10.1..40.1), mimicking(20_000.0, 10.1, 40.1)] {
        let mut lab = lab(Server::default(), flood).clients(helpers.clone());
        lab.run_until(40.0);
        let withdrawn = lab.times("rule_withdrawn").len() + lab.times("mitigation_withdrawn").len();
        assert_eq!(withdrawn, 0, "{}", lab.story());
    }
}

/// Helpers that complete 150 handshakes a second from before the attack, from so many addresses, and stop when the
/// second of two signatures is dropped.
#[test]
fn helpers_that_stop_when_the_second_rule_is_there_do_not_take_it_away() {
    for (addresses, from) in [(1, 0.0), (20, 0.0), (20, 60.0)] {
        let mut lab = lab(Server::default(), Flood::random(3000.0, 80.1..140.1)).flood(Flood {
            shape: Shape::Linux,
            sources: Sources::Random,
            ..Flood::random(3000.0, 85.1..140.1)
        });
        for host in 0..addresses {
            let behind = Some(std::net::Ipv4Addr::new(198, 51, 100, host).into());
            let rate = 150.0 / f64::from(addresses);
            lab = lab.clients(Clients { behind, from, until: 87.0, ..Clients::steady(rate) });
        }
        lab.run_until(140.0);
        let story = format!("{addresses} {}", lab.story());
        assert_eq!(lab.times("rule_withdrawn").len(), 0, "{story}");
    }
}

#[test]
fn an_order_that_cannot_be_carried_out_yet_waits() {
    let mut lab =
        Lab::new(Mode::Observe).listener(Server::default()).clients(Clients::steady(100.0));
    lab.run_until(5.0);
    let answer = lab.request(order(Mitigation::Cookies, Order::On, 60)).expect("noted");
    let Response::MitigationOrdered(listener) = answer else { panic!("{answer:?}") };
    assert_eq!(listener.mitigations[0].state, MitigationState::Waiting);
    lab.run_until(10.0);
    assert_eq!(lab.mitigations, [], "{}", lab.story());
    lab.request(Request::SetMode { mode: Mode::Enforce }).expect("enforced");
    lab.run_until(11.0);
    assert_eq!(lab.kernel.mitigations(0), [Mitigation::Cookies], "{}", lab.story());
}

#[test]
fn answers_that_do_not_arrive_are_to_blame_and_not_the_rule_that_came_after_them() {
    let mut lab = lab(Server::default(), Flood::random(20_000.0, 10.1..40.1));
    lab.kernel.mute = true;
    lab.run_until(40.0);
    let story = lab.story();
    assert_eq!(lab.times("rule_withdrawn").len(), 0, "{story}");
    assert_eq!(lab.kernel.rules().count(), 1, "{story}");
    assert!(lab.connected(16.0, 39.0) >= 0.99, "{story}");
}
