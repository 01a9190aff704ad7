//! Options of a SYN parsed as in any other environment: a loop that keeps its position and its findings in
//! variables. The naive variant of G10: the verifier follows every path through forty options, and gives up
//! at their number. No part of tcpguard, which reads options in `tcpguard_common::wire::options`.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

use core::arch::asm;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

/// Behind Ethernet and an IPv4 header without options.
const TCP: usize = 14 + 20;
const OPTIONS: usize = TCP + 20;
/// Octets of options that a TCP header has room for, of which each may be an option.
const MOST_OPTIONS: u32 = 40;

#[derive(Default)]
struct Options {
    mss: u16,
    wscale: u8,
    timestamp: u32,
    /// Kinds, in the order in which they come.
    order: u32,
}

/// Drops SYNs that offer windows and no timestamp: something that hangs on all that was found.
#[xdp]
pub fn naive(ctx: XdpContext) -> u32 {
    match options(&ctx) {
        Some(found)
            if found.wscale > 0 && found.timestamp == 0 && found.order > found.mss.into() =>
        {
            xdp_action::XDP_DROP
        }
        _ => xdp_action::XDP_PASS,
    }
}

#[inline(always)]
fn options(ctx: &XdpContext) -> Option<Options> {
    let end = TCP + usize::from(byte(ctx, TCP + 12)? >> 4) * 4;
    let mut found = Options::default();
    let mut at = OPTIONS;
    for _ in 0..MOST_OPTIONS {
        if at >= end {
            break;
        }
        let kind = byte(ctx, at)?;
        found.order = found.order << 4 | u32::from(kind & 15);
        match kind {
            0 => break,
            1 => {
                at += 1;
                continue;
            }
            2 => found.mss = u16::from_be_bytes([byte(ctx, at + 2)?, byte(ctx, at + 3)?]),
            3 => found.wscale = byte(ctx, at + 2)?,
            8 => {
                let octets = [at + 2, at + 3, at + 4, at + 5];
                for octet in octets {
                    found.timestamp = found.timestamp << 8 | u32::from(byte(ctx, octet)?);
                }
            }
            _ => {}
        }
        at += usize::from(byte(ctx, at + 1)?.max(2));
    }
    Some(found)
}

#[inline(always)]
fn byte(ctx: &XdpContext, at: usize) -> Option<u8> {
    let from = ctx.data() + at;
    // The verifier knows `from + 1 > end`, and not `from >= end`, which the compiler would make of it.
    let mut behind = from + 1;
    // SAFETY: it changes nothing.
    unsafe { asm!("{0} = {0}", inout(reg) behind, options(pure, nomem, nostack)) }
    if behind > ctx.data_end() {
        return None;
    }
    // SAFETY: within the frame.
    Some(unsafe { (from as *const u8).read() })
}

/// Never reached: the verifier refuses a program with a path to it.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
