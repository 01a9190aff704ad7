//! Test whether the host completes the handshakes of clients with valid cookies.
//!
//! The host does not see a SYN to which XDP replies. Its packet filter may therefore drop the client's ACK as an
//! out-of-state segment, after the cookie in it was found valid. Only the kernel's count of completed handshakes
//! shows that.

use std::collections::VecDeque;
use std::time::Duration;

use super::breaker::Harm;
use crate::input::{ReturnedCookies, Timestamp};

/// Number of valid cookies that clients returned from which it means anything that the host completes none of
/// their handshakes. Of one network up to four a second count.
const LEAST: u64 = 4;
/// Time after the ACK within which a handshake is completed: it takes far less.
const DELAY: Duration = Duration::from_secs(1);
/// Number of valid cookies for which the host must complete at least one handshake.
const ONE_OF: u64 = 8;
/// Time without any completed handshake that counts as harm once the host has completed some: an attacker
/// with real addresses can send ACKs with valid cookies that the host refuses.
const SILENCE: Duration = Duration::from_secs(3);
/// Number of returned cookies of which at least one must be of a family for the harm to that family to count.
const FAMILY: u64 = 4;
/// Number of networks from which returned cookies make the harm to their family count in any case: a few
/// addresses of a family that hardly any client has decide nothing for the others.
const NETWORKS: u64 = 8;

/// Valid cookies and completed handshakes since cookies are sent, by family: a packet filter has rules for
/// each.
#[derive(Clone, Debug, Default)]
pub(crate) struct CookieCompletion {
    /// Time from which returned cookies count. Those that were returned before it may be of an earlier time.
    from: Timestamp,
    /// IPv4 and IPv6; `None` until cookies are sent: most listeners never do.
    families: Option<Box<[Family; 2]>>,
}

/// Valid cookies and completed handshakes of one family.
#[derive(Clone, Debug, Default)]
struct Family {
    /// Number of valid cookies that were returned since cookies are sent.
    all: u64,
    /// Number of networks from which they came since the last handshake was completed.
    networks: u64,
    /// Valid cookies of the last second, by poll. Their handshakes may still be under way.
    young: VecDeque<(Timestamp, u64)>,
    /// Number of valid cookies before that second, since the host last kept up with them.
    valid: u64,
    /// Number of their handshakes that were completed since then.
    completed: u64,
    /// True if the host has completed handshakes with cookies.
    proven: bool,
    /// Time of the last poll with a completed handshake, or of the start.
    last: Timestamp,
}

impl CookieCompletion {
    /// Starts anew, and counts from `from` on. Earlier completed handshakes and networks are not forgotten: the
    /// kernel counts a network once.
    pub fn start(&mut self, from: Timestamp) {
        let before = self.families.take().unwrap_or_default();
        let families = before.map(|Family { proven, networks, .. }| Family {
            proven,
            networks,
            last: from,
            ..Family::default()
        });
        *self = Self { from, families: Some(Box::new(families)) };
    }

    /// Adds a poll with the cookies that were returned over IPv4 and over IPv6. Returns the harm that cookies do,
    /// where the host completes too few handshakes.
    pub fn poll(&mut self, now: Timestamp, returned: [ReturnedCookies; 2]) -> Option<Harm> {
        let families = self.families.as_deref_mut()?;
        for (family, returned) in families.iter_mut().zip(&returned) {
            family.networks += returned.networks;
        }
        if now <= self.from {
            return None;
        }
        let [v4, v6] = families;
        let harms = [v4.poll(now, returned[0]), v6.poll(now, returned[1])];
        reported(families, harms)
    }

    /// Returns the same harm without waiting for handshakes that may be under way: for when it is known that
    /// clients are kept out.
    pub fn suspected(&self) -> Option<Harm> {
        let families = self.families.as_deref()?;
        reported(families, families.each_ref().map(Family::suspected))
    }
}

