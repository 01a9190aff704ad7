//! What decides about an address.

use ipnet::IpNet;
use tcpguard_engine::{Matcher, Rule as EngineRule, Timestamp};

use super::guard::{Guard, clock};
use crate::status::{Allowed, Explanation, Rule, Source};

impl Guard {
    /// Everything that decides about the SYNs from `net`.
    pub(super) fn explain(&self, net: &IpNet) -> Explanation {
        let clock = clock();
        let report = self.engine.report(clock.now);
        let touches = |other: &IpNet| other.contains(net) || net.contains(other);
        let rules = |wanted: &dyn Fn(&EngineRule) -> bool| -> Vec<Rule> {
            let ids: Vec<_> = self
                .engine
                .rules(clock.now)
                .filter(|rule| wanted(rule))
                .map(|rule| rule.id)
                .collect();
            let listed = report.rules.iter().filter(|rule| ids.contains(&rule.id));
            listed.map(|rule| Rule::build(rule, clock)).collect()
        };
        let single = net.prefix_len() == net.max_prefix_len();
        let dataplane = &self.executor.dataplane;
        let client = single.then(|| dataplane.client(net.addr()).ok().flatten()).flatten();
        let counters = match (&client, single) {
            (Some(client), _) => Some(client.counters),
            (None, true) => dataplane.source(net.addr()).ok().flatten(),
            (None, false) => None,
        };
        Explanation {
            prefix: net.to_string(),
            mode: report.mode.into(),
            rules: rules(&|rule| matches!(&rule.matcher, Matcher::Source(other) if touches(other))),
            signatures: rules(&|rule| matches!(rule.matcher, Matcher::Signature { .. })),
            allowed: report
                .allowed
                .iter()
                .filter(|allowed| touches(&allowed.net))
                .map(|allowed| Allowed::build(allowed, clock))
                .collect(),
            exempt: self.engine.exemption(net).map(|(prefix, why)| format!("{why} ({prefix})")),
            completed_at: client
                .map(|client| clock.time_at(Timestamp::from_nanos(client.completed_ns))),
            source: counters.map(|counters| Source {
                addr: net.addr(),
                syn: counters.syn,
                syn_ack: counters.syn_ack,
                ack: counters.ack,
                rst: counters.rst,
                completed: counters.completed,
                validated: client.is_some(),
            }),
        }
    }
}
