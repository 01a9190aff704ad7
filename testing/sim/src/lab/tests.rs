use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tcpguard_common::abi::Fingerprint;
use tcpguard_engine::{
    Listener, Mitigation, MitigationReason, MitigationState, Mode, Order, Request, Settings,
};

use super::Lab;
use crate::random::Random;
use crate::{
    Arrivals, Broken, Clients, Flood, HealthCheck, HealthChecks, Natural, Outage, Persistence,
    Population, Server, Shape, Sources, Tick, Whom,
};

fn lab(seed: u64) -> Lab {
    let mut lab = Lab::seeded(Settings::default(), Mode::Observe, seed)
        .listener(Server { backlog: 4096, ..Server::default() });
    lab.record_ticks(true);
    lab
}

/// People of a population.
fn people(rate: f64) -> Clients {
    let population = Some(Population::new(5));
    Clients { arrivals: Arrivals::Poisson, population, ..Clients::steady(rate) }
}

fn sum(ticks: &[Tick], count: fn(&Tick) -> u64) -> f64 {
    ticks.iter().map(count).sum::<u64>() as f64
}

fn assert_share(part: u64, all: u64, share: f64) {
    let found = part as f64 / all as f64;
    assert!((found - share).abs() < 0.02, "{part} of {all} are {found}, not {share}");
}

#[test]
fn so_many_clients_vanish_or_reset_by_themselves() {
    let natural = Natural { vanish: 0.1, reset: 0.05, loss: 0.0 };
    let mut lab = lab(1).clients(Clients { natural, ..people(200.0) });
    lab.run_until(60.0);
    let (tally, ticks) = (lab.tally(), lab.drain_ticks(0));
    assert_share(tally.attempts, tally.syns, 0.85);
    assert_eq!(tally.syns as f64, sum(&ticks, |tick| tick.syn), "nobody repeats anything");
    assert!(tally.attempts - tally.connected < 100, "all but those still on their way connect");
    assert_share(sum(&ticks, |tick| tick.rst) as u64, tally.syns, 0.05);
    let half_open = ticks.last().map(|tick| tick.half_open).unwrap_or_default();
    assert_share(half_open.into(), tally.syns, 0.1);
}

#[test]
fn a_lost_packet_is_sent_again_a_second_later() {
    let natural = Natural { loss: 0.3, ..Natural::default() };
    let mut lab = lab(1).clients(Clients { natural, until: 60.0, ..people(200.0) });
    lab.run_until(65.0);
    let tally = lab.tally();
    assert_eq!(tally.connected, tally.attempts);
    assert_share(tally.connected_1s, tally.attempts, 0.7);
    // A third of the lost packets are answers to SYNs that the host has seen.
    assert_share(tally.attempts, tally.syns, 1.0 / 1.1);
}

#[test]
fn normal_failures_are_one_and_a_half_percent() {
    let normal = Natural::normal();
    assert!((normal.vanish + normal.reset + normal.loss - 0.015).abs() < 1e-12);
    assert_eq!(Clients::steady(1.0).natural, Natural::default(), "and none unless asked for");
}

#[test]
fn every_connection_ends_with_one_fin() {
    let mut lab = lab(1).clients(Clients { life: Some(2.0), until: 60.0, ..people(100.0) });
    lab.run_until(59.0);
    let before = lab.drain_ticks(0);
    let open = sum(&before, |tick| tick.established) - sum(&before, |tick| tick.fin);
    // A log-normal life of median 2 s and sigma 1 takes 2 e^(1/2) s in the mean.
    assert!((open - 330.0).abs() < 70.0, "{open} are open");
    lab.run_until(400.0);
    let after = lab.drain_ticks(0);
    assert_eq!(open, sum(&after, |tick| tick.fin) - sum(&after, |tick| tick.established));
}

