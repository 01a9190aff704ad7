//! Routes of the host's replies to sources, looked up for the engine with bounds and remembered for a while.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tcpguard_engine::{Route, RouteQuestion, Timestamp, is_martian};
use tcpguard_host::hint::Hint as _;
use tcpguard_host::linux::{Error, Interface, RouteTable, Way, interfaces};

/// Lifetime of a remembered route: a change of a `sysctl` that affects it is not announced.
const LIFETIME: Duration = Duration::from_secs(10);
/// Addresses remembered; at this number all are dropped. The capacity suffices for three inspections of
/// all addresses that the engine asks about at once (343 at most). Clients, and the addresses that stand
/// for the Internet, are asked about in each.
const ADDRESSES: usize = 1024;
/// Questions to the kernel for one command; routes beyond that are unknown. At some 5 µs each they take 2
/// % of a poll.
const QUESTIONS: u32 = 1024;
/// Attached interfaces that are asked whether they take a source, at most. With this many, a listener's 64 sources take
/// 320 of the questions, so that there are enough for three listeners. With more interfaces, one is assumed to take it.
const ASKED: usize = 4;

/// Answers for the engine.
#[derive(Debug, Default)]
pub struct Routes {
    table: Option<RouteTable>,
    links: Links,
    /// Routes by local address and source. A network may have more than one way to it: an address of a VPN
    /// has a route of its own, and container networks hand out small parts of one.
    known: BTreeMap<(IpAddr, IpAddr), (Timestamp, Leads)>,
    /// True if it was said that the kernel cannot be asked.
    reported: bool,
}

/// The interfaces, as far as they matter here.
#[derive(Debug, Default)]
struct Links {
    all: Vec<Interface>,
    attached: Vec<u32>,
    /// True if an attached interface belongs to a routing domain of its own (VRF), whose table is not
    /// asked.
    in_domain: bool,
    read: Option<Timestamp>,
}

/// Direction in which the route to an address leads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Leads {
    /// To a gateway, by an interface where the BPF programs see it.
    Attached,
    /// To neighbours, by the one with this index, where the BPF programs see it.
    OnLink(u32),
    /// Somewhere, by the one with this index, where the BPF programs do not see it.
    Elsewhere(u32),
    /// To no other host: there is none, or the address is one of this host's own, or a group's.
    Nowhere,
}

impl Routes {
    /// Answers all that can be answered. `attached` are the interfaces with the XDP program.
    pub fn answer(
        &mut self,
        now: Timestamp,
        questions: Vec<RouteQuestion>,
        attached: &[Interface],
    ) -> Vec<(RouteQuestion, Route)> {
        if let Err(error) = self.prepare(now, attached) {
            self.fails(&error);
            return Vec::new();
        }
        let mut left = QUESTIONS;
        let mut answers = Vec::with_capacity(questions.len());
        for question in questions {
            match self.route(now, &question, &mut left) {
                Ok(route) => answers.push((question, route)),
                Err(error) => {
                    self.fails(&error);
                    answers.push((question, Route::Unknown));
                }
            }
        }
        answers
    }

    /// Opens the routing table if necessary, and drops remembered routes that may have changed.
    fn prepare(&mut self, now: Timestamp, attached: &[Interface]) -> Result<(), Error> {
        if self.table.is_none() {
            self.table = Some(RouteTable::open()?);
        }
        let changed = self.table.as_mut().map_or(Ok(true), RouteTable::has_changed);
        let changed = changed.inspect_err(|_| self.table = None)?;
        let attached: Vec<u32> = attached.iter().map(|interface| interface.index).collect();
        let old = self.links.read.is_none_or(|read| now.since(read) >= LIFETIME);
        if changed || old || attached != self.links.attached {
            let all = interfaces::list()?;
            self.known.clear();
            let in_domain = is_in_domain(&all, &attached);
            self.links = Links { all, attached, in_domain, read: Some(now) };
        }
        if self.known.len() >= ADDRESSES {
            self.known.clear();
        }
        Ok(())
    }

    fn route(
        &mut self,
        now: Timestamp,
        question: &RouteQuestion,
        left: &mut u32,
    ) -> Result<Route, Error> {
        let RouteQuestion { client, server, .. } = *question;
        if is_martian(client) {
            return Ok(Route::Nowhere);
        }
        // Routes of another table, and addresses that each link has of its own.
        if self.links.in_domain || is_link_local(client) {
            return Ok(Route::Unknown);
        }
        let key = (server, client);
        let known = self.known.get(&key).filter(|(at, _)| now.since(*at) < LIFETIME);
        let leads = match known {
            Some((_, leads)) => *leads,
            None => {
                let Some(leads) = self.ask(client, server, left)? else {
                    return Ok(Route::Unknown);
                };
                self.known.insert(key, (now, leads));
                leads
            }
        };
        Ok(match leads {
            Leads::Attached => Route::Attached,
            Leads::Elsewhere(index) => Route::Elsewhere(index),
            Leads::Nowhere => Route::Nowhere,
            Leads::OnLink(index) => match self.knows_neighbour(client, index, left)? {
                Some(true) => Route::Attached,
                Some(false) => Route::Unresolved,
                None => Route::Unknown,
            },
        })
    }

