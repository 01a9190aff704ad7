//! FlowSpec rules (RFC 8955, RFC 8956) that limit or drop the SYNs to one port of one address at a router.
//!
//! A rule has a destination of one address, TCP, a port, and the flags `SYN and not ACK`, always. It cannot be
//! built without them: GoBGP and ExaBGP accept a rule without a destination, and such a rule once blocked BGP
//! itself (CenturyLink, 2020-08-30).

use std::net::IpAddr;

/// Total lengths of packets that a rule may name, in bytes: from an IPv4 and a TCP header without options up to
/// the MTU of Ethernet. A length of 99,971 crashed every router of Cloudflare (2013-03-03).
pub const SHORTEST: u16 = 40;
/// Most bytes, see [`SHORTEST`].
pub const LONGEST: u16 = 1500;
/// Total length of a packet with an IPv6 and a TCP header without options, in bytes.
const SHORTEST_IPV6: u16 = SHORTEST + 20;
/// Port of BGP.
pub const BGP: u16 = 179;
/// Lowest rate limit, in bytes per second: 150 SYNs of 60 bytes, as Linux sends them. With fewer, a host would take
/// the flood as over (default of `clear_syn_pps`), and a port without a flood would have too few for its clients.
pub const LOWEST_RATE: u32 = 9_000;
/// Highest rate limit, in bytes per second: the whole numbers up to it are exact in the 32-bit float of the
/// community (RFC 8955 §7.1), so a rule that is read back is the same.
pub const HIGHEST_RATE: u32 = 1 << 24;

/// A rule that keeps the bounds.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FlowSpec {
    terms: Terms,
}

/// The terms of a rule, before they are checked.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Terms {
    /// Address of the service.
    pub destination: IpAddr,
    /// Port of the service.
    pub port: u16,
    /// Total lengths of the packets to which the rule is limited.
    pub lengths: Option<Lengths>,
    /// Treatment of the packets.
    pub action: Action,
}

/// A range of total lengths of packets, in bytes, IP header included.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Lengths {
    /// Shortest length of the range.
    pub first: u16,
    /// Longest length of the range, included.
    pub last: u16,
}

/// Treatment of the packets that a rule matches.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Action {
    /// Drops all of them.
    Discard,
    /// Lets this many bytes per second pass, so that the host sees when the flood is over.
    RateLimit(u32),
}

/// A bound that the terms of a rule do not keep.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, thiserror::Error)]
pub enum RuleError {
    /// The destination is no address of a host.
    #[error("destination {0} is not the address of a host")]
    Destination(IpAddr),
    /// Without a port the rule would concern every service of the address.
    #[error("a rule needs a port")]
    NoPort,
    /// A rule for BGP can end the session that would withdraw it.
    #[error("port 179 is that of BGP")]
    BgpPort,
    /// The lengths are out of range, or in the wrong order.
    #[error("lengths {first} to {last} are not within {SHORTEST} to {LONGEST} bytes")]
    Lengths {
        /// Shortest length of the range.
        first: u16,
        /// Longest length of the range.
        last: u16,
    },
    /// The rate is too low for clients, or cannot be expressed.
    #[error("rate limit {0} is not within {LOWEST_RATE} to {HIGHEST_RATE} bytes per second")]
    Rate(u32),
    /// Clients send SYNs with options.
    #[error("only SYNs without options may be dropped, others limited in rate")]
    DiscardsClients,
}

impl FlowSpec {
    /// Checks the terms of a rule.
    ///
    /// # Errors
    /// The first bound that they do not keep.
    pub fn new(terms: Terms) -> Result<Self, RuleError> {
        let destination = terms.destination.to_canonical();
        if !is_host(destination) {
            return Err(RuleError::Destination(destination));
        }
        match terms.port {
            0 => return Err(RuleError::NoPort),
            BGP => return Err(RuleError::BgpPort),
            _ => {}
        }
        let shortest = if destination.is_ipv4() { SHORTEST } else { SHORTEST_IPV6 };
        if let Some(Lengths { first, last }) = terms.lengths
            && (first < shortest || last > LONGEST || first > last)
        {
            return Err(RuleError::Lengths { first, last });
        }
        match terms.action {
            Action::Discard if terms.lengths.is_none_or(|lengths| lengths.last > shortest) => {
                return Err(RuleError::DiscardsClients);
            }
            Action::RateLimit(rate) if !(LOWEST_RATE..=HIGHEST_RATE).contains(&rate) => {
                return Err(RuleError::Rate(rate));
            }
            Action::Discard | Action::RateLimit(_) => {}
        }
        Ok(Self { terms: Terms { destination, ..terms } })
    }

    /// Returns the terms of the rule.
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Returns the address of the service.
    pub const fn destination(&self) -> IpAddr {
        self.terms.destination
    }

