//! A mode that reverts by itself: when its time is over, or when no operator confirms it in time. Pure: it is given the
//! time, and returns the mode that is to hold.
//!
//! The mode that returns is the one that was set for good last, however many were tried since. So a second trial cannot
//! make the first one last, and one confirmation too many cannot either.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tcpguard_engine::{Mode, Timestamp};
use tcpguard_host::time::{Clock, Time};

use crate::documents::ModeRevert;

/// Terms on which a mode is set.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Terms {
    /// Time after which it reverts.
    pub lasts: Option<Duration>,
    /// Time after which it reverts unless an operator has confirmed it.
    pub confirm_within: Option<Duration>,
}

/// A mode that reverts by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pending {
    /// The mode that holds until then.
    pub mode: Mode,
    /// The mode to which it reverts.
    pub revert_to: Mode,
    /// Time at which it reverts unless an operator confirms it before.
    pub confirm_by: Option<Timestamp>,
    /// Time at which it reverts even if it was confirmed.
    pub until: Option<Timestamp>,
}

/// A mode that has reverted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lapsed {
    /// The mode that held.
    pub mode: Mode,
    /// The mode that holds again.
    pub revert_to: Mode,
    /// Time at which it was to revert.
    pub at: Timestamp,
    /// True if it reverted for want of a confirmation, rather than because its time was over.
    pub unconfirmed: bool,
}

/// Reason why a confirmation changes nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConfirmError {
    /// No mode is to revert.
    NothingPending,
    /// The mode reverts at a set time, and needs no confirmation until then.
    NotAsked(Pending),
    /// The mode has reverted for want of a confirmation.
    TooLate(Lapsed),
}

/// State of the mode's automatic revert.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ModeClock {
    /// The mode that an operator set for good, in this run or an earlier one.
    pub set_for_good: Option<Mode>,
    pending: Option<Pending>,
    /// Last mode that reverted, if none was set since.
    lapsed: Option<Lapsed>,
}

impl Pending {
    /// Returns the time at which it reverts unless an operator acts before.
    pub fn ends(&self) -> Timestamp {
        self.confirm_by.into_iter().chain(self.until).min().unwrap_or(Timestamp::MAX)
    }

    /// The status's form of it.
    pub fn document(&self, clock: Clock) -> ModeRevert {
        let time = |at: Option<Timestamp>| at.map(|at| clock.time_at(at));
        ModeRevert {
            revert_to: self.revert_to,
            confirm_by: time(self.confirm_by),
            until: time(self.until),
            // Rounded up: a mode requested for a minute ends in a minute, not in 59 s.
            in_s: self.ends().since(clock.now).as_millis().div_ceil(1000) as u64,
        }
    }
}

impl ModeClock {
    /// Goes on with the mode and the revert that an earlier agent left.
    pub fn resume(set_for_good: Option<Mode>, pending: Option<Pending>) -> Self {
        Self { set_for_good, pending, lapsed: None }
    }

    /// The mode that is to revert, if there is one.
    pub const fn pending(&self) -> Option<&Pending> {
        self.pending.as_ref()
    }

    /// `mode` is set on these terms, where `holds` did. The mode that was set for good needs no end.
    pub fn set(&mut self, now: Timestamp, mode: Mode, terms: Terms, holds: Mode) {
        let revert_to = self.pending.map_or(holds, |pending| pending.revert_to);
        let confirm_by = terms.confirm_within.map(|time| now + time);
        let until = terms.lasts.map(|time| now + time);
        self.pending =
            (mode != revert_to).then_some(Pending { mode, revert_to, confirm_by, until });
        self.lapsed = None;
    }

    /// A mode is set for good.
    pub fn settle(&mut self, mode: Mode) {
        *self = Self::resume(Some(mode), None);
    }