    /// Asks the kernel for the way to a source; `None` when it has been asked enough.
    fn ask(
        &mut self,
        client: IpAddr,
        server: IpAddr,
        left: &mut u32,
    ) -> Result<Option<Leads>, Error> {
        let Some(table) = self.table.as_mut().filter(|_| take(left)) else { return Ok(None) };
        let index = match table.way(server, client)? {
            Way::NoHost | Way::Unreachable => return Ok(Some(Leads::Nowhere)),
            Way::Gateway(index) if self.links.shows(index) => return Ok(Some(Leads::Attached)),
            Way::OnLink(index) if self.links.shows(index) => {
                let resolves = self.links.has_neighbours(index);
                return Ok(Some(if resolves { Leads::OnLink(index) } else { Leads::Attached }));
            }
            Way::Gateway(index) | Way::OnLink(index) => index,
        };
        // If the host drops packets that arrive from there, it sends no reply.
        let (IpAddr::V4(from), IpAddr::V4(to)) = (client, server) else {
            return Ok(Some(Leads::Elsewhere(index)));
        };
        let mut takes = self.links.attached.is_empty() || self.links.attached.len() > ASKED;
        for interface in self.links.attached.iter().take(ASKED) {
            if takes {
                break;
            }
            if !take(left) {
                return Ok(None);
            }
            takes = table.accepts(from, to, *interface)?;
        }
        Ok(Some(if takes { Leads::Elsewhere(index) } else { Leads::Nowhere }))
    }

    /// Returns whether the link has that neighbour; `None` when the kernel has been asked enough.
    fn knows_neighbour(
        &mut self,
        client: IpAddr,
        index: u32,
        left: &mut u32,
    ) -> Result<Option<bool>, Error> {
        let Some(table) = self.table.as_mut().filter(|_| take(left)) else { return Ok(None) };
        table.knows_neighbour(client, index).map(Some)
    }

    /// Logs that routes cannot be looked up, so that counts decide: a warning the first time only.
    fn fails(&mut self, error: &Error) {
        let level = if self.reported { log::Level::Debug } else { log::Level::Warn };
        self.reported = true;
        log::log!(
            level,
            "routes unreadable, the egress check uses counters alone: {}",
            error.with_hint()
        );
    }
}

impl Links {
    /// Returns whether packets that leave by an interface pass an attached one.
    fn shows(&self, index: u32) -> bool {
        let is_attached = |index| self.attached.contains(&index);
        let found = self.all.iter().find(|one| one.index == index);
        found.is_some_and(|one| one.leaves_attached(&self.all, &is_attached))
    }

    /// Returns whether neighbours at an interface have Ethernet addresses.
    fn has_neighbours(&self, index: u32) -> bool {
        let mut found = self.all.iter().filter(|one| one.index == index);
        found.any(|one| one.has_ethernet_header() && !one.loopback)
    }
}

/// Returns whether any of the attached interfaces belongs to a VRF.
fn is_in_domain(all: &[Interface], attached: &[u32]) -> bool {
    all.iter().any(|one| attached.contains(&one.index) && one.is_in_vrf(all))
}

/// Takes one of the questions that are left, if there is one.
fn take(left: &mut u32) -> bool {
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}

fn is_link_local(client: IpAddr) -> bool {
    matches!(client, IpAddr::V6(client) if client.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tcpguard_engine::{About, ListenerId};

    use super::*;

    /// Any of the host's.
    const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

    fn question(client: impl Into<IpAddr>) -> RouteQuestion {
        let client = client.into();
        RouteQuestion { listener: ListenerId(0), about: About::Unanswered, client, server: SERVER }
    }

    #[test]
    fn an_address_is_asked_about_once_until_something_changes_or_time_is_over() {
        let mut routes = Routes::default();
        let at = |seconds: u64| Timestamp::from_millis(1000 * seconds);
        // No interface is attached.
        let martians = vec![question(Ipv4Addr::LOCALHOST); 3];
        let answers = routes.answer(at(1), martians, &[]);
        assert!(answers.iter().all(|(_, route)| *route == Route::Nowhere), "{answers:?}");
        assert_eq!((answers.len(), routes.known.len()), (3, 0), "the kernel need not be asked");

        let client: IpAddr = [198, 51, 100, 7].into();
        let mut left = 2;
        let first = routes.ask(client, SERVER, &mut left).expect("an answer");
        assert!(first.is_some() && left < 2, "{first:?}");
        left = 0;
        assert_eq!(routes.ask(client, SERVER, &mut left).expect("no error"), None, "enough");

        routes.known.insert((SERVER, client), (at(1), Leads::Elsewhere(9)));
        let route = |routes: &mut Routes, now, client: IpAddr| {
            routes.route(now, &question(client), &mut 0).expect("no error")
        };
        assert_eq!(route(&mut routes, at(10), client), Route::Elsewhere(9));
        // An address of a VPN beside it.
        let beside = [198, 51, 100, 8].into();
        assert_eq!(route(&mut routes, at(10), beside), Route::Unknown, "it may have its own way");
        assert_eq!(route(&mut routes, at(11), client), Route::Unknown, "its time is over");
        routes.prepare(at(11), &[]).expect("netlink");
        assert!(routes.known.is_empty());
    }

    #[test]
    fn of_more_addresses_than_there_is_room_for_all_are_forgotten() {
        let mut routes = Routes::default();
        routes.prepare(Timestamp::default(), &[]).expect("netlink");
        for n in 0..ADDRESSES as u32 {
            let source = Ipv4Addr::from_bits(n).into();
            routes.known.insert((SERVER, source), (Timestamp::default(), Leads::Attached));
        }
        routes.prepare(Timestamp::default(), &[]).expect("netlink");
        assert!(routes.known.is_empty());
    }
}
