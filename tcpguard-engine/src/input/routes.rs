//! Routes of the host to a listener's sources: whether a reply to a source leaves where XDP sees it, leaves
//! elsewhere, or never arrives.
//!
//! An attacker that spoofs a source chooses its route as well. SYNs with a source on a container's bridge, or with
//! that of a neighbour that does not exist, get a reply of the host, but not where XDP sees it. So the routes of
//! failed sources show nothing about the listener. The routes of its clients do, which have completed handshakes,
//! now or earlier. Where there never were any, those of the Internet at large count.

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::drawn::one_in;
use super::sample::{Flow, FlowState, ListenerId};
use super::time::Timestamp;

/// Number of failed sources of a listener that are asked about at a time: a share of them is known to 6 %,
/// one standard deviation.
const SOURCES: usize = 64;
/// Number of clients of a listener that are asked about at a time.
const CLIENTS: usize = 16;
/// Number of clients with a known route from which their routes count before those of the Internet at large.
const CLIENTS_MIN: usize = 8;
/// Age beyond which failed flows say nothing of the present.
const RECENT: Duration = Duration::from_secs(8);

/// Addresses in blocks of each of the five registries. A packet to the Internet at large would take the route to
/// one of them. No packet is sent there.
const WORLD_V4: [Ipv4Addr; 8] = [
    Ipv4Addr::new(1, 0, 64, 1),
    Ipv4Addr::new(12, 0, 1, 1),
    Ipv4Addr::new(41, 0, 1, 1),
    Ipv4Addr::new(68, 1, 1, 1),
    Ipv4Addr::new(82, 1, 1, 1),
    Ipv4Addr::new(110, 1, 1, 1),
    Ipv4Addr::new(193, 1, 1, 1),
    Ipv4Addr::new(200, 1, 1, 1),
];
const WORLD_V6: [Ipv6Addr; 5] = [
    Ipv6Addr::new(0x2400, 0x1000, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2600, 0x1000, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2800, 0x100, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2a00, 0x1000, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2c0f, 0x1000, 0, 0, 0, 0, 0, 1),
];

/// Route of the host's reply to a SYN from an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Route {
    /// The kernel did not say.
    Unknown,
    /// The reply leaves by an attached interface, where it is seen.
    Attached,
    /// The reply leaves by the interface with this index, which is not attached, so that it is not seen.
    Elsewhere(u32),
    /// The address belongs to the link of an attached interface, and no neighbour has it: the reply waits
    /// there until the kernel drops it.
    Unresolved,
    /// There is none: the kernel has no route to the address, or drops packets that claim to come from it.
    Nowhere,
}

/// Reason that a route is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum About {
    /// A SYN from there went to the stack, and no reply was seen.
    Unanswered,
    /// A handshake from there failed.
    Failing,
    /// A client there completed a handshake.
    Client,
    /// The address stands for the Internet at large.
    World,
}

/// Question for the route of the reply to a SYN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RouteQuestion {
    /// Listener of the SYN.
    pub listener: ListenerId,
    /// Reason of the question.
    pub about: About,
    /// Source address of the SYN.
    pub client: IpAddr,
    /// Local address to which the SYN was sent: the reply's source, by which hosts may route.
    pub server: IpAddr,
}

/// Returns whether no host can have the source address of a packet: "this network" and loopback (RFC 6890), multicast
/// (RFC 1112 §4) and the limited broadcast (RFC 919); of IPv6 the unspecified, the loopback and the IPv4-compatible
/// addresses, IPv4-mapped ones and multicast (RFC 4291 §2.5, §2.7). Documentation prefixes are not among them,
/// because they are in use in laboratories. Nor is the reserved part of IPv4 (240/4), which is in use in networks
/// that have run out of other addresses: Linux accepts it.
pub fn is_martian(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => {
            matches!(addr.octets(), [0 | 127 | 224..=239, ..] | [255, 255, 255, 255])
        }
        IpAddr::V6(addr) => {
            addr.is_multicast() || matches!(addr.segments(), [0, 0, 0, 0, 0, 0 | 0xffff, ..])
        }
    }
}

