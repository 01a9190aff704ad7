//! Stages that are played side by side, each in a lab of its own.

use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Plays each of `cases` in a thread, so many `at_once`, and returns the outcomes in the order of the cases. It is
/// for tests that mostly wait: two floods of a high rate would measure each other.
///
/// # Panics
/// When a case does, after those under way have ended.
pub fn side_by_side<C: Send, T: Send>(
    at_once: usize,
    cases: impl IntoIterator<Item = C, IntoIter: Send>,
    play: impl Fn(C) -> T + Sync,
) -> Vec<T> {
    let cases = Mutex::new(cases.into_iter().enumerate());
    let next = || cases.lock().unwrap_or_else(PoisonError::into_inner).next();
    let mut played: Vec<(usize, T)> = thread::scope(|scope| {
        let play_some = || {
            let mut played = Vec::new();
            while let Some((place, case)) = next() {
                played.push((place, play(case)));
            }
            played
        };
        let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(play_some)).collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended.flat_map(|some| some.unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    played.sort_by_key(|(place, _)| *place);
    played.into_iter().map(|(_, outcome)| outcome).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn cases_meet_and_their_outcomes_are_in_order() {
        let barrier = Barrier::new(2);
        let doubled = side_by_side(2, 1..=4, |case| {
            barrier.wait();
            2 * case
        });
        assert_eq!(doubled, [2, 4, 6, 8]);
    }

    #[test]
    #[should_panic(expected = "the third")]
    fn a_case_that_fails_fails_all() {
        side_by_side(2, 1..=4, |case| assert_ne!(case, 3, "the third"));
    }
}
