use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use netlink_packet_core::DefaultNla;
use netlink_packet_sock_diag::inet::InetResponseHeader;
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::super::netlink::messages;
use super::super::netlink::tests::message;
use super::*;

fn listen(address: &str, v6_only: bool, reuse_port: bool, backlog: i32) -> (OwnedFd, SocketAddr) {
    let address: SocketAddr = address.parse().expect("an address");
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = rustix::net::socket(family, SocketType::STREAM, None).expect("socket");
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, v6_only).expect("IPV6_V6ONLY");
    }
    sockopt::set_socket_reuseport(&socket, reuse_port).expect("SO_REUSEPORT");
    rustix::net::bind(&socket, &address).expect("bind");
    rustix::net::listen(&socket, backlog).expect("listen");
    let address = rustix::net::getsockname(socket.as_fd()).expect("getsockname");
    (socket, SocketAddr::try_from(address).expect("an internet address"))
}

fn find(port: u16) -> Vec<ListeningSocket> {
    let mut found = SockDiag::open().expect("netlink").listeners().expect("listeners");
    found.retain(|socket| socket.port == port);
    found
}

fn entry(retransmits: u8, expires_in_ms: u64) -> HalfOpen {
    HalfOpen {
        server: "192.0.2.1:443".parse().expect("an address"),
        client: "198.51.100.9:4000".parse().expect("an address"),
        retransmits,
        expires_in: Duration::from_millis(expires_in_ms),
        interface: 0,
        cookie: [7; 8],
    }
}

#[test]
fn a_listener_shows_the_limit_it_was_given() {
    for (address, v6_only, dual_stack) in [
        ("127.0.0.1:0", false, false),
        ("0.0.0.0:0", false, false),
        ("[::1]:0", false, false),
        ("[::]:0", true, false),
        ("[::]:0", false, true),
    ] {
        let (_socket, bound) = listen(address, v6_only, false, 128);
        let found = find(bound.port());
        let found: Vec<_> = found
            .iter()
            .filter(|socket| socket.addr == bound.ip())
            .map(|socket| (socket.dual_stack, socket.accept, socket.backlog))
            .collect();
        assert_eq!(found, [(dual_stack, 0, 128)], "{address}");
    }
}

#[test]
fn a_listener_on_a_mapped_address_is_an_ipv4_listener() {
    let (_socket, bound) = listen("[::ffff:127.0.0.1]:0", false, false, 16);
    let found = find(bound.port());
    assert_eq!(found[0].addr, IpAddr::from([127, 0, 0, 1]));
    assert!(!found[0].dual_stack);
}

#[test]
fn listeners_on_loopback_are_passed_over_and_no_others() {
    let open = |addr| {
        let (_socket, bound) = listen(addr, false, false, 16);
        let mut sockets = SockDiag::open().expect("netlink");
        let found = sockets.open_listeners().expect("listeners");
        found.iter().any(|socket| socket.port == bound.port())
    };
    for addr in ["127.0.0.1:0", "127.255.0.9:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
        assert!(!open(addr), "{addr}");
    }
    for addr in ["0.0.0.0:0", "[::]:0"] {
        assert!(open(addr), "{addr}");
    }
}

/// `IPPROTO_MPTCP`, include/uapi/linux/in.h.
const IPPROTO_MPTCP: u32 = 262;

#[test]
fn a_listener_that_speaks_mptcp_is_distinguished_from_one_that_does_not() {
    for (protocol, mptcp) in [(None, false), (std::num::NonZero::new(IPPROTO_MPTCP), true)] {
        let protocol = protocol.map(rustix::net::Protocol::from_raw);
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, protocol);
        let Ok(socket) = socket else {
            assert!(mptcp, "TCP is always there");
            println!("this kernel has no MPTCP, or has it switched off");
            continue;
        };
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        rustix::net::bind(&socket, &any).expect("bind");
        rustix::net::listen(&socket, 16).expect("listen");
        let bound = rustix::net::getsockname(socket.as_fd()).expect("getsockname");
        let bound = SocketAddr::try_from(bound).expect("an internet address");
        let found = find(bound.port());
        assert_eq!(found.iter().map(|socket| socket.mptcp).collect::<Vec<_>>(), [mptcp]);
        assert_eq!(ListenerGroup::merge(&found)[0].mptcp, mptcp);
    }
}

