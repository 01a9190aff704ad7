//! Checks of the interfaces that are attached or configured.

use super::super::document::Checked;
use super::super::facts::{Facts, InterfaceFacts, Link, MULTI_BUFFER};
use crate::finding::link_down;
use crate::linux::interfaces::OperState;
use crate::linux::programs::Hook;
use crate::linux::xdp_driver::{self, QueueRule, XdpDriver};
use crate::obstacle::{Impeded, Obstacle};

/// One finding for each interface that exists; none where `judge` has nothing to say.
fn each(facts: &Facts, judge: impl Fn(&str, &Link) -> Option<Checked>) -> Vec<Checked> {
    let existing = facts.interfaces.iter().filter_map(|interface| {
        let link = interface.link.as_ref()?;
        Some(judge(&interface.name, link)?.about(&interface.name))
    });
    existing.collect()
}

pub(in super::super) fn exists(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "interface";
    let finding = |interface: &InterfaceFacts| {
        let finding = match &interface.link {
            Some(link) => {
                let driver = link.driver.as_deref().unwrap_or("unknown");
                Checked::passed(CODE, format!("driver {driver}, MTU {}", link.mtu))
            }
            None => Checked::critical(
                CODE,
                format!("no such interface; this host has: {}", interface.existing.join(", ")),
            )
            .hint("edit /etc/tcpguard/tcpguard.toml: [interfaces] names"),
        };
        finding.about(&interface.name)
    };
    facts.interfaces.iter().map(finding).collect()
}

pub(in super::super) fn ethernet(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "ethernet";
    each(facts, |_, link| {
        if !link.ethernet {
            let text = "no Ethernet frames, as on a tunnel: SYNs inside a tunnel cannot be protected. Attach to the \
                        interfaces with all other client traffic.";
            let edit = "edit /etc/tcpguard/tcpguard.toml: [interfaces] names";
            return Some(Checked::critical(CODE, text).hint(edit));
        }
        let words = "the loopback interface carries no attack";
        link.loopback.then(|| Checked::notice(CODE, words))
    })
}

pub(in super::super) fn up(facts: &Facts) -> Vec<Checked> {
    each(facts, |name, link| {
        let is_down = matches!(link.state, OperState::Down | OperState::Waiting);
        is_down.then(|| link_down(name).into())
    })
}

pub(in super::super) fn native_xdp(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "native_xdp";
    each(facts, |_, link| {
        let driver = link.driver.as_deref().unwrap_or("unknown");
        Some(match link.xdp {
            _ if link.fixed_offloads == Some(true) => Checked::warning(
                CODE,
                format!(
                    "EOPNOTSUPP: driver {driver} refuses native XDP, because the host merges or checks packets \
                     and offers no ctrl_guest_offloads. The program runs in generic mode, at a higher cost \
                     per packet."
                ),
            )
            .hint("edit the virtual machine on its host: ctrl_guest_offloads=on of its virtio-net device"),
            Some(features) if features.basic => {
                let choice = xdp_driver::against_native(link.kind.as_deref(), link.received);
                let choice =
                    choice.map(|why| format!(", and xdp_mode = \"auto\" takes generic mode: {why}"));
                let choice = choice.unwrap_or_default();
                Checked::passed(CODE, format!("driver {driver} supports native XDP{choice}"))
            }
            // The finding about its queues has the command.
            Some(_) if most_queues_exceeded(link).is_some() => Checked::notice(
                CODE,
                format!("driver {driver} offers no native XDP with so many queues"),
            ),
            Some(_) => Checked::notice(
                CODE,
                format!(
                    "EOPNOTSUPP: driver {driver} does not support native XDP. The program runs in \
                     generic mode, at a higher cost per packet."
                ),
            ),
            None => Checked::notice(
                CODE,
                format!("native XDP support of driver {driver} is unknown before Linux 6.3"),
            ),
        })
    })
}

/// The most queues with which the driver runs a native program, if there are more.
fn most_queues_exceeded(link: &Link) -> Option<u32> {
    let queues = link.device.queues?;
    let most = xdp_driver::most_queues(link.driver.as_deref(), queues.max);
    (queues.now > most).then_some(most)
}

