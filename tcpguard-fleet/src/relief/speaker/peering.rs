//! The session to a router, as the configurations of GoBGP and ExaBGP.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use ipnet::IpNet;

use crate::relief::route::Family;

/// Time without a message after which the router takes the session as lost, and its routes with it.
const HOLD_S: u8 = 9;
/// Most routes of one family that the router may send, although none is used. GoBGP keeps each of them, in about 1 kB.
/// Beyond, it ends the session for good.
const MOST_RECEIVED: u32 = 10_000;
/// Most bytes of a TCP MD5 key in Linux (`TCP_MD5SIG_MAXKEYLEN`).
const LONGEST_PASSWORD: usize = 80;

/// The session to a router.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peering {
    /// AS number of the speaker.
    pub local_as: u32,
    /// Router id of the speaker.
    pub router_id: Ipv4Addr,
    /// Address of the speaker.
    pub local_address: IpAddr,
    /// AS number of the router.
    pub peer_as: u32,
    /// Address of the router.
    pub neighbor: IpAddr,
    /// Number of hops to a router that is not on the link; `None`: it is.
    pub multihop: Option<u8>,
    /// Key of TCP MD5 signatures (RFC 2385).
    pub password: Option<Password>,
}

/// A key that both configurations hold as it is: printable ASCII without quotes, backslashes and semicolons.
#[derive(Clone, Eq, PartialEq)]
pub struct Password(String);

/// A password that one of the configurations could not hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "a BGP password is 1 to {LONGEST_PASSWORD} letters, digits and signs, without blanks, quotes, \\ ; {{ }} [ ] and #"
)]
pub struct PasswordError;

impl Password {
    /// Checks a password.
    ///
    /// # Errors
    /// When a configuration could not hold it.
    pub fn new(text: &str) -> Result<Self, PasswordError> {
        let is_plain = |byte: u8| {
            byte.is_ascii_graphic()
                && !matches!(byte, b'"' | b'\'' | b'\\' | b';' | b'#')
                && !matches!(byte, b'{' | b'}' | b'[' | b']')
        };
        match (1..=LONGEST_PASSWORD).contains(&text.len()) && text.bytes().all(is_plain) {
            true => Ok(Self(text.to_owned())),
            false => Err(PasswordError),
        }
    }
}

impl std::fmt::Debug for Password {
    /// Hides the password.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Password")
    }
}

impl Peering {
    /// Returns the configuration of GoBGP. It accepts no connection and no route, and is without graceful restart.
    pub fn gobgp(&self) -> String {
        let Self { local_as, router_id, local_address, peer_as, neighbor, .. } = self;
        let password = self.password.as_ref();
        let password =
            password.map_or_else(String::new, |word| format!("auth-password = \"{}\"\n", word.0));
        let multihop = self.multihop.map_or_else(String::new, |hops| {
            format!("[neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = {hops}\n")
        });
        let families: String = Family::ALL
            .iter()
            .map(|family| {
                format!(
                    "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\n\
                     afi-safi-name = \"{}\"\n\
                     [neighbors.afi-safis.prefix-limit.config]\n\
                     max-prefixes = {MOST_RECEIVED}\n",
                    family.name()
                )
            })
            .collect();
        // A default that refuses routes would also refuse those of the API. By default it waits for half a minute
        // after each reset.
        format!(
            "[global.config]\n\
             as = {local_as}\n\
             router-id = \"{router_id}\"\n\
             port = -1\n\
             [global.apply-policy.config]\n\
             import-policy-list = [\"none-of-router\"]\n\
             default-import-policy = \"accept-route\"\n\
             default-export-policy = \"accept-route\"\n\
             [[defined-sets.neighbor-sets]]\n\
             neighbor-set-name = \"router\"\n\
             neighbor-info-list = [\"{}\"]\n\
             [[policy-definitions]]\n\
             name = \"none-of-router\"\n\
             [[policy-definitions.statements]]\n\
             [policy-definitions.statements.conditions.match-neighbor-set]\n\
             neighbor-set = \"router\"\n\
             [policy-definitions.statements.actions]\n\
             route-disposition = \"reject-route\"\n\
             [[neighbors]]\n\
             [neighbors.config]\n\
             neighbor-address = \"{neighbor}\"\n\
             peer-as = {peer_as}\n\
             {password}\
             [neighbors.transport.config]\n\
             local-address = \"{local_address}\"\n\
             [neighbors.timers.config]\n\
             hold-time = {HOLD_S}\n\
             keepalive-interval = {}\n\
             connect-retry = 5\n\
             idle-hold-time-after-reset = 5\n\
             {multihop}\
             {families}",
            IpNet::from(*neighbor),
            HOLD_S / 3
        )
    }

