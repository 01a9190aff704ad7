//! Learning from SYN-ACKs that leave. Global functions, for the same reasons as the stages of ingress.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::programs::TcContext;
use tcpguard_common::fastpath::{self, Departure, Origin};
use tcpguard_common::wire::tagged;

use crate::frame::SkbFrame;
use crate::tables::KernelTables;
use crate::{maps, sockets};

/// Learns from the SYN-ACK at hand.
#[inline(always)]
pub fn learn(ctx: &TcContext) {
    let skb = ctx.skb.skb;
    learn_syn_ack(skb, Origin::from_code(syn_ack_origin(skb)).marks());
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn syn_ack_origin(skb: *mut __sk_buff) -> u32 {
    let Some(tables) = KernelTables::new() else { return Origin::Unknown as u32 };
    // SAFETY: the context that this program was called with, of which these fields are readable at this hook,
    // and this CPU's state.
    let (came_in, sender, sent) =
        unsafe { ((*skb).ingress_ifindex, (*skb).__bindgen_anon_2.sk, &*tables.sent()) };
    let origin = if maps::FIXED_CLOCK.load() != 0 {
        Origin::Own
    } else if came_in != 0 {
        Origin::Foreign
    // SAFETY: the context that this program was called with.
    } else if unsafe { sockets::is_connected(skb.cast(), &sent.flow.reversed()) } {
        Origin::Own
    // No socket: the kernel's cookie. The socket of this very connection: it was reset while the packet
    // waited for a neighbour's address, whichever end sent the reset.
    // SAFETY: the socket that belongs to the packet, if there is one, as long as this program runs.
    } else if sender.is_null() || unsafe { sockets::is_of(sender, &sent.flow) } {
        Origin::Unknown
    } else {
        Origin::Foreign
    };
    origin as u32
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn learn_syn_ack(skb: *mut __sk_buff, marks: u32) -> u32 {
    let ctx = TcContext::new(skb);
    if let Some(mut tables) = KernelTables::new() {
        let frame = SkbFrame::new(&ctx, tables.scratch());
        // SAFETY: the context that this program was called with, of which these fields are readable at this
        // hook, and this CPU's state, of which the tables use other fields.
        let (ifindex, tagged_later, control, sent) =
            unsafe { ((*skb).ifindex, (*skb).vlan_present, (*skb).vlan_tci, &*tables.sent()) };
        let vlan = if tagged_later != 0 { tagged(control as u16) } else { 0 };
        let ifindex = maps::path(ifindex);
        fastpath::learn(&frame, sent, &Departure { ifindex, vlan, marks }, &mut tables);
    }
    0
}
