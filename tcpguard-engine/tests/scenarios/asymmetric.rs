//! Unseen replies and shared counters: replies that leave by another interface, and counters that
//! belong to the whole host and not to the listener.

use tcpguard_engine::{Egress, Event, IncidentClass, ListenerState, Mitigation, Mode, Target};

use crate::sim::*;

/// A host with SYN-ACKs that leave by an interface that is not attached.
fn unseen(server: Server) -> Lab {
    let mut lab = Lab::new(Mode::Enforce).listener(server);
    lab.kernel.unseen = true;
    // How the listener answers was never seen.
    lab.refuse_mitigations = vec![Mitigation::Cookies];
    lab
}

fn advised(lab: &Lab) -> Vec<Event> {
    let actions = lab.incident().actions.into_iter().map(|action| action.action);
    actions.filter(|action| matches!(action, Event::RuleAdvised { .. })).collect()
}

#[test]
fn unseen_answers_are_recognised_by_clients_and_a_flood_is_found_within_a_second() {
    let mut lab = unseen(Server::default())
        .clients(Clients::steady(50.0))
        .flood(Flood::random(2000.0, 30.1..60.1));
    lab.run_until(5.0);
    assert_eq!(lab.listener_report(0).egress, Egress::Unseen);
    lab.run_until(30.0);
    assert_eq!(lab.alerts.len(), 0, "{}", lab.story());
    assert_eq!(lab.listener_report(0).state, ListenerState::Ok);
    let ratio = lab.listener_report(0).completions.ratio().expect("a baseline");
    assert!((0.7..1.3).contains(&ratio), "{ratio}");

    lab.run_until(60.0);
    let started = lab.times("attack_started");
    assert_eq!(started.len(), 1, "{}", lab.story());
    assert!(started[0] - 30.1 <= 1.0, "{}", lab.story());
    let incident = lab.incident();
    assert_eq!(incident.class, IncidentClass::RandomSpoofed, "{}", lab.story());
    assert!(incident.evidence.replies_unseen, "{incident:?}");
    assert_eq!(lab.installed.len(), 0, "{}", lab.story());
    assert_eq!(advised(&lab).len(), 1, "{:#?}", incident.actions);
    lab.run_until(95.1);
    assert_eq!(lab.times("attack_ended").len(), 1, "{}", lab.story());
}

#[test]
fn unseen_answers_are_recognised_in_a_flood_from_the_first_second_on() {
    for (cookies, recognised) in [(true, 2.0), (false, 2.0)] {
        let mut lab =
            unseen(Server { cookies, ..Server::default() }).flood(Flood::random(2000.0, 0.0..30.0));
        lab.run_until(recognised);
        assert_eq!(lab.listener_report(0).egress, Egress::Unseen, "cookies: {cookies}");
        let started = lab.times("attack_started");
        assert_eq!(started.len(), 1, "{}", lab.story());
        assert!(started[0] <= 2.0, "cookies: {cookies}, {}", lab.story());
        lab.run_until(29.0);
        assert_eq!(lab.incident().class, IncidentClass::RandomSpoofed, "{}", lab.story());
        assert_eq!(lab.installed.len(), 0, "{}", lab.story());
        assert_eq!(advised(&lab).len(), 1, "{}", lab.story());
    }
}

/// Neither rules nor cookies are available, so new clients get in with their second SYN, as many as have done so before
/// and more by and by.
#[test]
fn a_full_queue_with_unseen_replies_is_relieved_and_clients_connect() {
    let mut lab = unseen(Server { cookies: false, ..Server::default() })
        .clients(Clients::steady(50.0))
        .flood(Flood::random(2000.0, 30.1..60.1));
    lab.run_until(29.0);
    assert_eq!(lab.listener_report(0).egress, Egress::Unseen);
    lab.run_until(60.0);
    let relieved =
        lab.mitigations.iter().find(|(_, mitigation)| *mitigation == Mitigation::Budget).copied();
    let (at, _) = relieved.unwrap_or_else(|| panic!("nothing is done: {}", lab.story()));
    assert!(at - 30.1 <= 5.0, "{at}: {}", lab.story());
    let served = lab.group_connected(0, 1.5, at + 6.0, 57.0);
    assert!(served >= 0.95, "{served}: {}", lab.story());
    assert_eq!(lab.installed.len(), 0, "{}", lab.story());
}

