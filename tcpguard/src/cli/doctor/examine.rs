//! The report: every check of the host and of the agent, on the facts.

use tcpguard_host::doctor::{Checked, Doctor, Status, checks};
use tcpguard_host::obstacle::Obstacle;
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
    let checked = [
        agent::running(facts),
        of_host(&checks::FIRST),
        agent::stale_pins(facts),
        of_host(&[checks::CONFIG]),
        of_host(&checks::INTERFACES),
        agent::next_programs(facts),
        of_host(&checks::THEN),
        agent::version(facts),
    ]
    .concat();
    // A fact that the agent finds as well is said once.
    let is_said = |one: &Checked| {
        let one = &one.finding;
        let is_obstacle = Obstacle::CODES.contains(&&*one.code);
        let found = checked.iter().filter(|other| other.status == Status::Found);
        found.map(|other| &other.finding).any(|other| match is_obstacle {
            true => other.code == one.code || other.hint.is_some() && other.hint == one.hint,
            false => other.code == one.code && other.subject == one.subject,
        })
    };
    let health: Vec<Checked> =
        agent::health(facts).into_iter().filter(|one| !is_said(one)).collect();
    [checked, health, agent::selftest(facts)].concat()
}

#[cfg(test)]
mod tests;
