//! Counters over time, around and during one attack.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_engine::Mode;
use tcpguard_host::time::Time;

/// Name and version of a [`Timeline`].
pub const TIMELINE_SCHEMA: &str = "tcpguard.timeline/1";

/// Counters over time, from half a minute before an attack was detected (at the default poll interval) until
/// it was over.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Timeline {
    /// Number of the attack, as in its document.
    pub id: u64,
    /// Start of the first step.
    pub began: Time,
    /// Typical (median) length of a step, in ms. The longer the attack, the longer its steps. A single step
    /// may be longer where the agent polled late.
    pub interval_ms: u32,
    /// Counters of each step, oldest first; at most 480 steps. A step begins at the end of the previous one.
    pub points: Vec<Point>,
}

/// Maximum number of steps of a timeline.
pub const INTERVALS: usize = 480;

impl Timeline {
    /// Returns this timeline appended to `earlier`, which it continues. Where the result is too long, every
    /// other of the earlier steps is left out.
    pub fn after(mut self, earlier: &Self) -> Self {
        let elapsed = self.began.0.duration_since(earlier.began.0).as_millis();
        let elapsed = u64::try_from(elapsed).unwrap_or(0);
        let before = |point: &&Point| point.at_ms <= elapsed;
        let mut points: Vec<Point> = earlier.points.iter().filter(before).copied().collect();
        while points.len() > 1 && points.len() + self.points.len() > INTERVALS {
            points = points.chunks(2).filter_map(|pair| pair.last().copied()).collect();
        }
        self.points.iter_mut().for_each(|point| point.at_ms += elapsed);
        points.append(&mut self.points);
        points.truncate(INTERVALS);
        Self {
            began: earlier.began,
            interval_ms: self.interval_ms.max(earlier.interval_ms),
            points,
            ..self
        }
    }
}

/// Counters of one step: of the listener that the attack is about, or of all listeners together where it is
/// about the whole host.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Point {
    /// End of the step, in milliseconds after `began`.
    pub at_ms: u64,
    /// Mode of operation at the end of the step.
    pub mode: Mode,
    /// SYNs per second, retransmissions included.
    pub syn_pps: f64,
    /// Completed handshakes per second.
    pub completed_pps: f64,
    /// SYNs per second that rules matched, in whatever mode.
    pub matched_pps: f64,
    /// SYNs per second that were dropped, by rules or because they were too many.
    pub dropped_pps: f64,
    /// SYNs per second that XDP answered with a cookie.
    pub cookies_sent_pps: f64,
    /// SYNs per second to ports at which no socket listens; 0 where the attack is about one listener.
    pub nowhere_pps: f64,
    /// Unsolicited replies per second: replies to SYNs that this host never sent. 0 where the attack is about
    /// one listener.
    pub unsolicited_pps: f64,
    /// Highest number of half-open handshakes in the step; `null` where they were not counted, and where the
    /// attack is about the whole host.
    pub half_open: Option<u32>,
    /// Highest number of connections that waited for the application to accept them; `null` where that was
    /// not read, and where the attack is about the whole host.
    pub accept_queue: Option<u32>,
    /// Capacity of the SYN queue and of the accept queue, each; `null` where that was not read, and where the
    /// attack is about the whole host.
    pub queue_limit: Option<u32>,
}
