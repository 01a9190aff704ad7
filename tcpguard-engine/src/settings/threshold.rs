//! One threshold: its name, its range, and the field of [`Settings`] that holds it.

use std::time::Duration;

use super::Settings;
use crate::input::Unit;

/// Description of one field of [`Settings`], for operators and for checks of its value.
#[derive(Clone, Copy, Debug)]
pub struct Threshold {
    /// The field of [`Settings`].
    pub name: &'static str,
    /// Section and key in the configuration file, `detection.clear_s`; `None`: no file can change it.
    pub key: Option<&'static str>,
    /// Unit of its value.
    pub unit: Unit,
    /// The least that it may be, in its unit.
    pub least: f64,
    /// The most that it may be, in its unit.
    pub most: f64,
    /// Its effect, for the author of a configuration file.
    pub doc: &'static str,
    /// Source of the default: a standard, another tool, or the reasons for it.
    pub source: &'static str,
    pub(super) field: fn(&mut Settings) -> Field<'_>,
}

/// A field of [`Settings`], whatever its type.
#[derive(Debug)]
pub(super) enum Field<'a> {
    U32(&'a mut u32),
    U64(&'a mut u64),
    Usize(&'a mut usize),
    F64(&'a mut f64),
    Span(&'a mut Duration),
}

impl Threshold {
    /// Its value in `settings`, in its unit.
    pub fn get(&self, settings: &Settings) -> f64 {
        match (self.field)(&mut settings.clone()) {
            Field::U32(value) => f64::from(*value),
            Field::U64(value) => *value as f64,
            Field::Usize(value) => *value as f64,
            Field::F64(value) => *value,
            Field::Span(value) => value.as_nanos() as f64 / self.unit.nanoseconds() as f64,
        }
    }

    /// Puts `value`, in its unit, into `settings`. Nothing is checked: [`Settings::validate`] does
    /// that. A value that the field cannot hold becomes the nearest one that it can.
    pub fn set(&self, settings: &mut Settings, value: f64) {
        // Such casts saturate.
        match (self.field)(settings) {
            Field::U32(field) => *field = value as u32,
            Field::U64(field) => *field = value as u64,
            Field::Usize(field) => *field = value as usize,
            Field::F64(field) => *field = value,
            Field::Span(field) => {
                *field = Duration::from_nanos((value * self.unit.nanoseconds() as f64) as u64);
            }
        }
    }

    /// Returns whether `value` is within its range.
    pub fn allows(&self, value: f64) -> bool {
        (self.least..=self.most).contains(&value)
    }

    /// Its valid values, as in "a share from 0.1 to 1".
    pub fn must_be(&self) -> String {
        format!("{} from {} to {}", self.unit, self.least, self.most)
    }

    /// `value` with its unit, "30s".
    pub fn in_words(&self, value: f64) -> String {
        self.unit.in_words(value)
    }
}
