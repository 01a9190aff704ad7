//! The lab's own filters, for the benchmark: what the best possible defence would do, and what
//! becomes of answers to people who never asked. No part of the guard.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

const ETHERTYPE: usize = 12;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const IPV4_SOURCE: usize = 14 + 12;
const IPV6_SOURCE: usize = 14 + 8;

/// Knows the lab's clients by their networks (10.78.0.0/15, fd78::/15) and drops whatever comes from
/// anybody else: a rule that no real host could have, and the least work that keeps a flood out.
#[xdp]
pub fn only_clients(ctx: XdpContext) -> u32 {
    // A frame too short to tell is no flood's.
    if is_from_a_stranger(&ctx).unwrap_or(false) {
        xdp_action::XDP_DROP
    } else {
        xdp_action::XDP_PASS
    }
}

#[inline(always)]
fn is_from_a_stranger(ctx: &XdpContext) -> Option<bool> {
    Some(match word(ctx, ETHERTYPE)? {
        IPV4 => word(ctx, IPV4_SOURCE)? & 0xfffe != 0x0a4e,
        IPV6 => word(ctx, IPV6_SOURCE)? & 0xfffe != 0xfd78,
        _ => false,
    })
}

/// At the other end of the guarded host's cable: drops what is addressed to the attacker's gateway,
/// where nobody waits for it. On the way there it would cost the machine more than the flood.
#[xdp]
pub fn no_backscatter(ctx: XdpContext) -> u32 {
    // A frame too short to tell goes on.
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
