//! GoBGP as speaker, by its API over a Unix socket.
//!
//! There is no maintained client crate. `AddPath` takes routes as bytes of BGP in all versions since 3, so a few
//! messages suffice. Without a socket of its own the API listens on all addresses, with no password.

pub mod api;

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use http::uri::PathAndQuery;
use tcpguard_host::durable;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use self::api::{
    AddPathRequest, AddPathResponse, ListPathRequest, ListPathResponse, ListPeerRequest,
    ListPeerResponse, Method, Peer, Version,
};
use super::child::Child;
use super::peering::Peering;
use super::{START, START_RETRY, Speaker, SpeakerError, TIMEOUT, in_time};
use crate::relief::controller::{Change, Entry};
use crate::relief::route::Family;
use crate::relief::wire;

/// Most routes of one family that are read, those of neighbors not counted: far more than a controller announces.
const MOST_ROUTES: usize = 10_000;

/// GoBGP as a child of this process.
#[derive(Debug)]
pub struct GoBgp {
    grpc: Grpc<Channel>,
    version: Version,
    neighbor: IpAddr,
    /// The process, which is killed with this.
    _child: Child,
}

impl GoBgp {
    /// Starts `gobgpd` with its configuration and its socket in `directory`, and waits until it replies.
    ///
    /// # Errors
    /// When it does not start, or would keep routes after its end.
    pub async fn start(
        program: &Path,
        peering: &Peering,
        directory: &Path,
    ) -> Result<Self, SpeakerError> {
        let failed = |cause| SpeakerError::Start { program: program.display().to_string(), cause };
        let config = directory.join("gobgpd.toml");
        durable::replace(&config, 0o600, peering.gobgp().as_bytes()).map_err(failed)?;
        let socket = directory.join("gobgp.sock");
        remove(&socket).map_err(failed)?;
        let url = format!("unix://{}", socket.display());
        let config = config.display().to_string();
        // By default it also serves profiles on port 6060.
        let arguments = ["-f", &config, "--api-hosts", &url, "--pprof-disable", "--log-plain"];
        let child = Child::start(program, &arguments, &[])?;
        let endpoint = Endpoint::from_shared(url)
            .map_err(|error| SpeakerError::Disconnected(error.to_string()))?;
        let mut speaker = Self {
            grpc: Grpc::new(endpoint.connect_lazy()),
            version: Version::V3,
            neighbor: peering.neighbor,
            _child: child,
        };
        let peers = in_time(START, speaker.find_version()).await?;
        match peers.iter().find(|peer| peer.graceful_restart.is_some_and(|restart| restart.enabled))
        {
            Some(_) => Err(SpeakerError::GracefulRestart(peering.neighbor.to_string())),
            None => Ok(speaker),
        }
    }

    /// Waits for the first reply, and finds the version of the API by it.
    async fn find_version(&mut self) -> Result<Vec<Peer>, SpeakerError> {
        loop {
            for version in Version::ALL {
                self.version = version;
                match self.peers().await {
                    Err(status) if status.code() == Code::Unimplemented => {}
                    Err(status) if status.code() == Code::Unavailable => break,
                    result => return result.map_err(|status| error("its neighbors", &status)),
                }
            }
            tokio::time::sleep(START_RETRY).await;
        }
    }

    async fn add(&mut self, path: api::Path) -> Result<(), SpeakerError> {
        let request = AddPathRequest { table_type: self.version.global_table(), path: Some(path) };
        let codec = ProstCodec::<AddPathRequest, AddPathResponse>::default();
        let method =
            self.method(Method::AddPath).await.map_err(|status| error("a route", &status))?;
        let reply = self.grpc.unary(Request::new(request), method, codec).await;
        reply.map(drop).map_err(|status| error("a route", &status))
    }

    async fn entries(&mut self) -> Result<Vec<Entry>, SpeakerError> {
        let mut entries = Vec::new();
        for family in Family::ALL {
            let routes = self.routes(family).await;
            entries.extend(routes.map_err(|status| error("its table", &status))?);
        }
        Ok(entries)
    }

    async fn neighbors(&mut self) -> Result<Vec<Peer>, SpeakerError> {
        self.peers().await.map_err(|status| error("its neighbors", &status))
    }

