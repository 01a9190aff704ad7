//! Headers of SYNs for `tcpguard capture`: kept for as long as it asks for them.

use std::collections::VecDeque;
use std::time::Duration;

use tcpguard_engine::Timestamp;
use tcpguard_host::time::Clock;

use super::Agent;
use crate::control::Response;
use crate::documents::{CapturedSyn, CapturedSyns};
use crate::driver::SampledSyn;

/// Headers are kept for this long after a request. The command line asks several times a second.
const PATIENCE: Duration = Duration::from_secs(3);
/// SYNs kept for a client that asks late.
const CAPACITY: usize = 2048;

/// The SYNs that XDP dropped or answered, the latest of them.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Capture {
    until: Option<Timestamp>,
    syns: VecDeque<CapturedSyn>,
    /// Number of the last one.
    last: u64,
}

impl Capture {
    /// Returns whether headers are to be kept. Without a client, they are dropped.
    pub fn is_on(&mut self, now: Timestamp) -> bool {
        let on = self.until.is_some_and(|until| now < until);
        if !on && self.until.take().is_some() {
            self.syns = VecDeque::new();
        }
        on
    }

    /// Keeps those of a poll that XDP dropped or answered.
    pub fn note(&mut self, sampled: &[SampledSyn], clock: Clock) {
        for SampledSyn { header, fate, one_in } in sampled.iter().filter(|_| self.until.is_some()) {
            let at = clock.time_at(header.at).0.as_nanosecond();
            let at_ns = u64::try_from(at).unwrap_or_default();
            let Some(syn) = CapturedSyn::build(at_ns, &header.bytes, *fate, *one_in) else {
                continue;
            };
            if self.syns.len() == CAPACITY {
                self.syns.pop_front();
            }
            self.syns.push_back(syn);
            self.last += 1;
        }
    }

    /// The SYNs after number `after`; none of those before the first request.
    fn since(&mut self, now: Timestamp, after: Option<u64>) -> Response {
        self.until = Some(now + PATIENCE);
        // A number beyond the last one is an earlier agent's.
        let after = after.map_or(self.last, |after| if after > self.last { 0 } else { after });
        let new = usize::try_from(self.last - after).unwrap_or(usize::MAX);
        let known = self.syns.len().saturating_sub(new);
        let syns = self.syns.range(known..).cloned().collect();
        Response::CapturedSyns(CapturedSyns { last: self.last, syns })
    }
}

impl Agent {
    pub(super) fn captured(&mut self, now: Timestamp, after: Option<u64>) -> Response {
        self.capture.since(now, after)
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_common::abi::Reason;
    use tcpguard_engine::SynHeader;

    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn clock() -> Clock {
        Clock { now: at(10_000), wall: "2026-01-02T03:04:05Z".parse().unwrap() }
    }

    fn syn(fate: Reason, number: u8) -> SampledSyn {
        let header = SynHeader { at: at(9_000), bytes: vec![number; 40], length: None };
        SampledSyn { header, fate, one_in: 8 }
    }

    /// The first bytes of the SYNs in a response, and the number of the last.
    fn shown(response: Response) -> (Vec<u8>, u64) {
        let CapturedSyns { last, syns } = response.try_as_captured_syns().expect("SYNs");
        (syns.iter().map(|syn| syn.header[0]).collect(), last)
    }

    #[test]
    fn what_xdp_dropped_or_answered_is_handed_over_once_and_nothing_else() {
        let mut capture = Capture::default();
        assert!(!capture.is_on(at(0)));
        capture.note(&[syn(Reason::DropSource, 1)], clock());
        assert_eq!(shown(capture.since(at(0), None)), (vec![], 0), "from now on");
        assert!(capture.is_on(at(2_999)));
        let fates = [Reason::Syn, Reason::DropSignature, Reason::WouldDropSource, Reason::Cookie];
        let syns: Vec<_> = (2..).zip(fates).map(|(number, fate)| syn(fate, number)).collect();
        capture.note(&syns, clock());
        assert_eq!(shown(capture.since(at(1_000), Some(0))), (vec![3, 5], 2));
        assert_eq!(shown(capture.since(at(1_000), Some(1))), (vec![5], 2));
        assert_eq!(shown(capture.since(at(1_000), Some(2))), (vec![], 2));
        assert_eq!(shown(capture.since(at(1_000), Some(77))).0, [3, 5], "of an earlier agent");
        let syns = capture.since(at(1_000), Some(0)).try_as_captured_syns().expect("SYNs").syns;
        assert_eq!((syns[0].reason.as_str(), syns[0].answered), ("drop_signature", false));
        assert_eq!((syns[1].reason.as_str(), syns[1].answered), ("cookie", true));
        assert_eq!((syns[0].one_in, syns[0].at_ns), (8, 1_767_323_044_000_000_000));
        assert!(!capture.is_on(at(4_000)), "the client has gone");
        assert_eq!(shown(capture.since(at(5_000), None)), (vec![], 2), "and they with it");
    }

    #[test]
    fn a_client_that_asks_late_gets_the_latest() {
        let mut capture = Capture::default();
        capture.since(at(0), None);
        let many: Vec<_> = (0..3 * CAPACITY).map(|_| syn(Reason::Cookie, 1)).collect();
        capture.note(&many, clock());
        let (syns, last) = shown(capture.since(at(1), Some(5)));
        assert_eq!((syns.len(), last), (CAPACITY, 3 * CAPACITY as u64));
    }
}
