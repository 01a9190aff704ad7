//! The stages that recognise out-of-state segments, as BPF functions.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use tcpguard_common::abi::Reason;
use tcpguard_common::fastpath::{OutOfStateStages, Socket, out_of_state};

use crate::ingress::{KernelStages, StageEnv, decode, encode};
use crate::maps;

stage!(out_of_state_watched(ctx: *mut xdp_md, completes: u32), |env| {
    let ctx = XdpContext::new(ctx.cast());
    let ifindex = maps::path(ctx.ingress_ifindex() as u32);
    let frame = env.frame(&ctx);
    let (config, tables, pkt) = (env.config, &mut env.tables, &mut *env.pkt);
    out_of_state::watched(&frame, config, tables, pkt, ifindex, completes != 0).into()
});

stage!(out_of_state_judge(ctx: *mut xdp_md, socket: u32), |env| {
    let ctx = XdpContext::new(ctx.cast());
    let ifindex = maps::path(ctx.ingress_ifindex() as u32);
    let frame = env.frame(&ctx);
    let (config, tables, pkt) = (env.config, &mut env.tables, &*env.pkt);
    encode(out_of_state::judge(&frame, config, tables, pkt, ifindex, Socket::from_code(socket)))
});

impl OutOfStateStages for KernelStages<'_> {
    #[inline(always)]
    fn out_of_state_watched(&mut self, completes: bool) -> bool {
        out_of_state_watched(self.raw(), completes.into()) != 0
    }

    #[inline(always)]
    fn out_of_state_judge(&mut self, socket: Socket) -> Option<Reason> {
        decode(out_of_state_judge(self.raw(), socket as u32))
    }
}
