//! Relief that this host asks of the routers before it.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use tcpguard_engine::{FleetReport, Timestamp};
use tcpguard_host::units;

use crate::agent;
use crate::config;
use crate::daemon::status::ReliefStatus;
use crate::document::{Announced, HostId, Kind, ReliefRoute, RouteState};
use crate::hook::document as hook;
use crate::relief::edge::{Edge, Event, Load, Reading};
use crate::relief::wanted::Wanted;

/// Time between two requests for the same routes. Controllers keep them for 30 s.
const REPEAT: Duration = Duration::from_secs(5);
/// Time from the start of the process in which the routes of the process before it are taken over: controllers repeat
/// their reports every 10 s.
const ADOPT: Duration = Duration::from_secs(15);
/// Time without a report of the agent for which routes are still asked for: an agent restarts within seconds.
const BLIND: Duration = Duration::from_secs(60);
/// Reports of controllers that are kept: of two controllers, in two parts each.
const REPORTS: usize = 16;

/// Relief that this host asks for.
#[derive(Debug)]
pub(super) struct Relief {
    settings: config::Edge,
    edge: Edge,
    /// Test for the addresses of this host.
    is_own: fn(IpAddr) -> bool,
    started: Timestamp,
    /// Time of the last report of the agent.
    seen: Timestamp,
    /// Routes that controllers announce, by controller and number of the part.
    reports: BTreeMap<(HostId, u8), (Timestamp, Vec<Wanted>)>,
    /// Number of the largest flood, and the load, for requests.
    incident: u64,
    load: Load,
    /// Time of the next request; `None` while nothing is asked for.
    next: Option<Timestamp>,
}

/// A request for routes, or for none any longer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Request {
    /// Number of the largest flood.
    pub incident: u64,
    /// Load of the host, 0 to 1.
    pub pressure: f64,
    /// The routes.
    pub routes: Vec<ReliefRoute>,
}

impl Relief {
    /// No relief yet.
    pub fn new(now: Timestamp, settings: config::Edge) -> Self {
        Self {
            edge: Edge::new(settings.settings),
            settings,
            is_own,
            started: now,
            seen: now,
            reports: BTreeMap::new(),
            incident: 0,
            load: Load::default(),
            next: None,
        }
    }

    /// Takes the report of a controller about this host.
    pub fn handle_announced(&mut self, now: Timestamp, report: &Announced) {
        let (controller, part) = (&report.envelope.host, report.part);
        self.reports.retain(|(by, number), _| by != controller || *number < part.parts);
        let announced = report.routes.iter().filter(|route| route.state == RouteState::Announced);
        let routes: Vec<Wanted> =
            announced.filter_map(|route| Wanted::parse(&route.route).ok()).collect();
        let key = (controller.clone(), part.part);
        if self.reports.len() < REPORTS || self.reports.contains_key(&key) {
            let until = now + report.envelope.ttl(Kind::Announced);
            self.reports.insert(key, (until, routes));
        }
        if now.since(self.started) < ADOPT {
            let mut routes = self.announced();
            routes.retain(|route| self.may_ask(route));
            self.edge.adopt(now, &routes);
        }
    }

    /// Takes the report of the agent, once a second.
    pub fn handle_report(&mut self, now: Timestamp, report: &FleetReport) -> Option<Event> {
        self.seen = now;
        self.reports.retain(|_, (until, _)| now < *until);
        self.load =
            agent::load(report, |interface| self.settings.link_bps.or_else(|| speed(interface)));
        let floods = agent::floods(&report.incidents, |address| self.settings.is_spare(address));
        let attacks = report.incidents.iter().filter(|incident| incident.class.is_flood());
        let largest = attacks.max_by(|one, other| one.syn_pps.total_cmp(&other.syn_pps));
        self.incident = largest.map_or(self.incident, |largest| largest.incident);
        let announced = self.announced();
        let reading = Reading { load: self.load, floods: &floods, announced: &announced };
        self.edge.step(now, &reading)
    }

    /// The request that is due: the routes every 5 s for as long as they are wanted, and once that none are.
    pub fn request(&mut self, now: Timestamp) -> Option<Request> {
        let routes: Vec<ReliefRoute> = match now.since(self.seen) < BLIND {
            true => self.edge.routes().iter().map(Wanted::document).collect(),
            // The agent has been gone for long: nothing is known of the flood.
            false => Vec::new(),
        };
        if routes.is_empty() {
            self.next.take()?;
        } else {
            if self.next.is_some_and(|next| now < next) {
                return None;
            }
            self.next = Some(now + REPEAT);
        }
        let Load { link_share, loss_share, pps } = self.load;
        let limits = self.settings.settings;
        let of_packets = limits.pps.map_or(0.0, |limit| pps / limit);
        let pressure = match loss_share >= limits.loss_share {
            true => 1.0,
            false => link_share.unwrap_or_default().max(of_packets).min(1.0),
        };
        Some(Request { incident: self.incident, pressure, routes })
    }

