//! The BGP session to the router: after repeated losses nothing is announced for a while.
//!
//! A session over the flooded link dies with it. Its routes go, the flood is back, and so on: announcing again at once
//! would make the router flap.

use std::collections::VecDeque;
use std::time::Duration;

use tcpguard_engine::Timestamp;

/// Losses within [`WINDOW`] that are taken as accidents.
const ACCIDENTS: usize = 3;
/// Time over which losses are counted.
const WINDOW: Duration = Duration::from_secs(600);
/// Time without announcements after too many losses.
const PAUSE: Duration = Duration::from_secs(600);

/// The BGP session to the router.
#[derive(Debug, Default)]
pub(super) struct Session {
    is_established: bool,
    losses: VecDeque<Timestamp>,
    pause: Option<Timestamp>,
}

/// A change of the session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Change {
    /// The session is established.
    Established,
    /// The session was lost.
    Lost,
    /// The session was lost too often, and nothing is announced for a while.
    HeldBack,
}

impl Session {
    /// Takes the present state.
    pub fn update(&mut self, now: Timestamp, is_established: bool) -> Option<Change> {
        let was_established = std::mem::replace(&mut self.is_established, is_established);
        match (was_established, is_established) {
            (false, true) => Some(Change::Established),
            (true, false) => {
                self.losses.retain(|loss| now.since(*loss) < WINDOW);
                self.losses.push_back(now);
                if self.losses.len() <= ACCIDENTS {
                    return Some(Change::Lost);
                }
                self.losses.clear();
                self.pause = Some(now + PAUSE);
                Some(Change::HeldBack)
            }
            _ => None,
        }
    }

    /// Returns whether the session is established.
    pub const fn is_established(&self) -> bool {
        self.is_established
    }

    /// Returns whether nothing is announced because of losses.
    pub fn is_held_back(&self, now: Timestamp) -> bool {
        self.pause.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lose(session: &mut Session, second: u64) -> Option<Change> {
        session.update(Timestamp::from_millis(second * 1000), true);
        session.update(Timestamp::from_millis(second * 1000 + 500), false)
    }

    #[test]
    fn a_fourth_loss_within_ten_minutes_holds_announcements_back() {
        let mut session = Session::default();
        for second in [0, 20, 40] {
            assert_eq!(lose(&mut session, second), Some(Change::Lost));
        }
        assert_eq!(lose(&mut session, 60), Some(Change::HeldBack));
        assert!(session.is_held_back(Timestamp::from_millis(660_000)));
        assert!(!session.is_held_back(Timestamp::from_millis(660_500)));
        assert_eq!(lose(&mut session, 700), Some(Change::Lost));
    }

    #[test]
    fn rare_losses_hold_nothing_back() {
        let mut session = Session::default();
        for hour in 0..100 {
            assert_eq!(lose(&mut session, 240 * hour), Some(Change::Lost));
        }
        assert!(!session.is_held_back(Timestamp::from_millis(240_000 * 100)));
    }

    #[test]
    fn a_state_that_does_not_change_is_no_change() {
        let mut session = Session::default();
        let now = Timestamp::default();
        assert_eq!(session.update(now, false), None);
        assert_eq!(session.update(now, true), Some(Change::Established));
        assert_eq!(session.update(now, true), None);
        assert!(session.is_established());
    }
}
