//! The numbers by which a signal raised an alarm.

use super::measured::{Measured, Quantity};
use super::report::Evidence;
use crate::listener::{
    FAST_POLLS, FAST_SHARE, FLASH_CROWD_FACTOR, FLASH_CROWD_FLOOR, FLASH_CROWD_SERVED, Moment,
    Signal,
};
use crate::settings::Settings;

/// The numbers of an alarm with their limits. `moment` is that of the alarm, where a listener raised it.
/// `evidence` is the result of the first inspection.
pub(crate) fn alarm(
    signal: Signal,
    moment: Option<&Moment>,
    evidence: &Evidence,
    settings: &Settings,
) -> Vec<Measured> {
    let known = moment.copied().unwrap_or_default();
    let now = &known.statistics;
    match signal {
        Signal::Fast => {
            let share = now.fast_failures as f64 / now.fast_attempts.max(1) as f64;
            vec![
                Quantity::AttemptedHandshakes.counts(now.fast_attempts),
                Quantity::FailedHandshakes
                    .counts(now.fast_failures)
                    .at_least(settings.fast_failures as f64),
                Quantity::FailedShare.is(share).at_least(FAST_SHARE),
                Quantity::Polls.is(now.fast_polls.into()).at_least(FAST_POLLS.into()),
            ]
        }
        Signal::Slow => vec![
            Quantity::CumulativeSum.is(now.cusum).at_least(now.cusum_limit),
            Quantity::NaturalShare.is(now.natural_share),
            Quantity::NaturalRate.is(now.natural_rate),
            Quantity::Dispersion.is(now.dispersion),
        ],
        Signal::Occupancy => {
            let held = now.occupancy.map_or(Quantity::SynQueueSlots.maybe(None), |queue| {
                let least =
                    f64::from(queue.half_open).min(queue.of_a_minute).min(queue.going_on).max(0.0);
                Quantity::SynQueueSlots.is(least).at_least(queue.limit)
            });
            vec![held]
        }
        Signal::AcceptQueue => {
            let queue = known.accept_queue.zip(known.queue_limit).map(|(waiting, limit)| {
                Quantity::AcceptQueue.is(waiting.into()).at_least(limit.into())
            });
            queue.into_iter().collect()
        }
        Signal::SynRate => {
            let limit = (FLASH_CROWD_FACTOR * now.baseline_syn_rate).max(FLASH_CROWD_FLOOR);
            vec![
                Quantity::SynRate.is(known.rates.syn_pps).above(limit),
                Quantity::BaselineSynRate.is(now.baseline_syn_rate),
                Quantity::CompletedShare.is(evidence.completion).at_least(FLASH_CROWD_SERVED),
            ]
        }
        // The class list has them.
        Signal::Host => Vec::new(),
    }
}
