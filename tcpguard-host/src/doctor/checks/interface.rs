//! The interfaces that are attached, or are to be.

use super::super::document::Checked;
use super::super::facts::{Facts, InterfaceFacts, Link};
use crate::linux::interfaces::OperState;
use crate::linux::programs::Hook;
use crate::tune::{Kind, Row, Word};

/// The largest MTU at which every packet fits one page together with the space that XDP needs: 4096 bytes
/// less headroom (256), `struct skb_shared_info` (320) and the Ethernet header (14) with one VLAN tag (4)
/// (`veth_xdp_set`, drivers/net/veth.c, and `virtnet_xdp_set`, drivers/net/virtio_net.c).
const ONE_PAGE: u32 = 4096 - 256 - 320 - 14 - 4;

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
                format!(
                    "there is none of that name; this host has: {}",
                    interface.existing.join(", ")
                ),
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
            let text = "it carries no Ethernet frames, such as a tunnel; guard the Ethernet \
                            interface below it";
            let edit = "edit /etc/tcpguard/tcpguard.toml: [interfaces] names";
            return Some(Checked::critical(CODE, text).hint(edit));
        }
        let words = "the loopback interface: nobody attacks from there";
        link.loopback.then(|| Checked::notice(CODE, words))
    })
}

pub(in super::super) fn up(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "link_state";
    each(facts, |name, link| {
        let state = link.state;
        matches!(state, OperState::Down | OperState::Waiting).then(|| {
            Checked::warning(CODE, format!("it is {state}: no packets pass"))
                .hint(format!("ip link set dev {name} up"))
        })
    })
}

pub(in super::super) fn native_xdp(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "native_xdp";
    each(facts, |_, link| {
        let driver = link.driver.as_deref().unwrap_or("unknown");
        Some(match link.xdp {
            Some(features) if features.basic => {
                Checked::passed(CODE, format!("the driver ({driver}) runs XDP natively"))
            }
            Some(_) => Checked::notice(
                CODE,
                format!(
                    "EOPNOTSUPP: the driver ({driver}) has no XDP of its own; the filter runs in the \
                     network stack (generic), where a packet costs more"
                ),
            ),
            None => Checked::notice(
                CODE,
                format!(
                    "this kernel does not tell whether the driver ({driver}) has XDP (6.3 does)"
                ),
            ),
        })
    })
}

pub(in super::super) fn other_end(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "other_end";
    each(facts, |_, link| {
        let programs = link.programs.as_deref().unwrap_or_default();
        let generic = programs.iter().any(|one| one.is_ours() && one.hook == Hook::XdpGeneric);
        (link.received == Some(false) && !generic).then(|| {
            Checked::notice(
                CODE,
                "a veth whose other end has no native XDP program: what a native filter sends back \
                 (XDP_TX) is lost there, so the guard sends no SYN cookies of its own; in generic mode \
                 it does",
            )
            .hint("edit /etc/tcpguard/tcpguard.toml: [interfaces] xdp_mode = \"generic\"")
        })
    })
}

pub(in super::super) fn mtu(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "mtu";
    each(facts, |name, link| {
        let native = link.xdp.is_some_and(|features| features.basic);
        let large = link.xdp.is_some_and(|features| features.large_packets);
        if !native || link.mtu <= ONE_PAGE {
            return None;
        }
        Some(match large {
            true => Checked::passed(
                CODE,
                format!("{} is more than a page, which this driver and the filter can do", link.mtu),
            ),
            false => Checked::warning(
                CODE,
                format!(
                    "{} does not fit a page: the driver may refuse native XDP (ERANGE or EINVAL), and \
                     the filter runs in the network stack then (generic)",
                    link.mtu
                ),
            )
            .hint(format!("ip link set dev {name} mtu {ONE_PAGE}")),
        })
    })
}

pub(in super::super) fn lro(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "lro";
    each(facts, |name, link| {
        (link.merges == Some(true)).then(|| {
            Checked::warning(
                CODE,
                "it merges packets before anybody sees them (LRO): most drivers refuse native XDP with \
                 that (EINVAL), and SYNs cannot be counted",
            )
            .hint(format!("ethtool -K {name} lro off"))
        })
    })
}

pub(in super::super) fn vlan_tags(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "vlan_tags";
    each(facts, |name, link| {
        let vlans = link.vlans.join(", ");
        match (link.strips_vlan, link.vlans.is_empty()) {
            (Some(true), false) => Some(
                Checked::warning(
                    CODE,
                    format!(
                        "it takes VLAN tags off before XDP: clients on {vlans} get no SYN cookies, \
                         because the answer would lack the tag"
                    ),
                )
                .hint(format!("ethtool -K {name} rxvlan off")),
            ),
            _ => None,
        }
    })
}

pub(in super::super) fn stacked(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "stacked";
    each(facts, |name, link| {
        let edit = |lower: &str| {
            format!(
                "edit /etc/tcpguard/tcpguard.toml: [interfaces] names = [{lower}] in place of {name}"
            )
        };
        let quoted: Vec<String> = link.members.iter().map(|name| format!("{name:?}")).collect();
        let members = quoted.join(", ");
        match (link.kind.as_deref(), &link.master, &link.below) {
            (Some(kind @ ("bridge" | "bond" | "team")), _, _) if !members.is_empty() => Some(
                Checked::warning(
                    CODE,
                    format!(
                        "a {kind} of {members}: packets are in the network stack already when it sees \
                         them; the filter belongs on its members"
                    ),
                )
                .hint(edit(&members)),
            ),
            (Some(kind @ ("vlan" | "macvlan" | "ipvlan")), _, Some(below)) => Some(
                Checked::warning(
                    CODE,
                    format!(
                        "a {kind} upon {below}: packets are in the network stack already when it sees \
                         them; the filter belongs on {below}, and knows VLAN tags"
                    ),
                )
                .hint(edit(&format!("{below:?}"))),
            ),
            (_, Some((master, kind)), _) => Some(Checked::notice(
                CODE,
                format!(
                    "a member of {master} ({kind}): right for the filter; guard every member that \
                     clients come by"
                ),
            )),
            _ => None,
        }
    })
}

/// The findings of `tune` about an interface's rings and queues.
pub(in super::super) fn queues(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "queues";
    each(facts, |name, _| {
        let of_it = |row: &&Row| {
            row.kind == Kind::Interface
                && row.verdict == Word::Change
                && row.name.split_once(' ').is_some_and(|(interface, _)| interface == name)
        };
        let rows: Vec<&Row> = facts.tune.settings.iter().filter(of_it).collect();
        let first = rows.first()?;
        let words: Vec<String> =
            rows.iter().map(|row| format!("{}: {}", row.name, row.why)).collect();
        let finding = Checked::notice(CODE, words.join("; "));
        Some(match &first.command {
            Some(command) => finding.hint(command),
            None => finding,
        })
    })
}

pub(in super::super) fn losses(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "lost_by_interface";
    each(facts, |_, link| {
        let lost = link.device.lost?;
        let received = facts.host.load.received;
        Some(if lost == 0 {
            Checked::passed(CODE, "its ring has never overflowed since boot")
        } else if facts.host.load.is_burst(lost) {
            Checked::notice(CODE, format!("{lost} packets since boot, of some {received} received"))
        } else {
            Checked::warning(
                CODE,
                format!(
                    "{lost} packets since boot, of some {received} received, before the filter could \
                     see them: clients among them"
                ),
            )
            .hint("tcpguard tune")
        })
    })
}