/// Returns the harm that counts, of the harm to each family.
fn reported(families: &[Family; 2], harms: [Option<Harm>; 2]) -> Option<Harm> {
    let all: u64 = families.iter().map(|family| family.all).sum();
    let proven = families.iter().any(|family| family.proven || family.completed > 0);
    let networks: u64 = families.iter().map(|family| family.networks).sum();
    let reported = |(harm, family): (Option<Harm>, &Family)| {
        harm.filter(|_| family.all * FAMILY >= all || family.networks >= NETWORKS)
    };
    let harm = harms.into_iter().zip(families).find_map(reported)?;
    // Where the host has completed a handshake, its set-up lets cookies through. Then, and where all came from
    // one network, valid cookies may be an attacker's with real addresses: that is for a while only.
    Some(if proven || networks < 2 { harm.for_a_while() } else { harm })
}

impl Family {
    fn poll(&mut self, now: Timestamp, returned: ReturnedCookies) -> Option<Harm> {
        let ReturnedCookies { valid, completed, networks: _ } = returned;
        self.all += valid;
        if valid > 0 {
            self.young.push_back((now, valid));
        }
        self.completed += completed;
        if completed > 0 {
            (self.last, self.networks) = (now, 0);
        }
        while let Some((_, valid)) = self.young.pop_front_if(|(at, _)| now.since(*at) >= DELAY) {
            self.valid += valid;
        }
        if self.valid < LEAST {
            return None;
        }
        let kept_up = match self.proven {
            false => self.completed * ONE_OF >= self.valid,
            true => self.completed > 0 || now.since(self.last) < SILENCE,
        };
        if !kept_up {
            return Some(self.harm(self.valid));
        }
        if self.completed > 0 {
            self.proven = true;
            (self.valid, self.completed) = (0, 0);
        }
        None
    }

    fn suspected(&self) -> Option<Harm> {
        let valid = self.valid + self.young.iter().map(|(_, valid)| valid).sum::<u64>();
        let is_cause = valid >= LEAST && self.completed * ONE_OF < valid;
        is_cause.then(|| self.harm(valid))
    }

