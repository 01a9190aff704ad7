//! Points in time as people and other programs read them.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tcpguard_engine::Timestamp;

/// A point in time; RFC 3339 in UTC with milliseconds in JSON.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Time(pub jiff::Timestamp);

impl fmt::Display for Time {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:.3}", self.0)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

impl schemars::JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

/// Two clocks read at the same moment. They convert the engine's time since boot to the time of
/// day.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clock {
    pub now: Timestamp,
    pub wall: jiff::Timestamp,
}

impl Clock {
    /// The time of day at `at`, as the clock is set now.
    pub fn time_at(&self, at: Timestamp) -> Time {
        let moved = if at <= self.now {
            self.wall.checked_sub(self.now.since(at))
        } else {
            self.wall.checked_add(at.since(self.now))
        };
        Time(moved.unwrap_or(self.wall))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn time_since_boot_becomes_time_of_day() {
        let now = Timestamp::from_millis(60_000);
        let clock = Clock { now, wall: "2026-11-20T14:05:31.204Z".parse().unwrap() };
        for (at, expected) in [
            (now, "2026-11-20T14:05:31.204Z"),
            (now - Duration::from_millis(31_204), "2026-11-20T14:05:00.000Z"),
            (now + Duration::from_secs(60), "2026-11-20T14:06:31.204Z"),
        ] {
            assert_eq!(clock.time_at(at).to_string(), expected);
        }
    }
}
