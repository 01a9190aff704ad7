//! The failed flows of several listeners, as if they had come to one.
//!
//! A carpet brings few SYNs to each of many listeners, and a few say little. One fingerprint and one TTL at
//! hundreds of listeners say more than at any of them.

use super::assess::Assessment;
use super::class::StoppedBy;
use super::cohort::{Cohort, EXAMINED, Failing};
use super::retransmissions::are_retransmitted_more;
use super::signature::{Candidate, FINGERPRINT_SHARE};
use super::verdict::SINGLE_SOURCE_SHARE;
use super::victims::Victims;
use crate::input::one_in;

impl Cohort {
    /// The failed and completed handshakes of several listeners.
    pub fn pooled<'a>(cohorts: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let victims = Victims::pooled(cohorts.clone().map(|cohort| &cohort.victims));
        let mut pool = Self { victims, ..Self::default() };
        for cohort in cohorts {
            pool.failing.extend_from_slice(&cohort.failing);
            pool.completed.extend_from_slice(&cohort.completed);
            pool.span = pool.span.max(cohort.span);
            pool.judged = pool.judged.max(cohort.judged);
        }
        let step = pool.failing.len().div_ceil(EXAMINED);
        if step > 1 {
            let drawn = one_in(step, pool.failing.iter());
            let thinned = drawn.map(|flow| Failing { weight: flow.weight * step as u64, ..*flow });
            pool.failing = thinned.collect();
        }
        pool
    }
}

/// Share of the flows that are so, by weight.
fn share(cohort: &Cohort, is: impl Fn(&Failing) -> bool) -> f64 {
    let like_it = cohort.failing.iter().filter(|flow| is(flow));
    let weight: u64 = like_it.map(|flow| flow.weight).sum();
    weight as f64 / cohort.weight().max(1) as f64
}

fn has_look_of(tool: &Candidate, cohort: &Cohort) -> bool {
    share(cohort, |flow| flow.print.masked(tool.mask) == tool.print) >= FINGERPRINT_SHARE
}

impl Assessment {
    fn tool(&self) -> Option<&Candidate> {
        self.signature.as_ref().filter(|look| look.is_a_tools())
    }

    /// Returns whether the flood of `own`, which is the verdict on these flows of one listener, is that of several
    /// listeners: it has the same tool, or neither has one.
    pub fn is_that_of(&self, own: &Self, cohort: &Cohort) -> bool {
        self.speaks_for(cohort) == Some(true)
            && self.tool().map_or(own.tool().is_none(), |tool| has_look_of(tool, cohort))
    }

