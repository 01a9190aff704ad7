//! The rules and mitigations that keep SYNs from the stack.

use std::time::Duration;

use tcpguard_engine::{ListenerId, Matcher, Mitigation, Mode, Origin, Rule};

use super::{Kernel, Syn};

impl Kernel {
    /// Returns whether the rules let a SYN pass.
    pub(super) fn judge(&mut self, syn: &Syn) -> bool {
        if self.mode == Mode::Off || self.rules.is_empty() {
            return true;
        }
        let socket = &self.sockets[syn.to];
        let (now, port, exempt) = (self.now, socket.listener.port, socket.exempt);
        let matches = |rule: &Rule| match rule.matcher {
            Matcher::Source(net, ports) => net.contains(&syn.client) && ports.contains(port),
            Matcher::Signature { listener, mask, fingerprint } => {
                let concerned = match listener {
                    ListenerId::HOST => !exempt,
                    own => own.0 as usize == syn.to,
                };
                concerned && syn.print.masked(mask) == fingerprint
            }
        };
        let matched = self.rules.iter().find(|(_, r)| r.rule.expires > now && matches(&r.rule));
        let Some((&id, rule)) = matched else { return true };
        let by_signature = matches!(rule.rule.matcher, Matcher::Signature { .. });
        let allowed =
            self.allowed.iter().any(|(net, until)| net.contains(&syn.client) && *until > now);
        if allowed || self.is_validated(syn.client) {
            self.sockets[syn.to].counters.exempt += 1;
            return true;
        }
        let of_operator = matches!(rule.rule.origin, Origin::Operator { .. } | Origin::Fleet(_));
        let is_absolute = !by_signature && of_operator;
        let accepted_retransmits = !is_absolute
            && self.was_retransmitted(syn)
            && self.takes_return(syn.to, self.sockets[syn.to].return_rate);
        if accepted_retransmits || by_signature && self.mode == Mode::Observe {
            self.let_through.insert(syn.key, id);
        }
        let counters = &mut self.sockets[syn.to].counters;
        let Some(rule) = self.rules.get_mut(&id) else { return true };
        if accepted_retransmits {
            rule.accepted_retransmits += 1;
            counters.accepted_retransmits += 1;
            return true;
        }
        if by_signature {
            counters.dropped_signature += 1;
        } else {
            counters.dropped_source += 1;
        }
        rule.hits += 1;
        self.mode == Mode::Observe
    }

    /// Returns whether a SYN that no rule drops is one too many.
    pub(super) fn is_too_many(&mut self, syn: &Syn) -> bool {
        if self.mode != Mode::Enforce || self.is_validated(syn.client) {
            return false;
        }
        let Some(&rate) = self.sockets[syn.to].mitigations.get(&Mitigation::Budget) else {
            return false;
        };
        // Half of it is for first SYNs.
        let passes = self.takes_of_budget(syn.to, rate.div_ceil(2))
            || self.was_retransmitted(syn)
                && self.takes_return(syn.to, self.sockets[syn.to].return_rate);
        self.sockets[syn.to].counters.limited += u64::from(!passes);
        !passes
    }

    /// Returns whether a SYN that is to be dropped was dropped before, as long ago as a client retransmits it.
    fn was_retransmitted(&mut self, syn: &Syn) -> bool {
        let window = Duration::from_millis(800)..=Duration::from_millis(3500);
        self.remember(syn).is_some_and(|age| window.contains(&age))
    }

    fn takes_of_budget(&mut self, to: usize, rate: u32) -> bool {
        let (now, socket) = (self.now, &mut self.sockets[to]);
        let (tokens, since) = socket.tokens;
        let grown = tokens + now.since(since).as_secs_f64() * f64::from(rate);
        let tokens = grown.min(f64::from(rate) / 8.0 + 1.0);
        let empty = tokens < 1.0;
        socket.tokens = (if empty { tokens } else { tokens - 1.0 }, now);
        !empty
    }

    /// Returns whether a retransmitted SYN that a rule or a budget would keep from the stack is answered, or
    /// goes there.
    fn takes_return(&mut self, to: usize, rate: u32) -> bool {
        let (now, socket) = (self.now, &mut self.sockets[to]);
        if self.mode != Mode::Enforce || socket.mitigations.contains_key(&Mitigation::Cookies) {
            return true;
        }
        let rate = f64::from(rate);
        let (tokens, since) = socket.returns;
        let tokens = (tokens + now.since(since).as_secs_f64() * rate).min(rate / 4.0 + 1.0);
        let empty = tokens < 1.0;
        socket.returns = (if empty { tokens } else { tokens - 1.0 }, now);
        !empty
    }

    /// Remembers a SYN that is to be dropped; how long ago it was last, if it was before.
    fn remember(&mut self, syn: &Syn) -> Option<Duration> {
        if !syn.returns {
            return None;
        }
        self.dropped.insert(syn.seq, self.now).map(|before| self.now.since(before))
    }
}
