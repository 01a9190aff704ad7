//! Baselines of a listener: its normal rates of SYNs and of completed handshakes. They distinguish a flash
//! crowd, or more SYNs than clients could send, from everyday traffic, and show whether clients connect.

use std::time::Duration;

use crate::input::Timestamp;
use crate::listener::window::{Sums, Window};

const EVERY: Duration = Duration::from_secs(1);
/// Time constant of the means: after so long another rate has become the baseline.
const MEMORY: Duration = Duration::from_secs(600);
/// A mean over less than this is none.
const LEAST: Duration = Duration::from_secs(5);

/// Mean of a rate over about ten minutes, or over all that was seen while that is less.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    value: f64,
    seen: Duration,
}

impl Mean {
    fn known(value: f64) -> Self {
        Self { value, seen: MEMORY }
    }

    /// Takes over the rate of a span. With `slowly` the mean follows within ten minutes, however
    /// little was seen before it.
    fn take(&mut self, rate: f64, span: Duration, slowly: bool) {
        self.seen = (self.seen + span).min(MEMORY);
        let over = if slowly { MEMORY } else { self.seen };
        if over > Duration::ZERO {
            self.value += span.div_duration_f64(over).min(1.0) * (rate - self.value);
        }
    }

    /// `None` while too little was seen.
    fn rate(&self) -> Option<f64> {
        (self.seen >= LEAST).then_some(self.value)
    }
}

/// Baselines of a listener.
#[derive(Clone, Debug, Default)]
pub(crate) struct Baseline {
    syns: Mean,
    completed: Mean,
    learned: Timestamp,
    /// The last second. It is learned with the next one: a flood begins up to a second before it is an
    /// alarm, and a young mean would be the flood's.
    pending: Option<(Sums, BaselineContext)>,
}

/// Circumstances of a second that is learned from.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BaselineContext {
    /// Far more clients than in the baseline connect.
    pub in_flash_crowd: bool,
    /// The accept queue is full: SYNs of clients get no reply.
    pub full: bool,
    /// An incident is open: the present completions are no baseline.
    pub incident: bool,
}

impl Baseline {
    /// The baseline as an earlier run learned it.
    pub fn known(syns: Option<f64>, completed: Option<f64>) -> Self {
        let mean = |rate: Option<f64>| rate.map_or_else(Mean::default, Mean::known);
        Self { syns: mean(syns), completed: mean(completed), ..Self::default() }
    }

    /// Learns from the last second.
    pub fn learn(&mut self, now: Timestamp, window: &Window, around: BaselineContext) {
        let since = now.since(self.learned);
        if since < EVERY {
            return;
        }
        self.learned = now;
        let last = self.pending.replace((window.last(EVERY), around));
        // After a pause there was an alarm meanwhile. Where SYNs arrive and none is answered, the server is out.
        let serves = |sums: &Sums| sums.answerable() > 0 || sums.syns == 0;
        if let Some((sums, then)) = last.filter(|(sums, _)| since < EVERY * 2 && serves(sums)) {
            if !then.full {
                self.syns.take(sums.per_second(sums.answerable()), sums.span, then.in_flash_crowd);
            }
            if !then.incident && !around.incident {
                self.completed.take(
                    sums.per_second(sums.established),
                    sums.span,
                    then.in_flash_crowd,
                );
            }
        }
    }

    /// SYNs per second; `None` while too little was seen.
    pub fn rate(&self) -> Option<f64> {
        self.syns.rate()
    }

    /// Completed handshakes per second; `None` while too little was seen.
    pub fn completed(&self) -> Option<f64> {
        self.completed.rate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::window::Tick;

    #[test]
    fn the_mean_of_what_was_seen_becomes_one_of_ten_minutes() {
        let (mut window, mut baseline) = (Window::default(), Baseline::default());
        let mut play = |from: u64, until: u64, syns, ignored| {
            for second in from..until {
                let end = Timestamp::from_millis(1000 * (second + 1));
                window.push(Tick { end, span: EVERY, syns, ignored, ..Tick::default() });
                baseline.learn(end, &window, BaselineContext::default());
            }
            baseline.rate()
        };
        assert_eq!(play(0, 5, 100, 0), None);
        assert_eq!(play(5, 20, 100, 0), Some(100.0));
        assert_eq!(play(20, 40, 300, 300), Some(100.0), "an outage");
        let after_ten_more = play(40, 51, 400, 0).expect("a rate");
        assert!((150.0..250.0).contains(&after_ten_more), "{after_ten_more}");
        let settled = play(51, 2000, 400, 0).expect("a rate");
        assert!((380.0..=400.0).contains(&settled), "{settled}");
    }

    #[test]
    fn what_completes_in_an_incident_is_no_baseline() {
        let (mut window, mut baseline) = (Window::default(), Baseline::default());
        let mut play = |from: u64, until: u64, established, incident| {
            for second in from..until {
                let end = Timestamp::from_millis(1000 * (second + 1));
                window.push(Tick { end, span: EVERY, established, ..Tick::default() });
                let around = BaselineContext { incident, ..BaselineContext::default() };
                baseline.learn(end, &window, around);
            }
            baseline.completed()
        };
        assert_eq!(play(0, 60, 20, false), Some(20.0));
        assert_eq!(play(60, 600, 1, true), Some(20.0), "also the second before it was one");
        let after = play(600, 660, 20, false).expect("a rate");
        assert!((19.0..=20.0).contains(&after), "{after}");
    }
}
