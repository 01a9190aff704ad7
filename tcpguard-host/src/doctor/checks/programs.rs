//! Checks of other programs on the interfaces.

use super::super::document::Checked;
use super::super::facts::{Facts, InterfaceFacts, TCX};
use crate::linux::programs::{Attached, Hook};

/// The effect of a program on an interface that is above the examined one.
const BELOW: &str = "the agent cannot attach below it (EEXIST)";

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
            Some(Ok(programs)) => one_slot(CODE, interface, &programs),
        };
        findings.push(finding.about(name));
    }
    findings
}

/// Judges the slot of an interface with these XDP programs. The kernel also refuses a program while an interface
/// directly above has one (`dev_xdp_attach`, net/core/dev.c).
fn one_slot(id: &str, interface: &InterfaceFacts, programs: &[&Attached]) -> Checked {
    let name = &interface.name;
    if let Some(foreign) = programs.iter().find(|program| !program.is_ours()) {
        return match &interface.bond {
            Some(bond) => on_member(id, name, bond, foreign),
            None => occupied(id, name, "", foreign),
        };
    }
    if !programs.is_empty() {
        let names: Vec<String> = programs.iter().map(|program| program.to_string()).collect();
        return Checked::passed(id, format!("tcpguard's program: {}", names.join(", ")));
    }
    if let Some(bond) = &interface.bond {
        return Checked::passed(id, format!("no XDP program beside that of {bond}"));
    }
    let above = interface.link.as_ref().map_or(&[][..], |link| &link.above);
    let foreign = above.iter().find(|(_, program)| !program.is_ours());
    match foreign.or(above.first()) {
        None => Checked::passed(id, "no XDP program attached"),
        Some((upper, ours)) if ours.is_ours() => {
            let text =
                format!("tcpguard's program is attached to {upper}, which is above: {BELOW}");
            Checked::critical(id, text).hint(format!("tcpguard detach -i {upper}"))
        }
        Some((upper, foreign)) => {
            occupied(id, upper, &format!(" to {upper}, which is above"), foreign)
        }
    }
}

/// The finding about a program that occupies the slot. `holder` is the interface that has it, and `place`
/// names it where it is not the examined one.
fn occupied(id: &str, holder: &str, place: &str, foreign: &Attached) -> Checked {
    if foreign.name.is_none() {
        let text = format!("a program is attached{place}: {foreign}; only root can see its owner");
        return Checked::unknown(id, text).hint("sudo tcpguard doctor");
    }
    let refusal = match place {
        "" => "the agent cannot attach (EBUSY in the same mode, EEXIST in the other)",
        _ => BELOW,
    };
    if foreign.is_dispatcher() {
        let text = format!("libxdp's dispatcher is attached{place}, {foreign}: {refusal}");
        return Checked::critical(id, text)
            .hint(format!("xdp-loader status {holder} && xdp-loader unload {holder} --all"));
    }
    if foreign.is_cilium() {
        let text = format!(
            "Cilium's XDP program is attached{place}, {foreign}: {refusal}. Cilium attaches it again when it is \
             detached"
        );
        return Checked::critical(id, text)
            .hint("edit the Helm values of Cilium: loadBalancer.acceleration=disabled");
    }
    let mut text = format!("another XDP program is attached{place}, {foreign}: {refusal}");
    if place.is_empty() && foreign.can_be_next() {
        text += ". Pinned as next_program, it can run behind tcpguard's";
    }
    Checked::critical(id, text).hint(detach(holder))
}

/// The finding about a program on a member of an examined bond (`bond_xdp_set`, drivers/net/bonding/bond_main.c).
fn on_member(id: &str, member: &str, bond: &str, foreign: &Attached) -> Checked {
    let text = format!(
        "an XDP program is attached, {foreign}: the kernel refuses native XDP on {bond} (EOPNOTSUPP). tcpguard's \
         program then runs in generic mode."
    );
    Checked::warning(id, text).hint(detach(member))
}

/// The command that shows an interface's programs and detaches the XDP program.
fn detach(interface: &str) -> String {
    format!("bpftool net show dev {interface} && ip link set dev {interface} xdp off")
}

/// An interface has many tc programs, and their order matters.
pub(in super::super) fn tc(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "tc_programs";
    let lacks_tcx = facts.kernel.lacks(TCX);
    let mut findings = Vec::new();
    // The programs are attached to the bond, and not to its members.
    for interface in facts.interfaces.iter().filter(|interface| interface.bond.is_none()) {
        let name = &interface.name;
        let finding = match of(interface, |program| !program.hook.is_xdp()) {
            None => continue,
            Some(Err(reason)) => {
                Checked::unknown(CODE, reason).hint(format!("tc filter show dev {name} egress"))
            }
            Some(Ok(all)) => in_order(CODE, name, &all, lacks_tcx),
        };
        findings.push(finding.about(name));
    }
    findings
}

fn in_order(id: &str, interface: &str, all: &[&Attached], lacks_tcx: bool) -> Checked {
    let is_egress =
        |program: &Attached| matches!(program.hook, Hook::TcxEgress | Hook::ClsactEgress);
    let (egress, ingress): (Vec<&Attached>, Vec<&Attached>) =
        all.iter().copied().partition(|program| is_egress(program));
    let is_attached = egress.iter().any(|program| program.is_ours());
    let mut first = [ahead(&egress), ahead(&ingress)].concat();
    if !is_attached && lacks_tcx {
        // Filters of another kind keep their priority.
        first.extend(egress.iter().filter(|program| program.id.is_none()));
    }
    let names = |programs: &[&Attached]| {
        let mut names: Vec<String> = programs.iter().map(|one| one.to_string()).collect();
        // A filter of several parts is listed once for each.
        names.dedup();
        names.join(", ")
    };
    if !first.is_empty() {
        let runs = if is_attached { "run first" } else { "may run first" };
        let text = format!(
            "{}: programs that {runs}. Packets that they drop or redirect are hidden from tcpguard.",
            names(&first)
        );
        // `bpftool net show` of version 7.1 (Debian 12) lists no program at TCX.
        let hint = format!("bpftool prog show && tc filter show dev {interface} egress");
        return Checked::notice(id, text).hint(hint);
    }
    let others: Vec<&Attached> = all.iter().copied().filter(|one| !one.is_ours()).collect();
    match others.is_empty() {
        true => Checked::passed(id, "no other program"),
        false => {
            let at_ingress = |one: &&Attached| !is_egress(one) && one.id.is_some();
            let unknown = match others.iter().any(at_ingress) {
                true => {
                    ". Whether they give connections to other sockets (bpf_sk_assign) is unknown"
                }
                false => "",
            };
            let names = names(&others);
            let text = format!("tcpguard's programs run before the others: {names}{unknown}");
            Checked::passed(id, text)
        }
    }
}

/// The others of one direction that run before tcpguard's program, where it is attached: `chain` is in the
/// order in which they run.
fn ahead<'a>(chain: &[&'a Attached]) -> Vec<&'a Attached> {
    let own = chain.iter().position(|program| program.is_ours());
    chain[..own.unwrap_or(0)].to_vec()
}
