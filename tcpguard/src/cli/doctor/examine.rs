//! The report: every check of the host and of the agent, on the facts.

use tcpguard_host::doctor::{Doctor, Finding, Outcome, SCHEMA, checks};
use tcpguard_host::time::Time;

use super::agent;
use super::facts::Facts;

/// The report with the findings of every check; with `only_interfaces` of those about interfaces.
pub(super) fn examine(facts: &Facts, only_interfaces: bool, at: Time) -> Doctor {
    let findings = findings(facts, only_interfaces);
    let unknown = findings.iter().any(|finding| finding.result == Outcome::Unknown);
    Doctor {
        schema: SCHEMA.to_owned(),
        generated_at: at,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: facts.of_host.kernel.release.as_ref().map(|release| release.name.clone()),
        result: findings.iter().map(|finding| finding.result).max().unwrap_or(Outcome::Passed),
        complete: facts.of_host.privileges.root || !unknown,
        findings,
    }
}

/// The findings: whether the host is protected, and then in the order in which a start would depend on
/// their subjects.
fn findings(facts: &Facts, only_interfaces: bool) -> Vec<Finding> {
    let of_host = |checks: &[checks::Check]| -> Vec<Finding> {
        let checks = checks.iter().filter(|check| check.of_interfaces || !only_interfaces);
        checks.flat_map(|check| (check.run)(&facts.of_host)).collect()
    };
    let of_agent = |checks: &[fn(&Facts) -> Vec<Finding>]| -> Vec<Finding> {
        let checks = checks.iter().filter(|_| !only_interfaces);
        checks.flat_map(|check| check(facts)).collect()
    };
    [
        of_agent(&[agent::running]),
        of_host(&checks::FIRST),
        of_agent(&[agent::stale_pins]),
        of_host(&checks::THEN),
        of_agent(&[agent::version, agent::drift, agent::health, agent::selftest]),
    ]
    .concat()
}

#[cfg(test)]
mod tests;
