//! List of all TCP sockets of the namespace, one after another.

use std::net::SocketAddr;

use netlink_packet_core::{DecodeError, Parseable};
use netlink_packet_sock_diag::constants as codes;
use netlink_packet_sock_diag::inet::{InetResponseHeader, SocketId, StateFlags};
use schemars::JsonSchema;
use serde::Serialize;
use strum::{EnumCount, IntoStaticStr, VariantArray};

use super::{Error, Message, SOCK_DIAG_BY_FAMILY, SockDiag, request, unlisted};

/// State of a TCP connection (RFC 9293 §3.3.2), in the order in which a connection lives.
#[derive(Clone, Copy, Debug, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
#[derive(EnumCount, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum TcpState {
    /// Listener: waits for connections.
    Listen,
    /// SYN sent, no reply yet.
    SynSent,
    /// Half-open: the SYN was answered, and the third ACK has not come.
    SynRecv,
    /// Open connection.
    Established,
    /// Closed at this end; the other end has not acknowledged that.
    FinWait1,
    /// Closed at this end; the other end may still send.
    FinWait2,
    /// Closed by both ends at once; the other end has not acknowledged that.
    Closing,
    /// Closed by both ends, this end first; the addresses and ports stay reserved for a minute.
    TimeWait,
    /// Closed by the other end; the application here has not closed it.
    CloseWait,
    /// Closed by both ends, the other end first; it has not acknowledged that.
    LastAck,
    /// Closed; the socket is about to vanish.
    Close,
}

impl TcpState {
    /// All states, in this order.
    pub const ALL: [Self; Self::COUNT] = *Self::VARIANTS.first_chunk().unwrap();

    /// Returns the state's name as `netstat` writes it.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns its code: `TCP_…` of include/net/tcp_states.h.
    const fn code(self) -> u8 {
        match self {
            Self::Listen => codes::TCP_LISTEN,
            Self::SynSent => codes::TCP_SYN_SENT,
            Self::SynRecv => codes::TCP_SYN_RECV,
            Self::Established => codes::TCP_ESTABLISHED,
            Self::FinWait1 => codes::TCP_FIN_WAIT1,
            Self::FinWait2 => codes::TCP_FIN_WAIT2,
            Self::Closing => codes::TCP_CLOSING,
            Self::TimeWait => codes::TCP_TIME_WAIT,
            Self::CloseWait => codes::TCP_CLOSE_WAIT,
            Self::LastAck => codes::TCP_LAST_ACK,
            Self::Close => codes::TCP_CLOSE,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }
}

/// A TCP socket with a connection, past, present or future. IPv4-mapped addresses are given as IPv4.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Connection {
    /// State of the connection.
    pub state: TcpState,
    /// Address and port of this end.
    pub local: SocketAddr,
    /// Address and port of the other end; unspecified for a listener.
    pub remote: SocketAddr,
    /// Bytes that the application has not read; of a listener the number of connections not accepted.
    pub recv_queue: u32,
    /// Bytes that the other end has not acknowledged; of a listener the limit of its queue.
    pub send_queue: u32,
    /// Inode of the socket, as in `/proc/PID/fd`; 0 where no process has it: half-open connections, those
    /// that no process has accepted, TIME_WAIT, and closed connections that are not over (orphans).
    pub inode: u32,
    /// User id of its owner.
    pub uid: u32,
    /// Index of the interface that it is bound to; 0 for any.
    pub interface: u32,
}

impl Connection {
    /// Returns the port of the listener with the accept queue in which it waits, if no process has accepted
    /// it. Orphans have left these states.
    pub fn accept_queue(&self) -> Option<u16> {
        let is_open = matches!(self.state, TcpState::Established | TcpState::CloseWait);
        (self.inode == 0 && is_open).then(|| self.local.port())
    }
}

impl SockDiag {
    /// Hands every TCP socket in one of `states` to `each` and remembers none of them, so that it
    /// matters little how many there are. The kernel walks its whole connection table unless only
    /// [`TcpState::Listen`] is asked for: ask seldom. A socket that changes meanwhile may be handed
    /// over twice or not at all.
    pub fn each_connection(
        &mut self,
        states: &[TcpState],
        mut each: impl FnMut(Connection),
    ) -> Result<(), Error> {
        let wanted = states.iter().fold(0, |bits, state| bits | 1u32 << state.code());
        for ipv6 in [false, true] {
            let id = if ipv6 { SocketId::new_v6() } else { SocketId::new_v4() };
            let request = request(ipv6, StateFlags::from_bits_truncate(wanted), id);
            let stream = self.netlink.stream(
                "list TCP connections",
                SOCK_DIAG_BY_FAMILY,
                &request,
                |message| {
                    if let Some(found) = connection(message)? {
                        each(found);
                    }
                    Ok(())
                },
            );
            stream.map_err(unlisted)?;
        }
        Ok(())
    }
}

