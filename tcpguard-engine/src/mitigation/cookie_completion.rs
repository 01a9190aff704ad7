//! Test whether the host completes the handshakes of clients with valid cookies.
//!
//! The host does not see a SYN to which XDP replies. Its packet filter may therefore drop the client's ACK as an
//! out-of-state segment, after the cookie in it was found valid. Only the kernel's count of completed handshakes
//! shows that.
//!
//! A completed handshake belongs to the cookie that it completes, and both count together, a second after the
//! cookie. So clients that stop leave nothing open, and no verdict follows from their silence. The families are
//! judged apart, because a packet filter has rules for each.
//!
//! The stack also drops ACKs with a wrong checksum, which XDP does not verify and which an attacker sends at will
//! from addresses of its own. Once a family has completed handshakes, the host's count of wrong checksums
//! (`InCsumErrors`) therefore explains as many missing completions. Before that it explains none: an attacker that
//! sends wrong checksums, from any address, would otherwise keep cookies that the packet filter breaks.

use std::collections::VecDeque;
use std::time::Duration;

use super::breaker::Harm;
use crate::input::{Family, ReturnedCookies, Timestamp};

/// Number of valid cookies that clients returned from which it means anything that the host completes none of
/// their handshakes. Of one network up to four a second count.
const LEAST: u64 = 4;
/// Time after the ACK within which a handshake is completed: it takes far less.
const DELAY: Duration = Duration::from_secs(1);
/// Number of valid cookies for which the host must complete at least one handshake.
const ONE_OF: u64 = 8;
/// Time for which the host completes none of the handshakes of the cookies that are returned, from which that is
/// harm once it has completed some: an attacker with real addresses can send ACKs with valid cookies that the host
/// refuses.
const SILENCE: Duration = Duration::from_secs(3);
/// Number of returned cookies of which at least one must be of a family for the harm to it to end the cookies of
/// both, where none of the other has led to a completed handshake.
const SHARE: u64 = 4;
/// Number of networks from which returned cookies make the harm to their family count in any case: a few
/// addresses of a family that hardly any client has decide nothing for the others.
const NETWORKS: u64 = 8;

/// Valid cookies and completed handshakes since cookies are sent, by family.
#[derive(Clone, Debug, Default)]
pub(crate) struct CookieCompletion {
    /// Time from which returned cookies count. Those that were returned before it may be of an earlier time.
    from: Timestamp,
    /// IPv4 and IPv6; `None` until cookies are sent: most listeners never do.
    families: Option<Box<[Handshakes; 2]>>,
}

/// Valid cookies and completed handshakes of one family.
#[derive(Clone, Debug, Default)]
struct Handshakes {
    /// Number of valid cookies that were returned since cookies are sent.
    all: u64,
    /// Number of networks from which they came since the last handshake was completed.
    networks: u64,
    /// Cookies of the last second, by poll. Their handshakes may still be under way.
    young: VecDeque<Returned>,
    /// Number of valid cookies before that second, since the host last kept up with them.
    valid: u64,
    /// Number of their handshakes that were completed.
    completed: u64,
    /// Time since which the host has completed none of the handshakes of the cookies that are returned.
    silent: Option<Timestamp>,
    /// True if the host has ever completed a handshake with a cookie.
    works: bool,
    /// True if it has kept up with the cookies that were returned.
    proven: bool,
    /// Time of the last poll with a completed handshake, or of the start.
    last: Timestamp,
}

/// Valid cookies that were returned in one poll.
#[derive(Clone, Copy, Debug)]
struct Returned {
    at: Timestamp,
    valid: u64,
    /// Number of their handshakes that are completed.
    completed: u64,
}

impl CookieCompletion {
    /// Starts anew, and counts from `from` on. Earlier completed handshakes and networks are not forgotten: the
    /// kernel counts a network once.
    pub fn start(&mut self, from: Timestamp) {
        let before = self.families.take().unwrap_or_default();
        let families = before.map(|handshakes| handshakes.anew(from));
        *self = Self { from, families: Some(Box::new(families)) };
    }

    /// Starts anew for one family.
    pub fn restart(&mut self, family: Family, from: Timestamp) {
        if let Some(families) = &mut self.families {
            let handshakes = &mut families[family as usize];
            *handshakes = std::mem::take(handshakes).anew(from);
        }
    }

    /// Adds a poll with the cookies that were returned over IPv4 and over IPv6. The host has received so many
    /// segments with a wrong checksum meanwhile. Returns the family to which cookies do harm, where the host
    /// completes too few handshakes.
    pub fn poll(
        &mut self,
        now: Timestamp,
        returned: [ReturnedCookies; 2],
        wrong_checksums: u64,
    ) -> Option<(Family, Harm)> {
        let families = self.families.as_deref_mut()?;
        for (handshakes, returned) in families.iter_mut().zip(&returned) {
            handshakes.networks += returned.networks;
        }
        if now <= self.from {
            return None;
        }
        let [v4, v6] = families;
        let harms = [
            v4.poll(now, returned[0], wrong_checksums),
            v6.poll(now, returned[1], wrong_checksums),
        ];
        reported(families, harms)
    }

