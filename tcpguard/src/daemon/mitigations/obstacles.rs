//! Obstacles that forbid the XDP program to reply with its own cookies for a listener.
//!
//! The kernel accepts such a connection only if it could have made the cookie itself. The SYN-ACK leaves
//! only by interfaces by which the listener's own SYN-ACKs were seen to leave. Missing information
//! from the kernel or the driver is no obstacle: then a test run, or the clients' third ACKs, decide.

use std::fmt;

use tcpguard_common::abi::{SynAckRecord, Unanswered, option};
use tcpguard_engine::ListenerKind;
use tcpguard_host::firewall::{Kind, Nat, Offence};
use tcpguard_host::linux::CookieSettings;

/// The state of a listener for which cookies are to be armed.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// Kind: a local socket, or a forwarded service.
    pub kind: ListenerKind,
    /// True if one of them speaks MPTCP.
    pub mptcp: bool,
    /// Format of its SYN-ACKs; `None`: none was seen yet.
    pub record: Option<&'a SynAckRecord>,
    /// The attached interfaces by which its replies leave, as far as was seen.
    pub ways: &'a [Way<'a>],
    /// Index of an interface that is not attached, if they were seen to leave by such a one only.
    pub elsewhere: Option<u32>,
    pub settings: &'a CookieSettings,
}

#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    pub name: &'a str,
    /// Their VLAN tag, as [`tcpguard_common::wire::vlan`] returns it.
    pub vlan: u32,
    /// True if the program runs in the driver, and not in the network stack, where packets can
    /// always be sent back.
    pub native: bool,
    /// Result of [`tcpguard_host::linux::device::transmits_natively`].
    pub transmits: Option<bool>,
    /// Result of [`tcpguard_host::linux::device::is_received`].
    pub received: Option<bool>,
    /// Result of [`tcpguard_host::linux::device::strips_vlan_tags`].
    pub strips_vlan: Option<bool>,
}

