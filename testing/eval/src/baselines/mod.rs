//! Published detectors, to stand beside this one in the same table.
//!
//! Each is written down from its published formula, and is fed the same ticks of the same listener as
//! the engine is. Where a source leaves something open the choice that serves the method better was
//! taken, and is named. Two kinds of parameters are distinguished: *verified* ones stand in a public
//! source that is named, the others are *as commonly cited* and were not checked against the paper.

mod fds;
mod interval;
mod mean;
mod pairs;
mod siris_cusum;
mod siris_threshold;
mod syn_dog;
mod syn_rate;
#[cfg(test)]
mod traffic;

pub use fds::Fds;
pub use siris_cusum::SirisCusum;
pub use siris_threshold::SirisThreshold;
pub use syn_dog::SynDog;
pub use syn_rate::SynRate;

use tcpguard_sim::Tick;

/// Ticks in a second.
const TICKS: u32 = 4;

/// A detector of one listener's floods.
pub trait Detector {
    /// Name in the table.
    fn name(&self) -> &'static str;

    /// Shows it one tick of 0.25 s; whether it is alarmed now.
    fn tick(&mut self, tick: &Tick) -> bool;

    /// Seconds of traffic that it needs before the interval that can raise its first alarm. Of less
    /// than this it says nothing.
    fn warm_up(&self) -> f64;

    /// Returns whether it counts answers to SYNs, and so says nothing about a capture without any.
    fn counts_answers(&self) -> bool {
        false
    }
}

/// One of each, before its first tick.
pub fn all() -> Vec<Box<dyn Detector>> {
    vec![
        Box::<SynRate>::default(),
        Box::<Fds>::default(),
        Box::<SirisThreshold>::default(),
        Box::<SirisCusum>::default(),
        Box::<SynDog>::default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::traffic::{Rates, alarms, first_alarm};
    use super::*;

    /// A flood of ten times the baseline, unanswered: the case that each detector was made for.
    #[test]
    fn each_finds_the_flood_that_it_was_made_for_and_nothing_before() {
        for mut detector in all() {
            let name = detector.name();
            let calm = Rates::calm(200);
            assert_eq!(alarms(detector.as_mut(), 1200.0, &calm), 0, "{name}");
            let flood = Rates { syn: 2200, ..calm };
            let found = first_alarm(detector.as_mut(), 120.0, &flood);
            assert!(found.is_some_and(|after| after <= 60.0), "{name}: {found:?}");
        }
    }

    #[test]
    fn none_alarms_where_nothing_happens() {
        for mut detector in all() {
            assert_eq!(
                alarms(detector.as_mut(), 1200.0, &Rates::default()),
                0,
                "{}",
                detector.name()
            );
        }
    }

    #[test]
    fn warm_up_is_what_comes_before_the_first_interval_that_can_alarm() {
        let flood = Rates { syn: 20_000, ..Rates::default() };
        for mut detector in all() {
            let (name, warm_up) = (detector.name(), detector.warm_up());
            assert_eq!(alarms(detector.as_mut(), warm_up, &flood), 0, "{name}");
        }
        for mut detector in all() {
            let (name, warm_up) = (detector.name(), detector.warm_up());
            let calm = (warm_up / 10.0) as u32;
            // Eight times as much every ten seconds, so that the last interval always stands out.
            let found = (0..calm + 2).find_map(|n| {
                let rates =
                    Rates { syn: 200 << (3 * (n + 4).saturating_sub(calm)), ..Rates::default() };
                let after = first_alarm(detector.as_mut(), 10.0, &rates)?;
                Some(after + f64::from(n) * 10.0)
            });
            let in_time = |after| after > warm_up && after <= warm_up + 20.0;
            assert!(found.is_some_and(in_time), "{name}: {found:?}");
        }
    }
}
