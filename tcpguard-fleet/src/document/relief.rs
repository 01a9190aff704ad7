//! `tcpguard.fleet.relief/1`: relief that a host asks of the routers before it.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check;
use super::envelope::Envelope;
use super::error::DocumentError;
use super::part::Part;

/// Relief that a host asks of the routers before it. It is repeated for as long as it is wanted.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Relief {
    /// The sender.
    #[serde(flatten)]
    pub envelope: Envelope,
    /// Place of this document among those that carry the list.
    #[serde(flatten)]
    pub part: Part,
    /// Number of the incident at the host for which it is wanted.
    pub incident: u64,
    /// Load of the host's link, 0 to 1.
    pub pressure: f64,
    /// Routes that are wanted, at most 5.
    pub wanted: Vec<ReliefRoute>,
}

/// A route that keeps packets from a host.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ReliefRoute {
    /// FlowSpec (RFC 8955, RFC 8956): SYNs without ACK to one port of one address.
    Flowspec {
        /// The address.
        #[schemars(with = "String")]
        destination: IpNet,
        /// The port.
        port: u16,
        /// Shortest and longest packet, in bytes with the IP header; left out for any length.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        length: Option<[u16; 2]>,
        /// Rate that may pass, in bytes per second; left out for none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rate_bytes_per_s: Option<u64>,
    },
    /// Remotely triggered black hole (RFC 7999): every packet to one address.
    Rtbh {
        /// The address.
        #[schemars(with = "String")]
        destination: IpNet,
    },
}

impl Relief {
    /// Most routes of one document.
    pub const MAX_ROUTES: usize = 5;

    pub(super) fn check(&self) -> Result<(), DocumentError> {
        self.part.check()?;
        check::whole("incident", self.incident)?;
        check::share("pressure", self.pressure)?;
        check::list("wanted", &self.wanted, Self::MAX_ROUTES)?;
        self.wanted.iter().try_for_each(ReliefRoute::check)
    }
}

impl ReliefRoute {
    /// The address that it is for.
    pub const fn destination(&self) -> IpNet {
        match self {
            Self::Flowspec { destination, .. } | Self::Rtbh { destination } => *destination,
        }
    }

    pub(super) fn check(&self) -> Result<(), DocumentError> {
        check::address("destination", self.destination())?;
        let Self::Flowspec { port, length, rate_bytes_per_s, .. } = self else {
            return Ok(());
        };
        check::within("port", *port, 1..=u16::MAX)?;
        if let Some([shortest, longest]) = length {
            check::within("length", *longest, 40..=1500)?;
            check::within("length", *shortest, 40..=*longest)?;
        }
        rate_bytes_per_s.iter().try_for_each(|rate| {
            // A router has the rate as a 32-bit float (RFC 8955, section 7.1).
            check::within("rate_bytes_per_s", *rate, 1..=1_000_000_000_000)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTE: &str = r#"{"kind":"flowspec","destination":"192.0.2.10/32","port":443,"length":[40,44],"rate_bytes_per_s":12500}"#;

    fn route(json: &str) -> Result<(), String> {
        let route: ReliefRoute = serde_json::from_str(json).map_err(|error| error.to_string())?;
        route.check().map_err(|error| error.to_string())
    }

    #[test]
    fn a_route_is_for_one_port_of_one_address() {
        assert_eq!(route(ROUTE), Ok(()));
        assert_eq!(route(r#"{"kind":"rtbh","destination":"2001:db8::10/128"}"#), Ok(()));
        for (from, to, field) in [
            ("10/32", "0/24", "destination"),
            ("443", "0", "port"),
            ("[40,44]", "[44,40]", "length"),
            ("[40,44]", "[40,9000]", "length"),
            ("[40,44]", "[20,40]", "length"),
            ("12500", "0", "rate"),
        ] {
            let error = route(&ROUTE.replace(from, to)).expect_err(to);
            assert!(error.starts_with(field), "{error}");
        }
        for json in [r#"{"kind":"flowspec","port":443}"#, r#"{"kind":"discard_all"}"#] {
            assert!(route(json).is_err(), "{json}");
        }
    }
}
