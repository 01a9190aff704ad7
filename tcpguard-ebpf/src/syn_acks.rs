//! Learning from SYN-ACKs that leave. Global functions, for the same reasons as the stages of ingress.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::programs::TcContext;
use tcpguard_common::fastpath::{self, Departure, Origin, Said};
use tcpguard_common::wire::tagged;

use crate::frame::SkbFrame;
use crate::tables::KernelTables;
use crate::{maps, sockets};

/// Learns from the SYN-ACK at hand.
#[inline(always)]
pub fn learn(ctx: &TcContext) {
    let skb = ctx.skb.skb;
    let sent_by = syn_ack_origin(skb);
    let marks = Origin::from_code(sent_by & 0xffff).marks();
    let said = syn_ack_options(skb);
    let interfaces = syn_ack_way(skb, said, marks);
    if syn_ack_listener(marks, sent_by >> 16) != 0 {
        syn_ack_record(said, marks, interfaces);
    }
}

/// The [`Origin`], and in the upper half the [`Departure::port`].
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
        // SAFETY: as above.
        return Origin::Foreign as u32 | unsafe { sockets::port(sender) } << 16;
    };
    origin as u32
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn syn_ack_options(skb: *mut __sk_buff) -> u64 {
    let ctx = TcContext::new(skb);
    let Some(tables) = KernelTables::new() else { return 0 };
    let frame = SkbFrame::new(&ctx, tables.scratch());
    // SAFETY: this CPU's state, of which the tables use other fields.
    let sent = unsafe { &*tables.sent() };
    fastpath::learn_options(&frame, sent).0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn syn_ack_way(skb: *mut __sk_buff, said: u64, marks: u32) -> u32 {
    let ctx = TcContext::new(skb);
    let Some(mut tables) = KernelTables::new() else { return 0 };
    let frame = SkbFrame::new(&ctx, tables.scratch());
    // SAFETY: the context that this program was called with, of which these fields are readable at this
    // hook, and this CPU's state, of which the tables use other fields.
    let (ifindex, tagged_later, control, sent) =
        unsafe { ((*skb).ifindex, (*skb).vlan_present, (*skb).vlan_tci, &*tables.sent()) };
    let vlan = if tagged_later != 0 { tagged(control as u16) } else { 0 };
    let departure = Departure { ifindex: maps::path(ifindex), vlan, marks, port: 0 };
    fastpath::learn_way(&frame, sent, &departure, Said(said), &mut tables)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn syn_ack_listener(marks: u32, port: u32) -> u32 {
    let Some(mut tables) = KernelTables::new() else { return 0 };
    // SAFETY: this CPU's state, of which the tables use other fields.
    let sent = unsafe { &*tables.sent() };
    fastpath::learn_listener(sent, marks, port as u16, &mut tables).into()
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn syn_ack_record(said: u64, marks: u32, interfaces: u32) -> u32 {
    if let Some(mut tables) = KernelTables::new() {
        // SAFETY: this CPU's state, of which the tables use other fields.
        let sent = unsafe { &*tables.sent() };
        fastpath::learn_record(sent, Said(said), marks, interfaces, &mut tables);
    }
    0
}
