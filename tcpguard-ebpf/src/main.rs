//! The kernel side of tcpguard: adapters between the kernel and `tcpguard-common`, where everything is
//! decided. The meaning of a packet is defined in `tcpguard_common::fastpath`.
#![no_std]
#![no_main]
// Loads of unaligned packet fields and one verifier hint are written in assembly; see `frame`.
#![feature(asm_experimental_arch)]

mod frame;
mod handshakes;
#[macro_use]
mod ingress;
mod maps;
mod out_of_state;
mod sockets;
mod syn_acks;
mod tables;

use aya_ebpf::bindings::{TC_ACT_UNSPEC, xdp_action};
use aya_ebpf::macros::{classifier, raw_tracepoint, xdp};
use aya_ebpf::programs::{RawTracePointContext, TcContext, XdpContext};
use tcpguard_common::abi::{Action, REASON_SLOTS};
use tcpguard_common::fastpath;

use crate::frame::{SkbFrame, opaque};
use crate::ingress::KernelStages;
use crate::tables::KernelTables;

/// Every packet that arrives. `frags`: also attaches where the MTU exceeds a page.
#[xdp(frags)]
pub fn tcpguard_ingress(ctx: XdpContext) -> u32 {
    let slot = maps::interface_slot(ctx.ingress_ifindex() as u32);
    let Some(packets) = maps::packet_counters(slot) else { return xdp_action::XDP_PASS };
    packets.entry += 1;
    packets.bytes += frame::first_piece(&ctx);
    let Some(mut stages) = KernelStages::new(&ctx, packets) else { return xdp_action::XDP_PASS };
    stages.note_slot(slot);
    let reason = fastpath::ingress(stages.config(), &mut stages);
    let place = opaque(reason as usize) & (REASON_SLOTS - 1);
    stages.packets.reasons[place] += 1;
    logging::verdict(&ctx, reason);
    match reason.action() {
        Action::Pass => hand_on(&ctx, stages.slot()),
        Action::Drop => xdp_action::XDP_DROP,
        Action::Tx => xdp_action::XDP_TX,
    }
}

/// Passes a frame to the next program of its interface, which takes the place of this one, or else to the stack.
#[inline(always)]
fn hand_on(ctx: &XdpContext, slot: u32) -> u32 {
    // SAFETY: nothing of this program is left to be dropped.
    unsafe { maps::NEXT_PROGRAMS.tail_call(ctx, slot) };
    xdp_action::XDP_PASS
}

/// Every packet that leaves; only SYN-ACKs and resets are looked at more closely.
#[classifier]
pub fn tcpguard_egress(ctx: TcContext) -> i32 {
    if let (Some(config), Some(mut tables)) = (maps::CONFIG.get(0), KernelTables::new()) {
        let frame = SkbFrame::new(&ctx, tables.scratch());
        // SAFETY: this CPU's state, of which the tables use other fields; the context that this program was
        // called with, of which this field is readable at this hook.
        let (sent, came_by) = unsafe { (&mut *tables.sent(), (*ctx.skb.skb).ingress_ifindex) };
        if fastpath::egress(&frame, config, &mut tables, sent, came_by == 0) {
            syn_acks::learn(&ctx);
        }
    }
    // "No verdict": programs and filters after this one go on.
    TC_ACT_UNSPEC
}

/// Every state change of a TCP socket; SYN_RECV to ESTABLISHED is a completed handshake.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub fn tcpguard_established(ctx: RawTracePointContext) -> i32 {
    if let (Some(config), Some(mut tables)) = (maps::CONFIG.get(0), KernelTables::new())
        && let Some((flow, by)) = handshakes::completed(&ctx, config)
    {
        match maps::is_unattached(by) {
            true => fastpath::established_elsewhere(&mut tables, by),
            false => fastpath::established(config, &mut tables, &flow),
        }
    }
    0
}

/// Debug lines for `tcpguard run --bpf-log`, in the object built with feature `log` only: aya-log's
/// map has a definition that libbpf and bpftool refuse, and the plain object must load there too.
mod logging {
    use aya_ebpf::programs::XdpContext;
    use tcpguard_common::abi::Reason;

    #[cfg(feature = "log")]
    #[inline(always)]
    pub(crate) fn verdict(ctx: &XdpContext, reason: Reason) {
        match reason.action() {
            tcpguard_common::abi::Action::Drop => {
                aya_log_ebpf::debug!(ctx, "drop, reason {}", reason as u8)
            }
            tcpguard_common::abi::Action::Tx => {
                aya_log_ebpf::trace!(ctx, "tx, reason {}", reason as u8)
            }
            tcpguard_common::abi::Action::Pass => {
                aya_log_ebpf::trace!(ctx, "pass, reason {}", reason as u8)
            }
        }
    }

    #[cfg(not(feature = "log"))]
    #[inline(always)]
    pub(crate) fn verdict(_: &XdpContext, _: Reason) {}
}

/// Never reached: the verifier refuses a program with a path to it.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// Several helpers are open to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
