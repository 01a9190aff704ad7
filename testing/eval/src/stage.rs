//! One simulated host, with our detector in it and the others beside it.

use tcpguard_sim::{Lab, POLL, Tick, seconds};

use crate::baselines::{self, Detector};
use crate::judge::{Alert, Spans};

/// Index of the listener that is evaluated.
pub const LISTENER: usize = 0;
/// Time for which simulated hosts run at a time where nothing is waited for, s.
const STRIDE: f64 = 30.0;

/// A run: the host, its agent's alerts, and the times at which the other detectors were alarmed.
pub struct Stage {
    pub lab: Lab,
    /// Every alert about an incident so far.
    pub alerts: Vec<Alert>,
    others: Vec<(Box<dyn Detector>, Spans)>,
    /// Ticks that the other detectors have seen, so that they can be replayed to a fork's
    /// detectors.
    seen: Option<Vec<Tick>>,
}

impl Stage {
    /// A host that has not run yet.
    pub fn new(mut lab: Lab) -> Self {
        lab.record_ticks(true);
        Self::around(lab)
    }

    fn around(lab: Lab) -> Self {
        let others = baselines::all().into_iter().map(|other| (other, Spans::default())).collect();
        Self { lab, alerts: Vec::new(), others, seen: None }
    }

    /// A host that has run for `warm_up` s, to be forked, so that the learning happens only once.
    pub fn warm(lab: Lab, warm_up: f64) -> Self {
        let mut stage = Self { seen: Some(Vec::new()), ..Self::new(lab) };
        stage.run_until(warm_up);
        stage
    }

    /// A run of its own that goes on from here.
    pub fn fork(&self) -> Self {
        let mut fork = Self { alerts: self.alerts.clone(), ..Self::around(self.lab.clone()) };
        for tick in self.seen.iter().flatten() {
            fork.show(tick);
        }
        fork
    }

    pub fn with(mut self, change: impl FnOnce(Lab) -> Lab) -> Self {
        self.lab = change(self.lab);
        self
    }

    /// The present time, s.
    pub fn now(&self) -> f64 {
        seconds(self.lab.kernel.now)
    }

    /// Runs until `end`, s.
    pub fn run_until(&mut self, end: f64) {
        while self.now() + POLL.as_secs_f64() / 2.0 < end {
            self.advance((self.now() + STRIDE).min(end));
        }
    }

    /// Runs until `done` says so, asked after each poll, or until `end`, s.
    pub fn run_while(&mut self, end: f64, mut done: impl FnMut(&Self) -> bool) {
        while self.now() + POLL.as_secs_f64() / 2.0 < end && !done(self) {
            self.advance(self.now() + POLL.as_secs_f64());
        }
    }

    fn advance(&mut self, to: f64) {
        self.lab.run_until(to);
        self.alerts.extend(self.lab.drain_alerts().iter().filter_map(Alert::new));
        for tick in self.lab.drain_ticks(LISTENER) {
            self.show(&tick);
            if let Some(seen) = &mut self.seen {
                seen.push(tick);
            }
        }
    }

    fn show(&mut self, tick: &Tick) {
        for (other, spans) in &mut self.others {
            spans.note(tick.at, other.tick(tick));
        }
    }

    /// Returns the times at which each of the others was alarmed.
    pub fn others(&self) -> impl Iterator<Item = &Spans> {
        self.others.iter().map(|(_, spans)| spans)
    }
}
