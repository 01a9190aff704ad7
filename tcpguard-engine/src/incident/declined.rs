//! Rules that an incident does not ask for, whatever the evidence says, each with the end and the reason.

use std::collections::BTreeMap;

use tcpguard_common::abi::{Fingerprint, Mask};

use super::record::RemovedRule;
use crate::input::{Matcher, Mitigation, Timestamp};
use crate::rules::Wanted;

/// Replacement of a rule that made way for clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Instead {
    /// The SYNs that it dropped get SYN cookies.
    Cookies,
    /// No replacement is needed: nearly all of the SYNs that it still dropped were those of clients.
    Nothing,
}

/// Reason that a rule is not asked for.
#[derive(Clone, Debug)]
enum Why {
    /// The rule does harm, or could not be made.
    Refused,
    /// An operator removed it.
    Removed(RemovedRule),
    /// The rule made way for clients, and may be asked for again once its replacement has ended.
    Yielded(Wanted, Instead),
}

/// The declined rules, each with the time from which it may be asked for again.
#[derive(Clone, Debug, Default)]
pub(super) struct Declined(BTreeMap<Matcher, (Timestamp, Why)>);

impl Declined {
    /// Declines a rule until `until`.
    pub fn refuse(&mut self, matcher: Matcher, until: Timestamp) {
        self.0.insert(matcher, (until, Why::Refused));
    }

    /// Declines a rule until the removal by an operator no longer counts.
    pub fn give_up(&mut self, matcher: Matcher, removed: RemovedRule) {
        self.0.insert(matcher, (removed.until, Why::Removed(removed)));
    }

    /// Declines a rule that made way for clients, until [`Self::reclaim`].
    pub fn yield_to(&mut self, instead: Instead, wanted: Wanted) {
        self.0.insert(wanted.matcher, (Timestamp::MAX, Why::Yielded(wanted, instead)));
    }

    /// Forgets the entries that have expired.
    pub fn expire(&mut self, now: Timestamp) {
        self.0.retain(|_, (until, _)| now < *until);
    }

    /// No longer declines the rules that an operator removed, of one mitigation or of any. Returns
    /// these rules.
    pub fn take_up(&mut self, mitigation: Option<Mitigation>) -> Vec<Matcher> {
        let of_step = |matcher: &Matcher| {
            mitigation.is_none_or(|mitigation| matcher.mitigation() == mitigation)
        };
        let removed = self.0.iter().filter(|(_, (_, why))| matches!(why, Why::Removed(_)));
        let taken: Vec<Matcher> =
            removed.map(|(matcher, _)| *matcher).filter(|matcher| of_step(matcher)).collect();
        for matcher in &taken {
            self.0.remove(matcher);
        }
        taken
    }

    /// Stops declining the rules that had been replaced by cookies, because cookies no longer replace
    /// them. Where SYNs are left `unanswered`, this includes the rules that had been withdrawn without
    /// a replacement. Returns these rules.
    pub fn reclaim(&mut self, unanswered: bool) -> Vec<Wanted> {
        let yielded = self.0.values().filter_map(|(_, why)| match why {
            Why::Yielded(wanted, Instead::Cookies) => Some(wanted.clone()),
            Why::Yielded(wanted, Instead::Nothing) if unanswered => Some(wanted.clone()),
            _ => None,
        });
        let reclaimed: Vec<Wanted> = yielded.collect();
        for wanted in &reclaimed {
            self.0.remove(&wanted.matcher);
        }
        reclaimed
    }

    /// Declines these rules for good, if they have made way for clients.
    pub fn refuse_for_good(&mut self, which: impl Fn(&Matcher) -> bool) {
        for (matcher, (_, why)) in &mut self.0 {
            if matches!(why, Why::Yielded(..)) && which(matcher) {
                *why = Why::Refused;
            }
        }
    }

    /// Returns whether a rule, or one that it would include, is declined.
    pub fn has(&self, now: Timestamp, matcher: &Matcher) -> bool {
        self.at(now).any(|(declined, _)| is_part(declined, matcher))
    }

    /// Returns the removed rule, where an operator removed this rule or one that it would include.
    pub fn has_removed(&self, now: Timestamp, matcher: &Matcher) -> Option<&RemovedRule> {
        self.at(now).find_map(|(declined, why)| match why {
            Why::Removed(removed) if is_part(declined, matcher) => Some(removed),
            _ => None,
        })
    }

