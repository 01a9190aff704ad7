//! The choice of the closed incidents that are kept. Hosts on the Internet are scanned all day: by age alone, scans
//! would push out the record of every attack.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::evidence::{IncidentClass, Severity};

/// One part in this many of the capacity is for the latest incidents, and as much for the latest attacks. The rest is
/// for those of most worth.
const SHARE: usize = 4;

/// The worth of a closed incident, in the order in which it counts: attacks before others, then severity, size and
/// youth.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Worth {
    attack: bool,
    severity: Severity,
    syns: u64,
    id: u64,
}

impl Worth {
    /// The worth of incident `id`, with this class and so many SYNs.
    pub const fn new(id: u64, class: IncidentClass, syns: u64) -> Self {
        Self { attack: class.is_flood(), severity: class.severity(), syns, id }
    }
}

/// Returns the numbers of the incidents to be kept where there is room for `most`.
///
/// Many small attacks do not push out a large one, because that counts for more. Old large ones do not keep out new
/// incidents, because these have shares of their own, which scans cannot take from attacks.
pub fn retained(incidents: impl IntoIterator<Item = Worth>, most: usize) -> BTreeSet<u64> {
    let mut all: Vec<Worth> = incidents.into_iter().collect();
    all.sort_unstable_by_key(|one| Reverse(one.id));
    let latest = all.iter().take(most / SHARE);
    let attacks = all.iter().filter(|one| one.attack).take(most / SHARE);
    let mut kept: BTreeSet<u64> = latest.chain(attacks).map(|one| one.id).collect();
    all.sort_unstable_by_key(|one| Reverse(*one));
    for one in all {
        if kept.len() >= most {
            break;
        }
        kept.insert(one.id);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use IncidentClass::{ClosedPorts, HandshakeDegraded, RandomSpoofed, Scan};

    /// The numbers that are left of incidents that come one after the other, from number 1 on.
    fn left(classes: impl IntoIterator<Item = (IncidentClass, u64)>) -> Vec<u64> {
        let mut kept: Vec<Worth> = Vec::new();
        for (id, (class, syns)) in (1..).zip(classes) {
            kept.push(Worth::new(id, class, syns));
            let numbers = retained(kept.iter().copied(), 16);
            kept.retain(|one| numbers.contains(&one.id));
        }
        kept.into_iter().map(|one| one.id).collect()
    }

    fn many(class: IncidentClass, syns: u64, count: usize) -> Vec<(IncidentClass, u64)> {
        vec![(class, syns); count]
    }

    #[test]
    fn the_latest_are_kept_where_all_are_alike() {
        assert_eq!(left(many(Scan, 20, 100)), (85..=100).collect::<Vec<u64>>());
        assert_eq!(left(many(RandomSpoofed, 20, 100)), (85..=100).collect::<Vec<u64>>());
    }

    #[test]
    fn scans_push_out_neither_an_attack_nor_a_warning() {
        let scans = many(Scan, 1_000_000, 500);
        let all = [(RandomSpoofed, 100), (HandshakeDegraded, 50)].into_iter().chain(scans);
        let left = left(all);
        assert_eq!(left[..2], [1, 2]);
        assert_eq!((left.len(), left[15]), (16, 502));
    }

    #[test]
    fn many_small_attacks_push_out_no_large_one() {
        for class in [RandomSpoofed, IncidentClass::Evasion, ClosedPorts] {
            let small = many(class, 5_000, 500);
            let left = left([(RandomSpoofed, 5_000_000)].into_iter().chain(small));
            assert_eq!((left[0], left[15]), (1, 501), "{class:?}: {left:?}");
        }
    }

    #[test]
    fn large_old_ones_keep_out_no_news() {
        let old = many(RandomSpoofed, 5_000_000, 100);
        let new = [(RandomSpoofed, 900)].into_iter().chain(many(Scan, 20, 30));
        let left = left(old.into_iter().chain(new));
        assert!(left.contains(&101), "the latest attack, though small: {left:?}");
        assert_eq!(left[12..], [128, 129, 130, 131], "the latest of all: {left:?}");
        assert!(left[..11].iter().all(|id| *id <= 100), "{left:?}");
    }

    #[test]
    fn the_highest_number_is_kept_so_that_none_is_used_twice() {
        let big = many(RandomSpoofed, 5_000_000, 100);
        let left = left(big.into_iter().chain([(Scan, 1)]));
        assert_eq!(left.last(), Some(&101));
    }

    /// A record of a version with room for more, read by one with less.
    #[test]
    fn a_smaller_room_keeps_part_of_what_a_larger_one_keeps() {
        let incidents: Vec<Worth> = (1..=300)
            .map(|id| {
                let class = if id % 3 == 0 { RandomSpoofed } else { Scan };
                Worth::new(id, class, id * 7919 % 1000)
            })
            .collect();
        let (large, small) = (retained(incidents.clone(), 64), retained(incidents.clone(), 32));
        assert_eq!((large.len(), small.len()), (64, 32));
        assert!(small.is_subset(&large));
        let of_large = incidents.into_iter().filter(|one| large.contains(&one.id));
        assert_eq!(retained(of_large, 32), small, "in one step or two");
        assert_eq!(retained([], 64), BTreeSet::new());
    }
}
