//! Obstacles that forbid the XDP program to reply with cookies for a listener.
//!
//! The SYN-ACK leaves only by interfaces by which the listener's own SYN-ACKs were seen to leave. Missing
//! information from the kernel or the driver is no obstacle: then a test run, or the clients' third ACKs, decide.

use tcpguard_common::abi::{SynAckRecord, option};
use tcpguard_engine::ListenerKind;
use tcpguard_host::firewall::Offence;
use tcpguard_host::linux::CookieSettings;
use tcpguard_host::obstacle::Obstacle;

/// The state of a listener for which cookies are to be armed.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// Kind: a local socket, or a forwarded service.
    pub kind: ListenerKind,
    pub port: u16,
    /// Format of its SYN-ACKs; `None`: none was seen yet.
    pub record: Option<&'a SynAckRecord>,
    /// True if clients complete handshakes there.
    pub completes: bool,
    /// A rule that translates the port that clients use to or from that of the listener, on this host.
    pub redirect: Option<&'a Offence>,
    /// The attached interfaces by which its replies leave, as far as was seen; without a record, all of them.
    pub ways: &'a [Way<'a>],
    /// Index of an interface that is not attached, if they were seen to leave by such a one only.
    pub elsewhere: Option<u32>,
    pub settings: &'a CookieSettings,
    /// True if the agent has set `tcp_syncookies` to 2 for as long as it needs that.
    pub lent: bool,
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
    /// True if the interface is a port of a VRF.
    pub in_vrf: bool,
}

const NAMES: [(u32, &str); 4] = [
    (option::WSCALE, "net.ipv4.tcp_window_scaling"),
    (option::SACK, "net.ipv4.tcp_sack"),
    (option::TIMESTAMPS, "net.ipv4.tcp_timestamps"),
    (option::ECN, "net.ipv4.tcp_ecn"),
];

/// The sysctls of these options.
fn names(options: u32) -> Vec<&'static str> {
    NAMES.iter().filter(|(bit, _)| options & bit != 0).map(|(_, name)| *name).collect()
}

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
        found.push(match situation.redirect {
            Some(offence) => redirected(offence, Some(situation.port)),
            None => Obstacle::NotLocal,
        });
        return found;
    }
    let of_ways = situation.ways.iter().map(of_way);
    let Some(record) = situation.record else {
        // Which of them its replies take is not known.
        let of_ways: Vec<Option<Obstacle>> = of_ways.collect();
        found.extend(of_ways.into_iter().collect::<Option<Vec<_>>>().unwrap_or_default());
        found.push(without_record(situation));
        return found;
    };
    let promised = names(record.options & switched_off(situation.settings));
    if !promised.is_empty() {
        found.push(Obstacle::SwitchedOff(promised));
    }
    found.extend(situation.elsewhere.map(|ifindex| Obstacle::Elsewhere { ifindex }));
    found.extend(of_ways.flatten());
    found
}

fn redirected(offence: &Offence, port: Option<u16>) -> Obstacle {
    Obstacle::Redirected { offence: Box::new(offence.clone()), port }
}

/// The reason for which no SYN-ACK of the listener was seen.
fn without_record(situation: &Situation<'_>) -> Obstacle {
    match (situation.settings.syncookies, situation.redirect) {
        (Some(2), _) if !situation.lent => Obstacle::AlwaysCookies,
        _ if !situation.completes => Obstacle::NeverAnswered,
        (_, Some(offence)) => redirected(offence, None),
        (_, None) => {
            let in_vrf = situation.ways.iter().find(|way| way.in_vrf);
            in_vrf.map_or(Obstacle::Unseen, |way| Obstacle::Vrf { interface: way.name.to_owned() })
        }
    }
}

/// The obstacle of an interface by which replies leave.
fn of_way(way: &Way<'_>) -> Option<Obstacle> {
    let interface = way.name.to_owned();
    if way.native && way.transmits == Some(false) {
        return Some(Obstacle::NoTransmit { interface });
    }
    if way.native && way.received == Some(false) {
        return Some(Obstacle::NotReceived { interface });
    }
    let is_stripped = way.vlan != 0 && way.strips_vlan == Some(true);
    let vlans = || format!("VLAN {}", way.vlan & u32::from(u16::MAX));
    is_stripped.then(|| Obstacle::TagStripped { interface, vlans: vlans() })
}

#[cfg(test)]
mod tests {
    use tcpguard_common::wire::tagged;

    use super::*;
    use tcpguard_host::obstacle::redirect;

