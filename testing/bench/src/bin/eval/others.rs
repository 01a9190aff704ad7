//! Alarms of other detectors about a listener of a live run.
//!
//! The detectors learn for minutes, and a live run lasts seconds. The calm before the event is played to them
//! over and over, and then the ticks of the listener since the event.

use std::ops::Range;

use tcpguard_eval::baselines;
use tcpguard_eval::judge::Spans;
use tcpguard_eval::mixes::WARM_UP;
use tcpguard_sim::{POLL, Tick};

/// Time of each detector's first alarm about the ticks after `calm`, in s since the end of the calm. `calm`
/// is in s since boot. `phase` (s) is additional calm that the detectors have seen. They look at intervals of
/// up to 20 s, and none of these must begin with the event every time.
pub fn alarms(ticks: &[Tick], calm: Range<f64>, phase: f64) -> Vec<Option<f64>> {
    let before: Vec<&Tick> = ticks.iter().filter(|tick| calm.contains(&tick.at)).collect();
    let since: Vec<&Tick> = ticks.iter().filter(|tick| tick.at >= calm.end).collect();
    let learned = ((WARM_UP + phase) / POLL.as_secs_f64()) as usize;
    let mut detectors = baselines::all();
    let alarm = |detector: &mut Box<dyn baselines::Detector>| {
        let mut spans = Spans::default();
        for tick in before.iter().cycle().take(learned) {
            spans.note(f64::NEG_INFINITY, detector.tick(tick));
        }
        for tick in &since {
            spans.note(tick.at, detector.tick(tick));
        }
        spans.first_since(calm.end).map(|at| at - calm.end)
    };
    detectors.iter_mut().map(alarm).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ticks from `from` to `until`, s, of clients that connect and close.
    fn ticks(from: f64, until: f64, clients: u64, flood: u64) -> Vec<Tick> {
        let count = ((until - from) / POLL.as_secs_f64()) as u64;
        let tick = |number| Tick {
            at: from + number as f64 * POLL.as_secs_f64(),
            syn: clients + flood,
            syn_ack: clients,
            fin: clients,
            ..Tick::default()
        };
        (0..count).map(tick).collect()
    }

    #[test]
    fn a_flood_after_a_short_calm_is_found_by_all_and_none_finds_one_in_more_of_the_calm() {
        let calm = ticks(100.0, 108.0, 12, 0);
        let flood = [calm.clone(), ticks(108.0, 170.0, 12, 250)].concat();
        let more = [calm, ticks(108.0, 170.0, 12, 0)].concat();
        for phase in [0.0, 7.25, 19.75] {
            let found = alarms(&flood, 100.0..108.0, phase);
            let in_time = |after: &Option<f64>| after.is_some_and(|after| after <= 60.0);
            assert!(found.iter().all(in_time), "{phase}: {found:?}");
            assert_eq!(alarms(&more, 100.0..108.0, phase), vec![None; found.len()], "{phase}");
        }
    }

    #[test]
    fn what_was_alarmed_by_the_calm_did_not_find_the_flood() {
        let busy = ticks(100.0, 108.0, 100, 0);
        let flood = [busy, ticks(108.0, 120.0, 100, 250)].concat();
        assert_eq!(alarms(&flood, 100.0..108.0, 0.0)[0], None, "400 SYN/s are above its threshold");
    }
}
