//! Which half-open entries are a flood's, by the agent's rule (`tcpguard/src/agent/executor/flood.rs`).

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_common::fastpath::{Fingerprint, Mask};
use tcpguard_engine::{Flow, FlowState, Timestamp};

/// How a flood's half-open entries are recognised; see [`tcpguard_engine::Command::CleanHalfOpen`].
pub(super) struct Cleanup {
    pub signatures: Vec<(Mask, Fingerprint)>,
    pub sources: Vec<IpNet>,
    /// When the rules began to act: they let pass on purpose the SYNs that were answered later.
    pub answered_before: Timestamp,
    pub older_than: Duration,
    /// Old entries that were answered before are removed, whatever their SYN was.
    pub everybody: bool,
}

impl Cleanup {
    /// Whether a client's half-open entry of this age is removed. `flow` is the recorded handshake.
    pub fn removes(&self, client: IpAddr, age: Duration, flow: Option<&Flow>) -> bool {
        let old = age >= self.older_than;
        // The time of the answer is unknown: a rule for its source may have let it pass on purpose.
        let Some(flow) = flow else { return old };
        let matches = |(mask, print): &(Mask, Fingerprint)| {
            flow.fingerprint.masked(*mask) == print.masked(*mask)
        };
        let alike = self.sources.iter().any(|net| net.contains(&client))
            || self.signatures.iter().any(matches);
        let before = flow.syn_ack_at.is_some_and(|at| at < self.answered_before);
        let acknowledged = matches!(flow.state, FlowState::Acknowledged | FlowState::Ignored);
        let everybody = self.everybody && !acknowledged;
        flow.state != FlowState::Completed
            && (alike && (before || old) || before && old && everybody)
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_engine::ListenerId;

    use super::*;

    const YOUNG: Duration = Duration::from_millis(100);
    const OLD: Duration = Duration::from_millis(500);

    fn client() -> IpAddr {
        [198, 51, 100, 7].into()
    }

    /// A flood from the client's network, against which a rule acts from the tenth second on.
    fn flood() -> Cleanup {
        Cleanup {
            signatures: Vec::new(),
            sources: vec!["198.51.100.0/24".parse().unwrap()],
            answered_before: Timestamp::from_millis(10_000),
            older_than: OLD,
            everybody: false,
        }
    }

    fn answered_at(ms: u64) -> Flow {
        Flow {
            listener: ListenerId(0),
            client: client(),
            server: [203, 0, 113, 10].into(),
            syn_at: Timestamp::from_millis(ms),
            syn_ack_at: Some(Timestamp::from_millis(ms)),
            done_at: None,
            state: FlowState::SynAck,
            syn_retransmits: 0,
            sample_shift: 0,
            fingerprint: Fingerprint::default(),
        }
    }

    #[test]
    fn an_entry_that_a_source_rule_let_pass_is_removed_only_when_it_is_old() {
        let removes = |age, flow: Option<Flow>| flood().removes(client(), age, flow.as_ref());
        assert!(removes(YOUNG, Some(answered_at(9_999))), "answered before the rule acted");
        assert!(!removes(YOUNG, Some(answered_at(10_000))), "let pass on purpose");
        assert!(removes(OLD, Some(answered_at(10_000))));
        assert!(!removes(YOUNG, None), "an unrecorded one may have been let pass as well");
        assert!(removes(OLD, None));
    }

    #[test]
    fn entries_that_completed_or_do_not_match_the_flood_stay() {
        let completed = Flow { state: FlowState::Completed, ..answered_at(1) };
        assert!(!flood().removes(client(), OLD, Some(&completed)));
        let elsewhere = Cleanup { sources: Vec::new(), ..flood() };
        assert!(!elsewhere.removes(client(), OLD, Some(&answered_at(1))));
        let signatures = vec![(Mask::Full, Fingerprint::default())];
        let matching = Cleanup { signatures, ..elsewhere };
        assert!(matching.removes(client(), YOUNG, Some(&answered_at(1))));
        assert!(!matching.removes(client(), YOUNG, Some(&answered_at(10_000))));
        let everybody = Cleanup { signatures: Vec::new(), everybody: true, ..matching };
        assert!(everybody.removes(client(), OLD, Some(&answered_at(1))), "SYNs leave no entry now");
    }
}