    /// The rules that an operator removed.
    pub fn removed(&self) -> impl Iterator<Item = &RemovedRule> {
        self.0.values().filter_map(|(_, why)| match why {
            Why::Removed(removed) => Some(removed),
            _ => None,
        })
    }

    /// Returns the rules that are declined at `now`.
    fn at(&self, now: Timestamp) -> impl Iterator<Item = (&Matcher, &Why)> {
        let declined = self.0.iter().filter(move |(_, (until, _))| now < *until);
        declined.map(|(matcher, (_, why))| (matcher, why))
    }
}

/// Returns whether a rule is another one, or one of signatures drops all that the other drops.
fn is_part(rule: &Matcher, of: &Matcher) -> bool {
    match (rule, of) {
        (
            Matcher::Signature { fingerprint: old, mask: old_mask, .. },
            Matcher::Signature { mask, fingerprint, .. },
        ) => includes(*mask, *old_mask) && old.masked(*mask) == *fingerprint,
        _ => rule == of,
    }
}

/// Returns whether `wide` compares nothing that `narrow` does not compare.
fn includes(wide: Mask, narrow: Mask) -> bool {
    let all = Fingerprint {
        options: 1,
        mss: 1,
        window: 1,
        ip_id: 1,
        quirks: 1,
        wscale: 1,
        ttl: 1,
        pad: [0; 6],
    };
    all.masked(narrow).masked(wide) == all.masked(wide)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::input::{ListenerId, Ports, RuleId, RuleReason};

    const NOW: Timestamp = Timestamp::from_millis(60_000);

    fn source(host: u8) -> Matcher {
        Matcher::Source(ipnet::Ipv4Net::from(Ipv4Addr::new(192, 0, 2, host)).into(), Ports::EVERY)
    }

    fn signature() -> Matcher {
        Matcher::Signature {
            listener: ListenerId(1),
            mask: Mask::Full,
            fingerprint: Fingerprint::default(),
        }
    }

    fn wanted(matcher: Matcher) -> Wanted {
        Wanted { matcher, incident: 1, reason: RuleReason::Found, ttl: Duration::from_secs(60) }
    }

    /// Returns declined rules, of which the second made way for cookies, the third for nothing.
    fn declined() -> Declined {
        let mut declined = Declined::default();
        declined.refuse(source(1), Timestamp::MAX);
        declined.yield_to(Instead::Cookies, wanted(signature()));
        declined.yield_to(Instead::Nothing, wanted(source(2)));
        declined
    }

    #[test]
    fn a_rule_that_made_way_is_reclaimed_when_nothing_is_in_its_place() {
        let mut declined = declined();
        assert_eq!(declined.reclaim(false), [wanted(signature())]);
        assert!(!declined.has(NOW, &signature()) && declined.has(NOW, &source(2)));
        assert_eq!(declined.reclaim(true), [wanted(source(2))]);
        assert!(declined.has(NOW, &source(1)), "what did harm stays away");
        assert_eq!(declined.reclaim(true), []);
    }

    #[test]
    fn what_is_no_longer_called_for_stays_away() {
        let mut declined = declined();
        declined.refuse_for_good(|matcher| matcher.mitigation() == Mitigation::Signature);
        assert!(declined.has(NOW, &signature()), "it hit clients");
        assert_eq!(declined.reclaim(true), [wanted(source(2))]);
    }

    #[test]
    fn what_an_operator_removed_is_away_for_a_time_or_until_it_is_taken_up() {
        let (mut declined, until) = (declined(), NOW + Duration::from_secs(1));
        let removed = RemovedRule { id: RuleId(7), mitigation: Mitigation::Source, at: NOW, until };
        declined.give_up(source(3), removed.clone());
        assert_eq!(declined.has_removed(NOW, &source(3)), Some(&removed));
        assert_eq!(declined.has_removed(until, &source(3)), None);
        assert!(!declined.has(until, &source(3)));
        assert_eq!(declined.take_up(Some(Mitigation::Signature)), []);
        assert_eq!(declined.take_up(Some(Mitigation::Source)), [source(3)]);
        assert!(!declined.has(NOW, &source(3)) && declined.has(NOW, &source(1)));
        declined.give_up(source(3), removed);
        declined.expire(until);
        assert_eq!((declined.removed().count(), declined.0.len()), (0, 3));
    }
}
