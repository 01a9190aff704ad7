//! The kernel's own table of TCP sockets, and the cookies that only its listening sockets can make and check.
//! All helpers are there since Linux 5.4, at XDP and at tc.

use aya_ebpf::bindings::{bpf_sock, bpf_sock_tuple, tcphdr};
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{
    bpf_ktime_get_ns, bpf_sk_release, bpf_skc_lookup_tcp, bpf_tcp_check_syncookie,
    bpf_tcp_gen_syncookie,
};
use tcpguard_common::abi::FlowKey;
use tcpguard_common::fastpath::{KernelCookie, Socket};
use tcpguard_common::wire::Segment;

/// `BPF_TCP_LISTEN` of the kernel's `bpf.h`.
pub const LISTEN: u32 = 10;
/// The kernel's `BPF_F_CURRENT_NETNS`.
const CURRENT_NETNS: u64 = u64::MAX;
/// Nanoseconds in a tick of the kernel's TCP timestamps.
const TIMESTAMP_NS: u64 = 1_000_000;

/// IPv4's part of `struct bpf_sock_tuple`.
#[repr(C)]
struct TupleV4 {
    addresses: [[u8; 4]; 2],
    ports: [[u8; 2]; 2],
}

/// The socket of this network namespace that gets a segment of this flow; null for none. The caller releases
/// it.
///
/// # Safety
/// `ctx` must be the context that the program was called with.
#[inline(always)]
pub unsafe fn find(ctx: *mut c_void, flow: &FlowKey) -> *mut bpf_sock {
    match (flow.client.as_v4(), flow.server.as_v4()) {
        (Some(client), Some(server)) => {
            let ports = [flow.client_port, flow.server_port];
            let mut tuple = TupleV4 { addresses: [client, server], ports };
            // SAFETY: by the caller; the tuple is one of IPv4.
            unsafe { lookup(ctx, &raw mut tuple) }
        }
        // IPv6's part of the tuple is a `FlowKey`.
        _ => {
            let mut tuple = *flow;
            // SAFETY: by the caller; the tuple is one of IPv6.
            unsafe { lookup(ctx, &raw mut tuple) }
        }
    }
}

/// # Safety
/// `ctx` must be the context that the program was called with, `tuple` point to IPv4's or IPv6's part
/// of a `struct bpf_sock_tuple`.
#[inline(always)]
unsafe fn lookup<T>(ctx: *mut c_void, tuple: *mut T) -> *mut bpf_sock {
    let length = size_of::<T>() as u32;
    // SAFETY: by the caller.
    unsafe { bpf_skc_lookup_tcp(ctx, tuple.cast::<bpf_sock_tuple>(), length, CURRENT_NETNS, 0) }
}

/// Returns whether that socket is one of the flow's own connection, in whatever state.
///
/// # Safety
/// `ctx` must be the context that the program was called with.
#[inline(always)]
pub unsafe fn is_connected(ctx: *mut c_void, flow: &FlowKey) -> bool {
    // SAFETY: by the caller; the socket is used until it is released, once.
    unsafe {
        let found = find(ctx, flow);
        if found.is_null() {
            return false;
        }
        let state = (*found).state;
        bpf_sk_release(found.cast());
        state != LISTEN
    }
}

