//! Signals of failed handshakes, one signal a file. A signal shows that handshakes fail. The cause
//! is for the evidence.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

pub(crate) mod fast;
pub(crate) mod host;
pub(crate) mod occupancy;
pub(crate) mod pressure;
mod quiet;
pub(crate) mod slow;

pub(crate) use fast::{FAST_POLLS, FAST_SHARE, Fast};
pub(crate) use host::{
    BEYOND_RATE, REFLECTION_POLLS, REFLECTION_RATE, REFLECTION_SHARE, SCAN_ADDRESSES, SCAN_PORTS,
    SCAN_PORTS_LIKELY,
};
pub(crate) use occupancy::{OCCUPANCY_MIN, Occupancy};
pub(crate) use pressure::{
    FLASH_CROWD_FACTOR, FLASH_CROWD_FLOOR, FLASH_CROWD_POLLS, FLASH_CROWD_SERVED, Load,
    OVERLOAD_POLLS, Pressure, PressureKind,
};
pub(crate) use quiet::{Around, Quiet};
pub(crate) use slow::{FAILURE_SHARE, SLOW_LIMIT, Slow};

/// Signal that raised an alarm.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[derive(IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Signal {
    /// Many handshakes fail at once.
    Fast,
    /// A few handshakes too many fail for a while.
    Slow,
    /// The SYN queue fills with handshakes that fail.
    Occupancy,
    /// The accept queue is full.
    AcceptQueue,
    /// Many more SYNs than in the baseline, and they are served.
    SynRate,
    /// Counters of the whole host, or its scanners. Each belongs to one class.
    Host,
}

impl Signal {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        self.into()
    }
}