/// The questions that a listener's flows call for; none without a failed flow.
pub(crate) fn questions(
    now: Timestamp,
    listener: ListenerId,
    flows: impl Iterator<Item = Flow> + Clone,
    poll: Duration,
) -> Vec<RouteQuestion> {
    use FlowState::{Acknowledged, Completed};
    let question = |about, client, server| RouteQuestion { listener, about, client, server };
    let failing = flows.clone().filter(|flow| {
        // One that has just come may be answered yet.
        let settled = (poll..=RECENT).contains(&now.since(flow.syn_at));
        settled && !matches!(flow.state, Completed | Acknowledged)
    });
    let failing = drawn(failing, SOURCES).map(|flow| {
        let about = match flow.state {
            FlowState::Syn => About::Unanswered,
            _ => About::Failing,
        };
        question(about, flow.client, flow.server)
    });
    let mut questions: Vec<RouteQuestion> = failing.collect();
    let Some(first) = questions.first().copied() else { return questions };
    let clients = drawn(flows.filter(|flow| flow.state == Completed), CLIENTS);
    questions.extend(clients.map(|flow| question(About::Client, flow.client, flow.server)));
    let world = |addr: IpAddr| question(About::World, addr, first.server);
    match first.server {
        IpAddr::V4(_) => questions.extend(WORLD_V4.map(|addr| world(addr.into()))),
        IpAddr::V6(_) => questions.extend(WORLD_V6.map(|addr| world(addr.into()))),
    }
    questions
}

/// Draws about `most` of the flows.
fn drawn(
    flows: impl Iterator<Item = Flow> + Clone,
    most: usize,
) -> impl Iterator<Item = Flow> + Clone {
    let step = flows.clone().count().div_ceil(most);
    one_in(step, flows)
}

/// Interfaces by which the replies to a listener's clients leave.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Home {
    /// The interfaces are not known.
    #[default]
    Unknown,
    /// Attached interfaces, where the replies are seen.
    Attached,
    /// Other interfaces, where the replies are not seen.
    Elsewhere,
}

/// Result of the questions about routes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Routes {
    /// Interfaces by which the replies to clients leave, or would leave.
    pub home: Home,
    /// Interfaces that clients have shown, now or earlier.
    pub shown: Home,
    /// Share of the unanswered sources whose reply would leave as that of clients, or by an unknown route. `None`
    /// where no unanswered source was asked about.
    pub ordinary: Option<f64>,
    /// Share of the unanswered sources to which the host replies where that is not seen.
    pub hidden: f64,
    /// Share of all failed sources that no reply reaches, or that are answered by an interface by which
    /// no client is.
    pub unreachable: f64,
}

impl Default for Routes {
    /// Nothing is known.
    fn default() -> Self {
        let unknown = Home::Unknown;
        Self { home: unknown, shown: unknown, ordinary: Some(1.0), hidden: 0.0, unreachable: 0.0 }
    }
}

impl Routes {
    /// Result of the questions about one listener. `before` is the home that its clients showed last. It goes
    /// before the Internet at large, which an administrator may reach by another way than clients come.
    pub fn of(answers: &[(RouteQuestion, Route)], before: Home) -> Self {
        use Route::{Attached, Elsewhere, Nowhere, Unknown, Unresolved};
        let about = |what: About| {
            let about_it = answers.iter().filter(move |(question, _)| question.about == what);
            about_it.map(|(_, route)| *route)
        };
        // A client on the link has completed: its neighbour entry was there.
        let clients = about(About::Client).map(|route| match route {
            Unresolved => Attached,
            route => route,
        });
        let now = match clients.clone().filter(|route| *route != Unknown).count() {
            CLIENTS_MIN.. => majority(clients.clone()),
            _ => None,
        };
        let shown = now.unwrap_or(before);
        let home = match shown {
            Home::Unknown => majority(about(About::World)).unwrap_or_default(),
            shown => shown,
        };
        let unanswered = || about(About::Unanswered);
        let is_ordinary = |route: Route| match route {
            Unknown | Attached => true,
            Elsewhere(_) => home == Home::Elsewhere,
            Unresolved | Nowhere => false,
        };
        let is_unreachable = |route: Route| match route {
            Unknown | Attached => false,
            Elsewhere(_) => !is_ordinary(route) && clients.clone().all(|client| client != route),
            Unresolved | Nowhere => true,
        };
        // The host did not get the SYN of such a source, so it has not tried to resolve its neighbour.
        let failing = about(About::Failing).map(|route| match route {
            Unresolved => Unknown,
            route => route,
        });
        Self {
            home,
            shown,
            ordinary: share(unanswered(), is_ordinary),
            hidden: share(unanswered(), |route| matches!(route, Elsewhere(_) | Unresolved))
                .unwrap_or(0.0),
            unreachable: share(unanswered().chain(failing), is_unreachable).unwrap_or(0.0),
        }
    }

    /// Returns whether unseen replies are the sources' doing: those to clients would be seen, and those to most of
    /// the unanswered sources would not.
    pub fn blame_the_sources(&self) -> bool {
        self.home == Home::Attached && self.ordinary.is_some_and(|share| share < 0.5)
    }

