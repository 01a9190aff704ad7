//! Checks of other programs on the interfaces.

use super::super::document::Finding;
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
pub(in super::super) fn xdp(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "xdp_program";
    let mut findings = Vec::new();
    for interface in &facts.interfaces {
        let name = &interface.name;
        let finding = match of(interface, |program| program.hook.is_xdp()) {
            None => continue,
            Some(Err(reason)) => {
                Finding::unknown(ID, reason).fix(format!("ip link show dev {name}"))
            }
            Some(Ok(programs)) => one_place(ID, name, &programs),
        };
        findings.push(finding.about(name));
    }
    findings
}

fn one_place(id: &str, interface: &str, programs: &[&Attached]) -> Finding {
    let Some(first) = programs.first() else {
        return Finding::passed(id, "the place is free");
    };
    if programs.iter().all(|program| program.is_ours()) {
        let names: Vec<String> = programs.iter().map(|program| program.to_string()).collect();
        return Finding::passed(id, format!("the guard's own: {}", names.join(", ")));
    }
    let foreign = programs.iter().find(|program| !program.is_ours()).unwrap_or(first);
    if foreign.name.is_none() {
        let evidence = format!("a program is there, {}: only root may see whose", foreign);
        return Finding::unknown(id, evidence).fix("sudo tcpguard doctor");
    }
    let refusal = "the guard is refused there, with EBUSY in the same mode and EEXIST in the other";
    if foreign.is_dispatcher() {
        return Finding::blocking(
            id,
            format!("libxdp's dispatcher has the place, {}: {refusal}", foreign),
        )
        .fix(format!("xdp-loader status {interface} && xdp-loader unload {interface} --all"));
    }
    Finding::blocking(id, format!("another program has the place, {}: {refusal}", foreign))
        .fix(format!("bpftool net show dev {interface} && ip link set dev {interface} xdp off"))
}

/// At tc there is room for many, and their order counts.
pub(in super::super) fn tc(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "tc_programs";
    let mut findings = Vec::new();
    for interface in &facts.interfaces {
        let wanted = |program: &Attached| !program.hook.is_xdp() && !program.is_ours();
        let finding = match of(interface, wanted) {
            None => continue,
            Some(Err(reason)) => Finding::unknown(ID, reason)
                .fix(format!("tc filter show dev {} egress", interface.name)),
            Some(Ok(others)) if others.is_empty() => Finding::passed(ID, "nobody else's"),
            Some(Ok(others)) => {
                let mut names: Vec<String> =
                    others.iter().map(|program| program.to_string()).collect();
                // A filter of several parts is listed once for each.
                names.dedup();
                Finding::note(
                    ID,
                    format!(
                        "{}: one that drops or redirects packets may hide answers from the guard",
                        names.join(", ")
                    ),
                )
                .fix(format!("bpftool net show dev {}", interface.name))
            }
        };
        findings.push(finding.about(&interface.name));
    }
    findings
}