    async fn routes(&mut self, family: Family) -> Result<Vec<Entry>, Status> {
        let request = ListPathRequest {
            table_type: self.version.global_table(),
            family: Some(family.into()),
            enable_only_binary: true,
        };
        let codec = ProstCodec::<ListPathRequest, ListPathResponse>::default();
        let method = self.method(Method::ListPath).await?;
        let replies = self.grpc.server_streaming(Request::new(request), method, codec).await?;
        let mut replies = replies.into_inner();
        let mut routes = Vec::new();
        while let Some(reply) = replies.message().await? {
            if routes.len() >= MOST_ROUTES {
                return Err(Status::resource_exhausted("too many routes"));
            }
            routes.extend(reply.destination.and_then(|route| route.entry(family)));
        }
        Ok(routes)
    }

    async fn peers(&mut self) -> Result<Vec<Peer>, Status> {
        let codec = ProstCodec::<ListPeerRequest, ListPeerResponse>::default();
        let method = self.method(Method::ListPeer).await?;
        let request = Request::new(ListPeerRequest {});
        let mut replies = self.grpc.server_streaming(request, method, codec).await?.into_inner();
        let mut peers = Vec::new();
        while let Some(reply) = replies.message().await? {
            peers.extend(reply.peer);
        }
        Ok(peers)
    }

    /// The path of a method, once the channel takes a request.
    async fn method(&mut self, method: Method) -> Result<PathAndQuery, Status> {
        let ready = self.grpc.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(PathAndQuery::from_static(self.version.path(method)))
    }
}

impl Speaker for GoBgp {
    async fn apply(&mut self, change: &Change) -> Result<(), SpeakerError> {
        in_time(TIMEOUT, self.add(path(change))).await
    }

    async fn table(&mut self) -> Result<Vec<Entry>, SpeakerError> {
        in_time(TIMEOUT, self.entries()).await
    }

    async fn is_established(&mut self) -> Result<bool, SpeakerError> {
        let neighbor = self.neighbor;
        let peers = in_time(TIMEOUT, self.neighbors()).await?;
        let states = peers.into_iter().filter_map(|peer| peer.state);
        let mut of_neighbor =
            states.filter(|state| state.neighbor_address.parse::<IpAddr>() == Ok(neighbor));
        Ok(of_neighbor.next().is_some_and(|state| state.is_established()))
    }
}

/// A change as the API takes it.
fn path(change: &Change) -> api::Path {
    let (family, nlri_binary, pattrs_binary, is_withdraw) = match change {
        Change::Announce(route) => {
            (route.family(), wire::nlri(route), wire::attributes(route), false)
        }
        Change::Withdraw(key) => (key.family, key.nlri.clone(), wire::withdrawal(key.family), true),
    };
    let family = Some(family.into());
    api::Path { is_withdraw, family, neighbor_ip: String::new(), nlri_binary, pattrs_binary }
}

fn error(request: &str, status: &Status) -> SpeakerError {
    match status.code() {
        Code::Unavailable => SpeakerError::Disconnected(status.message().to_owned()),
        _ => SpeakerError::Refused(format!("{request}: {}", status.message())),
    }
}

/// Removes a file, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relief::route::{Blackhole, Community, Route};
    use crate::relief::speaker::peering::tests::peering;

    fn blackhole() -> Route {
        let [destination, next_hop] = ["192.0.2.10", "10.99.0.1"].map(|text| text.parse().unwrap());
        let communities = [Community::BLACKHOLE];
        Route::Blackhole(Blackhole::new(destination, next_hop, &communities).unwrap())
    }

    #[test]
    fn a_withdrawal_has_the_key_and_a_next_hop() {
        let route = blackhole();
        let announcement = path(&Change::Announce(route.clone()));
        assert!(!announcement.is_withdraw);
        let withdrawal = path(&Change::Withdraw(route.key()));
        assert!(withdrawal.is_withdraw);
        assert_eq!(withdrawal.nlri_binary, announcement.nlri_binary);
        assert_eq!(withdrawal.family, announcement.family);
        assert_eq!(withdrawal.pattrs_binary[1], [0x40, 0x03, 0x04, 0, 0, 0, 0]);
    }

    #[tokio::test]
    async fn a_program_that_is_missing_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let started =
            GoBgp::start(Path::new("/no/such/gobgpd"), &peering(), directory.path()).await;
        assert!(matches!(started, Err(SpeakerError::Start { .. })), "{started:?}");
        let config = fs::read_to_string(directory.path().join("gobgpd.toml")).unwrap();
        assert_eq!(config, peering().gobgp());
    }
}
