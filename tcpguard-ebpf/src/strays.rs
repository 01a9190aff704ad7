//! The stages that recognise out-of-state segments, as BPF functions.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use tcpguard_common::abi::Reason;
use tcpguard_common::fastpath::{Socket, StraySteps, strays};

use crate::ingress::{Bench, KernelSteps, gave_up, gave_up_for};

step!(stray_watched(ctx: *mut xdp_md, completes: u32), |bench| {
    let ctx = XdpContext::new(ctx.cast());
    let ifindex = ctx.ingress_ifindex() as u32;
    let frame = bench.frame(&ctx);
    let (config, tables, work) = (bench.config, &mut bench.tables, &mut *bench.work);
    strays::watched(&frame, config, tables, work, ifindex, completes != 0).into()
});

step!(stray_judge(ctx: *mut xdp_md, socket: u32), |bench| {
    let ctx = XdpContext::new(ctx.cast());
    let ifindex = ctx.ingress_ifindex() as u32;
    let frame = bench.frame(&ctx);
    let (config, tables, work) = (bench.config, &mut bench.tables, &*bench.work);
    gave_up(strays::judge(&frame, config, tables, work, ifindex, Socket::from_code(socket)))
});

impl StraySteps for KernelSteps<'_> {
    #[inline(always)]
    fn stray_watched(&mut self, completes: bool) -> bool {
        stray_watched(self.raw(), completes.into()) != 0
    }

    #[inline(always)]
    fn stray_judge(&mut self, socket: Socket) -> Option<Reason> {
        gave_up_for(stray_judge(self.raw(), socket as u32))
    }
}
