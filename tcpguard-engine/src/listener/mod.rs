//! The evaluation of a listener's counters: its past, its learned values, and the signals that they raise.

mod counter_delta;
mod egress;
mod learned;
mod moment;
mod refusals;
pub(crate) mod sampling;
pub(crate) mod signal;
mod window;

pub(crate) use counter_delta::{CounterDelta, PollContext, UNANSWERED_AFTER};
pub use egress::Egress;
pub(crate) use learned::{
    Admitted, Baseline, BaselineContext, Clients, JoinedClients, KnownFingerprints, Natural,
    Networks, Steady,
};
pub use learned::{
    Learned, LearnedDay, LearnedError, LearnedListener, LearnedNetworks, LearnedPrint,
};
pub(crate) use moment::Growth;
pub use moment::{Moment, Occupied, Rates, Statistics};
pub(crate) use refusals::{Refusals, Suspect};
pub(crate) use sampling::Sampling;
pub use sampling::TRACKED_PER_SECOND;
pub use signal::Signal;
pub(crate) use signal::{
    Around, BEYOND_RATE, FAILURE_SHARE, FAST_POLLS, FAST_SHARE, FLASH_CROWD_FACTOR,
    FLASH_CROWD_FLOOR, FLASH_CROWD_POLLS, FLASH_CROWD_SERVED, Fast, Load, OCCUPANCY_MIN,
    OVERLOAD_POLLS, Occupancy, Pressure, PressureKind, Quiet, REFLECTION_POLLS, REFLECTION_RATE,
    REFLECTION_SHARE, SCAN_ADDRESSES, SCAN_PORTS, SCAN_PORTS_LIKELY, SLOW_LIMIT, Slow,
};
pub use window::Sums;
pub(crate) use window::{LIFE, REACH, Tick, Window};
