//! Changes to make in the kernel: the difference between the wanted rules and those that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::book::Book;
use crate::{Matcher, RuleId, Timestamp};

/// Time left below which a rule's end is moved, so that a steady flood costs a write or two a minute and not
/// four a second.
const RENEW_BELOW: Duration = Duration::from_secs(30);

/// A rule that an incident wants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    /// SYNs that it drops.
    pub matcher: Matcher,
    /// Incident that wants it.
    pub incident: u64,
    /// Reason, in words.
    pub reason: String,
    /// Its life without hits.
    pub ttl: Duration,
}

/// One change of the rules in the kernel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// Adds a rule to the kernel.
    Install(Wanted),
    /// Removes a rule from the kernel, with this reason.
    Remove(RuleId, String),
    /// Moves the end of a rule to this time.
    Renew(RuleId, Timestamp),
    /// Removes a rule that no operator confirmed from the kernel. The rule that it replaced is restored.
    RollBack(RuleId),
}

/// Number of signature rules installed at a time for one incident: the effect of one shows whether the next
/// is needed. SYNs of one source show nothing about another source, so source rules are installed several at
/// a time.
const SIGNATURES_AT_ONCE: usize = 1;
const SOURCES_AT_ONCE: usize = 8;

/// The changes from the rules in `book` to those that are `wanted`, removals first, so that their
/// slots are free. `farewells` gives the reason why a matcher is no longer wanted.
///
/// No incident wants a rule made by hand, so it stays until its end. A rule of an earlier run stays
/// until its end as well.
pub(crate) fn plan(
    now: Timestamp,
    wanted: &[Wanted],
    farewells: &BTreeMap<Matcher, String>,
    book: &Book,
) -> Vec<Change> {
    let matchers: BTreeSet<Matcher> = wanted.iter().map(|wanted| wanted.matcher).collect();
    let mut steps = Vec::new();
    let mut staying = BTreeSet::new();
    let mut unconfirmed = Vec::new();
    for entry in book.iter() {
        let rule = &entry.rule;
        if let (Some(trial), true) = (&rule.trial, rule.expires <= now) {
            unconfirmed.push(Change::RollBack(rule.id));
            staying.extend(trial.clone().comes_back(now).map(|back| back.matcher));
        } else if rule.expires <= now {
            let why =
                if entry.ttl.is_some() { "nothing hits it any more" } else { "its time is over" };
            steps.push(Change::Remove(rule.id, why.to_owned()));
        } else if entry.incident().is_some() && !entry.orphan && !matchers.contains(&rule.matcher) {
            let why = farewells.get(&rule.matcher).map_or("no longer needed", String::as_str);
            steps.push(Change::Remove(rule.id, why.to_owned()));
        } else {
            staying.insert(rule.matcher);
            if entry.due() > rule.expires && rule.expires.since(now) < RENEW_BELOW {
                steps.push(Change::Renew(rule.id, entry.due()));
            }
        }
    }
    // After the removals, because a restored rule needs a slot too.
    steps.append(&mut unconfirmed);
    let mut served = BTreeMap::new();
    for wanted in wanted {
        let (kind, limit) = match wanted.matcher {
            Matcher::Source(..) => ("source", SOURCES_AT_ONCE),
            Matcher::Signature { .. } => ("signature", SIGNATURES_AT_ONCE),
        };
        let installed: &mut usize = served.entry((wanted.incident, kind)).or_default();
        if *installed < limit && staying.insert(wanted.matcher) {
            *installed += 1;
            steps.push(Change::Install(wanted.clone()));
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::super::book::Life;
    use super::*;
    use crate::{Origin, RuleCounters, Settings};

    fn wanted(host: u8, incident: u64) -> Wanted {
        let net = ipnet::Ipv4Net::from(std::net::Ipv4Addr::new(192, 0, 2, host)).into();
        let ttl = Duration::from_secs(60);
        Wanted {
            matcher: Matcher::Source(net, crate::Ports::EVERY),
            incident,
            reason: String::new(),
            ttl,
        }
    }

    const ROOM: u32 = tcpguard_common::abi::maps::MIN_RULES;

    fn book(rules: &[Wanted]) -> Book {
        let mut book = Book::new(ROOM);
        for rule in rules {
            let origin = Origin::Incident(rule.incident);
            let life = Life::WhileNeeded(rule.ttl);
            book.add(Timestamp::default(), rule.matcher, origin, String::new(), life);
        }
        book
    }

    fn steps(ms: u64, wanted: &[Wanted], book: &Book) -> Vec<Change> {
        plan(Timestamp::from_millis(ms), wanted, &BTreeMap::new(), book)
    }

    #[test]
    fn nothing_changes_when_what_is_wanted_exists() {
        let rules = [wanted(1, 1), wanted(2, 1)];
        assert_eq!(steps(1000, &rules, &book(&rules)), []);
    }

    #[test]
    fn removals_come_before_installations() {
        let (old, new) = (wanted(1, 1), [wanted(2, 1), wanted(4, 2)]);
        assert_eq!(
            steps(1000, &new, &book(&[old])),
            [
                Change::Remove(RuleId(0), "no longer needed".to_owned()),
                Change::Install(new[0].clone()),
                Change::Install(new[1].clone()),
            ]
        );
    }

    #[test]
    fn one_signature_and_a_handful_of_sources_at_a_time() {
        let signature = |listener| Wanted {
            matcher: Matcher::Signature {
                listener: crate::ListenerId(listener),
                mask: tcpguard_common::fastpath::Mask::Full,
                fingerprint: Default::default(),
            },
            ..wanted(0, 1)
        };
        let mut all = vec![signature(1), signature(2)];
        all.extend((0..20).map(|host| wanted(host, 1)));
        let installed = steps(1000, &all, &Book::new(ROOM));
        assert_eq!(installed.len(), 1 + SOURCES_AT_ONCE);
        assert_eq!(installed[0], Change::Install(all[0].clone()));
        assert_eq!(installed[1], Change::Install(all[2].clone()));
    }

    #[test]
    fn a_rule_of_an_earlier_run_stays_to_its_end_or_until_somebody_disowns_it() {
        let origin = Origin::Incident(7);
        let mut book = Book::new(ROOM);
        let found = |host, slot| crate::Rule {
            id: RuleId(slot),
            matcher: wanted(host, 7).matcher,
            origin: origin.clone(),
            forced: false,
            reason: String::new(),
            created: Timestamp::default(),
            expires: Timestamp::from_millis(60_000),
            trial: None,
        };
        let settings = Settings::default();
        for (host, slot) in [(1, 5), (2, 9)] {
            assert_eq!(
                book.adopt(Timestamp::from_millis(1000), found(host, slot), &settings),
                Ok(())
            );
        }
        assert!(book.adopt(Timestamp::from_millis(1000), found(3, 9), &settings).is_err());
        assert!(book.adopt(Timestamp::from_millis(60_000), found(3, 3), &settings).is_err());
        assert_eq!(steps(1000, &[], &book), []);
        assert!(book.disown(&found(1, 5).matcher));
        let gone = Change::Remove(RuleId(5), "no longer needed".to_owned());
        assert_eq!(steps(1000, &[], &book), [gone]);
        let ended = Change::Remove(RuleId(9), "nothing hits it any more".to_owned());
        assert!(steps(60_000, &[], &book).contains(&ended));
    }

    #[test]
    fn two_incidents_share_a_rule() {
        let (mine, theirs) = (wanted(1, 1), wanted(1, 2));
        let existing = book(std::slice::from_ref(&mine));
        assert_eq!(steps(1000, std::slice::from_ref(&theirs), &existing), []);
        assert_eq!(steps(1000, &[mine.clone(), theirs], &Book::new(ROOM)), [Change::Install(mine)]);
    }

    #[test]
    fn a_rule_that_hits_lives_on_and_one_that_does_not_ends() {
        let rules = [wanted(1, 1), wanted(2, 1)];
        let mut book = book(&rules);
        let hits = RuleCounters { id: RuleId(0), hits: 1000, returned: 0, completed: 0 };
        book.read(Timestamp::from_millis(20_000), &[hits], &Settings::default());
        assert_eq!(steps(29_000, &rules, &book), [], "there is time");
        let end = Timestamp::from_millis(80_000);
        assert_eq!(steps(31_000, &rules, &book), [Change::Renew(RuleId(0), end)]);
        let gone = Change::Remove(RuleId(1), "nothing hits it any more".to_owned());
        assert!(steps(60_000, &rules, &book).contains(&gone));
    }
}
