//! The program that accepts SYN cookies. It is an object of its own, because kernels before 6.9 lack the
//! function that it calls, and all the rest must load there.
//!
//! Shares the maps of the main object by their pins. It is attached to tc ingress while cookies may be out,
//! before all other programs, and lets every packet pass, at once if XDP has found no cookie in it. An ACK with a good
//! cookie goes on with a request socket, and the stack finishes the handshake.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![allow(dead_code, reason = "shared with the main object, which uses the rest")]

#[path = "../frame.rs"]
mod frame;
#[path = "../maps.rs"]
mod maps;
#[path = "../sockets.rs"]
mod sockets;
#[path = "../tables.rs"]
mod tables;

use core::mem::transmute;

use aya_ebpf::Global;
use aya_ebpf::bindings::{__sk_buff, TC_ACT_UNSPEC};
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{bpf_sk_release, bpf_skc_to_tcp_sock};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use tcpguard_common::abi::{ASSIGN_TCP_REQSK, Config, option};
use tcpguard_common::fastpath::{self, Claim, PacketCtx, RedeemStages, no_cookie};

use crate::frame::SkbFrame;
use crate::tables::KernelTables;

/// Byte offsets within the kernel's `struct sock`, resolved from its BTF by the loader.
#[repr(C)]
#[derive(Clone, Copy)]
struct QueueOffsets {
    queued: u32,
    limit: u32,
}

#[unsafe(no_mangle)]
static QUEUE_OFFSETS: Global<QueueOffsets> = Global::new(QueueOffsets { queued: 0, limit: 0 });

/// `struct bpf_tcp_req_attrs` of include/net/tcp.h: the attributes of a request socket.
#[repr(C)]
#[derive(Default)]
struct RequestAttributes {
    rcv_tsval: u32,
    /// Used to set the connection's clock, for which the present time is wanted.
    rcv_tsecr: u32,
    mss: u16,
    rcv_wscale: u8,
    snd_wscale: u8,
    ecn_ok: u8,
    wscale_ok: u8,
    sack_ok: u8,
    tstamp_ok: u8,
    usec_ts_ok: u8,
    reserved: [u8; 3],
}

/// Every packet that arrives.
#[classifier]
pub fn tcpguard_redeem(ctx: TcContext) -> i32 {
    if let Some(config) = maps::CONFIG.get(0)
        && !is_marked(&ctx, config)
        && let Some(env) = StageEnv::new()
    {
        let claim = fastpath::redeem(config, &mut KernelStages { skb: ctx.skb.skb });
        let StageEnv { mut tables, pkt } = env;
        if claim != Claim::None {
            mark(&ctx, config.cookie_mark);
            if hand_over(&ctx, pkt, claim) {
                fastpath::redeemed(config, &mut tables, pkt);
            }
        }
    }
    // "No verdict": programs and filters after this one go on.
    TC_ACT_UNSPEC
}

/// Returns whether XDP has marked the packet as one without a cookie.
#[inline(always)]
fn is_marked(ctx: &TcContext, config: &Config) -> bool {
    let skb = ctx.skb.skb;
    // SAFETY: the context that this program was called with, of which it may read these fields.
    let (metadata, data) = unsafe { ((*skb).data_meta as usize, (*skb).data as usize) };
    if metadata + size_of::<u32>() > data {
        return false;
    }
    // SAFETY: the word lies within the metadata.
    unsafe { (metadata as *const u32).read_volatile() == no_cookie::mark(config) }
}

/// Everything a stage works on.
struct StageEnv {
    tables: KernelTables,
    pkt: &'static mut PacketCtx,
}

impl StageEnv {
    #[inline(always)]
    fn new() -> Option<Self> {
        let cpu = maps::CPU.get_ptr_mut(0)?;
        // SAFETY: this CPU's value, of which the tables use other fields; programs at this hook do not preempt each
        // other, and one stage at a time holds the reference.
        let pkt = unsafe { &mut (*cpu).pkt };
        Some(Self { tables: KernelTables::on(cpu), pkt })
    }

    #[inline(always)]
    fn frame(&self, skb: *mut __sk_buff) -> SkbFrame {
        SkbFrame::new(&TcContext::new(skb), self.tables.scratch())
    }
}

