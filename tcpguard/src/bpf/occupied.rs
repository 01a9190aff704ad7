//! The program in the only XDP slot of an interface, and the way to free that slot.

use tcpguard_host::linux::programs::{Attached, Hook};

use super::KernelError;

/// The error for an interface that has the XDP programs `others`, as far as that can be seen.
pub(super) fn occupied_by(interface: String, others: &[Attached]) -> KernelError {
    let (by, way_out) = match others.first() {
        Some(other) => (format!(" ({})", in_words(other)), way_out(&interface, other)),
        None => (String::new(), format!("see: tcpguard doctor {interface}; detach it")),
    };
    KernelError::Occupied { interface, by, way_out }
}

fn in_words(other: &Attached) -> String {
    let mut words = other.hook.name().to_owned();
    if let Some(id) = other.id {
        words += &format!(", id {id}");
    }
    if let Some(name) = &other.name {
        words += &format!(", {name}");
    }
    if other.is_dispatcher() {
        words += ": libxdp's, behind which several programs run";
    }
    words
}

fn way_out(interface: &str, other: &Attached) -> String {
    match other.name.as_deref() {
        // This process may not ask for its name.
        None => format!("find its owner: sudo tcpguard doctor {interface}; detach it"),
        Some(_) if other.is_dispatcher() => {
            format!("take all of them off: xdp-loader unload {interface} --all")
        }
        Some(name) if name.starts_with("xdpfilt") => {
            format!("detach it: xdp-filter unload {interface}")
        }
        Some(_) => {
            let place = match other.hook {
                Hook::XdpGeneric => "xdpgeneric",
                Hook::XdpHardware => "xdpoffload",
                _ => "xdpdrv",
            };
            format!(
                "detach it: ip link set dev {interface} {place} off, or stop its owner: bpftool link show"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcpguard_support::hint_check;

    fn message(others: &[Attached]) -> String {
        let error = occupied_by("eth0".to_owned(), others).to_string();
        assert!(hint_check::is_named(&error), "{error}");
        error
    }

    fn other(hook: Hook, name: Option<&str>) -> Attached {
        Attached { hook, id: Some(42), name: name.map(str::to_owned) }
    }

    #[test]
    fn each_is_named_with_what_takes_it_off() {
        for (hook, name, by, way_out) in [
            (
                Hook::XdpNative,
                Some("xdp_dispatcher"),
                "(native XDP, id 42, xdp_dispatcher: libxdp's, behind which several programs run)",
                "xdp-loader unload eth0 --all, then",
            ),
            (
                Hook::XdpGeneric,
                Some("xdpfilt_alw_all"),
                "(generic XDP, id 42, xdpfilt_alw_all)",
                "xdp-filter unload eth0, then",
            ),
            (
                Hook::XdpGeneric,
                Some("balancer"),
                "(generic XDP, id 42, balancer)",
                "ip link set dev eth0 xdpgeneric off",
            ),
            (Hook::XdpNative, Some("balancer"), "(native XDP", "eth0 xdpdrv off"),
            (Hook::XdpNative, None, "(native XDP, id 42)", "sudo tcpguard doctor eth0"),
        ] {
            let error = message(&[other(hook, name)]);
            assert!(error.contains(by) && error.contains(way_out), "{error}");
        }
    }

    #[test]
    fn one_that_cannot_be_seen_is_left_to_the_doctor() {
        assert!(message(&[]).contains("tcpguard doctor eth0"));
    }
}
