//! Ids of events: unique, and in the order of time as text. They are ULIDs.

use std::fmt;
use std::io;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use tcpguard_host::random;

/// Digits of base 32 without I, L, O and U (Crockford).
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Digits of an id: 128 bits, 5 a digit.
const LENGTH: usize = 26;

/// The id of an event: 48 bits of time in milliseconds since 1970, and 80 random bits.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EventId(u128);

impl EventId {
    /// A new id.
    ///
    /// # Errors
    /// When there are no random numbers.
    pub fn new(at: jiff::Timestamp) -> io::Result<Self> {
        let [high, low] = random::words()?;
        Ok(Self::with_random(at, (u128::from(high) << 64) | u128::from(low)))
    }

    /// The id with these random bits, of which the low 80 count.
    pub fn with_random(at: jiff::Timestamp, random: u128) -> Self {
        // A clock before 1970 is not set.
        let millis = u128::try_from(at.as_millisecond()).unwrap_or_default();
        Self((millis << 80) | (random & ((1 << 80) - 1)))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        (0..LENGTH).rev().try_for_each(|place| {
            let digit = (self.0 >> (5 * place)) as usize % DIGITS.len();
            write!(out, "{}", char::from(DIGITS[digit]))
        })
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for EventId {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EventId".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9A-HJKMNP-TV-Z]{26}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> jiff::Timestamp {
        time.parse().expect("a time")
    }

    #[test]
    fn an_id_is_a_ulid() {
        // The example of the specification of ULIDs: 1469918176385 ms are 01ARYZ6S41.
        let id = EventId::with_random(at("2016-07-30T22:36:16.385Z"), 0);
        assert_eq!(id.to_string(), "01ARYZ6S410000000000000000");
        let all = EventId::with_random(at("1970-01-01T00:00:00Z"), u128::MAX);
        assert_eq!(all.to_string(), "0000000000ZZZZZZZZZZZZZZZZ");
    }

    #[test]
    fn ids_are_unique_and_in_the_order_of_time() {
        let first = EventId::new(at("2026-11-20T14:05:31.204Z")).unwrap();
        let second = EventId::new(at("2026-11-20T14:05:31.204Z")).unwrap();
        assert_ne!(first, second);
        let later = EventId::new(at("2026-11-20T14:05:31.205Z")).unwrap();
        assert!(later.to_string() > first.to_string() && later.to_string() > second.to_string());
    }
}
