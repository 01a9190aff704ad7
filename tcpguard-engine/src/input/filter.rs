//! Signatures as filters of libpcap, which tcpdump and most filters of providers read.

use tcpguard_common::abi::{Fingerprint, Mask, layout, quirk};

use super::describe::compared;

/// The SYNs of a signature as a filter of tcpdump. Every SYN of the signature matches it. Fields that it cannot
/// express are left out.
///
/// The TTL is a range, because it is higher at a router upstream than at this host.
pub fn syn_filter(mask: Mask, fingerprint: &Fingerprint) -> String {
    let print = fingerprint.masked(mask);
    let compared = compared(mask);
    let has = |bit| print.quirks & bit != 0;
    let ipv6 = has(quirk::IPV6);
    let tcp = Header { ipv6 };
    let ttl_at = if ipv6 { "ip6[7]" } else { "ip[8]" };
    let mut terms = vec![match ipv6 {
        // `tcp[…]` matches IPv4 only.
        true => format!("ip6[6] = 6 and {} & 0x17 = 2", tcp.at(13, 1)),
        false => "tcp[tcpflags] & (tcp-syn|tcp-ack|tcp-rst|tcp-fin) = tcp-syn".to_owned(),
    }];
    if compared.window != 0 {
        terms.push(format!("{} = {}", tcp.at(14, 2), print.window));
    }
    if compared.ttl != 0 {
        terms.push(match (print.ttl, initial(print.ttl)) {
            (ttl, initial) if ttl == initial => format!("{ttl_at} = {ttl}"),
            (ttl, initial) => format!("{ttl_at} >= {ttl} and {ttl_at} <= {initial}"),
        });
    }
    if compared.ip_id != 0 && !ipv6 {
        terms.push(format!("ip[4:2] = {}", print.ip_id));
    }
    if !ipv6 {
        terms.push(format!("ip[6] & 0x40 {} 0", if has(quirk::DF) { "!=" } else { "=" }));
    }
    let quirks = [
        (quirk::ECN, format!("{} & 0xc0 = 0xc0", tcp.at(13, 1))),
        (quirk::ACC_ECN, format!("{} & 1 = 1", tcp.at(12, 1))),
        (quirk::ACK_NUMBER, format!("{} != 0", tcp.at(8, 4))),
        (quirk::PUSH, format!("{} & 8 != 0", tcp.at(13, 1))),
        (quirk::SEQ_ZERO, format!("{} = 0", tcp.at(4, 4))),
    ];
    terms.extend(quirks.into_iter().filter(|(bit, _)| has(*bit)).map(|(_, term)| term));
    if !has(quirk::BAD_OPTIONS) && !has(quirk::MANY_OPTIONS) && !print.is_cut() {
        options(&print, compared.mss != 0, compared.wscale != 0, &tcp, &mut terms);
    }
    terms.join(" and ")
}

/// The TCP header in a filter.
struct Header {
    ipv6: bool,
}

impl Header {
    /// A field of so many bytes.
    fn at(&self, offset: u64, bytes: u64) -> String {
        let (name, offset) = if self.ipv6 { ("ip6", 40 + offset) } else { ("tcp", offset) };
        match bytes {
            1 => format!("{name}[{offset}]"),
            _ => format!("{name}[{offset}:{bytes}]"),
        }
    }
}

/// The initial TTL of a packet that arrives with `ttl`.
fn initial(ttl: u8) -> u8 {
    [32, 64, 128].into_iter().find(|initial| ttl <= *initial).unwrap_or(255)
}

