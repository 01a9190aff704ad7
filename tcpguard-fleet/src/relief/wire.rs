//! Routes as bytes of BGP: NLRI and path attributes (RFC 4271, RFC 8955, RFC 8956).
//!
//! GoBGP takes and returns them in this form in all versions of its API.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::flowspec::{Action, FlowSpec, HIGHEST_RATE, Lengths, Terms};
use super::route::{Blackhole, Community, Family, Route};

/// Component types of FlowSpec, in the order in which they must stand (RFC 8955 §4.2.2).
mod component {
    pub const DESTINATION: u8 = 1;
    pub const PROTOCOL: u8 = 3;
    pub const DESTINATION_PORT: u8 = 5;
    pub const TCP_FLAGS: u8 = 9;
    pub const LENGTH: u8 = 10;
}

/// Operators of FlowSpec components (RFC 8955 §4.2.1).
mod operator {
    pub const END: u8 = 0x80;
    pub const AND: u8 = 0x40;
    /// The value has two bytes.
    pub const SHORT: u8 = 0x10;
    pub const EQUAL: u8 = 0x01;
    pub const AT_LEAST: u8 = 0x03;
    pub const AT_MOST: u8 = 0x05;
    /// All bits of the value are set.
    pub const ALL: u8 = 0x01;
    /// No bit of the value is set.
    pub const NONE: u8 = 0x02;
}

/// Path attributes by type.
mod attribute {
    pub const ORIGIN: u8 = 1;
    pub const NEXT_HOP: u8 = 3;
    pub const COMMUNITIES: u8 = 8;
    pub const MP_REACH: u8 = 14;
    pub const EXTENDED_COMMUNITIES: u8 = 16;
    pub const TRANSITIVE: u8 = 0x40;
    pub const OPTIONAL_TRANSITIVE: u8 = 0xc0;
    pub const EXTENDED_LENGTH: u8 = 0x10;
}

const TCP: u8 = 6;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// Extended community of a rate limit (RFC 8955 §7.1): it is followed by an AS number and a 32-bit float of
/// bytes per second.
const TRAFFIC_RATE: [u8; 2] = [0x80, 0x06];

/// Returns the NLRI of a route, length included.
pub fn nlri(route: &Route) -> Vec<u8> {
    match route {
        Route::FlowSpec(rule) => {
            let components = components(rule);
            // They have 38 bytes at most, and from 240 on the length has two bytes.
            let mut nlri = vec![components.len() as u8];
            nlri.extend(components);
            nlri
        }
        Route::Blackhole(route) => {
            let mut nlri = Vec::new();
            put_host(&mut nlri, route.destination(), None);
            nlri
        }
    }
}

/// Returns the path attributes with which a route is announced, each in an entry of its own.
pub fn attributes(route: &Route) -> Vec<Vec<u8>> {
    match route {
        Route::FlowSpec(rule) => {
            let mut rate = TRAFFIC_RATE.to_vec();
            rate.extend([0, 0]);
            rate.extend((rule.terms().action.rate() as f32).to_be_bytes());
            let mut attributes = withdrawal(route.family());
            attributes.push(encode_attribute(
                attribute::OPTIONAL_TRANSITIVE,
                attribute::EXTENDED_COMMUNITIES,
                &rate,
            ));
            attributes
        }
        Route::Blackhole(route) => {
            let communities: Vec<u8> =
                route.communities().iter().flat_map(|one| one.0.to_be_bytes()).collect();
            vec![
                encode_attribute(attribute::TRANSITIVE, attribute::ORIGIN, &[0]),
                encode_attribute(
                    attribute::TRANSITIVE,
                    attribute::NEXT_HOP,
                    &octets(route.next_hop()),
                ),
                encode_attribute(
                    attribute::OPTIONAL_TRANSITIVE,
                    attribute::COMMUNITIES,
                    &communities,
                ),
            ]
        }
    }
}

/// Returns the path attributes that GoBGP wants even where they mean nothing: a withdrawal needs none, and FlowSpec
/// has no next hop, but a route without one is refused (`nexthop not found`).
pub fn withdrawal(family: Family) -> Vec<Vec<u8>> {
    let none: &[u8] = if family.is_ipv4() { &[0; 4] } else { &[0; 16] };
    vec![
        encode_attribute(attribute::TRANSITIVE, attribute::ORIGIN, &[0]),
        encode_attribute(attribute::TRANSITIVE, attribute::NEXT_HOP, none),
    ]
}

