//! The list of allowed prefixes.

use ipnet::IpNet;

use super::RuleBook;
use crate::engine::outbox::Outbox;
use crate::incident::Event;
use crate::input::Timestamp;
use crate::output::{Command, RequestError, Response};
use crate::rules::AllowReport;
use crate::settings::Limits;

impl RuleBook {
    pub fn hand_out_allowed(&mut self, outbox: &mut Outbox) {
        let allowed = self.exempt.allowed().map(|entry| (entry.net, entry.expires)).collect();
        outbox.push(Command::SetAllowed(allowed));
    }

    /// Reports exemptions that are off the list, by `uid` if an operator took them off.
    pub fn no_longer_allowed(
        &mut self,
        ended: &[AllowReport],
        uid: Option<u32>,
        outbox: &mut Outbox,
    ) {
        if !ended.is_empty() {
            self.hand_out_allowed(outbox);
        }
        for AllowReport { net, fleet, .. } in ended {
            outbox.alert(Event::AllowRemoved { net: *net, uid, fleet: fleet.clone() }, None);
        }
    }

    /// Takes exemptions off the list when their time is over. The kernel ends them by itself.
    pub fn expire_allowed(&mut self, now: Timestamp, outbox: &mut Outbox) {
        let mut ended = self.exempt.expire(now);
        // An end by the clock is no change by an operator or the fleet.
        ended.iter_mut().for_each(|entry| entry.fleet = None);
        self.no_longer_allowed(&ended, None, outbox);
    }

    pub fn disallow(
        &mut self,
        now: Timestamp,
        net: IpNet,
        uid: u32,
        outbox: &mut Outbox,
    ) -> Result<Response, RequestError> {
        let removed = self.exempt.disallow(&net);
        if removed.is_empty() {
            return Err(RequestError::NotAllowed { net });
        }
        for name in removed.iter().filter_map(|entry| entry.fleet.clone()) {
            self.fleet.overrule(now, name, now + Limits::MAX_ALLOW);
        }
        self.no_longer_allowed(&removed, Some(uid), outbox);
        Ok(Response::Disallowed(removed))
    }

    /// Ends exemptions by the fleet that touch sources which an operator of this host blocks.
    pub fn yield_exemptions(&mut self, nets: impl Iterator<Item = IpNet>, outbox: &mut Outbox) {
        let yielded: Vec<AllowReport> = nets.flat_map(|net| self.exempt.yield_to(&net)).collect();
        self.no_longer_allowed(&yielded, None, outbox);
    }
}
