//! The promises of tcpguard, and the way in which a test proves one: with a number, and with a
//! naive variant, measured by the same code, that does not keep the promise. A test that cannot
//! fail proves nothing.
//!
//! ```no_run
//! use tcpguard_goals::{Goal, Row, size};
//!
//! let row = Row::new(Goal::G1);
//! let kills = size(10, 500);
//! # let (leaked, let_in) = (0, 1);
//! row.result(kills, format!("{leaked} frames let in"), leaked == 0)
//!     .naive(kills, format!("{let_in} let in by a link that no pin holds"), let_in > 0)
//!     .finish();
//! ```
//!
//! In full size N must be that of [`least`].
//!
//! The name of a test that writes rows begins with its goal, `g1_…` or `audit_…`: by that
//! `cargo xtask test` and `cargo xtask faults` find it, know that it is to write a row, and try it
//! once only.
#![forbid(unsafe_code)]

use std::time::Duration;

mod goal;
pub mod least;
mod row;
pub mod verifier;

pub use goal::{Goal, Unknown};
pub use row::{Line, Outcome, Row};

/// The file to which rows are appended, if it is set.
pub const ROWS: &str = "TCPGUARD_ROWS";

/// Size of a test: `short`, as everywhere without it, or `full`.
pub const SIZE: &str = "TCPGUARD_FAULTS";

/// The seed of whatever a test draws; [`seed`] without it is 1.
pub const SEED: &str = "TCPGUARD_SEED";

/// Duration, in minutes, of a test that can last any number of them.
pub const MINUTES: &str = "TCPGUARD_MINUTES";

/// `short` or `full`, as [`SIZE`] says.
///
/// # Panics
/// When it says something else: a misspelt `full` must not pass for one.
pub fn size<T>(short: T, full: T) -> T {
    if is_full(std::env::var(SIZE).ok().as_deref()) { full } else { short }
}

/// Seed of the run's random numbers, as [`SEED`] says.
///
/// # Panics
/// When that is no number.
pub fn seed() -> u64 {
    parsed_seed(std::env::var(SEED).ok().as_deref())
}

/// Minutes, as [`MINUTES`] says, or `short` or `full` as [`SIZE`] does.
///
/// # Panics
/// When one of the two says nothing that is known.
pub fn minutes(short: u32, full: u32) -> u32 {
    parsed_minutes(std::env::var(MINUTES).ok().as_deref()).unwrap_or_else(|| size(short, full))
}

/// Returns the time that an event took, or the `end` up to which it did not come, in words for a row.
pub fn when(took: Option<Duration>, end: Duration) -> String {
    match took {
        Some(took) => format!("after {:.2} s", took.as_secs_f64()),
        None => format!("not within {end:?}"),
    }
}

fn parsed_minutes(value: Option<&str>) -> Option<u32> {
    let parse = |text: &str| {
        text.parse().unwrap_or_else(|_| panic!("{MINUTES} is `{text}`: a number of minutes"))
    };
    value.map(parse)
}

fn is_full(value: Option<&str>) -> bool {
    match value {
        None | Some("short") => false,
        Some("full") => true,
        Some(other) => panic!("{SIZE} is `{other}`: short or full"),
    }
}

fn parsed_seed(value: Option<&str>) -> u64 {
    value.map_or(1, |text| text.parse().unwrap_or_else(|_| panic!("{SEED} is `{text}`: a number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_short_by_default() {
        assert!(!is_full(None) && !is_full(Some("short")) && is_full(Some("full")));
    }

    #[test]
    #[should_panic(expected = "TCPGUARD_FAULTS is `ful`")]
    fn a_misspelt_size_is_no_size() {
        is_full(Some("ful"));
    }

    #[test]
    fn the_seed_is_the_same_unless_another_is_asked_for() {
        assert_eq!((parsed_seed(None), parsed_seed(Some("77"))), (1, 77));
    }

    #[test]
    fn minutes_are_those_of_the_size_unless_others_are_asked_for() {
        assert_eq!((parsed_minutes(None), parsed_minutes(Some("45"))), (None, Some(45)));
        assert_eq!(minutes(3, 60), 3);
    }

    #[test]
    #[should_panic(expected = "TCPGUARD_MINUTES is `1h`")]
    fn minutes_are_a_number() {
        parsed_minutes(Some("1h"));
    }

    #[test]
    #[should_panic(expected = "TCPGUARD_SEED is `x`")]
    fn a_seed_is_a_number() {
        parsed_seed(Some("x"));
    }
}
