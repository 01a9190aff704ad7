use std::net::IpAddr;

use ipnet::IpNet;
use tcpguard_host::time::Time;

use super::bounds::BlackholeTerms;
use super::*;
use crate::document::{Envelope, Part};
use crate::relief::route::Community;

const FIRST: &str = "a1b2c3d4";
const SECOND: &str = "b2c3d4e5";

fn host(name: &str) -> HostId {
    name.parse().expect("a host")
}

fn settings() -> Settings {
    let prefix = |text: &str| vec![text.parse::<IpNet>().expect("a prefix")];
    Settings {
        hosts: [(host(FIRST), prefix("192.0.2.0/24")), (host(SECOND), prefix("198.51.100.0/24"))]
            .into(),
        blackhole: Some(BlackholeTerms {
            next_hop_ipv4: Some([10, 99, 0, 1].into()),
            next_hop_ipv6: None,
            communities: vec![Community::BLACKHOLE],
        }),
        dry_run: false,
        ..Settings::default()
    }
}

fn relief(name: &str, wanted: Vec<ReliefRoute>) -> Relief {
    Relief {
        envelope: Envelope {
            host: host(name),
            site: None,
            boot: 1,
            seq: 1,
            at: Time("2026-11-20T14:05:31Z".parse().expect("a time")),
            ttl_s: 30,
        },
        part: Part { part: 0, parts: 1 },
        incident: 7,
        pressure: 0.95,
        wanted,
    }
}

/// A rate limit for port 443 of an address.
fn rule(address: impl Into<IpAddr>) -> ReliefRoute {
    ReliefRoute::Flowspec {
        destination: IpNet::from(address.into()),
        port: 443,
        length: Some([40, 44]),
        rate_bytes_per_s: Some(12_500),
    }
}

fn blackhole(address: impl Into<IpAddr>) -> ReliefRoute {
    ReliefRoute::Rtbh { destination: IpNet::from(address.into()) }
}

/// A controller, hosts that repeat their requests, and a speaker.
struct World {
    controller: Controller,
    second: u64,
    asking: Vec<(&'static str, Vec<ReliefRoute>)>,
    table: BTreeMap<Key, Option<Route>>,
    /// True if the speaker forgets withdrawals, as GoBGP did with combined flags.
    loses_withdrawals: bool,
    changes: Vec<(u64, Change)>,
}

impl World {
    fn new(settings: Settings) -> Self {
        Self {
            controller: Controller::new(settings),
            second: 0,
            asking: Vec::new(),
            table: BTreeMap::new(),
            loses_withdrawals: false,
            changes: Vec::new(),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.second * 1000)
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            let now = self.now();
            if self.second.is_multiple_of(5) {
                for (name, wanted) in &self.asking {
                    self.controller.hear(now, &relief(name, wanted.clone()));
                }
            }
            self.read();
            if let Some(change) = self.controller.next_change(now) {
                match &change {
                    Change::Announce(route) => {
                        self.table.insert(route.key(), Some(route.clone()));
                    }
                    Change::Withdraw(_) if self.loses_withdrawals => {}
                    Change::Withdraw(key) => {
                        self.table.remove(key);
                    }
                }
                self.changes.push((self.second, change));
                self.read();
            }
            self.second += 1;
        }
    }

    fn read(&mut self) {
        let (now, entries) = (self.now(), self.table.iter());
        let entries = entries.map(|(key, route)| Entry { key: key.clone(), route: route.clone() });
        self.controller.read(now, entries.collect());
    }

    fn answers(&self, name: &str) -> Vec<(RouteState, Option<String>)> {
        let clock = Clock { now: self.now(), wall: "2026-11-20T14:05:31Z".parse().unwrap() };
        let mut answers = self.controller.answers(clock);
        let answers = answers.remove(&host(name)).unwrap_or_default();
        answers.into_iter().map(|answer| (answer.state, answer.reason)).collect()
    }

    fn states(&self, name: &str) -> Vec<RouteState> {
        self.answers(name).into_iter().map(|(state, _)| state).collect()
    }
}

fn addresses(count: u8) -> impl Iterator<Item = [u8; 4]> {
    (0..count).map(|last| [192, 0, 2, last + 1])
}