#[test]
fn a_rule_against_a_flood_of_one_source_is_only_advised_where_answers_are_unseen() {
    let sources = Sources::One("198.51.100.7".parse().expect("address"));
    let mut lab = unseen(Server::default())
        .clients(Clients::steady(50.0))
        .flood(Flood { sources, ..Flood::random(2000.0, 30.1..60.1) });
    lab.run_until(60.0);
    assert_eq!(lab.incident().class, IncidentClass::SingleSource, "{}", lab.story());
    assert_eq!(lab.installed.len(), 0, "{}", lab.story());
    assert_eq!(advised(&lab).len(), 1, "{}", lab.story());
    assert!(
        matches!(&advised(&lab)[0], Event::RuleAdvised { target: Target::Signature { .. }, .. }),
        "its kernel answers: {}",
        lab.story()
    );
}

#[test]
fn rules_come_again_half_a_minute_after_the_answers() {
    let mut lab = unseen(Server::default())
        .clients(Clients::steady(50.0))
        .flood(Flood::random(2000.0, 30.1..40.1))
        .flood(Flood::random(2000.0, 100.1..110.1));
    lab.run_until(20.0);
    lab.kernel.unseen = false;
    lab.run_until(39.0);
    assert_eq!(lab.listener_report(0).egress, Egress::Unseen, "the routes may change once more");
    assert_eq!(lab.installed.len(), 0, "{}", lab.story());
    lab.run_until(99.0);
    assert_eq!(lab.listener_report(0).egress, Egress::Seen);
    lab.run_until(109.0);
    assert_eq!(lab.installed.len(), 1, "{}", lab.story());
}

#[test]
fn clients_far_away_and_lossy_are_quiet_where_answers_are_unseen() {
    let mobile = Clients { lost: 0.02, rtt: 0.1..0.4, ..Clients::steady(200.0) };
    let mut lab = unseen(Server { backlog: 4096, ..Server::default() }).clients(mobile);
    lab.run_until(200.0);
    assert_eq!(lab.listener_report(0).egress, Egress::Unseen);
    assert_eq!(lab.alerts.len(), 0, "{}", lab.story());
    assert_eq!(lab.listener_report(0).state, ListenerState::Ok);
}

#[test]
fn a_listener_behind_a_firewall_is_not_taken_for_one_whose_answers_are_unseen() {
    let dead = Outage::of(0.0..200.0, 1.0);
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server { dead: true, ..Server::default() })
        .clients(Clients { outage: Some(dead), ..Clients::steady(100.0) });
    lab.run_until(60.0);
    assert_eq!(lab.listener_report(0).egress, Egress::Unknown);
    assert_eq!(lab.alerts.len(), 0, "{}", lab.story());
}

#[test]
fn what_the_full_queue_of_one_listener_drops_is_not_held_against_another() {
    // Clients retry at a port behind a firewall while the next port is flooded.
    let dead = Outage::of(0.0..200.0, 1.0);
    let mut lab = Lab::new(Mode::Observe)
        .listener(Server { cookies: false, ..Server::default() })
        .listener(Server { dead: true, ..Server::default() })
        .clients(Clients::steady(20.0))
        .clients(Clients { to: 1, outage: Some(dead), ..Clients::steady(300.0) })
        .flood(Flood::random(2000.0, 10.1..40.1));
    lab.run_until(39.0);
    let incidents = lab.report().incidents;
    assert_eq!(incidents.len(), 1, "{}", lab.story());
    assert_eq!(incidents[0].listener.port, 443, "{}", lab.story());
    let started = lab.times("attack_started");
    assert!(started[0] - 10.1 <= 1.5, "{}", lab.story());
    lab.run_until(80.0);
    assert!(!lab.story().contains("port: 444"), "{}", lab.story());
}

#[test]
fn an_application_that_stalls_hides_no_flood_of_its_neighbour() {
    let mut lab = Lab::new(Mode::Observe)
        .listener(Server { cookies: false, ..Server::default() })
        .listener(Server { accepting: false, cookies: false, ..Server::default() })
        .clients(Clients::steady(20.0))
        .clients(Clients { to: 1, ..Clients::steady(200.0) })
        .flood(Flood::random(2000.0, 30.1..60.1));
    lab.run_until(60.0);
    let class = |port: u16| {
        let mut incidents = lab.report().incidents.into_iter();
        incidents.find(|one| one.listener.port == port).map(|one| one.class)
    };
    assert_eq!(class(443), Some(IncidentClass::RandomSpoofed), "{}", lab.story());
    assert_eq!(class(444), Some(IncidentClass::ListenerOverload), "{}", lab.story());
}
