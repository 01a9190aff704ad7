//! Whether more handshakes fail than the listener's clients could begin.
//!
//! Clients behind a path that breaks come as often as before, and try again after 1, 3 and 7 s (RFC 6298
//! §5.5): within the first seconds they fail at twice or three times the rate at which they usually come. A
//! rush of clients begins many more handshakes, but those that the server can take complete, so that more
//! complete than ever. A hundred times the usual rate that fails while no more complete than usual is
//! neither.

use crate::Settings;
use crate::window::Sums;
use crate::words::short;

/// The rates of the last second, against what is usual.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surge {
    /// More fail than clients could begin, and it is no rush of clients either.
    pub holds: bool,
    /// Failing handshakes per second.
    failing: f64,
    /// Completed ones per second.
    completing: f64,
    /// SYNs per second that are usual; `None` while that is not known.
    usual: Option<f64>,
}

impl Surge {
    /// Compares a second's `sums` with the `usual` rate of SYNs per second.
    pub fn of(sums: &Sums, usual: Option<f64>, settings: &Settings) -> Self {
        let failing = sums.per_second(sums.failures());
        let completing = sums.per_second(sums.completed);
        let holds = usual.is_some_and(|usual| {
            let limit = (settings.surge_factor * usual).max(settings.surge_floor);
            failing >= limit && completing <= settings.crowd_factor * usual
        });
        Self { holds, failing, completing, usual }
    }

    /// The numbers, in words.
    pub fn in_words(&self) -> String {
        let Some(usual) = self.usual else {
            return "what is usual is not known yet".to_owned();
        };
        format!(
            "{}/s fail, {}/s complete, {} are usual",
            short(self.failing),
            short(self.completing),
            short(usual)
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn surge(failing: u64, completed: u64, usual: Option<f64>) -> Surge {
        let (span, attempts) = (Duration::from_secs(1), failing + completed);
        let sums = Sums { span, attempts, completed, ..Sums::default() };
        Surge::of(&sums, usual, &Settings::default())
    }

    #[test]
    fn a_hundred_times_the_usual_rate_is_no_path_that_broke() {
        let flood = surge(156_000, 310, Some(400.0));
        assert!(flood.holds);
        assert_eq!(flood.in_words(), "156 k/s fail, 310/s complete, 400 are usual");
        assert!(!surge(39_999, 310, Some(400.0)).holds);
        assert!(surge(40_000, 310, Some(400.0)).holds);
    }

    #[test]
    fn an_idle_listener_has_a_floor() {
        assert!(!surge(4_999, 0, Some(0.0)).holds);
        assert!(surge(5_000, 0, Some(0.0)).holds);
    }

    #[test]
    fn a_rush_of_clients_that_is_served_is_none() {
        assert!(surge(100_000, 1_200, Some(400.0)).holds);
        assert!(!surge(100_000, 1_201, Some(400.0)).holds);
    }

    #[test]
    fn nothing_is_said_before_it_is_known_what_is_usual() {
        let unknown = surge(500_000, 0, None);
        assert!(!unknown.holds);
        assert_eq!(unknown.in_words(), "what is usual is not known yet");
    }
}