#[test]
fn a_route_is_announced_while_it_is_asked_for() {
    let mut world = World::new(settings());
    world.asking = vec![(FIRST, vec![rule([192, 0, 2, 10])])];
    world.run(20);
    let [(0, Change::Announce(route))] = &world.changes[..] else { panic!("{:?}", world.changes) };
    let key = route.key();
    assert_eq!(world.states(FIRST), [RouteState::Announced]);
    // The host says that it needs nothing.
    world.asking = vec![(FIRST, Vec::new())];
    world.run(20);
    assert_eq!(world.changes[1..], [(20, Change::Withdraw(key))]);
    assert_eq!(world.states(FIRST), []);
}

#[test]
fn the_routes_of_a_silent_host_end_with_its_last_document() {
    let mut world = World::new(settings());
    world.asking = vec![(FIRST, vec![rule([192, 0, 2, 10])])];
    world.run(6);
    world.asking.clear();
    world.run(100);
    // The last document was that of second 5.
    assert_eq!(world.changes.iter().map(|(second, _)| *second).collect::<Vec<_>>(), [0, 35]);
}

#[test]
fn the_routes_of_a_host_that_fell_silent_under_pressure_may_stay() {
    let on_silence = Some(Duration::from_secs(120));
    let mut world = World::new(Settings { on_silence, ..settings() });
    world.asking = vec![(FIRST, vec![rule([192, 0, 2, 10])])];
    world.run(6);
    world.asking.clear();
    world.run(200);
    assert_eq!(world.changes.iter().map(|(second, _)| *second).collect::<Vec<_>>(), [0, 155]);
    let mut calm = relief(FIRST, vec![rule([192, 0, 2, 10])]);
    calm.pressure = 0.5;
    let now = world.now();
    world.controller.hear(now, &calm);
    world.run(60);
    let end = world.changes.last().map(|(second, _)| second - 206);
    assert_eq!(end, Some(30), "a host that was not cut off is not kept");
}

#[test]
fn changes_are_paced_and_withdrawals_come_first() {
    let mut world = World::new(settings());
    let first: Vec<ReliefRoute> = addresses(5).map(rule).collect();
    world.asking = vec![(FIRST, first)];
    world.run(10);
    let seconds: Vec<u64> = world.changes.iter().map(|(second, _)| *second).collect();
    assert_eq!(seconds, [0, 1, 2, 3, 4]);
    world.changes.clear();
    let other: Vec<ReliefRoute> = addresses(10).skip(5).map(rule).collect();
    world.asking = vec![(FIRST, other)];
    world.run(10);
    let is_withdrawal = |(_, change): &(u64, Change)| matches!(change, Change::Withdraw(_));
    assert!(world.changes[..5].iter().all(is_withdrawal), "{:?}", world.changes);
    assert!(!world.changes[5..].iter().any(is_withdrawal), "{:?}", world.changes);
}

#[test]
fn routes_without_a_request_are_withdrawn_at_the_start() {
    let mut world = World::new(settings());
    let foreign =
        Key { family: super::super::route::Family::Ipv4FlowSpec, nlri: vec![3, 3, 0x81, 6] };
    world.table.insert(foreign.clone(), None);
    world.run(10);
    assert_eq!(world.changes, [(0, Change::Withdraw(foreign))]);
}

#[test]
fn nothing_is_changed_before_the_table_is_read() {
    let mut controller = Controller::new(settings());
    let now = Timestamp::default();
    controller.hear(now, &relief(FIRST, vec![rule([192, 0, 2, 10])]));
    assert_eq!(controller.next_change(now), None);
    controller.read(now, Vec::new());
    assert!(controller.next_change(now).is_some());
    controller.forget_table();
    assert_eq!(controller.next_change(now + PACE), None);
}

#[test]
fn a_host_gets_no_more_than_its_share_and_harms_no_other() {
    let mut world = World::new(Settings { flowspec: 10, ..settings() });
    let modest = vec![rule([198, 51, 100, 1])];
    world.asking = vec![(SECOND, modest)];
    world.run(5);
    let mut greedy: Vec<ReliefRoute> = addresses(30).map(rule).collect();
    greedy.extend(addresses(5).map(blackhole));
    world.asking.push((FIRST, greedy));
    world.run(100);
    let announced = |world: &World, name| {
        let states = world.states(name);
        states.iter().filter(|state| **state == RouteState::Announced).count()
    };
    assert_eq!(announced(&world, FIRST), FLOWSPEC_PER_HOST + BLACKHOLES_PER_HOST);
    assert_eq!(announced(&world, SECOND), 1);
    assert_eq!(world.table.len(), FLOWSPEC_PER_HOST + BLACKHOLES_PER_HOST + 1);
    // The cap of all: a later host finds one place left, and the earlier ones keep theirs.
    let before = world.table.clone();
    world.asking[0].1.extend((2..6).map(|last| rule([198, 51, 100, last])));
    world.run(20);
    assert_eq!(announced(&world, SECOND), 2);
    assert!(before.keys().all(|key| world.table.contains_key(key)));
    let refused = world.answers(SECOND);
    assert!(
        refused.iter().any(
            |(_, reason)| reason.as_deref() == Some("there are as many routes as there may be")
        )
    );
}

