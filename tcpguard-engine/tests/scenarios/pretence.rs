//! Floods that behave as clients behind a broken path do, and clients that behave as a flood.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use tcpguard_engine::{
    Event, HeldBack, IncidentClass, IncidentReport, ListenerState, Mitigation, MitigationReason,
    Mode, RestraintReason, Route,
};

use crate::at_its_end;
use crate::sim::*;

const BEGIN: f64 = 30.1;
const END: f64 = 60.1;
/// Clients a second.
const BASELINE: f64 = 60.0;
/// Earliest time at which a second frame can come, in s after the first.
const AT_ONCE: &[f64] = &[0.0004];
const ATTACKER: Sources = Sources::One(IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7)));
/// Minimum share of failed handshakes that clients retransmit (`retransmit_share`). A decision that rests on it alone
/// is in the attacker's hands.
const CLIENTS_REPEAT: f64 = 0.35;

fn clients(rate: f64, population: &Arc<Population>) -> Clients {
    Clients {
        arrivals: Arrivals::Poisson,
        population: Some(population.clone()),
        ..Clients::steady(rate)
    }
}

fn lab() -> Lab {
    let server = Server { backlog: 4096, ..Server::default() };
    Lab::new(Mode::Enforce).listener(server).clients(clients(BASELINE, &Population::new(1)))
}

fn mimicking(rate: f64) -> Flood {
    Flood { shape: Shape::Mimicking, ..Flood::random(rate, BEGIN..END) }
}

/// The incident after five seconds, when every look from then on to the end of the flood says the same.
#[track_caller]
fn named(name: &str, lab: &mut Lab, class: IncidentClass) -> IncidentReport {
    lab.run_until(BEGIN + 5.0);
    for second in 5..30 {
        lab.run_until(BEGIN + f64::from(second));
        let story = format!("{name}, after {second} s\n{}", lab.story());
        let found = lab.report().incidents.first().map(|incident| incident.class);
        assert_eq!(found, Some(class), "{story}");
    }
    assert_eq!(lab.times("attack_started").len(), 1, "{name}\n{}", lab.story());
    lab.incident()
}

#[test]
fn a_retransmitting_flood_is_classified_and_not_withdrawn() {
    use IncidentClass::{FewSource, RandomSpoofed, SingleSource};
    for (name, rate, sources, repeated, again, class) in [
        ("each twice at once", 500.0, Sources::Random, 1.0, AT_ONCE, RandomSpoofed),
        ("40 % twice at once", 500.0, Sources::Random, 0.4, AT_ONCE, RandomSpoofed),
        ("a surge, twice at once", 20_000.0, Sources::Random, 1.0, AT_ONCE, RandomSpoofed),
        ("one /24, twice at once", 500.0, Sources::Networks(1), 1.0, AT_ONCE, FewSource),
        ("one source, twice at once", 500.0, ATTACKER, 1.0, AT_ONCE, SingleSource),
        ("40 % after 1 s", 500.0, Sources::Random, 0.4, &[1.0], RandomSpoofed),
        ("each after 1 s", 1000.0, Sources::Random, 1.0, &[1.0], RandomSpoofed),
        ("one /24, after 1 s", 1000.0, Sources::Networks(1), 1.0, &[1.0], FewSource),
        ("after 1 and 3 s", 1000.0, Sources::Random, 1.0, &[1.0, 3.0], RandomSpoofed),
        ("as clients do", 1000.0, Sources::Random, 1.0, &[1.0, 3.0, 7.0], RandomSpoofed),
        ("one source, as clients do", 1000.0, ATTACKER, 1.0, &[1.0, 3.0, 7.0], SingleSource),
        ("in clients' names", 1000.0, Sources::Clients, 1.0, &[1.0, 3.0, 7.0], RandomSpoofed),
        ("a surge as clients do", 10_000.0, Sources::Random, 1.0, &[1.0, 3.0], RandomSpoofed),
        ("of all addresses", 10_000.0, Sources::Anywhere, 1.0, &[1.0, 3.0], RandomSpoofed),
    ] {
        let mut lab = lab().flood(Flood { sources, repeated, again, ..mimicking(rate) });
        let incident = named(name, &mut lab, class);
        let story = format!("{name}\n{}", lab.story());
        assert_eq!(lab.installed.len(), 0, "nothing distinguishes it from clients: {story}");
        assert!(lab.kernel.mitigations(0).contains(&Mitigation::Cookies), "{story}");
        let counters = lab.listener_report(0).counters;
        let sent_again = counters.syn_retransmit as f64 / counters.syn as f64;
        let counted = incident.evidence.retransmitted_share.expect(&story);
        if again == AT_ONCE {
            assert!(counted < 0.05, "{counted} {story}");
            assert!(sent_again > 0.2, "the naive way counts these: {sent_again} {story}");
        } else {
            assert!(
                counted > CLIENTS_REPEAT,
                "the naive way takes it for clients: {counted} {story}"
            );
        }
    }
}

