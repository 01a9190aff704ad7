//! The check that every threshold is within its range.

use super::threshold::Threshold;
use super::{Settings, list};

/// A threshold that is out of its range.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{name} = {value}: must be {must_be}")]
pub struct SettingsError {
    /// The field.
    pub name: &'static str,
    /// Its value, with its unit.
    pub value: String,
    /// Its valid values, "a number per second from 0.1 to 10000".
    pub must_be: String,
}

impl Settings {
    /// Checks that every threshold is within its range.
    ///
    /// # Errors
    /// The first of [`Self::faults`].
    pub fn validate(&self) -> Result<(), SettingsError> {
        self.faults().into_iter().next().map_or(Ok(()), Err)
    }

    /// All values that are out of their range, in the order of [`super::thresholds`].
    pub fn faults(&self) -> Vec<SettingsError> {
        let wrong = list::thresholds().filter(|one| !one.allows(one.get(self)));
        let error = |threshold: &Threshold| SettingsError {
            name: threshold.name,
            value: threshold.in_words(threshold.get(self)),
            must_be: threshold.must_be(),
        };
        wrong.map(error).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_documented_values_are_in_their_ranges() {
        assert_eq!(Settings::default().validate(), Ok(()));
    }

    /// Checks of every threshold that both ends of its range are accepted, and that values beyond it
    /// are refused with its name.
    #[test]
    fn every_range_is_enforced() {
        let faults = |threshold: &Threshold, value| {
            let mut settings = Settings::default();
            threshold.set(&mut settings, value);
            settings.faults().into_iter().map(|error| error.name).collect::<Vec<_>>()
        };
        for threshold in list::thresholds() {
            let (name, least, most) = (threshold.name, threshold.least, threshold.most);
            assert_eq!(faults(threshold, least), [""; 0], "{name} = {least}");
            assert_eq!(faults(threshold, most), [""; 0], "{name} = {most}");
            let step = if threshold.unit.is_whole() { 1.0 } else { 0.001 };
            if threshold.unit.is_whole() && least == 0.0 {
                assert_eq!(faults(threshold, most + step), [name], "{name}");
                continue;
            }
            for value in [least - step, most + step] {
                assert_eq!(faults(threshold, value), [name], "{name} = {value}");
            }
            if !threshold.unit.is_whole() {
                for value in [f64::NAN, f64::INFINITY] {
                    assert_eq!(faults(threshold, value), [name], "{name} = {value}");
                }
            }
        }
    }

    #[test]
    fn errors_say_what_it_must_be() {
        let settings = Settings { quiet: Duration::ZERO, ..Settings::default() };
        assert_eq!(
            settings.validate().unwrap_err().to_string(),
            "quiet = 0s: must be a whole number of seconds from 5 to 3600"
        );
    }
}
