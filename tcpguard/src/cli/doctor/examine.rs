//! The report: every check of the host and of the agent, on the facts.

use tcpguard_host::doctor::{Checked, Doctor, checks};
use tcpguard_host::time::Time;

use super::agent;
use super::facts::Facts;

/// The report with the results of every check; with `only_interfaces` of those about interfaces.
pub(super) fn examine(facts: &Facts, only_interfaces: bool, at: Time) -> Doctor {
    let kernel = facts.of_host.kernel.release.as_ref().map(|release| release.name.clone());
    let root = facts.of_host.privileges.root;
    Doctor::new(at, env!("CARGO_PKG_VERSION"), kernel, root, &checked(facts, only_interfaces))
}

/// The results: whether the host is protected, and then in the order in which a start would depend on
/// their subjects.
fn checked(facts: &Facts, only_interfaces: bool) -> Vec<Checked> {
    let of_host = |checks: &[checks::Check]| -> Vec<Checked> {
        let checks = checks.iter().filter(|check| check.of_interfaces || !only_interfaces);
        checks.flat_map(|check| (check.run)(&facts.of_host)).collect()
    };
    let of_agent = |checks: &[fn(&Facts) -> Vec<Checked>]| -> Vec<Checked> {
        let checks = checks.iter().filter(|_| !only_interfaces);
        checks.flat_map(|check| check(facts)).collect()
    };
    [
        of_agent(&[agent::running]),
        of_host(&checks::FIRST),
        of_agent(&[agent::stale_pins]),
        of_host(&checks::THEN),
        of_agent(&[agent::version, agent::health, agent::selftest]),
    ]
    .concat()
}

#[cfg(test)]
mod tests;