// Global functions, as the stages of the main object are, and for the same reasons.

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn redeem_read(skb: *mut __sk_buff) -> u32 {
    let Some(mut env) = StageEnv::new() else { return 0 };
    let frame = env.frame(skb);
    fastpath::redeem_read(&frame, &mut env.tables, env.pkt).into()
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn redeem_times(skb: *mut __sk_buff) -> u32 {
    let Some(env) = StageEnv::new() else { return 0 };
    fastpath::redeem_times(&env.frame(skb), env.pkt);
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn redeem_check() -> u32 {
    let Some(mut env) = StageEnv::new() else { return 0 };
    fastpath::redeem_check(&mut env.tables, env.pkt) as u32
}

/// Calls the functions above.
struct KernelStages {
    skb: *mut __sk_buff,
}

impl RedeemStages for KernelStages {
    #[inline(always)]
    fn read(&mut self) -> bool {
        redeem_read(self.skb) != 0
    }

    #[inline(always)]
    fn times(&mut self) {
        redeem_times(self.skb);
    }

    #[inline(always)]
    fn check(&mut self) -> Claim {
        Claim::from_code(redeem_check())
    }
}

/// Marks the packet for the host's packet filter, which sees no SYN of this connection. A segment that follows the
/// third ACK before the host has replied is new to the filter too, so a segment with a cookie that was redeemed
/// before is marked as well.
#[inline(always)]
fn mark(ctx: &TcContext, bits: u32) {
    if bits != 0 {
        let skb = ctx.skb.skb;
        // SAFETY: the context that this program was called with, of which it may write this field.
        unsafe { (*skb).mark |= bits };
    }
}

/// Gives the packet a request socket of its listener. `false` where there is a connection already, no socket
/// listens, or the kernel refuses.
#[inline(always)]
fn hand_over(ctx: &TcContext, pkt: &PacketCtx, claim: Claim) -> bool {
    let accepted = &pkt.accepted;
    let has = |option: u32| u8::from(accepted.options & option != 0);
    let mut attributes = RequestAttributes {
        rcv_tsval: accepted.client_timestamp,
        rcv_tsecr: accepted.host_timestamp,
        mss: accepted.mss,
        rcv_wscale: accepted.host_wscale,
        snd_wscale: accepted.client_wscale,
        ecn_ok: has(option::ECN),
        wscale_ok: has(option::WSCALE),
        sack_ok: has(option::SACK),
        tstamp_ok: has(option::TIMESTAMPS),
        ..RequestAttributes::default()
    };
    let skb = ctx.skb.skb;
    // SAFETY: the helpers get the context that this program was called with; the socket is used until
    // it is released, once.
    unsafe {
        let found = sockets::find(skb.cast(), &pkt.segment.flow);
        if found.is_null() {
            return false;
        }
        let mut taken = false;
        if (*found).state == sockets::LISTEN {
            let listener = bpf_skc_to_tcp_sock(found.cast());
            if !listener.is_null() {
                // If the accept queue is full, the first ACK gets no socket, and a later segment finds none.
                // The kernel silently drops a segment with a request socket of a full listener, and resets
                // one without a request socket.
                let wanted = claim == Claim::New || is_full(listener.cast());
                taken = wanted
                    && assign_tcp_reqsk(skb, listener.cast(), &mut attributes) == 0
                    && claim == Claim::New;
            }
        }
        bpf_sk_release(found.cast());
        taken
    }
}

/// Returns whether a listener's accept queue is full: `sk_acceptq_is_full` of include/net/sock.h.
///
/// # Safety
/// `listener` must be a TCP socket that is held.
#[inline(always)]
unsafe fn is_full(listener: *const u8) -> bool {
    let offsets = QUEUE_OFFSETS.load();
    // SAFETY: by the caller; the kernel checks that the offsets, which it sees as constants, are
    // those of members of this size.
    unsafe {
        let queued = listener.add(offsets.queued as usize).cast::<u32>().read_volatile();
        let limit = listener.add(offsets.limit as usize).cast::<u32>().read_volatile();
        queued > limit
    }
}

/// The kernel's function of this name; 0 when it has taken the connection.
///
/// # Safety
/// `skb` must be the program's context, `listener` a listening TCP socket that is held.
#[inline(always)]
unsafe fn assign_tcp_reqsk(
    skb: *mut __sk_buff,
    listener: *mut c_void,
    attributes: &mut RequestAttributes,
) -> i32 {
    type Assign =
        unsafe extern "C" fn(*mut __sk_buff, *mut c_void, *mut RequestAttributes, i32) -> i32;
    // SAFETY: never jumped to: a call of a constant address is how BPF names the called function, and the
    // loader replaces this one by the kernel function's id.
    let assign: Assign = unsafe { transmute(ASSIGN_TCP_REQSK.placeholder as usize) };
    // SAFETY: by the caller; the size is that of the attributes pointed to.
    unsafe { assign(skb, listener, attributes, size_of::<RequestAttributes>() as i32) }
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
