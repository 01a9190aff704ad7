//! Bounds of a controller: the routes that it announces for a host, whatever the host asks for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::document::{HostId, ReliefRoute};
use crate::relief::flowspec::RuleError;
use crate::relief::route::{Blackhole, Community, Route};
use crate::relief::wanted::Wanted;

/// Most FlowSpec rules of all hosts. Routers keep them in a shared TCAM.
pub const FLOWSPEC: usize = 64;
/// Most blackholes of all hosts.
pub const BLACKHOLES: usize = 16;

/// Settings of a controller. They are the operator's, and no document changes them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Prefixes of each host. A host may ask for routes to these only.
    pub hosts: BTreeMap<HostId, Vec<IpNet>>,
    /// Prefixes to which nothing is announced.
    pub protected: Vec<IpNet>,
    /// Ports of the message bus: a rule for one of them could cut off its own end.
    pub bus_ports: Vec<u16>,
    /// Terms of blackhole routes; `None`: they are not allowed.
    pub blackhole: Option<BlackholeTerms>,
    /// Most FlowSpec rules of all hosts.
    pub flowspec: usize,
    /// Most blackholes of all hosts.
    pub blackholes: usize,
    /// Time for which the routes of a host stay that fell silent under pressure; `None`: as those of any other.
    pub on_silence: Option<Duration>,
    /// True if nothing is announced, and everything else is done.
    pub dry_run: bool,
}

/// Next hops and communities of blackhole routes, as the router or the provider wants them.
#[derive(Clone, Debug)]
pub struct BlackholeTerms {
    /// Next hop of IPv4 routes, an address of the speaker; `None`: there are none.
    pub next_hop_ipv4: Option<std::net::Ipv4Addr>,
    /// Next hop of IPv6 routes, an address of the speaker; `None`: there are none.
    pub next_hop_ipv6: Option<std::net::Ipv6Addr>,
    /// Communities, of which one at least makes the router drop.
    pub communities: Vec<Community>,
}

impl Default for Settings {
    /// No host may ask for anything, and nothing is announced.
    fn default() -> Self {
        Self {
            hosts: BTreeMap::new(),
            protected: Vec::new(),
            bus_ports: vec![4222, 7422],
            blackhole: None,
            flowspec: FLOWSPEC,
            blackholes: BLACKHOLES,
            on_silence: None,
            dry_run: true,
        }
    }
}

/// Reason for which a route is not announced.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, thiserror::Error)]
pub enum Refusal {
    /// The route does not keep the bounds of every route.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The address belongs to another host, or to none.
    #[error("{0} is not an address of this host")]
    NotItsAddress(IpAddr),
    /// The address must stay reachable.
    #[error("{0} is protected")]
    Protected(IpAddr),
    /// The port is one of the message bus.
    #[error("port {0} is that of the message bus")]
    BusPort(u16),
    /// Blackholes are not configured, or not for this address family.
    #[error("blackholes are not configured")]
    NoBlackhole,
    /// The host has as many routes of the kind as it may have.
    #[error("this host has as many routes as it may")]
    HostFull,
    /// All hosts together have as many routes of the kind as there may be.
    #[error("there are as many routes as there may be")]
    Full,
    /// The host has asked for a day.
    #[error("asked for 24h: an operator has to confirm it")]
    TooOld,
}

impl Settings {
    /// The route that a host asks for, in the form in which it is announced.
    ///
    /// # Errors
    /// The first bound that it does not keep.
    pub fn admit(&self, host: &HostId, asked: &ReliefRoute) -> Result<Route, Refusal> {
        let wanted = Wanted::parse(asked)?;
        let destination = wanted.destination();
        let own = self.hosts.get(host).map(Vec::as_slice).unwrap_or_default();
        if !own.iter().any(|prefix| prefix.contains(&destination)) {
            return Err(Refusal::NotItsAddress(destination));
        }
        if self.protected.iter().any(|prefix| prefix.contains(&destination)) {
            return Err(Refusal::Protected(destination));
        }
        match wanted {
            Wanted::Blackhole(destination) => self.blackhole(destination).map(Route::Blackhole),
            Wanted::FlowSpec(rule) => {
                if self.bus_ports.contains(&rule.port()) {
                    return Err(Refusal::BusPort(rule.port()));
                }
                Ok(Route::FlowSpec(rule))
            }
        }
    }

