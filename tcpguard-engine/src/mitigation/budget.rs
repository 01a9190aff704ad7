//! The SYN budget of a listener: how many SYNs a second are let through where cookies are not to be had.

use std::time::Duration;

use crate::input::constants;

constants! {
    /// Time in which the retransmitted SYNs that pass the SYN rate limit fill a quarter of the queue at most, and
    /// the first ones an eighth.
    pub(crate) const BUDGET_FILL: Duration = 3 Seconds in 3..=60,
        "Time for which a clean-up leaves the flood's half-open handshakes in the queue.";

    /// SYNs per second that pass, even if the queue is very small.
    pub(crate) const BUDGET_MIN: u32 = 8 Count in 1..=100_000,
        "As many fill a queue of 64 if handshakes only expire. Some clients must connect.";

    /// SYNs per second that pass if tcpguard mitigation orders a limit that the situation does not
    /// require.
    pub(crate) const ORDERED_BUDGET: u32 = 1000 Count in 1..=10_000_000,
        "Weighed against an operator who tries it on a live host: most hosts have fewer \
         connects.";
}

/// SYNs a second that fill a quarter of a SYN queue with this limit in `BUDGET_FILL`.
pub fn budget(backlog: u32) -> u32 {
    let rate = f64::from(backlog) / 4.0 / BUDGET_FILL.as_secs_f64();
    (rate as u32).max(BUDGET_MIN)
}

/// Retransmitted SYNs a second that rules and the SYN rate limit let through to the stack, at a SYN queue with
/// this limit and with so many of their handshakes completed a second.
///
/// A completed handshake has left the queue. So at most [`budget`] a second do not complete, whatever
/// their source. If handshakes suddenly fail, those of one second fill about half of the queue.
pub(crate) fn retransmit_budget(backlog: u32, completing: f64) -> u32 {
    budget(backlog).saturating_add((completing as u32).min(backlog / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_retransmissions_more_pass_as_complete_up_to_half_of_the_queue() {
        for (backlog, completing, expected) in [
            (128, 0.0, 10),
            (128, 16.0, 26),
            (128, 1000.0, 10 + 64),
            (4096, 0.0, 341),
            (4096, 500.0, 841),
            (4096, 1e9, 341 + 2048),
            (0, 500.0, 8),
        ] {
            assert_eq!(retransmit_budget(backlog, completing), expected, "{backlog} {completing}");
        }
    }
}
