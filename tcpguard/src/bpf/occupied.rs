//! The program in the only XDP slot of an interface, and the way to free that slot.

use tcpguard_host::linux::programs::{Attached, Hook};

use super::KernelError;
use super::pins::PIN_DIR;

/// Beginning of the names of xdp-filter's programs.
const XDP_FILTER: &str = "xdpfilt";

/// The error for an interface that has the XDP programs `others`, as far as that can be seen.
pub(super) fn occupied_by(interface: String, others: &[Attached]) -> KernelError {
    let Some(other) = others.first() else {
        let way_out = format!("tcpguard doctor -i {interface}, detach it");
        return KernelError::Occupied { interface, by: String::new(), way_out, keep: None };
    };
    let (by, way_out) = (format!(" ({})", in_words(other)), way_out(&interface, other));
    KernelError::Occupied { interface, by, way_out, keep: keep(other) }
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
        None => format!("sudo tcpguard doctor -i {interface}, detach it"),
        Some(_) if other.is_dispatcher() => {
            format!("xdp-loader unload {interface} --all")
        }
        Some(name) if name.starts_with(XDP_FILTER) => {
            format!("xdp-filter unload {interface}")
        }
        Some(_) => {
            let place = match other.hook {
                Hook::XdpGeneric => "xdpgeneric",
                Hook::XdpHardware => "xdpoffload",
                _ => "xdpdrv",
            };
            format!(
                "ip link set dev {interface} {place} off, or stop its owner (bpftool link show)"
            )
        }
    }
}

/// The steps by which the program runs behind tcpguard's. Those of libxdp need a dispatcher before them.
fn keep(other: &Attached) -> Option<String> {
    let (id, name) = (other.id?, other.name.as_deref()?);
    if other.is_dispatcher() || name.starts_with(XDP_FILTER) {
        return None;
    }
    // A BPF file system takes no dots.
    let name = name.replace('.', "_");
    Some(format!(
        "bpftool prog pin id {id} {PIN_DIR}/next/{name}, and name it under [[interface]]: next_program = \
         \"{name}\""
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcpguard_host::hint::Hint as _;
    use tcpguard_support::hint_check;

    fn message(others: &[Attached]) -> String {
        let error = occupied_by("eth0".to_owned(), others);
        assert!(hint_check::is_named(&error.hint()), "{error}");
        error.with_hint()
    }

    fn other(hook: Hook, name: Option<&str>) -> Attached {
        Attached { hook, id: Some(42), name: name.map(str::to_owned) }
    }

    #[test]
    fn each_program_has_its_command_of_removal() {
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
            (Hook::XdpNative, None, "(native XDP, id 42)", "sudo tcpguard doctor -i eth0"),
        ] {
            let error = message(&[other(hook, name)]);
            assert!(error.contains(by) && error.contains(way_out), "{error}");
        }
    }

    #[test]
    fn a_program_that_can_run_behind_is_offered_that() {
        let offer = "Or keep it as the next program. First pin it: bpftool prog pin id 42 \
                     /sys/fs/bpf/tcpguard/next/balancer, and name it under [[interface]]: \
                     next_program = \"balancer\"";
        for (name, offered) in [
            (Some("balancer"), true),
            (Some("xdp_dispatcher"), false),
            (Some("xdpfilt_alw_all"), false),
            (None, false),
        ] {
            let error = message(&[other(Hook::XdpNative, name)]);
            assert_eq!(error.contains(offer), offered, "{error}");
        }
    }

    #[test]
    fn one_that_cannot_be_seen_is_left_to_the_doctor() {
        assert!(message(&[]).contains("tcpguard doctor -i eth0"));
    }
}