    /// Returns the same harm without waiting for handshakes that may be under way: for when it is known that
    /// clients are kept out.
    pub fn suspected(&self) -> Option<(Family, Harm)> {
        let families = self.families.as_deref()?;
        reported(families, families.each_ref().map(Handshakes::suspected))
    }

    /// Returns whether the host has completed handshakes with cookies of this family.
    pub fn works(&self, family: Family) -> bool {
        self.families.as_deref().is_some_and(|families| families[family as usize].works)
    }
}

/// Returns the harm that counts, of the harm to each family. That to a family whose cookies can be withheld alone
/// always does.
fn reported(families: &[Handshakes; 2], harms: [Option<Harm>; 2]) -> Option<(Family, Harm)> {
    let all: u64 = families.iter().map(|handshakes| handshakes.all).sum();
    let networks: u64 = families.iter().map(|handshakes| handshakes.networks).sum();
    let reported = |(family, harm): (Family, Option<Harm>)| {
        let of = &families[family as usize];
        let counts = families[family.other() as usize].works
            || of.all * SHARE >= all
            || of.networks >= NETWORKS;
        harm.filter(|_| counts).map(|harm| (family, harm))
    };
    let (family, harm) = Family::ALL.into_iter().zip(harms).find_map(reported)?;
    // Where the host has completed a handshake, its set-up lets cookies through. Then, and where all came from
    // one network, valid cookies may be an attacker's with real addresses: that is for a while only.
    let works = families.iter().any(|handshakes| handshakes.works);
    Some((family, if works || networks < 2 { harm.for_a_while() } else { harm }))
}

impl Handshakes {
    /// Returns what is remembered when cookies are sent again, and counted from `from` on.
    fn anew(self, from: Timestamp) -> Self {
        let Self { works, proven, networks, .. } = self;
        Self { works, proven, networks, last: from, ..Self::default() }
    }

    fn poll(
        &mut self,
        now: Timestamp,
        returned: ReturnedCookies,
        wrong_checksums: u64,
    ) -> Option<Harm> {
        self.add(now, returned, wrong_checksums);
        while let Some(old) = self.young.pop_front_if(|young| now.since(young.at) >= DELAY) {
            self.valid += old.valid;
            self.completed += old.completed;
            if old.completed < old.valid {
                self.silent.get_or_insert(old.at.max(self.last));
            }
        }
        if self.valid < LEAST {
            return None;
        }
        let kept_up = match self.proven {
            false => self.completed * ONE_OF >= self.valid,
            true => {
                self.completed > 0 || self.silent.is_none_or(|since| now.since(since) < SILENCE)
            }
        };
        if !kept_up {
            return Some(self.harm(self.valid, self.completed));
        }
        if self.completed > 0 {
            self.proven = true;
            (self.valid, self.completed, self.silent) = (0, 0, None);
        }
        None
    }

    /// Adds the cookies that were returned in a poll, and gives each completed handshake to a cookie of the last
    /// second: the kernel completes it at once, but the counts may be read in between. Likewise each wrong checksum.
    fn add(&mut self, now: Timestamp, returned: ReturnedCookies, wrong_checksums: u64) {
        let ReturnedCookies { valid, mut completed, .. } = returned;
        self.all += valid;
        if valid > 0 {
            self.young.push_back(Returned { at: now, valid, completed: 0 });
        }
        if completed > 0 {
            (self.last, self.works, self.networks, self.silent) = (now, true, 0, None);
        }
        for young in &mut self.young {
            let its = completed.min(young.valid - young.completed);
            young.completed += its;
            completed -= its;
        }
        let mut explained = if self.proven { wrong_checksums } else { 0 };
        for young in self.young.iter_mut().rev() {
            let its = explained.min(young.valid - young.completed);
            young.valid -= its;
            explained -= its;
        }
    }

    fn suspected(&self) -> Option<Harm> {
        let young = |count: fn(&Returned) -> u64| self.young.iter().map(count).sum::<u64>();
        let valid = self.valid + young(|returned| returned.valid);
        let completed = self.completed + young(|returned| returned.completed);
        let is_cause = valid >= LEAST && completed * ONE_OF < valid;
        is_cause.then(|| self.harm(valid, completed))
    }

