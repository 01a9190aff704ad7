//! Cookies that clients do not return, or whose handshakes the host does not complete: when they are withdrawn, and
//! that clients that pause are no reason.

use std::net::IpAddr;

use tcpguard_engine::{
    AddressReplies, Event, Family, Harm, ListenerId, Mitigation, MitigationState, Mode, Order,
};

use crate::ladder::{lab, mimicking, order, taken};
use crate::sim::*;

#[test]
fn cookies_that_are_never_validated_are_withdrawn_within_three_seconds() {
    let mut lab = lab(Server::default(), mimicking(5000.0, 10.1, 40.1));
    lab.kernel.mute = true;
    lab.run_until(40.0);
    let story = lab.story();
    let armed = taken(&lab, Mitigation::Cookies).expect(&story);
    let withdrawn = lab.times("mitigation_withdrawn");
    assert_eq!(withdrawn.len(), 1, "{story}");
    assert!((1.0..=3.0).contains(&(withdrawn[0] - armed)), "{story}");
    assert!(lab.connected(withdrawn[0] + 1.0, 39.0) >= 0.999, "the kernel's own serve: {story}");
    assert_eq!(lab.times("attack_started").len(), 1, "{story}");
}

/// With a firewall that drops ACKs of connections that it did not see begin.
#[test]
fn cookies_whose_handshakes_the_host_does_not_complete_are_withdrawn_and_not_retried() {
    for (clients, within) in [(100.0, 1.6), (20.0, 2.0), (2.0, 8.0)] {
        let mut lab = Lab::new(Mode::Enforce)
            .listener(Server::default())
            .clients(Clients::steady(clients))
            .flood(mimicking(5000.0, 30.1, 190.1));
        lab.kernel.walled = true;
        lab.run_until(190.0);
        let story = format!("{clients}\n{}", lab.story());
        let armed = taken(&lab, Mitigation::Cookies).expect(&story);
        let withdrawn = lab.times("mitigation_withdrawn");
        assert_eq!(withdrawn.len(), 1, "{story}");
        assert!((1.0..=within).contains(&(withdrawn[0] - armed)), "{story}");
        let alert = lab
            .alerts
            .iter()
            .find(|alert| alert.event.name() == "mitigation_withdrawn")
            .expect(&story);
        let Event::MitigationWithdrawn { harm, retry_s, .. } = &alert.event else {
            panic!("{alert:?}")
        };
        assert!(matches!(harm, Harm::Unfinished { completed: 0, .. }), "{alert:?}");
        assert_eq!(*retry_s, None);
        let times = lab
            .mitigations
            .iter()
            .filter(|(_, mitigation)| *mitigation == Mitigation::Cookies)
            .count();
        assert_eq!(times, 1, "{story}");
        assert!(lab.connected(withdrawn[0] + 0.5, 189.0) >= 0.99, "the stack serves: {story}");

        let report = lab.listener_report(0);
        let cookies =
            report.mitigations.iter().find(|report| report.mitigation == Mitigation::Cookies);
        let cookies = cookies.expect(&story);
        assert_eq!((cookies.state, cookies.until), (MitigationState::Refused, None), "{story}");
        lab.request(order(Mitigation::Cookies, Order::Auto, 1)).expect("left to the agent");
        lab.run_until(191.0);
        let times = lab
            .mitigations
            .iter()
            .filter(|(_, mitigation)| *mitigation == Mitigation::Cookies)
            .count();
        assert_eq!(times, 2, "an operator may have seen to it: {}", lab.story());
    }
}

/// A user that can have rules made, as by login attempts that lead to bans, may do so at will.
#[test]
fn a_rule_set_that_changes_all_the_time_has_withheld_cookies_tried_at_once_and_then_seldom() {
    let mut lab = lab(Server::default(), mimicking(5000.0, 30.1, 150.1));
    lab.kernel.walled = true;
    let times = |lab: &Lab| {
        lab.mitigations.iter().filter(|(_, mitigation)| *mitigation == Mitigation::Cookies).count()
    };
    for second in 31..140 {
        lab.run_until(f64::from(second));
        lab.engine.reconsider_mitigation(lab.kernel.now, Mitigation::Cookies, &[]);
    }
    assert_eq!(times(&lab), 2, "{}", lab.story());
    assert!(lab.engine.refuses_mitigation(lab.kernel.now, Mitigation::Cookies), "{}", lab.story());
    lab.engine.reconsider_mitigation(lab.kernel.now, Mitigation::Cookies, &[ListenerId(0)]);
    lab.run_until(141.0);
    assert_eq!(times(&lab), 3, "nothing forbids them now: {}", lab.story());
}

/// Twenty clients a second for two seconds, then none for five: all are served. The first clients come before the
/// flood and pause when cookies begin.
#[test]
fn cookies_stay_when_clients_pause() {
    for pause in [7.0, 10.2, 13.0] {
        let mut lab = Lab::new(Mode::Enforce)
            .listener(Server::default())
            .clients(Clients { until: pause, ..Clients::steady(20.0) })
            .flood(mimicking(5000.0, 10.1, 60.1));
        for number in 0..6 {
            let from = pause + 5.0 + 7.0 * f64::from(number);
            lab = lab.clients(Clients { from, until: from + 2.0, ..Clients::steady(20.0) });
        }
        lab.run_until(60.0);
        let story = format!("{pause}\n{}", lab.story());
        let armed = taken(&lab, Mitigation::Cookies).expect(&story);
        assert_eq!(lab.times("mitigation_withdrawn"), [0.0; 0], "{story}");
        assert!(lab.connected(armed + 1.0, 59.0) >= 0.999, "{story}");
    }
}

