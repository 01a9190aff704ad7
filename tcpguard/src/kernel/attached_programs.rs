//! The programs of others on an interface.

use std::collections::BTreeMap;
use std::fmt;

use aya::programs::tc::TcAttachType;
use aya::programs::{ProgramInfo, SchedClassifier, loaded_programs};
use aya_obj::generated::bpf_attach_type::{self, BPF_TCX_EGRESS, BPF_TCX_INGRESS};

use super::object::{EGRESS, INGRESS};
use super::redeem::REDEEM;
use crate::host::attachments::{self, Direction, Filter, XdpPrograms};
use crate::host::{self, Interface};

/// Hook at which a program is attached.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Hook {
    /// XDP in the driver.
    XdpNative,
    /// XDP in the network stack.
    XdpGeneric,
    /// XDP in the hardware.
    XdpHardware,
    /// TCX for arriving packets.
    TcxIngress,
    /// TCX for departing packets.
    TcxEgress,
    /// A filter for arriving packets.
    ClsactIngress,
    /// A filter for departing packets.
    ClsactEgress,
}

impl Hook {
    /// Returns its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::XdpNative => "native XDP",
            Self::XdpGeneric => "generic XDP",
            Self::XdpHardware => "XDP in hardware",
            Self::TcxIngress => "TCX ingress",
            Self::TcxEgress => "TCX egress",
            Self::ClsactIngress => "clsact ingress",
            Self::ClsactEgress => "clsact egress",
        }
    }

    /// Returns the kernel's type for it, where it is one of TCX's.
    pub(super) const fn tcx(self) -> Option<bpf_attach_type> {
        match self {
            Self::TcxIngress => Some(BPF_TCX_INGRESS),
            Self::TcxEgress => Some(BPF_TCX_EGRESS),
            _ => None,
        }
    }

    /// Returns whether it is one of XDP's, of which an interface has one only.
    pub const fn is_xdp(self) -> bool {
        matches!(self, Self::XdpNative | Self::XdpGeneric | Self::XdpHardware)
    }
}

/// A program on an interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attached {
    /// Hook at which it is attached.
    pub hook: Hook,
    /// Its kernel id; `None` for a filter that is no BPF program.
    pub id: Option<u32>,
    /// Its name, or a filter's kind; `None` where this process may not ask (CAP_SYS_ADMIN).
    pub name: Option<String>,
}

impl Attached {
    /// Returns whether it is one of tcpguard's own programs.
    pub fn is_ours(&self) -> bool {
        // The kernel keeps 15 characters of a name.
        let ours = [INGRESS, EGRESS, REDEEM];
        self.name.as_deref().is_some_and(|name| {
            ours.iter().any(|own| name == *own || name == &own[..own.len().min(15)])
        })
    }

    /// Returns whether it is the dispatcher of libxdp, behind which several programs run.
    pub fn is_dispatcher(&self) -> bool {
        self.name.as_deref() == Some("xdp_dispatcher")
    }
}

impl fmt::Display for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or("name unknown");
        match self.id {
            Some(id) => write!(f, "{name} (id {id}, {})", self.hook.name()),
            None => write!(f, "{name} ({})", self.hook.name()),
        }
    }
}

/// The XDP programs on the interface with this index; none where it cannot be asked. Names are
/// missing where they cannot be.
pub fn xdp(index: u32) -> Vec<Attached> {
    let Ok(place) = attachments::place(index) else { return Vec::new() };
    let names = names();
    of_xdp(place.xdp, |id| names.get(&id).cloned())
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
pub fn attached(interface: &Interface, xdp: XdpPrograms) -> Result<Vec<Attached>, host::Error> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: Option<&str>) -> Attached {
        Attached { hook: Hook::XdpNative, id: Some(1), name: name.map(str::to_owned) }
    }

    #[test]
    fn own_programs_are_known_by_their_names_whole_or_cut() {
        for (name, ours) in [
            (Some("tcpguard_ingress"), true),
            (Some("tcpguard_ingres"), true),
            (Some("tcpguard_egress"), true),
            (Some("tcpguard"), false),
            (Some("xdp_dispatcher"), false),
            (None, false),
        ] {
            assert_eq!(named(name).is_ours(), ours, "{name:?}");
        }
        assert!(named(Some("xdp_dispatcher")).is_dispatcher());
    }
}
