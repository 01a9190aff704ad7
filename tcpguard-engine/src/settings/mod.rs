//! The thresholds that an operator can set, with their units and sources.

mod list;
mod threshold;
mod tuning;
mod validate;

pub use list::{threshold, thresholds};
pub use threshold::Threshold;
pub(crate) use tuning::Tuned;
pub use tuning::{Override, Place, Tuning};
pub use validate::SettingsError;

use std::time::Duration;

use tcpguard_common::abi::maps;

/// The thresholds that have a key, and those that tests set. [`Settings::default`] holds the documented
/// values. No host needs others to be protected. All other numbers are constants ([`crate::all_constants`]).
///
/// `docs/evidence/detection.md` explains how they work together. `docs/evidence/thresholds.md` lists them with their ranges
/// and sources. That page is printed from [`thresholds`] and from the constants.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Fast path: uncompleted handshakes in two polls from which it judges at all. A public capture has a
    /// harmless burst of 38 SYNs.
    pub fast_failures: u64,
    /// Failures per second that matter at all. The clear threshold is half of the larger of this
    /// and `failure_share`: 2:1 hysteresis, as pf's.
    pub failure_floor: f64,
    /// Slow path: handshakes a second that clients may reset before these count as failures. Half-open
    /// health checks end so, for ever; those of more than two balancers with five processes each are known by
    /// their flows.
    pub health_check_rate: f64,
    /// SYN flood of closed ports: SYNs per second that the host's own stack refuses, or that are dropped
    /// instead.
    pub closed_rate: f64,
    /// Release: time without failures above the clear threshold. Longer than the pauses of real
    /// pulsed floods (2.75 s in a public capture, 10 s assumed).
    pub quiet: Duration,
    /// Longest lifetime without hits, reached by doubling whenever a source is back
    /// (fail2ban's `bantime.increment`, with a limit).
    pub rule_ttl_max: Duration,
    /// Capacity for rules of all kinds. A rule for certain ports counts once for each of them. A running
    /// engine keeps the value that it was made with.
    pub rules: u32,
    /// Open incidents at most; beyond them one alert says that there are more.
    pub incidents: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            fast_failures: 64,
            failure_floor: 5.0,
            health_check_rate: 10.0,
            closed_rate: 10_000.0,
            quiet: Duration::from_secs(30),
            rule_ttl_max: Duration::from_secs(3600),
            rules: maps::RULES,
            incidents: 8,
        }
    }
}

/// Limits that no setting can exceed.
#[derive(Clone, Copy, Debug)]
pub struct Limits;

impl Limits {
    /// Longest lifetime of an exemption; longer ones are cut to it.
    pub const MAX_ALLOW: Duration = Duration::from_secs(30 * 24 * 3600);
    /// Shortest IPv4 prefix that may be allowed without force.
    pub const MIN_ALLOW_V4: u8 = 8;
    /// Shortest IPv6 prefix that may be allowed without force.
    pub const MIN_ALLOW_V6: u8 = 16;
    /// Exemptions that operators may ask for; the rest of the kernel's table is for protected
    /// prefixes.
    pub const ALLOWED: u32 = maps::MAX_EXEMPT / 2;
    /// Lifetime of a rule that is imported without one.
    pub const MANUAL_RULE: Duration = Duration::from_secs(3600);
    /// Longest lifetime of a rule made by hand; longer ones are cut to it.
    pub const MAX_MANUAL_RULE: Duration = Duration::from_secs(24 * 3600);
    /// Longest time for which an operator's order for a mitigation counts; longer ones are cut to it.
    pub const MAX_ORDER: Duration = Duration::from_secs(24 * 3600);
    /// Entries of the kernel that rules of the fleet may take, and at most a quarter of all.
    pub const FLEET_RULES: u32 = 4096;
    /// Exemptions by the fleet, which leave most of the allowlist to operators of this host.
    pub const FLEET_ALLOWED: usize = 256;
    /// An incident does not ask again for a rule that an operator removed for this long.
    pub const REMOVED: Duration = Duration::from_secs(600);
    /// Shortest IPv4 prefix that may be blocked without force: a /16 is 65,536 addresses.
    pub const MIN_PREFIX_V4: u8 = 16;
    /// Shortest IPv6 prefix that may be blocked without force: the allocation of one provider.
    pub const MIN_PREFIX_V6: u8 = 32;
    /// Signature rules.
    pub const SIGNATURES: u32 = maps::MAX_SIGNATURES;
    /// Closed incidents kept, those of most worth ([`crate::retained`]).
    pub const PAST_INCIDENTS: usize = 64;
    /// Entries of an incident's list of actions; further ones are not noted.
    pub const ACTIONS: usize = 64;
}
