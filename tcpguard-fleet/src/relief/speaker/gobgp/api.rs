//! Messages of GoBGP's API, as far as they are used. They are the same in its versions 3 and 4: routes are carried as
//! bytes of BGP, whose form the versions share. Names of services and some numbers differ.

use std::net::IpAddr;

use crate::relief::controller::Entry;
use crate::relief::route::{Family, Key};
use crate::relief::wire;

/// Version of the API.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// GoBGP 3, as in Debian 12.
    V3,
    /// GoBGP 4.
    V4,
}

/// Value of `PeerState.SessionState` of an established session.
const ESTABLISHED: i32 = 6;

impl Version {
    /// All versions, the older first.
    pub const ALL: [Self; 2] = [Self::V3, Self::V4];

    /// Returns the path of a method.
    pub const fn path(self, method: Method) -> &'static str {
        match (self, method) {
            (Self::V3, Method::AddPath) => "/apipb.GobgpApi/AddPath",
            (Self::V3, Method::ListPath) => "/apipb.GobgpApi/ListPath",
            (Self::V3, Method::ListPeer) => "/apipb.GobgpApi/ListPeer",
            (Self::V4, Method::AddPath) => "/api.GoBgpService/AddPath",
            (Self::V4, Method::ListPath) => "/api.GoBgpService/ListPath",
            (Self::V4, Method::ListPeer) => "/api.GoBgpService/ListPeer",
        }
    }

    /// Returns the number of the table of all routes.
    pub const fn global_table(self) -> i32 {
        match self {
            Self::V3 => 0,
            Self::V4 => 1,
        }
    }
}

/// Method of the API.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// Adds or withdraws one route.
    AddPath,
    /// Lists the routes of a table.
    ListPath,
    /// Lists the neighbors.
    ListPeer,
}

/// `Family`: an address family.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct FamilyMessage {
    /// Number of the address family.
    #[prost(int32, tag = "1")]
    pub afi: i32,
    /// Number of the subsequent address family.
    #[prost(int32, tag = "2")]
    pub safi: i32,
}

/// `Path`: a route.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Path {
    /// True if the route is to be withdrawn.
    #[prost(bool, tag = "5")]
    pub is_withdraw: bool,
    /// Address family of the route.
    #[prost(message, optional, tag = "9")]
    pub family: Option<FamilyMessage>,
    /// Address of the neighbor that sent it; for a local route no address.
    #[prost(string, tag = "15")]
    pub neighbor_ip: String,
    /// The NLRI.
    #[prost(bytes = "vec", tag = "20")]
    pub nlri_binary: Vec<u8>,
    /// The path attributes, one each.
    #[prost(bytes = "vec", repeated, tag = "21")]
    pub pattrs_binary: Vec<Vec<u8>>,
}

/// `AddPathRequest`: a route to add or withdraw.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AddPathRequest {
    /// Number of the table.
    #[prost(int32, tag = "1")]
    pub table_type: i32,
    /// The route.
    #[prost(message, optional, tag = "3")]
    pub path: Option<Path>,
}

/// `AddPathResponse`: the end of an addition.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AddPathResponse {}

/// `ListPathRequest`: the table and the address family to list.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListPathRequest {
    /// Number of the table.
    #[prost(int32, tag = "1")]
    pub table_type: i32,
    /// Address family of the routes.
    #[prost(message, optional, tag = "3")]
    pub family: Option<FamilyMessage>,
    /// True if routes are to be carried as bytes of BGP only.
    #[prost(bool, tag = "9")]
    pub enable_only_binary: bool,
}

/// `ListPathResponse`: one destination of the table.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListPathResponse {
    /// The destination.
    #[prost(message, optional, tag = "1")]
    pub destination: Option<Destination>,
}

/// `Destination`: the routes with one NLRI.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Destination {
    /// The routes.
    #[prost(message, repeated, tag = "2")]
    pub paths: Vec<Path>,
}

/// `ListPeerRequest`: the neighbors to list, all by default.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListPeerRequest {}

/// `ListPeerResponse`: one neighbor.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListPeerResponse {
    /// The neighbor.
    #[prost(message, optional, tag = "1")]
    pub peer: Option<Peer>,
}

