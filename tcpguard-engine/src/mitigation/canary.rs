//! Test whether the cookies that are sent reach the clients.
//!
//! Replies that leave by a way that does not lead to the clients are returned by none. Nor are those of a moment in
//! which no client comes, so silence alone is no verdict. Only replies to clients that are there count: to validated
//! clients, and to SYNs that were retransmitted with a client's timing, since a client that gets no answer retransmits
//! its SYN after one second and after three (RFC 6298 §2.1, §5.5). One cookie that is returned shows that replies reach
//! clients of its family.
//!
//! The replies of one address of a listener that is bound to all may take another way than those of the next, as where a
//! load balancer sends SYNs to one and health checks to the other. So each server address is judged as well, once
//! replies of another one of its family have reached clients. Before that the family is. Listeners at one address
//! share its way: where the replies of one reach clients, those of another port do.
//!
//! An attacker can send such SYNs: from an address of its own that completed a handshake before, or twice a second
//! apart. That takes the cookies from a family for a while, if none of its clients at any port of the address
//! returns one from the moment on in which cookies are sent.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
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
    /// Server addresses of which no cookie was returned.
    addresses: BTreeMap<IpAddr, Unreturned>,
}

/// Replies from one address of a listener that is bound to all, since cookies are sent.
#[derive(Clone, Copy, Debug)]
pub struct AddressReplies {
    /// The server address.
    pub addr: IpAddr,
    /// Replies to clients, as of [`ReturnedCookies::asked`]: at most 255.
    pub asked: u8,
    /// True if a cookie was returned.
    pub returned: bool,
}

/// Replies from a server address of which none was returned, and their number at the last look.
#[derive(Clone, Debug, Default)]
struct Unreturned {
    replies: Replies,
    asked: u8,
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
        *self =
            Self { families: Some(Box::new([replies(), replies()])), addresses: BTreeMap::new() };
    }

    /// Starts anew for one family.
    pub fn restart(&mut self, family: Family, now: Timestamp) {
        if let Some(families) = &mut self.families {
            families[family as usize] = Replies { since: now, ..Replies::default() };
        }
    }

    /// Returns whether a client of this family has returned a cookie.
    pub fn reaches(&self, family: Family) -> bool {
        self.families.as_deref().is_some_and(|families| families[family as usize].reach)
    }

    /// Adds a poll with what IPv4 and IPv6 clients asked for and returned. `elsewhere`: the families whose clients
    /// return cookies of another listener at the same address. Returns the family that gets no replies.
    pub fn poll(
        &mut self,
        now: Timestamp,
        returned: [ReturnedCookies; 2],
        elsewhere: &[Family],
    ) -> Option<(Family, Harm)> {
        let [v4, v6] = self.families.as_deref_mut()?;
        let harms = [v4.poll(now, returned[0]), v6.poll(now, returned[1])];
        let mut harmed = Family::ALL.into_iter().zip(harms);
        harmed.find_map(|(family, harm)| {
            Some((family, harm.filter(|_| !elsewhere.contains(&family))?))
        })
    }

    /// Adds what is known of each server address. Returns those whose clients get no replies.
    pub fn poll_addresses(
        &mut self,
        now: Timestamp,
        addresses: &[AddressReplies],
    ) -> Vec<(IpAddr, Harm)> {
        let Some(families) = self.families.as_deref() else { return Vec::new() };
        let mut before = std::mem::take(&mut self.addresses);
        let mut harmed = Vec::new();
        for &AddressReplies { addr, asked, .. } in
            addresses.iter().filter(|one| one.asked > 0 && !one.returned)
        {
            let new = || Unreturned {
                replies: Replies { since: now, ..Replies::default() },
                ..Unreturned::default()
            };
            let mut of = before.remove(&addr).unwrap_or_else(new);
            let newly = asked.saturating_sub(of.asked).into();
            let harm = of
                .replies
                .poll(now, ReturnedCookies { asked: newly, ..ReturnedCookies::default() });
            of.asked = asked;
            self.addresses.insert(addr, of);
            harmed.extend(
                harm.filter(|_| families[Family::of(addr) as usize].reach).map(|harm| (addr, harm)),
            );
        }
        harmed
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
    use std::net::Ipv4Addr;

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
            let (family, harm) = canary.poll(start + POLL * number, [v4, v6], &[])?;
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
    fn replies_of_another_listener_at_the_address_that_reach_clients_speak_for_this_one() {
        let found = |elsewhere: &[Family]| {
            let mut canary = Canary::default();
            let start = Timestamp::from_millis(10_000);
            canary.start(start);
            (1..40).find_map(|number| {
                let v4 = ReturnedCookies { asked: 5, ..ReturnedCookies::default() };
                canary.poll(start + POLL * number, [v4, ReturnedCookies::default()], elsewhere)
            })
        };
        assert!(found(&[]).is_some());
        assert!(found(&[Family::Ipv6]).is_some(), "the other family has another way");
        assert_eq!(found(&[Family::Ipv4]), None);
    }

    #[test]
    fn one_returned_cookie_shows_that_replies_reach_clients() {
        assert_eq!(found(|poll| (5, u64::from(poll == 3))), None);
    }

    const HEALTHY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const BEHIND: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 80));

    /// The first harm to clients of an address, looked at each second, where health checks return cookies of another one
    /// from the second `healthy` on. `asked` and whether one was returned are given by second.
    fn found_at(healthy: u32, address: impl Fn(u32) -> (u8, bool)) -> Option<(u32, Harm)> {
        let mut canary = Canary::default();
        let start = Timestamp::from_millis(10_000);
        canary.start(start);
        (1..60).find_map(|second| {
            let now = start + Duration::from_secs(second.into());
            let valid = u64::from(second >= healthy);
            let returned = ReturnedCookies { asked: 1, valid, ..ReturnedCookies::default() };
            let _ = canary.poll(now, [returned, ReturnedCookies::default()], &[]);
            let (asked, is_returned) = address(second);
            let harmed = canary.poll_addresses(
                now,
                &[
                    AddressReplies { addr: HEALTHY, asked: u8::MAX, returned: valid > 0 },
                    AddressReplies { addr: BEHIND, asked, returned: is_returned },
                ],
            );
            let (addr, harm) = harmed.into_iter().next()?;
            assert_eq!(addr, BEHIND, "cookies of the other one are returned");
            Some((second, harm))
        })
    }

    #[test]
    fn cookies_of_another_address_prove_nothing_for_this_one() {
        let found = found_at(1, |second| (4 * second as u8, false));
        assert_eq!(found, Some((4, Harm::None { asked: 12, for_s: 3.0 })));
        assert_eq!(found_at(1, |second| (4 * second as u8, second > 2)), None, "one was returned");
        assert_eq!(found_at(1, |_| (7, false)), None, "few");
        assert_eq!(found_at(1, |_| (0, false)), None, "no client comes");
        let saturated = found_at(1, |second| (second.saturating_mul(100).min(255) as u8, false));
        assert!(saturated.is_some_and(|(second, _)| second == 4), "{saturated:?}");
    }

    /// No cookie of any address is returned: it is the family that has none.
    #[test]
    fn an_address_is_judged_once_cookies_of_another_one_are_returned() {
        let found = found_at(20, |second| (second as u8, false));
        assert_eq!(found.map(|(second, _)| second), Some(20));
    }
}