pub(in super::super) fn xdp_queues(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "xdp_queues";
    each(facts, |name, link| {
        let queues = link.device.queues?;
        let driver = link.driver.as_deref()?;
        if let Some(most) = most_queues_exceeded(link) {
            let text = format!(
                "{} queues: driver {driver} refuses native XDP with more than half of {}. The program then \
                 runs in generic mode.",
                queues.now, queues.max
            );
            return Some(Checked::warning(CODE, text).hint(xdp_driver::set_queues(
                Some(driver),
                name,
                most,
            )));
        }
        let rule = XdpDriver::find(driver)?.queues?;
        let needed = queues.now.saturating_add(facts.host.cpus);
        (rule == QueueRule::SpareForEachCpu && needed > queues.max).then(|| {
            Checked::notice(
                CODE,
                format!(
                    "{} of {} queues: without a free one for each of {} CPUs, driver {driver} transmits \
                     under a lock. SYN cookies cost more.",
                    queues.now, queues.max, facts.host.cpus
                ),
            )
        })
    })
}

pub(in super::super) fn other_end(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "other_end";
    each(facts, |name, link| {
        (link.received == Some(false) && runs_ours(link, Hook::XdpNative))
            .then(|| of(CODE, Obstacle::NotReceived { interface: name.to_owned() }))
    })
}

/// The rate that bulk TCP loses to the mode of the program. docs/nics-and-clouds.md has the measurements.
pub(in super::super) fn bulk_tcp(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "bulk_tcp";
    each(facts, |_, link| {
        match link.kind.as_deref() {
        Some("veth") => runs_ours(link, Hook::XdpNative).then(|| {
            let text = "native XDP on a veth switches off segmentation offload (TSO) of its peer: bulk TCP that \
                        arrives has a quarter of its rate at MTU 1500";
            let edit = "edit /etc/tcpguard/tcpguard.toml: [interfaces] xdp_mode = \"generic\"";
            Checked::notice(CODE, text).hint(edit)
        }),
        // A device of the network stack, such as a bridge, gets packets that were merged before.
        Some(_) => None,
        None => runs_ours(link, Hook::XdpGeneric).then(|| {
            let text = "generic XDP switches GRO off, although ethtool shows it on: bulk TCP that arrives has half of its \
                        rate where the CPU is the limit. Native mode keeps GRO.";
            Checked::notice(CODE, text)
        }),
    }
    })
}

/// Returns whether tcpguard's program is attached to the interface at this hook.
fn runs_ours(link: &Link, hook: Hook) -> bool {
    let programs = link.programs.as_deref().unwrap_or_default();
    programs.iter().any(|one| one.is_ours() && one.hook == hook)
}

pub(in super::super) fn mtu(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "mtu";
    let page = facts.kernel.page_bytes;
    each(facts, |name, link| {
        // The MTU of a bond is that of its members.
        let bond = link.master.as_ref().filter(|(_, kind)| kind == "bond");
        let device = bond.map_or(name, |(bond, _)| bond);
        let advice = |most: u32| format!("ip link set dev {device} mtu {most}");
        let known = link.driver.as_deref().and_then(XdpDriver::find);
        if let Some((driver, most)) = known.and_then(|it| Some((it.name, it.largest_mtu(page)?))) {
            return (link.mtu > most).then(|| {
                let text = format!(
                    "MTU {}: driver {driver} refuses native XDP above {most}. The program then runs in \
                     generic mode.",
                    link.mtu
                );
                Checked::warning(CODE, text).hint(advice(most))
            });
        }
        let most = xdp_driver::one_page(page);
        if link.mtu <= most || link.loopback {
            return None;
        }
        if facts.kernel.lacks(MULTI_BUFFER) {
            let text = format!(
                "MTU {} exceeds a page: without {MULTI_BUFFER} in this kernel (Linux 5.18), native XDP takes {most} \
                 at most. The program then runs in generic mode.",
                link.mtu
            );
            return Some(Checked::notice(CODE, text));
        }
        let features = link.xdp.filter(|features| features.basic)?;
        Some(match features.large_packets {
            true => Checked::passed(
                CODE,
                format!("MTU {} exceeds a page, and the driver supports that", link.mtu),
            ),
            false => Checked::warning(
                CODE,
                format!(
                    "MTU {} exceeds a page: the driver may refuse native XDP (ERANGE or EINVAL), and the \
                     program then runs in generic mode",
                    link.mtu
                ),
            )
            .hint(advice(most)),
        })
    })
}

