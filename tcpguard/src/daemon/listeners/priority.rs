//! The order of listeners when there are not enough slots for all of them.
//!
//! A user with an account on the host can open thousands. Therefore root's listeners come first, then
//! those of system users and on privileged ports, then all others. Within a class, one listener of each
//! user comes before the second of any.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tcpguard_engine::{Listener, ListenerId};
use tcpguard_host::linux::ListenerGroup;

/// User ids below this are the system's (login.defs: `UID_MIN`).
const ORDINARY: u32 = 1_000;
/// Ports below this want a right (`ip_unprivileged_port_start`).
const OPEN_TO_ALL: u16 = 1_024;
/// Most listeners that leave their slots to others at once.
const MOST_MOVED: usize = 256;
/// Most users that are named in one line.
const NAMED: usize = 2;

/// The class of users that may open such a listener.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
enum Class {
    #[default]
    Root,
    /// A system user, or one with the right to a low port.
    System,
    Ordinary,
}

/// A listener's position in the order; the least comes first. The default comes before all others.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct ListenerPriority {
    class: Class,
    /// Number of listeners of the same class and user that come before it; root's are not counted.
    nth: u32,
    /// True if it is bound to one address, not to all.
    specific: bool,
    port: u16,
    uid: u32,
}

impl ListenerPriority {
    /// Returns whether a listener of this standing has to leave its slot to one of `other`'s. Listeners of one user do
    /// not take slots from each other: they would change slots with each one that the user opens or closes.
    pub fn makes_room_for(&self, other: &Self) -> bool {
        (self.class, self.nth) > (other.class, other.nth) && self.uid != other.uid
    }
}

/// The groups in order.
pub fn ranked<'a>(
    groups: impl Iterator<Item = &'a ListenerGroup>,
) -> Vec<(ListenerPriority, &'a ListenerGroup)> {
    let priority = |group: &ListenerGroup| ListenerPriority {
        class: match group.uid {
            0 => Class::Root,
            uid if uid < ORDINARY || group.listener.port < OPEN_TO_ALL => Class::System,
            _ => Class::Ordinary,
        },
        nth: 0,
        specific: !group.listener.addr.is_unspecified(),
        port: group.listener.port,
        uid: group.uid,
    };
    let mut all: Vec<_> = groups.map(|group| (priority(group), group)).collect();
    all.sort_by_key(|(priority, _)| *priority);
    let mut counts: BTreeMap<(Class, u32), u32> = BTreeMap::new();
    for (priority, _) in &mut all {
        if priority.class != Class::Root {
            let count = counts.entry((priority.class, priority.uid)).or_default();
            priority.nth = *count;
            *count += 1;
        }
    }
    all.sort_by_key(|(priority, _)| *priority);
    all
}

/// The monitored listeners that lose their slots, each with the listener of `without`, given in order,
/// that gets it. The monitored ones come with their ids and whether their sockets are gone. Slots are
/// taken first from the last in the order, and there from listeners whose sockets are gone.
pub fn leaving(
    without: &[(ListenerPriority, Listener)],
    mut monitored: Vec<(ListenerPriority, bool, ListenerId)>,
) -> BTreeMap<ListenerId, Listener> {
    monitored.sort_by_key(|(priority, gone, _)| Reverse((*priority, *gone)));
    let Some((last, ..)) = monitored.first().copied() else { return BTreeMap::new() };
    // A listener for which the last one does not make room waits, and does not hold up others. Otherwise
    // a user that has taken nearly all slots would keep the others out with each further listener.
    without
        .iter()
        .filter(|(new, _)| last.makes_room_for(new))
        .zip(monitored)
        .take(MOST_MOVED)
        .take_while(|((new, _), (priority, ..))| priority.makes_room_for(new))
        .map(|((_, listener), (.., id))| (id, *listener))
        .collect()
}

/// The ports on which sockets listen that are not among those `monitored`.
pub fn unmonitored(
    groups: &[ListenerGroup],
    monitored: impl Iterator<Item = Listener>,
) -> BTreeSet<u16> {
    let monitored: BTreeSet<Listener> = monitored.collect();
    let others = groups.iter().filter(|group| !monitored.contains(&group.listener));
    others.map(|group| group.listener.port).collect()
}

/// Listeners for which there was no room.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LeftOut(BTreeMap<(Class, u32), usize>);

impl LeftOut {
    /// Counts one more listener.
    pub fn add(&mut self, priority: &ListenerPriority) {
        *self.0.entry((priority.class, priority.uid)).or_default() += 1;
    }

