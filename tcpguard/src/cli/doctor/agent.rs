//! Checks of the agent, of its own reports, and of its self-tests.

use tcpguard_common::abi::ABI_VERSION;
use tcpguard_engine::Mode;
use tcpguard_host::doctor::{Finding, Outcome};
use tcpguard_host::finding::Severity;

use super::facts::{Agent, Facts, Probed};
use crate::documents::{CookieBackend, Status};

/// Findings of the agent that a check here has better words for.
const REPORTED_ELSEWHERE: [&str; 2] = ["rule_drift", "detached"];

fn status(facts: &Facts) -> Option<&Status> {
    match &facts.agent {
        Agent::Running(status) => Some(status),
        Agent::NotRunning | Agent::Denied(_) | Agent::Silent(_) => None,
    }
}

pub(super) fn running(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "agent";
    vec![match &facts.agent {
        Agent::Running(status) => {
            Finding::passed(ID, format!("process {}, mode {}", status.daemon.pid, mode(status)))
        }
        Agent::NotRunning => Finding::blocking(ID, "no agent runs: nothing is guarded")
            .fix("systemctl start tcpguard"),
        Agent::Denied(reason) => Finding::unknown(ID, reason).fix("sudo tcpguard doctor"),
        Agent::Silent(reason) => Finding::blocking(ID, reason).fix("systemctl restart tcpguard"),
    }]
}

fn mode(status: &Status) -> &'static str {
    match status.daemon.mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
        Mode::Off => "off",
    }
}

/// Finds pins that other versions have left, or an agent that no longer runs.
pub(super) fn stale_pins(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "stale_pins";
    let status = status(facts);
    let room = status.and_then(|status| status.rule_capacity());
    let mut findings = Vec::new();
    for layout in &facts.layouts {
        let on = layout.interfaces.join(", ");
        let name =
            format!("{}/v{}-{}", facts.of_host.pins.dir.display(), layout.version, layout.netns);
        let here = facts.netns == Some(layout.netns);
        let finding = match (here, layout.is_of_this_abi(), layout.interfaces.is_empty()) {
            (true, _, true) => continue,
            (true, true, false) if room.is_some_and(|room| room != layout.room()) => Finding::warning(
                ID,
                format!(
                    "left on {on} by an agent with room for {} rules; the one that runs takes such things off \
                     in its first seconds, and has not",
                    layout.room()
                ),
            )
            .fix("systemctl restart tcpguard"),
            (true, true, false) if status.is_some() => continue,
            (true, true, false) => Finding::warning(
                ID,
                format!("no agent runs, and its filter is still on {on}; after 30 s it passes everything"),
            )
            .fix("systemctl start tcpguard"),
            (true, false, false) => Finding::warning(
                ID,
                format!(
                    "left on {on} by a version of tcpguard with layout {}; an agent of this one, which has \
                     {ABI_VERSION}, takes it over",
                    layout.version
                ),
            )
            .fix("systemctl restart tcpguard"),
            (false, _, _) => Finding::note(
                ID,
                "of another network namespace: of a container that runs, or of one that is gone",
            ),
        };
        findings.push(finding.about(name));
    }
    if findings.is_empty() {
        findings.push(Finding::passed(ID, "nothing is left of other versions"));
    }
    findings
}

pub(super) fn version(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "agent_version";
    let own = env!("CARGO_PKG_VERSION");
    let Some(status) = status(facts) else { return Vec::new() };
    let agent = &status.daemon.version;
    vec![match agent == own {
        true => Finding::passed(ID, format!("agent and command are {own}")),
        false => Finding::warning(
            ID,
            format!("the agent is {agent} and this command {own}: it was not started anew since"),
        )
        .fix("systemctl restart tcpguard"),
    }]
}

/// Compares the wanted state with the state in the kernel.
pub(super) fn drift(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "drift";
    let Some(status) = status(facts) else { return Vec::new() };
    let mut findings = Vec::new();
    let rules = &status.rules;
    if let Some(since) = rules.drift_since {
        let found = rules.in_kernel.map_or("unknown".to_owned(), |count| count.to_string());
        findings.push(
            Finding::warning(
                ID,
                format!(
                    "{} rules are wanted, {found} are in the kernel, since {since}",
                    rules.wanted
                ),
            )
            .fix("systemctl restart tcpguard"),
        );
    }
    for interface in status.interfaces.iter().filter(|interface| !interface.attached) {
        findings.push(
            Finding::blocking(ID, "the filter is not on it, although the agent guards it")
                .about(&interface.name)
                .fix("systemctl restart tcpguard"),
        );
    }
    if findings.is_empty() {
        let words =
            format!("{} rules and {} interfaces, as wanted", rules.wanted, status.interfaces.len());
        findings.push(Finding::passed(ID, words));
    }
    findings
}

/// The agent's own health findings.
pub(super) fn health(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "agent_health";
    let Some(status) = status(facts) else { return Vec::new() };
    let mut findings: Vec<Finding> = status
        .health
        .iter()
        .filter(|health| !REPORTED_ELSEWHERE.contains(&health.code.as_str()))
        .map(|health| {
            let evidence = format!("{}: {}", health.code, health.text);
            let finding = match health.severity {
                Severity::Notice => Finding::note(ID, evidence),
                Severity::Warning | Severity::Critical => Finding::warning(ID, evidence),
            };
            let finding = finding.fix(&health.hint);
            match &health.subject {
                Some(subject) => finding.about(subject),
                None => finding,
            }
        })
        .collect();
    if findings.is_empty() {
        findings.push(Finding::passed(ID, "the agent has nothing to complain of"));
    }
    findings
}

/// Reports the best SYN cookies that work on this host, and whether the agent uses any.
pub(super) fn selftest(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "cookies";
    let mut findings = vec![match &facts.selftest {
        Probed::Known { best: Some(best) } => Finding::passed(ID, format!("tried here: {best}")),
        Probed::Known { best: None } => {
            Finding::warning(ID, "tried here: no SYN cookies work").fix("tcpguard selftest")
        }
        Probed::Hidden => Finding::unknown(ID, "which were tried here, only root may read")
            .fix("sudo tcpguard doctor"),
        Probed::Stale => Finding::note(
            ID,
            "not tried for this kernel, this version and these sysctls: the agent uses the kernel's own \
             until it is",
        )
        .fix("sudo tcpguard selftest && sudo systemctl restart tcpguard"),
    }];
    if let Some(status) = status(facts)
        && findings[0].result == Outcome::Passed
        && status.cookies.backend == CookieBackend::None
    {
        let why = status.cookies.reason.as_deref().unwrap_or("it does not say why");
        findings.push(
            Finding::warning(ID, format!("the agent uses none: {why}"))
                .fix("systemctl restart tcpguard"),
        );
    }
    findings
}
