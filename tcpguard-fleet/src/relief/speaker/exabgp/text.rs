//! The text of ExaBGP's API: changes as commands, and its replies as routes.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::relief::controller::{Change, Entry};
use crate::relief::flowspec::{Action, FlowSpec, Lengths, Terms};
use crate::relief::route::{Blackhole, Community, Family, Key, Route};
use crate::relief::wire;

/// Well-known communities that ExaBGP replies by name.
const NAMED: [(&str, Community); 5] = [
    ("no-export", Community(0xffff_ff01)),
    ("no-advertise", Community(0xffff_ff02)),
    ("no-export-subconfed", Community(0xffff_ff03)),
    ("no-peer", Community(0xffff_ff04)),
    ("blackhole", Community::BLACKHOLE),
];

/// Components of rules that are not announced here.
const FOREIGN: [&str; 10] = [
    "source-ipv4",
    "source-ipv6",
    "port",
    "source-port",
    "icmp-type",
    "icmp-code",
    "dscp",
    "traffic-class",
    "fragment",
    "flow-label",
];

/// Returns a change as one line; `None` for a route of a form that is not announced here.
pub fn command(change: &Change) -> Option<String> {
    match change {
        Change::Announce(Route::FlowSpec(rule)) => {
            let action = match rule.terms().action {
                Action::Discard => "discard".to_owned(),
                Action::RateLimit(rate) => format!("rate-limit {rate}"),
            };
            let terms = matched(rule);
            Some(format!("announce flow route {{ match {{ {terms} }} then {{ {action}; }} }}"))
        }
        Change::Announce(Route::Blackhole(route)) => {
            let communities: Vec<String> =
                route.communities().iter().map(Community::to_string).collect();
            Some(format!(
                "announce route {} next-hop {} community [{}]",
                IpNet::from(route.destination()),
                route.next_hop(),
                communities.join(" ")
            ))
        }
        Change::Withdraw(Key { family, nlri }) => match family {
            Family::Ipv4FlowSpec | Family::Ipv6FlowSpec => {
                let rule = wire::rule(*family, nlri)?;
                Some(format!("withdraw flow route {{ match {{ {} }} }}", matched(&rule)))
            }
            Family::Ipv4Unicast | Family::Ipv6Unicast => {
                let host = wire::host(*family, nlri)?;
                Some(format!("withdraw route {}", IpNet::from(host)))
            }
        },
    }
}

/// The packets that a rule matches.
fn matched(rule: &FlowSpec) -> String {
    let Terms { destination, port, lengths, .. } = rule.terms();
    let mut text = format!("destination {};", IpNet::from(*destination));
    let protocol = if destination.is_ipv4() { "protocol" } else { "next-header" };
    text += &format!(" {protocol} tcp; destination-port ={port}; tcp-flags [ =syn&!ack ];");
    match lengths {
        None => {}
        Some(Lengths { first, last }) if first == last => {
            text += &format!(" packet-length ={first};");
        }
        Some(Lengths { first, last }) => text += &format!(" packet-length >={first}&<={last};"),
    }
    text
}

/// Reads a line of `show adj-rib out extensive`; `None` for a route of a form that is not announced here.
pub fn entry(line: &str) -> Option<Entry> {
    let words: Vec<&str> = line.split_whitespace().collect();
    // The name of the neighbor comes first.
    let family_at =
        words.windows(2).position(|pair| matches!(pair, ["ipv4" | "ipv6", "unicast" | "flow"]))?;
    let (family, words) = words[family_at..].split_at(2);
    let words = Words(words);
    let route = match family[1] {
        "flow" => Route::FlowSpec(words.rule()?),
        _ => Route::Blackhole(words.blackhole()?),
    };
    Some(Entry { key: route.key(), route: Some(route) })
}

/// Returns whether a line of `show neighbor summary` says that this session is established.
pub fn is_established(line: &str, neighbor: IpAddr) -> bool {
    let mut words = line.split_whitespace();
    words.next().and_then(|word| word.parse::<IpAddr>().ok()) == Some(neighbor)
        && words.any(|word| word == "established")
}