    /// Returns the configuration of ExaBGP, whose process `relay` carries its API to the socket. It does not
    /// read the routes of the router, and is without graceful restart.
    pub fn exabgp(&self, relay: &[&str], socket: &Path) -> String {
        let Self { local_as, router_id, local_address, peer_as, neighbor, .. } = self;
        let password = self.password.as_ref();
        let password =
            password.map_or_else(String::new, |word| format!("    md5-password {};\n", word.0));
        let multihop =
            self.multihop.map_or_else(String::new, |hops| format!("    outgoing-ttl {hops};\n"));
        format!(
            "process relief {{\n    run {} {};\n    encoder json;\n}}\n\
             neighbor {neighbor} {{\n    \
             router-id {router_id};\n    \
             local-address {local_address};\n    \
             local-as {local_as};\n    \
             peer-as {peer_as};\n    \
             hold-time {HOLD_S};\n\
             {password}\
             {multihop}    \
             adj-rib-in false;\n    \
             family {{ ipv4 unicast; ipv6 unicast; ipv4 flow; ipv6 flow; }}\n    \
             api {{ processes [ relief ]; }}\n}}\n",
            relay.join(" "),
            socket.display()
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn peering() -> Peering {
        Peering {
            local_as: 65_001,
            router_id: [10, 99, 0, 1].into(),
            local_address: [10, 99, 0, 1].into(),
            peer_as: 65_000,
            neighbor: [10, 99, 0, 2].into(),
            multihop: None,
            password: None,
        }
    }

    #[test]
    fn gobgp_has_a_session_that_ends_with_it() {
        let config = peering().gobgp();
        assert!(
            config
                .starts_with("[global.config]\nas = 65001\nrouter-id = \"10.99.0.1\"\nport = -1\n"),
            "{config}"
        );
        assert!(
            config.contains(
                "[[neighbors]]\n\
                 [neighbors.config]\nneighbor-address = \"10.99.0.2\"\npeer-as = 65000\n\
                 [neighbors.transport.config]\nlocal-address = \"10.99.0.1\"\n\
                 [neighbors.timers.config]\nhold-time = 9\nkeepalive-interval = 3\n\
                 connect-retry = 5\nidle-hold-time-after-reset = 5\n[[neighbors.afi-safis]]\n"
            ),
            "{config}"
        );
        for family in ["ipv4-unicast", "ipv6-unicast", "ipv4-flowspec", "ipv6-flowspec"] {
            assert!(config.contains(&format!("afi-safi-name = \"{family}\"")), "{family}");
        }
        assert!(!config.contains("graceful"));
        assert_eq!(config.matches("max-prefixes = 10000\n").count(), 4);
        assert!(config.contains("neighbor-info-list = [\"10.99.0.2/32\"]\n"), "{config}");
        assert!(config.contains("route-disposition = \"reject-route\"\n"), "{config}");
    }

    #[test]
    fn exabgp_has_a_session_and_the_relay() {
        let config = peering().exabgp(
            &["/usr/bin/tcpguard-fleet", "exabgp-relay"],
            Path::new("/run/tcpguard-fleet/exabgp.sock"),
        );
        assert_eq!(
            config,
            "process relief {\n    \
             run /usr/bin/tcpguard-fleet exabgp-relay /run/tcpguard-fleet/exabgp.sock;\n    \
             encoder json;\n}\n\
             neighbor 10.99.0.2 {\n    router-id 10.99.0.1;\n    local-address 10.99.0.1;\n    \
             local-as 65001;\n    peer-as 65000;\n    hold-time 9;\n    \
             adj-rib-in false;\n    \
             family { ipv4 unicast; ipv6 unicast; ipv4 flow; ipv6 flow; }\n    \
             api { processes [ relief ]; }\n}\n"
        );
    }

    #[test]
    fn a_remote_router_and_a_password_are_in_both() {
        let password = Some(Password::new("s3cret!").unwrap());
        let far = Peering { multihop: Some(3), password, ..peering() };
        let (gobgp, exabgp) = (far.gobgp(), far.exabgp(&["/relay"], Path::new("/socket")));
        assert!(gobgp.contains("peer-as = 65000\nauth-password = \"s3cret!\"\n"), "{gobgp}");
        assert!(gobgp.contains("enabled = true\nmultihop-ttl = 3\n"), "{gobgp}");
        assert!(exabgp.contains("md5-password s3cret!;\n    outgoing-ttl 3;\n"), "{exabgp}");
        assert!(!format!("{far:?}").contains("s3cret"));
    }

    #[test]
    fn a_password_adds_nothing_to_a_configuration() {
        let long = "x".repeat(81);
        for bad in ["", "a b", "a\"\nport = 179", "a; }", "a\\", "a'b", "a#b", "ä", &long] {
            assert_eq!(Password::new(bad), Err(PasswordError), "{bad}");
        }
    }
}
