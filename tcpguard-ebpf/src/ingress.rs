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
use tcpguard_common::fastpath::{
    Disposition, Family, PacketCtx, Reply, Socket, Stages, SynPlan, no_cookie, stage,
};

use crate::frame::{self, XdpFrame};
use crate::maps;
use crate::tables::KernelTables;

/// Added to a [`Reason`] code where a function may also return another number.
const HAS_REASON: u32 = 0x100;
/// No reason, of an `Option<Reason>`. Also the result of a stage that does not find its maps, which cannot happen,
/// because their sizes are constants.
const NONE: u32 = 0;
/// A [`Disposition`] as a number, as which [`NONE`] is the stack.
const ASK_SOCKETS: u32 = 1;
const ANSWER: u32 = 2;
/// The [`Reason`] where the maps could not be found: the packet passes, as without a configuration.
const NO_MAPS: u32 = Reason::Unconfigured as u32;

/// Everything a stage works on.
pub(crate) struct StageEnv {
    pub config: &'static Config,
    pub tables: KernelTables,
    pub pkt: &'static mut PacketCtx,
}

impl StageEnv {
    #[inline(always)]
    pub fn new() -> Option<Self> {
        let cpu = maps::CPU.get_ptr_mut(0)?;
        // SAFETY: this CPU's value, of which the tables use other fields. XDP programs do not preempt each other. A
        // stage that is a function of its own has its own reference to the same record, and its caller uses no
        // value that it read there before.
        let pkt = unsafe { &mut (*cpu).pkt };
        Some(Self { config: maps::CONFIG.get(0)?, tables: KernelTables::on(cpu), pkt })
    }

    #[inline(always)]
    pub fn frame(&self, ctx: &XdpContext) -> XdpFrame {
        XdpFrame::new(ctx, self.tables.scratch())
    }
}

/// Makes a stage a global function. A stage that reads the frame is handed the context. Another must not be,
/// because the compiler leaves an unused argument undefined, and the verifier rejects that. `else`: the return
/// value without the maps, if not `NONE`.
macro_rules! stage {
    ($name:ident($($argument:ident: $type:ty),*), |$env:ident| $body:block) => {
        stage!($name($($argument: $type),*) else 0, |$env| $body);
    };
    ($name:ident($($argument:ident: $type:ty),*) else $without:expr, |$env:ident| $body:block) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name($($argument: $type),*) -> u32 {
            let mut env = StageEnv::new();
            let Some($env) = &mut env else { return $without };
            $body
        }
    };
}

stage!(stage_template_v4(ctx: *mut xdp_md, now: u64), |env| {
    let ctx = XdpContext::new(ctx.cast());
    let frame = env.frame(&ctx);
    encode(stage::match_template_v4(&frame, env.config, &mut env.tables, now))
});

stage!(stage_template_v6(ctx: *mut xdp_md, now: u64), |env| {
    let ctx = XdpContext::new(ctx.cast());
    let frame = env.frame(&ctx);
    encode(stage::match_template_v6(&frame, env.config, &mut env.tables, now))
});

stage!(stage_drops_unread(), |env| { stage::drops_unread(env.config, &mut env.tables).into() });

stage!(stage_look_up_own(), |env| {
    stage::look_up_own(&mut env.tables, env.pkt);
    0
});

stage!(stage_acknowledged(), |env| {
    stage::acknowledged(env.config, &mut env.tables, env.pkt);
    0
});

stage!(stage_unwanted(), |env| {
    stage::unwanted(env.config, &mut env.tables, env.pkt);
    0
});

stage!(stage_closed_port(), |env| {
    encode(stage::closed_port(env.config, &mut env.tables, env.pkt))
});

stage!(stage_sample_syn(ctx: *mut xdp_md), |env| {
    let ctx = XdpContext::new(ctx.cast());
    let frame = env.frame(&ctx);
    stage::sample_syn(&frame, &mut env.tables, env.pkt);
    0
});

stage!(stage_complete_sample(fate: u32), |env| {
    stage::complete_sample(&mut env.tables, reason(fate));
    0
});

stage!(stage_judge_source(ctx: *mut xdp_md), |env| {
    let ctx = XdpContext::new(ctx.cast());
    let frame = env.frame(&ctx);
    encode(stage::judge_source(&frame, env.config, &mut env.tables, env.pkt))
});

