//! Conditions under which the thresholds can do their work together.

use super::{Settings, Threshold, list};

/// A setting that is out of its range, or contradicts another one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{name} = {value}: {fault}")]
pub struct SettingsError {
    /// The field.
    pub name: &'static str,
    /// Its value, with its unit.
    pub value: String,
    /// The fault of that value.
    pub fault: Fault,
}

/// Fault of a setting.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    /// It is out of its range.
    #[error("must be {must_be}")]
    Range {
        /// Its valid values, "a share from 0.1 to 1".
        must_be: String,
    },
    /// It does not fit another setting.
    #[error("must be {relation} {other} ({limit}), or {otherwise}")]
    Order {
        /// "below" or "at most".
        relation: &'static str,
        /// The other field.
        other: &'static str,
        /// Value of the other field, with its unit.
        limit: String,
        /// Consequence of the fault.
        otherwise: &'static str,
    },
}

/// Two settings of one unit of which the first must be the smaller one.
struct Order {
    lesser: &'static str,
    greater: &'static str,
    may_be_equal: bool,
    /// Consequence if it is not.
    otherwise: &'static str,
}

const ORDERS: [Order; 6] = [
    Order {
        lesser: "occupancy_off",
        greater: "occupancy_on",
        may_be_equal: false,
        otherwise: "the alarm flaps",
    },
    Order {
        lesser: "saturation_off",
        greater: "saturation_on",
        may_be_equal: false,
        otherwise: "the step flaps",
    },
    Order {
        lesser: "indicators_attack",
        greater: "indicators_drop",
        may_be_equal: true,
        otherwise: "something is dropped that is not an attack",
    },
    Order {
        lesser: "silent_retransmitted",
        greater: "retransmit_share",
        may_be_equal: false,
        otherwise: "clients that try again pass for silent",
    },
    Order {
        lesser: "scan_ports_likely",
        greater: "scan_ports",
        may_be_equal: true,
        otherwise: "the likelihood is never asked",
    },
    Order {
        lesser: "rule_ttl",
        greater: "rule_ttl_max",
        may_be_equal: true,
        otherwise: "no rule lives as long as it should",
    },
];

impl Order {
    fn holds(&self, lesser: f64, greater: f64) -> bool {
        lesser < greater || (self.may_be_equal && lesser == greater)
    }

    const fn relation(&self) -> &'static str {
        if self.may_be_equal { "at most" } else { "below" }
    }
}

impl Settings {
    /// Checks that the thresholds can do their work together.
    ///
    /// # Errors
    /// The first of [`Self::faults`].
    pub fn validate(&self) -> Result<(), SettingsError> {
        self.faults().into_iter().next().map_or(Ok(()), Err)
    }

    /// All faults. The values that are out of their range come first, in the order of
    /// [`super::thresholds`]. Then come those that contradict another value although both are in
    /// their range.
    pub fn faults(&self) -> Vec<SettingsError> {
        let error = |threshold: &Threshold, fault| SettingsError {
            name: threshold.name,
            value: threshold.in_words(threshold.get(self)),
            fault,
        };
        let in_range = |threshold: &Threshold| threshold.allows(threshold.get(self));
        let out_of_range = list::thresholds()
            .filter(|threshold| !in_range(threshold))
            .map(|threshold| error(threshold, Fault::Range { must_be: threshold.must_be() }));
        let contradictions = ORDERS.iter().filter_map(|order| {
            let lesser = list::threshold(order.lesser)?;
            let greater = list::threshold(order.greater)?;
            let limit = greater.get(self);
            if !in_range(lesser) || !in_range(greater) || order.holds(lesser.get(self), limit) {
                return None;
            }
            let fault = Fault::Order {
                relation: order.relation(),
                other: greater.name,
                limit: greater.in_words(limit),
                otherwise: order.otherwise,
            };
            Some(error(lesser, fault))
        });
        out_of_range.chain(contradictions).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_documented_values_are_consistent() {
        assert_eq!(Settings::default().validate(), Ok(()));
    }

    /// Checks of every threshold that both ends of its range are accepted, and that values beyond it
    /// are refused with its name.
    #[test]
    fn every_range_is_enforced() {
        let range_faults = |threshold: &Threshold, value| {
            let mut settings = Settings::default();
            threshold.set(&mut settings, value);
            let faults = settings.faults().into_iter();
            let range = |error: &SettingsError| matches!(error.fault, Fault::Range { .. });
            faults.filter(range).map(|error| error.name).collect::<Vec<_>>()
        };
        for threshold in list::thresholds() {
            let (name, least, most) = (threshold.name, threshold.least, threshold.most);
            assert_eq!(range_faults(threshold, least), [""; 0], "{name} = {least}");
            assert_eq!(range_faults(threshold, most), [""; 0], "{name} = {most}");
            let step = if threshold.unit.is_whole() { 1.0 } else { 0.001 };
            if threshold.unit.is_whole() && least == 0.0 {
                assert_eq!(range_faults(threshold, most + step), [name], "{name}");
                continue;
            }
            for value in [least - step, most + step] {
                assert_eq!(range_faults(threshold, value), [name], "{name} = {value}");
            }
            if !threshold.unit.is_whole() {
                for value in [f64::NAN, f64::INFINITY] {
                    assert_eq!(range_faults(threshold, value), [name], "{name} = {value}");
                }
            }
        }
    }

    #[test]
    fn every_order_is_enforced() {
        for order in ORDERS {
            let lesser = list::threshold(order.lesser).expect(order.lesser);
            let greater = list::threshold(order.greater).expect(order.greater);
            assert_eq!(lesser.unit, greater.unit, "they are compared");
            // A value that both may have, so that only their order can be wrong.
            let common = lesser.most.min(greater.most);
            assert!(lesser.allows(common) && greater.allows(common), "{}", order.lesser);
            let mut settings = Settings::default();
            lesser.set(&mut settings, common);
            greater.set(&mut settings, common);
            let concerned =
                settings.faults().into_iter().map(|error| error.name).collect::<Vec<_>>();
            let expected = if order.may_be_equal { vec![] } else { vec![order.lesser] };
            assert_eq!(concerned, expected);
            let smaller = lesser.least.max(greater.least);
            greater.set(&mut settings, smaller);
            let faults = settings.faults();
            assert!(smaller < common && faults.iter().any(|error| error.name == order.lesser));
        }
    }

    /// The spans that are counted in polls have several of them, with any poll that a configuration may
    /// set.
    #[test]
    fn the_longest_poll_leaves_every_span_three() {
        let longest = list::threshold("poll").unwrap().most / 1000.0;
        for name in [
            "quiet",
            "evidence_window",
            "completed_window",
            "rule_ttl",
            "mitigation_retry",
            "canary",
            "saturation_hold",
            "budget_fill",
        ] {
            assert!(list::threshold(name).unwrap().least >= 3.0 * longest, "{name}");
        }
        let slowest = Settings { poll: Duration::from_secs(1), ..Settings::default() };
        assert_eq!(slowest.validate(), Ok(()));
    }

    #[test]
    fn errors_say_what_it_must_be() {
        let text = |settings: Settings| settings.validate().unwrap_err().to_string();
        assert_eq!(
            text(Settings { poll: Duration::ZERO, ..Settings::default() }),
            "poll = 0 ms: must be a whole number of milliseconds from 50 to 1000"
        );
        assert_eq!(
            text(Settings { occupancy_off: 0.25, ..Settings::default() }),
            "occupancy_off = 0.25: must be below occupancy_on (0.25), or the alarm flaps"
        );
    }
}