#[test]
fn the_accept_queue_grows_while_no_process_accepts() {
    let (socket, bound) = listen("127.0.0.1:0", false, false, 16);
    let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(bound).expect("connect")).collect();
    assert_eq!(find(bound.port())[0].accept, 3);
    let listener = TcpListener::from(socket);
    listener.accept().expect("accept");
    assert_eq!(find(bound.port())[0].accept, 2);
    drop(clients);
}

#[test]
fn a_reuseport_group_is_one_listener_with_the_sums() {
    let (_first, bound) = listen("127.0.0.1:0", false, true, 100);
    let (_second, _) = listen(&bound.to_string(), false, true, 28);
    let (_other, _) = listen(&format!("127.0.0.2:{}", bound.port()), false, false, 5);
    let groups = ListenerGroup::merge(&find(bound.port()));
    let found: Vec<_> = groups
        .iter()
        .map(|group| (group.listener.addr, group.sockets, group.queues.backlog))
        .collect();
    assert_eq!(
        found,
        [(IpAddr::from([127, 0, 0, 1]), 2, 128), (IpAddr::from([127, 0, 0, 2]), 1, 5)]
    );
}

#[test]
fn age_is_what_the_kernels_timers_prove() {
    for (retransmits, expires_in_ms, at_least_ms, because) in [
        (0, 1_000, 0, "the first wait has just begun"),
        (0, 400, 600, "the first wait is running out"),
        (0, 3_000, 0, "somebody set a longer first wait"),
        (1, 2_000, 1_000, "the second wait has just begun"),
        (1, 1_200, 1_800, "the second wait, as the first is never that long"),
        (1, 900, 100, "it may be the first wait still, and the client repeated its SYN"),
        (2, 4_000, 3_000, "the third wait has just begun"),
        (2, 1_500, 1_500, "it may be the second wait still"),
        (5, 31_000, 32_000, "the sixth wait, one second in"),
        (5, 0, 1_000, "all that is known is that some wait is over"),
        (u8::MAX, u64::from(u32::MAX), 12_482_247_705, "nothing that the kernel says overflows"),
    ] {
        let found = entry(retransmits, expires_in_ms).age_at_least();
        assert_eq!(found, Duration::from_millis(at_least_ms), "{because}");
    }
}

#[test]
fn a_connection_that_was_completed_is_left_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let server = listener.local_addr().expect("address");
    let client = TcpStream::connect(server).expect("connect");
    let (session, _) = listener.accept().expect("accept");

    let mut sockets = SockDiag::open().expect("netlink");
    let completed = sockets
        .dump("list", StateFlags::ESTABLISHED, server.port(), filter::none, half_open_even_if_full)
        .expect("list");
    let [completed] = &completed[..] else { panic!("one connection: {completed:?}") };
    assert_eq!(completed.client, client.local_addr().expect("address"));
    assert!(!sockets.destroy(completed).expect("an answer"));
    std::io::Write::write_all(&mut &client, b"alive").expect("write");
    let mut bytes = [0; 5];
    std::io::Read::read_exact(&mut &session, &mut bytes).expect("read");
}

/// A half-open entry that completes its handshake after it was listed: the cookie stays.
fn half_open_even_if_full(answer: &InetResponse) -> Option<HalfOpen> {
    half_open(&InetResponse { header: answer.header.clone(), nlas: Default::default() })
}

#[test]
fn an_entry_that_has_gone_does_not_lead_to_the_listener() {
    let (_socket, bound) = listen("127.0.0.1:0", false, false, 16);
    let mut gone = entry(0, 500);
    gone.server = bound;
    gone.client = "127.0.0.1:9".parse().expect("an address");
    assert!(!SockDiag::open().expect("netlink").destroy(&gone).expect("an answer"));
    TcpStream::connect(bound).expect("the listener still listens");
}