    /// Returns the number of these listeners.
    pub fn count(&self) -> usize {
        self.0.values().sum()
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} listeners are not monitored: the table is full; ", self.count())?;
        let mut parts: Vec<_> = self.0.iter().collect();
        parts.sort_by_key(|((class, _), count)| (*class, Reverse(**count)));
        for (place, ((class, uid), count)) in parts.iter().take(NAMED).enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            match class {
                Class::Root => write!(f, "{comma}{count} of root")?,
                Class::System => {
                    write!(f, "{comma}{count} of the system or on low ports (uid {uid})")?
                }
                Class::Ordinary => write!(f, "{comma}{count} of uid {uid}")?,
            }
        }
        match parts.iter().skip(NAMED).map(|(_, count)| **count).sum() {
            0usize => Ok(()),
            more => write!(f, " and {more} of others"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tcpguard_engine::Queues;

    use super::*;

    fn group(addr: &str, port: u16, uid: u32) -> ListenerGroup {
        ListenerGroup {
            listener: Listener { addr: addr.parse::<IpAddr>().unwrap(), port },
            dual_stack: false,
            sockets: 1,
            uid,
            mptcp: false,
            queues: Queues::default(),
        }
    }

    #[test]
    fn a_user_that_opens_thousands_comes_behind_the_first_of_every_other() {
        const USER: u32 = 65_534;
        let mut groups: Vec<_> = (0..9_000).map(|n| group("::", 2_000 + n, USER)).collect();
        groups.extend((0..200).map(|n| group("192.0.2.1", 2_000 + n, USER)));
        let real = [
            group("::", 443, 0),
            group("192.0.2.1", 8_443, 0),
            group("0.0.0.0", 5_432, 112),
            group("192.0.2.1", 80, 1_005),
            group("::", 8_080, 1_001),
            group("::", 8_081, 1_001),
            group("192.0.2.1", 3_000, 1_002),
        ];
        groups.extend(real.clone());
        let order = ranked(groups.iter());
        assert_eq!(order.len(), groups.len());
        let first: Vec<&ListenerGroup> = order.iter().take(9).map(|(_, group)| *group).collect();
        for one in &real {
            assert!(first.contains(&one), "{one:?} is not among {first:#?}");
        }
        assert_eq!((first[0], first[1]), (&real[0], &real[1]), "root's, of all addresses first");
        // A listener of another user that comes later is given a slot of the user with many, and not the other way
        // round.
        let of =
            |wanted: &ListenerGroup| order.iter().find(|(_, group)| *group == wanted).unwrap().0;
        let last = order.last().unwrap().0;
        assert!(last.makes_room_for(&of(&real[5])) && !of(&real[5]).makes_room_for(&last));
        assert!(!last.makes_room_for(&of(&groups[0])), "not for his own");
        assert!(
            !ListenerPriority::default().makes_room_for(&of(&real[0])),
            "what is not known stays"
        );
    }

    #[test]
    fn a_user_that_filled_the_table_and_opens_one_more_keeps_no_other_out() {
        const USER: u32 = 65_534;
        const MORE: u16 = 1_999;
        let mut groups: Vec<_> = (0..4_000).map(|n| group("::", 2_000 + n, USER)).collect();
        groups.extend([group("::", MORE, USER), group("::", 8_080, 1_001)]);
        let is_new = |group: &ListenerGroup| group.uid != USER || group.listener.port == MORE;
        let order = ranked(groups.iter());
        let (new, old): (Vec<_>, Vec<_>) = order.into_iter().partition(|(_, group)| is_new(group));
        let without: Vec<_> =
            new.iter().map(|(priority, group)| (*priority, group.listener)).collect();
        assert_eq!(without[0].1.port, MORE, "his comes before the other's");
        let monitored: Vec<_> = old
            .iter()
            .zip(0..)
            .map(|((priority, _), n)| (*priority, false, ListenerId(n)))
            .collect();
        let moved = leaving(&without, monitored.clone());
        let last = ListenerId(monitored.len() as u32 - 1);
        assert_eq!(moved, BTreeMap::from([(last, groups[4_001].listener)]));
        assert_eq!(leaving(&without[..1], monitored), BTreeMap::new(), "not for his own");
    }

    /// An operator has one ignored, and there may be no room for another.
    #[test]
    fn a_port_with_an_unmonitored_listener_is_known_for_it() {
        let groups = [
            group("::", 443, 0),
            group("192.0.2.1", 443, 33),
            group("0.0.0.0", 9_000, 1_001),
            group("::", 8_080, 1_001),
        ];
        let listener = |at: usize| groups[at].listener;
        let open =
            |monitored: &[usize]| unmonitored(&groups, monitored.iter().map(|at| listener(*at)));
        assert_eq!(open(&[0, 1, 2, 3]), BTreeSet::new());
        assert_eq!(open(&[0, 3]), BTreeSet::from([443, 9_000]), "one of two at a port will do");
    }

    #[test]
    fn a_user_that_is_left_out_is_named() {
        let groups: Vec<_> = [(1_001, 3), (1_002, 1), (0, 1), (65_534, 5)]
            .into_iter()
            .flat_map(|(uid, count)| (0..count).map(move |n| group("::", 3_000 + n, uid)))
            .collect();
        let mut left = LeftOut::default();
        ranked(groups.iter()).iter().for_each(|(priority, _)| left.add(priority));
        assert_eq!(
            left.to_string(),
            "10 listeners are not monitored: the table is full; 1 of root, 5 of uid 65534 and 4 of others"
        );
    }
}