    fn harm(&self, valid: u64, completed: u64) -> Harm {
        Harm::Unfinished { completed, valid, lasting: completed == 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_millis(250);

    /// Returns cookies of networks that were seen before.
    fn returned(valid: u64, completed: u64) -> ReturnedCookies {
        ReturnedCookies { valid, completed, ..ReturnedCookies::default() }
    }

    /// Returns cookies of two new networks.
    fn from_two(valid: u64, completed: u64) -> ReturnedCookies {
        ReturnedCookies { networks: 2, ..returned(valid, completed) }
    }

    /// Number of polls after which harm is reported, given (valid cookies, completed handshakes) by poll.
    fn reported(poll: impl Fn(u32) -> (u64, u64)) -> Option<u32> {
        let mut cookie_completion = CookieCompletion::default();
        let start = Timestamp::from_millis(10_000);
        cookie_completion.start(start);
        (1..=400).find(|&number| {
            let (valid, completed) = poll(number);
            cookie_completion
                .poll(start + POLL * number, [returned(valid, completed), returned(0, 0)], 0)
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
        assert_eq!(broken, Some(40 + 12));
    }

    /// Twenty a second for two seconds and silence for five, again and again: of the last second of each burst nothing
    /// may be left open. So with ten a second of one address, which an attacker has, and with counts that are read
    /// between a cookie and its completion.
    #[test]
    fn clients_that_stop_leave_nothing_open() {
        let bursts = |poll: u32, each: u64| if poll % 28 < 8 { each } else { 0 };
        assert_eq!(reported(|poll| (bursts(poll, 5), bursts(poll, 5))), None);
        assert_eq!(
            reported(|poll| (if poll < 12 { 3 } else { 0 }, if poll < 12 { 3 } else { 0 })),
            None
        );
        assert_eq!(
            reported(|poll| (bursts(poll, 4), bursts(poll - 1, 4))),
            None,
            "read in between"
        );
    }

    #[test]
    fn silence_is_counted_from_the_first_cookie_that_stays_open() {
        let after_a_pause = |poll| match poll {
            ..40 => (5, 5),
            40..100 => (0, 0),
            _ => (5, 0),
        };
        assert_eq!(reported(after_a_pause), Some(100 + 12));
    }

    /// The stack drops them, and counts them.
    #[test]
    fn acks_with_a_wrong_checksum_are_no_evidence_once_the_host_has_completed_handshakes() {
        let withdrawn = |worked: u32, wrong_checksums: u64| {
            let mut cookie_completion = CookieCompletion::default();
            let start = Timestamp::from_millis(10_000);
            cookie_completion.start(start);
            (1..=400).find(|&number| {
                let (completed, wrong) =
                    if number < worked { (5, 0) } else { (0, wrong_checksums) };
                let polled = [returned(5, completed), returned(0, 0)];
                cookie_completion.poll(start + POLL * number, polled, wrong).is_some()
            })
        };
        assert_eq!(withdrawn(40, 5), None);
        assert_eq!(withdrawn(40, 4), Some(40 + 12), "one a poll has no such reason");
        assert_eq!(withdrawn(40, 0), Some(40 + 12));
        assert_eq!(withdrawn(0, 500), Some(5), "a packet filter drops them all");
    }

    /// A packet filter may have rules for one family only.
    #[test]
    fn what_one_family_completes_says_nothing_of_the_other() {
        let reported = |v4: ReturnedCookies, v6: ReturnedCookies| {
            let mut cookie_completion = CookieCompletion::default();
            let start = Timestamp::from_millis(10_000);
            cookie_completion.start(start);
            let mut polls = (1..=400).map(|number| start + POLL * number);
            polls.find_map(|now| cookie_completion.poll(now, [v4, v6], 0))
        };
        assert_eq!(reported(returned(200, 200), returned(500, 500)), None);
        for (v4, v6, family) in
            [((200, 0), (500, 500), Family::Ipv4), ((500, 500), (5, 0), Family::Ipv6)]
        {
            let (harmed, harm) =
                reported(returned(v4.0, v4.1), returned(v6.0, v6.1)).expect("harm");
            assert_eq!(harmed, family, "the other keeps its cookies");
            assert!(!harm.is_lasting(), "the other family proves that cookies can work: {harm:?}");
        }
        assert_eq!(reported(returned(0, 0), returned(500, 500)), None, "no client comes by it");
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
                cookie_completion.poll(
                    start + POLL * number,
                    [from_two(valid, completed), returned(0, 0)],
                    0,
                )
            });
            harm.expect("harm").1.is_lasting()
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
            polls.find_map(|now| cookie_completion.poll(now, [returned(4, 0), returned(0, 0)], 0));
        assert!(!harm.expect("harm").1.is_lasting(), "all from one network");
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
                0,
            );
            let mut polls = (2..=400).map(|number| from + POLL * number);
            let harm = polls
                .find_map(|now| cookie_completion.poll(now, [returned(4, 0), returned(0, 0)], 0));
            assert!(harm.expect("harm").1.is_lasting());
        }
    }

    /// The host may refuse these ACKs for many reasons.
    #[test]
    fn acks_that_an_attacker_adds_later_do_not_outvote_the_clients() {
        let added = |poll| if poll < 40 { (5, 5) } else { (5000, u64::from(poll % 8 == 0)) };
        assert_eq!(reported(added), None);
    }
}
