//! Routes that a host wants: read from documents of the bus within the bounds of every host, and written into them.

use std::net::IpAddr;

use ipnet::IpNet;

use super::flowspec::{self, Action, FlowSpec, Lengths, RuleError, Terms};
use crate::document::ReliefRoute;

/// A route that a host wants, and that keeps the bounds of every host.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Wanted {
    /// A rule for the SYNs to one of its ports.
    FlowSpec(FlowSpec),
    /// A blackhole for one of its addresses. Next hop and communities are the controller's.
    Blackhole(IpAddr),
}

impl Wanted {
    /// Reads the route of a document.
    ///
    /// # Errors
    /// The first bound that it does not keep.
    pub fn parse(route: &ReliefRoute) -> Result<Self, RuleError> {
        let destination = route.destination().addr();
        if route.destination().prefix_len() != route.destination().max_prefix_len()
            || !flowspec::is_host(destination.to_canonical())
        {
            return Err(RuleError::Destination(destination));
        }
        match *route {
            ReliefRoute::Rtbh { .. } => Ok(Self::Blackhole(destination.to_canonical())),
            ReliefRoute::Flowspec { port, length, rate_bytes_per_s, .. } => {
                let action = match rate_bytes_per_s {
                    None => Action::Discard,
                    Some(rate) => Action::RateLimit(u32::try_from(rate).unwrap_or(u32::MAX)),
                };
                let lengths = length.map(|[first, last]| Lengths { first, last });
                FlowSpec::new(Terms { destination, port, lengths, action }).map(Self::FlowSpec)
            }
        }
    }

    /// The route as a document has it.
    pub fn document(&self) -> ReliefRoute {
        match self {
            Self::Blackhole(destination) => {
                ReliefRoute::Rtbh { destination: IpNet::from(*destination) }
            }
            Self::FlowSpec(rule) => {
                let Terms { destination, port, lengths, action } = *rule.terms();
                ReliefRoute::Flowspec {
                    destination: IpNet::from(destination),
                    port,
                    length: lengths.map(|Lengths { first, last }| [first, last]),
                    rate_bytes_per_s: match action {
                        Action::Discard => None,
                        Action::RateLimit(rate) => Some(rate.into()),
                    },
                }
            }
        }
    }

    /// Returns the address that the route is about.
    pub const fn destination(&self) -> IpAddr {
        match self {
            Self::FlowSpec(rule) => rule.destination(),
            Self::Blackhole(destination) => *destination,
        }
    }

    /// Returns whether the route keeps away packets to this service.
    pub fn covers(&self, destination: IpAddr, port: u16) -> bool {
        match self {
            Self::FlowSpec(rule) => rule.destination() == destination && rule.port() == port,
            Self::Blackhole(address) => *address == destination,
        }
    }

    /// The order in which routes are withdrawn: the narrowest first, since it does the least harm if the flood is
    /// still there, and the least good.
    pub const fn breadth(&self) -> u8 {
        match self {
            Self::FlowSpec(rule) if rule.terms().lengths.is_some() => 0,
            Self::FlowSpec(_) => 1,
            Self::Blackhole(_) => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(json: &str) -> ReliefRoute {
        serde_json::from_str(json).expect("a route of a document")
    }

    #[test]
    fn a_route_of_a_document_is_read_and_written_as_the_same() {
        for (json, breadth) in [
            (r#"{"kind":"rtbh","destination":"192.0.2.10/32"}"#, 2),
            (
                r#"{"kind":"flowspec","destination":"192.0.2.10/32","port":443,
                    "rate_bytes_per_s":12500}"#,
                1,
            ),
            (
                r#"{"kind":"flowspec","destination":"192.0.2.10/32","port":443,
                    "length":[40,40]}"#,
                0,
            ),
            (
                r#"{"kind":"flowspec","destination":"2001:db8::10/128","port":443,
                    "length":[60,60]}"#,
                0,
            ),
        ] {
            let route = route(json);
            let wanted = Wanted::parse(&route).expect(json);
            assert_eq!(wanted.document(), route);
            assert_eq!(wanted.breadth(), breadth, "{json}");
            assert!(wanted.covers(route.destination().addr(), 443));
        }
    }

    #[test]
    fn a_route_beyond_the_bounds_is_refused_with_the_bound() {
        let wide = route(r#"{"kind":"rtbh","destination":"192.0.2.0/24"}"#);
        assert_eq!(Wanted::parse(&wide), Err(RuleError::Destination("192.0.2.0".parse().unwrap())));
        let fast = route(
            r#"{"kind":"flowspec","destination":"192.0.2.10/32","port":443,
                "rate_bytes_per_s":5000000000}"#,
        );
        assert_eq!(Wanted::parse(&fast), Err(RuleError::Rate(u32::MAX)));
        let all = route(r#"{"kind":"flowspec","destination":"192.0.2.10/32","port":443}"#);
        assert_eq!(Wanted::parse(&all), Err(RuleError::DiscardsClients));
    }
}
