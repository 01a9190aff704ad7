//! The local addresses that failed handshakes are for. A listener on the unspecified address has many.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Share of the failed flows from which an address is a victim. Clients lose handshakes at all addresses, but far fewer
/// than a flood leaves. Ten addresses at most have such a share.
const SHARE: f64 = 0.1;
/// Number of addresses that are kept.
const KEPT: usize = 10;

/// The local addresses of the failed flows, by weight.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Victims {
    /// The addresses of most flows, the heaviest first, each with the number of its flows.
    heaviest: Vec<(IpAddr, u64)>,
    /// Number of all flows.
    all: u64,
}

impl Victims {
    /// The addresses with the number of their flows.
    pub fn of(flows: BTreeMap<IpAddr, u64>) -> Self {
        let all = flows.values().sum();
        let mut heaviest: Vec<_> = flows.into_iter().collect();
        heaviest.sort_by_key(|(_, flows)| Reverse(*flows));
        heaviest.truncate(KEPT);
        Self { heaviest, all }
    }

    /// Those of several listeners together.
    pub fn pooled<'a>(parts: impl Iterator<Item = &'a Self>) -> Self {
        let (mut flows, mut all) = (BTreeMap::new(), 0);
        for part in parts {
            all += part.all;
            for (addr, count) in &part.heaviest {
                *flows.entry(*addr).or_default() += count;
            }
        }
        Self { all, ..Self::of(flows) }
    }

    /// The victims with their shares of the failed flows, the largest first.
    pub fn shares(&self) -> impl Iterator<Item = (IpAddr, f64)> {
        let all = self.all.max(1) as f64;
        let shares = self.heaviest.iter().map(move |(addr, flows)| (*addr, *flows as f64 / all));
        shares.filter(|(_, share)| *share >= SHARE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(last: u8) -> IpAddr {
        [203, 0, 113, last].into()
    }

    #[test]
    fn a_victim_gets_a_tenth_of_the_failed_handshakes() {
        let flows = [(1, 10), (2, 60), (3, 21), (4, 9)];
        let victims = Victims::of(flows.map(|(last, flows)| (addr(last), flows)).into());
        let shares: Vec<_> = victims.shares().collect();
        assert_eq!(shares, [(addr(2), 0.6), (addr(3), 0.21), (addr(1), 0.1)]);
        let carpet = Victims::of((0..250).map(|last| (addr(last), 40)).collect());
        assert_eq!(carpet.shares().next(), None, "none is attacked more than others");
        assert_eq!(Victims::default().shares().next(), None);
    }

    #[test]
    fn listeners_are_pooled_by_address() {
        let of = |last, flows| Victims::of(BTreeMap::from([(addr(last), flows)]));
        let pooled = Victims::pooled([&of(1, 10), &of(2, 60), &of(1, 30)].into_iter());
        assert_eq!(pooled.shares().collect::<Vec<_>>(), [(addr(2), 0.6), (addr(1), 0.4)]);
    }
}
