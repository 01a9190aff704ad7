//! The steps of the decision as BPF functions.
//!
//! Each is a *global* function: the verifier checks it once, for any caller, where an inlined one
//! would be checked again for every path that leads to it. They take the context at most and find all
//! else in maps, because a global function may trust no other pointer that it is handed.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use tcpguard_common::abi::{Class, Config, Reason};
use tcpguard_common::fastpath::{Interest, Socket, Steps, Work, step};

use crate::frame::XdpFrame;
use crate::maps;
use crate::tables::KernelTables;

/// Added to a [`Reason`] code where a function returns either that or a [`Class`].
pub(crate) const GAVE_UP: u32 = 0x100;
/// Bits for an [`Interest`].
const FINGERPRINT: u32 = 1;
const RECORD: u32 = 2;
const SAMPLE: u32 = 4;
/// Above these, the steps of the ladder in an [`Interest`].
const STEPS: u32 = 8;
/// Returned by a step whose maps could not be found, which cannot be: their sizes are constants. The
/// packet passes, as it does without a configuration.
const NO_MAPS: u32 = GAVE_UP + Reason::Unconfigured as u32;
/// As an [`Interest`]: none.
const NO_INTEREST: u32 = 0;
// Below it, [`Steps::parse`] would take the number for a class, and some classes may be dropped.
const _: () = assert!(NO_MAPS >= GAVE_UP);

/// Everything a step works on.
pub(crate) struct Bench {
    pub config: &'static Config,
    pub tables: KernelTables,
    pub work: &'static mut Work,
}

impl Bench {
    #[inline(always)]
    pub fn new() -> Option<Self> {
        let cpu = maps::CPU.get_ptr_mut(0)?;
        // SAFETY: this CPU's value, of which the tables use other fields; XDP programs do not
        // preempt each other, and one step at a time holds the reference.
        let work = unsafe { &mut (*cpu).work };
        Some(Self { config: maps::CONFIG.get(0)?, tables: KernelTables::on(cpu), work })
    }

    #[inline(always)]
    pub fn frame(&self, ctx: &XdpContext) -> XdpFrame {
        XdpFrame::new(ctx, self.tables.scratch())
    }
}

/// Makes a step a global function. One that reads the frame is handed the context; another must not
/// be, because the compiler leaves an argument that is not used undefined, and the verifier minds.
/// `else`: what it returns without its maps, if not `NO_MAPS`.
macro_rules! step {
    ($name:ident($($argument:ident: $type:ty),*), |$bench:ident| $body:block) => {
        step!($name($($argument: $type),*) else NO_MAPS, |$bench| $body);
    };
    ($name:ident($($argument:ident: $type:ty),*) else $without:ident, |$bench:ident| $body:block) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name($($argument: $type),*) -> u32 {
            let mut bench = Bench::new();
            let Some($bench) = &mut bench else { return $without };
            $body
        }
    };
}

step!(step_parse(ctx: *mut xdp_md), |bench| {
    let ctx = XdpContext::new(ctx.cast());
    let Some(packets) = maps::packet_counters(ctx.ingress_ifindex() as u32) else {
        return NO_MAPS;
    };
    bench.tables.packets = packets;
    let frame = bench.frame(&ctx);
    match step::parse(&frame, &mut bench.tables, bench.work) {
        Ok(class) => class as u32,
        Err(reason) => GAVE_UP + reason as u32,
    }
});

step!(step_count_syn() else NO_INTEREST, |bench| {
    let interest = step::count_syn(bench.config, &mut bench.tables, bench.work);
    (u32::from(interest.fingerprint) * FINGERPRINT)
        | (u32::from(interest.record) * RECORD)
        | (u32::from(interest.sample) * SAMPLE)
        | (u32::from(interest.steps) << STEPS)
});

step!(step_drops_unread() else NO_INTEREST, |bench| {
    step::drops_unread(bench.config, &mut bench.tables).into()
});

step!(step_sample_syn(ctx: *mut xdp_md), |bench| {
    let ctx = XdpContext::new(ctx.cast());
    let frame = bench.frame(&ctx);
    step::sample_syn(&frame, &mut bench.tables, bench.work);
    0
});

step!(step_fingerprint(ctx: *mut xdp_md), |bench| {
    let ctx = XdpContext::new(ctx.cast());
    let frame = bench.frame(&ctx);
    step::fingerprint(&frame, bench.work);
    0
});

step!(step_match_rule(), |bench| {
    match step::match_rule(bench.config, &bench.tables, bench.work) {
        Ok(()) => 0,
        Err(reason) => GAVE_UP + reason as u32,
    }
});

