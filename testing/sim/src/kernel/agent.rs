//! The agent's side of the host: the values that it reads, and the changes that it makes.

use std::time::Duration;

use ipnet::IpNet;
use tcpguard_engine::{
    Flow, ListenerCounters, ListenerId, ListenerKind, ListenerSample, Mitigation, Queues, Rule,
    RuleCounters, RuleId, Sample, Timestamp, ValidatedClients, Withheld,
};

use super::{HalfOpen, InKernel, Kernel, Wire, address};

impl Kernel {
    /// The sample that the agent reads in one poll.
    pub fn sample(&mut self) -> Sample {
        let counted = std::mem::take(&mut self.count_half_open);
        self.polled.rotate_right(1);
        self.polled[0] = self.now;
        for socket in
            self.sockets.iter_mut().filter(|it| it.mitigations.contains_key(&Mitigation::Cookies))
        {
            socket.counters.cookies_redeemed += self.refused_cookies;
            for _ in 0..self.refused_cookies.min(4) {
                self.handovers.note(&mut socket.counters, 0, self.refused_from, self.now);
            }
        }
        let listeners = self.sockets.iter().enumerate().map(|(index, socket)| ListenerSample {
            id: ListenerId(index as u32),
            listener: socket.listener,
            kind: ListenerKind::Local,
            counters: socket.counters,
            queues: Some(Queues {
                half_open: counted.then_some(socket.queue.len() as u32),
                accept: socket.accept,
                backlog: socket.server.backlog,
            }),
            distinct_sources: socket.sources.estimate(),
        });
        let rules = self.rules.iter();
        Sample {
            at: self.now,
            epoch: self.epoch,
            listeners: listeners.collect(),
            gone: std::mem::take(&mut self.gone),
            tcp_ext: self.tcp_ext,
            rules: rules
                .map(|(&id, rule)| RuleCounters {
                    id,
                    hits: rule.hits,
                    accepted_retransmits: rule.accepted_retransmits,
                    completed: rule.completed,
                })
                .collect(),
            host: self.host,
            closed_port_sources: self
                .closed_port_sources
                .iter()
                .copied()
                .chain(self.closed.sources())
                .collect(),
            sample_shift: self.shift,
            one_sided: self.one_sided,
        }
    }

    /// The sampled flows, in the order in which they began.
    pub fn flows(&self) -> &[Flow] {
        self.flows.all()
    }

    /// Puts a rule in force, or renews the one in its slot.
    pub(crate) fn install(&mut self, rule: Rule) {
        assert!(rule.expires > self.now, "a rule that has ended: {rule:?}");
        if let Some(existing) = self.rules.get_mut(&rule.id) {
            assert_eq!(existing.rule.matcher, rule.matcher, "the slot is taken");
            existing.rule = rule;
            return;
        }
        self.rules
            .insert(rule.id, InKernel { rule, hits: 0, accepted_retransmits: 0, completed: 0 });
    }

    pub(crate) fn renew(&mut self, id: RuleId, expires: Timestamp) {
        self.rules.get_mut(&id).expect("only a rule that exists is renewed").rule.expires = expires;
    }

    pub(crate) fn remove(&mut self, rule: &Rule) {
        let removed = self.rules.remove(&rule.id).expect("only a rule that exists is removed");
        // The rule's origin may have changed since. Its state in the kernel may not.
        let known = |rule: &Rule| (rule.matcher, rule.expires);
        assert_eq!(known(&removed.rule), known(rule));
    }

    /// Removes half-open entries that `is_floods` attributes to the flood, by the entry and by the flow where its SYN
    /// is recorded.
    pub(crate) fn clean(
        &mut self,
        to: usize,
        is_floods: impl Fn(&HalfOpen, Option<&Flow>) -> bool,
        limit: u32,
    ) {
        let flows = &self.flows;
        let is_floods = |key, entry: &HalfOpen| is_floods(entry, flows.get(key));
        self.sockets[to].queue.clean(is_floods, limit as usize);
    }

    /// Returns whether a listener's stack accepts cookies, those of the XDP program included.
    pub(crate) fn takes_cookies(&self, listener: ListenerId) -> bool {
        self.sockets.get(listener.0 as usize).is_some_and(|socket| socket.server.cookies)
    }

    /// Starts a mitigation, or stops it.
    pub(crate) fn set_mitigation(
        &mut self,
        listener: ListenerId,
        mitigation: Mitigation,
        rate: Option<u32>,
    ) {
        let Some(socket) = self.sockets.get_mut(listener.0 as usize) else { return };
        match rate {
            Some(rate) => socket.mitigations.insert(mitigation, rate),
            None => socket.mitigations.remove(&mitigation),
        };
    }