/// One obstacle to cookies. Its text ends with the remedy, or with a command that shows more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Obstacle {
    /// `tcp_syncookies` is 0, or the kernel has none.
    NoCookies {
        /// True if the kernel has them.
        switched_off: bool,
    },
    /// Options that its answers had are switched off: bits of [`option`].
    SwitchedOff(u32),
    /// One of its sockets speaks MPTCP.
    Mptcp,
    /// Not a socket of this host.
    NotLocal,
    /// The listener has not sent a SYN-ACK yet.
    NeverAnswered,
    /// Its replies leave by an interface that is not attached.
    Elsewhere {
        /// Index of the interface.
        ifindex: u32,
    },
    /// The driver has no `XDP_TX`.
    NoTransmit { interface: String },
    /// The other end of a veth pair does not receive frames that XDP sends back.
    NotReceived { interface: String },
    /// The hardware takes the VLAN tag off that the answer would need.
    TagStripped { interface: String, vlan: u32 },
    /// The host translates addresses, and the kernel then takes no connection from a BPF program.
    Nat {
        nat: Nat,
        /// Reason for which the kernel's helper cannot make the cookies.
        no_helper: String,
    },
    /// Cookies were to be sent, and no SYN got one.
    NoneAnswered {
        /// SYNs that got none.
        syns: u64,
        /// The reason of most.
        why: Unanswered,
    },
    /// A rule of the host's packet filter depends on the SYN, which it would not see, or would have taken or
    /// changed it.
    Firewall {
        /// The rule, and the way in which it depends on the SYN.
        offence: Box<Offence>,
        /// True if the cookies are the XDP program's own, whose ACKs can be marked.
        own: bool,
        /// The mark that the configuration gives them; 0: none.
        mark: u32,
    },
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCookies { switched_off: true } => f.write_str(
                "net.ipv4.tcp_syncookies is 0, so the kernel accepts no SYN cookie. Allow them: sysctl -w \
                 net.ipv4.tcp_syncookies=1",
            ),
            Self::NoCookies { switched_off: false } => f.write_str(
                "this kernel was built without CONFIG_SYN_COOKIES and accepts no SYN cookie. See: tcpguard \
                 doctor",
            ),
            Self::SwitchedOff(options) => {
                let names: Vec<&str> = NAMES
                    .iter()
                    .filter(|(bit, _)| options & bit != 0)
                    .map(|(_, name)| *name)
                    .collect();
                write!(
                    f,
                    "its recorded SYN-ACKs use options that were switched off since ({}), and the kernel \
                     accepts no connection with them. Switch them on with sysctl, or wait for its next \
                     SYN-ACK",
                    names.join(", ")
                )
            }
            Self::Mptcp => f.write_str(
                "it uses MPTCP, and the kernel accepts SYN cookies of BPF programs for plain TCP only. See \
                 its sockets: ss -lntM",
            ),
            Self::NotLocal => f.write_str(
                "its sockets are not on this host. See: tcpguard status --listeners",
            ),
            Self::NeverAnswered => f.write_str(
                "no SYN-ACK of it was seen yet, as the model for replies. Check that it listens: ss -lnt",
            ),
            Self::Elsewhere { ifindex } => write!(
                f,
                "its SYN-ACKs leave by interface {ifindex}, which is not attached. Add it to [interfaces], \
                 find its name: ip link"
            ),
            Self::NoTransmit { interface } => write!(
                f,
                "the driver of {interface} does not support XDP_TX. Attach in generic mode: xdp_mode = \
                 \"generic\", or --xdp-mode generic"
            ),
            Self::NotReceived { interface } => write!(
                f,
                "{interface} is a veth, and frames sent by XDP_TX are lost if its peer has no native XDP \
                 program. Attach in generic mode: xdp_mode = \"generic\", or --xdp-mode generic"
            ),
            Self::TagStripped { interface, vlan } => write!(
                f,
                "{interface} strips VLAN tags before XDP, and the reply would lack that of VLAN {vlan}. \
                 Keep them: ethtool -K {interface} rxvlan off"
            ),
            Self::Nat { nat, no_helper } => write!(
                f,
                "{}, and the kernel's helper cannot make cookies in their place: {no_helper}. See: \
                 tcpguard doctor",
                nat.why()
            ),
            Self::NoneAnswered { syns, why } => {
                write!(f, "none of {syns} SYNs in 3 s could be answered: ")?;
                f.write_str(match why {
                    Unanswered::NoWay => {
                        "the host's replies to their sources leave by another interface or VLAN than they came \
                         by, or none was seen. Compare: ip route get ADDRESS"
                    }
                    Unanswered::OtherMac => {
                        "they are sent to an Ethernet address that no interface of this host has. See: ip \
                         -details link"
                    }
                    Unanswered::NoCookie => {
                        "no cookie could be made for them. Test this host: tcpguard selftest"
                    }
                    _ => {
                        "no SYN-ACK of the host's own shows how it replies. See: tcpguard status --listeners"
                    }
                })
            }
            Self::Firewall { offence, own, mark } => {
                write!(f, "{offence} {}. ", offence.why())?;
                f.write_str(match (offence.kind, own, mark) {
                    (Kind::Strict, ..) => {
                        "Allow them: sysctl -w net.netfilter.nf_conntrack_tcp_loose=1"
                    }
                    (Kind::Bypassed, ..) => {
                        "Let it match connections (ct state new) in place of SYN flags, or bypass it \
                         knowingly with cookies.firewall = \"allow\". See: tcpguard doctor"
                    }
                    (Kind::Synproxy, ..) => {
                        "One of the two is enough. See: tcpguard doctor"
                    }
                    (Kind::Steers | Kind::Translates, ..) => {
                        "A cookie would open the connection at this listener. Limit the rule to other ports. \
                         See: tcpguard doctor"
                    }
                    (Kind::Changes, ..) => {
                        "Let it match connections (ct state new) in place of SYN flags. See: tcpguard doctor"
                    }
                    (Kind::Rewrites, ..) => {
                        "Limit it to other ports, or to an MSS of at least 1220 bytes. See: tcpguard doctor"
                    }
                    (_, true, 0) => {
                        "Set cookies.mark, and accept that mark before it, by the rules of: tcpguard \
                         doctor"
                    }
                    (_, true, _) => "Accept the mark before it, by the rules of: tcpguard doctor",
                    (_, false, _) => {
                        "The kernel's cookies cannot be marked. Let it match connections (ct state \
                         new) without flags. See: tcpguard doctor"
                    }
                })
            }
        }
    }
}

