//! Signatures in words.

use tcpguard_common::abi::{Fingerprint, Mask, layout, quirk};

/// A signature in words as p0f uses them: `opts=mss,sok,ts,nop,ws mss=1460 win=64240 ws=7 ttl=64 df`.
///
/// Fields that `mask` leaves out read `*`; fields that the SYN does not carry are not mentioned.
pub fn describe(mask: Mask, fingerprint: &Fingerprint) -> String {
    let print = fingerprint.masked(mask);
    let compared =
        Fingerprint { mss: 1, window: 1, ip_id: 1, wscale: 1, ttl: 1, ..Fingerprint::default() }
            .masked(mask);
    let kinds = kinds(print.options);
    let mut words = vec![match kinds.as_slice() {
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
    for (bit, name) in QUIRKS {
        if print.quirks & bit != 0 {
            words.push(name.to_owned());
        }
    }
    words.join(" ")
}

const QUIRKS: [(u16, &str); 14] = [
    (quirk::IPV6, "ipv6"),
    (quirk::DF, "df"),
    (quirk::IP_OPTIONS, "ip-options"),
    (quirk::ECN, "ecn"),
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
];

/// The names of the option kinds in order.
fn kinds(options: u64) -> Vec<&'static str> {
    let codes = (0..16).map(|place| options >> (4 * place) & 0xf).take_while(|code| *code != 0);
    let name = |code| match code {
        layout::END => "eol",
        layout::NOP => "nop",
        layout::MSS => "mss",
        layout::WSCALE => "ws",
        layout::SACK_OK => "sok",
        layout::TIMESTAMP => "ts",
        layout::FAST_OPEN => "tfo",
        layout::AUTH => "auth",
        _ => "other",
    };
    codes.map(name).collect()
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
    fn what_the_syn_does_not_carry_is_not_mentioned() {
        assert_eq!(describe(Mask::Full, &BARE), "opts=none win=512 ttl=244");
    }
}
