//! The limits by which `tcpguard states` judges.

use std::collections::BTreeMap;

use tcpguard_host::states::Limits;

use super::Problem;
use super::reader::Written;

/// Numbers of connections from which on they count as unusual.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StateLimits {
    /// Half-open connections up to which nothing is unusual. A host has as many if its clients answer
    /// within a tenth of a second and open 150 new connections a second.
    pub syn_recv: u64,
    /// Open connections from which on it is a warning; `None`: their number alone is not judged, but the
    /// resources that they use up are.
    pub established_warning: Option<u64>,
    /// Open connections from which on it is critical; `None`: as above.
    pub established_critical: Option<u64>,
}

impl Default for StateLimits {
    fn default() -> Self {
        let Limits { syn_recv, established_warning, established_critical, .. } = Limits::default();
        Self { syn_recv, established_warning, established_critical }
    }
}

impl From<StateLimits> for Limits {
    /// Takes the limits that can be configured, with the rest as it is.
    fn from(limits: StateLimits) -> Self {
        let StateLimits { syn_recv, established_warning, established_critical } = limits;
        Self { syn_recv, established_warning, established_critical, ..Self::default() }
    }
}

impl StateLimits {
    /// Keys of the limits in the configuration.
    pub(super) const NAMES: [&'static str; 3] =
        ["syn_recv", "established_warning", "established_critical"];

    /// Returns the limits that are configured, and the defaults of the others.
    ///
    /// # Errors
    /// A warning that never comes.
    pub(super) fn resolve(written: &BTreeMap<&'static str, Written<u64>>) -> Result<Self, Problem> {
        let default = Self::default();
        let syn_recv = written.get("syn_recv").map_or(default.syn_recv, |written| written.value);
        let limits = Self {
            syn_recv,
            established_warning: written.get("established_warning").map(|written| written.value),
            established_critical: written.get("established_critical").map(|written| written.value),
        };
        let places = ["established_warning", "established_critical"];
        let place = places.into_iter().find_map(|name| written.get(name));
        match (place, limits.established_warning, limits.established_critical) {
            (Some(place), Some(warning), Some(critical)) if warning > critical => Err(Problem {
                at: place.at.clone(),
                text: format!(
                    "states.established_warning ({warning}) must be at most \
                     states.established_critical ({critical}), or nothing is ever a mere warning"
                ),
            }),
            _ => Ok(limits),
        }
    }
}
