//! Signatures in words.

use tcpguard_common::abi::{Fingerprint, Mask, layout, quirk};

/// A signature in words as p0f uses them: `opts=mss,sok,ts,nop,ws mss=1460 win=64240 ws=7 ttl=64 df`.
///
/// Fields that `mask` leaves out read `*`; fields that the SYN does not carry are not mentioned.
pub fn describe(mask: Mask, fingerprint: &Fingerprint) -> String {
    let print = fingerprint.masked(mask);
    let compared = compared(mask);
    let kinds = kinds(print.options);
    let mut words = vec![match kinds.as_slice() {
        [] if print.is_cut() => "opts=unknown".to_owned(),
        [] => "opts=none".to_owned(),
        kinds => format!("opts={}", kinds.join(",")),
    }];
    let mut field = |name: &str, compared: bool, value: u16| {
        words.push(if compared { format!("{name}={value}") } else { format!("{name}=*") });
    };
    if kinds.contains(&"mss") {
        field("mss", compared.mss != 0, print.mss);
    }
    field("win", compared.window != 0, print.window);
    if kinds.contains(&"ws") {
        field("ws", compared.wscale != 0, print.wscale.into());
    }
    field("ttl", compared.ttl != 0, print.ttl.into());
    if compared.ip_id != 0 {
        field("id", true, print.ip_id);
    }
    words.extend(quirk_names(print.quirks).map(str::to_owned));
    words.join(" ")
}

/// The numbers of a fingerprint: 1 where a mask compares them, else 0.
pub(super) fn compared(mask: Mask) -> Fingerprint {
    Fingerprint { mss: 1, window: 1, ip_id: 1, wscale: 1, ttl: 1, ..Fingerprint::default() }
        .masked(mask)
}

const QUIRKS: [(u16, &str); 16] = [
    (quirk::IPV6, "ipv6"),
    (quirk::DF, "df"),
    (quirk::IP_OPTIONS, "ip-options"),
    (quirk::ECN, "ecn"),
    (quirk::ACC_ECN, "accecn"),
    (quirk::RESERVED, "reserved-bits"),
    (quirk::PAYLOAD, "data"),
    (quirk::ACK_NUMBER, "ack-number"),
    (quirk::TS_ECHO, "ts-echo"),
    (quirk::TS_ZERO, "ts-zero"),
    (quirk::URGENT, "urgent"),
    (quirk::PUSH, "push"),
    (quirk::SEQ_ZERO, "seq-zero"),
    (quirk::BAD_OPTIONS, "bad-options"),
    (quirk::MANY_OPTIONS, "many-options"),
    (quirk::CUT, "cut"),
];

/// The kinds of TCP options in the layout of a fingerprint. A kind that is not here is one of the last.
const KINDS: [(u64, &str); 9] = [
    (layout::END, "eol"),
    (layout::NOP, "nop"),
    (layout::MSS, "mss"),
    (layout::WSCALE, "ws"),
    (layout::SACK_OK, "sok"),
    (layout::TIMESTAMP, "ts"),
    (layout::FAST_OPEN, "tfo"),
    (layout::AUTH, "auth"),
    (layout::OTHER, "other"),
];

/// The codes of the option kinds in order.
pub(super) fn codes(options: u64) -> impl Iterator<Item = u64> {
    (0..16).map(move |place| options >> (4 * place) & 0xf).take_while(|code| *code != 0)
}

/// The names of the option kinds in order.
pub(super) fn kinds(options: u64) -> Vec<&'static str> {
    let name =
        |code| KINDS.iter().find(|(kind, _)| *kind == code).map_or("other", |(_, name)| *name);
    codes(options).map(name).collect()
}

/// The layout of options of these kinds; `None` where one has another name, or they are too many.
pub(super) fn layout_of<'a>(kinds: impl Iterator<Item = &'a str>) -> Option<u64> {
    let (mut layout, mut shift) = (0, 0);
    for kind in kinds {
        let (code, _) = KINDS.iter().find(|(_, name)| *name == kind)?;
        layout |= code.checked_shl(shift)?;
        shift += 4;
    }
    Some(layout)
}

/// The names of these quirks.
pub(super) fn quirk_names(quirks: u16) -> impl Iterator<Item = &'static str> {
    QUIRKS.into_iter().filter(move |(bit, _)| quirks & bit != 0).map(|(_, name)| name)
}

/// The quirks with these names; `None` where one has another name.
pub(super) fn quirks_of<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<u16> {
    let bit = |name: &str| QUIRKS.iter().find(|(_, quirk)| *quirk == name).map(|(bit, _)| *bit);
    names.try_fold(0, |quirks, name| Some(quirks | bit(name)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX: Fingerprint = Fingerprint {
        options: layout::MSS
            | layout::SACK_OK << 4
            | layout::TIMESTAMP << 8
            | layout::NOP << 12
            | layout::WSCALE << 16,
        mss: 1460,
        window: 64240,
        ip_id: 4242,
        quirks: quirk::DF,
        wscale: 7,
        ttl: 64,
        pad: [0; 6],
    };
    const BARE: Fingerprint = Fingerprint {
        options: 0,
        mss: 0,
        window: 512,
        ip_id: 1,
        quirks: 0,
        wscale: 255,
        ttl: 244,
        pad: [0; 6],
    };

    #[test]
    fn every_compared_field_is_named_and_every_other_is_a_star() {
        let linux = |mask| describe(mask, &LINUX);
        assert_eq!(linux(Mask::Full), "opts=mss,sok,ts,nop,ws mss=1460 win=64240 ws=7 ttl=64 df");
        assert_eq!(linux(Mask::NoWindowTtl), "opts=mss,sok,ts,nop,ws mss=1460 win=* ws=7 ttl=* df");
        assert_eq!(linux(Mask::Shape), "opts=mss,sok,ts,nop,ws mss=* win=* ws=* ttl=* df");
        assert_eq!(linux(Mask::IpId), "opts=mss,sok,ts,nop,ws mss=* win=* ws=* ttl=* id=4242 df");
    }

    #[test]
    fn an_offer_of_accurate_ecn_has_its_name() {
        for (quirks, expected) in [
            (quirk::ECN, "ecn"),
            (quirk::ECN | quirk::ACC_ECN, "ecn accecn"),
            (quirk::RESERVED, "reserved-bits"),
        ] {
            let text = describe(Mask::Full, &Fingerprint { quirks, ..BARE });
            assert_eq!(text, format!("opts=none win=512 ttl=244 {expected}"));
        }
    }

    #[test]
    fn what_the_syn_does_not_carry_is_not_mentioned() {
        assert_eq!(describe(Mask::Full, &BARE), "opts=none win=512 ttl=244");
    }
}