/// Returns whether a socket has the addresses and ports of this flow, of which the client is this host. Its family
/// says nothing: IPv4 connections of a dual-stack listener begin with that one's.
///
/// # Safety
/// `socket` must be one that the kernel gave this program, and not null.
#[inline(always)]
pub unsafe fn is_of(socket: *mut bpf_sock, flow: &FlowKey) -> bool {
    // SAFETY: by the caller; the kernel lets a program read these fields of a socket in any state.
    let (own, remote, own_port, remote_port) = unsafe {
        match (flow.client.as_v4(), flow.server.as_v4()) {
            (Some(own), Some(remote)) => (
                (*socket).src_ip4 == u32::from_ne_bytes(own),
                (*socket).dst_ip4 == u32::from_ne_bytes(remote),
                (*socket).src_port,
                (*socket).dst_port,
            ),
            _ => {
                let (own, remote) = (flow.client.words(), flow.server.words());
                (
                    (*socket).src_ip6[0] == own[0]
                        && (*socket).src_ip6[1] == own[1]
                        && (*socket).src_ip6[2] == own[2]
                        && (*socket).src_ip6[3] == own[3],
                    (*socket).dst_ip6[0] == remote[0]
                        && (*socket).dst_ip6[1] == remote[1]
                        && (*socket).dst_ip6[2] == remote[2]
                        && (*socket).dst_ip6[3] == remote[3],
                    (*socket).src_port,
                    (*socket).dst_port,
                )
            }
        }
    };
    // The kernel has its own port as a number and the other as it is on the wire.
    let ports = own_port == u32::from(u16::from_be_bytes(flow.client_port))
        && remote_port == u16::from_ne_bytes(flow.server_port);
    own && remote && ports
}

/// The port of a socket at this host.
///
/// # Safety
/// `socket` must be one that the kernel gave this program, and not null.
#[inline(always)]
pub unsafe fn port(socket: *mut bpf_sock) -> u32 {
    // SAFETY: by the caller; the kernel lets a program read this field of a socket in any state.
    unsafe { (*socket).src_port }
}

/// The socket that a segment finds, see `Tables::socket`.
///
/// # Safety
/// `ctx` must be the context that the program was called with.
#[inline(always)]
pub unsafe fn ask(ctx: *mut c_void, segment: &Segment, check: bool) -> Socket {
    // SAFETY: by the caller; the socket is used until it is released, once.
    unsafe {
        let found = find(ctx, &segment.flow);
        if found.is_null() {
            return Socket::None;
        }
        let socket = if (*found).state != LISTEN {
            Socket::Connection
        } else if check && checks(found, segment) {
            Socket::Cookie
        } else {
            Socket::Listening
        };
        bpf_sk_release(found.cast());
        socket
    }
}

/// The kernel's cookie for a SYN, see `Tables::kernel_cookie`.
///
/// # Safety
/// `ctx` must be the context that the program was called with.
#[inline(always)]
pub unsafe fn make(ctx: *mut c_void, syn: &Segment, mss: u16) -> Option<KernelCookie> {
    // SAFETY: by the caller; the socket is used until it is released, once.
    let made = unsafe {
        let found = find(ctx, &syn.flow);
        if found.is_null() {
            return None;
        }
        let made = if (*found).state == LISTEN { makes(found, syn, mss) } else { -1 };
        bpf_sk_release(found.cast());
        made
    };
    if made < 0 {
        return None;
    }
    // SAFETY: no preconditions. The kernel's TCP clock is this one.
    let clock_ms = unsafe { bpf_ktime_get_ns() } / TIMESTAMP_NS;
    Some(KernelCookie { isn: made as u32, clock_ms: clock_ms as u32 })
}

/// # Safety
/// `listener` must be a listening TCP socket that is held.
#[inline(always)]
unsafe fn checks(listener: *mut bpf_sock, ack: &Segment) -> bool {
    match (ack.flow.client.as_v4(), ack.flow.server.as_v4()) {
        (Some(client), Some(server)) => {
            let mut headers = HeadersV4::new(client, server, ack, 0);
            // SAFETY: by the caller; the headers are IPv4's.
            unsafe {
                bpf_tcp_check_syncookie(
                    listener.cast(),
                    headers.ip(),
                    IPV4_HEADER,
                    headers.tcp(),
                    TCP_HEADER,
                ) == 0
            }
        }
        _ => {
            let mut headers = HeadersV6::new(ack, 0);
            // SAFETY: by the caller; the headers are IPv6's.
            unsafe {
                bpf_tcp_check_syncookie(
                    listener.cast(),
                    headers.ip(),
                    IPV6_HEADER,
                    headers.tcp(),
                    TCP_HEADER,
                ) == 0
            }
        }
    }
}

