//! The time between two looks at a listener.

use std::time::Duration;

use super::monitor::ListenerMonitor;
use crate::input::{POLL, Timestamp};

/// Interval of the questions in calm: often enough to learn and to see a queue fill, rare enough to cost nothing.
pub(super) const CALM: Duration = Duration::from_secs(5);
/// Interval of the questions during an incident.
pub(super) const BUSY: Duration = Duration::from_secs(1);
/// Time after an alarm or a new rule in which every poll counts.
pub(super) const URGENT: Duration = Duration::from_secs(5);

/// Interval between inspections of a listener. A young incident is inspected at every poll.
pub(super) fn pace(now: Timestamp, monitor: &ListenerMonitor) -> Duration {
    match monitor.alarmed() {
        Some(alarmed) if now.since(alarmed) < URGENT => POLL,
        Some(_) => BUSY,
        None if monitor.is_suspicious() => POLL,
        None if monitor.needs_rtt() || monitor.is_evaded() => BUSY,
        None if monitor.is_queue_full(now) => BUSY,
        None => CALM,
    }
}

/// Returns whether `pace` has passed since `last`, give or take half a poll.
pub(super) fn due(now: Timestamp, last: Timestamp, pace: Duration, poll: Duration) -> bool {
    now.since(last) + poll / 2 >= pace
}
