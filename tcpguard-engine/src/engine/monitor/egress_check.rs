//! Evidence of the replies to a listener's SYNs.

use super::ListenerMonitor;
use crate::input::{
    Flow, FlowState, Flows, ListenerKind, ListenerSample, Mode, Route, RouteQuestion, Routes,
    Timestamp,
};
use crate::listener::Egress;

impl ListenerMonitor {
    /// SYNs to which no reply was seen since the last poll.
    pub fn unanswered(&self, sample: &ListenerSample, mode: Mode, one_sided: bool) -> u64 {
        self.counter_delta.unanswered(&sample.counters, mode, one_sided)
    }

    /// Returns whether its replies leave by an attached interface.
    pub fn egress(&self) -> Egress {
        self.counter_delta.egress_check().verdict()
    }

    /// Returns whether no reply of this host's own listener was seen: then verdicts are less sure, and rules
    /// only advised. Where its queue is not known, nothing but its replies shows that it is there.
    pub fn is_unsure(&self) -> bool {
        self.is_answered_here() && self.egress() != Egress::Seen
    }

    /// Returns whether a count of the queue would show where the replies leave.
    pub fn asks_for_count(&self) -> bool {
        self.kind == ListenerKind::Local && self.counter_delta.egress_check().asks_for_count()
    }

    /// Returns whether the routes of its sources will soon show whether its replies are seen.
    pub fn waits_for_routes(&self) -> bool {
        self.counter_delta.egress_check().waits_for_routes()
    }

    /// Returns whether it needs the result of the routes at once.
    pub fn asks_for_routes(&self, now: Timestamp) -> bool {
        self.is_answered_here() && self.counter_delta.egress_check().asks_for_routes(now)
    }

    /// Returns whether the result of the routes is worth a request.
    pub fn takes_routes(&self, now: Timestamp) -> bool {
        let asked = || self.routes_asked().is_none_or(|asked| now.since(asked) >= super::RATE_SPAN);
        self.asks_for_routes(now) || self.is_answered_here() && self.is_suspicious() && asked()
    }

    /// Returns the time of the last request for the routes.
    pub fn routes_asked(&self) -> Option<Timestamp> {
        self.counter_delta.egress_check().routes_asked()
    }

    /// Notes that the routes are requested, those of so many unanswered sources among them.
    pub fn ask_routes(&mut self, now: Timestamp, unanswered: usize) {
        self.counter_delta.egress_check_mut().ask_routes(now, unanswered);
    }

    /// Takes over the routes that the kernel returned.
    pub fn learn_routes(&mut self, now: Timestamp, answers: &[(RouteQuestion, Route)]) {
        let routes = Routes::of(answers, self.counter_delta.egress_check().shown());
        self.counter_delta.egress_check_mut().learn_routes(now, routes);
    }

    /// Last result of the routes, if that is not long ago.
    pub fn routes(&self, now: Timestamp) -> Option<&Routes> {
        self.counter_delta.egress_check().routes(now)
    }

    /// Returns whether handshakes with its clients wait in a queue of this host: its own, or that of a socket to which
    /// NAT translates.
    pub fn queues_here(&self) -> bool {
        self.kind == ListenerKind::Local || self.queues.is_some()
    }

    /// Returns whether a socket of this host answers that is known, so that its routes are the answers'.
    fn is_answered_here(&self) -> bool {
        self.kind == ListenerKind::Local && self.queues.is_some()
    }

    /// Its sampled flows. While its accept queue is full, the host keeps clients waiting that have acknowledged its
    /// SYN-ACK. Of a host behind this one it is not known which handshakes it has completed. In both cases the
    /// acknowledged and the ignored flows count as completed. Otherwise the stack has refused the ACK of an ignored
    /// flow, which counts as half-open. A flow counts as answered if the host's reply left unseen, but the time of
    /// that reply is not known.
    pub fn flows<'f>(&self, flows: &'f Flows) -> impl Iterator<Item = Flow> + Clone + use<'f> {
        use FlowState::{Acknowledged, Completed, Ignored, Syn, SynAck};
        let waits = self.kind == ListenerKind::Forwarded || self.pressure.polls().0 > 0;
        let hides = self.counter_delta.hides_replies();
        let settled = flows.of(self.id, move |state| match state {
            Acknowledged | Ignored if waits => Completed,
            Ignored => SynAck,
            other => other,
        });
        settled.map(move |flow| match flow.state {
            Syn if hides => Flow { state: SynAck, syn_ack_at: Some(flow.syn_at), ..flow },
            _ => flow,
        })
    }
}
