//! Criteria for the half-open entries that are removed from a SYN queue.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_common::abi::{Fingerprint, Mask};

use crate::input::{Flow, FlowState, Timestamp};

/// Criteria by which a flood's half-open entries are recognised. An entry is removed if it is from one of
/// `sources`, or its recorded SYN matches one of `signatures`, and if it was answered before
/// `answered_before` or is older than `older_than`. An entry older than that without a recorded SYN is
/// removed too, and so is any other entry that is older and was answered before `all_before`.
#[derive(Clone, Debug, PartialEq)]
pub struct CleanUp {
    /// Signatures of the rules that are active for the listener.
    pub signatures: Vec<(Mask, Fingerprint)>,
    /// Sources of the rules that are active for the listener.
    pub sources: Vec<IpNet>,
    /// The moment from which the rules act: when the newest of them was made, or enforce mode
    /// began, whichever is later. A SYN that matches a signature and was answered (first
    /// SYN-ACK) at or after it was let through on purpose, because it was retransmitted or its source
    /// is validated or exempt: it may be a client's in the middle of its handshake.
    pub answered_before: Timestamp,
    /// Age from which an entry counts as the flood's although it was let through on purpose, or its SYN is
    /// not recorded.
    pub older_than: Duration,
    /// No client that was answered before this moment and is older than that will complete: SYNs have left no
    /// entry since, or slots are scarce. By default no entry counts as such.
    pub all_before: Timestamp,
}

impl CleanUp {
    /// Returns whether a client's half-open entry of at least this age is removed. `flow` is the recorded handshake.
    pub fn removes(&self, client: IpAddr, age: Duration, flow: Option<&Flow>) -> bool {
        let old = age >= self.older_than;
        // The time of the answer is unknown: a rule for its source may have let it pass on purpose.
        let Some(flow) = flow else { return old };
        let matches = |(mask, print): &(Mask, Fingerprint)| {
            flow.fingerprint.masked(*mask) == print.masked(*mask)
        };
        let alike = self.sources.iter().any(|net| net.contains(&client))
            || self.signatures.iter().any(matches);
        // Where its SYN-ACK was not seen, the entry is of the only SYN that came.
        let once =
            (flow.state == FlowState::Syn && flow.syn_retransmits == 0).then_some(flow.syn_at);
        let answered = flow.syn_ack_at.or(once);
        // Of others without a SYN-ACK this is not known.
        let before = answered.is_some_and(|at| at < self.answered_before);
        // A client that has acknowledged waits for the accept queue, unless it matches: a flood can acknowledge too.
        let acknowledged = matches!(flow.state, FlowState::Acknowledged | FlowState::Ignored);
        let all = answered.is_some_and(|at| at < self.all_before) && !acknowledged;
        flow.state != FlowState::Completed && (alike && (before || old) || old && all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::ListenerId;

    const YOUNG: Duration = Duration::from_millis(100);
    const OLD: Duration = Duration::from_millis(500);

    fn client() -> IpAddr {
        [198, 51, 100, 7].into()
    }

    /// A flood from the client's network, against which a rule acts from the tenth second on.
    fn flood() -> CleanUp {
        CleanUp {
            signatures: Vec::new(),
            sources: vec!["198.51.100.0/24".parse().unwrap()],
            answered_before: Timestamp::from_millis(10_000),
            older_than: OLD,
            all_before: Timestamp::default(),
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
        let elsewhere = CleanUp { sources: Vec::new(), ..flood() };
        assert!(!elsewhere.removes(client(), OLD, Some(&answered_at(1))));
        let signatures = vec![(Mask::Full, Fingerprint::default())];
        let matching = CleanUp { signatures, ..elsewhere };
        assert!(matching.removes(client(), YOUNG, Some(&answered_at(1))));
        assert!(!matching.removes(client(), YOUNG, Some(&answered_at(10_000))));
        let all_before = matching.answered_before;
        let all = CleanUp { signatures: Vec::new(), all_before, ..matching };
        assert!(all.removes(client(), OLD, Some(&answered_at(1))), "SYNs leave no entry now");
        assert!(!all.removes(client(), YOUNG, Some(&answered_at(1))), "on its way");
        assert!(!all.removes(client(), OLD, Some(&answered_at(10_000))), "completed since");
        let waits = Flow { state: FlowState::Acknowledged, ..answered_at(1) };
        assert!(!all.removes(client(), OLD, Some(&waits)), "the accept queue may be full");
        assert!(flood().removes(client(), OLD, Some(&waits)), "the flood acknowledges as well");
        let unseen = Flow { syn_ack_at: None, ..answered_at(1) };
        assert!(!all.removes(client(), OLD, Some(&unseen)), "the time is not known");
    }

    #[test]
    fn an_entry_whose_syn_ack_was_not_seen_is_as_old_as_the_only_syn_that_came() {
        let unseen = |ms, syn_retransmits| {
            let state = FlowState::Syn;
            Flow { state, syn_ack_at: None, syn_retransmits, ..answered_at(ms) }
        };
        let removes = |flow| flood().removes(client(), YOUNG, Some(&flow));
        assert!(removes(unseen(9_999, 0)), "it came before the rule acted");
        assert!(!removes(unseen(10_000, 0)), "let pass on purpose");
        assert!(!removes(unseen(9_000, 1)), "the second SYN may have been let pass");
    }
}