/// Reads a route back. `None` for every route that is not of the form in which they are announced here.
pub fn route(family: Family, nlri: &[u8], attributes: &[Vec<u8>]) -> Option<Route> {
    match family {
        Family::Ipv4FlowSpec | Family::Ipv6FlowSpec => {
            let terms = terms(family, nlri, action(attributes)?)?;
            FlowSpec::new(terms).ok().map(Route::FlowSpec)
        }
        Family::Ipv4Unicast | Family::Ipv6Unicast => {
            let destination = host(family, nlri)?;
            let next_hop = next_hop(family, attributes)?;
            let communities = find(attributes, attribute::COMMUNITIES)?;
            let communities: Vec<Community> = communities
                .chunks_exact(4)
                .map(|one| Community(u32::from_be_bytes([one[0], one[1], one[2], one[3]])))
                .collect();
            Blackhole::new(destination, next_hop, &communities).ok().map(Route::Blackhole)
        }
    }
}

/// Reads the NLRI of a FlowSpec rule. It says nothing about the treatment of the packets, and that of the returned rule
/// means nothing.
pub fn rule(family: Family, nlri: &[u8]) -> Option<FlowSpec> {
    FlowSpec::new(terms(family, nlri, Action::RateLimit(HIGHEST_RATE))?).ok()
}

/// Reads the NLRI of a route to one address.
pub fn host(family: Family, nlri: &[u8]) -> Option<IpAddr> {
    let mut bytes = Bytes(nlri);
    let host = bytes.host(family, false)?;
    bytes.end()?;
    Some(host)
}

fn components(rule: &FlowSpec) -> Vec<u8> {
    use operator::{ALL, AND, AT_LEAST, AT_MOST, END, EQUAL, NONE, SHORT};
    let Terms { destination, port, lengths, .. } = rule.terms();
    let mut bytes = Vec::new();
    // A prefix of IPv6 has an offset (RFC 8956 §3.1).
    let offset = destination.is_ipv6().then_some(0);
    bytes.push(component::DESTINATION);
    put_host(&mut bytes, *destination, offset);
    bytes.extend([component::PROTOCOL, END | EQUAL, TCP]);
    bytes.extend([component::DESTINATION_PORT, END | SHORT | EQUAL]);
    bytes.extend(port.to_be_bytes());
    // `SYN` alone also matches SYN-ACKs.
    bytes.extend([component::TCP_FLAGS, ALL, SYN, END | AND | NONE, ACK]);
    match lengths {
        None => {}
        Some(Lengths { first, last }) if first == last => {
            bytes.extend([component::LENGTH, END | SHORT | EQUAL]);
            bytes.extend(first.to_be_bytes());
        }
        Some(Lengths { first, last }) => {
            bytes.extend([component::LENGTH, SHORT | AT_LEAST]);
            bytes.extend(first.to_be_bytes());
            bytes.push(END | AND | SHORT | AT_MOST);
            bytes.extend(last.to_be_bytes());
        }
    }
    bytes
}

fn terms(family: Family, nlri: &[u8], action: Action) -> Option<Terms> {
    use operator::{ALL, AND, AT_LEAST, AT_MOST, END, EQUAL, NONE, SHORT};
    let mut bytes = Bytes(nlri);
    if usize::from(bytes.byte()?) != bytes.0.len() {
        return None;
    }
    let has_offset = !family.is_ipv4();
    bytes.expect(&[component::DESTINATION])?;
    let destination = bytes.host(family, has_offset)?;
    bytes.expect(&[component::PROTOCOL, END | EQUAL, TCP])?;
    bytes.expect(&[component::DESTINATION_PORT, END | SHORT | EQUAL])?;
    let port = bytes.short()?;
    bytes.expect(&[component::TCP_FLAGS, ALL, SYN, END | AND | NONE, ACK])?;
    let lengths = if bytes.end().is_some() {
        None
    } else {
        bytes.expect(&[component::LENGTH])?;
        let (first, last) = match bytes.byte()? {
            exact if exact == END | SHORT | EQUAL => {
                let length = bytes.short()?;
                (length, length)
            }
            least if least == SHORT | AT_LEAST => {
                let first = bytes.short()?;
                bytes.expect(&[END | AND | SHORT | AT_MOST])?;
                (first, bytes.short()?)
            }
            _ => return None,
        };
        bytes.end()?;
        Some(Lengths { first, last })
    };
    Some(Terms { destination, port, lengths, action })
}

fn action(attributes: &[Vec<u8>]) -> Option<Action> {
    let communities = find(attributes, attribute::EXTENDED_COMMUNITIES)?;
    let rate = communities.chunks_exact(8).find_map(|one| one.strip_prefix(&TRAFFIC_RATE))?;
    let rate = f32::from_be_bytes(rate[2..].try_into().ok()?);
    // A conversion with `as` saturates, and rates beyond the bound are refused by the rule.
    (rate >= 0.0 && rate.fract() == 0.0).then(|| Action::with_rate(rate as u32))
}

