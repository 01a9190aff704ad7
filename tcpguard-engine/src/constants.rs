//! How a number is declared that is the same on every host, and the list of all of them.
//!
//! Each stands in the module that uses it, with its unit, range and source. `docs/thresholds.md` is printed
//! from the list.

use crate::Unit;

/// A number that is the same on every host, as `docs/thresholds.md` describes it.
#[derive(Clone, Copy, Debug)]
pub struct Constant {
    /// Its name in the source.
    pub name: &'static str,
    /// Its value, in its unit.
    pub value: f64,
    /// Unit of the value.
    pub unit: Unit,
    /// The least that would make sense, in its unit.
    pub least: f64,
    /// The most that would make sense, in its unit.
    pub most: f64,
    /// Its effect.
    pub doc: &'static str,
    /// Source of the value: a standard, another tool, or the reasons for it.
    pub source: &'static str,
}

/// Declares constants, and `CONSTANTS` with a description of each. A value out of its range does not compile.
macro_rules! constants {
    ($(
        $(#[doc = $doc:literal])+
        $vis:vis const $name:ident: $type:ident =
            $value:literal $unit:ident in $least:literal..=$most:literal, $source:literal;
    )+) => {
        $(
            $(#[doc = $doc])+
            #[doc = ""]
            #[doc = $source]
            $vis const $name: $type = $crate::constants::value!($type, $value, $unit);
            const _: () = assert!($least <= $value && $value <= $most, "out of its range");
        )+

        /// The constants of this module.
        pub(crate) const CONSTANTS: &[$crate::constants::Constant] = &[$(
            $crate::constants::Constant {
                name: stringify!($name),
                value: $value as f64,
                unit: $crate::Unit::$unit,
                least: $least as f64,
                most: $most as f64,
                doc: concat!($($doc),+),
                source: $source,
            },
        )+];
    };
}

/// A number in the type of its constant.
macro_rules! value {
    (Duration, $value:literal, Seconds) => {
        std::time::Duration::from_secs($value)
    };
    (Duration, $value:literal, Milliseconds) => {
        std::time::Duration::from_millis($value)
    };
    (Duration, $value:literal, Nanoseconds) => {
        std::time::Duration::from_nanos($value)
    };
    ($type:ident, $value:literal, $unit:ident) => {
        $value
    };
}

pub(crate) use {constants, value};

/// All constants, with the file of each group below `tcpguard-engine/src`.
pub fn all_constants() -> impl Iterator<Item = (&'static str, &'static [Constant])> {
    [
        ("sample.rs", crate::sample::CONSTANTS),
        ("sampling.rs", crate::sampling::CONSTANTS),
        ("signal/fast.rs", crate::signal::fast::CONSTANTS),
        ("signal/slow.rs", crate::signal::slow::CONSTANTS),
        ("signal/occupancy.rs", crate::signal::occupancy::CONSTANTS),
        ("signal/pressure.rs", crate::signal::pressure::CONSTANTS),
        ("signal/saturation.rs", crate::signal::saturation::CONSTANTS),
        ("signal/host.rs", crate::signal::host::CONSTANTS),
        ("host/scan.rs", crate::host::scan::CONSTANTS),
        ("host/closed.rs", crate::host::closed::CONSTANTS),
        ("evidence/cohort.rs", crate::evidence::cohort::CONSTANTS),
        ("evidence/gate.rs", crate::evidence::gate::CONSTANTS),
        ("evidence/verdict.rs", crate::evidence::verdict::CONSTANTS),
        ("evidence/signature.rs", crate::evidence::signature::CONSTANTS),
        ("evidence/retransmissions.rs", crate::evidence::retransmissions::CONSTANTS),
        ("evidence/surge.rs", crate::evidence::surge::CONSTANTS),
        ("evidence/novelty.rs", crate::evidence::novelty::CONSTANTS),
        ("evidence/sources.rs", crate::evidence::sources::CONSTANTS),
        ("rules/recurrence.rs", crate::rules::recurrence::CONSTANTS),
        ("rules/meter.rs", crate::rules::meter::CONSTANTS),
        ("policy/source.rs", crate::policy::source::CONSTANTS),
        ("ladder/mod.rs", crate::ladder::CONSTANTS),
        ("ladder/budget.rs", crate::ladder::budget::CONSTANTS),
        ("ladder/breaker.rs", crate::ladder::breaker::CONSTANTS),
        ("monitor.rs", crate::monitor::CONSTANTS),
        ("monitor/alert_window.rs", crate::monitor::alert_window::CONSTANTS),
        ("monitor/residual.rs", crate::monitor::residual::CONSTANTS),
        ("engine/lifecycle.rs", crate::engine::lifecycle::CONSTANTS),
        ("engine/mitigations.rs", crate::engine::mitigations::CONSTANTS),
    ]
    .into_iter()
}