pub(in super::super) fn lro(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "lro";
    each(facts, |name, link| {
        (link.merges == Some(true)).then(|| {
            Checked::warning(
                CODE,
                "LRO merges packets before XDP: most drivers then refuse native XDP (EINVAL), and SYNs \
                 are not counted",
            )
            .hint(format!("ethtool -K {name} lro off"))
        })
    })
}

pub(in super::super) fn vlan_tags(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "vlan_tags";
    each(facts, |name, link| {
        let (interface, vlans) = (name.to_owned(), link.vlans.join(", "));
        let is_stripped = link.strips_vlan == Some(true) && !link.vlans.is_empty();
        is_stripped.then(|| of(CODE, Obstacle::TagStripped { interface, vlans }))
    })
}

/// The finding about an obstacle to cookies for the clients of an interface.
fn of(code: &str, obstacle: Obstacle) -> Checked {
    debug_assert_eq!(obstacle.code(), code, "one code for the check and the obstacle");
    Impeded::<&str> { obstacle, at: Vec::new() }.finding().into()
}

pub(in super::super) fn stacked(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "stacked";
    each(facts, |name, link| {
        let edit = |lower: &str| {
            format!(
                "edit /etc/tcpguard/tcpguard.toml: [interfaces] names = [{lower}] in place of {name}"
            )
        };
        let is_attached_by_bond =
            facts.interfaces.iter().any(|one| one.name == name && one.bond.is_some());
        let quoted: Vec<String> = link.members.iter().map(|name| format!("{name:?}")).collect();
        let members = quoted.join(", ");
        match (link.kind.as_deref(), &link.master, &link.below) {
            (Some("bond"), _, _) if !members.is_empty() => {
                Some(Checked::passed(CODE, format!("a bond of {members}, which are attached with it")))
            }
            (Some(kind @ ("bridge" | "team")), _, _) if !members.is_empty() => Some(
                Checked::warning(
                    CODE,
                    format!(
                        "a {kind} of {members}: its packets have already entered the network stack. Attach \
                         to its members."
                    ),
                )
                .hint(edit(&members)),
            ),
            (Some(kind @ ("vlan" | "macvlan" | "ipvlan")), _, Some(below)) => Some(
                Checked::warning(
                    CODE,
                    format!(
                        "a {kind} upon {below}: its packets have already entered the network stack. Attach \
                         to {below}, where VLAN tags are recognised."
                    ),
                )
                .hint(edit(&format!("{below:?}"))),
            ),
            _ if is_attached_by_bond => None,
            (_, Some((master, kind)), _) if kind == "bond" => {
                Some(member_of_bond(master, &unattached_siblings(facts, link)))
            }
            (_, Some((_, kind)), _) if kind == "vrf" => {
                let vrf = Obstacle::Vrf { interface: name.to_owned() };
                Some(of(vrf.code(), vrf))
            }
            (_, Some((master, kind)), _) => Some(Checked::notice(
                CODE,
                format!("a member of {master} ({kind}): attach to every member with client traffic"),
            )),
            _ => None,
        }
    })
}

/// The other members of an interface's bond that are neither attached nor examined.
fn unattached_siblings<'a>(facts: &Facts, link: &'a Link) -> Vec<&'a str> {
    let is_examined = |name: &str| facts.interfaces.iter().any(|one| one.name == name);
    let missing = link.siblings.iter().filter(|(name, attached)| !attached && !is_examined(name));
    missing.map(|(name, _)| name.as_str()).collect()
}

fn member_of_bond(bond: &str, missing: &[&str]) -> Checked {
    const CODE: &str = "stacked";
    if missing.is_empty() {
        return Checked::passed(
            CODE,
            format!("a member of {bond} (bond), as are all others of it"),
        );
    }
    let missing = missing.join(", ");
    Checked::warning(
        CODE,
        format!(
            "a member of {bond} (bond), of which {missing} is not attached: SYNs that arrive there are not \
             seen. Attach to the bond, or to every member."
        ),
    )
    .hint(format!("edit /etc/tcpguard/tcpguard.toml: [interfaces] names = [{bond:?}]"))
}
