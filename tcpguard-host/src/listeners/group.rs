//! Assignment of sockets and half-open connections to listeners.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::linux::{ListeningSocket, is_queued};

/// The key by which the kernel finds a listener: local address, port, and the interface that it is bound
/// to, 0 for any.
pub type Place = (IpAddr, u16, u32);

/// All sockets that listen at one address, port and interface: one socket, or an SO_REUSEPORT group.
#[derive(Clone, Debug, PartialEq)]
pub struct Group<'a> {
    pub sockets: Vec<&'a ListeningSocket>,
    /// Half-open connections of all of them: the kernel does not say which of them has which.
    pub half_open: u32,
}

/// Groups the sockets by address, port and interface, and gives each group the half-open connections that it answered:
/// of those at its place, with timers of these ages, those that are no older than the time for which it has been
/// `listening`.
pub fn groups<'a>(
    sockets: &'a [ListeningSocket],
    half_open: &BTreeMap<Place, Vec<Duration>>,
    listening: impl Fn(&ListeningSocket) -> Option<Duration>,
) -> BTreeMap<Place, Group<'a>> {
    let mut groups: BTreeMap<Place, Group<'_>> = BTreeMap::new();
    for socket in sockets {
        let place = (socket.addr, socket.port, socket.interface);
        // Most listeners are one socket.
        let one = || Group { sockets: Vec::with_capacity(1), half_open: 0 };
        let group = groups.entry(place).or_insert_with(one);
        group.sockets.push(socket);
    }
    for (place, timers) in half_open {
        if let Some(place) = answered_by(*place, &groups)
            && let Some(group) = groups.get_mut(&place)
        {
            let ages: Option<Vec<_>> = group.sockets.iter().map(|one| listening(one)).collect();
            let oldest = ages.and_then(|ages| ages.into_iter().max());
            let queued = timers.iter().filter(|timer| is_queued(**timer, oldest)).count();
            group.half_open = group.half_open.saturating_add(queued as u32);
        }
    }
    groups
}

/// The listener that answered: as the kernel looks (`__inet_lookup_listener`, `inet6_lookup_listener`)
/// bound to the very address, else to all of its family, else to all of both; of two, the one that is
/// bound to the interface. A connection may have an interface though its listener has none: one to a
/// link-local address has.
fn answered_by(
    (addr, port, interface): Place,
    groups: &BTreeMap<Place, Group<'_>>,
) -> Option<Place> {
    let any = match addr {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let both = addr.is_ipv4().then_some(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let exact_or_family = [addr, any].into_iter().chain(both);
    let mut places = exact_or_family.flat_map(|addr| [(addr, port, interface), (addr, port, 0)]);
    places.find(|place| {
        let takes =
            |socket: &&ListeningSocket| addr.is_ipv6() || place.0.is_ipv4() || socket.dual_stack;
        groups.get(place).is_some_and(|group| group.sockets.iter().any(takes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn socket(addr: &str, interface: u32, dual_stack: bool, inode: u32) -> ListeningSocket {
        ListeningSocket {
            addr: addr.parse().expect("an address"),
            port: 80,
            dual_stack,
            accept: 0,
            backlog: 128,
            inode,
            uid: 0,
            interface,
            mptcp: false,
            drops: None,
        }
    }

    #[test]
    fn sockets_at_one_place_are_one_listener() {
        let sockets = [
            socket("0.0.0.0", 0, false, 1),
            socket("192.0.2.1", 0, false, 2),
            socket("0.0.0.0", 0, false, 3),
            socket("0.0.0.0", 4, false, 5),
        ];
        let groups = groups(&sockets, &BTreeMap::new(), |_| None);
        let found: Vec<Vec<u32>> =
            groups.values().map(|it| it.sockets.iter().map(|it| it.inode).collect()).collect();
        assert_eq!(found, [vec![1, 3], vec![5], vec![2]]);
    }

    #[test]
    fn a_half_open_connection_counts_where_it_was_answered() {
        let sockets = [
            socket("0.0.0.0", 0, false, 1),
            socket("192.0.2.1", 0, false, 2),
            socket("0.0.0.0", 4, false, 3),
            socket("::", 0, true, 4),
            socket("2001:db8::1", 0, false, 5),
        ];
        for (addr, interface, expected) in [
            ("192.0.2.1", 0, 2),
            ("192.0.2.9", 0, 1),
            ("192.0.2.9", 4, 3),
            ("192.0.2.9", 7, 1),
            ("192.0.2.1", 4, 2),
            ("2001:db8::1", 0, 5),
            ("2001:db8::2", 0, 4),
            ("fe80::1", 4, 4),
        ] {
            let place = (addr.parse().expect("an address"), 80, interface);
            let half_open = BTreeMap::from([(place, vec![SECOND; 7])]);
            let groups = groups(&sockets, &half_open, |_| None);
            let found: Vec<_> = groups
                .values()
                .filter(|group| group.half_open == 7)
                .map(|group| group.sockets[0].inode)
                .collect();
            assert_eq!(found, [expected], "{addr} {interface}");
        }
    }

    #[test]
    fn a_socket_for_both_families_takes_ipv4_and_one_for_ipv6_does_not() {
        let place = ("192.0.2.1".parse().expect("an address"), 80, 0);
        let half_open = BTreeMap::from([(place, vec![SECOND; 7])]);
        let sum = |sockets: &[_], half_open| -> u32 {
            groups(sockets, half_open, |_| None).values().map(|it| it.half_open).sum()
        };
        for (dual_stack, expected) in [(true, 7), (false, 0)] {
            let sockets = [socket("::", 0, dual_stack, 1)];
            assert_eq!(sum(&sockets, &half_open), expected, "{dual_stack}");
        }
        let elsewhere = BTreeMap::from([((place.0, 81, 0), vec![SECOND; 7])]);
        assert_eq!(sum(&[socket("::", 0, true, 1)], &elsewhere), 0);
    }

    #[test]
    fn what_an_earlier_socket_answered_is_in_no_queue() {
        let sockets = [socket("0.0.0.0", 0, false, 1), socket("0.0.0.0", 0, false, 2)];
        let place = ("192.0.2.1".parse().expect("an address"), 80, 0);
        let half_open =
            BTreeMap::from([(place, [0, 2, 3, 4, 31].map(|age| SECOND * age).to_vec())]);
        for (ages, expected) in [
            ([Some(1), Some(3)], 3),
            ([Some(0), Some(0)], 1),
            ([Some(60), Some(0)], 5),
            ([Some(3), None], 5),
        ] {
            let listening =
                |socket: &ListeningSocket| Some(SECOND * ages[socket.inode as usize - 1]?);
            let groups = groups(&sockets, &half_open, listening);
            let found: Vec<_> = groups.values().map(|group| group.half_open).collect();
            assert_eq!(found, [expected], "{ages:?}");
        }
    }
}