stage!(stage_match_signature(ctx: *mut xdp_md, judged: u32), |env| {
    let ctx = XdpContext::new(ctx.cast());
    let frame = env.frame(&ctx);
    encode(stage::match_signature(&frame, env.config, &mut env.tables, env.pkt, judged != 0))
});

stage!(stage_record_syn(dropped: u32), |env| {
    stage::record_syn(env.config, &mut env.tables, env.pkt, dropped != 0);
    0
});

stage!(stage_options(ctx: *mut xdp_md), |env| {
    let ctx = XdpContext::new(ctx.cast());
    env.tables.context = ctx.as_ptr();
    let frame = env.frame(&ctx);
    stage::options(&frame, env.config, &mut env.tables, env.pkt);
    0
});

stage!(stage_find_reply(ctx: *mut xdp_md), |env| {
    let ctx = XdpContext::new(ctx.cast());
    let ifindex = maps::path(ctx.ingress_ifindex() as u32);
    let frame = env.frame(&ctx);
    stage::find_reply(&frame, &mut env.tables, env.pkt, ifindex) as u32
});

stage!(stage_send_cookie(ctx: *mut xdp_md), |env| {
    let ctx = XdpContext::new(ctx.cast());
    let mut frame = env.frame(&ctx);
    encode(stage::send_cookie(&mut frame, &mut env.tables, env.pkt))
});

stage!(stage_disposition(recorded: u32, asked: u32), |env| {
    let (config, tables) = (env.config, &mut env.tables);
    match stage::disposition(config, tables, env.pkt, recorded != 0, asked != 0) {
        Disposition::Stack => NONE,
        Disposition::Answer => ANSWER,
        Disposition::AskSockets => ASK_SOCKETS,
        Disposition::Limited(reason) => HAS_REASON + reason as u32,
    }
});

stage!(stage_socket(ctx: *mut xdp_md) else Socket::Connection as u32, |env| {
    env.tables.context = ctx.cast();
    stage::socket(&mut env.tables, env.pkt) as u32
});

stage!(stage_budget(), |env| { encode(stage::budget(env.config, &mut env.tables, env.pkt)) });

stage!(stage_let_through(fate: u32) else NO_MAPS, |env| {
    stage::let_through(env.config, &mut env.tables, env.pkt, reason(fate)) as u32
});

stage!(stage_reply_seen(), |env| {
    stage::reply_seen(env.config, &mut env.tables, &env.pkt.segment);
    0
});

stage!(stage_track(reset: u32) else NO_MAPS, |env| {
    stage::track(env.config, &mut env.tables, env.pkt, reset != 0) as u32
});

stage!(stage_brings_no_cookie(ctx: *mut xdp_md), |env| {
    let ctx = XdpContext::new(ctx.cast());
    let frame = env.frame(&ctx);
    no_cookie::is_known(&frame, &mut env.tables, env.pkt).into()
});

stage!(stage_illegal() else NO_MAPS, |env| {
    stage::illegal(env.config, &mut env.tables, env.pkt) as u32
});

/// Takes the first stages itself and calls the functions above for the others.
pub struct KernelStages<'a> {
    pub ctx: &'a XdpContext,
    env: StageEnv,
    /// The interface's counters.
    pub packets: &'static mut PacketCounters,
}

impl<'a> KernelStages<'a> {
    /// For a frame that came in on the interface with these counters.
    #[inline(always)]
    pub fn new(ctx: &'a XdpContext, packets: &'static mut PacketCounters) -> Option<Self> {
        Some(Self { ctx, env: StageEnv::new()?, packets })
    }

    #[inline(always)]
    pub fn config(&self) -> &'static Config {
        self.env.config
    }

    /// Notes the slot of the interface for [`Self::slot`].
    #[inline(always)]
    pub fn note_slot(&mut self, slot: u32) {
        self.env.tables.note_slot(slot);
    }

    #[inline(always)]
    pub fn slot(&self) -> u32 {
        self.env.tables.slot()
    }

    #[inline(always)]
    pub fn raw(&self) -> *mut xdp_md {
        self.ctx.as_ptr().cast()
    }
}

#[inline(always)]
pub(crate) fn encode(reason: Option<Reason>) -> u32 {
    match reason {
        Some(reason) => HAS_REASON + reason as u32,
        None => NONE,
    }
}

#[inline(always)]
fn reason(code: u32) -> Reason {
    Reason::from_code(code as u8).unwrap_or(Reason::Unconfigured)
}

