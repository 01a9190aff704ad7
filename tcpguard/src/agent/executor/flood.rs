//! Which half-open entries are a flood's.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_common::abi::{Flow, FlowState};
use tcpguard_common::fastpath::{Fingerprint, Mask};
use tcpguard_engine::Timestamp;

/// How a flood's half-open entries are recognised; see [`tcpguard_engine::Command::CleanHalfOpen`].
pub(super) struct Flood {
    pub(super) signatures: Vec<(Mask, Fingerprint)>,
    pub(super) sources: Vec<IpNet>,
    /// What was answered later was let through on purpose, and goes when it is old.
    pub(super) answered_before: Timestamp,
    pub(super) older_than: Duration,
    /// What is older than that goes whatever it looks like.
    pub(super) everybody: bool,
}

impl Flood {
    /// Whether a client's half-open entry of at least this age is the flood's. `flow` is what was recorded
    /// of the handshake.
    pub(super) fn has(&self, client: IpAddr, age: Duration, flow: Option<&Flow>) -> bool {
        let old = age >= self.older_than;
        // When it was answered is not known: a rule for its source may have let it through on purpose.
        let Some(flow) = flow else { return old };
        let matches = |(mask, print): &(Mask, Fingerprint)| {
            flow.fingerprint.masked(*mask) == print.masked(*mask)
        };
        let alike = self.sources.iter().any(|net| net.contains(&client))
            || self.signatures.iter().any(matches);
        // Where answers leave unseen, nobody knows when.
        let answered = flow.syn_ack_ns != 0;
        let before = answered && Timestamp::from_nanos(flow.syn_ack_ns) < self.answered_before;
        // What looks like the flood and was let through on purpose is given the time that a client needs. A client
        // that has acknowledged waits for the accept queue, unless it looks like the flood, which can do so too.
        let acknowledged = [FlowState::Acknowledged as u8, FlowState::Ignored as u8];
        let everybody = self.everybody && !acknowledged.contains(&flow.state);
        flow.state != FlowState::Completed as u8
            && (alike && (before || old) || before && old && everybody)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YOUNG: Duration = Duration::from_millis(100);
    const OLD: Duration = Duration::from_millis(500);

    fn client() -> IpAddr {
        "198.51.100.7".parse().unwrap()
    }

    /// A flood from the client's network, against which a rule acts from the tenth second on.
    fn flood() -> Flood {
        Flood {
            signatures: Vec::new(),
            sources: vec!["198.51.100.0/24".parse().unwrap()],
            answered_before: Timestamp::from_millis(10_000),
            older_than: OLD,
            everybody: false,
        }
    }

    fn answered_at(ms: u64) -> Flow {
        Flow { syn_ack_ns: Timestamp::from_millis(ms).as_nanos(), ..Flow::default() }
    }

    #[test]
    fn what_a_rule_for_its_source_has_let_through_goes_only_when_it_is_old() {
        let has = |age, flow: Option<Flow>| flood().has(client(), age, flow.as_ref());
        assert!(has(YOUNG, Some(answered_at(9_999))), "answered before the rule acted");
        assert!(!has(YOUNG, Some(answered_at(10_000))), "let through on purpose");
        assert!(has(OLD, Some(answered_at(10_000))));
        assert!(!has(YOUNG, None), "what is not recorded may have been let through as well");
        assert!(has(OLD, None));
    }

    #[test]
    fn what_has_completed_and_what_does_not_look_like_the_flood_stays() {
        let completed = Flow { state: FlowState::Completed as u8, ..answered_at(1) };
        assert!(!flood().has(client(), OLD, Some(&completed)));
        let elsewhere = Flood { sources: Vec::new(), ..flood() };
        assert!(!elsewhere.has(client(), OLD, Some(&answered_at(1))));
        let everybody = Flood { everybody: true, ..elsewhere };
        assert!(everybody.has(client(), OLD, Some(&answered_at(1))), "new SYNs leave no entry");
        let waits = Flow { state: FlowState::Acknowledged as u8, ..answered_at(1) };
        assert!(!everybody.has(client(), OLD, Some(&waits)), "the accept queue may be full");
        assert!(flood().has(client(), OLD, Some(&waits)), "the flood acknowledges as well");
    }
}
