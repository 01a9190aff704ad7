//! The only notion of time in the engine.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in time, counted from boot (`CLOCK_BOOTTIME`: neither jumps nor stops in suspend).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd,
    serde::Deserialize,
    serde::Serialize,
)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Later than anything that happens.
    pub const MAX: Self = Self(u64::MAX);

    /// From nanoseconds since boot.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// From milliseconds since boot.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000_000)
    }

    /// Nanoseconds since boot.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Seconds from `now`, rounded up: the end of an hour that begins now is in an hour, not in 59m59s.
    pub const fn seconds_from(self, now: Self) -> u64 {
        self.0.saturating_sub(now.0).div_ceil(1_000_000_000)
    }

    /// Time passed since `earlier`; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A report whose times can be given another form, such as the time of day.
pub trait MapTime<To> {
    /// The report with times of that form.
    type Mapped;

    /// Returns the report with each time as `time` converts it.
    fn map_time<F: Fn(Timestamp) -> To>(self, time: &F) -> Self::Mapped;
}

impl<To> MapTime<To> for Timestamp {
    type Mapped = To;

    fn map_time<F: Fn(Timestamp) -> To>(self, time: &F) -> To {
        time(self)
    }
}

impl<To, T: MapTime<To>> MapTime<To> for Option<T> {
    type Mapped = Option<T::Mapped>;

    fn map_time<F: Fn(Timestamp) -> To>(self, time: &F) -> Self::Mapped {
        self.map(|one| one.map_time(time))
    }
}

impl<To, T: MapTime<To>> MapTime<To> for Vec<T> {
    type Mapped = Vec<T::Mapped>;

    fn map_time<F: Fn(Timestamp) -> To>(self, time: &F) -> Self::Mapped {
        self.into_iter().map(|one| one.map_time(time)).collect()
    }
}

/// Implements [`MapTime`] for a report: its fields with times, and the others.
macro_rules! map_time {
    ($report:ident: $($timed:ident),+; $($other:ident),* $(,)?) => {
        impl<To> $crate::input::MapTime<To> for $report {
            type Mapped = $report<To>;

            fn map_time<F: Fn($crate::input::Timestamp) -> To>(self, time: &F) -> $report<To> {
                let Self { $($timed,)+ $($other,)* } = self;
                $report { $($timed: $timed.map_time(time),)+ $($other,)* }
            }
        }
    };
}
pub(crate) use map_time;
