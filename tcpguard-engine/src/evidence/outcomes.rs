//! Outcomes of the sampled flows since the slow path began to suspect.

use std::time::Duration;

use super::gate::EVIDENCE_FLOWS;
use crate::input::{Flow, FlowState, Timestamp};
use crate::listener::FAILURE_SHARE;
use crate::settings::Settings;

/// Share of a relevant excess (`failure_share`) by which failed flows must exceed the baseline.
/// The count of the slow path is an average over its whole time, of which calm may be as large a
/// part as the flood.
const CONFIRMING: f64 = 0.25;

/// Result of comparing the flows with the suspicion.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum AlarmTest {
    /// More fail than the baseline share, and enough of them to say so.
    Confirmed,
    /// More fail than the baseline share, of too few to say so.
    TooFew,
    /// No more fail than the baseline share.
    Refuted,
}

/// Numbers of the attempts of one span that failed and that completed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Outcomes {
    /// Attempts that have had their time and were not reset. Resets are added as far as they are more than
    /// health checks cause.
    failed: u64,
    completed: u64,
}

impl Outcomes {
    /// Counts the attempts made since `from` that have had their time, which is `mature`.
    pub fn gather(
        now: Timestamp,
        flows: impl Iterator<Item = Flow>,
        from: Timestamp,
        mature: Duration,
        settings: &Settings,
    ) -> Self {
        let until = now - mature;
        let (mut failed, mut completed, mut reset) = (0, 0, 0);
        for flow in flows.filter(|flow| (from..=until).contains(&flow.syn_at)) {
            let outcome = match flow.state {
                FlowState::Completed => &mut completed,
                FlowState::Reset => &mut reset,
                FlowState::Syn | FlowState::SynAck | FlowState::Ignored | FlowState::Dropped => {
                    &mut failed
                }
                // It may complete yet.
                FlowState::Acknowledged => continue,
            };
            *outcome += flow.weight();
        }
        let health_checks = settings.health_check_rate * until.since(from).as_secs_f64().max(1.0);
        Self { failed: failed + reset.saturating_sub(health_checks as u64), completed }
    }

    /// Compares the failures with the baseline `share`.
    pub fn test(&self, share: f64) -> AlarmTest {
        let all = (self.failed + self.completed) as f64;
        let excess = self.failed as f64 - share * all;
        if excess < CONFIRMING * FAILURE_SHARE * all || excess <= 0.0 {
            AlarmTest::Refuted
        } else if excess < EVIDENCE_FLOWS as f64 / 2.0 {
            AlarmTest::TooFew
        } else {
            AlarmTest::Confirmed
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tcpguard_common::abi::Fingerprint;

    use super::*;
    use crate::input::ListenerId;

    const NOW: Timestamp = Timestamp::from_millis(100_000);
    const MATURE: Duration = Duration::from_millis(500);

    fn flow(age_ms: u64, state: FlowState) -> Flow {
        let syn_at = NOW - Duration::from_millis(age_ms);
        Flow {
            listener: ListenerId(0),
            client: Ipv4Addr::LOCALHOST.into(),
            server: Ipv4Addr::LOCALHOST.into(),
            syn_at,
            syn_ack_at: Some(syn_at),
            done_at: (state == FlowState::Completed).then_some(syn_at),
            state,
            syn_retransmits: 0,
            sample_shift: 0,
            fingerprint: Fingerprint::default(),
        }
    }

    /// Returns the outcomes of (number, age in ms, state) with a suspicion since 8 s ago.
    fn outcomes(flows: &[(usize, u64, FlowState)]) -> Outcomes {
        let flows = flows
            .iter()
            .flat_map(|&(count, age, state)| std::iter::repeat_n(flow(age, state), count));
        let from = NOW - Duration::from_secs(8);
        Outcomes::gather(NOW, flows, from, MATURE, &Settings::default())
    }

    #[test]
    fn both_are_counted_over_the_same_span() {
        use FlowState::{Completed, SynAck};
        let counted = outcomes(&[
            (1000, 8001, Completed),
            (100, 8000, Completed),
            (10, 500, Completed),
            (1000, 499, Completed),
            (1000, 8001, SynAck),
            (20, 8000, SynAck),
            (2, 500, SynAck),
            (1000, 499, SynAck),
        ]);
        assert_eq!(counted, Outcomes { failed: 22, completed: 110 });
    }

    #[test]
    fn resets_count_beyond_those_of_health_checks() {
        let health_checks = (Settings::default().health_check_rate * 7.5) as usize;
        assert_eq!(outcomes(&[(health_checks, 1000, FlowState::Reset)]).failed, 0);
        assert_eq!(outcomes(&[(health_checks + 9, 1000, FlowState::Reset)]).failed, 9);
    }

    #[test]
    fn a_share_needs_a_number_and_a_number_a_share() {
        let test = |failed, completed| Outcomes { failed, completed }.test(0.01);
        assert_eq!(test(16, 0), AlarmTest::TooFew, "16 less the normal one in a hundred");
        assert_eq!(test(17, 83), AlarmTest::Confirmed);
        assert_eq!(test(10, 190), AlarmTest::TooFew);
        assert_eq!(test(200, 9800), AlarmTest::Refuted, "two in a hundred");
        assert_eq!(test(230, 9770), AlarmTest::Confirmed, "a 30th more than normal");
        assert_eq!(test(0, 0), AlarmTest::Refuted);
    }
}
