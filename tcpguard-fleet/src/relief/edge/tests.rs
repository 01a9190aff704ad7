use super::super::choice::tests::flood;
use super::super::flowspec::Action;
use super::*;

const FULL: Load = Load { link_share: Some(0.97), loss_share: 0.0, pps: 1e6 };
const FREE: Load = Load { link_share: Some(0.1), loss_share: 0.0, pps: 1e4 };

/// A host, a controller that announces all that is asked for, and a router with or without an effect.
struct World {
    edge: Edge,
    second: u64,
    /// SYNs per second of the flood; 0: it is over.
    attack: f64,
    /// True if the router obeys.
    obeys: bool,
    /// True if there is a controller.
    announces: bool,
    events: Vec<(u64, Event)>,
}

impl World {
    fn new(settings: Settings) -> Self {
        let edge = Edge::new(settings);
        Self { edge, second: 0, attack: 0.0, obeys: true, announces: true, events: Vec::new() }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.second * 1000)
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            let announced = match self.announces {
                true => self.edge.routes().to_vec(),
                false => Vec::new(),
            };
            let limit = announced.iter().map(|route| match route {
                Wanted::FlowSpec(rule) => f64::from(rule.terms().action.rate()) / 44.0,
                Wanted::Blackhole(_) => 0.0,
            });
            let limit =
                if self.obeys { limit.fold(f64::INFINITY, f64::min) } else { f64::INFINITY };
            let syn_pps = self.attack.min(limit);
            let floods = match syn_pps > 0.0 {
                true => vec![Flood { syn_pps, ..flood() }],
                false => Vec::new(),
            };
            let load = if syn_pps > 1_000.0 { FULL } else { FREE };
            let (now, reading) =
                (self.now(), Reading { load, floods: &floods, announced: &announced });
            if let Some(event) = self.edge.step(now, &reading) {
                self.events.push((self.second, event));
            }
            self.second += 1;
        }
    }

    fn take_events(&mut self) -> Vec<(u64, Event)> {
        std::mem::take(&mut self.events)
    }

    fn count(&self, is_counted: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|(_, event)| is_counted(event)).count()
    }
}

fn asked(hold: u64) -> Event {
    Event::Asked { routes: 1, hold: Duration::from_secs(hold) }
}

#[test]
fn a_flood_that_fills_the_link_is_relieved_until_it_is_over() {
    let mut world = World::new(Settings::default());
    world.attack = 1e6;
    world.run(100);
    assert_eq!(
        world.take_events(),
        [(3, asked(300)), (4, Event::Announced), (5, Event::Effective)]
    );
    let route = world.edge.routes()[0];
    // The trickle of the rate limit shows the flood long after the hold.
    world.run(900);
    assert_eq!((world.take_events(), world.edge.phase()), (Vec::new(), Phase::Held));
    world.attack = 0.0;
    world.run(100);
    assert_eq!(world.take_events(), [(1061, Event::Released(route)), (1071, Event::Ended)]);
    assert_eq!((world.edge.phase(), world.edge.routes()), (Phase::Quiet, &[][..]));
}

#[test]
fn relief_lasts_for_the_hold_even_if_the_flood_is_short() {
    let mut world = World::new(Settings::default());
    world.attack = 1e6;
    world.run(10);
    world.attack = 0.0;
    world.run(400);
    let released = world.events.iter().find(|(_, event)| matches!(event, Event::Released(_)));
    assert_eq!(released.map(|(second, _)| *second), Some(305));
}

#[test]
fn a_burst_asks_for_nothing() {
    let mut world = World::new(Settings::default());
    for _ in 0..10 {
        world.attack = 1e6;
        world.run(3);
        world.attack = 0.0;
        world.run(1);
    }
    assert_eq!(world.events, []);
}

#[test]
fn load_without_a_flood_asks_for_nothing() {
    let mut edge = Edge::new(Settings::default());
    for second in 0..60 {
        let reading = Reading { load: FULL, floods: &[], announced: &[] };
        assert_eq!(edge.step(Timestamp::from_millis(second * 1000), &reading), None);
    }
    assert_eq!(edge.phase(), Phase::Quiet);
}