const NAMES: [(u32, &str); 4] = [
    (option::WSCALE, "net.ipv4.tcp_window_scaling"),
    (option::SACK, "net.ipv4.tcp_sack"),
    (option::TIMESTAMPS, "net.ipv4.tcp_timestamps"),
    (option::ECN, "net.ipv4.tcp_ecn"),
];

/// Options that are switched off: bits of [`option`].
fn switched_off(settings: &CookieSettings) -> u32 {
    let bit = |setting: Option<u64>, option| if matches!(setting, Some(0)) { option } else { 0 };
    bit(settings.window_scaling, option::WSCALE)
        | bit(settings.sack, option::SACK)
        | bit(settings.timestamps, option::TIMESTAMPS)
        | bit(settings.ecn, option::ECN)
}

/// A record without the options that were switched off since. Written back, it resolves
/// [`Obstacle::SwitchedOff`], and the XDP program promises only the options that the listener itself
/// would.
pub fn without_switched_off(record: &SynAckRecord, settings: &CookieSettings) -> SynAckRecord {
    SynAckRecord { options: record.options & !switched_off(settings), ..*record }
}

/// Everything that forbids it; nothing: it may be tried.
pub fn obstacles(situation: &Situation<'_>) -> Vec<Obstacle> {
    let mut found = Vec::new();
    match situation.settings.syncookies {
        Some(0) => found.push(Obstacle::NoCookies { switched_off: true }),
        None => found.push(Obstacle::NoCookies { switched_off: false }),
        Some(_) => {}
    }
    if situation.kind != ListenerKind::Local {
        found.push(Obstacle::NotLocal);
    }
    if situation.mptcp {
        found.push(Obstacle::Mptcp);
    }
    let Some(record) = situation.record else {
        found.push(Obstacle::NeverAnswered);
        return found;
    };
    let promised = record.options & switched_off(situation.settings);
    if promised != 0 {
        found.push(Obstacle::SwitchedOff(promised));
    }
    found.extend(situation.elsewhere.map(|ifindex| Obstacle::Elsewhere { ifindex }));
    for way in situation.ways {
        let interface = || way.name.to_owned();
        if way.native && way.transmits == Some(false) {
            found.push(Obstacle::NoTransmit { interface: interface() });
        }
        if way.native && way.received == Some(false) {
            found.push(Obstacle::NotReceived { interface: interface() });
        }
        if way.vlan != 0 && way.strips_vlan == Some(true) {
            let vlan = way.vlan & u32::from(u16::MAX);
            found.push(Obstacle::TagStripped { interface: interface(), vlan });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use tcpguard_common::wire::tagged;

    use super::*;
    use tcpguard_host::firewall::nat;
    use tcpguard_host::firewall::recorded::{FIREWALLD, recorded};
    use tcpguard_host::linux::netfilter::Family;
    use tcpguard_support::hint_check;

    const ALL: u32 = option::WSCALE | option::SACK | option::TIMESTAMPS | option::ECN;
    const RECORD: SynAckRecord = SynAckRecord {
        interfaces: 1 << 2,
        mss: 1460,
        window: 65_160,
        ttl: 64,
        wscale: 7,
        reserved: 0,
        options: ALL,
        foreign_at: 0,
        mss_at: 0,
    };
    const DEFAULTS: CookieSettings = CookieSettings {
        syncookies: Some(1),
        timestamps: Some(1),
        window_scaling: Some(1),
        sack: Some(1),
        ecn: Some(2),
    };
    const WAY: Way<'_> = Way {
        name: "eth0",
        vlan: 0,
        native: true,
        transmits: Some(true),
        received: None,
        strips_vlan: Some(false),
    };
    const FREE: Situation<'_> = Situation {
        kind: ListenerKind::Local,
        mptcp: false,
        record: Some(&RECORD),
        ways: &[WAY],
        elsewhere: None,
        settings: &DEFAULTS,
    };

    fn of(situation: Situation<'_>) -> Vec<Obstacle> {
        obstacles(&situation)
    }

    #[test]
    fn an_ordinary_listener_is_free() {
        assert_eq!(of(FREE), []);
        // Missing information from the kernel is no obstacle either.
        let unknown = Way { vlan: tagged(7), transmits: None, strips_vlan: None, ..WAY };
        assert_eq!(of(Situation { ways: &[unknown], ..FREE }), []);
        assert_eq!(of(Situation { ways: &[], ..FREE }), [], "no next hop was seen yet");
        let settings = &CookieSettings { ecn: None, sack: None, ..DEFAULTS };
        assert_eq!(of(Situation { settings, ..FREE }), []);
    }

    #[test]
    fn without_the_kernels_consent_no_cookie_is_of_use() {
        for (syncookies, words) in [(Some(0), "is 0"), (None, "CONFIG_SYN_COOKIES")] {
            let settings = &CookieSettings { syncookies, ..DEFAULTS };
            let found = of(Situation { settings, ..FREE });
            assert_eq!(found, [Obstacle::NoCookies { switched_off: syncookies.is_some() }]);
            assert!(found[0].to_string().contains(words), "{}", found[0]);
        }
    }

    #[test]
    fn what_was_promised_and_is_switched_off_is_named() {
        let off = CookieSettings { timestamps: Some(0), ecn: Some(0), ..DEFAULTS };
        let situation = Situation { settings: &off, ..FREE };
        let found = of(situation);
        assert_eq!(found, [Obstacle::SwitchedOff(option::TIMESTAMPS | option::ECN)]);
        let words = found[0].to_string();
        assert!(words.contains("net.ipv4.tcp_timestamps, net.ipv4.tcp_ecn"), "{words}");
        assert!(!words.contains("tcp_sack"), "{words}");
        let trimmed = without_switched_off(&RECORD, &off);
        assert_eq!(of(Situation { record: Some(&trimmed), ..situation }), []);
        assert_eq!(trimmed.options, option::WSCALE | option::SACK);
        assert_eq!(SynAckRecord { options: ALL, ..trimmed }, RECORD, "the rest stays");
        let never = SynAckRecord { options: option::SACK, ..RECORD };
        assert_eq!(of(Situation { record: Some(&never), ..situation }), [], "never promised");
    }

    #[test]
    fn only_plain_tcp_of_this_host_can_be_answered_for() {
        let forwarded = Situation { kind: ListenerKind::Forwarded, ..FREE };
        assert_eq!(of(forwarded), [Obstacle::NotLocal]);
        assert_eq!(of(Situation { mptcp: true, ..FREE }), [Obstacle::Mptcp]);
        assert_eq!(of(Situation { record: None, ..FREE }), [Obstacle::NeverAnswered]);
        let elsewhere = Situation { ways: &[], elsewhere: Some(2), ..FREE };
        assert_eq!(of(elsewhere), [Obstacle::Elsewhere { ifindex: 2 }]);
    }

    #[test]
    fn a_driver_that_cannot_transmit_is_an_obstacle_to_native_programs_only() {
        let way = Way { transmits: Some(false), ..WAY };
        let found = of(Situation { ways: &[WAY, way], ..FREE });
        assert_eq!(found, [Obstacle::NoTransmit { interface: "eth0".to_owned() }]);
        let generic = Way { native: false, ..way };
        assert_eq!(of(Situation { ways: &[generic], ..FREE }), []);
    }

    #[test]
    fn a_cable_that_takes_nothing_back_is_an_obstacle_to_native_programs_only() {
        for (native, received, expected) in [
            (true, Some(false), vec![Obstacle::NotReceived { interface: "eth0".to_owned() }]),
            (true, Some(true), vec![]),
            (true, None, vec![]),
            (false, Some(false), vec![]),
        ] {
            let ways = &[Way { native, received, ..WAY }];
            assert_eq!(of(Situation { ways, ..FREE }), expected, "{native} {received:?}");
        }
    }

    #[test]
    fn a_tag_that_the_hardware_strips_is_one_only_where_there_are_tags() {
        let way = Way { strips_vlan: Some(true), ..WAY };
        assert_eq!(of(Situation { ways: &[way], ..FREE }), []);
        let found = of(Situation { ways: &[Way { vlan: tagged(42), ..way }], ..FREE });
        assert_eq!(found, [Obstacle::TagStripped { interface: "eth0".to_owned(), vlan: 42 }]);
        assert!(found[0].to_string().contains("VLAN 42"), "{}", found[0]);
    }

    #[test]
    fn all_obstacles_are_reported_at_once() {
        let settings = &CookieSettings { syncookies: Some(0), sack: Some(0), ..DEFAULTS };
        let kind = ListenerKind::Forwarded;
        let found = of(Situation { settings, kind, mptcp: true, elsewhere: Some(2), ..FREE });
        assert_eq!(found.len(), 5, "{found:?}");
    }

    fn firewall(kind: Kind, own: bool, mark: u32) -> Obstacle {
        let offence = Offence {
            kind,
            family: Family::INET,
            table: "filter".to_owned(),
            chain: "input".to_owned(),
            legacy: false,
            handle: 7,
            place: 1,
            words: "tcp flags & (fin|syn|rst|ack) != syn ct state new drop".to_owned(),
        };
        Obstacle::Firewall { offence: Box::new(offence), own, mark }
    }

    fn behind_nat(no_helper: &str) -> Obstacle {
        let nat = nat(&recorded(FIREWALLD), true, false).expect("NAT");
        Obstacle::Nat { nat, no_helper: no_helper.to_owned() }
    }

    #[test]
    fn nat_is_named_with_its_chain_and_the_remedy() {
        let words = behind_nat("old kernel").to_string();
        assert!(words.starts_with("the kernel's NAT of IPv4 (chain nat_"), "{words}");
        assert!(words.ends_with("in their place: old kernel. See: tcpguard doctor"), "{words}");
    }

    #[test]
    fn a_rule_is_named_so_that_an_operator_finds_it() {
        let words = firewall(Kind::NotSyn, true, 0).to_string();
        assert!(words.starts_with("rule 7 of inet filter input (tcp flags & "), "{words}");
        assert!(words.contains("cookies.mark"), "{words}");
        let words = firewall(Kind::Strict, true, 0x100).to_string();
        assert!(words.ends_with("sysctl -w net.netfilter.nf_conntrack_tcp_loose=1"), "{words}");
    }

    #[test]
    fn every_obstacle_says_how_to_go_on() {
        let interface = || "eth0".to_owned();
        for obstacle in [
            Obstacle::NoCookies { switched_off: true },
            Obstacle::NoCookies { switched_off: false },
            Obstacle::SwitchedOff(ALL),
            Obstacle::Mptcp,
            Obstacle::NotLocal,
            Obstacle::NeverAnswered,
            Obstacle::Elsewhere { ifindex: 2 },
            Obstacle::NoTransmit { interface: interface() },
            Obstacle::NotReceived { interface: interface() },
            Obstacle::TagStripped { interface: interface(), vlan: 42 },
            Obstacle::NoneAnswered { syns: 64, why: Unanswered::NoRecord },
            Obstacle::NoneAnswered { syns: 64, why: Unanswered::NoWay },
            Obstacle::NoneAnswered { syns: 64, why: Unanswered::OtherMac },
            Obstacle::NoneAnswered { syns: 64, why: Unanswered::NoCookie },
            firewall(Kind::NotSyn, true, 0),
            firewall(Kind::NotSyn, true, 0x100),
            firewall(Kind::BySyn, false, 0),
            firewall(Kind::Bypassed, true, 0),
            firewall(Kind::Strict, true, 0),
            firewall(Kind::Synproxy, true, 0),
            firewall(Kind::Steers, true, 0),
            firewall(Kind::Translates, false, 0),
            firewall(Kind::Changes, true, 0),
            firewall(Kind::Rewrites, true, 0),
            behind_nat("cookies.backend = \"own\" in the configuration"),
        ] {
            assert!(hint_check::is_named(&obstacle.to_string()), "{obstacle}");
            // Every one there is stands above.
            match obstacle {
                Obstacle::NoCookies { .. }
                | Obstacle::SwitchedOff(_)
                | Obstacle::Mptcp
                | Obstacle::NotLocal
                | Obstacle::NeverAnswered
                | Obstacle::Elsewhere { .. }
                | Obstacle::NoTransmit { .. }
                | Obstacle::NotReceived { .. }
                | Obstacle::TagStripped { .. }
                | Obstacle::Nat { .. }
                | Obstacle::NoneAnswered { .. }
                | Obstacle::Firewall { .. } => {}
            }
        }
    }
}