    fn blackhole(&self, destination: IpAddr) -> Result<Blackhole, Refusal> {
        let terms = self.blackhole.as_ref().ok_or(Refusal::NoBlackhole)?;
        let next_hop = match destination {
            IpAddr::V4(_) => terms.next_hop_ipv4.map(IpAddr::V4),
            IpAddr::V6(_) => terms.next_hop_ipv6.map(IpAddr::V6),
        };
        let next_hop = next_hop.ok_or(Refusal::NoBlackhole)?;
        Blackhole::new(destination, next_hop, &terms.communities).map_err(|_| Refusal::NoBlackhole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Announced;

    const HOST: &str = "a1b2c3d4";

    fn settings() -> Settings {
        Settings {
            hosts: [(HOST.parse().unwrap(), vec!["192.0.2.0/24".parse().unwrap()])].into(),
            protected: vec!["192.0.2.1/32".parse().unwrap()],
            ..Settings::default()
        }
    }

    fn admit(settings: &Settings, host: &str, json: &str) -> Result<Route, String> {
        let asked = serde_json::from_str(json).expect("a route of a document");
        settings.admit(&host.parse().unwrap(), &asked).map_err(|refusal| refusal.to_string())
    }

    fn rule(terms: &str) -> String {
        format!(r#"{{"kind":"flowspec","rate_bytes_per_s":12500,{terms}}}"#)
    }

    #[test]
    fn a_host_may_have_routes_to_its_own_addresses_only() {
        let settings = settings();
        let own = rule(r#""destination":"192.0.2.10/32","port":443"#);
        admit(&settings, HOST, &own).expect("its own address");
        let error = admit(&settings, "ffffffff", &own).expect_err("another host's");
        assert_eq!(error, "192.0.2.10 is not an address of this host");
        for (terms, error) in [
            (
                r#""destination":"203.0.113.1/32","port":443"#,
                "203.0.113.1 is not an address of this host",
            ),
            (r#""destination":"192.0.2.1/32","port":443"#, "192.0.2.1 is protected"),
            (
                r#""destination":"192.0.2.0/24","port":443"#,
                "destination 192.0.2.0 is not the address of a host",
            ),
            (r#""destination":"192.0.2.10/32","port":0"#, "a rule needs a port"),
            (r#""destination":"192.0.2.10/32","port":179"#, "port 179 is that of BGP"),
            (
                r#""destination":"192.0.2.10/32","port":4222"#,
                "port 4222 is that of the message bus",
            ),
            (
                r#""destination":"192.0.2.10/32","port":443,"length":[40,9000]"#,
                "lengths 40 to 9000 are not within 40 to 1500 bytes",
            ),
        ] {
            assert_eq!(admit(&settings, HOST, &rule(terms)), Err(error.to_owned()), "{terms}");
        }
    }

    #[test]
    fn no_request_takes_all_syns_from_clients() {
        let settings = settings();
        for (terms, error) in [
            (
                r#""length":[40,1500]"#,
                "only SYNs without options may be dropped, others limited in rate",
            ),
            (
                r#""rate_bytes_per_s":1"#,
                "rate limit 1 is not within 9000 to 16777216 bytes per second",
            ),
        ] {
            let json = format!(
                r#"{{"kind":"flowspec","destination":"192.0.2.10/32","port":443,{terms}}}"#
            );
            assert_eq!(admit(&settings, HOST, &json), Err(error.to_owned()), "{terms}");
        }
    }

    #[test]
    fn a_blackhole_needs_the_operators_terms() {
        let json = r#"{"kind":"rtbh","destination":"192.0.2.10/32"}"#;
        let refused = Err("blackholes are not configured".to_owned());
        assert_eq!(admit(&settings(), HOST, json), refused);
        let terms = BlackholeTerms {
            next_hop_ipv4: Some([10, 99, 0, 1].into()),
            next_hop_ipv6: None,
            communities: vec![Community::BLACKHOLE],
        };
        let mut settings = Settings { blackhole: Some(terms), ..settings() };
        let route = admit(&settings, HOST, json).expect("a blackhole");
        assert_eq!(route.destination(), IpAddr::from([192, 0, 2, 10]));
        settings.hosts.insert(HOST.parse().unwrap(), vec!["2001:db8::/32".parse().unwrap()]);
        let ipv6 = r#"{"kind":"rtbh","destination":"2001:db8::10/128"}"#;
        assert_eq!(admit(&settings, HOST, ipv6), refused);
    }

    #[test]
    fn a_refusal_fits_into_a_document() {
        let address = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
        for refusal in [
            Refusal::Rule(RuleError::Destination(address)),
            Refusal::Rule(RuleError::Lengths { first: u16::MAX, last: u16::MAX }),
            Refusal::Rule(RuleError::Rate(u32::MAX)),
            Refusal::Rule(RuleError::DiscardsClients),
            Refusal::NotItsAddress(address),
            Refusal::Protected(address),
            Refusal::TooOld,
        ] {
            let length = refusal.to_string().len();
            assert!(length <= Announced::MAX_REASON, "{refusal}: {length}");
        }
    }
}