#[test]
fn a_ramp_grows_to_the_full_rate() {
    let flood = Flood { ramp: Some(10.0), ..Flood::random(1000.0, 5.0..30.0) };
    let mut lab = lab(1).flood(flood);
    lab.run_until(30.0);
    let ticks = lab.drain_ticks(0);
    let second = |from: usize| sum(&ticks[4 * from..4 * from + 4], |tick| tick.syn);
    assert_eq!(second(4), 0.0);
    assert!((second(5) - 50.0).abs() < 5.0 && (second(10) - 550.0).abs() < 5.0);
    assert!((second(15) - 1000.0).abs() < 5.0 && (second(29) - 1000.0).abs() < 5.0);
}

/// Everything that a run shows.
fn run(seed: u64) -> (Vec<Tick>, String) {
    let clients = Clients { natural: Natural::normal(), life: Some(5.0), ..people(100.0) };
    let arrivals = Arrivals::Bursty { sigma: 0.5, rho: 0.8 };
    let mut lab = lab(seed)
        .clients(Clients { arrivals, ..clients })
        .flood(Flood { shape: Shape::Mimicking, ..Flood::random(500.0, 20.0..30.0) });
    lab.run_until(60.0);
    (lab.drain_ticks(0), lab.story())
}

#[test]
fn the_same_seed_gives_the_same_ticks_and_alerts_and_another_one_others() {
    let (first, again, other) = (run(7), run(7), run(8));
    assert!(!first.1.is_empty(), "there is something to tell");
    assert_eq!(first, again);
    assert_ne!(first.0, other.0);
    assert_ne!(first.1, other.1);
}

#[test]
fn outages_hit_the_share_of_clients_that_they_are_about() {
    let largest = Population::new(5).isps()[0];
    for (whom, share, expected) in
        [(Whom::Clients, 0.2, 0.2), (Whom::Isps, 0.2, 0.2), (Whom::Isp(0), 1.0, largest)]
    {
        for what in [Broken::Syn, Broken::SynAck, Broken::Refused, Broken::Ack] {
            let outage = Some(Outage { whom, what, ..Outage::of(20.0..60.0, share) });
            let mut lab = lab(1).clients(Clients { outage, ..people(200.0) });
            lab.run_until(20.0);
            let before = lab.tally();
            assert!(before.attempts - before.connected < 100, "{before:?}");
            lab.clear_tally();
            lab.drain_ticks(0);
            lab.run_until(50.0);
            let tally = lab.tally();
            let missing = 1.0 - tally.connected as f64 / tally.attempts as f64;
            assert!((missing - expected).abs() < 0.03, "{whom:?} {what:?}: {missing}");
            let repeated = tally.syns as f64 / tally.attempts as f64 - 1.0;
            match what {
                Broken::Syn => assert!(repeated < -0.5 * expected, "they are not seen"),
                Broken::SynAck | Broken::Refused => {
                    assert!(repeated > 2.0 * expected, "{whom:?}: {repeated}");
                }
                Broken::Ack => assert!(repeated.abs() < 0.01, "they believe to be connected"),
            }
        }
    }
}

#[test]
fn something_that_resets_the_answers_leaves_nothing_half_open_and_clients_that_try_again() {
    let outage = Some(Outage { what: Broken::Refused, ..Outage::of(10.0..60.0, 1.0) });
    let mut lab = lab(1).clients(Clients { outage, ..people(100.0) });
    lab.run_until(9.0);
    lab.drain_ticks(0);
    lab.clear_tally();
    lab.run_until(40.0);
    let ticks = lab.drain_ticks(0);
    assert_share(sum(&ticks, |tick| tick.rst) as u64, sum(&ticks, |tick| tick.syn) as u64, 0.99);
    assert!(ticks.last().is_some_and(|tick| tick.half_open < 30), "{:?}", ticks.last());
    let tally = lab.tally();
    assert!(tally.syns > 3 * tally.attempts, "each after 1, 3 and 7 s: {tally:?}");
}

