//! The programs of others on an interface.

use std::collections::BTreeMap;

use aya::programs::tc::TcAttachType;
use aya::programs::{ProgramInfo, SchedClassifier, loaded_programs};
use aya_obj::generated::bpf_attach_type::{self, BPF_TCX_EGRESS, BPF_TCX_INGRESS};
use tcpguard_host::linux::attachments::{self, Direction, Filter, XdpPrograms};
use tcpguard_host::linux::programs::{Attached, Hook};
use tcpguard_host::linux::{self, Interface, Xdp};

/// Returns the kernel's type for a hook, where it is one of TCX's.
pub(super) const fn tcx(hook: Hook) -> Option<bpf_attach_type> {
    match hook {
        Hook::TcxIngress => Some(BPF_TCX_INGRESS),
        Hook::TcxEgress => Some(BPF_TCX_EGRESS),
        _ => None,
    }
}

/// The XDP programs on the interface with this index; none where it cannot be asked. Names are
/// missing where they cannot be.
pub fn xdp(index: u32) -> Vec<Attached> {
    let Ok(place) = attachments::place(index) else { return Vec::new() };
    let names = names();
    of_xdp(place.xdp, |id| names.get(&id).cloned())
}

/// The XDP programs on the interfaces of `all` directly above `interface`, each with the name of its
/// interface. While there is one, the kernel attaches none to `interface` (`dev_xdp_attach`, net/core/dev.c).
pub fn xdp_above(interface: &Interface, all: &[Interface]) -> Vec<(String, Attached)> {
    let uppers = interface.uppers(all).filter(|upper| upper.xdp != Xdp::None);
    let programs = |upper: &Interface| {
        let name = upper.name.clone();
        xdp(upper.index).into_iter().map(move |program| (name.clone(), program))
    };
    uppers.flat_map(programs).collect()
}

fn of_xdp(xdp: XdpPrograms, name: impl Fn(u32) -> Option<String>) -> Vec<Attached> {
    let places = [
        (Hook::XdpNative, xdp.native),
        (Hook::XdpGeneric, xdp.generic),
        (Hook::XdpHardware, xdp.hardware),
    ];
    let program = |(hook, id): (Hook, Option<u32>)| {
        id.map(|id| Attached { hook, id: Some(id), name: name(id) })
    };
    places.into_iter().filter_map(program).collect()
}

/// Every program on an interface with these XDP programs.
///
/// # Errors
/// When the interface cannot be asked. Names are missing where they cannot be.
pub fn attached(interface: &Interface, xdp: XdpPrograms) -> Result<Vec<Attached>, linux::Error> {
    let names = names();
    let name = |id: u32| names.get(&id).cloned();
    let mut found = of_xdp(xdp, name);
    for (hook, direction) in
        [(Hook::TcxIngress, TcAttachType::Ingress), (Hook::TcxEgress, TcAttachType::Egress)]
    {
        // Before 6.6 there is no TCX, and without rights no answer.
        if let Ok((_, programs)) = SchedClassifier::query_tcx(&interface.name, direction) {
            found.extend(programs.iter().map(|program| Attached {
                hook,
                id: Some(program.id()),
                name: Some(name_of(program)),
            }));
        }
    }
    for (hook, direction) in
        [(Hook::ClsactIngress, Direction::Ingress), (Hook::ClsactEgress, Direction::Egress)]
    {
        found.extend(of_filters(hook, &attachments::filters(interface.index, direction)?, name));
    }
    Ok(found)
}

/// The programs with these kernel ids, which hang at `hook`.
pub(super) fn programs(hook: Hook, ids: &[u32]) -> Vec<Attached> {
    if ids.is_empty() {
        return Vec::new();
    }
    let names = names();
    let program = |id: &u32| Attached { hook, id: Some(*id), name: names.get(id).cloned() };
    ids.iter().map(program).collect()
}

/// Filters that hang at `hook`.
pub(super) fn filters(hook: Hook, filters: &[Filter]) -> Vec<Attached> {
    if filters.is_empty() {
        return Vec::new();
    }
    let names = names();
    of_filters(hook, filters, |id| names.get(&id).cloned()).collect()
}

fn of_filters(
    hook: Hook,
    filters: &[Filter],
    name: impl Fn(u32) -> Option<String>,
) -> impl Iterator<Item = Attached> {
    filters.iter().map(move |filter| {
        let program = filter.id.and_then(&name);
        let name = program.or(filter.name.clone()).unwrap_or(filter.kind.clone());
        Attached { hook, id: filter.id, name: Some(name) }
    })
}

/// Names of the programs in the kernel, by their ids; none without CAP_SYS_ADMIN.
fn names() -> BTreeMap<u32, String> {
    loaded_programs().flatten().map(|program| (program.id(), name_of(&program))).collect()
}

/// Returns the name of a program. Not every loader gives one.
fn name_of(program: &ProgramInfo) -> String {
    match program.name_as_str() {
        None | Some("") => "unnamed".to_owned(),
        Some(name) => name.to_owned(),
    }
}