#[test]
fn only_hosts_of_the_settings_are_heard() {
    let mut controller = Controller::new(settings());
    for number in 0..1000 {
        let name = format!("{number:08x}");
        controller.hear(Timestamp::default(), &relief(&name, vec![rule([192, 0, 2, 10])]));
    }
    assert_eq!(controller.refused().unknown_hosts, 1000);
    assert!(controller.asking.is_empty(), "nothing grows with the documents of others");
    controller.hear(Timestamp::default(), &relief(FIRST, vec![rule([198, 51, 100, 1])]));
    assert_eq!(controller.refused().routes, BTreeMap::from([(host(FIRST), 1)]));
}

#[test]
fn a_route_that_comes_and_goes_is_held_back() {
    let mut world = World::new(settings());
    let wanted = vec![rule([192, 0, 2, 10])];
    for _ in 0..20 {
        world.asking = vec![(FIRST, wanted.clone())];
        world.run(5);
        world.asking = vec![(FIRST, Vec::new())];
        world.run(5);
    }
    // Without the bound there would be 40 changes in these 200 s.
    assert_eq!(world.changes.len(), 2 * ANNOUNCEMENTS);
    world.asking = vec![(FIRST, wanted)];
    world.run(5);
    let held = (RouteState::Pending, Some("it was announced too often".to_owned()));
    assert_eq!(world.answers(FIRST), [held]);
    world.run(600);
    assert_eq!(world.states(FIRST), [RouteState::Announced]);
}

#[test]
fn a_host_that_always_changes_its_routes_delays_no_other() {
    let mut world = World::new(settings());
    let of_port = |port: u16| ReliefRoute::Flowspec {
        destination: "192.0.2.10/32".parse().expect("an address"),
        port,
        length: Some([40, 44]),
        rate_bytes_per_s: Some(12_500),
    };
    for round in 0..24 {
        let changed = (0..8).map(|number| of_port(1000 + 8 * round + number)).collect();
        world.asking = vec![(FIRST, changed)];
        if round >= 12 {
            world.asking.push((SECOND, vec![rule([198, 51, 100, 1])]));
        }
        world.run(5);
    }
    let is_of = |network: &str, change: &Change| match change {
        Change::Announce(route) => {
            network.parse::<IpNet>().is_ok_and(|network| network.contains(&route.destination()))
        }
        Change::Withdraw(_) => false,
    };
    let second = world.changes.iter().find(|(_, change)| is_of("198.51.100.0/24", change));
    assert!(second.is_some_and(|(second, _)| *second <= 70), "{second:?}");
    let first = world.changes.iter().filter(|(_, change)| is_of("192.0.2.0/24", change)).count();
    assert!(first <= 2 * ANNOUNCEMENTS_PER_HOST, "{first} announcements in 2 minutes");
    let held = Some("too many routes of this host were announced in a minute".to_owned());
    assert!(world.answers(FIRST).contains(&(RouteState::Pending, held)));
}

#[test]
fn hosts_take_turns() {
    let mut world = World::new(settings());
    let other = (1..5).map(|last| rule([198, 51, 100, last])).collect();
    world.asking = vec![(FIRST, addresses(4).map(rule).collect()), (SECOND, other)];
    world.run(8);
    let hosts = world.changes.iter().map(|(_, change)| match change {
        Change::Announce(route) => route.destination() < IpAddr::from([198, 0, 0, 0]),
        Change::Withdraw(_) => panic!("nothing is withdrawn"),
    });
    assert_eq!(hosts.collect::<Vec<_>>(), [true, false].repeat(4));
}