    /// Returns the port of the service.
    pub const fn port(&self) -> u16 {
        self.terms.port
    }
}

impl Action {
    /// Returns the rate in bytes per second that passes.
    pub const fn rate(self) -> u32 {
        match self {
            Self::Discard => 0,
            Self::RateLimit(rate) => rate,
        }
    }

    /// The treatment that lets this many bytes per second pass.
    pub const fn with_rate(rate: u32) -> Self {
        match rate {
            0 => Self::Discard,
            rate => Self::RateLimit(rate),
        }
    }
}

/// Returns whether an address can be that of a service of one host.
pub fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !address.is_unspecified()
                && !address.is_multicast()
                && !address.is_broadcast()
                && !address.is_loopback()
        }
        IpAddr::V6(address) => {
            !address.is_unspecified() && !address.is_multicast() && !address.is_loopback()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms {
        destination: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 77)),
        port: 443,
        lengths: Some(Lengths { first: 40, last: 44 }),
        action: Action::RateLimit(12_500),
    };

    fn refusal(terms: Terms) -> RuleError {
        FlowSpec::new(terms).expect_err("the terms keep no bound")
    }

    fn lengths(first: u16, last: u16) -> Option<Lengths> {
        Some(Lengths { first, last })
    }

    #[test]
    fn a_rule_keeps_its_terms() {
        assert_eq!(*FlowSpec::new(TERMS).unwrap().terms(), TERMS);
    }

    #[test]
    fn a_destination_is_the_address_of_one_host() {
        for address in
            ["0.0.0.0", "255.255.255.255", "224.0.0.1", "127.0.0.1", "::", "::1", "ff02::1"]
        {
            let destination: IpAddr = address.parse().unwrap();
            let terms = Terms { destination, lengths: None, ..TERMS };
            assert_eq!(refusal(terms), RuleError::Destination(destination), "{address}");
        }
        let mapped = Terms { destination: "::ffff:192.0.2.77".parse().unwrap(), ..TERMS };
        assert_eq!(FlowSpec::new(mapped).unwrap().destination(), TERMS.destination);
    }

    #[test]
    fn a_rule_has_a_port_that_is_not_that_of_bgp() {
        assert_eq!(refusal(Terms { port: 0, ..TERMS }), RuleError::NoPort);
        assert_eq!(refusal(Terms { port: 179, ..TERMS }), RuleError::BgpPort);
    }

    #[test]
    fn lengths_are_those_of_packets_with_a_tcp_header() {
        for (first, last) in [(39, 44), (40, 1501), (44, 40), (0, u16::MAX)] {
            let terms = Terms { lengths: lengths(first, last), ..TERMS };
            assert_eq!(refusal(terms), RuleError::Lengths { first, last });
        }
        FlowSpec::new(Terms { lengths: lengths(40, 1500), ..TERMS }).unwrap();
        let destination = "2001:db8::10".parse().unwrap();
        let ipv6 = Terms { destination, lengths: lengths(40, 60), ..TERMS };
        assert_eq!(refusal(ipv6), RuleError::Lengths { first: 40, last: 60 });
        FlowSpec::new(Terms { lengths: lengths(60, 60), ..ipv6 }).unwrap();
    }

    #[test]
    fn a_rate_leaves_some_syns_and_is_exact_in_the_community() {
        for rate in [0, 1, LOWEST_RATE - 1, HIGHEST_RATE + 1, u32::MAX] {
            let terms = Terms { action: Action::RateLimit(rate), ..TERMS };
            assert_eq!(refusal(terms), RuleError::Rate(rate));
        }
        for rate in [LOWEST_RATE, 12_500, HIGHEST_RATE - 1, HIGHEST_RATE] {
            FlowSpec::new(Terms { action: Action::RateLimit(rate), ..TERMS }).unwrap();
            assert_eq!((rate as f32) as u32, rate, "{rate}");
        }
    }

    #[test]
    fn only_syns_without_options_are_discarded() {
        let bare = Terms { lengths: lengths(40, 40), action: Action::Discard, ..TERMS };
        let ipv6 = Terms { destination: "2001:db8::10".parse().unwrap(), ..bare };
        FlowSpec::new(bare).unwrap();
        FlowSpec::new(Terms { lengths: lengths(60, 60), ..ipv6 }).unwrap();
        for terms in [
            Terms { lengths: None, ..bare },
            Terms { lengths: lengths(40, 1500), ..bare },
            Terms { lengths: lengths(60, 60), ..bare },
            Terms { lengths: lengths(60, 64), ..ipv6 },
            Terms { lengths: None, ..ipv6 },
        ] {
            assert_eq!(refusal(terms), RuleError::DiscardsClients, "{terms:?}");
        }
    }
}