/// The stack does not answer SYNs from martian sources, and a copy of a SYN gets no reply of its own. Each costs an
/// attacker one packet. The naive way learns them as a baseline, and takes a thousand SYNs a second for clients.
#[test]
fn syns_without_replies_of_their_own_do_not_become_the_baseline() {
    const CALM: f64 = 600.0;
    let nowhere: IpNet = "172.17.0.0/16".parse().expect("a network");
    let free = Flood { shape: Shape::Mimicking, ..Flood::random(200.0, 5.0..CALM) };
    let ignored = Flood { sources: Sources::Within(nowhere), ..free.clone() };
    let once_more = Flood { repeated: 1.0, again: &[1.0], ..free };
    for (name, free) in [
        ("ignored", ignored.clone()),
        ("ignored, twice", Flood { sources: ignored.sources, ..once_more }),
    ] {
        let copies = Flood {
            repeated: 1.0,
            again: &[1.0, 3.0, 7.0],
            shape: Shape::Mimicking,
            ..Flood::random(1000.0, CALM + 0.1..CALM + 30.1)
        };
        let mut lab = lab().flood(free).flood(copies);
        lab.kernel.routes = vec![(nowhere, Route::Nowhere)];
        lab.run_until(CALM + 20.0);
        let incident = lab.incident();
        let story = lab.story();
        assert_eq!(incident.class, IncidentClass::RandomSpoofed, "{name}: {story}");
        let at_alarm = incident.record.at_alarm.expect("counters at the alarm");
        let baseline = at_alarm.statistics.baseline_syn_rate;
        assert!((baseline - BASELINE).abs() < BASELINE / 5.0, "{name}: {baseline}");
    }
}

/// An attempt that its source resets holds no slot.
#[test]
fn a_flood_whose_every_syn_ack_is_reset_is_reported_and_nothing_is_dropped() {
    for rate in [600.0, 1000.0] {
        let mut lab = lab().flood(Flood { resets: true, ..mimicking(rate) });
        named("all reset", &mut lab, IncidentClass::RandomSpoofed);
        assert_eq!(lab.installed.len(), 0, "{}", lab.story());
        assert!(lab.connected(BEGIN, END - 1.0) > 0.99, "{}", lab.story());
    }
    let mut lab =
        at_its_end().flood(Flood { resets: true, shape: Shape::Linux, ..mimicking(600.0) });
    named("without cookies", &mut lab, IncidentClass::RandomSpoofed);
    assert_eq!(lab.installed.len(), 0, "{}", lab.story());
    assert!(lab.connected(BEGIN, END - 1.0) > 0.99, "{}", lab.story());
}

/// Each of twenty sources resets 18 in 19 of its handshakes, as a health check does, and leaves one open. The naive
/// way takes none of them for evidence, and does nothing about the queue that is full.
#[test]
fn handshakes_that_are_reset_excuse_none_that_are_left_open() {
    let few = clients(3.0, &Population::new(1));
    let mut lab = Lab::new(Mode::Enforce).listener(Server::default()).clients(few);
    for host in 1..=20 {
        let sources = Sources::One([198, 51, 100, host].into());
        for (rate, resets) in [(45.0, true), (2.5, false)] {
            lab = lab.flood(Flood { sources, resets, ..mimicking(rate) });
        }
    }
    lab.run_until(END);
    let story = lab.story();
    assert_eq!(lab.incident().class, IncidentClass::FewSource, "{story}");
    let (armed, _) = lab
        .mitigations
        .iter()
        .find(|(_, mitigation)| *mitigation == Mitigation::Cookies)
        .expect(&story);
    // A handshake that is left open is answered. It becomes evidence once it has stayed incomplete for long enough.
    assert!(*armed <= BEGIN + 6.0, "{story}");
    assert!(lab.connected(armed + 1.0, END - 1.0) > 0.99, "{story}");
    assert_eq!(lab.installed.len(), 0, "{story}");
}