#[test]
fn a_client_that_reconnects_leaves_first_syns_only_and_a_slow_one_waits_three_seconds() {
    let lost = Some(Outage::of(0.0..60.0, 1.0));
    for (persistence, syns, repeated) in [
        (Persistence::default(), 4, 3),
        (Persistence::SLOW, 3, 2),
        (Persistence::Reconnects { after: 0.4, times: 5 }, 5, 0),
    ] {
        let clients = Clients { until: 10.0, outage: lost.clone(), persistence, ..people(20.0) };
        let mut lab = lab(1).clients(clients);
        lab.run_until(30.0);
        let tally = lab.tally();
        assert_eq!((tally.syns, tally.connected), (syns * tally.attempts, 0), "{persistence:?}");
        let retransmits = lab.kernel.flows().iter().map(|flow| u64::from(flow.syn_retransmits));
        assert_eq!(retransmits.sum::<u64>(), repeated * tally.attempts, "{persistence:?}");
    }
    // No client has retransmitted anything before that.
    let slow = Clients { outage: lost, persistence: Persistence::SLOW, ..people(20.0) };
    let mut lab = lab(1).clients(slow);
    lab.run_until(2.9);
    assert!(lab.kernel.flows().iter().all(|flow| flow.syn_retransmits == 0));
}

#[test]
fn a_broken_path_of_one_provider_hits_no_other() {
    let population = Population::new(5);
    let outage = Outage { whom: Whom::Isp(2), ..Outage::of(0.0..60.0, 1.0) };
    let clients =
        Clients { outage: Some(outage), population: Some(population.clone()), ..people(300.0) };
    let mut lab = lab(1).clients(clients);
    lab.run_until(30.0);
    let isp: BTreeMap<IpAddr, usize> = (0..population.len())
        .map(|index| population.client(index))
        .map(|client| (client.addr, client.isp))
        .collect();
    let old =
        lab.kernel.flows().iter().filter(|flow| lab.kernel.now.since(flow.syn_at).as_secs() > 1);
    let mut failed = 0;
    for flow in old {
        let cut = isp[&flow.client] == 2;
        assert_eq!(flow.done_at.is_none(), cut, "{flow:?}");
        failed += u32::from(cut);
    }
    assert!(failed > 100, "{failed}");
}

#[test]
fn health_checks_end_as_configured() {
    for kind in [HealthCheck::Reset, HealthCheck::Vanish, HealthCheck::Fin] {
        let checks = HealthChecks { to: 0, rate: 4.0, sources: 3, kind };
        let mut lab = lab(1).health_checks(checks);
        lab.run_until(50.0);
        let ticks = lab.drain_ticks(0);
        let counts = [
            sum(&ticks, |tick| tick.syn),
            sum(&ticks, |tick| tick.rst),
            sum(&ticks, |tick| tick.established),
            sum(&ticks, |tick| tick.fin),
            f64::from(ticks.last().map_or(0, |tick| tick.half_open)),
        ];
        let expected = match kind {
            HealthCheck::Reset => [200.0, 200.0, 0.0, 0.0, 0.0],
            HealthCheck::Vanish => [200.0, 0.0, 0.0, 0.0, 200.0],
            HealthCheck::Fin => [200.0, 0.0, 200.0, 200.0, 0.0],
        };
        assert!(
            counts.iter().zip(expected).all(|(count, expected)| (count - expected).abs() <= 1.0),
            "{kind:?}: {counts:?}"
        );
        let sources = lab.kernel.flows().iter().map(|flow| flow.client);
        assert_eq!(sources.collect::<std::collections::BTreeSet<_>>().len(), 3);
    }
}

