//! The stages of a packet's decision on the host.

use super::{Model, Packet};
use crate::abi::{Class, Config, Reason};
use crate::fastpath::{
    self, Claim, Disposition, Family, OutOfStateStages, PacketCtx, RedeemStages, Reply, Socket,
    Stages, SynPlan, no_cookie, out_of_state, stage,
};

/// The stages of a decision over a packet and the tables of the host.
pub(super) struct HostStages<'a> {
    pub(super) frame: &'a mut Packet,
    pub(super) model: &'a mut Model,
}

impl HostStages<'_> {
    fn with<R>(
        &mut self,
        run: impl FnOnce(&mut Packet, &Config, &mut Model, &mut PacketCtx) -> R,
    ) -> R {
        let config = self.model.config;
        let mut pkt = self.model.pkt;
        let result = run(self.frame, &config, self.model, &mut pkt);
        self.model.pkt = pkt;
        result
    }
}

impl Stages for HostStages<'_> {
    fn match_template(&mut self) -> Option<Reason> {
        self.with(|frame, config, model, _| {
            let reason = match stage::family(&*frame, model)? {
                (Family::V4, now) => stage::match_template_v4(&*frame, config, model, now)?,
                (Family::V6, now) => stage::match_template_v6(&*frame, config, model, now)?,
            };
            model.packets.classes[Class::Syn as usize] += 1;
            Some(reason)
        })
    }

    fn parse(&mut self) -> Result<Class, Reason> {
        self.with(|frame, _, model, pkt| {
            stage::parse::<_, Model>(&*frame, &mut model.packets.classes, pkt)
        })
    }

    fn recall_own(&mut self) -> bool {
        self.with(|_, _, model, pkt| stage::recall_own(model, pkt))
    }

    fn look_up_own(&mut self) {
        self.with(|_, _, model, pkt| stage::look_up_own(model, pkt));
    }

    fn count_syn(&mut self) -> SynPlan {
        self.with(|_, config, model, pkt| stage::count_syn(config, model, pkt))
    }

    fn unwanted(&mut self) {
        self.with(|_, config, model, pkt| stage::unwanted(config, model, pkt));
    }

    fn closed_port(&mut self) -> Option<Reason> {
        self.with(|_, config, model, pkt| stage::closed_port(config, model, pkt))
    }

    fn sample_syn(&mut self) {
        self.with(|frame, _, model, pkt| stage::sample_syn(&*frame, model, pkt));
    }

    fn complete_sample(&mut self, fate: Reason) {
        self.with(|_, _, model, _| stage::complete_sample(model, fate));
    }

    fn judge_source(&mut self) -> Option<Reason> {
        self.with(|frame, config, model, pkt| stage::judge_source(&*frame, config, model, pkt))
    }

    fn match_signature(&mut self, judged: bool) -> Option<Reason> {
        self.with(|frame, config, model, pkt| {
            stage::match_signature(&*frame, config, model, pkt, judged)
        })
    }

    fn disposition(&mut self, recorded: bool, asked: bool) -> Disposition {
        self.with(|_, config, model, pkt| stage::disposition(config, model, pkt, recorded, asked))
    }

    fn socket(&mut self) -> Socket {
        self.with(|_, _, model, pkt| stage::socket(model, pkt))
    }

    fn budget(&mut self) -> Option<Reason> {
        self.with(|_, config, model, pkt| stage::budget(config, model, pkt))
    }

    fn let_through(&mut self, fate: Reason) -> Reason {
        self.with(|_, config, model, pkt| stage::let_through(config, model, pkt, fate))
    }

    fn record_syn(&mut self, dropped: bool) {
        self.with(|_, config, model, pkt| stage::record_syn(config, model, pkt, dropped));
    }

    fn options(&mut self) {
        self.with(|frame, config, model, pkt| stage::options(&*frame, config, model, pkt));
    }

    fn find_reply(&mut self) -> Reply {
        let ifindex = Model::DEPARTURE.ifindex;
        self.with(|frame, _, model, pkt| stage::find_reply(&*frame, model, pkt, ifindex))
    }

    fn send_cookie(&mut self) -> Option<Reason> {
        self.with(|frame, _, model, pkt| stage::send_cookie(frame, model, pkt))
    }

    fn reply_seen(&mut self) {
        self.with(|_, config, model, pkt| stage::reply_seen(config, model, &pkt.segment));
    }

    fn is_tracked(&mut self) -> bool {
        self.with(|_, config, model, pkt| stage::is_tracked(config, model, pkt))
    }

    fn track(&mut self, reset: bool) -> Reason {
        self.with(|_, config, model, pkt| stage::track(config, model, pkt, reset))
    }

    fn acknowledged(&mut self) {
        self.with(|_, config, model, pkt| stage::acknowledged(config, model, pkt));
    }

    fn mark_without_cookie(&mut self) {
        self.model.marked =
            self.with(|frame, _, model, pkt| no_cookie::is_known(&*frame, model, pkt));
    }

    fn illegal(&mut self) -> Reason {
        self.with(|_, config, model, pkt| stage::illegal(config, model, pkt))
    }

    fn drops_unread(&mut self) -> bool {
        self.with(|_, config, model, _| stage::drops_unread(config, model))
    }
}

impl OutOfStateStages for HostStages<'_> {
    fn out_of_state_watched(&mut self, completes: bool) -> bool {
        let ifindex = Model::DEPARTURE.ifindex;
        self.with(|frame, config, model, pkt| {
            out_of_state::watched(&*frame, config, model, pkt, ifindex, completes)
        })
    }

    fn out_of_state_judge(&mut self, socket: Socket) -> Option<Reason> {
        let ifindex = Model::DEPARTURE.ifindex;
        self.with(|frame, config, model, pkt| {
            out_of_state::judge(&*frame, config, model, pkt, ifindex, socket)
        })
    }
}

impl RedeemStages for HostStages<'_> {
    fn read(&mut self) -> bool {
        self.with(|frame, _, model, pkt| fastpath::redeem_read(&*frame, model, pkt))
    }

    fn times(&mut self) {
        self.with(|frame, _, _, pkt| fastpath::redeem_times(&*frame, pkt));
    }

    fn check(&mut self) -> Claim {
        self.with(|_, _, model, pkt| fastpath::redeem_check(model, pkt))
    }
}
