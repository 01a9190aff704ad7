//! The text of ExaBGP's API: changes as commands, and what its reply says about the session.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::relief::controller::Change;
use crate::relief::flowspec::{Action, FlowSpec, Lengths, Terms};
use crate::relief::route::{Community, Family, Key, Route};
use crate::relief::wire;

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

/// Returns whether a line of `show neighbor summary` says that this session is established.
pub fn is_established(line: &str, neighbor: IpAddr) -> bool {
    let mut words = line.split_whitespace();
    words.next().and_then(|word| word.parse::<IpAddr>().ok()) == Some(neighbor)
        && words.any(|word| word == "established")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relief::route::Blackhole;

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

    /// The commands that ExaBGP 4.2.21 and 5.0.15 took (measured).
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