    /// Returns whether unseen replies are the listener's own: those to clients and to most of the unanswered
    /// sources leave where they are not seen.
    pub fn blame_the_listener(&self) -> bool {
        self.home == Home::Elsewhere && self.hidden >= 0.5
    }
}

/// Returns the interfaces by which most of those replies go that leave; `None` without a majority.
fn majority(routes: impl Iterator<Item = Route> + Clone) -> Option<Home> {
    let attached = routes.clone().filter(|route| *route == Route::Attached).count();
    let elsewhere = routes.filter(|route| matches!(route, Route::Elsewhere(_))).count();
    match attached.cmp(&elsewhere) {
        Ordering::Greater => Some(Home::Attached),
        Ordering::Less => Some(Home::Elsewhere),
        Ordering::Equal => None,
    }
}

/// Share of the routes of which something holds; `None` without any.
fn share(
    routes: impl Iterator<Item = Route> + Clone,
    holds: impl Fn(Route) -> bool,
) -> Option<f64> {
    let all = routes.clone().count();
    (all > 0).then(|| routes.filter(|route| holds(*route)).count() as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use tcpguard_common::abi::Fingerprint;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(100_000);
    const POLL: Duration = Duration::from_millis(250);
    const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);

    fn flow(client: impl Into<IpAddr>, state: FlowState, age_ms: u64) -> Flow {
        Flow {
            listener: ListenerId(7),
            client: client.into(),
            server: SERVER.into(),
            syn_at: NOW - Duration::from_millis(age_ms),
            syn_ack_at: None,
            done_at: None,
            state,
            syn_retransmits: 0,
            sample_shift: 0,
            fingerprint: Fingerprint::default(),
        }
    }

    fn asked(flows: &[Flow]) -> Vec<RouteQuestion> {
        questions(NOW, ListenerId(7), flows.iter().copied(), POLL)
    }

    /// Returns the answers, as many of each kind as `kinds` says.
    fn answers(kinds: &[(About, Route, usize)]) -> Vec<(RouteQuestion, Route)> {
        let (client, server) = (SERVER.into(), SERVER.into());
        let question = |about| RouteQuestion { listener: ListenerId(7), about, client, server };
        let answers = kinds.iter().flat_map(|&(about, route, count)| {
            std::iter::repeat_n((question(about), route), count)
        });
        answers.collect()
    }

    /// Result for these kinds of routes.
    fn said(kinds: &[(About, Route, usize)]) -> Routes {
        Routes::of(&answers(kinds), Home::Unknown)
    }

    #[test]
    fn a_bounded_draw_of_failing_sources_and_of_clients_is_asked_about() {
        let bridge = |n: u32| Ipv4Addr::from_bits(0xac11_0000 + n);
        let unanswered = (0..20_000).map(|n| flow(bridge(n), FlowState::Syn, 1_000));
        let clients = (0..500).map(|n| flow(bridge(n), FlowState::Completed, 60_000));
        let flows: Vec<Flow> = unanswered.chain(clients).collect();
        let asked = asked(&flows);
        let about = |what| asked.iter().filter(|question| question.about == what).count();
        assert_eq!((about(About::Unanswered), about(About::Failing)), (64, 0));
        assert_eq!((about(About::Client), about(About::World)), (16, 8));
        let distinct: std::collections::BTreeSet<_> = asked.iter().map(|q| q.client).collect();
        assert!(distinct.len() > 80, "evenly: {}", distinct.len());
    }

    #[test]
    fn nothing_is_asked_of_what_may_be_answered_yet_is_long_over_or_did_not_fail() {
        let client = [198, 51, 100, 7];
        for (state, age_ms) in [
            (FlowState::Syn, 249),
            (FlowState::Syn, 8_001),
            (FlowState::Completed, 1_000),
            (FlowState::Acknowledged, 1_000),
        ] {
            assert_eq!(asked(&[flow(client, state, age_ms)]), [], "{state:?} {age_ms}");
        }
        let dropped = asked(&[flow(client, FlowState::Dropped, 1_000)]);
        assert_eq!(dropped[0].about, About::Failing);
        assert_eq!(dropped.len(), 1 + WORLD_V4.len());
        let v6 = Flow { server: Ipv6Addr::LOCALHOST.into(), ..flow(client, FlowState::Syn, 900) };
        assert!(asked(&[v6]).iter().skip(1).all(|question| question.client.is_ipv6()));
    }

    #[test]
    fn sources_behind_another_interface_than_clients_are_to_blame_for_unseen_answers() {
        use About::{Client, Unanswered, World};
        use Route::{Attached, Elsewhere, Nowhere, Unresolved};
        for odd in [Elsewhere(9), Unresolved, Nowhere] {
            for reference in [(Client, Attached, 16), (World, Attached, 8)] {
                let routes = said(&[(Unanswered, odd, 64), reference]);
                assert!(routes.blame_the_sources(), "{odd:?} {reference:?}");
                assert_eq!((routes.ordinary, routes.unreachable), (Some(0.0), 1.0));
                let answered = if odd == Nowhere { 0.0 } else { 1.0 };
                assert_eq!(routes.hidden, answered, "who is not answered takes no slot");
            }
        }
    }

    #[test]
    fn where_replies_to_clients_leave_elsewhere_all_replies_may() {
        use About::{Client, Unanswered, World};
        use Route::{Attached, Elsewhere};
        let unanswered = (Unanswered, Elsewhere(9), 64);
        for reference in [(Client, Elsewhere(9), 16), (World, Elsewhere(9), 8)] {
            let routes = said(&[unanswered, reference]);
            assert_eq!((routes.home, routes.ordinary), (Home::Elsewhere, Some(1.0)));
            assert_eq!(routes.unreachable, 0.0, "{reference:?}");
        }
        // Clients count before the Internet at large, if there are enough of them.
        let clients =
            |count| said(&[unanswered, (Client, Elsewhere(9), count), (World, Attached, 8)]);
        assert_eq!([7, 8].map(|count| clients(count).home), [Home::Attached, Home::Elsewhere]);
    }

    /// The clients come from a private network, and the way to the Internet is the administrator's.
    #[test]
    fn what_clients_have_shown_counts_before_the_internet_when_too_few_are_left_to_ask_about() {
        use About::{Client, Unanswered, World};
        let (unanswered, world) =
            ((Unanswered, Route::Elsewhere(9), 64), (World, Route::Elsewhere(3), 8));
        let first = said(&[unanswered, (Client, Route::Attached, 8), world]);
        assert_eq!((first.home, first.shown), (Home::Attached, Home::Attached));
        let answers = answers(&[unanswered, (Client, Route::Attached, 7), world]);
        let later = Routes::of(&answers, first.shown);
        assert_eq!((later.home, later.shown), (Home::Attached, Home::Attached));
        assert!(later.blame_the_sources() && !later.blame_the_listener());
        // A home that only the Internet at large suggested is not shown by clients.
        let before = said(&[unanswered, world]);
        assert_eq!((before.home, before.shown), (Home::Elsewhere, Home::Unknown));
        assert!(before.blame_the_listener());
        let others = said(&[unanswered, (Client, Route::Elsewhere(3), 8)]);
        assert_eq!(Routes::of(&answers, others.shown).home, Home::Elsewhere);
    }

    #[test]
    fn an_uplink_by_which_some_clients_are_answered_is_no_sign_of_spoofing() {
        use About::{Client, Unanswered};
        let clients = [(Client, Route::Attached, 14), (Client, Route::Elsewhere(9), 2)];
        let with = |odd| said(&[(Unanswered, Route::Elsewhere(odd), 64), clients[0], clients[1]]);
        assert_eq!((with(9).unreachable, with(10).unreachable), (0.0, 1.0));
        assert!(with(9).blame_the_sources(), "most clients are answered where the agent sees it");
    }

    #[test]
    fn what_is_not_known_says_nothing() {
        use About::{Client, Failing, Unanswered};
        assert_eq!(said(&[]), Routes { ordinary: None, ..Routes::default() });
        let unknown = said(&[(Unanswered, Route::Unknown, 64), (Client, Route::Unknown, 16)]);
        assert_eq!(unknown, Routes::default());
        let dropped = said(&[(Failing, Route::Unresolved, 64)]);
        assert_eq!(dropped.unreachable, 0.0, "nobody has looked for that neighbour");
        let (client, server) = (SERVER.into(), SERVER.into());
        let question = RouteQuestion { listener: ListenerId(7), about: Unanswered, client, server };
        let answers = [(question, Route::Elsewhere(9))];
        assert!(Routes::of(&answers, Home::Attached).blame_the_sources(), "as before");
    }

    #[test]
    fn martians_are_what_no_host_has() {
        let is = |text: &str| is_martian(text.parse().expect("an address"));
        for martian in [
            "0.1.2.3",
            "127.0.0.1",
            "224.0.0.1",
            "239.255.255.255",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:1.2.3.4",
            "ff02::1",
        ] {
            assert!(is(martian), "{martian}");
        }
        for host in [
            "10.1.2.3",
            "172.17.0.2",
            "223.255.0.1",
            "240.0.0.1",
            "255.255.255.254",
            "203.0.113.9",
            "2001:db8::1",
            "64:ff9b::1",
            "fe80::1",
        ] {
            assert!(!is(host), "{host}");
        }
    }
}
