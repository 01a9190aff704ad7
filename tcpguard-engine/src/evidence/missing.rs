//! Missing completed handshakes: clients that fail instead.
//!
//! A flood takes none away before a queue is full. Clients behind a path that breaks do. For each that is
//! missing a few handshakes fail, since a client without a reply tries again.

use crate::listener::Sums;

/// Tolerance below the baseline, which is a mean, within which no handshake counts as missing: as a share of
/// it, and in standard deviations of a count. The share is the least that matters (`failure_share`). A
/// Poisson count lies beyond the deviations once in 44 times.
const SLACK: (f64, f64) = (0.05, 2.0);
/// First SYNs of missing clients: their own, and for every second one that of a connection by the other IP
/// version or to another address, which is tried after 250 ms (RFC 8305 §5, Happy Eyeballs). Retransmissions
/// are not among them. More would excuse a flood as fast as the clients themselves.
const TRIES: f64 = 1.5;

/// Failed handshakes a second that are explained by the missing clients, where each of them tries so often.
/// `baseline`: the baseline rate per second, of completed handshakes or of SYNs.
pub(super) fn explained(sums: &Sums, baseline: f64, tries: f64) -> f64 {
    let seconds = sums.span.as_secs_f64();
    let chance = if seconds > 0.0 { (baseline / seconds).sqrt() } else { 0.0 };
    let missing = (baseline - sums.per_second(sums.completed)).max(0.0);
    tries * missing + SLACK.0 * baseline + SLACK.1 * chance
}

/// Certainty that completed handshakes are missing, in rising order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Missing {
    /// Fewer than fail.
    #[default]
    No,
    /// The missing ones are as many as fail, or by chance fewer.
    Perhaps,
    /// The missing ones are as many as fail, though by chance more may seem to be missing than are.
    Surely,
}

impl Missing {
    /// Compares the completed handshakes with the `baseline` rate, in completed handshakes per second.
    pub fn of(sums: &Sums, baseline: Option<f64>) -> Self {
        let Some(baseline) = baseline else { return Self::No };
        // A full queue takes completions away as well, and so do rules.
        if sums.span.is_zero() || sums.unanswered > 0 {
            return Self::No;
        }
        let failing = sums.per_second(sums.first_failures());
        if failing > explained(sums, baseline, TRIES) {
            return Self::No;
        }
        let chance = (baseline / sums.span.as_secs_f64()).sqrt();
        let missing = baseline - sums.per_second(sums.completed) - chance;
        match failing <= TRIES * missing && sums.dropped == 0 {
            true => Self::Surely,
            false => Self::Perhaps,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn clients_are_missing_where_as_many_fail_as_complete_no_more() {
        let sums = |failing: u64, completed: u64, unanswered: u64| {
            let attempts = failing + completed;
            let span = Duration::from_secs(2);
            Sums { span, syns: attempts, attempts, completed, unanswered, ..Sums::default() }
        };
        let missing = |failing, completed, unanswered| {
            Missing::of(&sums(failing, completed, unanswered), Some(100.0))
        };
        assert_eq!(missing(200, 0, 0), Missing::Surely);
        assert_eq!(missing(60, 140, 0), Missing::Surely);
        assert_eq!(missing(26, 180, 0), Missing::Perhaps, "20 fewer complete by chance");
        assert_eq!(missing(200, 200, 0), Missing::No, "a flood beside them");
        assert_eq!(missing(1000, 0, 0), Missing::No, "so many are not missing");
        assert_eq!(missing(200, 0, 1), Missing::No, "a full queue sends clients away");
        let dropped = Sums { dropped: 1, ..sums(200, 0, 0) };
        assert_eq!(Missing::of(&dropped, Some(100.0)), Missing::Perhaps, "a rule does");
        assert_eq!(Missing::of(&Sums::default(), Some(100.0)), Missing::No);
        assert_eq!(Missing::of(&sums(200, 0, 0), None), Missing::No);
    }
}
