//! What speaks for failing handshakes, one signal a file. A signal says that handshakes fail, never
//! why: that is for the evidence.

mod fast;
mod occupancy;
mod quiet;

pub(crate) use fast::Fast;
pub(crate) use occupancy::Occupancy;
pub(crate) use quiet::Quiet;

/// Which signal raised an alarm.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Signal {
    /// Many handshakes fail at once.
    Fast,
    /// The SYN queue fills with handshakes that fail.
    Occupancy,
}

impl Signal {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Occupancy => "occupancy",
        }
    }
}