/// Terms of the options, up to the first one without a fixed length.
fn options(print: &Fingerprint, mss: bool, wscale: bool, tcp: &Header, terms: &mut Vec<String>) {
    let mut at = 20;
    let codes = (0..16).map(|place| print.options >> (4 * place) & 0xf);
    for code in codes.take_while(|code| *code != 0) {
        let (bytes, term) = match code {
            layout::NOP => (1, format!("{} = 1", tcp.at(at, 1))),
            layout::MSS if mss => (4, format!("{} = 0x0204{:04x}", tcp.at(at, 4), print.mss)),
            layout::MSS => (4, format!("{} = 0x0204", tcp.at(at, 2))),
            layout::WSCALE if wscale => (
                3,
                format!("{} = 0x0303 and {} = {}", tcp.at(at, 2), tcp.at(at + 2, 1), print.wscale),
            ),
            layout::WSCALE => (3, format!("{} = 0x0303", tcp.at(at, 2))),
            layout::SACK_OK => (2, format!("{} = 0x0402", tcp.at(at, 2))),
            layout::TIMESTAMP => (10, format!("{} = 0x080a", tcp.at(at, 2))),
            _ => return,
        };
        terms.push(term);
        at += bytes;
    }
    terms.push(format!("{} & 0xf0 = {:#x}", tcp.at(12, 1), at / 4 * 16));
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYN: &str = "tcp[tcpflags] & (tcp-syn|tcp-ack|tcp-rst|tcp-fin) = tcp-syn";
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
        ttl: 57,
        pad: [0; 6],
    };

    #[test]
    fn a_tool_without_options_is_matched_by_window_ttl_and_header_length() {
        let bare = Fingerprint { window: 512, ttl: 244, wscale: 255, ..Fingerprint::default() };
        assert_eq!(
            syn_filter(Mask::Full, &bare),
            format!(
                "{SYN} and tcp[14:2] = 512 and ip[8] >= 244 and ip[8] <= 255 and ip[6] & 0x40 = 0 \
                 and tcp[12] & 0xf0 = 0x50"
            )
        );
        let acked = Fingerprint { quirks: quirk::ACK_NUMBER | quirk::DF, ..bare };
        assert_eq!(
            syn_filter(Mask::NoWindowTtl, &acked),
            format!("{SYN} and ip[6] & 0x40 != 0 and tcp[8:4] != 0 and tcp[12] & 0xf0 = 0x50")
        );
        let accurate = Fingerprint { quirks: quirk::ECN | quirk::ACC_ECN, ..bare };
        let filter = syn_filter(Mask::NoWindowTtl, &accurate);
        assert!(filter.contains(" and tcp[13] & 0xc0 = 0xc0 and tcp[12] & 1 = 1 and "), "{filter}");
        assert_eq!(
            syn_filter(Mask::IpId, &Fingerprint { ip_id: 54321, ..bare }),
            format!("{SYN} and ip[4:2] = 54321 and ip[6] & 0x40 = 0 and tcp[12] & 0xf0 = 0x50")
        );
    }

    #[test]
    fn options_are_matched_at_their_places() {
        assert_eq!(
            syn_filter(Mask::Full, &LINUX),
            format!(
                "{SYN} and tcp[14:2] = 64240 and ip[8] >= 57 and ip[8] <= 64 and ip[6] & 0x40 != 0 \
                 and tcp[20:4] = 0x020405b4 and tcp[24:2] = 0x0402 and tcp[26:2] = 0x080a and \
                 tcp[36] = 1 and tcp[37:2] = 0x0303 and tcp[39] = 7 and tcp[12] & 0xf0 = 0xa0"
            )
        );
        let shape = syn_filter(Mask::Shape, &LINUX);
        assert!(shape.contains("tcp[20:2] = 0x0204 and") && !shape.contains("tcp[39]"), "{shape}");
    }

    #[test]
    fn options_of_any_length_end_the_match() {
        let open = Fingerprint { options: layout::MSS | layout::FAST_OPEN << 4, ..LINUX };
        let open = syn_filter(Mask::Shape, &open);
        assert!(open.ends_with("tcp[20:2] = 0x0204"), "{open}");
        let bad = syn_filter(Mask::Shape, &Fingerprint { quirks: quirk::BAD_OPTIONS, ..LINUX });
        assert!(!bad.contains("tcp[20"), "{bad}");
    }

    #[test]
    fn ipv6_is_matched_behind_its_fixed_header() {
        let tool =
            Fingerprint { window: 512, ttl: 50, quirks: quirk::IPV6, ..Fingerprint::default() };
        assert_eq!(
            syn_filter(Mask::Full, &tool),
            "ip6[6] = 6 and ip6[53] & 0x17 = 2 and ip6[54:2] = 512 and ip6[7] >= 50 and ip6[7] <= 64 \
             and ip6[52] & 0xf0 = 0x50"
        );
    }
}