/// The words of a route: names, and a value behind each, in brackets if it is a list.
struct Words<'a>(&'a [&'a str]);

impl Words<'_> {
    /// The words of the value behind a name.
    fn values(&self, name: &str) -> Option<&[&str]> {
        let at = self.0.iter().position(|word| *word == name)?;
        let behind = &self.0[at + 1..];
        match behind {
            ["[", list @ ..] => {
                let end = list.iter().position(|word| *word == "]")?;
                Some(&list[..end])
            }
            [_, ..] => Some(&behind[..1]),
            [] => None,
        }
    }

    /// The value behind a name, if it is one word.
    fn value(&self, name: &str) -> Option<&str> {
        match self.values(name)? {
            [one] => Some(one),
            _ => None,
        }
    }

    fn rule(&self) -> Option<FlowSpec> {
        if self.0.iter().any(|word| FOREIGN.contains(word)) {
            return None;
        }
        let protocol = self.value("protocol").or_else(|| self.value("next-header"))?;
        let flags = self.value("tcp-flags")?;
        if protocol != "=tcp" || !matches!(flags, "syn&!ack" | "=syn&!ack") {
            return None;
        }
        let destination =
            self.value("destination-ipv4").or_else(|| self.value("destination-ipv6"))?;
        let destination = prefix(destination)?;
        if destination.prefix_len() != destination.max_prefix_len() {
            return None;
        }
        let port = self.value("destination-port")?.strip_prefix('=')?.parse().ok()?;
        let lengths = match self.value("packet-length") {
            Some(lengths) => Some(range(lengths)?),
            None => None,
        };
        let communities = self.values("extended-community")?;
        let rate = communities.iter().find_map(|word| word.strip_prefix("rate-limit:"))?;
        let action = Action::with_rate(rate.parse().ok()?);
        let destination = destination.addr();
        FlowSpec::new(Terms { destination, port, lengths, action }).ok()
    }

    fn blackhole(&self) -> Option<Blackhole> {
        let prefix = prefix(self.0.first()?)?;
        if prefix.prefix_len() != prefix.max_prefix_len() {
            return None;
        }
        let next_hop = self.value("next-hop")?.parse().ok()?;
        let communities: Option<Vec<Community>> =
            self.values("community")?.iter().map(|word| community(word)).collect();
        Blackhole::new(prefix.addr(), next_hop, &communities?).ok()
    }
}

/// A prefix. Those of IPv6 rules have an offset behind their length.
fn prefix(text: &str) -> Option<IpNet> {
    match text.matches('/').count() {
        2 => text.strip_suffix("/0")?.parse().ok(),
        _ => text.parse().ok(),
    }
}

fn range(text: &str) -> Option<Lengths> {
    match text.split_once('&') {
        None => {
            let length = text.strip_prefix('=')?.parse().ok()?;
            Some(Lengths { first: length, last: length })
        }
        Some((first, last)) => Some(Lengths {
            first: first.strip_prefix(">=")?.parse().ok()?,
            last: last.strip_prefix("<=")?.parse().ok()?,
        }),
    }
}