/// A firewall resets SYN-ACKs in its clients' names. They never got one, and so they retransmit their SYN.
#[test]
fn spoofed_clients_whose_syn_acks_are_reset_are_behind_a_broken_path() {
    let office: IpAddr = [192, 0, 2, 1].into();
    for (rate, behind) in [(30.0, Some(office)), (200.0, Some(office)), (200.0, None)] {
        let outage = Outage { what: Broken::Refused, ..Outage::of(BEGIN..BEGIN + 20.0, 1.0) };
        let population = Population::new(2);
        let cut_off = Clients { behind, outage: Some(outage), ..clients(rate, &population) };
        let mut lab = lab().clients(cut_off);
        lab.run_until(BEGIN + 60.0);
        let story = format!("{rate} {behind:?}\n{}", lab.story());
        assert_eq!(lab.times("attack_started").len(), 0, "{story}");
        assert_eq!(lab.installed.len(), 0, "{story}");
        if rate > BASELINE {
            assert_eq!(lab.times("handshakes_degraded").len(), 1, "{story}");
        }
    }
}

/// Each scanner tries once in a few seconds, so that none is known as a source that keeps returning.
#[test]
fn half_open_scans_by_many_scanners_are_no_attack() {
    for (scanners, shape, baseline) in [
        (200, Shape::Bare, 60.0),
        (200, Shape::Linux, 2.0),
        (500, Shape::Linux, 60.0),
        (500, Shape::Bare, 2.0),
    ] {
        let probes = Flood {
            resets: true,
            sources: Sources::Pool(scanners),
            shape,
            ..Flood::random(60.0, BEGIN..BEGIN + 120.0)
        };
        let mut lab = Lab::new(Mode::Enforce)
            .listener(Server::default())
            .clients(clients(baseline, &Population::new(1)))
            .flood(probes);
        lab.run_until(BEGIN + 120.0);
        let story = format!("{scanners} {shape:?} among {baseline}/s\n{}", lab.story());
        assert_eq!(lab.alerts.len(), 0, "{story}");
        assert_eq!(lab.installed.len(), 0, "{story}");
    }
}

/// After 1.5 s none of them has retransmitted its SYN, as none of a flood has.
#[test]
fn clients_whose_first_timeout_is_three_seconds_are_no_flood_for_two_of_them() {
    let office: IpAddr = [192, 0, 2, 1].into();
    let population = Population::new(1);
    for (behind, whom, share, rate) in [
        (Some(office), Whom::Clients, 1.0, 100.0),
        (None, Whom::Isps, 0.33, 300.0),
        (None, Whom::Clients, 1.0, 100.0),
    ] {
        let outage = Outage { whom, ..Outage::of(BEGIN..BEGIN + 20.0, share) };
        let slow = Clients {
            behind,
            outage: Some(outage),
            persistence: Persistence::SLOW,
            ..clients(rate, &population)
        };
        let mut lab = lab().clients(slow);
        lab.run_until(BEGIN + 70.0);
        let story = format!("{behind:?} {whom:?}\n{}", lab.story());
        assert_eq!(lab.times("attack_started").len(), 0, "{story}");
        assert_eq!(lab.times("handshakes_degraded").len(), 1, "{story}");
        assert_eq!((lab.installed.len(), lab.mitigations.len()), (0, 0), "{story}");
    }
}

/// Applications open a connection anew after 0.3 s where a kernel would retransmit its SYN. Lost clients, each from
/// another address, hide neither an office nor a few servers among them: the naive way asks how many of the sources
/// are known.
#[test]
fn a_client_that_reconnects_instead_of_retransmitting_is_recognised() {
    let office: IpAddr = [192, 0, 2, 1].into();
    for (behind, people, rate, after) in [(Some(office), 400, 50.0, 0.3), (None, 20, 30.0, 0.8)] {
        let impatient = Clients {
            behind,
            outage: Some(Outage::of(BEGIN..BEGIN + 20.0, 1.0)),
            persistence: Persistence::Reconnects { after, times: 2 },
            ..clients(rate, &Population::of(2, people))
        };
        let mut lab = lab().clients(impatient);
        lab.run_until(BEGIN + 60.0);
        let story = format!("{behind:?}\n{}", lab.story());
        assert_eq!(lab.times("attack_started").len(), 0, "{story}");
        assert_eq!(lab.times("handshakes_degraded").len(), 1, "{story}");
        assert_eq!(lab.installed.len(), 0, "{story}");
    }
}