/// The other way round.
#[inline(always)]
pub(crate) fn decode(code: u32) -> Option<Reason> {
    if code == NONE { None } else { Some(reason(code)) }
}

impl Stages for KernelStages<'_> {
    #[inline(always)]
    fn match_template(&mut self) -> Option<Reason> {
        let frame = self.env.frame(self.ctx);
        let reason = decode(match stage::family(&frame, &mut self.env.tables)? {
            (Family::V4, now) => stage_template_v4(self.raw(), now),
            (Family::V6, now) => stage_template_v6(self.raw(), now),
        })?;
        self.packets.classes[Class::Syn as usize] += 1;
        Some(reason)
    }

    #[inline(always)]
    fn parse(&mut self) -> Result<Class, Reason> {
        let scratch = self.env.tables.scratch();
        let frame = XdpFrame::counted(self.ctx, scratch, &raw mut self.packets.bytes);
        stage::parse::<_, KernelTables>(&frame, &mut self.packets.classes, self.env.pkt)
    }

    #[inline(always)]
    fn recall_own(&mut self) -> bool {
        stage::recall_own(&mut self.env.tables, self.env.pkt)
    }

    #[inline(always)]
    fn look_up_own(&mut self) {
        stage_look_up_own();
    }

    #[inline(always)]
    fn count_syn(&mut self) -> SynPlan {
        stage::count_syn(self.env.config, &mut self.env.tables, self.env.pkt)
    }

    #[inline(always)]
    fn unwanted(&mut self) {
        stage_unwanted();
    }

    #[inline(always)]
    fn closed_port(&mut self) -> Option<Reason> {
        decode(stage_closed_port())
    }

    #[inline(always)]
    fn sample_syn(&mut self) {
        stage_sample_syn(self.raw());
    }

    #[inline(always)]
    fn complete_sample(&mut self, fate: Reason) {
        stage_complete_sample(fate as u32);
    }

    #[inline(always)]
    fn judge_source(&mut self) -> Option<Reason> {
        decode(stage_judge_source(self.raw()))
    }

    #[inline(always)]
    fn match_signature(&mut self, judged: bool) -> Option<Reason> {
        decode(stage_match_signature(self.raw(), judged.into()))
    }

    #[inline(always)]
    fn disposition(&mut self, recorded: bool, asked: bool) -> Disposition {
        match stage_disposition(recorded.into(), asked.into()) {
            NONE => Disposition::Stack,
            ANSWER => Disposition::Answer,
            ASK_SOCKETS => Disposition::AskSockets,
            code => Disposition::Limited(reason(code)),
        }
    }

    #[inline(always)]
    fn socket(&mut self) -> Socket {
        Socket::from_code(stage_socket(self.raw()))
    }

    #[inline(always)]
    fn options(&mut self) {
        stage_options(self.raw());
    }

    #[inline(always)]
    fn find_reply(&mut self) -> Reply {
        Reply::from_code(stage_find_reply(self.raw()))
    }

    #[inline(always)]
    fn send_cookie(&mut self) -> Option<Reason> {
        decode(stage_send_cookie(self.raw()))
    }

    #[inline(always)]
    fn budget(&mut self) -> Option<Reason> {
        decode(stage_budget())
    }

    #[inline(always)]
    fn let_through(&mut self, fate: Reason) -> Reason {
        reason(stage_let_through(fate as u32))
    }

    #[inline(always)]
    fn record_syn(&mut self, dropped: bool) {
        stage_record_syn(dropped.into());
    }

    #[inline(always)]
    fn reply_seen(&mut self) {
        stage_reply_seen();
    }

    #[inline(always)]
    fn is_tracked(&mut self) -> bool {
        stage::is_tracked(self.env.config, &mut self.env.tables, self.env.pkt)
    }

    #[inline(always)]
    fn track(&mut self, reset: bool) -> Reason {
        self::reason(stage_track(reset.into()))
    }

    #[inline(always)]
    fn acknowledged(&mut self) {
        stage_acknowledged();
    }

    #[inline(always)]
    fn mark_without_cookie(&mut self) {
        if stage_brings_no_cookie(self.raw()) != 0 {
            frame::add_metadata(self.ctx, no_cookie::mark(self.env.config));
        }
    }

    #[inline(always)]
    fn illegal(&mut self) -> Reason {
        reason(stage_illegal())
    }

    #[inline(always)]
    fn drops_unread(&mut self) -> bool {
        stage_drops_unread() != 0
    }
}
