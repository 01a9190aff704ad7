//! Evidence from retransmissions: those of clients have the timing of a kernel.
//!
//! A client's kernel retransmits a SYN after 1, 3 and 7 s (RFC 6298 §2.1, §5.5). To retransmit a share of the
//! SYNs costs an attacker no more than that share of the rate, so a share alone proves nothing. But no more
//! clients behind a broken path can give up than arrive. Where more flows are given up, it is a flood, whatever
//! else is retransmitted.

use super::assess::Background;
use super::cohort::{Cohort, Failing, Silent};
use super::measured::{Measured, Quantity};
use super::missing::Missing;
use crate::input::constants;

constants! {
    /// Share of retransmitted SYNs among the failed handshakes up to which no real clients are behind
    /// them.
    pub(crate) const RETRANSMIT_SHARE: f64 = 0.35 Share in 0.05..=0.9,
        "Weighed against clients with a broken path, nearly all of which retransmit, and against \
         those that give up in the middle of a flood.";
}

/// Flows from which the share of retransmitted SYNs means anything. Of as many clients, four in five of which
/// retransmit, 35 % or fewer do by chance once in 30,000 times (binomial).
const JUDGED_MIN: usize = 16;
/// By so many standard deviations shares of two listeners differ by chance once in 44 times (one side of a normal
/// distribution).
const CHANCE: f64 = 2.0;

/// Statistics of the retransmissions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Retransmissions {
    /// Share of retransmitted SYNs among the judged flows; `None` while it is too early to say.
    pub share: Option<f64>,
    /// Only flows were judged of which any client would have retransmitted the SYN by now.
    pub aged: bool,
    /// Failed handshakes a second that do not go on as those of a client would, where they are more than
    /// clients could begin, although a share of SYNs is retransmitted.
    pub deserted: Option<f64>,
    /// True if the retransmissions that clients would send are missing; `None` while it is too early to say.
    pub missing: Option<bool>,
}

impl Retransmissions {
    /// Judges failed flows. Those that are `spoofed` by another mark are no clients with a timeout of 3 s.
    pub fn of(cohort: &Cohort, background: &Background, spoofed: bool) -> Self {
        let is_low = |share: f64| share <= RETRANSMIT_SHARE;
        let share = retransmitted_share(&cohort.failing);
        if share.is_some_and(is_low) && background.clients_missing > Missing::No && !spoofed {
            let share = retransmitted_share(cohort.failing.iter().filter(|flow| flow.aged));
            return Self { share, aged: true, deserted: None, missing: share.map(is_low) };
        }
        let surge = &background.surge;
        let Silent { not_retransmitted, given_up } = cohort.silent_rates();
        let deserted = if surge.exceeds_flash_crowd(not_retransmitted, RETRANSMIT_SHARE) {
            Some(not_retransmitted)
        } else {
            surge.exceeds_flash_crowd(given_up, 1.0).then_some(given_up)
        };
        let deserted = deserted.filter(|_| share.is_some_and(|share| !is_low(share)));
        let missing = share.map(|share| is_low(share) || deserted.is_some());
        Self { share, aged: false, deserted, missing }
    }

    /// The share with the limit that SYNs without retransmissions need, and the rate that speaks against clients
    /// although the share does not.
    pub fn measured(&self) -> Vec<Measured> {
        let share = Quantity::RetransmittedShare.maybe(self.share).at_most(RETRANSMIT_SHARE);
        let abandoned = self.deserted.map(|rate| Quantity::AbandonedRate.is(rate));
        [share].into_iter().chain(abandoned).collect()
    }
}

/// Share of retransmitted SYNs among the judged flows; `None` while those are too few.
pub(crate) fn retransmitted_share<'a>(
    failing: impl IntoIterator<Item = &'a Failing>,
) -> Option<f64> {
    let judged: Vec<(bool, u64)> = failing
        .into_iter()
        .filter_map(|flow| flow.retransmitted.map(|retransmitted| (retransmitted, flow.weight)))
        .collect();
    if judged.len() < JUDGED_MIN {
        return None;
    }
    let all: u64 = judged.iter().map(|(_, weight)| weight).sum();
    let retransmitted: u64 =
        judged.iter().filter(|(retransmitted, _)| *retransmitted).map(|(_, w)| w).sum();
    Some(retransmitted as f64 / all as f64)
}