/// `Peer`: a neighbor.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Peer {
    /// State of the session.
    #[prost(message, optional, tag = "5")]
    pub state: Option<PeerState>,
    /// Graceful restart.
    #[prost(message, optional, tag = "9")]
    pub graceful_restart: Option<GracefulRestart>,
}

/// `PeerState`: the state of a session.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PeerState {
    /// Address of the neighbor.
    #[prost(string, tag = "5")]
    pub neighbor_address: String,
    /// State of the session.
    #[prost(int32, tag = "13")]
    pub session_state: i32,
}

/// `GracefulRestart`: whether the router keeps routes when the speaker is gone.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct GracefulRestart {
    /// True if it keeps them.
    #[prost(bool, tag = "1")]
    pub enabled: bool,
}

impl From<Family> for FamilyMessage {
    fn from(family: Family) -> Self {
        Self { afi: family.afi().into(), safi: family.safi().into() }
    }
}

impl PeerState {
    /// Returns whether the session is established.
    pub const fn is_established(&self) -> bool {
        self.session_state == ESTABLISHED
    }
}

impl Destination {
    /// Returns the route of this speaker itself; none of a neighbor's.
    pub fn entry(self, family: Family) -> Option<Entry> {
        let is_local = |path: &Path| {
            !path.neighbor_ip.parse::<IpAddr>().is_ok_and(|address| !address.is_unspecified())
        };
        let path = self.paths.into_iter().find(is_local)?;
        let route = wire::route(family, &path.nlri_binary, &path.pattrs_binary);
        Some(Entry { key: Key { family, nlri: path.nlri_binary }, route })
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::relief::flowspec::{Action, FlowSpec, Lengths, Terms};
    use crate::relief::route::Route;

    fn route() -> Route {
        let terms = Terms {
            destination: "192.0.2.77".parse().unwrap(),
            port: 443,
            lengths: Some(Lengths { first: 40, last: 44 }),
            action: Action::RateLimit(12_500),
        };
        Route::FlowSpec(FlowSpec::new(terms).unwrap())
    }

    fn path(neighbor_ip: &str) -> Path {
        let route = route();
        Path {
            is_withdraw: false,
            family: Some(route.family().into()),
            neighbor_ip: neighbor_ip.to_owned(),
            nlri_binary: wire::nlri(&route),
            pattrs_binary: wire::attributes(&route),
        }
    }

    /// The fields have the numbers of `gobgp.proto`.
    #[test]
    fn a_request_has_the_fields_of_the_api() {
        let path = Path { nlri_binary: vec![1, 2], pattrs_binary: vec![vec![3]], ..path("") };
        let request = AddPathRequest { table_type: 1, path: Some(path) };
        assert_eq!(
            request.encode_to_vec(),
            [
                0x08, 1, // table_type
                0x1a, 16, // path
                0x4a, 5, 0x08, 1, 0x10, 0x85, 1, // family: IPv4, 133
                0xa2, 0x01, 2, 1, 2, // nlri_binary
                0xaa, 0x01, 1, 3, // pattrs_binary
            ]
        );
        let withdrawal = Path { is_withdraw: true, ..Path::default() };
        assert_eq!(withdrawal.encode_to_vec(), [0x28, 1]);
    }

    #[test]
    fn only_local_routes_are_those_of_the_speaker() {
        for local in ["", "<nil>", "0.0.0.0", "::", "invalid IP"] {
            let destination = Destination { paths: vec![path("10.99.0.2"), path(local)] };
            let entry = destination.entry(Family::Ipv4FlowSpec).expect(local);
            assert_eq!(entry, Entry { key: route().key(), route: Some(route()) });
        }
        let foreign = Destination { paths: vec![path("10.99.0.2")] };
        assert_eq!(foreign.entry(Family::Ipv4FlowSpec), None);
    }

    #[test]
    fn a_route_of_another_form_has_a_key_only() {
        let all_tcp = Path { nlri_binary: vec![3, 3, 0x81, 6], ..path("") };
        let destination = Destination { paths: vec![all_tcp] };
        let entry = destination.entry(Family::Ipv4FlowSpec).unwrap();
        assert_eq!((entry.key.nlri, entry.route), (vec![3, 3, 0x81, 6], None));
    }
}
