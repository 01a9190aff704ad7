//! The sentence of each obstacle, and its remedy.

use std::fmt;

use tcpguard_engine::Unanswered;

use super::Obstacle;
use crate::firewall::Kind;

/// The remedy where the XDP program cannot send in native mode.
const GENERIC: &str = "edit /etc/tcpguard/tcpguard.toml: [interfaces] xdp_mode = \"generic\"";

/// The sentence and the remedy.
impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. Remedy: {}", self.sentence(), self.remedy())
    }
}

impl Obstacle {
    /// Returns what prevents cookies at the listener that it is about.
    #[expect(clippy::too_many_lines, reason = "a table: one sentence an obstacle")]
    pub fn sentence(&self) -> String {
        let fixed = match self {
            Self::NoCookies { switched_off: true } => {
                "net.ipv4.tcp_syncookies is 0, so the kernel accepts no SYN cookie"
            }
            Self::NoCookies { switched_off: false } => {
                "this kernel was built without CONFIG_SYN_COOKIES and accepts no SYN cookie"
            }
            Self::AlwaysCookies => {
                "net.ipv4.tcp_syncookies is 2: the kernel answers SYNs with cookies, and such SYN-ACKs do not show how \
                 the listener replies"
            }
            Self::NoBackend(why) => why,
            Self::Barred => "the configuration forbids them ([[listener]] cookies = false)",
            Self::NotLocal => {
                "no socket of this host listens at this address and port: another host, container, guest or port \
                 answers"
            }
            Self::NeverAnswered => "no SYN-ACK of it was seen yet, as the model for replies",
            Self::Unseen => {
                "clients complete handshakes, but no SYN-ACK of it is seen: another program sends them, IPsec encrypts \
                 them, or they leave by an interface that is not attached"
            }
            Self::Shared => {
                "a forwarded or translated service replies at the same address and port, and its connections must \
                 not get SYN cookies"
            }
            Self::SwitchedOff(names) => {
                return format!(
                    "its recorded SYN-ACKs use options that were switched off since ({}), and the kernel accepts no \
                     connection with them",
                    names.join(", ")
                );
            }
            Self::Mptcp { no_helper } => {
                let why = "the listener uses MPTCP, and the kernel accepts own SYN cookies for plain TCP only";
                return beside_helper(why, no_helper.as_deref());
            }
            Self::Nat { nat, no_helper } => return beside_helper(&nat.why(), no_helper.as_deref()),
            Self::Redirected { offence, port: Some(_) } => {
                return format!(
                    "{offence} translates the port to another one of this host, and a connection with a cookie would \
                     not be translated"
                );
            }
            Self::Redirected { offence, port: None } => {
                return format!(
                    "{offence} translates to this port: its SYN-ACKs leave from the port that clients use and do not \
                     show how it replies"
                );
            }
            Self::Elsewhere { ifindex } => {
                return format!("its SYN-ACKs leave by interface {ifindex}, which is not attached");
            }
            Self::Vrf { interface } => {
                return format!(
                    "{interface} is a port of a VRF: its sockets cannot be found by the packets, so no connection \
                     there may get SYN cookies"
                );
            }
            Self::Behind { interface, program } => {
                return format!(
                    "another tc program runs before tcpguard's at the ingress of {interface}, {program}: if it ends \
                     the chain, no SYN cookie is validated"
                );
            }
            Self::NoTransmit { interface } => {
                return format!("the driver of {interface} does not support XDP_TX");
            }
            Self::NotReceived { interface } => {
                return format!(
                    "{interface} is a veth, and its peer has no native XDP program: frames sent by XDP_TX are lost"
                );
            }
            Self::TagStripped { interface, vlans } => {
                return format!(
                    "{interface} strips VLAN tags before XDP, and replies would lack that of {vlans}"
                );
            }
            Self::Firewall { offence, .. } => return format!("{offence} {}", offence.why()),
            Self::NoneAnswered { syns, why } => {
                return format!(
                    "none of {syns} SYNs in 3 s could be answered: {}",
                    unanswered(*why)
                );
            }
        };
        fixed.to_owned()
    }

