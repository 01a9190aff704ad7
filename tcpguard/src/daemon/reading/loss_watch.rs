//! Decides when to report that packets are dropped before XDP, and when that it is over.

use std::time::Duration;

use tcpguard_engine::Timestamp;

use crate::documents::LossState;

/// Losses come in bursts: one is over when none was as bad for so long.
const OVER_AFTER: Duration = Duration::from_secs(30);

/// A change of the loss state that is to be reported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// Packets are lost, those of clients among them.
    Began,
    /// The losses are over; they lasted so long.
    Over(Duration),
}

/// Memory of whether the losses were reported.
#[derive(Clone, Copy, Debug, Default)]
pub struct LossWatch {
    /// Time of the report, and the last time at which the losses were as bad; `None`: nothing was reported.
    reported: Option<(Timestamp, Timestamp)>,
}

impl LossWatch {
    /// Records the current loss state; returns the change to report, if there is one.
    pub fn note(&mut self, now: Timestamp, state: LossState) -> Option<Change> {
        match (&mut self.reported, state) {
            (None, LossState::Heavy) => {
                self.reported = Some((now, now));
                Some(Change::Began)
            }
            (Some((_, last)), LossState::Heavy) => {
                *last = now;
                None
            }
            (Some((began, last)), _) if now.since(*last) >= OVER_AFTER => {
                let lasted = last.since(*began);
                self.reported = None;
                Some(Change::Over(lasted))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_reported_once_and_their_end_when_it_lasts() {
        let mut watch = LossWatch::default();
        let mut shown = Vec::new();
        for second in 0..200 {
            // Half a minute of it with a pause of ten seconds, and a slight one much later.
            let state = match second {
                5..=15 | 25..=35 => LossState::Heavy,
                150 => LossState::Slight,
                _ => LossState::None,
            };
            if let Some(change) = watch.note(Timestamp::from_millis(second * 1000), state) {
                shown.push((second, change));
            }
        }
        let over = Change::Over(Duration::from_secs(30));
        assert_eq!(shown, [(5, Change::Began), (65, over)]);
    }

    #[test]
    fn what_is_slight_is_no_news() {
        let mut watch = LossWatch::default();
        for second in 0..100 {
            let now = Timestamp::from_millis(second * 1000);
            assert_eq!(watch.note(now, LossState::Slight), None);
        }
    }
}
