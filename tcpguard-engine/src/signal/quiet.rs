//! When it is over: how long failures have stayed below the clear threshold.

use std::time::Duration;

use crate::learned::Natural;
use crate::window::Window;
use crate::{Settings, Timestamp};

/// Failures are judged over this span. A single tick holds so few handshakes that the usual share
/// of lost clients would look like a disturbance in every sixth.
const SPAN: Duration = Duration::from_secs(2);

/// The last time failures were above the clear threshold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quiet {
    disturbed: Timestamp,
}

impl Quiet {
    /// Notes whether the poll that has just been added to `window` was a disturbance. `held` says
    /// that another signal holds the alarm.
    ///
    /// The threshold is half of what would matter, max(a_min, ρ·A), above what fails anyway. Only a
    /// tick in which something failed disturbs, so that the span does not lengthen an attack.
    pub fn poll(
        &mut self,
        now: Timestamp,
        window: &Window,
        natural: &Natural,
        held: bool,
        settings: &Settings,
    ) {
        let sums = window.last(SPAN);
        let matters = (settings.failure_floor * SPAN.as_secs_f64())
            .max(settings.failure_share * sums.attempts as f64);
        let excess = natural.excess(&sums);
        let failed = window
            .latest()
            .is_some_and(|tick| tick.attempts > tick.established.max(tick.acknowledged));
        if failed && (held || excess >= 0.5 * matters) {
            self.disturbed = now;
        }
    }

    /// How long it has been quiet.
    pub fn lasts(&self, now: Timestamp) -> Duration {
        now.since(self.disturbed)
    }

    /// Counts from now.
    pub fn restart(&mut self, now: Timestamp) {
        self.disturbed = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Tick;

    const POLL: Duration = Duration::from_millis(250);

    /// How long it is quiet at the end of (attempts, completions) by tick.
    fn quiet_ms(ticks: impl IntoIterator<Item = (u64, u64)>) -> u128 {
        let mut window = Window::default();
        let mut quiet = Quiet::default();
        let mut now = Timestamp::default();
        for (attempts, established) in ticks {
            now = now + POLL;
            window.push(Tick { end: now, span: POLL, attempts, established, ..Tick::default() });
            quiet.poll(now, &window, &Natural::default(), false, &Settings::default());
        }
        quiet.lasts(now).as_millis()
    }

    #[test]
    fn it_is_quiet_from_the_last_tick_in_which_anything_failed() {
        let flood = [(25_000, 0); 4];
        let after = [(50, 50); 40];
        assert_eq!(quiet_ms(flood.into_iter().chain(after)), 10_000);
    }

    #[test]
    fn the_usual_share_of_lost_clients_is_quiet() {
        // 200 connects a second, 1.5 % of them lost, unevenly.
        let ticks = (0..80).map(|tick| (50, if tick % 4 == 0 { 47 } else { 50 }));
        assert_eq!(quiet_ms(ticks), 20_000);
    }

    #[test]
    fn ten_failures_a_second_are_not() {
        let ticks = (0..80).map(|_| (53, 50));
        assert_eq!(quiet_ms(ticks), 0);
    }
}