    /// Routes that are asked for, and routes that are announced, as documents have them.
    pub fn routes(&self) -> (Vec<ReliefRoute>, Vec<ReliefRoute>) {
        let documents = |routes: &[Wanted]| routes.iter().map(Wanted::document).collect();
        (documents(self.edge.routes()), documents(&self.announced()))
    }

    /// Relief as hooks receive it; `None` while none is asked for.
    pub fn of_hooks(&self) -> Option<hook::Relief> {
        let (asked, announced) = self.routes();
        (!asked.is_empty()).then_some(hook::Relief { asked, announced })
    }

    /// Returns whether relief is needed, and no route is allowed.
    pub fn lacks_route(&self) -> bool {
        self.edge.lacks_route()
    }

    /// The state.
    pub fn status(&self) -> ReliefStatus {
        let (asked, announced) = self.routes();
        ReliefStatus { phase: self.edge.phase(), asked, announced }
    }

    /// Returns whether a route is to an address for which this host may ask for it.
    fn may_ask(&self, route: &Wanted) -> bool {
        let destination = route.destination();
        let is_given_up = matches!(route, Wanted::Blackhole(_));
        (self.is_own)(destination) && (!is_given_up || self.settings.is_spare(destination))
    }

    /// The routes that any controller announces, each once.
    fn announced(&self) -> Vec<Wanted> {
        let mut routes: Vec<Wanted> =
            self.reports.values().flat_map(|(_, routes)| routes).copied().collect();
        routes.sort_unstable();
        routes.dedup();
        routes
    }
}

/// Returns whether an address is one of this host: sockets are bound to no other.
fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// Speed of an interface in bits per second, as the kernel reports it; `None` for a virtual one.
fn speed(interface: &str) -> Option<f64> {
    if interface.contains('/') {
        return None;
    }
    let text = fs::read_to_string(format!("/sys/class/net/{interface}/speed")).ok()?;
    let megabits: f64 = text.trim().parse().ok()?;
    (megabits > 0.0).then_some(megabits * 1e6)
}

