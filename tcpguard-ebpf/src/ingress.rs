//! The stages of the decision.
//!
//! The stages that every packet takes stand in the program itself. A call and the look-ups behind it would cost as
//! much as they do. Each of the others is a *global* function: the verifier checks it once, for any caller, where
//! an inlined one would be checked again for every path that leads to it. They take the context at most and find
//! all else in maps, because a global function may trust no other pointer that it is handed.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use tcpguard_common::abi::{Class, Config, PacketCounters, Reason};
use tcpguard_common::fastpath::{Course, Family, Interest, Socket, Steps, Work, step};

use crate::frame::XdpFrame;
use crate::maps;
use crate::tables::KernelTables;

/// Added to a [`Reason`] code where a function may also return another number.
const GAVE_UP: u32 = 0x100;
/// As an `Option<Reason>`: none. Also the result of a stage that does not find its maps, which cannot happen,
/// because their sizes are constants.
const NONE: u32 = 0;
/// As a [`Course`].
const ASK_SOCKETS: u32 = 1;
/// As a [`Reason`], where the maps could not be found: the packet passes, as without a configuration.
const NO_MAPS: u32 = Reason::Unconfigured as u32;

/// Everything a stage works on.
pub(crate) struct Bench {
    pub config: &'static Config,
    pub tables: KernelTables,
    pub work: &'static mut Work,
}

impl Bench {
    #[inline(always)]
    pub fn new() -> Option<Self> {
        let cpu = maps::CPU.get_ptr_mut(0)?;
        // SAFETY: this CPU's value, of which the tables use other fields. XDP programs do not preempt each other. A
        // stage that is a function of its own has its own reference to the same record, and its caller uses no
        // value that it read there before.
        let work = unsafe { &mut (*cpu).work };
        Some(Self { config: maps::CONFIG.get(0)?, tables: KernelTables::on(cpu), work })
    }

    #[inline(always)]
    pub fn frame(&self, ctx: &XdpContext) -> XdpFrame {
        XdpFrame::new(ctx, self.tables.scratch())
    }
}

/// Makes a stage a global function. A stage that reads the frame is handed the context. Another must not be,
/// because the compiler leaves an unused argument undefined, and the verifier rejects that. `else`: the return
/// value without the maps, if not `NONE`.
macro_rules! step {
    ($name:ident($($argument:ident: $type:ty),*), |$bench:ident| $body:block) => {
        step!($name($($argument: $type),*) else 0, |$bench| $body);
    };
    ($name:ident($($argument:ident: $type:ty),*) else $without:expr, |$bench:ident| $body:block) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name($($argument: $type),*) -> u32 {
            let mut bench = Bench::new();
            let Some($bench) = &mut bench else { return $without };
            $body
        }
    };
}

step!(step_again_v4(ctx: *mut xdp_md, now: u64), |bench| {
    let ctx = XdpContext::new(ctx.cast());
    let frame = bench.frame(&ctx);
    gave_up(step::again_v4(&frame, bench.config, &mut bench.tables, now))
});

step!(step_again_v6(ctx: *mut xdp_md, now: u64), |bench| {
    let ctx = XdpContext::new(ctx.cast());
    let frame = bench.frame(&ctx);
    gave_up(step::again_v6(&frame, bench.config, &mut bench.tables, now))
});

step!(step_drops_unread(), |bench| { step::drops_unread(bench.config, &mut bench.tables).into() });

step!(step_unwanted(), |bench| {
    step::unwanted(bench.config, &mut bench.tables, bench.work);
    0
});

step!(step_closed_port(), |bench| {
    gave_up(step::closed_port(bench.config, &mut bench.tables, bench.work))
});

step!(step_sample_syn(ctx: *mut xdp_md), |bench| {
    let ctx = XdpContext::new(ctx.cast());
    let frame = bench.frame(&ctx);
    step::sample_syn(&frame, &mut bench.tables, bench.work);
    0
});

step!(step_judge_source(), |bench| {
    gave_up(step::judge_source(bench.config, &mut bench.tables, bench.work))
});