#[test]
fn a_bot_keeps_its_fingerprint_and_mimicking_sources_have_those_of_clients() {
    let population = Population::new(5);
    let mut random = Random::new(1);
    let flood = |sources, shape| Flood { sources, shape, ..Flood::random(1.0, 0.0..1.0) };
    let bots = flood(Sources::Bots(300), Shape::Mix);
    let mut looks = BTreeMap::<IpAddr, Fingerprint>::new();
    for _ in 0..3000 {
        let (bot, look) = bots.draw(&mut random, None);
        let look = Fingerprint { ip_id: 0, ..look };
        assert_eq!(*looks.entry(bot).or_insert(look), look);
    }
    assert_eq!(looks.len(), 300);
    assert!(looks.values().collect::<std::collections::BTreeSet<_>>().len() > 20);

    let mimicking = flood(Sources::Clients, Shape::Mimicking);
    let clients = || (0..population.len()).map(|index| population.client(index));
    for _ in 0..100 {
        let (addr, look) = mimicking.draw(&mut random, Some(&population));
        assert!(clients().any(|client| client.addr == addr));
        let look = Fingerprint { ip_id: 0, ..look };
        assert!(clients().any(|client| client.look == look), "{look:?}");
    }
}

#[test]
fn a_flood_retransmits_its_syns_when_configured_to() {
    let flood = |repeated, again| Flood { repeated, again, ..Flood::random(500.0, 0.0..0.5) };
    let mut all = lab(1).flood(flood(1.0, &[1.0, 3.0]));
    for (until, times) in [(0.9, 0), (2.0, 1), (4.0, 2)] {
        all.run_until(until);
        let flows = all.kernel.flows();
        assert!(flows.iter().all(|flow| flow.syn_retransmits == times), "{until}");
    }
    let mut some = lab(1).flood(Flood { until: 10.0, ..flood(0.4, &[0.0004]) });
    some.run_until(10.1);
    let flows = some.kernel.flows();
    assert!(
        flows.iter().all(|flow| flow.syn_retransmits == 0),
        "no client repeats its SYN at once"
    );
    let flows = flows.len() as u64;
    assert_share(some.kernel.sample().listeners[0].counters.syn_retransmit, flows, 0.4);
}

#[test]
fn so_many_of_a_flood_complete() {
    let sources = Sources::Bots(200);
    let flood = Flood { sources, completes: 0.3, ..Flood::random(500.0, 0.0..20.0) };
    let mut lab = lab(1).flood(flood);
    lab.run_until(21.0);
    let ticks = lab.drain_ticks(0);
    assert_share(sum(&ticks, |tick| tick.established) as u64, 10_000, 0.3);
    assert_eq!(lab.tally().attempts, 0, "they are no clients");
}

#[test]
fn a_flood_is_spread_evenly_over_listeners_wherever_they_are() {
    let at = |host: u8| Listener { addr: [203, 0, 113, host].into(), port: 53 };
    let mut lab = Lab::seeded(Settings::default(), Mode::Observe, 1).listener(Server::default());
    for host in 0..10 {
        lab = lab.listener_at(at(host), Server::default());
    }
    let flood = Flood { to: 1, across: 10, resets: true, ..Flood::random(1000.0, 0.0..10.0) };
    let mut lab = lab.flood(flood);
    lab.run_until(11.0);
    let sample = lab.kernel.sample();
    assert_eq!(sample.listeners[3].listener, at(2));
    assert_eq!(sample.listeners[0].counters.syn, 0);
    for listener in &sample.listeners[1..] {
        assert_share(listener.counters.syn, 10_000, 0.1);
        assert_eq!(listener.counters.reset, listener.counters.syn, "each by its own handshake");
    }
    let servers = lab.kernel.flows().iter().map(|flow| flow.server);
    assert_eq!(servers.collect::<std::collections::BTreeSet<_>>().len(), 10);
}

