//! Counters and signals at one moment, for the record.

use std::time::Duration;

use super::ListenerMonitor;
use crate::evidence::EVIDENCE_WINDOW;
use crate::input::{POLL, Timestamp};
use crate::listener::{Fast, Moment, SLOW_LIMIT, Statistics, Sums};

/// The counters before an incident and at its end are those of this long, or less where less is
/// known.
const AROUND: Duration = Duration::from_secs(10);

impl ListenerMonitor {
    /// Their present values.
    pub fn moment(&self, now: Timestamp) -> Moment {
        let sums = self.window.last(EVIDENCE_WINDOW);
        let maturity = self.maturity();
        let judged = Fast::judged(&self.window, maturity);
        let (overload_polls, flash_crowd_polls) = self.pressure.polls();
        let statistics = Statistics {
            given_ms: (POLL * maturity as u32).as_millis() as u64,
            fast_attempts: judged.attempts,
            fast_failures: judged.failures(),
            fast_polls: self.fast.streak(),
            cusum: self.slow.sum(),
            cusum_limit: SLOW_LIMIT,
            dispersion: self.natural.dispersion(),
            natural_share: self.natural.share(),
            natural_rate: self.natural.rate(),
            expected: self.natural.expected(&sums),
            occupancy: self.occupancy.held(&self.window, &self.natural, maturity),
            overload_polls,
            flash_crowd_polls,
            baseline_syn_rate: self.baseline_syn_rate(),
        };
        Moment {
            at: now,
            rates: sums.into(),
            statistics,
            kernel: self.tcp_ext,
            half_open: self.queues.and_then(|queues| queues.half_open),
            accept_queue: self.queues.map(|queues| queues.accept),
            queue_limit: self.queues.map(|queues| queues.backlog),
        }
    }

    /// Counts of the seconds before `started`. `None` where nothing is known of them.
    pub(super) fn counts_before(&self, started: Timestamp) -> Option<Sums> {
        let counts = self.window.between(started - AROUND, started);
        (!counts.span.is_zero()).then_some(counts)
    }

    /// Counts of the last seconds.
    pub fn counts_now(&self) -> Sums {
        self.window.last(AROUND)
    }
}
