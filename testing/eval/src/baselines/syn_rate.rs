//! A threshold on the rate of SYNs, as common tools ship it.

use tcpguard_sim::Tick;

use super::Detector;
use super::interval::Intervals;

/// SYNs a second above which a host is a victim. Verified: the default of ntopng's `syn_flood_victim`
/// script (`scripts/plugins/alerts/security/syn_flood/user_scripts/host/syn_flood_victim.lua`, "gt
/// 256", in SYN/s). An older default was 50.
const THRESHOLD: f64 = 256.0;
/// Seconds over which they are counted.
const INTERVAL: u32 = 1;

/// Alarmed while the last whole second held more than 256 SYNs.
///
/// ntopng evaluates the script once a minute; here it is judged every second, which serves it better.
#[derive(Clone, Debug)]
pub struct SynRate {
    seconds: Intervals,
    alarmed: bool,
}

impl Default for SynRate {
    fn default() -> Self {
        Self { seconds: Intervals::of(INTERVAL), alarmed: false }
    }
}

impl Detector for SynRate {
    fn name(&self) -> &'static str {
        "SYN rate"
    }

    fn tick(&mut self, tick: &Tick) -> bool {
        if let Some(sums) = self.seconds.add(tick) {
            self.alarmed = sums.syn > THRESHOLD;
        }
        self.alarmed
    }

    fn warm_up(&self) -> f64 {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::traffic::{Rates, alarms, first_alarm};
    use super::*;

    #[test]
    fn the_first_second_above_the_threshold_alarms_and_the_first_below_ends_it() {
        let mut detector = SynRate::default();
        let at = |syn| Rates { syn, ..Rates::default() };
        assert_eq!(alarms(&mut detector, 600.0, &at(256)), 0);
        assert_eq!(first_alarm(&mut detector, 10.0, &at(260)), Some(1.0));
        assert_eq!(alarms(&mut detector, 10.0, &at(256)), 3, "until its second is over");
    }

    #[test]
    fn clients_are_a_flood_when_they_are_many() {
        let crowd = Rates::calm(300);
        assert_eq!(first_alarm(&mut SynRate::default(), 10.0, &crowd), Some(1.0));
    }
}
