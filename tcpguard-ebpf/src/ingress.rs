//! The steps of the decision as BPF functions.
//!
//! Each is a *global* function: the verifier checks it once, for any caller, where an inlined one
//! would be checked again for every path that leads to it. They take the context and find all else
//! in maps, because a global function may trust no pointer that it is handed.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use tcpguard_common::abi::{Class, Config, Reason};
use tcpguard_common::fastpath::{Steps, Work, step};

use crate::frame::XdpFrame;
use crate::maps;
use crate::tables::KernelTables;

/// Added to a [`Reason`] code where a function returns either that or a [`Class`].
const GAVE_UP: u32 = 0x100;
/// Returned by a step whose maps could not be found, which cannot be: their sizes are constants.
const NO_MAPS: u32 = Reason::Unconfigured as u32;

/// Everything a step works on.
struct Bench {
    config: &'static Config,
    tables: KernelTables,
    work: &'static mut Work,
}

impl Bench {
    #[inline(always)]
    fn new(ctx: &XdpContext) -> Option<Self> {
        let mut tables = KernelTables::new()?;
        tables.packets = maps::packet_counters(ctx.ingress_ifindex() as u32)?;
        let work = maps::WORK.get_ptr_mut(0)?;
        // SAFETY: this CPU's value; XDP programs do not preempt each other, and one step at a time
        // holds the reference.
        Some(Self { config: maps::CONFIG.get(0)?, tables, work: unsafe { &mut *work } })
    }

    #[inline(always)]
    fn frame(&self, ctx: &XdpContext) -> XdpFrame {
        XdpFrame::new(ctx, self.tables.scratch())
    }
}

macro_rules! step {
    ($name:ident, |$ctx:ident, $bench:ident $(, $argument:ident)?| $body:block) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(ctx: *mut xdp_md $(, $argument: u32)?) -> u32 {
            let $ctx = XdpContext::new(ctx.cast());
            let mut bench = Bench::new(&$ctx);
            let Some($bench) = &mut bench else { return NO_MAPS };
            $body
        }
    };
}

step!(step_parse, |ctx, bench| {
    let frame = bench.frame(&ctx);
    match step::parse(&frame, &mut bench.tables, bench.work) {
        Ok(class) => class as u32,
        Err(reason) => GAVE_UP + reason as u32,
    }
});

step!(step_count_syn, |ctx, bench| {
    step::count_syn(bench.config, &mut bench.tables, bench.work);
    0
});

step!(step_fingerprint, |ctx, bench| {
    let frame = bench.frame(&ctx);
    step::fingerprint(&frame, bench.work);
    0
});

step!(step_judge_syn, |ctx, bench| {
    step::judge_syn(bench.config, &mut bench.tables, bench.work) as u32
});

step!(step_record_syn, |ctx, bench, dropped| {
    step::record_syn(bench.config, &mut bench.tables, bench.work, dropped != 0);
    0
});

step!(step_follow, |ctx, bench, reset| {
    step::follow(bench.config, &mut bench.tables, &bench.work.segment, reset != 0) as u32
});

/// Calls the functions above.
pub struct KernelSteps<'a> {
    pub ctx: &'a XdpContext,
    pub config: &'static Config,
}

impl KernelSteps<'_> {
    #[inline(always)]
    fn raw(&self) -> *mut xdp_md {
        self.ctx.as_ptr().cast()
    }
}

#[inline(always)]
fn reason(code: u32) -> Reason {
    Reason::from_code(code as u8).unwrap_or(Reason::Unconfigured)
}

impl Steps for KernelSteps<'_> {
    #[inline(always)]
    fn parse(&mut self) -> Result<Class, Reason> {
        let code = step_parse(self.raw());
        if code >= GAVE_UP {
            return Err(reason(code));
        }
        Class::from_code(code as u8).ok_or(Reason::Unconfigured)
    }

    #[inline(always)]
    fn count_syn(&mut self) {
        step_count_syn(self.raw());
    }

    #[inline(always)]
    fn fingerprint(&mut self) {
        step_fingerprint(self.raw());
    }

    #[inline(always)]
    fn judge_syn(&mut self) -> Reason {
        reason(step_judge_syn(self.raw()))
    }

    #[inline(always)]
    fn record_syn(&mut self, dropped: bool) {
        step_record_syn(self.raw(), dropped.into());
    }

    #[inline(always)]
    fn follow(&mut self, reset: bool) -> Reason {
        self::reason(step_follow(self.raw(), reset.into()))
    }

    #[inline(always)]
    fn illegal(&mut self) -> Reason {
        match KernelTables::new() {
            Some(mut tables) => step::illegal(self.config, &mut tables),
            None => Reason::Illegal,
        }
    }
}
