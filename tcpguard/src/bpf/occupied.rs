//! The program in the only XDP slot of an interface, and the way to free that slot.

use tcpguard_host::linux::programs::{Attached, Hook};

use super::KernelError;
use super::pins::PIN_DIR;

/// The error for `interface`, which the kernel gives no XDP program: `here` are the programs on it, `above`
/// those on the interfaces directly above it, as far as they can be seen.
pub(super) fn occupied_by(
    interface: String,
    here: &[Attached],
    above: &[(String, Attached)],
) -> KernelError {
    let (holder, other, place) = match (here.first(), above.first()) {
        (Some(other), _) => (&interface, other, interface.clone()),
        (None, Some((upper, other))) => {
            (upper, other, format!("{upper}, which is above {interface}"))
        }
        (None, None) => {
            let way_out = format!("tcpguard doctor -i {interface}, detach it");
            let by = String::new();
            return KernelError::Occupied { place: interface, by, way_out, keep: None };
        }
    };
    // The next program gets the packets of the interface itself.
    let keep = keep(other).filter(|_| !here.is_empty());
    let (by, way_out) = (format!(" ({})", in_words(other)), way_out(holder, other));
    KernelError::Occupied { place, by, way_out, keep }
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
    if other.name.is_none() {
        // This process may not ask for its name.
        return format!("sudo tcpguard doctor -i {interface}, detach it");
    }
    if other.is_ours() {
        return format!(
            "end its agent (pgrep -a tcpguard); where none runs: sudo tcpguard detach -i {interface}"
        );
    }
    if other.is_dispatcher() {
        return format!("xdp-loader unload {interface} --all");
    }
    if other.is_xdp_filter() {
        return format!("xdp-filter unload {interface}");
    }
    if other.is_cilium() {
        return "run Cilium without XDP acceleration (Helm value loadBalancer.acceleration=disabled)"
            .to_owned();
    }
    let place = match other.hook {
        Hook::XdpGeneric => "xdpgeneric",
        Hook::XdpHardware => "xdpoffload",
        _ => "xdpdrv",
    };
    format!("ip link set dev {interface} {place} off, or stop its owner (bpftool link show)")
}

/// The steps by which the program runs behind tcpguard's.
fn keep(other: &Attached) -> Option<String> {
    let (id, name) = (other.id?, other.name.as_deref()?);
    if !other.can_be_next() {
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
        checked(occupied_by("eth0".to_owned(), others, &[]))
    }

    fn checked(error: KernelError) -> String {
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
            (
                Hook::XdpNative,
                Some("cil_xdp_entry"),
                "(native XDP, id 42, cil_xdp_entry)",
                "loadBalancer.acceleration=disabled",
            ),
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
            (Some("cil_xdp_entry"), false),
            (None, false),
        ] {
            let error = message(&[other(Hook::XdpNative, name)]);
            assert_eq!(error.contains(offer), offered, "{error}");
        }
    }

    #[test]
    fn a_program_above_is_named_with_its_interface() {
        for (name, way_out) in [
            ("balancer", "ip link set dev br0 xdpgeneric off"),
            (
                "tcpguard_ingress",
                "end its agent (pgrep -a tcpguard); where none runs: sudo tcpguard detach",
            ),
        ] {
            let above = ("br0".to_owned(), other(Hook::XdpGeneric, Some(name)));
            let error = checked(occupied_by("eth0".to_owned(), &[], &[above]));
            let place = "attached to br0, which is above eth0 (generic XDP, id 42, ";
            assert!(error.contains(place) && error.contains(way_out), "{error}");
            assert!(!error.contains("next program"), "{error}");
        }
    }

    #[test]
    fn one_that_cannot_be_seen_is_left_to_the_doctor() {
        assert!(message(&[]).contains("tcpguard doctor -i eth0"));
    }
}