fn community(word: &str) -> Option<Community> {
    let named = NAMED.iter().find(|(name, _)| *name == word).map(|(_, community)| *community);
    named.or_else(|| word.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(destination: &str, lengths: Option<(u16, u16)>, action: Action) -> Route {
        Route::FlowSpec(
            FlowSpec::new(Terms {
                destination: destination.parse().expect("an address"),
                port: 443,
                lengths: lengths.map(|(first, last)| Lengths { first, last }),
                action,
            })
            .expect("a rule within the bounds"),
        )
    }

    fn blackhole() -> Route {
        let [destination, next_hop] = ["192.0.2.10", "10.99.0.1"].map(|text| text.parse().unwrap());
        let communities = [Community::BLACKHOLE, Community(65_001 << 16 | 666)];
        Route::Blackhole(Blackhole::new(destination, next_hop, &communities).unwrap())
    }

    /// The commands that ExaBGP 4.2.21 took (measured).
    #[test]
    fn changes_are_the_recorded_commands() {
        let route = rule("192.0.2.10", Some((40, 40)), Action::RateLimit(9_600));
        assert_eq!(
            command(&Change::Announce(route.clone())).unwrap(),
            "announce flow route { match { destination 192.0.2.10/32; protocol tcp; \
             destination-port =443; tcp-flags [ =syn&!ack ]; packet-length =40; } \
             then { rate-limit 9600; } }"
        );
        assert_eq!(
            command(&Change::Withdraw(route.key())).unwrap(),
            "withdraw flow route { match { destination 192.0.2.10/32; protocol tcp; \
             destination-port =443; tcp-flags [ =syn&!ack ]; packet-length =40; } }"
        );
        let ipv6 = rule("2001:db8::10", Some((60, 60)), Action::Discard);
        assert_eq!(
            command(&Change::Announce(ipv6)).unwrap(),
            "announce flow route { match { destination 2001:db8::10/128; next-header tcp; \
             destination-port =443; tcp-flags [ =syn&!ack ]; packet-length =60; } \
             then { discard; } }"
        );
        assert_eq!(
            command(&Change::Announce(blackhole())).unwrap(),
            "announce route 192.0.2.10/32 next-hop 10.99.0.1 community [65001:666 65535:666]"
        );
        assert_eq!(
            command(&Change::Withdraw(blackhole().key())).unwrap(),
            "withdraw route 192.0.2.10/32"
        );
    }

    #[test]
    fn a_key_of_another_form_is_no_command() {
        let family = Family::Ipv4FlowSpec;
        let all_tcp = Key { family, nlri: vec![3, 3, 0x81, 6] };
        assert_eq!(command(&Change::Withdraw(all_tcp)), None);
    }

    #[test]
    fn routes_are_read_from_the_lines_of_the_table() {
        let name = "neighbor 10.99.0.2 local-ip 10.99.0.1 local-as 65001 peer-as 65000 \
                    router-id 10.99.0.1 family-allowed in-open";
        for (line, route) in [
            (
                "ipv4 flow flow destination-ipv4 192.0.2.10/32 protocol =tcp \
                 destination-port =443 tcp-flags [ syn&!ack ] packet-length =40 origin igp \
                 local-preference 100 extended-community rate-limit:9600",
                rule("192.0.2.10", Some((40, 40)), Action::RateLimit(9_600)),
            ),
            (
                "ipv6 flow flow destination-ipv6 2001:db8::10/128/0 next-header =tcp destination-port =443 tcp-flags [ =syn&!ack ] \
                 packet-length [ >=60&<=64 ] extended-community [ rate-limit:12500 ]",
                rule("2001:db8::10", Some((60, 64)), Action::RateLimit(12_500)),
            ),
            (
                "ipv6 flow flow destination-ipv6 2001:db8::10/128/0 next-header =tcp \
                 destination-port =443 tcp-flags [ =syn&!ack ] packet-length =60 \
                 extended-community [ rate-limit:0 ]",
                rule("2001:db8::10", Some((60, 60)), Action::Discard),
            ),
            (
                "ipv4 unicast 192.0.2.10/32 next-hop 10.99.0.1 origin igp local-preference 100 \
                 community [ 65001:666 blackhole ]",
                blackhole(),
            ),
        ] {
            let entry = entry(&format!("{name} {line}")).expect(line);
            assert_eq!(entry, Entry { key: route.key(), route: Some(route) });
        }
    }

    #[test]
    fn a_line_of_another_form_is_no_route() {
        for line in [
            "",
            "neighbor 10.99.0.2",
            "neighbor 10.99.0.2 ipv4 flow flow protocol =tcp extended-community rate-limit:0",
            "neighbor 10.99.0.2 ipv4 flow flow destination-ipv4 192.0.2.10/32 protocol =tcp \
             destination-port =443 tcp-flags [ syn ] extended-community rate-limit:0",
            "neighbor 10.99.0.2 ipv4 flow flow destination-ipv4 192.0.2.10/32 protocol =tcp \
             destination-port =443 tcp-flags [ syn&!ack ] dscp =1 packet-length =40 \
             extended-community rate-limit:0",
            "neighbor 10.99.0.2 ipv4 flow flow destination-ipv4 192.0.2.10/32 \
             source-ipv4 203.0.113.0/24 protocol =tcp destination-port =443 \
             tcp-flags [ syn&!ack ] packet-length =40 extended-community rate-limit:0",
            "neighbor 10.99.0.2 ipv4 unicast 192.0.2.0/24 next-hop 10.99.0.1 community blackhole",
            "neighbor 10.99.0.2 ipv4 unicast 192.0.2.10/32 next-hop 10.99.0.1 community [ 1:2",
        ] {
            assert_eq!(entry(line), None, "{line}");
        }
    }

    #[test]
    fn a_session_is_established_when_the_summary_says_so() {
        let neighbor = "10.99.0.2".parse().unwrap();
        let line = "10.99.0.2       65000     0:00:12 established           3          0";
        assert!(is_established(line, neighbor));
        for line in [
            "Peer            AS        up/down state       |     #sent     #recvd",
            "10.99.0.2       65000        down connect               0          0",
            "10.99.0.3       65000     0:00:12 established           3          0",
        ] {
            assert!(!is_established(line, neighbor), "{line}");
        }
    }
}
