//! The stages of a packet's decision on the host.

use super::{Model, Packet};
use crate::abi::{Class, Config, Reason};
use crate::fastpath::{
    self, Claim, Course, Family, Interest, RedeemSteps, Socket, Steps, StraySteps, Work, step,
    strays,
};

/// The stages of a decision over a packet and the tables of the host.
pub(super) struct HostSteps<'a> {
    pub(super) frame: &'a mut Packet,
    pub(super) model: &'a mut Model,
}

impl HostSteps<'_> {
    fn with<R>(&mut self, run: impl FnOnce(&mut Packet, &Config, &mut Model, &mut Work) -> R) -> R {
        let config = self.model.config;
        let mut work = self.model.work;
        let result = run(self.frame, &config, self.model, &mut work);
        self.model.work = work;
        result
    }
}

impl Steps for HostSteps<'_> {
    fn again(&mut self) -> Option<Reason> {
        self.with(|frame, config, model, _| {
            let reason = match step::family(&*frame, model)? {
                (Family::V4, now) => step::again_v4(&*frame, config, model, now)?,
                (Family::V6, now) => step::again_v6(&*frame, config, model, now)?,
            };
            model.packets.classes[Class::Syn as usize] += 1;
            Some(reason)
        })
    }

    fn parse(&mut self) -> Result<Class, Reason> {
        self.with(|frame, _, model, work| {
            step::parse::<_, Model>(&*frame, &mut model.packets.classes, work)
        })
    }

    fn count_syn(&mut self) -> Interest {
        self.with(|_, config, model, work| step::count_syn(config, model, work))
    }

    fn unwanted(&mut self) {
        self.with(|_, config, model, work| step::unwanted(config, model, work));
    }

    fn closed_port(&mut self) -> Option<Reason> {
        self.with(|_, config, model, work| step::closed_port(config, model, work))
    }

    fn sample_syn(&mut self) {
        self.with(|frame, _, model, work| step::sample_syn(&*frame, model, work));
    }

    fn judge_source(&mut self) -> Option<Reason> {
        self.with(|_, config, model, work| step::judge_source(config, model, work))
    }

    fn look(&mut self, judged: bool) -> Option<Reason> {
        self.with(|frame, config, model, work| step::look(&*frame, config, model, work, judged))
    }

    fn course(&mut self, recorded: bool, asked: bool) -> Course {
        self.with(|_, config, model, work| step::course(config, model, work, recorded, asked))
    }

    fn socket(&mut self) -> Socket {
        self.with(|_, _, model, work| step::socket(model, work))
    }

    fn budget(&mut self) -> Option<Reason> {
        self.with(|_, _, model, work| step::budget(model, work))
    }

    fn let_through(&mut self, fate: Reason) -> Reason {
        self.with(|_, config, model, work| step::let_through(config, model, work, fate))
    }

    fn record_syn(&mut self, dropped: bool) {
        self.with(|_, config, model, work| step::record_syn(config, model, work, dropped));
    }

    fn options(&mut self) {
        self.with(|frame, config, model, work| step::options(&*frame, config, model, work));
    }

    fn reply(&mut self) -> Option<Reason> {
        let ifindex = Model::DEPARTURE.ifindex;
        self.with(|frame, _, model, work| step::reply(frame, model, work, ifindex))
    }

    fn answer(&mut self) {
        self.with(|_, config, model, work| step::answer(config, model, &work.segment));
    }

    fn is_followed(&mut self) -> bool {
        self.with(|_, config, model, work| step::is_followed(config, model, work))
    }

    fn follow(&mut self, reset: bool) -> Reason {
        self.with(|_, config, model, work| step::follow(config, model, work, reset))
    }

    fn illegal(&mut self) -> Reason {
        self.with(|_, config, model, work| step::illegal(config, model, work))
    }

    fn drops_unread(&mut self) -> bool {
        self.with(|_, config, model, _| step::drops_unread(config, model))
    }
}

impl StraySteps for HostSteps<'_> {
    fn stray_watched(&mut self, completes: bool) -> bool {
        let ifindex = Model::DEPARTURE.ifindex;
        self.with(|frame, config, model, work| {
            strays::watched(&*frame, config, model, work, ifindex, completes)
        })
    }

    fn stray_judge(&mut self, socket: Socket) -> Option<Reason> {
        let ifindex = Model::DEPARTURE.ifindex;
        self.with(|frame, config, model, work| {
            strays::judge(&*frame, config, model, work, ifindex, socket)
        })
    }
}

impl RedeemSteps for HostSteps<'_> {
    fn read(&mut self) -> bool {
        self.with(|frame, _, model, work| fastpath::redeem_read(&*frame, model, work))
    }

    fn times(&mut self) {
        self.with(|frame, _, _, work| fastpath::redeem_times(&*frame, work));
    }

    fn check(&mut self) -> Claim {
        self.with(|_, _, model, work| fastpath::redeem_check(model, work))
    }
}
