//! Checks of the agent, of its own reports, and of its self-tests.

use tcpguard_common::abi::ABI_VERSION;
use tcpguard_host::doctor::{Checked, Status as CheckStatus};

use super::facts::{Agent, Facts, SelfTested};
use crate::bpf::{Layout, Usage};
use crate::documents::selftest::CookieBackend;
use crate::documents::{BackendInUse, Cookies, Status};
use crate::text;

fn status(facts: &Facts) -> Option<&Status> {
    match &facts.agent {
        Agent::Running(status) => Some(status),
        Agent::NotRunning | Agent::Denied(_) | Agent::Silent(_) => None,
    }
}

pub(super) fn running(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "agent";
    vec![match &facts.agent {
        Agent::Running(status) => {
            Checked::passed(CODE, format!("process {}, mode {}", status.daemon.pid, mode(status)))
        }
        Agent::NotRunning => match of_other_directories(facts) {
            Some(pid) => Checked::unknown(
                CODE,
                format!("process {pid} protects this network namespace, and its sockets are in another directory"),
            )
            .hint("tcpguard doctor --runtime-dir DIR"),
            None => Checked::critical(CODE, "agent not running: floods are not mitigated")
                .hint("systemctl start tcpguard"),
        },
        Agent::Denied(reason) => Checked::unknown(CODE, reason).hint("sudo tcpguard doctor"),
        Agent::Silent(reason) => Checked::critical(CODE, reason).hint("systemctl restart tcpguard"),
    }]
}

/// Process ID of the agent that holds the lock of this network namespace, although none listens on the socket.
fn of_other_directories(facts: &Facts) -> Option<u32> {
    let mut here = facts.layouts.iter().filter(|(layout, _)| facts.netns == Some(layout.netns));
    here.find_map(|(_, usage)| match usage {
        Usage::Agent(pid) => Some(*pid),
        _ => None,
    })
}

fn mode(status: &Status) -> &'static str {
    status.daemon.mode.name()
}

/// Finds pins that belong to no running agent: of other versions, of ended network namespaces, of an agent that no
/// longer runs.
pub(super) fn stale_pins(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "stale_pins";
    let left = facts.layouts.iter().filter_map(|(layout, usage)| {
        let finding = match facts.netns == Some(layout.netns) {
            true => left_here(facts, layout, *usage),
            false => left_elsewhere(facts, layout, *usage),
        };
        let path = layout.path(&facts.of_host.pins.dir);
        Some(finding?.about(path.display().to_string()))
    });
    let mut findings: Vec<Checked> = left.collect();
    if findings.is_empty() {
        findings.push(Checked::passed(CODE, "no pins without a running agent"));
    }
    findings
}

/// Judges pins of this network namespace.
fn left_here(facts: &Facts, layout: &Layout, usage: Usage) -> Option<Checked> {
    const CODE: &str = "stale_pins";
    if layout.interfaces.is_empty() {
        return None;
    }
    let on = layout.interfaces.join(", ");
    let status = status(facts);
    let room = status.and_then(|status| status.rule_capacity());
    let finding = match layout.is_of_this_abi() {
        true if room.is_some_and(|room| room != layout.room()) => Checked::warning(
            CODE,
            format!(
                "left on {on} by an agent with room for {} rules; the one that runs takes such things off \
                 in its first seconds, and has not",
                layout.room()
            ),
        )
        .hint("systemctl restart tcpguard"),
        true if status.is_some() || matches!(usage, Usage::Agent(_) | Usage::Left) => return None,
        true => Checked::warning(
            CODE,
            format!("agent not running, XDP program still attached to {on}: it passes everything after 30s"),
        )
        .hint("systemctl start tcpguard"),
        false => Checked::warning(
            CODE,
            format!(
                "left on {on} by a version of tcpguard with layout {}; an agent of this one, which has \
                 {ABI_VERSION}, takes it over",
                layout.version
            ),
        )
        .hint("systemctl restart tcpguard"),
    };
    Some(finding)
}