    /// Lets the rules for every listener spare one, or no longer.
    pub(crate) fn exempt_listener(&mut self, listener: ListenerId, exempt: bool) {
        if let Some(socket) = self.sockets.get_mut(listener.0 as usize) {
            assert_ne!(socket.exempt, exempt, "said twice");
            socket.exempt = exempt;
        }
    }

    /// Lets SYNs beyond the limits of replies go to a listener's stack, or drops them.
    pub(crate) fn pass_excess(&mut self, listener: ListenerId, pass: bool) {
        if let Some(socket) = self.sockets.get_mut(listener.0 as usize) {
            assert_ne!(socket.passes_excess, pass, "said twice");
            socket.passes_excess = pass;
        }
    }

    /// Answers SYNs of these clients with no cookie.
    pub(crate) fn withhold_cookies(&mut self, listener: ListenerId, from: Vec<Withheld>) {
        if let Some(socket) = self.sockets.get_mut(listener.0 as usize) {
            assert_ne!(socket.withheld, from, "said twice");
            socket.withheld = from;
        }
    }

    /// Returns whether SYNs beyond the limits of replies go to a listener's stack.
    pub fn passes_excess(&self, to: usize) -> bool {
        self.sockets[to].passes_excess
    }

    /// The listeners that the rules for every one spare.
    pub fn exempt_listeners(&self) -> Vec<usize> {
        (0..self.sockets.len()).filter(|to| self.sockets[*to].exempt).collect()
    }

    /// Excludes no listener and lets no excess pass, because a new agent knows of no such listener.
    pub(crate) fn exempt_none(&mut self) {
        for socket in &mut self.sockets {
            (socket.exempt, socket.passes_excess) = (false, false);
            socket.withheld.clear();
        }
    }

    /// Leaves so many SYNs a second to closed ports to the stack; `None`: all of them. Where the stack's resets are
    /// `unseen`, closed ports are recognised by SYNs.
    pub(crate) fn limit_closed_ports(&mut self, per_second: Option<u32>, unseen: bool) {
        self.closed.limit(per_second, unseen);
    }

    /// Lets so many retransmitted SYNs a second pass to a listener's stack where rules match them.
    pub(crate) fn set_return_rate(&mut self, listener: ListenerId, rate: u32) {
        if let Some(socket) = self.sockets.get_mut(listener.0 as usize) {
            socket.return_rate = rate;
        }
    }

    /// The mitigations that are active for a listener.
    pub fn mitigations(&self, to: usize) -> Vec<Mitigation> {
        self.sockets[to].mitigations.keys().copied().collect()
    }

    /// Returns the number of half-open handshakes of a listener.
    pub fn half_open(&self, to: usize) -> usize {
        self.sockets[to].queue.len()
    }

    /// Limit of a listener's queues.
    pub(crate) fn backlog(&self, to: usize) -> u32 {
        self.sockets[to].server.backlog
    }

    /// SYNs to a listener that rules drop, or in observe mode would.
    pub(crate) fn matched(&self, to: usize) -> u64 {
        let ListenerCounters { dropped_source, dropped_signature, .. } = self.sockets[to].counters;
        dropped_source + dropped_signature
    }

    /// Segments on the wire at a listener.
    pub(crate) fn wire(&self, to: usize) -> Wire {
        self.sockets[to].wire
    }

    /// Returns the number of listeners.
    pub(crate) fn listeners(&self) -> usize {
        self.sockets.len()
    }

    /// The rules in force.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.values().map(|rule| &rule.rule)
    }

    /// An administrator sets `tcp_syncookies` to 1, or to 0.
    pub fn set_cookies(&mut self, cookies: bool) {
        self.sockets.iter_mut().for_each(|socket| socket.server.cookies = cookies);
    }

    /// The application accepts connections from now on, or stops to.
    pub fn set_accepting(&mut self, to: usize, accepting: bool) {
        self.sockets[to].server.accepting = accepting;
        if accepting {
            self.sockets[to].accept = 0;
        }
    }

    /// Closes all listeners from this one on.
    pub fn close(&mut self, to: usize) {
        self.gone.extend((to..self.sockets.len()).map(|index| ListenerId(index as u32)));
        self.sockets.truncate(to);
    }

    /// The programs are loaded anew: all counters start again.
    pub fn restart_counters(&mut self) {
        self.epoch += 1;
        for socket in &mut self.sockets {
            let established = socket.server.traced.then_some(0);
            socket.counters = ListenerCounters { established, ..ListenerCounters::default() };
        }
    }
}

impl ValidatedClients for Kernel {
    fn completed_within(&self, net: &IpNet) -> bool {
        let recent = |at: Timestamp| self.now.since(at) < Duration::from_secs(600);
        self.clients
            .iter()
            .any(|(client, of)| recent(of.completed) && net.contains(&address(*client)))
    }
}
