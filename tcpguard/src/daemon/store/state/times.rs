//! Timestamps of the file, which are those of the writer's boot.
//!
//! Within a boot, the boot's own clock counts, which cannot be set: a time of day that is stepped by a
//! year neither ends a rule nor extends it. After a boot only the time of day is available, which the file holds for
//! the moment at which it was written. A moment that was in the future then is no farther off than it was,
//! regardless of the clock.

use std::time::Duration;

use tcpguard_engine::Timestamp;
use tcpguard_host::time::{Clock, Time};

use super::State;

/// Conversion of one file's timestamps to the present clock.
#[derive(Clone, Copy, Debug)]
pub struct Times<'a> {
    clock: &'a Clock,
    same_boot: bool,
    /// The clocks of the writer.
    written: Clock,
}

impl<'a> Times<'a> {
    /// Returns the conversion for the file with this content, at `clock` in the boot named `boot`.
    pub fn of(state: &State, clock: &'a Clock, boot: &str) -> Self {
        Self { clock, same_boot: state.is_of(boot), written: state.clock() }
    }

    /// A moment by the clock of the writer's boot.
    pub fn at(&self, at: Timestamp) -> Timestamp {
        if self.same_boot {
            return at;
        }
        let latest = self.clock.now + at.since(self.written.now);
        self.by_time_of_day(self.written.time_at(at)).min(latest)
    }

    /// Returns the time since the file was written.
    pub fn age(&self) -> Duration {
        self.clock.now.since(self.at(self.written.now))
    }

    /// A moment before the boot is mapped to the boot itself.
    fn by_time_of_day(&self, wall: Time) -> Timestamp {
        let ahead = wall.0.duration_since(self.clock.wall);
        if ahead.is_negative() {
            self.clock.now - ahead.unsigned_abs()
        } else {
            self.clock.now + ahead.unsigned_abs()
        }
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_goals::{Goal, Row, seed, size};

    use super::*;
    use crate::daemon::store::damage_tests::Random;

    const YEAR: i64 = 365 * 86_400;
    /// Time of the write in the writer's boot, in s.
    const WRITTEN: u64 = 5_000;

    fn wall(seconds: i64) -> Time {
        Time(jiff::Timestamp::from_second(1_800_000_000 + seconds).unwrap())
    }

    fn seconds(at: u64) -> Timestamp {
        Timestamp::from_millis(1000 * at)
    }

    fn state() -> State {
        State::new("b0".to_owned(), &Clock { now: seconds(WRITTEN), wall: wall(0).0 })
    }

    /// Seconds from now to a moment that was 100 s ahead when it was written, 40 s ago, with a time of
    /// day that is off by `wrong`.
    fn left(boot: &str, wrong: i64) -> u64 {
        let now = if boot == "b0" { seconds(WRITTEN + 40) } else { seconds(7) };
        let clock = Clock { now, wall: wall(40 + wrong).0 };
        let at = Times::of(&state(), &clock, boot).at(seconds(WRITTEN + 100));
        at.since(now).as_secs()
    }

    #[test]
    fn within_a_boot_the_time_of_day_changes_nothing() {
        for wrong in [0, YEAR, -YEAR] {
            assert_eq!(left("b0", wrong), 60, "{wrong}");
        }
    }

    #[test]
    fn after_a_boot_what_was_to_come_is_no_farther_off_than_it_was() {
        for (wrong, expected) in [(0, 60), (30, 30), (YEAR, 0), (-20, 80), (-YEAR, 100)] {
            assert_eq!(left("b1", wrong), expected, "{wrong}");
        }
    }

    /// An agent ends and another starts, up to a day later, in which the host may have slept (the boot's
    /// clock goes on) and the time of day may have been set by up to a year: rules end within a tick.
    #[test]
    fn g16_a_restart_ends_no_rule_early_or_late_whatever_the_clock_shows() {
        const TICK: Duration = Duration::from_millis(250);
        let row = Row::new(Goal::G16).named("restart");
        let (rules, mut random) = (size(1_000, 1_000_000), Random(seed()));
        let mut wrong = [0; 2];
        for _ in 0..rules {
            let end = seconds(WRITTEN) + Duration::from_millis(random.below(86_400_000) as u64);
            let now = seconds(WRITTEN) + Duration::from_millis(random.below(86_400_000) as u64);
            let writer = Clock { now: seconds(WRITTEN), wall: wall(0).0 };
            let set = random.below(2 * YEAR as usize) as i64 - YEAR;
            let passed = i64::try_from(now.since(writer.now).as_secs()).unwrap();
            let reader = Clock { now, wall: wall(passed + set).0 };
            let state = state();
            let times = Times::of(&state, &reader, "b0");
            let naive = times.by_time_of_day(writer.time_at(end));
            for (wrong, found) in wrong.iter_mut().zip([times.at(end), naive]) {
                *wrong += u64::from(found.since(end).max(end.since(found)) > TICK);
            }
        }
        let [wrong, naive] = wrong;
        row.result(rules, format!("{wrong} ends off by more than a tick"), wrong == 0)
            .naive(rules, format!("{naive} by the time of day alone"), naive > 0)
            .finish();
    }

    #[test]
    fn what_was_before_this_boot_is_its_beginning() {
        let clock = Clock { now: seconds(7), wall: wall(40).0 };
        let state = state();
        let times = Times::of(&state, &clock, "b1");
        assert_eq!(times.at(seconds(WRITTEN - 1000)), Timestamp::default());
        assert_eq!(times.at(seconds(WRITTEN + 35)), seconds(2), "by the time of day");
    }

    #[test]
    fn the_age_of_the_file_goes_by_the_boots_clock_too() {
        let old = |boot, now, wrong| {
            let clock = Clock { now, wall: wall(40 + wrong).0 };
            Times::of(&state(), &clock, boot).age().as_secs()
        };
        for wrong in [0, YEAR, -YEAR] {
            assert_eq!(old("b0", seconds(WRITTEN + 40), wrong), 40, "{wrong}");
        }
        // The boot is 50 s old: at least as old is the file.
        assert_eq!(old("b1", seconds(50), 0), 40);
        assert_eq!(old("b1", seconds(50), -YEAR), 0, "not from the future");
    }
}