/// A client that received a reply does not retransmit its SYN. A flood leaves the number of completed handshakes
/// unchanged, while failing clients lower it.
#[test]
fn clients_whose_third_acks_are_lost_are_missed_among_those_that_complete() {
    for share in [0.5, 1.0] {
        let outage = Outage { what: Broken::Ack, ..Outage::of(BEGIN..BEGIN + 20.0, share) };
        let server = Server { backlog: 4096, ..Server::default() };
        let clients = Clients { outage: Some(outage), ..clients(BASELINE, &Population::new(1)) };
        let mut lab = Lab::new(Mode::Enforce).listener(server).clients(clients);
        lab.run_until(BEGIN + 60.0);
        let story = format!("{share}\n{}", lab.story());
        assert_eq!(lab.times("attack_started").len(), 0, "{story}");
        assert_eq!(lab.times("handshakes_degraded").len(), 1, "{story}");
    }
    // As many that clients do not miss.
    let mut flooded = lab().flood(mimicking(BASELINE / 2.0));
    flooded.run_until(END);
    assert_eq!(flooded.times("attack_started").len(), 1, "{}", flooded.story());
}

/// A client that connected faster over the other IP version resets the slower handshake. A reset handshake occupies no
/// slot.
#[test]
fn clients_of_which_a_quarter_resets_one_of_two_handshakes_are_no_attack() {
    let natural = Natural { reset: 0.28, ..Natural::normal() };
    let server = Server { backlog: 4096, ..Server::default() };
    let clients = Clients { natural, ..clients(BASELINE, &Population::new(1)) };
    let mut lab = Lab::new(Mode::Enforce).listener(server).clients(clients);
    lab.run_until(300.0);
    assert_eq!(lab.times("attack_started").len(), 0, "{}", lab.story());
    assert_eq!((lab.installed.len(), lab.mitigations.len()), (0, 0), "{}", lab.story());
}

/// A queue that a broken path fills turns everybody else away.
#[test]
fn cookies_answer_at_a_full_queue_whatever_the_verdict_is() {
    let cut_off = || Clients {
        behind: Some([192, 0, 2, 1].into()),
        outage: Some(Outage::of(BEGIN..BEGIN + 40.0, 1.0)),
        ..Clients::steady(120.0)
    };
    let lab = |mode, cookies| {
        let server = Server { backlog: 128, cookies, ..Server::default() };
        let others = clients(80.0, &Population::new(1));
        Lab::new(mode).listener(server).clients(others).clients(cut_off())
    };
    let mut answered = lab(Mode::Enforce, true);
    answered.run_until(BEGIN + 30.0);
    let story = answered.story();
    assert_eq!(answered.incident().class, IncidentClass::HandshakeDegraded, "{story}");
    assert_eq!(answered.mitigations.len(), 1, "{story}");
    let (armed, mitigation) = answered.mitigations[0];
    assert_eq!(mitigation, Mitigation::Cookies, "{story}");
    assert!(armed <= BEGIN + 5.0, "{story}");
    assert!(answered.group_connected(0, 1.0, armed + 0.5, BEGIN + 28.0) > 0.99, "{story}");
    assert_eq!(answered.installed.len(), 0, "{story}");
    assert!(!answered.kernel.passes_excess(0), "an incident is open: {story}");
    let alert = answered
        .alerts
        .iter()
        .find(|alert| alert.event.name() == "mitigation_started")
        .expect(&story);
    let Event::MitigationStarted { why, .. } = &alert.event else { panic!("{alert:?}") };
    assert!(is_of_a_full_queue(why), "{alert:?}");
    answered.run_until(BEGIN + 120.0);
    assert_eq!(answered.kernel.mitigations(0), [], "{}", answered.story());

    // Where cookies are unavailable, a broken path is no reason to make clients wait for a second SYN, and the record
    // gives the reason for the missing mitigation. The naive way: it is no attack, so nothing is done about it.
    for mode in [Mode::Enforce, Mode::Observe] {
        let mut lab = lab(mode, false);
        lab.run_until(BEGIN + 30.0);
        let story = format!("{mode:?}\n{}", lab.story());
        let let_in = lab.group_connected(0, 1.0, BEGIN + 5.0, BEGIN + 28.0);
        assert!(let_in < 0.5, "{let_in} {story}");
        assert_eq!((lab.installed.len(), lab.mitigations.len()), (0, 0), "{story}");
        let restraint = lab.incident().record.no_mitigation.expect(&story);
        match (mode, &restraint.reason) {
            (Mode::Enforce, RestraintReason::Refused { mitigation, why }) => {
                assert_eq!(*mitigation, Mitigation::Cookies);
                assert!(is_without_syncookies(why), "{why:?}");
            }
            (mode, reason) => {
                let by = HeldBack::AgentObserves;
                assert_eq!((mode, reason), (Mode::Observe, &RestraintReason::HeldBack { by }));
            }
        }
    }
}