#[test]
fn each_kind_of_load_counts() {
    let settings = Settings { pps: Some(5e5), ..Settings::default() };
    for load in [
        Load { link_share: Some(0.9), ..Load::default() },
        Load { loss_share: 0.01, ..Load::default() },
        Load { pps: 5e5, ..Load::default() },
    ] {
        let mut edge = Edge::new(settings);
        let floods = [flood()];
        let reading = Reading { load, floods: &floods, announced: &[] };
        edge.step(Timestamp::default(), &reading);
        assert_eq!(edge.phase(), Phase::Pressed, "{load:?}");
    }
}

/// A discarding route hides the flood: the end can only be tried, and each failed try doubles the hold.
#[test]
fn a_hidden_flood_is_tried_less_and_less_often() {
    let policy = Policy { action: Action::Discard, ..Policy::default() };
    let mut world = World::new(Settings { policy, ..Settings::default() });
    world.attack = 1e6;
    world.run(4 * 3600);
    let holds: Vec<u64> = world
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::Asked { hold, .. } => Some(hold.as_secs()),
            _ => None,
        })
        .collect();
    assert_eq!(holds[..5], [300, 600, 1200, 2400, 3600]);
    assert!(holds[5..].iter().all(|hold| *hold == 3600), "{holds:?}");
    // Without doubling there would be a try each 5 minutes, 48 in all.
    let tries = world.count(|event| matches!(event, Event::Released(_)));
    assert!(tries <= 7, "{tries} tries");
}

#[test]
fn a_flood_in_pulses_doubles_the_hold_and_a_late_one_does_not() {
    let mut world = World::new(Settings::default());
    let mut pulse = |pause: u64| {
        world.attack = 1e6;
        world.run(10);
        world.attack = 0.0;
        while world.edge.phase() != Phase::Quiet {
            world.run(1);
        }
        world.run(pause);
        let events = world.take_events();
        events.iter().find_map(|(_, event)| match event {
            Event::Asked { hold, .. } => Some(hold.as_secs()),
            _ => None,
        })
    };
    assert_eq!(pulse(500), Some(300));
    assert_eq!(pulse(500), Some(600));
    assert_eq!(pulse(700), Some(1200));
    assert_eq!(pulse(0), Some(300));
}

#[test]
fn routes_without_an_effect_are_widened_once_and_then_withdrawn() {
    let policy = Policy { port_rate: Some(12_500), ..Policy::default() };
    let mut world = World::new(Settings { may_widen: true, policy, ..Settings::default() });
    world.obeys = false;
    world.attack = 1e6;
    world.run(60);
    let widened = |widened| Event::WithoutEffect { widened };
    assert_eq!(
        world.take_events(),
        [
            (3, asked(300)),
            (4, Event::Announced),
            (19, widened(true)),
            (20, Event::Announced),
            (35, widened(false)),
        ]
    );
    assert_eq!(world.edge.routes(), []);
    // Without a pause it would ask again each 20 s.
    world.run(570);
    assert_eq!(world.take_events(), []);
    world.run(60);
    assert_eq!(world.count(|event| matches!(event, Event::Asked { .. })), 1);
}

#[test]
fn nothing_is_widened_unless_allowed() {
    let policy = Policy { port_rate: Some(12_500), ..Policy::default() };
    let mut world = World::new(Settings { policy, ..Settings::default() });
    world.obeys = false;
    world.attack = 1e6;
    world.run(30);
    assert_eq!(world.events.last(), Some(&(19, Event::WithoutEffect { widened: false })));
}

#[test]
fn without_a_controller_it_asks_until_the_flood_is_over() {
    let mut world = World::new(Settings::default());
    world.announces = false;
    world.attack = 1e6;
    world.run(1000);
    assert_eq!(world.take_events(), [(3, asked(300))]);
    assert_eq!(world.edge.phase(), Phase::Asked);
    world.attack = 0.0;
    world.run(70);
    assert_eq!(world.take_events(), [(1060, Event::Ended)]);
}

#[test]
fn routes_that_are_gone_are_asked_for_again() {
    let mut world = World::new(Settings::default());
    world.attack = 1e6;
    world.run(100);
    world.take_events();
    world.announces = false;
    world.run(20);
    assert_eq!(world.take_events(), [], "a controller that restarts is back within 30 s");
    world.run(20);
    assert_eq!(world.take_events(), [(130, Event::Lost)]);
    world.announces = true;
    world.run(5);
    assert_eq!(world.take_events(), [(140, Event::Announced), (141, Event::Effective)]);
}

