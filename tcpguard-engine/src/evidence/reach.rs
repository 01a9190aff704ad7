//! Share of the SYNs of failed handshakes that claim to come from addresses that no reply reaches.
//!
//! No host has a martian address. No client has an address that belongs to the link and to no neighbour, or
//! that lies behind an interface by which no client is answered. It costs an attacker nothing to spoof such
//! sources. So it is a sign that SYNs are spoofed and no more: nothing is dropped on its account.

use super::cohort::Cohort;
use super::measured::{Measured, Quantity};
use crate::input::{Routes, is_martian};

/// Share of the failed flows from martian addresses that is no chance. No client has one, and of those that are
/// drawn from all of IPv4 18 in 256 are martian: half of that.
const MARTIAN: f64 = 9.0 / 256.0;
/// Share of them to which no route of a client leads back. Clients with a broken way back are among the
/// failed ones as well: below half these may be most of them.
const UNREACHABLE: f64 = 0.5;

/// Share of the failed sources that no reply reaches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach {
    /// True if the share is too large for clients.
    pub unreachable: bool,
    /// Share of martian addresses.
    martian: f64,
    /// Share of a sample of sources by their routes; `None` where no source was asked about.
    astray: Option<f64>,
}

impl Reach {
    /// Computes the share for the failed flows. `routes` are the routes of a sample of them. Fewer than
    /// `enough` are no evidence.
    pub fn of(cohort: &Cohort, routes: Option<&Routes>, enough: usize) -> Self {
        let martian = cohort.failing.iter().filter(|flow| is_martian(flow.addr));
        let martian = martian.map(|flow| flow.weight).sum::<u64>() as f64;
        let martian = martian / cohort.weight().max(1) as f64;
        let astray = routes.map(|routes| routes.unreachable);
        let many = martian >= MARTIAN || astray.is_some_and(|share| share >= UNREACHABLE);
        Self { unreachable: many && cohort.failing.len() >= enough, martian, astray }
    }

    /// The shares, of which one must reach its limit.
    pub fn measured(&self) -> Vec<Measured> {
        let martian = Quantity::MartianShare.is(self.martian).at_least(MARTIAN);
        let astray = self.astray.map(|share| Quantity::UnreachableShare.is(share));
        let astray = astray.map(|share| share.at_least(UNREACHABLE));
        [martian].into_iter().chain(astray).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::super::cohort::Failing;
    use super::*;

    /// Returns `flows` failed flows, of which the first `martian` are from martian addresses.
    fn cohort(flows: u32, martian: u32) -> Cohort {
        let failing = (0..flows).map(|number| {
            let first = if number < martian { 224 } else { 198 };
            Failing::once(IpAddr::from(Ipv4Addr::from_bits(first << 24 | number)))
        });
        Cohort { failing: failing.collect(), ..Cohort::default() }
    }

    #[test]
    fn martian_sources_are_spoofed_and_a_few_unreachable_ones_need_not_be() {
        let astray = |unreachable| Routes { unreachable, ..Routes::default() };
        for (flows, martian, routes, unreachable) in [
            (1000, 70, None, true),
            (1000, 35, None, false),
            (47, 47, None, false),
            (1000, 0, Some(astray(1.0)), true),
            (1000, 0, Some(astray(0.4)), false),
            (1000, 0, Some(astray(0.0)), false),
        ] {
            let reach = Reach::of(&cohort(flows, martian), routes.as_ref(), 48);
            assert_eq!(reach.unreachable, unreachable, "{flows} {martian} {routes:?}");
        }
    }
}