#[test]
fn a_flood_of_closed_ports_reaches_no_listener() {
    let flood = Flood { closed: Some(20), ..Flood::random(1000.0, 0.0..5.0) };
    let mut lab = lab(1).flood(Flood { sources: Sources::Bots(1), ..flood });
    lab.run_until(6.0);
    let sample = lab.kernel.sample();
    assert_eq!(sample.listeners[0].counters.syn, 0);
    let [probe] = sample.closed_port_sources[..] else { panic!("one source") };
    assert!(probe.syns > 4990 && u64::from(probe.syns) == sample.host.no_listener, "{probe:?}");
    assert_eq!(sample.host.refused, sample.host.no_listener, "by a reset each");
    assert!((15..27).contains(&probe.ports), "{probe:?}");
}

#[test]
fn sources_stand_where_they_are_said_to() {
    let mut random = Random::new(3);
    let net = "172.17.0.0/16".parse().expect("a network");
    let mut within = |sources| {
        let flood = Flood { sources, ..Flood::random(1.0, 0.0..1.0) };
        let drawn = (0..1000).map(|_| flood.draw(&mut random, None).0).collect::<Vec<IpAddr>>();
        let inside = |net: &str| {
            let net = net.parse::<ipnet::IpNet>().expect("a network");
            drawn.iter().filter(|addr| net.contains(*addr)).count()
        };
        (inside("172.17.0.0/16"), inside("240.0.0.0/4"))
    };
    assert_eq!(within(Sources::Within(net)), (1000, 0));
    let (_, reserved) = within(Sources::Anywhere);
    assert!((40..90).contains(&reserved), "one in sixteen: {reserved}");
    assert_eq!(within(Sources::Random).1, 0);
}

#[test]
fn the_tally_counts_clients_that_the_agent_drops() {
    let mut lab = Lab::seeded(Settings::default(), Mode::Enforce, 1)
        .listener(Server::default())
        .clients(people(50.0))
        .flood(Flood::random(5000.0, 20.0..40.0));
    lab.run_until(19.0);
    assert!(lab.tally().validated_syns < lab.tally().syns / 5, "few have been here before");
    lab.clear_tally();
    // These have the fingerprint of the flood.
    let alike = Clients { shape: Some(Shape::Bare), from: 25.0, ..people(50.0) };
    let mut lab = lab.clients(alike);
    lab.run_until(40.0);
    let tally = lab.tally();
    assert!(tally.dropped > 10 && tally.dropped < tally.syns / 4, "{tally:?}");
    assert!(tally.validated_syns > 50 && tally.validated_dropped == 0, "{tally:?}");
    assert!(lab.drain_alerts().len() > 1 && lab.alerts.is_empty());
    assert!(lab.drain_ticks(0).is_empty(), "nobody asked for ticks");
}

#[test]
fn a_host_that_takes_no_cookies_takes_no_own_cookies() {
    let mut lab = Lab::seeded(Settings::default(), Mode::Enforce, 1)
        .listener(Server { cookies: false, ..Server::default() })
        .clients(people(20.0));
    lab.run_until(5.0);
    let listener = lab.listener_report(0).listener;
    let order = || {
        let (mitigation, order, lifetime) =
            (Mitigation::Cookies, Order::On, Duration::from_secs(600));
        Request::OrderMitigation { listener, mitigation, order, lifetime }
    };
    lab.request(order()).expect("ordered");
    assert_eq!((lab.kernel.mitigations(0), lab.mitigations.len()), (Vec::new(), 0));
    let report = &lab.listener_report(0).mitigations[0];
    assert_eq!((report.mitigation, report.state), (Mitigation::Cookies, MitigationState::Refused));
    let refused = "net.ipv4.tcp_syncookies is 0";
    assert!(
        matches!(&report.why, MitigationReason::Failed { error, .. } if error.starts_with(refused)),
        "{report:?}"
    );
    lab.kernel.set_cookies(true);
    lab.request(order()).expect("ordered");
    assert_eq!(lab.kernel.mitigations(0), [Mitigation::Cookies]);
}