    const ALL: u32 = option::WSCALE | option::SACK | option::TIMESTAMPS | option::ECN;
    const RECORD: SynAckRecord = SynAckRecord {
        interfaces: 1 << 2,
        mss: 1460,
        window: 65_160,
        ttl: 64,
        wscale: 7,
        asked: 0,
        returned: 0,
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
        in_vrf: false,
    };
    const FREE: Situation<'_> = Situation {
        kind: ListenerKind::Local,
        port: 80,
        record: Some(&RECORD),
        completes: true,
        redirect: None,
        ways: &[WAY],
        elsewhere: None,
        settings: &DEFAULTS,
        lent: false,
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
        let names = vec!["net.ipv4.tcp_timestamps", "net.ipv4.tcp_ecn"];
        assert_eq!(found, [Obstacle::SwitchedOff(names)]);
        let trimmed = without_switched_off(&RECORD, &off);
        assert_eq!(of(Situation { record: Some(&trimmed), ..situation }), []);
        assert_eq!(trimmed.options, option::WSCALE | option::SACK);
        assert_eq!(SynAckRecord { options: ALL, ..trimmed }, RECORD, "the rest stays");
        let never = SynAckRecord { options: option::SACK, ..RECORD };
        assert_eq!(of(Situation { record: Some(&never), ..situation }), [], "never promised");
    }

    #[test]
    fn only_sockets_of_this_host_can_be_answered_for() {
        let forwarded = Situation { kind: ListenerKind::Forwarded, ..FREE };
        assert_eq!(of(forwarded), [Obstacle::NotLocal]);
        let elsewhere = Situation { ways: &[], elsewhere: Some(2), ..FREE };
        assert_eq!(of(elsewhere), [Obstacle::Elsewhere { ifindex: 2 }]);
    }

    #[test]
    fn a_port_that_is_redirected_on_the_host_is_named_with_the_rule_on_both_sides() {
        let offence = redirect();
        let case = Situation { redirect: Some(&offence), ..FREE };
        let of_clients = of(Situation { kind: ListenerKind::Forwarded, record: None, ..case });
        let offence = Box::new(offence.clone());
        let port = Some(80);
        assert_eq!(of_clients, [Obstacle::Redirected { offence: offence.clone(), port }]);
        let behind = of(Situation { record: None, port: 8080, ..case });
        assert_eq!(behind, [Obstacle::Redirected { offence, port: None }]);
        assert_eq!(of(Situation { port: 8080, ..case }), [], "clients use it as well");
    }

    #[test]
    fn a_listener_without_a_syn_ack_says_why_and_never_that_it_does_not_listen() {
        let always = CookieSettings { syncookies: Some(2), ..DEFAULTS };
        let silent = Situation { record: None, ..FREE };
        for (settings, lent, completes, expected) in [
            (&DEFAULTS, false, false, Obstacle::NeverAnswered),
            (&DEFAULTS, false, true, Obstacle::Unseen),
            (&always, false, false, Obstacle::AlwaysCookies),
            (&always, false, true, Obstacle::AlwaysCookies),
            (&always, true, false, Obstacle::NeverAnswered),
        ] {
            let found = of(Situation { settings, lent, completes, ..silent });
            assert_eq!(found, [expected]);
        }
        assert_eq!(of(Situation { settings: &always, ..FREE }), [], "one was seen before");
    }

    #[test]
    fn the_replies_of_a_vrf_show_nothing_and_the_vrf_is_named() {
        let port = Way { name: "eth2", in_vrf: true, ..WAY };
        let ways = &[WAY, port];
        let found = of(Situation { record: None, ways, ..FREE });
        assert_eq!(found, [Obstacle::Vrf { interface: "eth2".to_owned() }]);
        assert_eq!(
            of(Situation { ways, ..FREE }),
            [],
            "a socket that is bound to the port is found"
        );
        let calm = Situation { record: None, completes: false, ways, ..FREE };
        assert_eq!(of(calm), [Obstacle::NeverAnswered]);
    }

    #[test]
    fn before_the_first_client_an_interface_counts_where_no_other_can_be_the_way() {
        let sick = Way { received: Some(false), ..WAY };
        let calm = Situation { record: None, completes: false, ..FREE };
        let found = of(Situation { ways: &[sick], ..calm });
        let not_received = Obstacle::NotReceived { interface: "eth0".to_owned() };
        assert_eq!(found, [not_received, Obstacle::NeverAnswered]);
        assert_eq!(of(Situation { ways: &[sick, WAY], ..calm }), [Obstacle::NeverAnswered]);
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
        let vlans = "VLAN 42".to_owned();
        assert_eq!(found, [Obstacle::TagStripped { interface: "eth0".to_owned(), vlans }]);
    }

    #[test]
    fn all_obstacles_are_reported_at_once() {
        let settings = &CookieSettings { syncookies: Some(0), sack: Some(0), ..DEFAULTS };
        let found = of(Situation { settings, elsewhere: Some(2), ..FREE });
        assert_eq!(found.len(), 3, "{found:?}");
    }
}
