//! The findings of the other reports about this host. A fact is judged there, and listed here.

use super::super::document::Checked;
use super::super::facts::{Facts, Report};
use crate::finding::Finding;

/// Checks of sysctls, as `tcpguard tune` makes them.
pub(in super::super) fn sysctls(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "sysctls";
    let found = facts.tune.findings().filter(|finding| finding.code == CODE).collect();
    listed(CODE, "no change advised", found)
}

/// Checks of rings and queues of the examined interfaces, as `tcpguard tune` makes them.
pub(in super::super) fn queues(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "queues";
    let is_examined = |finding: &Finding| {
        let subject = finding.subject.as_deref().and_then(|subject| subject.split_once(' '));
        subject.is_some_and(|(name, _)| facts.interfaces.iter().any(|one| one.name == name))
    };
    let found =
        facts.tune.findings().filter(|finding| finding.code == CODE && is_examined(finding));
    found.map(Checked::from).collect()
}

/// Checks of the queues of listeners, as `tcpguard listeners` makes them.
pub(in super::super) fn listeners(facts: &Facts) -> Vec<Checked> {
    of("listeners", &facts.listeners)
}

/// Checks of connections and the resources that they use, as `tcpguard states` makes them.
pub(in super::super) fn states(facts: &Facts) -> Vec<Checked> {
    of("states", &facts.states)
}

fn of(code: &str, report: &Report) -> Vec<Checked> {
    match report {
        Ok(found) => listed(code, "nothing unusual", found.clone()),
        Err(why) => vec![Checked::unknown(code, why).hint("sudo tcpguard doctor")],
    }
}

fn listed(code: &str, passed: &str, found: Vec<Finding>) -> Vec<Checked> {
    if found.is_empty() {
        return vec![Checked::passed(code, passed)];
    }
    found.into_iter().map(Checked::from).collect()
}