/// Returns whether the share of these flows with a retransmitted SYN exceeds that `elsewhere` beyond chance, and is as high as
/// that of clients; `None` while they are too few to say.
pub(super) fn are_retransmitted_more(failing: &[Failing], elsewhere: f64) -> Option<bool> {
    let share = retransmitted_share(failing)?;
    let judged = failing.iter().filter(|flow| flow.retransmitted.is_some()).count();
    let deviation = (elsewhere * (1.0 - elsewhere) / judged as f64).sqrt();
    Some(share > RETRANSMIT_SHARE && share - elsewhere > CHANCE * deviation)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::super::surge::Surge;
    use super::*;
    use crate::listener::Sums;

    /// `rate` flows a second for 4 s. The SYNs of `retransmitted` of them were retransmitted, and `given_up` of these were
    /// given up.
    fn cohort(rate: u32, retransmitted: u32, given_up: u32) -> Cohort {
        let flow = |number: u32| Failing {
            retransmitted: Some(number < 4 * retransmitted),
            aged: true,
            given_up: number >= 4 * retransmitted || number < 4 * given_up,
            ..Failing::once(Ipv4Addr::from_bits(0xc612_0000 + number).into())
        };
        let failing = (0..4 * rate).map(flow).collect();
        Cohort { failing, judged: Duration::from_secs(4), ..Cohort::default() }
    }

    fn background(baseline: Option<f64>) -> Background {
        let sums = [Sums::default(); Surge::LASTING];
        let surge = Surge::of(&sums, baseline);
        Background { surge, ..Background::default() }
    }

    #[test]
    fn a_retransmitted_share_makes_no_clients_of_more_than_there_are() {
        let of =
            |cohort: &Cohort, baseline| Retransmissions::of(cohort, &background(baseline), false);
        for (rate, retransmitted, given_up, baseline, missing) in [
            // Next to none is.
            (500, 20, 0, Some(100.0), true),
            // A flood that retransmits two in five.
            (500, 200, 0, Some(100.0), true),
            // Clients, some of whom have short timeouts.
            (150, 60, 0, Some(100.0), false),
            (500, 200, 0, None, false),
            // A flood that retransmits each SYN once, and clients of which some give up.
            (1000, 1000, 1000, Some(100.0), true),
            (150, 150, 150, Some(100.0), false),
        ] {
            let retransmissions = of(&cohort(rate, retransmitted, given_up), baseline);
            assert_eq!(
                retransmissions.missing,
                Some(missing),
                "{rate} {retransmitted} {given_up} {retransmissions:?}"
            );
        }
        let flood = of(&cohort(500, 200, 0), Some(100.0));
        assert_eq!(
            flood.measured(),
            [
                Quantity::RetransmittedShare.is(0.4).at_most(RETRANSMIT_SHARE),
                Quantity::AbandonedRate.is(300.0)
            ]
        );
        assert_eq!(of(&cohort(3, 0, 0), Some(100.0)), Retransmissions::default(), "12 flows");
    }

    /// The naive way calls them silent after 1.5 s.
    #[test]
    fn clients_whose_first_timeout_is_three_seconds_are_waited_for() {
        let young = |aged| {
            let failing = cohort(50, 0, 0).failing;
            let failing = failing.into_iter().map(|flow| Failing { aged, ..flow }).collect();
            Cohort { failing, judged: Duration::from_secs(1), ..Cohort::default() }
        };
        let missing = Background { clients_missing: Missing::Perhaps, ..background(Some(50.0)) };
        let waits = Retransmissions { aged: true, ..Retransmissions::default() };
        assert_eq!(Retransmissions::of(&young(false), &missing, false), waits);
        let of = |cohort: &Cohort, background: &Background, spoofed| {
            Retransmissions::of(cohort, background, spoofed).missing
        };
        assert_eq!(of(&young(true), &missing, false), Some(true), "nor after 3.5 s");
        assert_eq!(of(&young(false), &missing, true), Some(true), "a tool sent them");
        assert_eq!(of(&young(false), &background(Some(50.0)), false), Some(true), "all are here");
    }

    #[test]
    fn a_source_that_retransmits_as_much_as_the_others_is_one_of_them() {
        let more = |retransmitted, elsewhere| {
            let failing = cohort(10, retransmitted, 0).failing;
            are_retransmitted_more(&failing, elsewhere)
        };
        assert_eq!(more(3, 0.0), Some(false), "30 %: no client's share");
        assert_eq!(more(4, 0.0), Some(true), "nobody else does");
        assert_eq!(more(4, 0.36), Some(false), "as of the others, who are a flood");
        assert_eq!(more(5, 0.36), Some(false), "by chance");
        assert_eq!(more(9, 0.36), Some(true));
        assert_eq!(more(10, 1.0), Some(false));
        assert_eq!(are_retransmitted_more(&cohort(3, 3, 0).failing, 0.0), None);
    }
}
