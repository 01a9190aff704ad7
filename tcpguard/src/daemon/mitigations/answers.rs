//! The check whether SYNs get cookies at all where cookies are sent: a set-up of the host that no other check knows may
//! keep the programs from replying to any.

use std::collections::BTreeMap;
use std::time::Duration;

use tcpguard_common::abi::{UNANSWERED_SLOTS, Unanswered};
use tcpguard_engine::{ListenerCounters, ListenerId, Timestamp};
use tcpguard_host::obstacle::Obstacle;

/// Time without a cookie after which the reason counts.
const SPAN: Duration = Duration::from_secs(3);
/// SYNs that got none in that time, at least.
const LEAST: u64 = 64;

/// SYNs of the host that got no cookie, by [`Unanswered`].
type Reasons = [u64; UNANSWERED_SLOTS];

/// The reasons that lie with the host. The others lie with the SYN: any sender can send nothing but fragments, and
/// cookies remain of use to those who do not.
const OF_HOST: [Unanswered; 4] =
    [Unanswered::NoRecord, Unanswered::NoWay, Unanswered::OtherMac, Unanswered::NoCookie];

/// The counters of a listener when it was last seen to answer.
#[derive(Clone, Copy, Debug)]
struct Last {
    at: Timestamp,
    sent: u64,
    /// SYNs that no rule dropped.
    syns: u64,
    reasons: Reasons,
}

/// The listeners at which cookies are sent.
#[derive(Debug, Default)]
pub(super) struct Answers {
    last: BTreeMap<ListenerId, Last>,
}

impl Answers {
    /// Drops the listeners at which no cookies are sent any longer.
    pub fn retain(&mut self, is_armed: impl Fn(ListenerId) -> bool) {
        self.last.retain(|id, _| is_armed(*id));
    }

    /// Notes the counters of a listener, and the reasons for which SYNs of the host got no cookie. Returns the obstacle
    /// if SYNs came for a while and none of them was answered.
    pub fn note(
        &mut self,
        now: Timestamp,
        id: ListenerId,
        counters: &ListenerCounters,
        reasons: Reasons,
    ) -> Option<Obstacle> {
        let (sent, ruled) =
            (counters.cookies_sent, counters.dropped_source + counters.dropped_signature);
        let present = Last { at: now, sent, syns: counters.syn.saturating_sub(ruled), reasons };
        let last = self.last.entry(id).or_insert(present);
        if present.sent != last.sent {
            *last = present;
            return None;
        }
        let since = |why: &Unanswered| {
            let why = *why as usize;
            reasons[why].saturating_sub(last.reasons[why])
        };
        let syns = present.syns.saturating_sub(last.syns);
        let why = OF_HOST.into_iter().max_by_key(since)?;
        if now.since(last.at) < SPAN || syns < LEAST || since(&why) < LEAST {
            return None;
        }
        self.last.remove(&id);
        Some(Obstacle::NoneAnswered { syns, why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ListenerId = ListenerId(7);

    /// Notes the counters after so many seconds: the cookies sent so far, and the SYNs with the reason why they got
    /// none.
    fn note(
        answers: &mut Answers,
        second: u64,
        sent: u64,
        (why, syn): (Unanswered, u64),
    ) -> Option<Obstacle> {
        let mut reasons = Reasons::default();
        reasons[why as usize] = syn;
        let counters = ListenerCounters { syn, cookies_sent: sent, ..ListenerCounters::default() };
        answers.note(Timestamp::from_millis(1000 * second), ID, &counters, reasons)
    }

    /// The second in which an obstacle is reported, and it.
    fn reported(
        sent: impl Fn(u64) -> u64,
        unanswered: impl Fn(u64) -> (Unanswered, u64),
    ) -> Option<(u64, Obstacle)> {
        let mut answers = Answers::default();
        (0..60).find_map(|second| {
            let obstacle = note(&mut answers, second, sent(second), unanswered(second))?;
            Some((second, obstacle))
        })
    }

    #[test]
    fn none_of_many_for_three_seconds_is_an_obstacle_and_names_its_reason() {
        let found = reported(|_| 9, |second| (Unanswered::OtherMac, 1000 * second));
        let expected = Obstacle::NoneAnswered { syns: 3000, why: Unanswered::OtherMac };
        assert_eq!(found, Some((3, expected)));
        assert_eq!(reported(|_| 9, |second| (Unanswered::OtherMac, second)), None, "few");
        let some = reported(|second| second / 2, |second| (Unanswered::NoWay, 1000 * second));
        assert_eq!(some, None, "some were answered");
    }

    #[test]
    fn what_any_sender_can_do_to_its_own_syns_is_no_obstacle() {
        for why in
            [Unanswered::Fragment, Unanswered::Signed, Unanswered::NoReply, Unanswered::Withheld]
        {
            assert_eq!(reported(|_| 0, |second| (why, 1000 * second)), None, "{why:?}");
        }
    }

    #[test]
    fn it_is_judged_anew_when_cookies_are_sent_again() {
        let mut answers = Answers::default();
        assert_eq!(note(&mut answers, 0, 0, (Unanswered::NoWay, 0)), None);
        answers.retain(|_| false);
        assert_eq!(note(&mut answers, 9, 0, (Unanswered::NoWay, 900)), None);
        assert!(note(&mut answers, 12, 0, (Unanswered::NoWay, 1200)).is_some());
    }
}
