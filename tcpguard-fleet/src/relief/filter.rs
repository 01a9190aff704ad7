//! FlowSpec rules in the languages of other filters: GoBGP's command line, tcpdump and nftables.

use std::net::IpAddr;

use super::flowspec::{Action, FlowSpec, Lengths};

/// Bytes of an IPv6 header, which its length field does not count, but a FlowSpec length does.
const IPV6_HEADER: u16 = 40;

/// Returns the rule as the command line of GoBGP takes it, which is a common way to write FlowSpec.
pub fn flowspec(rule: &FlowSpec) -> String {
    let terms = rule.terms();
    let mut text = format!("match destination {}", host(terms.destination));
    text += &format!(" protocol tcp destination-port '=={}' tcp-flags '=S&!A'", terms.port);
    match terms.lengths {
        None => {}
        Some(Lengths { first, last }) if first == last => {
            text += &format!(" packet-length '=={first}'");
        }
        Some(Lengths { first, last }) => text += &format!(" packet-length '>={first}&<={last}'"),
    }
    match terms.action {
        Action::Discard => text + " then discard",
        Action::RateLimit(rate) => format!("{text} then rate-limit {rate}"),
    }
}

/// Returns the packets of the rule as a filter of tcpdump.
pub fn pcap(rule: &FlowSpec) -> String {
    let terms = rule.terms();
    let is_ipv6 = terms.destination.is_ipv6();
    let mut filter = format!("dst host {} and tcp dst port {}", terms.destination, terms.port);
    filter += match is_ipv6 {
        // `tcp[…]` matches IPv4 only.
        true => " and ip6[6] = 6 and ip6[53] & 0x12 = 2",
        false => " and tcp[tcpflags] & (tcp-syn|tcp-ack) = tcp-syn",
    };
    if let Some(lengths) = terms.lengths {
        let field = if is_ipv6 { "ip6[4:2]" } else { "ip[2:2]" };
        filter += &match in_header(lengths, is_ipv6) {
            Lengths { first, last } if first == last => format!(" and {field} = {first}"),
            Lengths { first, last } => format!(" and {field} >= {first} and {field} <= {last}"),
        };
    }
    filter
}

/// Returns the rule as one of nftables, for a chain of the hook `prerouting` or `forward`.
pub fn nft(rule: &FlowSpec) -> String {
    let terms = rule.terms();
    let is_ipv6 = terms.destination.is_ipv6();
    let family = if is_ipv6 { "ip6" } else { "ip" };
    let mut text = format!("{family} daddr {}", terms.destination);
    if let Some(lengths) = terms.lengths {
        text += &match in_header(lengths, is_ipv6) {
            Lengths { first, last } if first == last => format!(" {family} length {first}"),
            Lengths { first, last } => format!(" {family} length {first}-{last}"),
        };
    }
    text += &format!(" tcp dport {} tcp flags & (syn | ack) == syn", terms.port);
    match terms.action {
        Action::Discard => text + " counter drop",
        Action::RateLimit(rate) => {
            format!("{text} limit rate over {rate} bytes/second counter drop")
        }
    }
}

/// The lengths as the IP header holds them.
const fn in_header(lengths: Lengths, is_ipv6: bool) -> Lengths {
    let uncounted = if is_ipv6 { IPV6_HEADER } else { 0 };
    Lengths { first: lengths.first - uncounted, last: lengths.last - uncounted }
}

/// An address as the prefix that holds only it.
fn host(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

#[cfg(test)]
mod tests {
    use super::super::flowspec::Terms;
    use super::*;

    fn rule(destination: &str, lengths: Option<(u16, u16)>, action: Action) -> FlowSpec {
        FlowSpec::new(Terms {
            destination: destination.parse().expect("an address"),
            port: 443,
            lengths: lengths.map(|(first, last)| Lengths { first, last }),
            action,
        })
        .expect("a rule within the bounds")
    }

    #[test]
    fn one_length_over_ipv4() {
        let rule = rule("192.0.2.10", Some((40, 40)), Action::Discard);
        assert_eq!(
            flowspec(&rule),
            "match destination 192.0.2.10/32 protocol tcp destination-port '==443' \
             tcp-flags '=S&!A' packet-length '==40' then discard"
        );
        assert_eq!(
            pcap(&rule),
            "dst host 192.0.2.10 and tcp dst port 443 and \
             tcp[tcpflags] & (tcp-syn|tcp-ack) = tcp-syn and ip[2:2] = 40"
        );
        assert_eq!(
            nft(&rule),
            "ip daddr 192.0.2.10 ip length 40 tcp dport 443 tcp flags & (syn | ack) == syn \
             counter drop"
        );
    }

    #[test]
    fn a_range_of_lengths_over_ipv6() {
        let rule = rule("2001:db8::10", Some((60, 64)), Action::RateLimit(12_500));
        assert_eq!(
            flowspec(&rule),
            "match destination 2001:db8::10/128 protocol tcp \
             destination-port '==443' tcp-flags '=S&!A' packet-length '>=60&<=64' \
             then rate-limit 12500"
        );
        assert_eq!(
            pcap(&rule),
            "dst host 2001:db8::10 and tcp dst port 443 and \
             ip6[6] = 6 and ip6[53] & 0x12 = 2 and ip6[4:2] >= 20 and ip6[4:2] <= 24"
        );
        assert_eq!(
            nft(&rule),
            "ip6 daddr 2001:db8::10 ip6 length 20-24 tcp dport 443 \
             tcp flags & (syn | ack) == syn limit rate over 12500 bytes/second counter drop"
        );
    }

    #[test]
    fn a_rule_for_a_port_has_no_length() {
        let rule = rule("192.0.2.10", None, Action::RateLimit(12_500));
        for text in [flowspec(&rule), pcap(&rule), nft(&rule)] {
            assert!(!text.contains("length") && !text.contains("ip[2:2]"), "{text}");
        }
    }
}
