//! Learned values that are not restored.

use tcpguard_engine::{Learned, LearnedError};

/// Returns the values that are not restored, with the reason.
pub fn learned_error(error: &LearnedError) -> String {
    const ALL: &str = "learned values not restored";
    match error {
        LearnedError::Version { found } => {
            format!("{ALL}: version {found}, and this agent reads version {}", Learned::VERSION)
        }
        LearnedError::Absurd { listener, name, value, must } => {
            format!("{ALL}: {name} of {listener} is {value} (valid: {must})")
        }
        LearnedError::TooMany { what, found, limit } => {
            format!("{ALL}: {found} {what}, and at most {limit} are kept")
        }
        LearnedError::Networks { what } => {
            format!("networks of clients not restored: the file has {what}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_and_the_reason_are_named() {
        let name = "natural_share";
        let listener = tcpguard_engine::Listener { addr: [203, 0, 113, 10].into(), port: 443 };
        let value = "0.9".to_owned();
        for (error, expected) in [
            (
                LearnedError::Version { found: 7 },
                "learned values not restored: version 7, and this agent reads version 1",
            ),
            (
                LearnedError::Absurd { listener, name, value, must: "0.005 to 0.4" },
                "learned values not restored: natural_share of 203.0.113.10:443 is 0.9 (valid: 0.005 to 0.4)",
            ),
            (
                LearnedError::TooMany { what: "listeners", found: 5000, limit: 4095 },
                "learned values not restored: 5000 listeners, and at most 4095 are kept",
            ),
            (
                LearnedError::Networks { what: "more days than seven" },
                "networks of clients not restored: the file has more days than seven",
            ),
        ] {
            assert_eq!(learned_error(&error), expected);
        }
    }
}
