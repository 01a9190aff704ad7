//! The unit of a number.

use std::fmt;

/// Unit of the number that a configuration file has for a threshold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// Number of things, such as SYNs, flows or polls.
    Count,
    /// A part of a whole, 0 to 1.
    Share,
    /// A multiple, or another number without a unit.
    Number,
    /// Rate per second.
    PerSecond,
    /// Time in nanoseconds.
    Nanoseconds,
    /// Time in milliseconds.
    Milliseconds,
    /// Time in seconds.
    Seconds,
}

impl Unit {
    /// Returns whether the value is written without a fraction.
    pub const fn is_whole(self) -> bool {
        !matches!(self, Self::Share | Self::Number | Self::PerSecond)
    }

    /// Suffix of the number, if it has one.
    pub const fn symbol(self) -> Option<&'static str> {
        match self {
            Self::Count | Self::Share | Self::Number => None,
            Self::PerSecond => Some("/s"),
            Self::Nanoseconds => Some("ns"),
            Self::Milliseconds => Some("ms"),
            Self::Seconds => Some("s"),
        }
    }

    /// `value` with it, "250ms".
    pub fn in_words(self, value: f64) -> String {
        format!("{value}{}", self.symbol().unwrap_or_default())
    }

    pub(crate) const fn nanoseconds(self) -> u64 {
        match self {
            Self::Seconds => 1_000_000_000,
            Self::Milliseconds => 1_000_000,
            _ => 1,
        }
    }
}

/// The number to write, as in "a whole number of milliseconds".
impl fmt::Display for Unit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Count => "a whole number",
            Self::Share => "a share",
            Self::Number => "a number",
            Self::PerSecond => "a number per second",
            Self::Nanoseconds => "a whole number of nanoseconds",
            Self::Milliseconds => "a whole number of milliseconds",
            Self::Seconds => "a whole number of seconds",
        })
    }
}