    /// An operator confirms the mode. Returns the revert that remains. Without one, the mode now holds for good.
    pub fn confirm(&mut self) -> Result<Option<Pending>, ConfirmError> {
        let Some(pending) = self.pending else {
            let late = self.lapsed.filter(|lapsed| lapsed.unconfirmed);
            return Err(late.map_or(ConfirmError::NothingPending, ConfirmError::TooLate));
        };
        if pending.confirm_by.is_none() {
            return Err(ConfirmError::NotAsked(pending));
        }
        let rest = Pending { confirm_by: None, ..pending };
        self.pending = rest.until.is_some().then_some(rest);
        Ok(self.pending)
    }

    /// The mode that has reached its end, once.
    pub fn expire(&mut self, now: Timestamp) -> Option<Lapsed> {
        let pending = self.pending.filter(|pending| pending.ends() <= now)?;
        self.pending = None;
        self.lapsed = Some(Lapsed {
            mode: pending.mode,
            revert_to: pending.revert_to,
            at: pending.ends(),
            unconfirmed: pending.confirm_by.is_some(),
        });
        self.lapsed
    }
}

/// [`Pending`] in the state file.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct PendingMode {
    /// The mode that holds.
    mode: Mode,
    /// See [`Pending::confirm_by`].
    confirm_by: Option<Deadline>,
    /// See [`Pending::until`].
    until: Option<Deadline>,
}

/// A moment that the next agent must find again, in the same boot or in another.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
struct Deadline {
    /// On the clock of the boot in which this was written, in ns.
    boot_ns: Timestamp,
    /// By the time of day as it was then.
    wall: Time,
    /// Time left until it when this was written, in ms. A clock that is wrong after a boot makes it no later than that.
    left_ms: u64,
}

impl Deadline {
    fn of(at: Timestamp, clock: &Clock) -> Self {
        let left_ms = at.since(clock.now).as_millis() as u64;
        Self { boot_ns: at, wall: clock.time_at(at), left_ms }
    }

    fn found(&self, clock: &Clock, same_boot: bool) -> Timestamp {
        if same_boot {
            return self.boot_ns;
        }
        let left = Duration::try_from(self.wall.0.duration_since(clock.wall)).unwrap_or_default();
        clock.now + left.min(Duration::from_millis(self.left_ms))
    }
}

impl PendingMode {
    /// The record of `pending` for the next agent.
    pub fn of(pending: &Pending, clock: &Clock) -> Self {
        let deadline = |at: Option<Timestamp>| at.map(|at| Deadline::of(at, clock));
        Self {
            mode: pending.mode,
            confirm_by: deadline(pending.confirm_by),
            until: deadline(pending.until),
        }
    }

    /// The pending mode at present. `revert_to` is the mode that would hold without it. In the `same_boot` the boot's
    /// clock counts, which no process can set. `None` when there is nothing to revert to.
    pub fn resume(&self, clock: &Clock, same_boot: bool, revert_to: Mode) -> Option<Pending> {
        let found = |deadline: &Option<Deadline>| deadline.map(|one| one.found(clock, same_boot));
        let (confirm_by, until) = (found(&self.confirm_by), found(&self.until));
        let ends = self.mode != revert_to && confirm_by.or(until).is_some();
        ends.then_some(Pending { mode: self.mode, revert_to, confirm_by, until })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Mode::{Enforce, Observe, Off};

    const YEAR: i64 = 365 * 86_400;

    /// `seconds` after the boot, with a clock on the wall that is off by `wrong` seconds.
    fn clock(seconds: u64, wrong: i64) -> Clock {
        let right: jiff::Timestamp = "2026-11-20T14:00:00Z".parse().unwrap();
        let wall = right + jiff::SignedDuration::from_secs(seconds as i64 + wrong);
        Clock { now: at(seconds), wall }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1000 * seconds)
    }

    fn seconds(terms: [Option<u64>; 2]) -> Terms {
        let [lasts, confirm_within] = terms.map(|time| time.map(Duration::from_secs));
        Terms { lasts, confirm_within }
    }

