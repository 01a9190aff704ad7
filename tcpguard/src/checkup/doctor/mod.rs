//! Obstacles to tcpguard on this host, and conditions that weaken it: each check comes with its evidence
//! and a remedy.
//!
//! [`gather()`] reads, the checks judge the facts, and nothing is changed.

pub mod bundle;
mod checks;
mod document;
mod errno;
pub mod facts;
mod gather;

pub use document::{Doctor, Finding, Outcome, SCHEMA, is_command};
pub use facts::Facts;
pub use gather::{Places, gather};

use crate::status::Time;

/// The report with the findings of every check; with `only_interfaces` of those about interfaces.
pub fn examine(facts: &Facts, only_interfaces: bool, at: Time) -> Doctor {
    let checks = checks::CHECKS.iter().filter(|check| check.of_interfaces || !only_interfaces);
    let findings: Vec<Finding> = checks.flat_map(|check| (check.run)(facts)).collect();
    let unknown = findings.iter().any(|finding| finding.result == Outcome::Unknown);
    Doctor {
        schema: SCHEMA.to_owned(),
        generated_at: at,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: facts.kernel.release.as_ref().map(|release| release.name.clone()),
        result: findings.iter().map(|finding| finding.result).max().unwrap_or(Outcome::Passed),
        complete: facts.privileges.root || !unknown,
        findings,
    }
}

#[cfg(test)]
mod tests;