    /// Returns the remedy: a command, or an instruction that names one.
    pub fn remedy(&self) -> String {
        let fixed = match self {
            Self::NoCookies { switched_off: true } | Self::AlwaysCookies => {
                "sysctl -w net.ipv4.tcp_syncookies=1"
            }
            Self::NoCookies { switched_off: false } => {
                "use a kernel with CONFIG_SYN_COOKIES=y, check: zgrep CONFIG_SYN_COOKIES /proc/config.gz"
            }
            Self::NoBackend(_) => "after the correction: systemctl restart tcpguard",
            Self::Barred => "set cookies = true in its [[listener]] block, then: tcpguard reload",
            Self::Mptcp { .. } => {
                "start it with GODEBUG=multipathtcp=0 (Go), or restart it after: sysctl -w net.mptcp.enabled=0"
            }
            Self::Behind { .. } => "find its owner by its id: bpftool prog show",
            Self::NotLocal => {
                "run tcpguard where it is answered, or let the application listen on this port itself: ss -lnt"
            }
            Self::NeverAnswered => "check that it listens: ss -lnt",
            Self::Unseen => "find the interface: ip route get ADDRESS, and add it to [interfaces]",
            Self::Shared => "give the services different ports: tcpguard status --listeners",
            Self::Elsewhere { .. } => "add it to [interfaces], find its name: ip link",
            Self::NoTransmit { .. } | Self::NotReceived { .. } => GENERIC,
            Self::Nat { no_helper: Some(_), .. } => {
                "set cookies.backend = \"auto\", or remove the NAT: tcpguard doctor"
            }
            Self::NoneAnswered { why, .. } => unanswered_remedy(*why),
            Self::Firewall { offence, own, mark } => firewall_remedy(offence.kind, *own, *mark),
            Self::Nat { nat, no_helper: None } => return nat.listing(),
            Self::SwitchedOff(names) => {
                let on = names.iter().map(|name| match *name {
                    "net.ipv4.tcp_ecn" => "net.ipv4.tcp_ecn=2".to_owned(),
                    name => format!("{name}=1"),
                });
                return format!("sysctl -w {}", on.collect::<Vec<_>>().join(" "));
            }
            Self::Redirected { offence, port } => {
                let port =
                    port.map_or_else(|| "that port".to_owned(), |port| format!("port {port}"));
                return format!(
                    "let the application listen on {port} itself (a systemd socket unit needs no root), and remove \
                     the rule: {}",
                    offence.listing()
                );
            }
            Self::Vrf { interface } => {
                return format!(
                    "take the service out of the VRF: ip -details link show dev {interface}"
                );
            }
            Self::TagStripped { interface, .. } => {
                return format!("ethtool -K {interface} rxvlan off");
            }
        };
        fixed.to_owned()
    }
}

/// A reason against own cookies, and whether the kernel's helper makes them.
fn beside_helper(why: &str, no_helper: Option<&str>) -> String {
    match no_helper {
        None => format!("{why}: the kernel's helper makes them, with fewer TCP options"),
        Some(no_helper) => {
            format!(
                "{why}, and the kernel's helper cannot make cookies in their place: {no_helper}"
            )
        }
    }
}

const fn unanswered(why: Unanswered) -> &'static str {
    match why {
        Unanswered::NoWay => {
            "the host's replies to their sources leave by another interface or VLAN than they came by, or none was \
             seen"
        }
        Unanswered::OtherMac => {
            "they are sent to an Ethernet address that no interface of this host has"
        }
        Unanswered::NoCookie => "no cookie could be made for them",
        _ => "no SYN-ACK of the host's own shows how it replies",
    }
}

const fn unanswered_remedy(why: Unanswered) -> &'static str {
    match why {
        Unanswered::NoWay => "compare: ip route get ADDRESS",
        Unanswered::OtherMac => "compare: ip -details link",
        Unanswered::NoCookie => "test this host: tcpguard doctor --selftest",
        _ => "compare: tcpguard status --listeners",
    }
}

const fn firewall_remedy(kind: Kind, own: bool, mark: u32) -> &'static str {
    match (kind, own, mark) {
        (Kind::Strict, ..) => "sysctl -w net.netfilter.nf_conntrack_tcp_loose=1",
        (Kind::Bypassed, ..) => {
            "let it match connections (ct state new) in place of SYN flags, or bypass it knowingly with \
             cookies.firewall = \"allow\": tcpguard doctor"
        }
        (Kind::Synproxy, ..) => "use one of the two: tcpguard doctor",
        (Kind::Steers | Kind::Translates, ..) => "limit the rule to other ports: tcpguard doctor",
        (Kind::Changes, ..) => {
            "let it match connections (ct state new) in place of SYN flags: tcpguard doctor"
        }
        (Kind::Rewrites, ..) => {
            "limit it to other ports, or to an MSS of at least 1220 bytes: tcpguard doctor"
        }
        (_, true, 0) => {
            "set cookies.mark, and accept that mark before it, by the rules of: tcpguard doctor"
        }
        (_, true, _) => "accept the mark before it, by the rules of: tcpguard doctor",
        (_, false, _) => {
            "let it match connections (ct state new) without flags, since the kernel's cookies cannot be marked: \
             tcpguard doctor"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::examples;
    use super::*;
    use tcpguard_support::hint_check;

    #[test]
    fn every_obstacle_names_the_remedy_in_one_way() {
        for obstacle in examples() {
            let (sentence, remedy) = (obstacle.sentence(), obstacle.remedy());
            assert!(hint_check::is_named(&remedy), "{obstacle:?}: {remedy}");
            assert!(!sentence.ends_with('.') && !sentence.contains(". "), "{sentence}");
            assert_eq!(obstacle.to_string(), format!("{sentence}. Remedy: {remedy}"));
        }
    }

    #[test]
    fn a_sysctl_is_advised_against_its_present_value() {
        for (obstacle, present) in [
            (Obstacle::NoCookies { switched_off: true }, "is 0"),
            (Obstacle::AlwaysCookies, "is 2"),
        ] {
            assert!(obstacle.sentence().contains(present), "{obstacle}");
            assert_eq!(obstacle.remedy(), "sysctl -w net.ipv4.tcp_syncookies=1");
        }
    }

    #[test]
    fn mptcp_has_the_remedy_of_go_and_that_of_the_host() {
        for no_helper in [None, Some("old kernel".to_owned())] {
            let remedy = Obstacle::Mptcp { no_helper }.remedy();
            assert!(remedy.contains("GODEBUG=multipathtcp=0"), "{remedy}");
            assert!(remedy.ends_with("sysctl -w net.mptcp.enabled=0"), "{remedy}");
        }
    }
}