    const WORD_IN_60: [Option<u64>; 2] = [None, Some(60)];

    /// Mode `enforce` from 100 s on, after `observe`.
    fn enforced(terms: [Option<u64>; 2]) -> ModeClock {
        let mut clock = ModeClock::default();
        clock.set(at(100), Enforce, seconds(terms), Observe);
        clock
    }

    /// Returns the time at which the mode reverts by itself (asked every second), the mode it reverts to, and whether
    /// it reverts for want of a confirmation.
    fn reverts(mut clock: ModeClock, from: u64) -> Option<(u64, Mode, bool)> {
        (from..10_000).find_map(|second| {
            let lapsed = clock.expire(at(second))?;
            assert_eq!(clock.expire(at(second)), None, "reported once");
            assert_eq!(clock.pending(), None);
            Some((second, lapsed.revert_to, lapsed.unconfirmed))
        })
    }

    #[test]
    fn it_reverts_when_its_time_is_over_or_without_confirmation() {
        for (terms, expected) in [
            ([Some(600), None], (700, Observe, false)),
            (WORD_IN_60, (160, Observe, true)),
            ([Some(600), Some(60)], (160, Observe, true)),
        ] {
            assert_eq!(reverts(enforced(terms), 100), Some(expected), "{terms:?}");
        }
    }

    #[test]
    fn a_word_in_time_makes_it_stay_for_as_long_as_was_asked() {
        let mut clock = enforced(WORD_IN_60);
        assert_eq!(clock.confirm(), Ok(None));
        assert_eq!(reverts(clock, 100), None);
        assert_eq!(clock.confirm(), Err(ConfirmError::NothingPending), "once is enough");

        let mut clock = enforced([Some(600), Some(60)]);
        assert_eq!(clock.confirm().unwrap().unwrap().ends(), at(700));
        assert_eq!(reverts(clock, 100), Some((700, Observe, false)));
    }

    #[test]
    fn a_word_that_changes_nothing_says_why() {
        assert_eq!(ModeClock::default().confirm(), Err(ConfirmError::NothingPending));
        let mut clock = enforced(WORD_IN_60);
        assert_eq!(clock.expire(at(159)), None);
        let lapsed = clock.expire(at(160)).unwrap();
        assert_eq!(
            lapsed,
            Lapsed { mode: Enforce, revert_to: Observe, at: at(160), unconfirmed: true }
        );
        assert_eq!(clock.confirm(), Err(ConfirmError::TooLate(lapsed)));
        clock.settle(Enforce);
        assert_eq!(clock.confirm(), Err(ConfirmError::NothingPending), "something was set since");

        let mut clock = enforced([Some(600), None]);
        assert_eq!(clock.confirm(), Err(ConfirmError::NotAsked(*clock.pending().unwrap())));
        clock.expire(at(700)).unwrap();
        assert_eq!(clock.confirm(), Err(ConfirmError::NothingPending), "no word was asked for");
    }

    #[test]
    fn a_second_change_reverts_to_the_confirmed_mode() {
        let mut clock = enforced(WORD_IN_60);
        clock.set(at(130), Off, seconds([None, Some(60)]), Enforce);
        assert_eq!(reverts(clock, 130), Some((190, Observe, true)), "not to enforce");

        let mut clock = enforced(WORD_IN_60);
        clock.set(at(130), Enforce, seconds([None, Some(300)]), Enforce);
        assert_eq!(reverts(clock, 130), Some((430, Observe, true)), "more time for the same");

        let mut clock = enforced(WORD_IN_60);
        clock.set(at(130), Observe, seconds([Some(60), None]), Enforce);
        assert_eq!(clock.pending(), None, "reverted already, and nothing to revert to");

        let mut clock = enforced(WORD_IN_60);
        clock.settle(Enforce);
        assert_eq!(reverts(clock, 100), None, "set for good in between");
    }