/// Parses the socket of a message; `None` for a state that is not among TCP's.
fn connection(message: &Message) -> Result<Option<Connection>, DecodeError> {
    if message.kind != SOCK_DIAG_BY_FAMILY {
        return Err(format!("message type {} in a list of sockets", message.kind).into());
    }
    // Only the header: there may be a million of them, and attributes cost an allocation each.
    let header = InetResponseHeader::parse(message.payload)?;
    let Some(state) = TcpState::from_code(header.state) else { return Ok(None) };
    let id = &header.socket_id;
    Ok(Some(Connection {
        state,
        local: SocketAddr::new(id.source_address.to_canonical(), id.source_port),
        remote: SocketAddr::new(id.destination_address.to_canonical(), id.destination_port),
        recv_queue: header.recv_queue,
        send_queue: header.send_queue,
        inode: header.inode,
        uid: header.uid,
        interface: id.interface_id,
    }))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{Shutdown, TcpListener, TcpStream};

    use netlink_packet_core::Emitable;

    use super::super::super::netlink::messages;
    use super::super::super::netlink::tests::message;
    use super::*;

    /// Returns the sockets that the kernel lists with `port` at either end.
    fn listed(states: &[TcpState], port: u16) -> Vec<Connection> {
        let mut found = Vec::new();
        let mut sockets = SockDiag::open().expect("netlink");
        let keep = |connection: Connection| {
            if connection.local.port() == port || connection.remote.port() == port {
                found.push(connection);
            }
        };
        sockets.each_connection(states, keep).expect("a list");
        found
    }

    fn connect(address: &str) -> (TcpListener, TcpStream, TcpStream) {
        let listener = TcpListener::bind(address).expect("listen");
        let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        let (server, _) = listener.accept().expect("accept");
        (listener, client, server)
    }

    #[test]
    fn every_state_has_its_own_code_and_name() {
        for (place, state) in TcpState::ALL.into_iter().enumerate() {
            assert_eq!((TcpState::from_code(state.code()), state as usize), (Some(state), place));
            let same = |other: &&TcpState| other.name() == state.name();
            assert_eq!(TcpState::ALL.iter().filter(same).count(), 1, "{state:?}");
        }
        assert_eq!(TcpState::from_code(0), None);
        // TCP_NEW_SYN_RECV, which the kernel shows as SYN_RECV.
        assert_eq!(TcpState::from_code(12), None);
    }

    #[test]
    fn both_ends_of_a_connection_are_listed_with_what_waits_in_them() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (listener, mut client, server) = connect(address);
            client.write_all(b"unread").expect("write");
            let at = listener.local_addr().expect("address");
            let found = listed(&[TcpState::Established], at.port());
            assert_eq!(found.len(), 2, "{found:?}");
            let of_server = found.iter().find(|it| it.local == at).expect("the server's end");
            assert_eq!(of_server.remote, client.local_addr().expect("address"));
            assert_eq!((of_server.recv_queue, of_server.send_queue), (6, 0));
            assert_ne!(of_server.inode, 0);
            let of_client = found.iter().find(|it| it.remote == at).expect("the client's end");
            assert_ne!(of_client.inode, of_server.inode);
            drop(server);
        }
    }

    #[test]
    fn only_the_states_asked_for_are_listed() {
        let (listener, client, server) = connect("127.0.0.1:0");
        let port = listener.local_addr().expect("address").port();
        let states = |wanted: &[TcpState]| {
            let mut found: Vec<_> = listed(wanted, port).iter().map(|it| it.state).collect();
            found.sort_unstable();
            found
        };
        client.shutdown(Shutdown::Write).expect("shutdown");
        assert_eq!(states(&[TcpState::CloseWait]), [TcpState::CloseWait]);
        assert_eq!(states(&[TcpState::Established]), []);
        // Whether the other end has acknowledged that already is its affair.
        assert_eq!(states(&[TcpState::FinWait1, TcpState::FinWait2]).len(), 1);
        let all = states(&TcpState::ALL);
        let [TcpState::Listen, closed_here, TcpState::CloseWait] = all[..] else {
            panic!("{all:?}")
        };
        assert!(matches!(closed_here, TcpState::FinWait1 | TcpState::FinWait2), "{all:?}");
        drop(server);
    }

    fn answer(state: u8) -> Vec<u8> {
        let header = InetResponseHeader {
            family: codes::AF_INET6,
            state,
            timer: None,
            socket_id: SocketId {
                source_port: 443,
                destination_port: 4000,
                source_address: "::ffff:192.0.2.1".parse().expect("an address"),
                destination_address: "::ffff:198.51.100.9".parse().expect("an address"),
                interface_id: 3,
                cookie: [7; 8],
            },
            recv_queue: 12,
            send_queue: 34,
            uid: 33,
            inode: 4711,
        };
        let mut payload = vec![0; header.buffer_len()];
        header.emit(&mut payload);
        payload
    }

    fn parse_one(kind: u16, payload: &[u8]) -> Result<Option<Connection>, DecodeError> {
        let datagram = message(kind, payload);
        messages(&datagram).next().expect("one message").and_then(|it| connection(&it))
    }

    #[test]
    fn an_answer_is_understood_whole_or_refused() {
        let whole = answer(codes::TCP_CLOSE_WAIT);
        let expected = Connection {
            state: TcpState::CloseWait,
            local: "192.0.2.1:443".parse().expect("an address"),
            remote: "198.51.100.9:4000".parse().expect("an address"),
            recv_queue: 12,
            send_queue: 34,
            inode: 4711,
            uid: 33,
            interface: 3,
        };
        assert_eq!(parse_one(SOCK_DIAG_BY_FAMILY, &whole).expect("well formed"), Some(expected));
        for cut in 0..whole.len() {
            assert!(parse_one(SOCK_DIAG_BY_FAMILY, &whole[..cut]).is_err(), "cut at {cut}");
        }
        assert!(parse_one(SOCK_DIAG_BY_FAMILY + 1, &whole).is_err());
        let mut of_unix_sockets = whole;
        of_unix_sockets[0] = 1;
        assert!(parse_one(SOCK_DIAG_BY_FAMILY, &of_unix_sockets).is_err());
    }

    #[test]
    fn a_state_of_a_later_kernel_is_left_out() {
        for code in [0, 12, 13, u8::MAX] {
            let found = parse_one(SOCK_DIAG_BY_FAMILY, &answer(code)).expect("well formed");
            assert_eq!(found, None, "{code}");
        }
    }
}
