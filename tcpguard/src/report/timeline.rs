//! What was counted over time, around and during one attack.

use serde::{Deserialize, Serialize};

use crate::status::Time;

/// The value of [`Timeline::schema`].
pub const TIMELINE_SCHEMA: &str = "tcpguard.timeline/1";

/// What was counted over time, from half a minute before an attack was noticed until it was over.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Timeline {
    /// Name and version of this document: `tcpguard.timeline/1`.
    pub schema: String,
    /// Number of the attack.
    pub id: u64,
    /// When the first step began.
    pub began: Time,
    /// Usual length of a step, in milliseconds. The longer the attack, the longer its steps; one may
    /// be longer than usual where the agent was late.
    pub step_ms: u32,
    /// The steps, oldest first, at most 480. Each lasts from the end of the one before.
    pub points: Vec<Point>,
}

/// Steps of a line at most.
pub const STEPS: usize = 480;

impl Timeline {
    /// This line behind `earlier`, of which it is the rest. Where that is too long, of the earlier steps
    /// every other is left out.
    pub fn after(mut self, earlier: &Self) -> Self {
        let elapsed = self.began.0.duration_since(earlier.began.0).as_millis();
        let elapsed = u64::try_from(elapsed).unwrap_or(0);
        let before = |point: &&Point| point.at_ms <= elapsed;
        let mut points: Vec<Point> = earlier.points.iter().filter(before).copied().collect();
        while points.len() > 1 && points.len() + self.points.len() > STEPS {
            points = points.chunks(2).filter_map(|pair| pair.last().copied()).collect();
        }
        self.points.iter_mut().for_each(|point| point.at_ms += elapsed);
        points.append(&mut self.points);
        points.truncate(STEPS);
        Self { began: earlier.began, step_ms: self.step_ms.max(earlier.step_ms), points, ..self }
    }
}

/// What was counted in one step: at the listener that the attack is about, or at all of them where it
/// is about the whole host.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Point {
    /// End of the step, in milliseconds after `began`.
    pub at_ms: u64,
    /// SYNs per second, repetitions included.
    pub syn_pps: f64,
    /// Completed handshakes per second.
    pub completed_pps: f64,
    /// SYNs per second that rules matched, in whatever mode.
    pub matched_pps: f64,
    /// SYNs per second that were dropped.
    pub dropped_pps: f64,
    /// SYNs per second that were answered with a cookie of the guard's.
    pub cookies_pps: f64,
    /// SYNs per second to where nothing listens; 0 where the attack is about one listener.
    pub nowhere_pps: f64,
    /// Answers per second to SYNs that this host never sent; 0 where the attack is about one listener.
    pub unsolicited_pps: f64,
    /// The most half-open handshakes; `null` where they were not counted.
    pub half_open: Option<u32>,
    /// The most connections that waited for the application; `null` where that cannot be read.
    pub accept_queue: Option<u32>,
    /// Places in either queue; `null` where that cannot be read.
    pub queue_limit: Option<u32>,
}