/// A change of relief in words, for the journal.
pub(super) fn describe(event: &Event) -> String {
    let counted = |routes: usize| units::counted(routes as u64, "route");
    match event {
        Event::NoRoute => "relief is needed, and the configuration allows no route".to_owned(),
        Event::Asked { routes, hold } => {
            let hold = units::span(*hold);
            format!("relief asked for: {}, for {hold} at least", counted(*routes))
        }
        Event::Announced => "relief announced by a controller".to_owned(),
        Event::Effective => "relief is effective: the load has fallen".to_owned(),
        Event::WithoutEffect { widened: true } => {
            "relief without effect: wider routes are asked for".to_owned()
        }
        Event::WithoutEffect { widened: false } => {
            "relief without effect: the router may refuse the routes. None are asked for".to_owned()
        }
        Event::Lost => "relief lost: no controller announces the routes any longer".to_owned(),
        Event::Released(route) => {
            format!("relief tried without a route to {}", route.destination())
        }
        Event::Ended => "relief ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;
    use tcpguard_engine::LinkPressure;

    use super::*;
    use crate::agent::tests::report;
    use crate::document::tests::{AT, envelope, host, time};
    use crate::document::{AnnouncedRoute, Envelope, Part};
    use crate::relief::choice::Policy;
    use crate::relief::edge::{FLOWSPEC_PER_HOST, Phase, Settings};

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000) + Duration::from_secs(seconds)
    }

    fn relief() -> Relief {
        let settings =
            config::Edge { settings: Settings::default(), spare: Vec::new(), link_bps: Some(1e9) };
        Relief::new(at(0), settings)
    }

    /// A report with this share of the link's speed.
    fn loaded(share: f64) -> FleetReport {
        let links = vec![LinkPressure {
            interface: "eth0".to_owned(),
            rx_pps: 1e6 * share,
            rx_bps: 1e9 * share,
            lost_pps: None,
        }];
        FleetReport { links, ..report() }
    }

    fn announced(routes: &[ReliefRoute], seq: u64) -> Announced {
        let announced = |route: &ReliefRoute| AnnouncedRoute {
            route: *route,
            state: RouteState::Announced,
            since: time(AT),
            reason: None,
        };
        Announced {
            envelope: Envelope { ttl_s: 30, ..envelope(9, seq) },
            part: Part { part: 0, parts: 1 },
            about: host(7),
            established: true,
            routes: routes.iter().map(announced).collect(),
        }
    }

    #[test]
    fn routes_are_asked_for_every_five_seconds_while_they_are_wanted() {
        let mut relief = relief();
        let mut requests = Vec::new();
        for second in 20..40 {
            relief.handle_report(at(second), &loaded(0.95));
            requests.extend(relief.request(at(second)).map(|request| (second, request)));
        }
        let times: Vec<_> = requests.iter().map(|(second, _)| *second).collect();
        assert_eq!(times, [23, 28, 33, 38]);
        let request = &requests[0].1;
        assert_eq!((request.incident, request.pressure, request.routes.len()), (3, 0.95, 1));
        assert_eq!(relief.status().phase, Phase::Asked);

        let routes = request.routes.clone();
        relief.handle_announced(at(40), &announced(&routes, 1));
        assert_eq!(relief.handle_report(at(40), &loaded(0.95)), Some(Event::Announced));
        assert_eq!(relief.routes(), (routes.clone(), routes));
        assert_eq!(relief.handle_report(at(41), &loaded(0.1)), Some(Event::Effective));
        // The controller is gone: its report ends after 30 s.
        relief.handle_report(at(71), &loaded(0.1));
        assert_eq!(relief.routes().1, []);
    }

    #[test]
    fn the_end_is_published_once() {
        let mut relief = relief();
        (0..4).for_each(|second| {
            relief.handle_report(at(second), &loaded(0.95));
        });
        assert!(relief.request(at(4)).is_some_and(|request| !request.routes.is_empty()));
        // The agent is gone for a minute.
        assert!(relief.request(at(40)).is_some_and(|request| !request.routes.is_empty()));
        assert!(relief.request(at(64)).is_some_and(|request| request.routes.is_empty()));
        assert_eq!(relief.request(at(70)), None);
    }

    #[test]
    fn routes_of_the_process_before_are_taken_over_at_the_start_only() {
        let mut asking = relief();
        (0..4).for_each(|second| {
            asking.handle_report(at(second), &loaded(0.95));
        });
        let routes = asking.request(at(4)).expect("a request").routes;
        let mut restarted = Relief { is_own: |_| true, ..relief() };
        restarted.handle_announced(at(5), &announced(&routes, 1));
        assert_eq!(restarted.status().phase, Phase::Held);
        assert!(restarted.request(at(6)).is_some_and(|request| request.routes == routes));
        let mut late = Relief { is_own: |_| true, ..relief() };
        late.handle_announced(at(20), &announced(&routes, 1));
        assert_eq!(late.status().phase, Phase::Quiet);
    }

    #[test]
    fn routes_for_which_the_host_would_not_ask_are_not_taken_over() {
        let blackhole = |text: &str| ReliefRoute::Rtbh { destination: text.parse().unwrap() };
        let rule = |last: u8, length: Option<[u16; 2]>, rate_bytes_per_s| ReliefRoute::Flowspec {
            destination: IpNet::from(IpAddr::from([192, 0, 2, last])),
            port: 443,
            length,
            rate_bytes_per_s,
        };
        let policy = Policy { blackhole: true, ..Policy::default() };
        let settings = config::Edge {
            settings: Settings { policy, ..Settings::default() },
            spare: vec!["192.0.2.11/32".parse().unwrap()],
            link_bps: None,
        };
        let own = rule(10, Some([40, 40]), Some(12_500));
        let spare = blackhole("192.0.2.11/32");
        for (route, is_taken) in [
            (own, true),
            (spare, true),
            (blackhole("192.0.2.10/32"), false),
            (rule(12, Some([40, 40]), Some(12_500)), false),
            (rule(10, Some([40, 40]), None), false),
            (rule(10, None, Some(12_500)), false),
        ] {
            let mut relief = Relief::new(at(0), settings.clone());
            relief.is_own = |address| address != IpAddr::from([192, 0, 2, 12]);
            relief.handle_announced(at(5), &announced(&[route], 1));
            assert_eq!(relief.routes().0, if is_taken { vec![route] } else { vec![] });
        }
        let mut relief = Relief { is_own: |_| true, ..Relief::new(at(0), settings) };
        let many: Vec<_> = (0..20).map(|last| rule(last, Some([40, 40]), Some(12_500))).collect();
        relief.handle_announced(at(5), &announced(&many, 1));
        assert_eq!(relief.routes().0.len(), FLOWSPEC_PER_HOST);
    }

    #[test]
    fn an_own_address_is_one_to_which_a_socket_is_bound() {
        assert!(is_own([127, 0, 0, 1].into()));
        assert!(!is_own([192, 0, 2, 1].into()));
    }

    #[test]
    fn a_dry_run_announces_nothing() {
        let mut asking = relief();
        (0..4).for_each(|second| {
            asking.handle_report(at(second), &loaded(0.95));
        });
        let routes = asking.request(at(4)).expect("a request").routes;
        let mut report = announced(&routes, 1);
        report.routes[0].state = RouteState::DryRun;
        asking.handle_announced(at(5), &report);
        assert_eq!(asking.handle_report(at(5), &loaded(0.95)), None);
        assert_eq!(asking.routes().1, []);
    }

    #[test]
    fn a_change_is_one_line() {
        let event = Event::Asked { routes: 1, hold: Duration::from_secs(300) };
        assert_eq!(describe(&event), "relief asked for: 1 route, for 5m at least");
    }

    #[test]
    fn a_name_that_is_no_interface_has_no_speed() {
        assert_eq!(speed("../../../etc"), None);
        assert_eq!(speed("no-such-interface"), None);
    }
}
