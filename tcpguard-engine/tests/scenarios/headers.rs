//! Headers of SYNs: asked for while an incident lacks some, kept with it.

use tcpguard_engine::{ListenerId, Mode, SynHeader};

use crate::sim::*;

const LISTENER: ListenerId = ListenerId(0);

fn flooded(rate: f64, until: f64) -> Lab {
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server { backlog: 4096, ..Server::default() })
        .clients(Clients::steady(50.0))
        .flood(Flood::random(rate, 10.1..20.1));
    lab.run_until(until);
    lab
}

fn header(t: f64, number: u8) -> (ListenerId, SynHeader) {
    (LISTENER, SynHeader { at: at(t), bytes: vec![number; 40], length: None })
}

#[test]
fn headers_are_asked_for_from_the_alarm_on_until_there_are_sixteen() {
    let mut lab = flooded(5000.0, 10.0);
    assert!(lab.kernel.samples.is_empty(), "nothing is the matter");
    lab.engine.handle_headers([header(9.9, 0)]);
    lab.run_until(11.5);
    let shift = lab.kernel.samples[&LISTENER];
    let found = 5050.0 / 4.0 / f64::from(1_u32 << shift);
    assert!((4.0..=8.0).contains(&found), "one in 2^{shift}");
    for (poll, asked) in [(1, true), (2, true), (3, true), (4, false), (5, false)] {
        let t = 11.5 + f64::from(poll) / 4.0;
        lab.engine.handle_headers((0..5).map(|nth| header(t - 0.1, 5 * poll + nth)));
        lab.run_until(t);
        assert_eq!(lab.kernel.samples.contains_key(&LISTENER), asked, "{t}");
    }
    let headers = lab.incident().record.syn_headers;
    let kept: Vec<u8> = headers.iter().map(|header| header.bytes[0]).collect();
    assert_eq!(kept, (5..21).collect::<Vec<u8>>(), "the first ones");
    assert_eq!(headers[0].at, at(11.65));
}

#[test]
fn each_incident_has_headers_of_its_own() {
    let mut lab = flooded(5000.0, 12.0).flood(Flood::random(5000.0, 80.1..90.1));
    lab.engine.handle_headers([header(11.9, 1)]);
    lab.run_until(60.0);
    assert!(lab.kernel.samples.is_empty(), "it is over");
    lab.run_until(82.0);
    // Headers that are in the kernel since the first one do not belong to the second.
    lab.engine.handle_headers([header(20.0, 2), header(81.9, 3)]);
    let kept = |headers: &[SynHeader]| headers.iter().map(|one| one.bytes[0]).collect::<Vec<_>>();
    assert_eq!(kept(&lab.incident().record.syn_headers), [3]);
    assert_eq!(kept(&lab.report().past[0].record.syn_headers), [1]);
}

#[test]
fn an_operator_has_those_of_every_listener_in_one_share() {
    let mut lab = flooded(5000.0, 9.0);
    lab.engine.sample_all(true);
    lab.run_until(10.0);
    assert_eq!(lab.kernel.samples[&LISTENER], 0, "all of the clients' SYNs");
    lab.run_until(19.0);
    let found = 5050.0 / 4.0 / f64::from(1_u32 << lab.kernel.samples[&LISTENER]);
    assert!((16.0..=32.0).contains(&found), "{found} a poll");
    lab.engine.handle_headers((0..16).map(|number| header(18.9, number)));
    lab.run_until(19.3);
    assert!(lab.kernel.samples.contains_key(&LISTENER), "although the incident has its own");
    lab.engine.sample_all(false);
    lab.run_until(19.6);
    assert!(lab.kernel.samples.is_empty());
}

#[test]
fn of_a_listener_that_has_gone_no_headers_are_wanted() {
    let mut lab = flooded(5000.0, 12.0);
    assert!(lab.kernel.samples.contains_key(&LISTENER));
    lab.kernel.close(0);
    lab.kernel.now = at(12.25);
    lab.poll();
    assert!(lab.kernel.samples.is_empty());
    lab.engine.handle_headers([header(12.0, 1)]);
}
