//! How many SYNs a listener usually gets, to tell a rush, or more than clients could send, from everyday
//! traffic.

use std::time::Duration;

use crate::Timestamp;
use crate::window::{Sums, Window};

const EVERY: Duration = Duration::from_secs(1);
/// Time constant of the mean: after so long another rate has become the usual one.
const MEMORY: Duration = Duration::from_secs(600);
/// A mean over less than this is none.
const LEAST: Duration = Duration::from_secs(5);

/// Mean of SYNs per second over about ten minutes, or over all that was seen while that is less.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usual {
    mean: f64,
    seen: Duration,
    learned: Timestamp,
    /// The last second, and whether a rush was on. It is learned with the next one: a flood begins up to
    /// a second before it is an alarm, and a young mean would be the flood's.
    pending: Option<(Sums, bool)>,
}

impl Usual {
    /// As learned by an earlier run.
    pub fn known(mean: f64) -> Self {
        Self { mean, seen: MEMORY, ..Self::default() }
    }

    /// Learns from the last second. A rush becomes usual only within ten minutes, however little was
    /// seen before it.
    pub fn learn(&mut self, now: Timestamp, window: &Window, rushing: bool) {
        let since = now.since(self.learned);
        if since < EVERY {
            return;
        }
        self.learned = now;
        let last = self.pending.replace((window.last(EVERY), rushing));
        // After a pause there was an alarm meanwhile.
        if let Some((sums, rushing)) = last.filter(|_| since < EVERY * 2) {
            self.take(&sums, rushing);
        }
    }

    fn take(&mut self, sums: &Sums, rushing: bool) {
        self.seen = (self.seen + sums.span).min(MEMORY);
        let over = if rushing { MEMORY } else { self.seen };
        if over > Duration::ZERO {
            let weight = sums.span.div_duration_f64(over).min(1.0);
            self.mean += weight * (sums.per_second(sums.syns) - self.mean);
        }
    }

    /// SYNs per second; `None` while too little was seen.
    pub fn rate(&self) -> Option<f64> {
        (self.seen >= LEAST).then_some(self.mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Tick;

    #[test]
    fn the_mean_of_what_was_seen_becomes_one_of_ten_minutes() {
        let (mut window, mut usual) = (Window::default(), Usual::default());
        let mut play = |from: u64, until: u64, syns| {
            for second in from..until {
                let end = Timestamp::from_millis(1000 * (second + 1));
                window.push(Tick { end, span: EVERY, syns, ..Tick::default() });
                usual.learn(end, &window, false);
            }
            usual.rate()
        };
        assert_eq!(play(0, 5, 100), None);
        assert_eq!(play(5, 20, 100), Some(100.0));
        let after_ten_more = play(20, 30, 400).expect("a rate");
        assert!((150.0..250.0).contains(&after_ten_more), "{after_ten_more}");
        let settled = play(30, 2000, 400).expect("a rate");
        assert!((380.0..=400.0).contains(&settled), "{settled}");
    }
}
