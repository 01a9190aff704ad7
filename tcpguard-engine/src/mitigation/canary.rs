//! Test whether the cookies that are sent reach the clients.
//!
//! Replies that leave by a way that does not lead to the clients are returned by none. Nor are those of a moment in
//! which no client comes, so silence alone is no verdict. Only replies to clients that are there count: to validated
//! clients, and to SYNs that were retransmitted with a client's timing, since a client that gets no answer retransmits
//! its SYN after one second and after three (RFC 6298 §2.1, §5.5). One cookie that is returned shows that replies reach
//! clients of its family.
//!
//! An attacker can send such SYNs: from an address of its own that completed a handshake before, or twice a second
//! apart. That takes the cookies from a family for a while, if none of its clients returns one from the moment on
//! in which cookies are sent.

use std::collections::VecDeque;
use std::time::Duration;

use super::breaker::Harm;
use crate::input::{Family, ReturnedCookies, Timestamp, constants, rate};

constants! {
    /// Time after which some client must have returned a cookie, if clients asked for connections. Otherwise, cookies
    /// are withdrawn.
    pub(crate) const CANARY: Duration = 3 Seconds in 3..=60,
        "Weighed against distant clients that must retransmit a lost SYN (RFC 6298: after 1 s), \
         and against the time for which clients fail to connect if cookies do not work.";
}

/// Replies to clients from which it means anything that none is returned.
const LEAST: u64 = 8;
/// Time within which a client returns its cookie, at least: longer than any round trip on Earth.
const DELAY: Duration = Duration::from_secs(1);

/// Replies to clients since cookies are sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Canary {
    /// IPv4 and IPv6; `None` until cookies are sent: most listeners never do.
    families: Option<Box<[Replies; 2]>>,
}

/// Replies to the clients of one family.
#[derive(Clone, Debug, Default)]
struct Replies {
    since: Timestamp,
    /// Those of the last second, by poll. Their cookies may still be under way.
    young: VecDeque<(Timestamp, u64)>,
    /// Those before it.
    asked: u64,
    /// True if a cookie was returned.
    reach: bool,
}

impl Canary {
    /// Starts anew.
    pub fn start(&mut self, now: Timestamp) {
        let replies = || Replies { since: now, ..Replies::default() };
        self.families = Some(Box::new([replies(), replies()]));
    }

    /// Starts anew for one family.
    pub fn restart(&mut self, family: Family, now: Timestamp) {
        if let Some(families) = &mut self.families {
            families[family as usize] = Replies { since: now, ..Replies::default() };
        }
    }

    /// Adds a poll with what IPv4 and IPv6 clients asked for and returned. Returns the family that gets no replies.
    pub fn poll(
        &mut self,
        now: Timestamp,
        returned: [ReturnedCookies; 2],
    ) -> Option<(Family, Harm)> {
        let [v4, v6] = self.families.as_deref_mut()?;
        let harms = [v4.poll(now, returned[0]), v6.poll(now, returned[1])];
        Family::ALL.into_iter().zip(harms).find_map(|(family, harm)| Some((family, harm?)))
    }
}

impl Replies {
    fn poll(&mut self, now: Timestamp, returned: ReturnedCookies) -> Option<Harm> {
        self.reach |= returned.valid > 0;
        if self.reach {
            self.young = VecDeque::new();
            return None;
        }
        if returned.asked > 0 {
            self.young.push_back((now, returned.asked));
        }
        while let Some((_, asked)) = self.young.pop_front_if(|(at, _)| now.since(*at) >= DELAY) {
            self.asked += asked;
        }
        let waited = now.since(self.since);
        let harm = Harm::None { asked: self.asked, for_s: rate(waited.as_secs_f64()) };
        (self.asked >= LEAST && waited >= CANARY).then_some(harm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_millis(250);

    /// Returns the number of polls after which IPv6 cookies are found not to reach clients, given (asked, returned) by
    /// poll.
    fn found(poll: impl Fn(u32) -> (u64, u64)) -> Option<(u32, Harm)> {
        let mut canary = Canary::default();
        let start = Timestamp::from_millis(10_000);
        canary.start(start);
        (1..400).find_map(|number| {
            let (asked, valid) = poll(number);
            let v6 = ReturnedCookies { asked, valid, ..ReturnedCookies::default() };
            let v4 = ReturnedCookies { asked: 5, valid: 5, ..v6 };
            let (family, harm) = canary.poll(start + POLL * number, [v4, v6])?;
            assert_eq!(family, Family::Ipv6, "the other one has replies");
            Some((number, harm))
        })
    }

    #[test]
    fn clients_that_get_no_answer_are_noticed_after_three_seconds() {
        let (poll, harm) = found(|_| (1, 0)).expect("found");
        assert_eq!((poll, harm), (12, Harm::None { asked: 8, for_s: 3.0 }));
        let rare = found(|poll| (u64::from(poll % 8 == 0), 0)).expect("found");
        assert_eq!(rare.0, 8 * 8 + 4, "one in two seconds");
    }

    /// Twenty clients a second stop at the moment in which cookies begin.
    #[test]
    fn clients_that_have_gone_are_no_verdict() {
        assert_eq!(found(|_| (0, 0)), None);
        assert_eq!(found(|poll| (if poll < 2 { 5 } else { 0 }, 0)), None, "the last of them");
    }

    #[test]
    fn clients_that_come_later_have_time_to_return_their_cookies() {
        assert_eq!(found(|poll| (if poll >= 40 { 50 } else { 0 }, u64::from(poll >= 43))), None);
    }

    #[test]
    fn one_returned_cookie_shows_that_replies_reach_clients() {
        assert_eq!(found(|poll| (5, u64::from(poll == 3))), None);
    }
}
