//! The report: every check of the host and of the agent, on the facts.

use tcpguard_host::doctor::{Checked, Doctor, checks};
use tcpguard_host::time::Time;

use super::agent;
use super::facts::Facts;

/// The report with the results of every check. With `one_interface`, of those that tell whether the agent would work on
/// the interfaces that the caller named.
pub(super) fn examine(facts: &Facts, one_interface: bool, at: Time) -> Doctor {
    let kernel = facts.of_host.kernel.release.clone();
    let root = facts.of_host.privileges.root;
    Doctor::new(at, env!("CARGO_PKG_VERSION"), kernel, root, &checked(facts, one_interface))
}

/// The results: whether the host is protected, and then in the order in which a start would depend on
/// their subjects.
fn checked(facts: &Facts, one_interface: bool) -> Vec<Checked> {
    let of_host = |checks: &[checks::Check]| -> Vec<Checked> {
        checks.iter().flat_map(|check| check(&facts.of_host)).collect()
    };
    if one_interface {
        return [of_host(&checks::FIRST), of_host(&checks::INTERFACES)].concat();
    }
    [
        agent::running(facts),
        of_host(&checks::FIRST),
        agent::stale_pins(facts),
        of_host(&[checks::CONFIG]),
        of_host(&checks::INTERFACES),
        agent::next_programs(facts),
        of_host(&checks::THEN),
        agent::version(facts),
        agent::health(facts),
        agent::selftest(facts),
    ]
    .concat()
}

#[cfg(test)]
mod tests;
