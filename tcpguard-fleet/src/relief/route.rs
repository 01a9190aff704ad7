//! Routes that ask a router for relief, as a speaker announces them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::flowspec::{self, FlowSpec};
use super::wire;

/// A route that asks a router for relief.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Route {
    /// A rule for the SYNs to one port of one address.
    FlowSpec(FlowSpec),
    /// A route that has everything to one address dropped (remotely triggered blackhole, RFC 7999).
    Blackhole(Blackhole),
}

/// A blackhole route: it completes the attack on its address, and saves the other addresses behind the link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Blackhole {
    destination: IpAddr,
    next_hop: IpAddr,
    communities: Vec<Community>,
}

/// A BGP community (RFC 1997): the high half is an AS number, or 65535 for well-known ones.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Community(pub u32);

/// An address family of BGP.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Family {
    /// Routes to IPv4 prefixes.
    Ipv4Unicast,
    /// Routes to IPv6 prefixes.
    Ipv6Unicast,
    /// FlowSpec rules for IPv4.
    Ipv4FlowSpec,
    /// FlowSpec rules for IPv6.
    Ipv6FlowSpec,
}

/// The identity of a route in BGP: a second one with the same key replaces the first.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key {
    /// Address family of the route.
    pub family: Family,
    /// Bytes of the NLRI, length included.
    pub nlri: Vec<u8>,
}

/// A blackhole route that no router could use.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BlackholeError {
    /// The destination is no address of a host.
    #[error("destination {0} is not the address of a host")]
    Destination(IpAddr),
    /// Next hop and destination have different families.
    #[error("next hop {0} is of another address family than the destination")]
    NextHop(IpAddr),
    /// Without a community a router would forward to the next hop.
    #[error("a blackhole route needs a community")]
    NoCommunity,
}

impl Route {
    /// Returns the address that the route is about.
    pub const fn destination(&self) -> IpAddr {
        match self {
            Self::FlowSpec(rule) => rule.destination(),
            Self::Blackhole(route) => route.destination,
        }
    }

    /// Returns the address family of the route.
    pub const fn family(&self) -> Family {
        match (self, self.destination()) {
            (Self::FlowSpec(_), IpAddr::V4(_)) => Family::Ipv4FlowSpec,
            (Self::FlowSpec(_), IpAddr::V6(_)) => Family::Ipv6FlowSpec,
            (Self::Blackhole(_), IpAddr::V4(_)) => Family::Ipv4Unicast,
            (Self::Blackhole(_), IpAddr::V6(_)) => Family::Ipv6Unicast,
        }
    }

    /// Returns the key of the route.
    pub fn key(&self) -> Key {
        Key { family: self.family(), nlri: wire::nlri(self) }
    }
}

impl Blackhole {
    /// A route with these communities, in any order.
    ///
    /// # Errors
    /// When no router could use it.
    pub fn new(
        destination: IpAddr,
        next_hop: IpAddr,
        communities: &[Community],
    ) -> Result<Self, BlackholeError> {
        let destination = destination.to_canonical();
        if !flowspec::is_host(destination) {
            return Err(BlackholeError::Destination(destination));
        }
        if next_hop.is_ipv4() != destination.is_ipv4() {
            return Err(BlackholeError::NextHop(next_hop));
        }
        if communities.is_empty() {
            return Err(BlackholeError::NoCommunity);
        }
        let mut communities = communities.to_vec();
        communities.sort_unstable();
        communities.dedup();
        Ok(Self { destination, next_hop, communities })
    }

    /// Returns the address whose packets are dropped.
    pub const fn destination(&self) -> IpAddr {
        self.destination
    }

    /// Returns the next hop. BIRD refuses one that is not on the link to it.
    pub const fn next_hop(&self) -> IpAddr {
        self.next_hop
    }

    /// Returns the communities, sorted.
    pub fn communities(&self) -> &[Community] {
        &self.communities
    }
}

impl Community {
    /// The well-known community of blackhole routes (RFC 7999).
    pub const BLACKHOLE: Self = Self(0xffff_029a);
}

impl fmt::Display for Community {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.0 >> 16, self.0 & 0xffff)
    }
}

/// A community that is not two numbers up to 65,535.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a community is two numbers up to 65535 with a colon between them, such as 65535:666")]
pub struct CommunityError;

impl FromStr for Community {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, CommunityError> {
        let number = |text: &str| text.parse::<u16>().map_err(|_| CommunityError);
        let (high, low) = text.split_once(':').ok_or(CommunityError)?;
        Ok(Self(u32::from(number(high)?) << 16 | u32::from(number(low)?)))
    }
}

impl Family {
    /// All families that are used.
    pub const ALL: [Self; 4] =
        [Self::Ipv4Unicast, Self::Ipv6Unicast, Self::Ipv4FlowSpec, Self::Ipv6FlowSpec];

    /// Returns the number of the address family (AFI).
    pub const fn afi(self) -> u16 {
        match self {
            Self::Ipv4Unicast | Self::Ipv4FlowSpec => 1,
            Self::Ipv6Unicast | Self::Ipv6FlowSpec => 2,
        }
    }

    /// Returns the number of the subsequent address family (SAFI).
    pub const fn safi(self) -> u8 {
        match self {
            Self::Ipv4Unicast | Self::Ipv6Unicast => 1,
            Self::Ipv4FlowSpec | Self::Ipv6FlowSpec => 133,
        }
    }

    /// Returns whether its addresses are those of IPv4.
    pub const fn is_ipv4(self) -> bool {
        self.afi() == 1
    }

    /// Returns the name in the configuration of GoBGP.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipv4Unicast => "ipv4-unicast",
            Self::Ipv6Unicast => "ipv6-unicast",
            Self::Ipv4FlowSpec => "ipv4-flowspec",
            Self::Ipv6FlowSpec => "ipv6-flowspec",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_community_is_read_as_it_is_written() {
        assert_eq!("65535:666".parse::<Community>(), Ok(Community::BLACKHOLE));
        assert_eq!(Community::BLACKHOLE.to_string(), "65535:666");
        for wrong in ["", "666", "65536:1", "1:65536", "1:2:3", "-1:2", "a:b"] {
            assert_eq!(wrong.parse::<Community>(), Err(CommunityError), "{wrong}");
        }
    }

    #[test]
    fn a_blackhole_route_has_a_usable_next_hop_and_a_community() {
        let destination: IpAddr = "192.0.2.10".parse().unwrap();
        let next_hop: IpAddr = "10.99.0.1".parse().unwrap();
        let blackhole = [Community::BLACKHOLE, Community(7), Community::BLACKHOLE];
        let route = Blackhole::new(destination, next_hop, &blackhole).unwrap();
        assert_eq!(route.communities(), [Community(7), Community::BLACKHOLE]);
        let ipv6: IpAddr = "2001:db8::1".parse().unwrap();
        for (destination, next_hop, communities, error) in [
            (destination, ipv6, &blackhole[..], BlackholeError::NextHop(ipv6)),
            (destination, next_hop, &[], BlackholeError::NoCommunity),
            (
                "0.0.0.0".parse().unwrap(),
                next_hop,
                &blackhole,
                BlackholeError::Destination("0.0.0.0".parse().unwrap()),
            ),
        ] {
            assert_eq!(Blackhole::new(destination, next_hop, communities), Err(error));
        }
    }
}