fn is_of_a_full_queue(why: &MitigationReason) -> bool {
    matches!(why, MitigationReason::QueueFull | MitigationReason::QueueNearlyFull)
}

fn is_without_syncookies(why: &MitigationReason) -> bool {
    let refused = "net.ipv4.tcp_syncookies is 0";
    matches!(why, MitigationReason::Failed { error, .. } if error.starts_with(refused))
}

/// The clients outnumber the slots of the queue, without any attack.
#[test]
fn a_queue_too_small_for_clients_from_far_away_gets_cookies_and_says_why() {
    let crowd = || Clients { rtt: 0.3..0.5, ..Clients::steady(600.0) };
    for cookies in [true, false] {
        let server = Server { backlog: 128, cookies, ..Server::default() };
        let mut lab = Lab::new(Mode::Enforce).listener(server).clients(crowd());
        lab.run_until(60.0);
        let story = format!("{cookies}\n{}", lab.story());
        assert_eq!(lab.times("attack_started").len(), 0, "{story}");
        assert_eq!(lab.installed.len(), 0, "{story}");
        let report = lab.listener_report(0);
        let mitigation = report
            .mitigations
            .iter()
            .find(|report| report.mitigation == Mitigation::Cookies)
            .expect(&story);
        let is_said = if cookies { is_of_a_full_queue } else { is_without_syncookies };
        assert!(is_said(&mitigation.why), "{mitigation:?}");
        if cookies {
            assert_eq!(lab.mitigations.len(), 1, "it is not left and taken again: {story}");
            assert!(lab.connected(lab.mitigations[0].0 + 1.0, 58.0) > 0.99, "{story}");
        } else {
            assert_eq!(lab.mitigations.len(), 0, "no step that keeps clients waiting: {story}");
            assert!(lab.connected(20.0, 58.0) < 0.9, "as if it had no protection: {story}");
        }
    }
}

/// From one address that the attacker holds, at four times the rate of the clients. The naive way takes all of it for a
/// flash crowd.
#[test]
fn handshakes_that_an_attacker_completes_excuse_no_more_that_he_leaves_open() {
    let helper = Clients {
        behind: Some([198, 51, 100, 7].into()),
        from: BEGIN,
        until: END,
        ..Clients::steady(4.0 * BASELINE)
    };
    let flood = Flood { repeated: 1.0, again: &[1.0, 3.0, 7.0], ..mimicking(1000.0) };
    let mut lab = lab().clients(helper).flood(flood);
    named("with a helper", &mut lab, IncidentClass::RandomSpoofed);
    let story = lab.story();
    assert!(lab.group_connected(1, 1.0, BEGIN, END - 2.0) > 0.99, "he does complete them: {story}");
    assert!(lab.kernel.mitigations(0).contains(&Mitigation::Cookies), "{story}");
}

/// The smaller part is below the remainder of a rule at which cookies become necessary (`residual_share`), and it fills the
/// queue.
#[test]
fn a_fixed_fingerprint_flood_that_a_rule_drops_hides_no_mimicking_flood() {
    let lab = |cookies, refused: &[Mitigation]| {
        let server = Server { backlog: 1024, cookies, ..Server::default() };
        let mut lab = Lab::new(Mode::Enforce)
            .listener(server)
            .clients(clients(BASELINE, &Population::new(1)))
            .flood(Flood::random(10_000.0, BEGIN..END))
            .flood(mimicking(400.0));
        lab.refuse_mitigations = refused.to_vec();
        lab
    };
    let mut answered = lab(true, &[]);
    answered.run_until(END - 0.5);
    let story = answered.story();
    assert_eq!(answered.signature_rules().len(), 1, "{story}");
    assert!(answered.kernel.mitigations(0).contains(&Mitigation::Cookies), "{story}");
    assert_eq!(answered.listener_report(0).state, ListenerState::Mitigating, "{story}");
    let connected = answered.connected(BEGIN + 5.0, END - 2.0);
    assert!(connected > 0.99, "{connected} {story}");

    let mut harder = lab(false, &[]);
    harder.run_until(END - 0.5);
    let story = harder.story();
    assert!(harder.kernel.mitigations(0).contains(&Mitigation::Budget), "{story}");
    let connected = harder.group_connected(0, 4.0, BEGIN + 8.0, END - 5.0);
    assert!(connected > 0.95, "{connected} {story}");

    let mut bare = lab(false, &[Mitigation::Budget]);
    bare.run_until(BEGIN + 10.0);
    let story = bare.story();
    assert_eq!(bare.signature_rules().len(), 1, "{story}");
    assert_eq!(bare.listener_report(0).state, ListenerState::Attacked, "{story}");
}