#[test]
fn only_the_port_asked_for_is_listed() {
    let (first, second) = (TcpListener::bind("127.0.0.1:0"), TcpListener::bind("127.0.0.1:0"));
    let addresses = [&first, &second].map(|it| it.as_ref().expect("listen").local_addr());
    let _clients = addresses.map(|it| TcpStream::connect(it.expect("address")).expect("connect"));
    let port = first.as_ref().expect("listen").local_addr().expect("address").port();
    let found = SockDiag::open()
        .expect("netlink")
        .dump("list", StateFlags::ESTABLISHED, port, filter::none, half_open_even_if_full)
        .expect("list");
    assert_eq!(found.iter().map(|it| it.server.port()).collect::<Vec<_>>(), [port]);
}

#[test]
fn the_other_end_of_a_connection_has_an_owner_while_a_process_has_it_open() {
    let mut sockets = SockDiag::open().expect("netlink");
    for address in ["127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
        let listener = TcpListener::bind(address).expect("listen");
        let server = listener.local_addr().expect("address");
        let stream = TcpStream::connect(server).expect("connect");
        let client = stream.local_addr().expect("address");
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(sockets.owner(client, server).expect("an answer"), Some(own), "{address}");
        let unaccepted = sockets.owner(server, client).expect("an answer");
        assert_eq!(unaccepted, None, "{address}: no process has accepted it");
        drop(stream);
        assert_eq!(sockets.owner(client, server).expect("an answer"), None, "{address}: closed");
        let (_other, elsewhere) = listen(address, false, false, 16);
        let not_connected = sockets.owner(elsewhere, server).expect("an answer");
        assert_eq!(not_connected, None, "{address}: a listener is no client");
    }
}

fn answer(state: u8, nlas: &[Nla]) -> Vec<u8> {
    let response = InetResponse {
        header: InetResponseHeader {
            family: AF_INET6,
            state,
            timer: Some(Timer::Retransmit(Duration::from_millis(700), 2)),
            socket_id: SocketId {
                source_port: 443,
                destination_port: 4000,
                source_address: "::ffff:192.0.2.1".parse().expect("an address"),
                destination_address: "::ffff:198.51.100.9".parse().expect("an address"),
                interface_id: 0,
                cookie: [7; 8],
            },
            recv_queue: 0,
            send_queue: 0,
            uid: 0,
            inode: 0,
        },
        nlas: nlas.iter().cloned().collect(),
    };
    let mut payload = vec![0; response.buffer_len()];
    response.emit(&mut payload);
    payload
}

fn parse_one(kind: u16, payload: &[u8]) -> Result<InetResponse, DecodeError> {
    let datagram = message(kind, payload);
    messages(&datagram).next().expect("one message").and_then(|message| parse(&message))
}

#[test]
fn a_half_open_entry_of_a_dual_stack_listener_is_an_ipv4_entry() {
    let payload = answer(TCP_SYN_RECV, &[Nla::Mark(5)]);
    let found = half_open(&parse_one(SOCK_DIAG_BY_FAMILY, &payload).expect("well formed"));
    assert_eq!(found, Some(entry(2, 700)));
}

#[test]
fn a_fast_open_connection_is_not_half_open() {
    let payload = answer(TCP_SYN_RECV, &[Nla::Shutdown(0)]);
    let found = half_open(&parse_one(SOCK_DIAG_BY_FAMILY, &payload).expect("well formed"));
    assert_eq!(found, None);
}

#[test]
fn a_truncated_answer_is_an_error_or_holds_less() {
    let other = Nla::Other(DefaultNla::new(21, vec![1; 8]));
    let whole = answer(TCP_SYN_RECV, &[Nla::Mark(5), other]);
    for cut in 0..whole.len() {
        match parse_one(SOCK_DIAG_BY_FAMILY, &whole[..cut]) {
            Ok(answer) => assert_eq!(half_open(&answer), Some(entry(2, 700)), "cut at {cut}"),
            Err(_) => assert!(cut != 72, "the header alone is an answer"),
        }
    }
}

#[test]
fn an_answer_of_another_kind_or_family_is_refused() {
    let mut payload = answer(TCP_SYN_RECV, &[]);
    assert!(parse_one(SOCK_DIAG_BY_FAMILY + 1, &payload).is_err());
    payload[0] = 1;
    assert!(parse_one(SOCK_DIAG_BY_FAMILY, &payload).is_err());
}