step!(step_look(ctx: *mut xdp_md, judged: u32), |bench| {
    let ctx = XdpContext::new(ctx.cast());
    let frame = bench.frame(&ctx);
    gave_up(step::look(&frame, bench.config, &mut bench.tables, bench.work, judged != 0))
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

step!(step_course(recorded: u32, asked: u32), |bench| {
    let (config, tables) = (bench.config, &mut bench.tables);
    match step::course(config, tables, bench.work, recorded != 0, asked != 0) {
        Course::On => NONE,
        Course::AskSockets => ASK_SOCKETS,
        Course::Drop(reason) => GAVE_UP + reason as u32,
    }
});

step!(step_socket(ctx: *mut xdp_md) else Socket::Connection as u32, |bench| {
    bench.tables.context = ctx.cast();
    step::socket(&mut bench.tables, bench.work) as u32
});

step!(step_budget(), |bench| { gave_up(step::budget(&mut bench.tables, bench.work)) });

step!(step_let_through(fate: u32) else NO_MAPS, |bench| {
    step::let_through(bench.config, &mut bench.tables, bench.work, reason(fate)) as u32
});

step!(step_answer(), |bench| {
    step::answer(bench.config, &mut bench.tables, &bench.work.segment);
    0
});

step!(step_follow(reset: u32) else NO_MAPS, |bench| {
    step::follow(bench.config, &mut bench.tables, bench.work, reset != 0) as u32
});

step!(step_illegal() else NO_MAPS, |bench| {
    step::illegal(bench.config, &mut bench.tables, bench.work) as u32
});

/// Takes the first stages itself and calls the functions above for the others.
pub struct KernelSteps<'a> {
    pub ctx: &'a XdpContext,
    bench: Bench,
    /// The interface's counters.
    pub packets: &'static mut PacketCounters,
}

impl<'a> KernelSteps<'a> {
    /// For a frame that came in on the interface with these counters.
    #[inline(always)]
    pub fn new(ctx: &'a XdpContext, packets: &'static mut PacketCounters) -> Option<Self> {
        Some(Self { ctx, bench: Bench::new()?, packets })
    }

    #[inline(always)]
    pub fn config(&self) -> &'static Config {
        self.bench.config
    }

    #[inline(always)]
    pub fn raw(&self) -> *mut xdp_md {
        self.ctx.as_ptr().cast()
    }
}

#[inline(always)]
pub(crate) fn gave_up(reason: Option<Reason>) -> u32 {
    match reason {
        Some(reason) => GAVE_UP + reason as u32,
        None => NONE,
    }
}

#[inline(always)]
fn reason(code: u32) -> Reason {
    Reason::from_code(code as u8).unwrap_or(Reason::Unconfigured)
}

/// The other way round.
#[inline(always)]
pub(crate) fn gave_up_for(code: u32) -> Option<Reason> {
    if code == NONE { None } else { Some(reason(code)) }
}

impl Steps for KernelSteps<'_> {
    #[inline(always)]
    fn again(&mut self) -> Option<Reason> {
        let frame = self.bench.frame(self.ctx);
        let reason = gave_up_for(match step::family(&frame, &mut self.bench.tables)? {
            (Family::V4, now) => step_again_v4(self.raw(), now),
            (Family::V6, now) => step_again_v6(self.raw(), now),
        })?;
        self.packets.classes[Class::Syn as usize] += 1;
        Some(reason)
    }

    #[inline(always)]
    fn parse(&mut self) -> Result<Class, Reason> {
        let scratch = self.bench.tables.scratch();
        let frame = XdpFrame::counted(self.ctx, scratch, &raw mut self.packets.bytes);
        step::parse::<_, KernelTables>(&frame, &mut self.packets.classes, self.bench.work)
    }

    #[inline(always)]
    fn count_syn(&mut self) -> Interest {
        step::count_syn(self.bench.config, &mut self.bench.tables, self.bench.work)
    }

    #[inline(always)]
    fn unwanted(&mut self) {
        step_unwanted();
    }

    #[inline(always)]
    fn closed_port(&mut self) -> Option<Reason> {
        gave_up_for(step_closed_port())
    }

    #[inline(always)]
    fn sample_syn(&mut self) {
        step_sample_syn(self.raw());
    }

    #[inline(always)]
    fn judge_source(&mut self) -> Option<Reason> {
        gave_up_for(step_judge_source())
    }

    #[inline(always)]
    fn look(&mut self, judged: bool) -> Option<Reason> {
        gave_up_for(step_look(self.raw(), judged.into()))
    }

    #[inline(always)]
    fn course(&mut self, recorded: bool, asked: bool) -> Course {
        match step_course(recorded.into(), asked.into()) {
            NONE => Course::On,
            ASK_SOCKETS => Course::AskSockets,
            code => Course::Drop(reason(code)),
        }
    }

    #[inline(always)]
    fn socket(&mut self) -> Socket {
        Socket::from_code(step_socket(self.raw()))
    }

    #[inline(always)]
    fn options(&mut self) {
        step_options(self.raw());
    }

    #[inline(always)]
    fn reply(&mut self) -> Option<Reason> {
        gave_up_for(step_reply(self.raw()))
    }

    #[inline(always)]
    fn budget(&mut self) -> Option<Reason> {
        gave_up_for(step_budget())
    }

    #[inline(always)]
    fn let_through(&mut self, fate: Reason) -> Reason {
        reason(step_let_through(fate as u32))
    }

    #[inline(always)]
    fn record_syn(&mut self, dropped: bool) {
        step_record_syn(dropped.into());
    }

    #[inline(always)]
    fn answer(&mut self) {
        step_answer();
    }

    #[inline(always)]
    fn is_followed(&mut self) -> bool {
        step::is_followed(self.bench.config, &mut self.bench.tables, self.bench.work)
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
