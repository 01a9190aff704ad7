//! What the thresholds must be to do their work together.

use std::time::Duration;

use super::{Limits, Settings};

/// A setting that contradicts itself or another one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{name} = {value}: {must}")]
pub struct SettingsError {
    /// The field.
    pub name: &'static str,
    /// What it was.
    pub value: String,
    /// What it must be.
    pub must: &'static str,
}

impl Settings {
    /// Checks that the thresholds can do their work together.
    ///
    /// # Errors
    /// The first setting that is out of its range, and what the range is.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let shares = [
            ("fast_share", self.fast_share),
            ("occupancy_on", self.occupancy_on),
            ("occupancy_off", self.occupancy_off),
            ("crowd_served", self.crowd_served),
            ("reflection_share", self.reflection_share),
            ("failure_share", self.failure_share),
            ("single_source_share", self.single_source_share),
            ("singleton_share", self.singleton_share),
            ("fingerprint_share", self.fingerprint_share),
            ("fingerprint_completion", self.fingerprint_completion),
            ("ttl_share", self.ttl_share),
            ("ttl_impossible_share", self.ttl_impossible_share),
            ("retransmit_share", self.retransmit_share),
            ("silent_share", self.silent_share),
            ("silent_repeated", self.silent_repeated),
            ("scattered_share", self.scattered_share),
            ("signature_coverage", self.signature_coverage),
            ("signature_tolerance", self.signature_tolerance),
            ("returned_share", self.returned_share),
            ("rest_share", self.rest_share),
        ];
        for (name, value) in shares {
            ensure(name, value, (0.0..=1.0).contains(&value), "must be a share between 0 and 1")?;
        }
        let counts = [
            ("fast_failures", self.fast_failures),
            ("fast_polls", self.fast_polls.into()),
            ("occupancy_polls", self.occupancy_polls.into()),
            ("overload_polls", self.overload_polls.into()),
            ("crowd_polls", self.crowd_polls.into()),
            ("scan_ports", self.scan_ports.into()),
            ("scan_ports_likely", self.scan_ports_likely.into()),
            ("scan_addresses", self.scan_addresses.into()),
            ("reflection_polls", self.reflection_polls.into()),
            ("source_flows", self.source_flows),
            ("sources_per_incident", self.sources_per_incident as u64),
            ("network_sources", self.network_sources as u64),
            ("followed_per_second", self.followed_per_second),
            ("incidents", self.incidents as u64),
            ("evidence_flows", self.evidence_flows as u64),
            ("gate_attack", self.gate_attack.into()),
            ("rest_flows", self.rest_flows),
            ("saturation_polls", self.saturation_polls.into()),
            ("budget_min", self.budget_min.into()),
            ("ordered_budget", self.ordered_budget.into()),
        ];
        for (name, value) in counts {
            ensure(name, value, value > 0, "must be at least 1")?;
        }
        let spans = [
            ("quiet", self.quiet),
            ("evidence_window", self.evidence_window),
            ("returned_window", self.returned_window),
            ("rule_ttl", self.rule_ttl),
            ("step_retry", self.step_retry),
            ("canary", self.canary),
            ("saturation_hold", self.saturation_hold),
            ("budget_fill", self.budget_fill),
        ];
        for (name, value) in spans {
            ensure(name, SpanText(value), value >= self.poll * 4, "must be at least four polls")?;
        }
        let milliseconds = Duration::from_millis(50)..=Duration::from_secs(1);
        ensure(
            "poll",
            SpanText(self.poll),
            milliseconds.contains(&self.poll),
            "must be 50 ms to 1 s",
        )?;
        ensure(
            "occupancy_off",
            self.occupancy_off,
            self.occupancy_off < self.occupancy_on,
            "must be below occupancy_on, or the alarm would flap",
        )?;
        ensure(
            "saturation_off",
            self.saturation_off,
            self.saturation_off > 0.0 && self.saturation_off < self.saturation_on,
            "must be above 0 and below saturation_on, or the step would flap",
        )?;
        ensure(
            "gate_drop",
            self.gate_drop,
            (self.gate_attack..=5).contains(&self.gate_drop),
            "must be gate_attack to 5: nothing is dropped that is not an attack",
        )?;
        ensure(
            "failure_floor",
            self.failure_floor,
            self.failure_floor.is_finite() && self.failure_floor > 0.0,
            "must be above 0 failures per second",
        )?;
        let rates = [
            ("crowd_factor", self.crowd_factor, 1.5),
            ("crowd_floor", self.crowd_floor, 1.0),
            ("probe_rate", self.probe_rate, 0.0),
            ("scan_likelihood", self.scan_likelihood, 16.0),
            ("reflection_rate", self.reflection_rate, 1.0),
            ("stray_rate", self.stray_rate, 1.0),
            ("saturation_on", self.saturation_on, 0.1),
        ];
        for (name, value, least) in rates {
            let holds = value.is_finite() && value >= least;
            ensure(name, value, holds, "must be a number that everyday traffic does not reach")?;
        }
        ensure(
            "slow_limit",
            self.slow_limit,
            self.slow_limit.is_finite() && self.slow_limit >= 4.0,
            "must be at least 4, or chance alone would alarm every minute",
        )?;
        ensure(
            "rule_ttl_max",
            SpanText(self.rule_ttl_max),
            (self.rule_ttl..=Limits::MAX_MANUAL_RULE).contains(&self.rule_ttl_max),
            "must be between rule_ttl and 24 h: no rule may live for ever",
        )
    }
}

struct SpanText(Duration);

impl std::fmt::Display for SpanText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

fn ensure(
    name: &'static str,
    value: impl std::fmt::Display,
    holds: bool,
    must: &'static str,
) -> Result<(), SettingsError> {
    if holds { Ok(()) } else { Err(SettingsError { name, value: value.to_string(), must }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_values_are_consistent() {
        assert_eq!(Settings::default().validate(), Ok(()));
    }

    #[test]
    fn contradictions_are_named() {
        let defaults = Settings::default;
        let cases = [
            (Settings { fast_share: 1.5, ..defaults() }, "fast_share"),
            (Settings { fast_share: f64::NAN, ..defaults() }, "fast_share"),
            (Settings { occupancy_off: 0.25, ..defaults() }, "occupancy_off"),
            (Settings { gate_drop: 1, ..defaults() }, "gate_drop"),
            (Settings { poll: Duration::ZERO, ..defaults() }, "poll"),
            (Settings { quiet: Duration::ZERO, ..defaults() }, "quiet"),
            (Settings { rule_ttl_max: Duration::from_secs(1), ..defaults() }, "rule_ttl_max"),
            (Settings { followed_per_second: 0, ..defaults() }, "followed_per_second"),
            (Settings { failure_floor: 0.0, ..defaults() }, "failure_floor"),
            (Settings { slow_limit: f64::NAN, ..defaults() }, "slow_limit"),
            (Settings { crowd_factor: 1.0, ..defaults() }, "crowd_factor"),
            (Settings { scan_ports: 0, ..defaults() }, "scan_ports"),
            (Settings { reflection_rate: f64::INFINITY, ..defaults() }, "reflection_rate"),
            (Settings { sources_per_incident: 0, ..defaults() }, "sources_per_incident"),
        ];
        for (settings, name) in cases {
            assert_eq!(settings.validate().map_err(|error| error.name), Err(name));
        }
    }
}
