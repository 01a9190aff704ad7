//! Checks of other programs on the interfaces.

use super::super::document::Checked;
use super::super::facts::{Facts, InterfaceFacts};
use crate::linux::programs::Attached;

/// The programs on an interface that `wanted` accepts, or the reason why they are unknown.
fn of(
    interface: &InterfaceFacts,
    wanted: fn(&Attached) -> bool,
) -> Option<Result<Vec<&Attached>, &str>> {
    let programs = &interface.link.as_ref()?.programs;
    Some(match programs {
        Ok(programs) => Ok(programs.iter().filter(|program| wanted(program)).collect()),
        Err(reason) => Err(reason.as_str()),
    })
}

/// An interface has one slot for XDP.
pub(in super::super) fn xdp(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "xdp_program";
    let mut findings = Vec::new();
    for interface in &facts.interfaces {
        let name = &interface.name;
        let finding = match of(interface, |program| program.hook.is_xdp()) {
            None => continue,
            Some(Err(reason)) => {
                Checked::unknown(CODE, reason).hint(format!("ip link show dev {name}"))
            }
            Some(Ok(programs)) => one_slot(CODE, name, &programs),
        };
        findings.push(finding.about(name));
    }
    findings
}

fn one_slot(id: &str, interface: &str, programs: &[&Attached]) -> Checked {
    let Some(first) = programs.first() else {
        return Checked::passed(id, "no XDP program attached");
    };
    if programs.iter().all(|program| program.is_ours()) {
        let names: Vec<String> = programs.iter().map(|program| program.to_string()).collect();
        return Checked::passed(id, format!("tcpguard's program: {}", names.join(", ")));
    }
    let foreign = programs.iter().find(|program| !program.is_ours()).unwrap_or(first);
    if foreign.name.is_none() {
        let text = format!("a program is attached: {foreign}; only root can see its owner");
        return Checked::unknown(id, text).hint("sudo tcpguard doctor");
    }
    let refusal = "the agent cannot attach (EBUSY in the same mode, EEXIST in the other)";
    if foreign.is_dispatcher() {
        return Checked::critical(
            id,
            format!("libxdp's dispatcher is attached, {foreign}: {refusal}"),
        )
        .hint(format!("xdp-loader status {interface} && xdp-loader unload {interface} --all"));
    }
    let text = format!(
        "another XDP program is attached, {foreign}: {refusal}. Pinned as next_program, it can run behind \
         tcpguard's"
    );
    Checked::critical(id, text)
        .hint(format!("bpftool net show dev {interface} && ip link set dev {interface} xdp off"))
}

/// An interface has many tc programs, and their order matters.
pub(in super::super) fn tc(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "tc_programs";
    let mut findings = Vec::new();
    for interface in &facts.interfaces {
        let wanted = |program: &Attached| !program.hook.is_xdp() && !program.is_ours();
        let finding = match of(interface, wanted) {
            None => continue,
            Some(Err(reason)) => Checked::unknown(CODE, reason)
                .hint(format!("tc filter show dev {} egress", interface.name)),
            Some(Ok(others)) if others.is_empty() => Checked::passed(CODE, "no other program"),
            Some(Ok(others)) => {
                let mut names: Vec<String> =
                    others.iter().map(|program| program.to_string()).collect();
                // A filter of several parts is listed once for each.
                names.dedup();
                Checked::notice(
                    CODE,
                    format!(
                        "{}: a program that drops or redirects packets may hide SYN-ACKs from tcpguard",
                        names.join(", ")
                    ),
                )
                .hint(format!("bpftool net show dev {}", interface.name))
            }
        };
        findings.push(finding.about(&interface.name));
    }
    findings
}
