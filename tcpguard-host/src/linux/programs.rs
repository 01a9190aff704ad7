//! Programs on an interface, as the kernel lists them.

use std::fmt;

/// Name of tcpguard's XDP program.
pub const INGRESS: &str = "tcpguard_ingress";
/// Name of its program for departing packets.
pub const EGRESS: &str = "tcpguard_egress";
/// Name of its program that takes cookies back.
pub const REDEEM: &str = "tcpguard_redeem";

/// Names of tcpguard's own programs on an interface.
const OURS: [&str; 3] = [INGRESS, EGRESS, REDEEM];

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
        self.name.as_deref().is_some_and(|name| {
            OURS.iter().any(|own| name == *own || name == &own[..own.len().min(15)])
        })
    }

    /// Returns whether it is the dispatcher of libxdp, behind which several programs run.
    pub fn is_dispatcher(&self) -> bool {
        self.name.as_deref() == Some("xdp_dispatcher")
    }

    /// Returns whether it is one of xdp-filter's.
    pub fn is_xdp_filter(&self) -> bool {
        self.name.as_deref().is_some_and(|name| name.starts_with("xdpfilt"))
    }

    /// Returns whether it is one of Cilium's, which attaches it again when it is detached.
    pub fn is_cilium(&self) -> bool {
        self.name.as_deref().is_some_and(|name| name.starts_with("cil_"))
    }

    /// Returns whether it can be tcpguard's next program. The programs of libxdp need its dispatcher before them, and
    /// Cilium attaches its own itself.
    pub fn can_be_next(&self) -> bool {
        let is_managed = self.is_dispatcher() || self.is_xdp_filter() || self.is_cilium();
        self.hook.is_xdp() && self.id.is_some() && self.name.is_some() && !is_managed
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

    #[test]
    fn programs_that_another_tool_manages_cannot_be_next() {
        for (name, can) in [
            (Some("balancer"), true),
            (Some("xdp_dispatcher"), false),
            (Some("xdpfilt_alw_all"), false),
            (Some("cil_xdp_entry"), false),
            (None, false),
        ] {
            assert_eq!(named(name).can_be_next(), can, "{name:?}");
        }
    }
}