#[test]
fn a_route_needs_an_operators_word_after_a_day() {
    let mut world = World::new(settings());
    world.asking = vec![(FIRST, vec![rule([192, 0, 2, 10])])];
    world.run(24 * 3600 + 5);
    assert_eq!(world.states(FIRST), [RouteState::Refused]);
    assert!(world.table.is_empty());
    let now = world.now();
    world.controller.confirm(now, &host(FIRST));
    world.run(5);
    assert_eq!(world.states(FIRST), [RouteState::Announced]);
    // Short gaps do not begin a new day.
    world.asking = vec![(FIRST, Vec::new())];
    world.run(300);
    world.asking = vec![(FIRST, vec![rule([192, 0, 2, 10])])];
    world.run(24 * 3600 - 300);
    assert_eq!(world.states(FIRST), [RouteState::Refused]);
}

#[test]
fn a_withdrawal_that_does_not_show_is_tried_again_and_then_stuck() {
    let mut world = World::new(settings());
    world.asking = vec![(FIRST, vec![rule([192, 0, 2, 10])])];
    world.run(5);
    world.asking = vec![(FIRST, Vec::new())];
    world.loses_withdrawals = true;
    world.run(10);
    assert!(!world.controller.is_stuck());
    world.run(20);
    assert!(world.controller.is_stuck());
    let seconds: Vec<u64> = world.changes[1..].iter().map(|(second, _)| *second).collect();
    assert_eq!(seconds, [5, 10, 20]);
    // The speaker is started anew.
    world.table.clear();
    world.controller.forget_table();
    world.run(10);
    assert!(!world.controller.is_stuck());
    assert_eq!(world.changes.len(), 4);
}

#[test]
fn another_rate_replaces_the_route() {
    let mut world = World::new(settings());
    world.asking = vec![(FIRST, vec![rule([192, 0, 2, 10])])];
    world.run(5);
    let ReliefRoute::Flowspec { destination, port, length, .. } = rule([192, 0, 2, 10]) else {
        panic!("a FlowSpec rule");
    };
    let rate_bytes_per_s = Some(50_000);
    let faster = ReliefRoute::Flowspec { destination, port, length, rate_bytes_per_s };
    world.asking = vec![(FIRST, vec![faster])];
    world.run(5);
    assert_eq!(world.table.len(), 1);
    assert!(matches!(world.changes[..], [(0, Change::Announce(_)), (5, Change::Announce(_))]));
    assert_eq!(world.table.values().flatten().map(rate).collect::<Vec<_>>(), [50_000]);
}

#[test]
fn a_session_that_flaps_holds_all_routes_back() {
    let mut world = World::new(settings());
    world.asking = vec![(FIRST, vec![rule([192, 0, 2, 10])])];
    world.run(5);
    let mut events = Vec::new();
    for _ in 0..4 {
        for is_established in [true, false] {
            let now = world.now();
            events.extend(world.controller.update_session(now, is_established));
            world.run(2);
        }
    }
    assert_eq!(events.last(), Some(&Event::HeldBack));
    assert!(world.table.is_empty());
    let held = (RouteState::Pending, Some("the BGP session was lost too often".to_owned()));
    assert_eq!(world.answers(FIRST), [held]);
    world.run(600);
    assert_eq!(world.states(FIRST), [RouteState::Announced]);
}

#[test]
fn a_dry_run_names_the_routes_that_it_would_announce() {
    let mut world = World::new(Settings { dry_run: true, ..settings() });
    world.asking = vec![(FIRST, vec![rule([192, 0, 2, 10]), rule([203, 0, 113, 1])])];
    world.run(5);
    let refused = Some("203.0.113.1 is not an address of this host".to_owned());
    assert_eq!(world.answers(FIRST), [(RouteState::DryRun, None), (RouteState::Refused, refused)]);
}

#[test]
fn each_part_of_a_list_has_its_own_lifetime() {
    let mut controller = Controller::new(settings());
    let mut parts = [0, 1].map(|part| {
        let wanted = vec![rule([192, 0, 2, 10 + part])];
        Relief { part: Part { part, parts: 2 }, ..relief(FIRST, wanted) }
    });
    let at = |second: u64| Timestamp::from_millis(second * 1000);
    controller.hear(at(0), &parts[0]);
    controller.hear(at(20), &parts[1]);
    assert_eq!(controller.wanted(at(29)).len(), 2);
    assert_eq!(controller.wanted(at(31)).len(), 1);
    assert_eq!(controller.wanted(at(51)).len(), 0);
    controller.hear(at(60), &parts[0]);
    controller.hear(at(60), &parts[1]);
    parts[0].part.parts = 1;
    controller.hear(at(61), &parts[0]);
    assert_eq!(controller.wanted(at(61)).len(), 1);
}