/// Judges pins of another network namespace. The agent of this one does not need them.
fn left_elsewhere(facts: &Facts, layout: &Layout, usage: Usage) -> Option<Checked> {
    const CODE: &str = "stale_pins";
    let remove = format!("rm -rf {}", layout.path(&facts.of_host.pins.dir).display());
    match usage {
        Usage::Agent(_) | Usage::Empty => None,
        Usage::Attached => Some(
            Checked::warning(
                CODE,
                format!(
                    "no agent runs in this other network namespace. Its XDP program is still attached to {} and \
                     passes everything: start an agent there or remove it",
                    layout.interfaces.join(", ")
                ),
            )
            .hint(remove),
        ),
        Usage::Left => Some(
            Checked::notice(
                CODE,
                "left by the agent of another network namespace that has ended or has no interfaces. The maps keep \
                 some 30 MiB of memory.",
            )
            .hint(remove),
        ),
        Usage::Unknown => Some(
            Checked::notice(
                CODE,
                "of another network namespace: of a container that runs, or of one that has ended. An agent that \
                 starts removes those of ended ones.",
            )
            .hint("systemctl restart tcpguard"),
        ),
    }
}

pub(super) fn version(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "agent_version";
    let own = env!("CARGO_PKG_VERSION");
    let Some(status) = status(facts) else { return Vec::new() };
    let agent = &status.daemon.version;
    vec![match agent == own {
        true => Checked::passed(CODE, format!("agent and command are {own}")),
        false => Checked::warning(
            CODE,
            format!("the agent is {agent} and this command {own}: it was not started anew since"),
        )
        .hint("systemctl restart tcpguard"),
    }]
}

/// The next program of each interface that has one. The agent's own findings name those that cannot be had.
pub(super) fn next_programs(facts: &Facts) -> Vec<Checked> {
    let interfaces = status(facts).map_or(&[][..], |status| &status.interfaces);
    let next = interfaces.iter().filter_map(|interface| {
        let next = interface.next_program.as_ref()?;
        let text = format!("packets that pass are handed on to {} (id {})", next.name, next.id?);
        Some(Checked::passed("next_program", text).about(&interface.name))
    });
    next.collect()
}

/// The agent's own findings, with their severity.
pub(super) fn health(facts: &Facts) -> Vec<Checked> {
    match status(facts) {
        None => Vec::new(),
        Some(status) if status.health.is_empty() => {
            vec![Checked::passed("agent_health", "the agent has no findings")]
        }
        Some(status) => status.health.iter().cloned().map(Checked::from).collect(),
    }
}

/// Reports the best SYN cookies that work on this host, and whether the agent uses any.
pub(super) fn selftest(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "cookies";
    let mut findings = vec![match &facts.selftest {
        // The test has namespaces of its own, without the host's rules.
        SelfTested::Known { best: Some(best) } => {
            let nat = facts.of_host.firewall.nat();
            let nat = nat.filter(|_| best.starts_with(CookieBackend::Own.name()));
            let nat = nat.map_or_else(String::new, |nat| format!("; not beside NAT: {}", nat.why()));
            Checked::passed(CODE, format!("tested: {best}{nat}"))
        }
        SelfTested::Known { best: None } => {
            Checked::warning(CODE, "tested: no SYN cookies work").hint("tcpguard doctor --selftest")
        }
        SelfTested::Hidden => Checked::unknown(CODE, "only root can read the result of the test")
            .hint("sudo tcpguard doctor"),
        SelfTested::Stale => Checked::notice(
            CODE,
            "not tested with this kernel, version and these sysctls: each listener is tested before its \
             first SYN cookie",
        )
        .hint("sudo tcpguard doctor --selftest"),
    }];
    if let Some(status) = status(facts)
        && findings[0].status == CheckStatus::Passed
    {
        findings.extend(in_use(&status.cookies));
    }
    findings
}

/// The obstacle to SYN cookies, or the families whose cookies another backend makes.
fn in_use(cookies: &Cookies) -> Option<Checked> {
    const CODE: &str = "cookies";
    let of = cookies.by_family.iter().map(|of| of.backend).chain([cookies.backend]);
    let text = format!("SYN cookies {}", text::cookie_backends(cookies));
    match of.clone().any(|backend| backend == BackendInUse::None) {
        true => Some(Checked::warning(CODE, text).hint("systemctl restart tcpguard")),
        false if cookies.by_family.is_empty() => None,
        false => Some(Checked::notice(CODE, text).hint("tcpguard status --full")),
    }
}