/// # Safety
/// `listener` must be a listening TCP socket that is held.
#[inline(always)]
unsafe fn makes(listener: *mut bpf_sock, syn: &Segment, mss: u16) -> i64 {
    match (syn.flow.client.as_v4(), syn.flow.server.as_v4()) {
        (Some(client), Some(server)) => {
            let mut headers = HeadersV4::new(client, server, syn, mss);
            // SAFETY: by the caller; the headers are IPv4's.
            unsafe {
                bpf_tcp_gen_syncookie(
                    listener.cast(),
                    headers.ip(),
                    IPV4_HEADER,
                    headers.tcp(),
                    TCP_HEADER,
                )
            }
        }
        _ => {
            let mut headers = HeadersV6::new(syn, mss);
            // SAFETY: by the caller; the headers are IPv6's.
            unsafe {
                bpf_tcp_gen_syncookie(
                    listener.cast(),
                    headers.ip(),
                    IPV6_HEADER,
                    headers.tcp(),
                    TCP_HEADER,
                )
            }
        }
    }
}

// The headers that the kernel reads when it makes or checks a cookie, written anew from the parser's result.
// So options, extension headers, tags and fragments do not matter, and the kernel reads no packet of which
// the verifier would have to see the bounds.

const IPV4_HEADER: u32 = 20;
const IPV6_HEADER: u32 = 40;
/// With one word of options.
const TCP_HEADER: u32 = 24;
/// Four options that say nothing.
const NOTHING: u32 = 0x0101_0101;

/// A TCP header from its sequence number on.
#[repr(C)]
struct Tcp {
    seq: u32,
    ack: u32,
    flags_and_window: u32,
    checksum: u32,
    options: u32,
}

impl Tcp {
    #[inline(always)]
    fn new(segment: &Segment, mss: u16) -> Self {
        let length = (TCP_HEADER / 4) << 28;
        let options = if mss == 0 { NOTHING } else { 0x0204_0000 | u32::from(mss) };
        Self {
            seq: segment.seq.to_be(),
            ack: segment.ack.to_be(),
            flags_and_window: (length | u32::from(segment.flags & 0xfff) << 16).to_be(),
            checksum: 0,
            options: options.to_be(),
        }
    }
}

#[repr(C)]
struct HeadersV4 {
    version: u32,
    rest: [u32; 2],
    addresses: [[u8; 4]; 2],
    ports: [[u8; 2]; 2],
    tcp: Tcp,
}

impl HeadersV4 {
    #[inline(always)]
    fn new(client: [u8; 4], server: [u8; 4], segment: &Segment, mss: u16) -> Self {
        Self {
            version: 0x4500_0000_u32.to_be(),
            rest: [0; 2],
            addresses: [client, server],
            ports: [segment.flow.client_port, segment.flow.server_port],
            tcp: Tcp::new(segment, mss),
        }
    }

    #[inline(always)]
    fn ip(&mut self) -> *mut c_void {
        (&raw mut *self).cast()
    }

    #[inline(always)]
    fn tcp(&mut self) -> *mut tcphdr {
        (&raw mut self.ports).cast()
    }
}

/// IPv6's addresses and TCP's ports follow each other as in a `FlowKey`.
#[repr(C)]
struct HeadersV6 {
    version: u32,
    rest: u32,
    flow: FlowKey,
    tcp: Tcp,
}

impl HeadersV6 {
    #[inline(always)]
    fn new(segment: &Segment, mss: u16) -> Self {
        let (version, flow) = (0x6000_0000_u32.to_be(), segment.flow);
        Self { version, rest: 0, flow, tcp: Tcp::new(segment, mss) }
    }

    #[inline(always)]
    fn ip(&mut self) -> *mut c_void {
        (&raw mut *self).cast()
    }

    #[inline(always)]
    fn tcp(&mut self) -> *mut tcphdr {
        (&raw mut self.flow.client_port).cast()
    }
}
