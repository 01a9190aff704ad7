//! Declaration of a number that is the same on every host. Each stands in the module that uses it, with its
//! unit, range and source.

use super::unit::Unit;

/// A number that is the same on every host, as `docs/evidence/thresholds.md` describes it.
#[derive(Clone, Copy, Debug)]
pub struct Constant {
    /// Its name in the source.
    pub name: &'static str,
    /// Its value, in its unit.
    pub value: f64,
    /// Unit of the value.
    pub unit: Unit,
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
            $vis const $name: $type = $crate::input::value!($type, $value, $unit);
            const _: () = assert!($least <= $value && $value <= $most, "out of its range");
        )+

        /// The constants of this module.
        pub(crate) const CONSTANTS: &[$crate::input::Constant] = &[$(
            $crate::input::Constant {
                name: stringify!($name),
                value: $value as f64,
                unit: $crate::input::Unit::$unit,
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