step!(step_judge_match(), |bench| {
    step::judge_match(bench.config, &mut bench.tables, bench.work) as u32
});

step!(step_record_syn(dropped: u32), |bench| {
    step::record_syn(bench.config, &mut bench.tables, bench.work, dropped != 0);
    0
});

step!(step_options(ctx: *mut xdp_md), |bench| {
    let ctx = XdpContext::new(ctx.cast());
    bench.tables.context = ctx.as_ptr();
    let frame = bench.frame(&ctx);
    step::options(&frame, bench.config, &mut bench.tables, bench.work);
    0
});

step!(step_reply(ctx: *mut xdp_md), |bench| {
    let ctx = XdpContext::new(ctx.cast());
    let ifindex = ctx.ingress_ifindex() as u32;
    let mut frame = bench.frame(&ctx);
    gave_up(step::reply(&mut frame, &mut bench.tables, bench.work, ifindex))
});

step!(step_recognise(recorded: u32), |bench| {
    step::recognise(bench.config, &mut bench.tables, bench.work, recorded != 0).into()
});

step!(step_socket(ctx: *mut xdp_md), |bench| {
    bench.tables.context = ctx.cast();
    step::socket(&mut bench.tables, bench.work) as u32
});

step!(step_limit(), |bench| { gave_up(step::limit(bench.config, &mut bench.tables, bench.work)) });

step!(step_budget(), |bench| { gave_up(step::budget(&mut bench.tables, bench.work)) });

step!(step_answer(), |bench| {
    step::answer(bench.config, &mut bench.tables, &bench.work.segment);
    0
});

step!(step_follow(reset: u32), |bench| {
    step::follow(bench.config, &mut bench.tables, &bench.work.segment, reset != 0) as u32
});

step!(step_illegal(), |bench| {
    step::illegal(bench.config, &mut bench.tables, bench.work) as u32
});

/// Calls the functions above.
pub struct KernelSteps<'a> {
    pub ctx: &'a XdpContext,
}

impl KernelSteps<'_> {
    #[inline(always)]
    pub fn raw(&self) -> *mut xdp_md {
        self.ctx.as_ptr().cast()
    }
}

#[inline(always)]
fn gave_up(reason: Option<Reason>) -> u32 {
    match reason {
        Some(reason) => GAVE_UP + reason as u32,
        None => 0,
    }
}

#[inline(always)]
pub(crate) fn reason(code: u32) -> Reason {
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
    fn count_syn(&mut self) -> Interest {
        let bits = step_count_syn();
        Interest {
            fingerprint: bits & FINGERPRINT != 0,
            record: bits & RECORD != 0,
            sample: bits & SAMPLE != 0,
            steps: (bits >> STEPS) as u8,
        }
    }

    #[inline(always)]
    fn sample_syn(&mut self) {
        step_sample_syn(self.raw());
    }

    #[inline(always)]
    fn fingerprint(&mut self) {
        step_fingerprint(self.raw());
    }

    #[inline(always)]
    fn match_rule(&mut self) -> Result<(), Reason> {
        let code = step_match_rule();
        if code == 0 { Ok(()) } else { Err(reason(code)) }
    }

    #[inline(always)]
    fn judge_match(&mut self) -> Reason {
        reason(step_judge_match())
    }

    #[inline(always)]
    fn record_syn(&mut self, dropped: bool) {
        step_record_syn(dropped.into());
    }

    #[inline(always)]
    fn recognise(&mut self, recorded: bool) -> bool {
        step_recognise(recorded.into()) != 0
    }

    #[inline(always)]
    fn socket(&mut self) -> Socket {
        Socket::from_code(step_socket(self.raw()))
    }

    #[inline(always)]
    fn limit(&mut self) -> Option<Reason> {
        let code = step_limit();
        if code == 0 { None } else { Some(reason(code)) }
    }

    #[inline(always)]
    fn budget(&mut self) -> Option<Reason> {
        let code = step_budget();
        if code == 0 { None } else { Some(reason(code)) }
    }

    #[inline(always)]
    fn options(&mut self) {
        step_options(self.raw());
    }

    #[inline(always)]
    fn reply(&mut self) -> Option<Reason> {
        let code = step_reply(self.raw());
        if code == 0 { None } else { Some(reason(code)) }
    }

    #[inline(always)]
    fn answer(&mut self) {
        step_answer();
    }

    #[inline(always)]
    fn follow(&mut self, reset: bool) -> Reason {
        self::reason(step_follow(reset.into()))
    }

    #[inline(always)]
    fn illegal(&mut self) -> Reason {
        reason(step_illegal())
    }

    #[inline(always)]
    fn drops_unread(&mut self) -> bool {
        step_drops_unread() != 0
    }
}