    fn harm(&self, valid: u64) -> Harm {
        let completed = self.completed;
        Harm::Unfinished { completed, valid, lasting: completed == 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_millis(250);

    /// Returns cookies of networks that were seen before.
    fn returned(valid: u64, completed: u64) -> ReturnedCookies {
        ReturnedCookies { valid, completed, networks: 0 }
    }

    /// Returns cookies of two new networks.
    fn from_two(valid: u64, completed: u64) -> ReturnedCookies {
        ReturnedCookies { valid, completed, networks: 2 }
    }

    /// Number of polls after which harm is reported, given (valid cookies, completed handshakes) by poll.
    fn reported(poll: impl Fn(u32) -> (u64, u64)) -> Option<u32> {
        let mut cookie_completion = CookieCompletion::default();
        let start = Timestamp::from_millis(10_000);
        cookie_completion.start(start);
        (1..=400).find(|&number| {
            let (valid, completed) = poll(number);
            cookie_completion
                .poll(start + POLL * number, [returned(valid, completed), returned(0, 0)])
                .is_some()
        })
    }

    #[test]
    fn a_host_that_completes_none_is_detected_a_second_after_the_fourth_client() {
        assert_eq!(reported(|_| (5, 0)), Some(1 + 4));
        assert_eq!(reported(|poll| (u64::from(poll % 10 == 0), 0)), Some(40 + 4), "few clients");
        assert_eq!(reported(|poll| (if poll < 4 { 1 } else { 0 }, 0)), None, "three are chance");
    }

    #[test]
    fn one_that_completes_them_is_not() {
        assert_eq!(reported(|poll| (5, if poll > 2 { 5 } else { 0 })), None, "half a second later");
        assert_eq!(reported(|poll| (1, u64::from(poll % 4 == 0))), None, "one of four");
        assert_eq!(reported(|_| (0, 0)), None);
    }

    #[test]
    fn one_of_many_is_as_good_as_none() {
        assert_eq!(reported(|poll| (10, u64::from(poll == 1))), Some(5));
    }

    #[test]
    fn a_later_breakage_is_detected_when_nothing_completes_for_three_seconds() {
        let broken = reported(|poll| (5, if poll < 40 { 5 } else { 0 }));
        assert_eq!(broken, Some(39 + 12));
    }

    /// A packet filter may have rules for one family only.
    #[test]
    fn what_one_family_completes_says_nothing_of_the_other() {
        let reported = |v4: ReturnedCookies, v6: ReturnedCookies| {
            let mut cookie_completion = CookieCompletion::default();
            let start = Timestamp::from_millis(10_000);
            cookie_completion.start(start);
            let mut polls = (1..=400).map(|number| start + POLL * number);
            polls.find_map(|now| cookie_completion.poll(now, [v4, v6]))
        };
        assert_eq!(reported(returned(200, 200), returned(500, 500)), None);
        for (v4, v6) in [((200, 0), (500, 500)), ((500, 500), (200, 0))] {
            let harm = reported(returned(v4.0, v4.1), returned(v6.0, v6.1)).expect("harm");
            assert!(!harm.is_lasting(), "the other family proves that cookies can work: {harm:?}");
        }
        assert_eq!(reported(returned(0, 0), returned(500, 500)), None, "no client comes by it");
        let few = returned(5, 0);
        assert_eq!(reported(returned(500, 500), few), None, "an attacker with a few addresses");
        let many = ReturnedCookies { networks: 1, ..few };
        assert!(reported(returned(500, 500), many).is_some(), "from eight networks");
    }

    #[test]
    fn only_a_host_that_never_completed_one_is_not_retried() {
        let start = Timestamp::from_millis(10_000);
        // (Clients, completed) by poll.
        let is_lasting = |poll: &dyn Fn(u32) -> (u64, u64), again: u32| {
            let mut cookie_completion = CookieCompletion::default();
            cookie_completion.start(start);
            let harm = (1..=400).find_map(|number| {
                if number == again {
                    cookie_completion.start(start + POLL * number);
                }
                let (valid, completed) = poll(number);
                cookie_completion
                    .poll(start + POLL * number, [from_two(valid, completed), returned(0, 0)])
            });
            harm.expect("harm").is_lasting()
        };
        assert!(is_lasting(&|_| (5, 0), 0));
        assert!(
            !is_lasting(&|poll| (400, if poll < 6 { 10 } else { 0 }), 0),
            "busy, many bad ACKs"
        );
        let silent = |poll| (5, if poll < 40 { 5 } else { 0 });
        assert!(!is_lasting(&silent, 0));
        assert!(!is_lasting(&silent, 60), "a full accept queue in between");
        let mut cookie_completion = CookieCompletion::default();
        cookie_completion.start(start);
        let mut polls = (1..=400).map(|number| start + POLL * number);
        let harm =
            polls.find_map(|now| cookie_completion.poll(now, [returned(4, 0), returned(0, 0)]));
        assert!(!harm.expect("harm").is_lasting(), "all from one network");
    }

    /// Clients of two networks, which the kernel counts in the first poll after cookies are sent and never again.
    #[test]
    fn networks_are_remembered_when_cookies_are_retried() {
        let mut cookie_completion = CookieCompletion::default();
        let start = Timestamp::from_millis(10_000);
        for from in [start, start + POLL * 400] {
            cookie_completion.start(from + POLL);
            let networks = if from == start { 2 } else { 0 };
            cookie_completion.poll(
                from + POLL,
                [ReturnedCookies { networks, ..returned(4, 0) }, returned(0, 0)],
            );
            let mut polls = (2..=400).map(|number| from + POLL * number);
            let harm =
                polls.find_map(|now| cookie_completion.poll(now, [returned(4, 0), returned(0, 0)]));
            assert!(harm.expect("harm").is_lasting());
        }
    }

    /// The checksum of these ACKs may be wrong, which XDP does not see.
    #[test]
    fn acks_that_an_attacker_adds_later_do_not_outvote_the_clients() {
        let added = |poll| if poll < 40 { (5, 5) } else { (5000, u64::from(poll % 8 == 0)) };
        assert_eq!(reported(added), None);
    }
}