    #[test]
    fn the_mode_that_holds_anyway_needs_no_end() {
        let mut clock = ModeClock::default();
        clock.set(at(100), Enforce, seconds([Some(600), None]), Enforce);
        assert_eq!(clock.pending(), None);
    }

    /// The next agent's view of a record that was written at 110 s with a right clock.
    fn next_agent(terms: [Option<u64>; 2], clock: &Clock, same_boot: bool) -> ModeClock {
        let pending = *enforced(terms).pending().unwrap();
        let text = serde_json::to_string(&PendingMode::of(&pending, &self::clock(110, 0))).unwrap();
        let stored: PendingMode = serde_json::from_str(&text).unwrap();
        ModeClock::resume(None, stored.resume(clock, same_boot, Observe))
    }

    /// This holds for any clock on the wall, and for an agent that is back before the end or after.
    #[test]
    fn within_a_boot_only_the_clock_of_the_boot_counts() {
        for wrong in [0, -YEAR, YEAR] {
            for (terms, end, unconfirmed) in
                [(WORD_IN_60, 160, true), ([Some(600), None], 700, false)]
            {
                let back = next_agent(terms, &clock(120, wrong), true);
                let expected = Some((end, Observe, unconfirmed));
                assert_eq!(reverts(back, 120), expected, "{wrong} {terms:?}");
                let late = next_agent(terms, &clock(2000, wrong), true);
                assert_eq!(reverts(late, 2000), Some((2000, Observe, unconfirmed)));
            }
        }
    }

    /// The wall showed 110 s when it was written, and shows `wall` when the next boot is 7 s old.
    #[test]
    fn over_a_boot_the_wall_counts_and_a_wrong_one_makes_it_no_later_than_it_was() {
        for (wall, left) in [
            (130, 30),
            (159, 1),
            (160, 0),
            (110 + YEAR, 0),
            // It had 50 s left.
            (110, 50),
            (105, 50),
            (110 - YEAR, 50),
        ] {
            let now = clock(7, wall - 7);
            let expected = Some((7 + left, Observe, true));
            assert_eq!(reverts(next_agent(WORD_IN_60, &now, false), 7), expected, "{wall}");
        }
    }

    /// A host with a clock that stands at each boot, and that boots again and again.
    #[test]
    fn many_boots_do_not_make_it_last() {
        let mut state = PendingMode::of(enforced(WORD_IN_60).pending().unwrap(), &clock(110, 0));
        let mut boots = 0;
        while let Some(pending) = state.resume(&clock(0, -YEAR), false, Observe) {
            if ModeClock::resume(None, Some(pending)).expire(at(20)).is_some() {
                break;
            }
            state = PendingMode::of(&pending, &clock(20, -YEAR));
            boots += 1;
        }
        assert_eq!(boots, 2, "20 s of each, of the 50 s that were left");
    }

    #[test]
    fn a_word_is_still_waited_for_in_the_next_agent() {
        let mut next = next_agent([Some(600), Some(60)], &clock(120, 0), true);
        assert_eq!(next.confirm().unwrap().unwrap().ends(), at(700));
        assert_eq!(reverts(next, 120), Some((700, Observe, false)));
    }

    #[test]
    fn there_is_nothing_to_revert_to_where_the_same_mode_is_configured_now() {
        let pending = *enforced(WORD_IN_60).pending().unwrap();
        let stored = PendingMode::of(&pending, &clock(110, 0));
        assert_eq!(stored.resume(&clock(120, 0), true, Enforce), None);
    }

    #[test]
    fn the_document_says_when_and_what() {
        let pending = *enforced([Some(600), Some(60)]).pending().unwrap();
        let document = pending.document(clock(100, 0));
        assert_eq!(document.in_s, 60);
        assert_eq!(document.confirm_by.unwrap().to_string(), "2026-11-20T14:02:40.000Z");
        assert_eq!(document.until.unwrap().to_string(), "2026-11-20T14:11:40.000Z");
    }
}
