//! The lab's own filters, no part of tcpguard. For the benchmark: the effect of the best possible defence,
//! and a sink for replies to hosts that sent no SYN. For the tests: a firewall.
#![no_std]
#![no_main]
#![allow(dead_code, reason = "shared with the main object, which uses the rest")]

#[path = "../../../../tcpguard-ebpf/src/sockets.rs"]
mod sockets;

use aya_ebpf::bindings::{TC_ACT_OK, TC_ACT_SHOT, sk_action, xdp_action};
use aya_ebpf::macros::{classifier, map, sk_lookup, xdp};
use aya_ebpf::maps::SockMap;
use aya_ebpf::programs::{SkLookupContext, TcContext, XdpContext};
use tcpguard_common::abi::{Addr, FlowKey};

const ETHERTYPE: usize = 12;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const IPV4_SOURCE: usize = 14 + 12;
const IPV6_SOURCE: usize = 14 + 8;
const IPV4_PROTOCOL: usize = 14 + 9;
const TCP: u8 = 6;
/// Of a header without options.
const IPV4_PORTS: usize = 14 + 20;
const IPV4_FLAGS: usize = IPV4_PORTS + 13;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Port of which [`steer`] steers the connections.
const STEERED_PORT: u32 = 7000;

/// The socket that gets them.
#[map]
static STEERED: SockMap = SockMap::with_max_entries(1, 0);

/// Steers connections to a port on which nothing listens to a socket elsewhere.
#[sk_lookup]
pub fn steer(ctx: SkLookupContext) -> u32 {
    // SAFETY: the context that the kernel passed to this program.
    if unsafe { (*ctx.lookup).local_port } == STEERED_PORT {
        // Without a socket the packet is refused, as it was before.
        let _ = STEERED.redirect_sk_lookup(&ctx, 0, 0);
    }
    sk_action::SK_PASS
}

/// Recognises the lab's clients by their networks (10.78.0.0/15, fd78::/15) and drops every other packet. No
/// real host could have this rule. It is the least work that keeps a flood out.
#[xdp]
pub fn only_clients(ctx: XdpContext) -> u32 {
    // A frame that is too short for an address is not counted as the flood's.
    if is_from_a_new_client(&ctx).unwrap_or(false) {
        xdp_action::XDP_DROP
    } else {
        xdp_action::XDP_PASS
    }
}

#[inline(always)]
fn is_from_a_new_client(ctx: &XdpContext) -> Option<bool> {
    Some(match word(ctx, ETHERTYPE)? {
        IPV4 => word(ctx, IPV4_SOURCE)? & 0xfffe != 0x0a4e,
        IPV6 => word(ctx, IPV6_SOURCE)? & 0xfffe != 0xfd78,
        _ => false,
    })
}

/// At the other end of the attacked host's cable: drops packets to the attacker's gateway, where no host waits for
/// them. Their way there would cost the machine more than the flood.
#[xdp]
pub fn no_backscatter(ctx: XdpContext) -> u32 {
    // A frame that is too short for an address passes.
    if is_to_the_gateway(&ctx).unwrap_or(false) {
        xdp_action::XDP_DROP
    } else {
        xdp_action::XDP_PASS
    }
}

#[inline(always)]
fn is_to_the_gateway(ctx: &XdpContext) -> Option<bool> {
    // The last first: the others are within the frame then.
    let last = word(ctx, 4)?;
    Some(last == 3 && word(ctx, 2)? == 0 && word(ctx, 0)? == 0x0200)
}

/// Behind tcpguard: drops segments with ACK of connections of which it has seen no SYN, as a firewall with
/// connection tracking does. Its connections are those of the socket table. IPv4 without options.
#[classifier]
pub fn only_connections(ctx: TcContext) -> i32 {
    if is_of_no_connection(&ctx).unwrap_or(false) { TC_ACT_SHOT } else { TC_ACT_OK }
}

#[inline(always)]
fn is_of_no_connection(ctx: &TcContext) -> Option<bool> {
    let is_tcp = ctx.load::<u16>(ETHERTYPE).ok()? == IPV4.to_be()
        && ctx.load::<u8>(IPV4_PROTOCOL).ok()? == TCP;
    if !is_tcp || ctx.load::<u8>(IPV4_FLAGS).ok()? & (SYN | ACK) != ACK {
        return Some(false);
    }
    let flow = FlowKey {
        client: Addr::from_v4(ctx.load(IPV4_SOURCE).ok()?),
        server: Addr::from_v4(ctx.load(IPV4_SOURCE + 4).ok()?),
        client_port: ctx.load(IPV4_PORTS).ok()?,
        server_port: ctx.load(IPV4_PORTS + 2).ok()?,
    };
    // SAFETY: the context is this program's own.
    Some(!unsafe { sockets::is_connected(ctx.skb.skb.cast(), &flow) })
}

/// The 16 bits at the even offset `at`, in host byte order.
#[inline(always)]
fn word(ctx: &XdpContext, at: usize) -> Option<u16> {
    let from = ctx.data() + at;
    if from + 2 > ctx.data_end() {
        return None;
    }
    // SAFETY: within the frame, which begins at an even address.
    Some(u16::from_be(unsafe { (from as *const u16).read() }))
}

/// Never reached: the verifier refuses a program with a path to it.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
