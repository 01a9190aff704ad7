//! Routes that hosts ask for, and that controllers announce for them.

use std::collections::BTreeMap;

use tcpguard_engine::Timestamp;

use super::status::FleetRoute;
use crate::document::{Announced, HostId, Kind, Part, Relief};

/// Reports of controllers: as many as two of them send in the 30 s that reports are kept.
const MAX_REPORTS: usize = 960;
/// Hosts that ask for relief.
const MAX_ASKING: usize = 4096;

/// Routes that hosts ask for, and that controllers announce for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Routes {
    /// Reports by controller, host and number of the part.
    reports: BTreeMap<(HostId, HostId, u8), (Timestamp, Announced)>,
    /// Hosts that ask for relief, until when.
    asking: BTreeMap<HostId, Timestamp>,
}

impl Routes {
    /// Takes the report of a controller. Parts beyond the last of its list are gone.
    pub fn take(&mut self, now: Timestamp, announced: Announced) {
        let Part { part, parts } = announced.part;
        let (controller, host) = (announced.envelope.host.clone(), announced.about.clone());
        self.reports.retain(|(by, about, number), _| {
            *by != controller || *about != host || (*number < parts && *number != part)
        });
        if self.reports.len() < MAX_REPORTS && !announced.routes.is_empty() {
            let until = now + announced.envelope.ttl(Kind::Announced);
            self.reports.insert((controller, host, part), (until, announced));
        }
    }

    /// Takes a request of a host.
    pub fn ask(&mut self, now: Timestamp, relief: &Relief) {
        let host = &relief.envelope.host;
        if relief.wanted.is_empty() {
            self.asking.remove(host);
        } else if self.asking.len() < MAX_ASKING || self.asking.contains_key(host) {
            self.asking.insert(host.clone(), now + relief.envelope.ttl(Kind::Relief));
        }
    }

    /// Forgets reports and requests that were not repeated.
    pub fn expire(&mut self, now: Timestamp) {
        self.reports.retain(|_, (until, _)| now < *until);
        self.asking.retain(|_, until| now < *until);
    }

    /// The routes, by host.
    pub fn list(&self) -> Vec<FleetRoute> {
        let mut routes: Vec<_> =
            self.reports.values().flat_map(|(_, report)| each(report)).collect();
        routes.sort_by(|one, other| (&one.host, &one.route).cmp(&(&other.host, &other.route)));
        routes
    }

    /// Hosts whose requests no controller has taken up.
    pub fn unanswered(&self) -> impl Iterator<Item = &HostId> {
        let is_about = |host: &HostId| self.reports.keys().any(|(_, about, _)| about == host);
        self.asking.keys().filter(move |host| !is_about(host))
    }
}

/// The routes of one report.
fn each(report: &Announced) -> impl Iterator<Item = FleetRoute> {
    report.routes.iter().map(|route| FleetRoute {
        host: report.about.clone(),
        controller: report.envelope.host.clone(),
        established: report.established,
        route: route.route,
        state: route.state,
        since: route.since,
        reason: route.reason.clone(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::document::tests::{AT, envelope, host, time};
    use crate::document::{AnnouncedRoute, ReliefRoute, RouteState};

    const START: Timestamp = Timestamp::from_millis(1_000_000);

    fn route(last: u8) -> ReliefRoute {
        ReliefRoute::Rtbh { destination: format!("192.0.2.{last}/32").parse().expect("a prefix") }
    }

    /// Report of controller 9 about host 7.
    fn report(part: u8, parts: u8, routes: &[u8]) -> Announced {
        let announced = |last: &u8| AnnouncedRoute {
            route: route(*last),
            state: RouteState::Announced,
            since: time(AT),
            reason: None,
        };
        Announced {
            envelope: envelope(9, 1),
            part: Part { part, parts },
            about: host(7),
            established: true,
            routes: routes.iter().map(announced).collect(),
        }
    }

    fn listed(routes: &Routes) -> Vec<ReliefRoute> {
        routes.list().iter().map(|route| route.route).collect()
    }

    #[test]
    fn a_report_replaces_its_part_and_those_that_are_gone() {
        let mut routes = Routes::default();
        routes.take(START, report(0, 2, &[1, 2, 3, 4]));
        routes.take(START, report(1, 2, &[5]));
        assert_eq!(listed(&routes), [1, 2, 3, 4, 5].map(route));
        routes.take(START, report(0, 1, &[2]));
        assert_eq!(listed(&routes), [2].map(route));
        routes.take(START, report(0, 1, &[]));
        assert!(listed(&routes).is_empty() && routes.reports.is_empty());
    }

    #[test]
    fn routes_end_with_the_controller() {
        let mut routes = Routes::default();
        routes.take(START, report(0, 1, &[1]));
        routes.expire(START + Duration::from_secs(29));
        assert_eq!(listed(&routes).len(), 1);
        routes.expire(START + Duration::from_secs(30));
        assert!(listed(&routes).is_empty());
    }

    #[test]
    fn a_request_that_no_controller_takes_up_is_known() {
        let mut routes = Routes::default();
        let asks = |wanted| Relief {
            envelope: envelope(7, 1),
            part: Part { part: 0, parts: 1 },
            incident: 3,
            pressure: 0.9,
            wanted,
        };
        routes.ask(START, &asks(vec![route(1)]));
        assert_eq!(routes.unanswered().collect::<Vec<_>>(), [&host(7)]);
        routes.take(START, report(0, 1, &[1]));
        assert_eq!(routes.unanswered().count(), 0);
        routes.expire(START + Duration::from_secs(30));
        routes.ask(START, &asks(vec![route(1)]));
        routes.ask(START, &asks(vec![]));
        assert_eq!(routes.unanswered().count(), 0);
    }

    #[test]
    fn memory_is_bounded() {
        let mut routes = Routes::default();
        for number in 0..1000 {
            routes.take(START, Announced { about: host(number), ..report(0, 1, &[1]) });
        }
        assert_eq!(routes.reports.len(), MAX_REPORTS);
    }
}
