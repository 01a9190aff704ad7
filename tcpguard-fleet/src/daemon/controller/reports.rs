//! Reports of a controller about the routes of each host: at once when they have changed, and again every 10 s.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tcpguard_engine::Timestamp;

use crate::document::{Announced, AnnouncedRoute, HostId, Part, RouteState};

/// Time between two reports of the same routes. Hosts keep them for 30 s.
const REPEAT: Duration = Duration::from_secs(10);
/// Documents in a step of a second: receivers accept 16 a second of a controller. All routes that are announced at a
/// time take half of them.
const PACE: usize = 16;

/// A document about one host.
pub(super) type Report = (HostId, Part, Vec<AnnouncedRoute>);

/// The last report about each host.
#[derive(Debug, Default)]
pub(super) struct Reports(BTreeMap<HostId, Last>);

#[derive(Debug)]
struct Last {
    at: Timestamp,
    routes: Vec<AnnouncedRoute>,
    established: bool,
}

impl Reports {
    /// The reports that are due, as far as the pace permits. Hosts with announced routes come first: without a report
    /// they take their routes as gone.
    pub fn due(
        &mut self,
        now: Timestamp,
        routes: &BTreeMap<HostId, Vec<AnnouncedRoute>>,
        established: bool,
    ) -> Vec<Report> {
        // Hosts that no longer ask get one more report.
        let hosts: BTreeSet<&HostId> = routes.keys().chain(self.0.keys()).collect();
        let none = Vec::new();
        let of = |host: &HostId| routes.get(host).unwrap_or(&none);
        let mut due: Vec<(bool, Option<Timestamp>, HostId)> = Vec::new();
        for host in hosts {
            let last = self.0.get(host);
            let is_due = last.is_none_or(|last| {
                now.since(last.at) >= REPEAT
                    || last.established != established
                    || !routes.contains_key(host)
                    || !is_same(&last.routes, of(host))
            });
            if is_due {
                let is_waiting = of(host).iter().all(|one| one.state != RouteState::Announced);
                due.push((is_waiting, last.map(|last| last.at), host.clone()));
            }
        }
        due.sort();
        let mut reports = Vec::new();
        for (.., host) in due {
            let parts = Part::divide(of(&host), Announced::MAX_ROUTES);
            if reports.len() + parts.len() > PACE {
                break;
            }
            match routes.get(&host) {
                Some(routes) => {
                    let last = Last { at: now, routes: routes.clone(), established };
                    self.0.insert(host.clone(), last);
                }
                None => _ = self.0.remove(&host),
            }
            reports.extend(parts.into_iter().map(|(part, routes)| (host.clone(), part, routes)));
        }
        reports
    }

    /// Number of hosts with a report.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there was a report about this host, which still asks.
    pub fn has(&self, host: &HostId) -> bool {
        self.0.contains_key(host)
    }
}

/// Returns whether two reports say the same. Times are recomputed with each report.
fn is_same(before: &[AnnouncedRoute], now: &[AnnouncedRoute]) -> bool {
    let content = |routes: &[AnnouncedRoute]| -> Vec<_> {
        routes.iter().map(|route| (route.route, route.state, route.reason.clone())).collect()
    };
    content(before) == content(now)
}

#[cfg(test)]
mod tests {
    use super::super::tests::route;
    use super::*;
    use crate::document::tests::{AT, host, time};

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + 1000 * seconds)
    }

    fn routes(state: RouteState, number: usize) -> Vec<AnnouncedRoute> {
        let route = AnnouncedRoute { route: route(), state, since: time(AT), reason: None };
        vec![route; number]
    }

    /// A controller that reports on all at once fills the queue, and the same hosts are left out each time: their routes
    /// would be withdrawn.
    #[test]
    fn every_host_with_routes_is_reported_in_time_however_many_ask() {
        let mut reports = Reports::default();
        let mut answers: BTreeMap<_, _> =
            (0..1000).map(|number| (host(number), routes(RouteState::Pending, 1))).collect();
        for number in 920..1000 {
            answers.insert(host(number), routes(RouteState::Announced, 1));
        }
        let mut last: BTreeMap<HostId, u64> = BTreeMap::new();
        for second in 0..120 {
            let due = reports.due(at(second), &answers, true);
            assert!(due.len() <= PACE);
            last.extend(due.into_iter().map(|(host, ..)| (host, second)));
            if second >= 10 {
                for number in 920..1000 {
                    assert!(second - last[&host(number)] <= 15, "{number} at {second}");
                }
            }
        }
        assert_eq!(reports.count(), 1000, "each of the others has had its turn");
    }

    #[test]
    fn a_change_is_reported_at_once_and_an_end_once() {
        let mut reports = Reports::default();
        let mut answers = BTreeMap::from([(host(7), routes(RouteState::Pending, 1))]);
        let mut due = |second, answers: &BTreeMap<_, _>, established| {
            let due = reports.due(at(second), answers, established);
            due.iter().map(|(_, part, routes)| (part.parts, routes.len())).collect::<Vec<_>>()
        };
        assert_eq!(due(0, &answers, false), [(1, 1)]);
        assert_eq!(due(1, &answers, false), []);
        assert_eq!(due(2, &answers, true), [(1, 1)], "the session has come");
        answers.insert(host(7), routes(RouteState::Announced, 6));
        assert_eq!(due(3, &answers, true), [(2, 4), (2, 2)]);
        assert_eq!(due(12, &answers, true), []);
        assert_eq!(due(13, &answers, true), [(2, 4), (2, 2)]);
        answers.clear();
        assert_eq!(due(14, &answers, true), [(1, 0)]);
        assert_eq!(due(15, &answers, true), []);
    }
}
