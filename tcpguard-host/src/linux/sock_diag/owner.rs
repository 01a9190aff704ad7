//! The user at the other end of a connection within the host.

use std::net::SocketAddr;

use netlink_packet_sock_diag::inet::{InetResponse, SocketId, StateFlags};

use super::{Error, SOCK_DIAG_BY_FAMILY, SockDiag, has_gone, parse, request};

/// Index of the loopback device in each network namespace. Without it, the kernel does not find a client that is
/// bound to this device.
const LOOPBACK: u32 = 1;

impl SockDiag {
    /// Returns the user of the process that connected `client` to `server`, both addresses of the loopback device.
    /// `None` if no process of this network namespace has that end, or the process has closed it.
    pub fn owner(&mut self, client: SocketAddr, server: SocketAddr) -> Result<Option<u32>, Error> {
        let id = SocketId {
            source_port: client.port(),
            destination_port: server.port(),
            source_address: client.ip(),
            destination_address: server.ip(),
            interface_id: LOOPBACK,
            cookie: [0xff; 8],
        };
        let request = request(client.is_ipv6(), StateFlags::all(), id);
        let what = "find the owner of a connection";
        let found = self.netlink.query(what, SOCK_DIAG_BY_FAMILY, &request, |message| {
            parse(message).map(|answer| user_of(&answer, server.port()))
        });
        match found {
            Err(error) if has_gone(&error) => Ok(None),
            found => found,
        }
    }
}

/// Without the connection, the kernel answers with a listener at the client's port, which has no remote port. A
/// socket that its process closed has no inode, and in state TIME_WAIT root's number in place of its user's.
fn user_of(answer: &InetResponse, remote_port: u16) -> Option<u32> {
    let header = &answer.header;
    let open = header.inode != 0 && header.socket_id.destination_port == remote_port;
    open.then_some(header.uid)
}