/// Replies do not reach the clients, who pause when cookies begin and come again later.
#[test]
fn cookies_that_do_not_reach_clients_are_withdrawn_when_clients_come() {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(Clients { until: 10.1, ..Clients::steady(20.0) })
        .clients(Clients { from: 50.0, ..Clients::steady(20.0) })
        .flood(mimicking(5000.0, 10.1, 70.1));
    lab.kernel.mute = true;
    lab.run_until(49.0);
    assert_eq!(lab.times("mitigation_withdrawn"), [0.0; 0], "no client came: {}", lab.story());
    lab.run_until(60.0);
    let withdrawn = lab.times("mitigation_withdrawn");
    assert!(matches!(withdrawn[..], [at] if (51.0..54.0).contains(&at)), "{}", lab.story());
}

/// An attacker returns cookies over IPv6 that the host refuses, from the start of the flood or later.
#[test]
fn harm_to_one_family_leaves_the_other_its_cookies() {
    for begins in [10.2, 20.0] {
        let mut lab = Lab::new(Mode::Enforce)
            .listener(Server::default())
            .clients(Clients::steady(10.0))
            .flood(mimicking(5000.0, 10.1, 60.1));
        lab.kernel.refused_from = "2001:db8::66".parse().expect("an address");
        lab.run_until(begins);
        lab.kernel.refused_cookies = 1;
        lab.run_until(60.0);
        let story = format!("{begins}\n{}", lab.story());
        let withdrawn = lab.alerts.iter().filter_map(|alert| match &alert.event {
            Event::MitigationWithdrawn { family, .. } => Some(*family),
            _ => None,
        });
        assert_eq!(withdrawn.collect::<Vec<_>>(), [Some(Family::Ipv6)], "{story}");
        assert!(lab.kernel.mitigations(0).contains(&Mitigation::Cookies), "{story}");
        let armed = taken(&lab, Mitigation::Cookies).expect(&story);
        assert!(lab.connected(armed + 1.0, 59.0) >= 0.999, "{story}");
        let report = lab.listener_report(0);
        let states = report.mitigations.iter().filter(|it| it.mitigation == Mitigation::Cookies);
        assert_eq!(
            states.map(|it| (it.family, it.state)).collect::<Vec<_>>(),
            [(None, MitigationState::Active), (Some(Family::Ipv6), MitigationState::Refused)]
        );
    }
}

/// Health checks of one server address return their cookies, and no client of another address does.
#[test]
fn an_address_whose_cookies_do_not_come_back_has_none_and_the_others_keep_theirs() {
    let behind = IpAddr::from([192, 0, 2, 80]);
    let mut lab = lab(Server::default(), mimicking(5000.0, 10.1, 120.1));
    for second in 0..30 {
        lab.run_until(20.0 + f64::from(second));
        let checked = IpAddr::from([192, 0, 2, 1]);
        let replies = [
            AddressReplies { addr: checked, asked: u8::MAX, returned: true },
            AddressReplies { addr: behind, asked: 4 * second, returned: false },
        ];
        lab.engine.judge_addresses(lab.kernel.now, ListenerId(0), &replies);
    }
    lab.run_until(50.0);
    let withdrawn = lab.alerts.iter().filter_map(|alert| match &alert.event {
        Event::MitigationWithdrawn { family: None, addresses, retry_s, .. } => {
            Some((alert.at.floor(), addresses.clone(), *retry_s))
        }
        _ => None,
    });
    let expected = [(24.0, vec![behind], Some(60))];
    assert_eq!(withdrawn.collect::<Vec<_>>(), expected, "{}", lab.story());
    let states = |lab: &Lab| {
        let cookies = lab.listener_report(0).mitigations.into_iter();
        let cookies = cookies.filter(|it| it.mitigation == Mitigation::Cookies);
        cookies.map(|it| (it.address, it.state)).collect::<Vec<_>>()
    };
    let active = (None, MitigationState::Active);
    assert_eq!(states(&lab), [active, (Some(behind), MitigationState::Refused)]);
    lab.run_until(90.0);
    assert_eq!(states(&lab), [active], "tried again");
}

/// Clients may send many ACKs with good cookies and a wrong checksum.
#[test]
fn acks_that_the_host_refuses_take_no_cookies_away_from_clients() {
    for begins in [5.0, 15.0] {
        let mut lab = lab(Server::default(), mimicking(5000.0, 10.1, 40.1));
        lab.run_until(begins);
        lab.kernel.refused_cookies = 2000;
        lab.run_until(15.0);
        assert!(lab.kernel.mitigations(0).contains(&Mitigation::Cookies), "{}", lab.story());
        lab.run_until(40.0);
        assert_eq!(lab.times("mitigation_withdrawn"), [0.0; 0], "{}", lab.story());
        assert!(lab.connected(15.0, 39.0) >= 0.999, "{}", lab.story());
    }
}
