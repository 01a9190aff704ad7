//! The allowlist.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_engine::AllowReport;
use tcpguard_host::time::{Clock, Time};

/// An entry of the allowlist: a prefix that is exempt from automatic rules.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Allowed {
    /// Sources that are exempt.
    #[schemars(with = "String")]
    pub prefix: IpNet,
    /// Reason for the exemption.
    pub reason: String,
    /// User id of the operator; 0 for an operator of the fleet.
    pub uid: u32,
    /// Rule of the fleet that exempts the sources, such as `fleet:ops/7`; missing where an operator of this host
    /// exempted them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<String>,
    /// Time since which the sources are exempt.
    pub created_at: Time,
    /// Time until which the sources are exempt.
    pub expires_at: Time,
    /// Seconds until `expires_at`, rounded up.
    pub expires_in_s: u64,
}

impl Allowed {
    /// Builds the entry from the engine's report.
    pub fn build(allowed: &AllowReport, clock: Clock) -> Self {
        Self {
            prefix: allowed.net,
            reason: allowed.reason.clone(),
            uid: allowed.uid,
            fleet: allowed.fleet.as_ref().map(ToString::to_string),
            created_at: clock.time_at(allowed.created),
            expires_at: clock.time_at(allowed.expires),
            // Rounded up: a new exemption for an hour ends in an hour, not in 59m59s.
            expires_in_s: allowed.expires.since(clock.now).as_millis().div_ceil(1000) as u64,
        }
    }
}