fn next_hop(family: Family, attributes: &[Vec<u8>]) -> Option<IpAddr> {
    let octets = match find(attributes, attribute::NEXT_HOP) {
        Some(octets) => octets,
        // Family, length of the next hop, next hop (RFC 4760 §3).
        None => {
            let mut bytes = Bytes(find(attributes, attribute::MP_REACH)?);
            bytes.take(3)?;
            let length = bytes.byte()?;
            bytes.take(usize::from(length))?
        }
    };
    match family.is_ipv4() {
        true => Some(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).into()),
        false => Some(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).into()),
    }
}

/// The value of the first attribute of a type.
fn find(attributes: &[Vec<u8>], kind: u8) -> Option<&[u8]> {
    attributes.iter().find_map(|attribute| {
        let mut bytes = Bytes(attribute);
        let flags = bytes.byte()?;
        let of_kind = bytes.byte()? == kind;
        let length = match flags & attribute::EXTENDED_LENGTH {
            0 => usize::from(bytes.byte()?),
            _ => usize::from(bytes.short()?),
        };
        (of_kind && length == bytes.0.len()).then_some(bytes.0)
    })
}

fn encode_attribute(flags: u8, kind: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len() as u16;
    let mut bytes = match u8::try_from(length) {
        Ok(length) => vec![flags, kind, length],
        Err(_) => {
            let [high, low] = length.to_be_bytes();
            vec![flags | attribute::EXTENDED_LENGTH, kind, high, low]
        }
    };
    bytes.extend_from_slice(value);
    bytes
}

