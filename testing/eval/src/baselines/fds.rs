//! FDS: a CUSUM over SYN–FIN pairs.

use std::collections::VecDeque;

use tcpguard_sim::Tick;

use super::interval::Intervals;
use super::pairs::{ALPHA, PERIOD, Pairs};
use super::{Detector, TICKS};

/// Share of arriving resets that end a connection instead of refusing one ("active" resets), which
/// count as FINs. As commonly cited.
const ACTIVE: f64 = 0.75;
/// Delay of the period in which FINs are counted after that of the SYNs, in s: a connection lasts.
/// As commonly cited.
const LAG: u32 = 10;

/// The flooding detection system of Wang, Zhang and Shin, "Detecting SYN Flooding Attacks", INFOCOM
/// 2002, pp. 1530–1539: the CUSUM of `pairs` with the FINs of clients as partners of their SYNs.
///
/// The abstract of its successor ("Change-Point Monitoring for Detection of DoS Attacks") confirms that it is a
/// non-parametric CUSUM. A public re-implementation that names the paper (packter's `pt_thmon`) confirms that it pairs
/// SYNs with FINs and resets. The normalisation, `t0` = 20 s, `a` = 0.35, `N` = 1.05, the 10 s and the share of resets
/// are as commonly cited. The sum is reset by nothing but calm: after a flood of `X` for `n` periods the alarm goes on
/// for about `n·(X − a)/a` further ones. That is kept.
#[derive(Clone, Debug)]
pub struct Fds {
    periods: Intervals,
    /// SYNs of the ticks that wait for their FINs.
    waiting: VecDeque<u64>,
    pairs: Pairs,
    alarmed: bool,
}

impl Default for Fds {
    fn default() -> Self {
        Self::new(ALPHA, LAG)
    }
}

impl Fds {
    /// Returns a detector with this `α` that counts FINs `lag` seconds after SYNs.
    pub fn new(alpha: f64, lag: u32) -> Self {
        let waiting = std::iter::repeat_n(0, (lag * TICKS) as usize).collect();
        let pairs = Pairs::new(alpha);
        Self { periods: Intervals::of(PERIOD), waiting, pairs, alarmed: false }
    }
}

impl Detector for Fds {
    fn name(&self) -> &'static str {
        "FDS"
    }

    fn tick(&mut self, tick: &Tick) -> bool {
        self.waiting.push_back(tick.syn);
        let syn = self.waiting.pop_front().unwrap_or_default();
        if let Some(sums) = self.periods.add(&Tick { syn, ..*tick }) {
            self.alarmed = self.pairs.period(sums.syn, sums.fin + ACTIVE * sums.rst);
        }
        self.alarmed
    }

    fn warm_up(&self) -> f64 {
        f64::from(PERIOD)
    }
}

#[cfg(test)]
mod tests {
    use super::super::pairs::{CALM, THRESHOLD};
    use super::super::traffic::{Rates, alarms, first_alarm};
    use super::*;

    /// 600 s of calm, and then it sees `attack` for ten minutes.
    fn after_calm(mut fds: Fds, calm: &Rates, attack: &Rates) -> Option<f64> {
        assert_eq!(alarms(&mut fds, 600.0, calm), 0);
        first_alarm(&mut fds, 600.0, attack)
    }

    #[test]
    fn the_flood_that_it_is_laid_out_for_is_found_within_three_to_four_periods() {
        let calm = Rates::calm(200);
        let attack = Rates { syn: calm.syn + 144, ..calm };
        for alpha in [0.5, 0.9, 0.98] {
            for lag in [0, LAG] {
                let found = after_calm(Fds::new(alpha, lag), &calm, &attack).unwrap();
                let period = f64::from(PERIOD);
                assert!((3.0 * period..=4.0 * period).contains(&found), "{alpha} {lag}: {found}");
            }
        }
    }

    #[test]
    fn a_large_flood_takes_one_period_and_what_it_waits_for_fins() {
        let calm = Rates::calm(200);
        let attack = Rates { syn: 5000, ..calm };
        assert_eq!(after_calm(Fds::default(), &calm, &attack), Some(20.0));
        assert_eq!(after_calm(Fds::new(ALPHA, 0), &calm, &attack), Some(20.0));
    }

    #[test]
    fn below_a_third_of_the_clients_nothing_is_ever_found() {
        let calm = Rates::calm(200);
        let attack = Rates { syn: calm.syn + 68, ..calm };
        assert_eq!(after_calm(Fds::default(), &calm, &attack), None);
    }

    #[test]
    fn an_attacker_that_sends_fins_too_is_not_detected() {
        let calm = Rates::calm(200);
        let attack = Rates { syn: 5000, fin: 4900, ..calm };
        assert_eq!(after_calm(Fds::default(), &calm, &attack), None);
    }

    #[test]
    fn clients_that_stay_look_like_a_flood() {
        let calm = Rates::calm(200);
        let crowd = Rates { syn: 2000, syn_ack: 2000, ..calm };
        assert!(after_calm(Fds::default(), &calm, &crowd).is_some());
    }

    /// `n·(X − a)` piled up, and `a` a period goes.
    #[test]
    fn the_alarm_outlasts_the_flood_by_its_size() {
        let calm = Rates::calm(200);
        let mut fds = Fds::new(ALPHA, 0);
        alarms(&mut fds, 600.0, &calm);
        alarms(&mut fds, 60.0, &Rates { syn: 2200, ..calm });
        let piled = 3.0 * (10.0 - CALM);
        let periods = ((piled - THRESHOLD) / CALM).ceil();
        let after = alarms(&mut fds, 7200.0, &calm);
        let expected = periods * f64::from(PERIOD * TICKS);
        let error = f64::from(after) - expected;
        assert!(error.abs() <= f64::from(PERIOD * TICKS), "{after} ticks, {expected} expected");
    }
}
