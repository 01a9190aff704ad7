//! One obstacle of each kind, for tests of the pages that show them.

use tcpguard_engine::Unanswered;

use super::Obstacle;
use crate::firewall::recorded::{FIREWALLD, recorded};
use crate::firewall::{Kind, Offence, nat_of};
use crate::linux::netfilter::{Family, Target};

fn offence(kind: Kind, words: &str, target: Option<Target>) -> Offence {
    Offence {
        kind,
        family: Family::INET,
        table: "filter".to_owned(),
        chain: "input".to_owned(),
        legacy: false,
        handle: 7,
        place: 1,
        words: words.to_owned(),
        target,
    }
}

/// A rule that translates port 80 to port 8080 of the same host, for tests.
pub fn redirect() -> Offence {
    let target = Target { addr: None, port: Some(8080) };
    offence(Kind::Translates, "tcp dport 80 redirect", Some(target))
}

/// One obstacle of each kind, for tests of the pages that show them.
pub fn examples() -> Vec<Obstacle> {
    let interface = || "eth0".to_owned();
    let offence = |kind| Box::new(offence(kind, "tcp dport 443 ct state new drop", None));
    let firewall = |(kind, own, mark)| Obstacle::Firewall { offence: offence(kind), own, mark };
    let nat = nat_of(&recorded(FIREWALLD), Family::IPV4);
    let mut all = Vec::new();
    for no_helper in [None, Some("cookies.backend = \"own\" in the configuration".to_owned())] {
        all.push(Obstacle::Mptcp { no_helper: no_helper.clone() });
        all.extend(nat.clone().map(|nat| Obstacle::Nat { nat, no_helper: no_helper.clone() }));
    }
    for switched_off in [true, false] {
        all.push(Obstacle::NoCookies { switched_off });
    }
    for port in [Some(80), None] {
        all.push(Obstacle::Redirected { offence: Box::new(redirect()), port });
    }
    for why in Unanswered::ALL {
        all.push(Obstacle::NoneAnswered { syns: 64, why: *why });
    }
    all.extend(
        [
            (Kind::NotSyn, true, 0),
            (Kind::NotSyn, true, 0x100),
            (Kind::BySyn, false, 0),
            (Kind::Bypassed, true, 0),
            (Kind::Strict, true, 0),
            (Kind::Synproxy, true, 0),
            (Kind::Steers, true, 0),
            (Kind::Translates, false, 0),
            (Kind::Changes, true, 0),
            (Kind::Rewrites, true, 0),
        ]
        .map(firewall),
    );
    all.extend([
        Obstacle::AlwaysCookies,
        Obstacle::NoBackend("this kernel is too old".to_owned()),
        Obstacle::Barred,
        Obstacle::SwitchedOff(vec!["net.ipv4.tcp_sack", "net.ipv4.tcp_ecn"]),
        Obstacle::NotLocal,
        Obstacle::NeverAnswered,
        Obstacle::Unseen,
        Obstacle::Elsewhere { ifindex: 2 },
        Obstacle::Shared,
        Obstacle::Vrf { interface: interface() },
        Obstacle::Behind { interface: interface(), program: "other (id 7)".to_owned() },
        Obstacle::NoTransmit { interface: interface() },
        Obstacle::NotReceived { interface: interface() },
        Obstacle::TagStripped { interface: interface(), vlans: "VLAN 42".to_owned() },
    ]);
    // A new obstacle does not compile before it is among them.
    all.iter().for_each(|obstacle| match obstacle {
        Obstacle::NoCookies { .. }
        | Obstacle::AlwaysCookies
        | Obstacle::NoBackend(_)
        | Obstacle::Barred
        | Obstacle::SwitchedOff(_)
        | Obstacle::Mptcp { .. }
        | Obstacle::NotLocal
        | Obstacle::Redirected { .. }
        | Obstacle::NeverAnswered
        | Obstacle::Unseen
        | Obstacle::Elsewhere { .. }
        | Obstacle::Shared
        | Obstacle::Vrf { .. }
        | Obstacle::Behind { .. }
        | Obstacle::NoTransmit { .. }
        | Obstacle::NotReceived { .. }
        | Obstacle::TagStripped { .. }
        | Obstacle::Nat { .. }
        | Obstacle::Firewall { .. }
        | Obstacle::NoneAnswered { .. } => {}
    });
    all
}
