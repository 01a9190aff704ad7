//! SYN-dog: a CUSUM over SYN–SYN-ACK pairs.

use tcpguard_sim::Tick;

use super::Detector;
use super::interval::Intervals;
use super::pairs::{ALPHA, PERIOD, Pairs};

/// SYN-dog of Wang, Zhang and Shin, "SYN-dog: Sniffing SYN Flooding Sources", ICDCS 2002: the CUSUM of
/// `pairs` with the answers to SYNs as their partners. It stands for every detector that compares the
/// two counts.
///
/// Verified (abstract): it is a non-parametric CUSUM over SYN–SYN-ACK pairs. Commonly cited: its parameters are those
/// of FDS. It was made for the attacker's network, where a victim's silence is the symptom. At the victim itself a SYN
/// cookie, and any reply from a queue that is not full, pairs with a spoofed SYN too: there it sees a flood only once
/// the host no longer replies.
#[derive(Clone, Debug)]
pub struct SynDog {
    periods: Intervals,
    pairs: Pairs,
    alarmed: bool,
}

impl Default for SynDog {
    fn default() -> Self {
        Self { periods: Intervals::of(PERIOD), pairs: Pairs::new(ALPHA), alarmed: false }
    }
}

impl Detector for SynDog {
    fn name(&self) -> &'static str {
        "SYN-dog"
    }

    fn tick(&mut self, tick: &Tick) -> bool {
        if let Some(sums) = self.periods.add(tick) {
            self.alarmed = self.pairs.period(sums.syn, sums.syn_ack);
        }
        self.alarmed
    }

    fn warm_up(&self) -> f64 {
        f64::from(PERIOD)
    }

    fn counts_answers(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::traffic::{Rates, alarms, first_alarm};
    use super::*;

    fn after_calm(attack: &Rates) -> Option<f64> {
        let mut dog = SynDog::default();
        assert_eq!(alarms(&mut dog, 600.0, &Rates::calm(200)), 0);
        first_alarm(&mut dog, 600.0, attack)
    }

    #[test]
    fn a_flood_that_is_not_answered_is_found_as_fds_finds_it() {
        let calm = Rates::calm(200);
        assert_eq!(after_calm(&Rates { syn: 5200, ..calm }), Some(20.0));
        let slow = after_calm(&Rates { syn: calm.syn + 144, ..calm }).unwrap();
        assert!((60.0..=80.0).contains(&slow), "{slow}");
    }

    #[test]
    fn a_flood_that_cookies_answer_is_never_found() {
        let calm = Rates::calm(200);
        assert_eq!(after_calm(&Rates { syn: 100_200, syn_ack: 100_200, ..calm }), None);
    }

    #[test]
    fn a_crowd_that_is_answered_is_no_flood() {
        let calm = Rates::calm(200);
        assert_eq!(after_calm(&Rates { syn: 4000, syn_ack: 4000, ..calm }), None);
    }
}