#[test]
fn a_flood_that_no_route_narrows_is_reported_once() {
    let copies = Flood { lengths: [(60, 10_000)].into(), ..flood() };
    let mut edge = Edge::new(Settings::default());
    let floods = [copies];
    let reading = Reading { load: FULL, floods: &floods, announced: &[] };
    let events: Vec<Event> = (0..60)
        .filter_map(|second| edge.step(Timestamp::from_millis(second * 1000), &reading))
        .collect();
    assert_eq!(events, [Event::NoRoute]);
    assert_eq!((edge.phase(), edge.lacks_route()), (Phase::Pressed, true));
    let reading = Reading { load: FREE, ..reading };
    edge.step(Timestamp::from_millis(60_000), &reading);
    assert!(!edge.lacks_route());
}

#[test]
fn new_victims_are_added_up_to_the_bound_of_a_host() {
    let mut edge = Edge::new(Settings::default());
    let floods: Vec<Flood> = (1..50).map(|port| Flood { port, ..flood() }).collect();
    let mut routes = Vec::new();
    for (second, load, victims) in [
        (0, FULL, 1),
        (3, FULL, 1),
        (4, FULL, 3),
        (5, FREE, 1),
        (6, FREE, 1),
        (7, FULL, 5),
        (8, FULL, 49),
    ] {
        let announced = if second < 5 { Vec::new() } else { edge.routes().to_vec() };
        let reading = Reading { load, floods: &floods[..victims], announced: &announced };
        edge.step(Timestamp::from_millis(second * 1000), &reading);
        routes.push(edge.routes().len());
    }
    assert_eq!(edge.phase(), Phase::Held);
    assert_eq!(routes, [0, 1, 3, 3, 3, 5, FLOWSPEC_PER_HOST]);
}

/// A controller announces one route a second for all hosts. The load falls with the last of a host's routes.
#[test]
fn the_effect_is_judged_from_the_last_announcement_on() {
    let mut edge = Edge::new(Settings::default());
    let floods: Vec<Flood> = (1..9).map(|port| Flood { port, ..flood() }).collect();
    let mut events = Vec::new();
    for second in 0..60 {
        let turns = (second as usize).saturating_sub(4) / 5;
        let announced = &edge.routes()[..turns.min(edge.routes().len())].to_vec();
        let load = if announced.len() < floods.len() { FULL } else { FREE };
        let reading = Reading { load, floods: &floods, announced };
        events.extend(edge.step(Timestamp::from_millis(second * 1000), &reading));
    }
    let asked = Event::Asked { routes: 8, hold: HOLD };
    assert_eq!(events, [asked, Event::Announced, Event::Effective]);
    assert_eq!((edge.phase(), edge.routes().len()), (Phase::Held, 8));
}

#[test]
fn a_flood_that_moves_before_the_load_falls_is_followed() {
    let mut edge = Edge::new(Settings::default());
    let floods: Vec<Flood> = (1..3).map(|port| Flood { port, ..flood() }).collect();
    for second in 0..10 {
        let moved = second >= 6;
        let announced = edge.routes().to_vec();
        let reading = Reading {
            load: if announced.len() < 2 { FULL } else { FREE },
            floods: &floods[usize::from(moved)..=usize::from(moved)],
            announced: if second < 4 { &[] } else { &announced },
        };
        edge.step(Timestamp::from_millis(second * 1000), &reading);
    }
    assert_eq!((edge.phase(), edge.routes().len()), (Phase::Held, 2));
}

#[test]
fn relief_goes_on_over_a_restart() {
    let mut world = World::new(Settings::default());
    world.attack = 1e6;
    world.run(100);
    world.take_events();
    let before = world.edge.routes().to_vec();
    world.edge = Edge::new(Settings::default());
    let now = world.now();
    world.edge.adopt(now, &before);
    world.run(100);
    assert_eq!(world.take_events(), [], "without adoption it would be pressed and ask anew");
    assert_eq!((world.edge.phase(), world.edge.routes()), (Phase::Held, &before[..]));
    let mut quiet = Edge::new(Settings::default());
    quiet.adopt(now, &[]);
    assert_eq!(quiet.phase(), Phase::Quiet);
}