/// Appends an address as a prefix: its length in bits, the offset where there is one, and its bytes.
fn put_host(bytes: &mut Vec<u8>, address: IpAddr, offset: Option<u8>) {
    bytes.push(if address.is_ipv4() { 32 } else { 128 });
    bytes.extend(offset);
    bytes.extend(octets(address));
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Bytes that were not read yet.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|one| one[0])
    }

    fn short(&mut self) -> Option<u16> {
        self.take(2).map(|two| u16::from_be_bytes([two[0], two[1]]))
    }

    /// Reads these bytes; without them it reads nothing.
    fn expect(&mut self, bytes: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(bytes)?;
        Some(())
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    /// Reads a prefix that is one address.
    fn host(&mut self, family: Family, has_offset: bool) -> Option<IpAddr> {
        self.expect(if family.is_ipv4() { &[32] } else { &[128] })?;
        if has_offset {
            self.expect(&[0])?;
        }
        match family.is_ipv4() {
            true => Some(<[u8; 4]>::try_from(self.take(4)?).ok()?.into()),
            false => Some(<[u8; 16]>::try_from(self.take(16)?).ok()?.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::flowspec::LOWEST_RATE;
    use super::*;

    fn rule(destination: &str, lengths: Option<(u16, u16)>, action: Action) -> Route {
        let terms = Terms {
            destination: destination.parse().expect("an address"),
            port: 443,
            lengths: lengths.map(|(first, last)| Lengths { first, last }),
            action,
        };
        Route::FlowSpec(FlowSpec::new(terms).expect("a rule within the bounds"))
    }

    fn blackhole(destination: &str, next_hop: &str) -> Route {
        let [destination, next_hop] = [destination, next_hop].map(|text| text.parse().unwrap());
        let communities = [Community::BLACKHOLE, Community(65_001 << 16 | 666)];
        Route::Blackhole(Blackhole::new(destination, next_hop, &communities).unwrap())
    }

    /// The bytes that GoBGP 3.10 accepted, announced and withdrew (measured).
    #[test]
    fn a_range_of_lengths_has_the_recorded_bytes() {
        let route = rule("192.0.2.77", Some((40, 44)), Action::RateLimit(12_500));
        assert_eq!(
            nlri(&route),
            [
                0x19, // length
                0x01, 0x20, 0xc0, 0x00, 0x02, 0x4d, // destination
                0x03, 0x81, 0x06, // TCP
                0x05, 0x91, 0x01, 0xbb, // port
                0x09, 0x01, 0x02, 0xc2, 0x10, // SYN and not ACK
                0x0a, 0x13, 0x00, 0x28, 0xd5, 0x00, 0x2c, // length 40 to 44
            ]
        );
        assert_eq!(
            attributes(&route),
            [
                vec![0x40, 0x01, 0x01, 0x00],
                vec![0x40, 0x03, 0x04, 0x00, 0x00, 0x00, 0x00],
                vec![0xc0, 0x10, 0x08, 0x80, 0x06, 0x00, 0x00, 0x46, 0x43, 0x50, 0x00],
            ]
        );
    }

    #[test]
    fn one_length_is_an_equality_and_ipv6_has_offsets() {
        let exact = nlri(&rule("192.0.2.77", Some((40, 40)), Action::Discard));
        assert!(exact.ends_with(&[0x0a, 0x91, 0x00, 0x28]), "{exact:02x?}");
        let ipv6 = nlri(&rule("2001:db8::10", None, Action::RateLimit(HIGHEST_RATE)));
        assert_eq!(ipv6[..7], [0x1f, 0x01, 0x80, 0x00, 0x20, 0x01, 0x0d]);
    }

    #[test]
    fn a_blackhole_route_has_its_next_hop_and_communities() {
        let route = blackhole("192.0.2.10", "10.99.0.1");
        assert_eq!(nlri(&route), [0x20, 192, 0, 2, 10]);
        assert_eq!(
            attributes(&route)[1..],
            [
                vec![0x40, 0x03, 0x04, 10, 99, 0, 1],
                vec![0xc0, 0x08, 0x08, 0xfd, 0xe9, 0x02, 0x9a, 0xff, 0xff, 0x02, 0x9a],
            ]
        );
        let ipv6 = blackhole("2001:db8::10", "2001:db8::1");
        assert_eq!(nlri(&ipv6).len(), 17);
        assert_eq!(attributes(&ipv6)[1][..3], [0x40, 0x03, 0x10]);
    }

    /// GoBGP returns the next hop of IPv6 in the attribute that also holds the NLRI.
    #[test]
    fn the_next_hop_is_read_from_either_attribute() {
        let route = blackhole("2001:db8::10", "2001:db8::1");
        let Route::Blackhole(one) = &route else { panic!("a blackhole route") };
        let mut value = vec![0x00, 0x02, 0x01, 16];
        value.extend(octets(one.next_hop()));
        value.push(0);
        value.extend(nlri(&route));
        let mut attributes = attributes(&route);
        attributes[1] = encode_attribute(0x80, attribute::MP_REACH, &value);
        assert_eq!(super::route(route.family(), &nlri(&route), &attributes), Some(route));
    }

    #[test]
    fn a_route_of_another_form_is_not_read() {
        let route = rule("192.0.2.77", Some((40, 44)), Action::RateLimit(12_500));
        let (family, whole, attributes) = (route.family(), nlri(&route), attributes(&route));
        assert_eq!(super::route(family, &whole, &attributes), Some(route));
        for (why, at, byte) in [
            ("length", 0, 0x1a),
            ("a /31", 2, 0x1f),
            ("UDP", 9, 17),
            ("ports from 443 on", 11, 0x93),
            ("SYN alone", 15, 0x81),
        ] {
            let mut changed = whole.clone();
            changed[at] = byte;
            assert_eq!(super::route(family, &changed, &attributes), None, "{why}");
        }
        let mut with_source = whole.clone();
        with_source.splice(7..7, [2, 24, 203, 0, 113]);
        with_source[0] += 5;
        assert_eq!(super::route(family, &with_source, &attributes), None);
        // All TCP, as both speakers would accept it.
        assert_eq!(super::route(family, &[3, 3, 0x81, 6], &attributes), None);
        assert_eq!(super::route(family, &whole, &attributes[..2]), None);
        assert_eq!(super::route(family, &[], &attributes), None);
    }

    fn any_rule() -> impl Strategy<Value = Route> {
        let address = prop_oneof![
            any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
            any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())),
        ];
        let lengths = proptest::option::of((60_u16..=1500, 0_u16..100));
        let rate = prop_oneof![9 => LOWEST_RATE..=HIGHEST_RATE, 1 => Just(0)];
        (address, any::<u16>(), lengths, rate).prop_filter_map(
            "within the bounds",
            |(destination, port, lengths, rate)| {
                let lengths =
                    lengths.map(|(first, more)| Lengths { first, last: (first + more).min(1500) });
                let shortest = if destination.is_ipv4() { 40 } else { 60 };
                let bare = Some(Lengths { first: shortest, last: shortest });
                let lengths = if rate == 0 { bare } else { lengths };
                let action = Action::with_rate(rate);
                let terms = Terms { destination, port, lengths, action };
                FlowSpec::new(terms).ok().map(Route::FlowSpec)
            },
        )
    }

    proptest! {
        #[test]
        fn each_rule_is_read_back_as_it_was(route in any_rule()) {
            let (nlri, attributes) = (nlri(&route), attributes(&route));
            prop_assert!(nlri.len() < 240);
            prop_assert_eq!(super::route(route.family(), &nlri, &attributes), Some(route));
        }

        #[test]
        fn no_bytes_stop_the_reader(
            nlri in proptest::collection::vec(any::<u8>(), 0..80),
            attribute in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            for family in Family::ALL {
                let _ = route(family, &nlri, &[attribute.clone(), vec![0xc0, 8, 4, 0, 0, 0, 7]]);
            }
        }
    }
}