    /// Returns whether this verdict on the flows of several listeners is one on the flows of this listener among
    /// them. Its flows have the fingerprint of the tool that the verdict found. Or they come from the few
    /// sources that it found. Or, where SYNs have nothing in common, they are known to be retransmitted no
    /// more than those of all. The clients of a listener with a path that breaks meanwhile fit none of these.
    /// `None` while it is not known whether they are retransmitted.
    ///
    /// [`Self::is_that_of`] is stricter.
    pub fn speaks_for(&self, cohort: &Cohort) -> Option<bool> {
        if !self.class.is_flood() || cohort.failing.is_empty() {
            return Some(false);
        }
        if self.tool().is_some_and(|tool| has_look_of(tool, cohort)) {
            return Some(true);
        }
        // A share alone decides nothing: a flood may have it at all of them.
        let elsewhere = self.evidence.retransmitted_share.unwrap_or(0.0);
        if are_retransmitted_more(&cohort.failing, elsewhere)? {
            return Some(false);
        }
        Some(match self.class.facts().stopped_by {
            StoppedBy::Sources => {
                let networks = &self.evidence.top_networks;
                let from_there = |flow: &Failing| {
                    networks.iter().any(|network| network.net.contains(&flow.addr))
                };
                share(cohort, from_there) >= SINGLE_SOURCE_SHARE
            }
            _ => true,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use tcpguard_common::abi::Fingerprint;

    use super::super::assess::{Background, assess};
    use super::super::class::IncidentClass;
    use super::*;
    use crate::listener::Clients;

    /// Flows at listener `number`, each from another source, with this window; whether their SYNs were
    /// retransmitted.
    fn at(number: u32, flows: u32, window: u16, retransmitted: Option<bool>) -> Cohort {
        let print = Fingerprint { window, ttl: 244, ..Fingerprint::default() };
        let flow = |place: u32| {
            let addr = Ipv4Addr::from_bits((number * 1000 + place).wrapping_mul(0x9e37_79b1));
            Failing { print, retransmitted, unfinished: true, ..Failing::once(addr.into()) }
        };
        let span = Duration::from_secs(number.into());
        Cohort { failing: (0..flows).map(flow).collect(), span, ..Cohort::default() }
    }

    fn verdict(cohorts: &[Cohort]) -> Assessment {
        let pool = Cohort::pooled(cohorts.iter());
        assess(&pool, &Clients::default(), Background::default())
    }

    #[test]
    fn what_says_too_little_at_each_listener_says_it_together() {
        let each: Vec<Cohort> = (1..=20).map(|number| at(number, 12, 512, None)).collect();
        assert_eq!(verdict(&each[..1]).class, IncidentClass::HandshakeDegraded);
        let all = verdict(&each);
        assert_eq!(all.class, IncidentClass::RandomSpoofed, "{:?}", all.lines);
        assert!(each.iter().all(|cohort| all.speaks_for(cohort) == Some(true)));
        let pool = Cohort::pooled(each.iter());
        assert_eq!((pool.failing.len(), pool.span), (240, Duration::from_secs(20)));
    }

    #[test]
    fn of_too_many_flows_a_part_stands_for_all() {
        let each: Vec<Cohort> = (1..=100).map(|number| at(number, 500, 512, None)).collect();
        let pool = Cohort::pooled(each.iter());
        assert!(pool.failing.len() <= EXAMINED, "{}", pool.failing.len());
        let off = pool.weight().abs_diff(50_000);
        assert!(off < 10, "{}", pool.weight());
    }

    #[test]
    fn clients_whose_path_breaks_beside_a_flood_are_not_what_the_flood_is() {
        let flood: Vec<Cohort> = (1..=20).map(|number| at(number, 12, 512, Some(false))).collect();
        let all = verdict(&flood);
        assert!(all.class.is_flood());
        for retransmitted in [None, Some(true), Some(false)] {
            let others = at(77, 20, 64_240, retransmitted);
            let is_flood = retransmitted.map(|retransmitted| !retransmitted);
            assert_eq!(all.speaks_for(&others), is_flood, "{retransmitted:?}");
        }
        assert_eq!(all.speaks_for(&Cohort::default()), Some(false));
    }

    /// The naive way takes each listener for one with failing clients: they retransmit no less.
    #[test]
    fn a_flood_that_retransmits_a_share_of_its_syns_is_the_same_at_each_listener() {
        let retransmitted = |share: usize| {
            let mut cohort = at(77, 50, 64_240, Some(false));
            cohort
                .failing
                .iter_mut()
                .take(share / 2)
                .for_each(|flow| flow.retransmitted = Some(true));
            cohort
        };
        let mut all = verdict(&[at(1, 200, 512, Some(false))]);
        // Known by something else than a fingerprint.
        all.signature = None;
        all.evidence.retransmitted_share = Some(0.36);
        for (share, speaks) in [(36, true), (44, true), (80, false), (100, false)] {
            let speaks = Some(speaks);
            assert_eq!(all.speaks_for(&retransmitted(share)), speaks, "{share} %");
        }
        // In a pool without retransmissions the same share is clients'.
        all.evidence.retransmitted_share = Some(0.0);
        assert_eq!(all.speaks_for(&retransmitted(36)), Some(false));
    }
}