/// A flood below the rate that clients could cause passes for a broken path once it retransmits its SYNs as clients do.
#[test]
fn a_flood_that_changes_the_verdict_on_it_takes_no_cookies_away() {
    let first = Flood { until: BEGIN + 15.0, ..mimicking(300.0) };
    let again = &[1.0, 3.0, 7.0];
    let then =
        Flood { repeated: 1.0, again, from: BEGIN + 15.0, until: END + 30.0, ..mimicking(300.0) };
    let mut lab = Lab::new(Mode::Enforce)
        .listener(Server::default())
        .clients(clients(BASELINE, &Population::new(1)))
        .flood(first)
        .flood(then);
    lab.run_until(BEGIN + 10.0);
    assert_eq!(lab.incident().class, IncidentClass::RandomSpoofed, "{}", lab.story());
    lab.run_until(END + 30.0);
    let story = lab.story();
    assert_eq!(lab.incident().class, IncidentClass::HandshakeDegraded, "{story}");
    assert_eq!(lab.times("mitigation_stopped").len(), 0, "{story}");
    assert!(lab.kernel.mitigations(0).contains(&Mitigation::Cookies), "{story}");
    assert!(lab.connected(BEGIN + 5.0, END + 28.0) > 0.99, "{story}");
}

/// The pulse is over before the mitigation is started, and the queue is cleaned up. Where the mitigation was held for
/// half a minute longer, one new client in ten got in within a second.
#[test]
fn a_short_pulse_every_half_minute_does_not_keep_new_clients_waiting_for_good() {
    let pulses = Some((0.1, 34.9));
    let until = BEGIN + 210.0;
    let mut lab =
        at_its_end().flood(Flood { pulses, until, shape: Shape::Linux, ..mimicking(3000.0) });
    for pulse in 1..6 {
        lab.run_until(BEGIN + 35.0 * f64::from(pulse) - 1.0);
        let mitigations = lab.kernel.mitigations(0);
        assert!(!mitigations.contains(&Mitigation::Budget), "{pulse}: {}", lab.story());
    }
    let story = lab.story();
    assert!(
        lab.mitigations.iter().any(|(_, mitigation)| *mitigation == Mitigation::Budget),
        "{story}"
    );
    let at_once = lab.connected(BEGIN + 35.0, BEGIN + 174.0);
    assert!(at_once > 0.8, "{at_once} {story}");
}

/// More than a quarter was never learned, and so the incident never ended.
#[test]
fn constant_failures_are_reported_once_and_are_baseline_after_ten_minutes() {
    let broken = Outage::of(60.0..1e6, 0.28);
    let some = Clients { outage: Some(broken), ..clients(50.0, &Population::new(1)) };
    let server = Server { backlog: 4096, ..Server::default() };
    let mut lab = Lab::new(Mode::Enforce).listener(server).clients(some);
    lab.run_until(600.0);
    assert_eq!(lab.incident().class, IncidentClass::HandshakeDegraded, "{}", lab.story());
    lab.run_until(1200.0);
    let story = lab.story();
    assert_eq!(lab.times("attack_started").len(), 0, "{story}");
    assert_eq!(lab.times("handshakes_degraded").len(), 1, "{story}");
    let ended = lab.times("handshakes_recovered");
    assert!(ended.len() == 1 && ended[0] < 900.0, "{story}");
    assert_eq!(lab.report().incidents.len(), 0, "{story}");
    let mut lab = lab.flood(Flood { from: 1200.1, until: 1215.0, ..mimicking(500.0) });
    lab.run_until(1210.0);
    assert_eq!(lab.incident().class, IncidentClass::RandomSpoofed, "{}", lab.story());
}
