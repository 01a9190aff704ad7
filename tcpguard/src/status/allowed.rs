//! The allow-list.

use serde::{Deserialize, Serialize};
use tcpguard_engine::AllowReport;

use super::{Clock, Time};

/// A prefix whose SYNs no rule of the guard drops.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Allowed {
    /// Which sources.
    pub prefix: String,
    /// Why.
    pub reason: String,
    /// User id of who asked.
    pub uid: u32,
    /// Since when.
    pub created_at: Time,
    /// Until when.
    pub expires_at: Time,
    /// Seconds until then.
    pub expires_in_s: u64,
}

impl Allowed {
    /// From what the engine knows.
    pub fn build(allowed: &AllowReport, clock: Clock) -> Self {
        Self {
            prefix: allowed.net.to_string(),
            reason: allowed.reason.clone(),
            uid: allowed.uid,
            created_at: clock.time_at(allowed.created),
            expires_at: clock.time_at(allowed.expires),
            // Rounded up: what was asked for an hour ends in an hour, not in 59m 59s.
            expires_in_s: allowed.expires.since(clock.now).as_millis().div_ceil(1000) as u64,
        }
    }
}
