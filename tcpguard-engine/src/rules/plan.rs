//! Changes to make in the kernel: the difference between the wanted rules and those that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::reason::RemovalReason;
use super::rule_table::RuleTable;
use crate::input::{Matcher, RuleId, RuleReason, Timestamp};

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
    /// Reason for the rule.
    pub reason: RuleReason,
    /// Its life without hits.
    pub ttl: Duration,
}

/// One change of the rules in the kernel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// Adds a rule to the kernel.
    Install(Wanted),
    /// Removes a rule from the kernel, with this reason.
    Remove(RuleId, RemovalReason),
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

/// The changes from the rules in `rule_table` to those that are `wanted`, removals first, so that their
/// slots are free. `removal_reasons` gives the reason why a matcher is no longer wanted.
///
/// No incident wants a rule made by hand, so it stays until its end. A rule of an earlier run stays
/// until its end as well.
pub(crate) fn plan(
    now: Timestamp,
    wanted: &[Wanted],
    removal_reasons: &BTreeMap<Matcher, RemovalReason>,
    rule_table: &RuleTable,
) -> Vec<Change> {
    let matchers: BTreeSet<Matcher> = wanted.iter().map(|wanted| wanted.matcher).collect();
    let mut changes = Vec::new();
    let mut staying = BTreeSet::new();
    let mut unconfirmed = Vec::new();
    for entry in rule_table.iter() {
        let rule = &entry.rule;
        if let (Some(confirmation), true) = (&rule.confirmation, rule.expires <= now) {
            unconfirmed.push(Change::RollBack(rule.id));
            staying.extend(confirmation.clone().to_restore(now).map(|back| back.matcher));
        } else if rule.expires <= now {
            let why = match entry.ttl {
                Some(_) => RemovalReason::NoHits,
                None => RemovalReason::Expired,
            };
            changes.push(Change::Remove(rule.id, why));
        } else if entry.incident().is_some() && !entry.orphan && !matchers.contains(&rule.matcher) {
            let why = removal_reasons.get(&rule.matcher).cloned();
            changes.push(Change::Remove(rule.id, why.unwrap_or(RemovalReason::NotNeeded)));
        } else {
            // Only those that are wanted matter: thousands of an operator's rules cost nothing here.
            if matchers.contains(&rule.matcher) {
                staying.insert(rule.matcher);
            }
            if entry.due() > rule.expires && rule.expires.since(now) < RENEW_BELOW {
                changes.push(Change::Renew(rule.id, entry.due()));
            }
        }
    }
    // After the removals, because a restored rule needs a slot too.
    changes.append(&mut unconfirmed);
    let mut served = BTreeMap::new();
    for wanted in wanted {
        let (kind, limit) = match wanted.matcher {
            Matcher::Source(..) => ("source", SOURCES_AT_ONCE),
            Matcher::Signature { .. } => ("signature", SIGNATURES_AT_ONCE),
        };
        let installed: &mut usize = served.entry((wanted.incident, kind)).or_default();
        if *installed < limit && staying.insert(wanted.matcher) {
            *installed += 1;
            changes.push(Change::Install(wanted.clone()));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::super::rule_table::Life;
    use super::*;
    use crate::input::{Origin, RuleCounters};

    fn wanted(host: u8, incident: u64) -> Wanted {
        let net = ipnet::Ipv4Net::from(std::net::Ipv4Addr::new(192, 0, 2, host)).into();
        let ttl = Duration::from_secs(60);
        Wanted {
            matcher: Matcher::Source(net, crate::input::Ports::EVERY),
            incident,
            reason: RuleReason::Found,
            ttl,
        }
    }

    const ROOM: u32 = tcpguard_common::abi::maps::MIN_RULES;

    fn rule_table(rules: &[Wanted]) -> RuleTable {
        let mut rule_table = RuleTable::new(ROOM);
        for rule in rules {
            let origin = Origin::Incident(rule.incident);
            let life = Life::WhileNeeded(rule.ttl);
            rule_table.add(Timestamp::default(), rule.matcher, origin, RuleReason::Found, life);
        }
        rule_table
    }

    fn changes(ms: u64, wanted: &[Wanted], rule_table: &RuleTable) -> Vec<Change> {
        plan(Timestamp::from_millis(ms), wanted, &BTreeMap::new(), rule_table)
    }

    #[test]
    fn nothing_changes_when_what_is_wanted_exists() {
        let rules = [wanted(1, 1), wanted(2, 1)];
        assert_eq!(changes(1000, &rules, &rule_table(&rules)), []);
    }

    #[test]
    fn removals_come_before_installations() {
        let (old, new) = (wanted(1, 1), [wanted(2, 1), wanted(4, 2)]);
        assert_eq!(
            changes(1000, &new, &rule_table(&[old])),
            [
                Change::Remove(RuleId(0), RemovalReason::NotNeeded),
                Change::Install(new[0].clone()),
                Change::Install(new[1].clone()),
            ]
        );
    }

    #[test]
    fn one_signature_and_a_handful_of_sources_at_a_time() {
        let signature = |listener| Wanted {
            matcher: Matcher::Signature {
                listener: crate::input::ListenerId(listener),
                mask: tcpguard_common::abi::Mask::Full,
                fingerprint: Default::default(),
            },
            ..wanted(0, 1)
        };
        let mut all = vec![signature(1), signature(2)];
        all.extend((0..20).map(|host| wanted(host, 1)));
        let installed = changes(1000, &all, &RuleTable::new(ROOM));
        assert_eq!(installed.len(), 1 + SOURCES_AT_ONCE);
        assert_eq!(installed[0], Change::Install(all[0].clone()));
        assert_eq!(installed[1], Change::Install(all[2].clone()));
    }

    #[test]
    fn a_rule_of_an_earlier_run_stays_to_its_end_or_until_it_is_disowned() {
        let origin = Origin::Incident(7);
        let mut rule_table = RuleTable::new(ROOM);
        let found = |host, slot| crate::input::Rule {
            id: RuleId(slot),
            matcher: wanted(host, 7).matcher,
            origin: origin.clone(),
            forced: false,
            reason: RuleReason::Found,
            created: Timestamp::default(),
            expires: Timestamp::from_millis(60_000),
            confirmation: None,
        };
        for (host, slot) in [(1, 5), (2, 9)] {
            assert_eq!(rule_table.adopt(Timestamp::from_millis(1000), found(host, slot)), Ok(()));
        }
        assert!(rule_table.adopt(Timestamp::from_millis(1000), found(3, 9)).is_err());
        assert!(rule_table.adopt(Timestamp::from_millis(60_000), found(3, 3)).is_err());
        assert_eq!(changes(1000, &[], &rule_table), []);
        assert!(rule_table.disown(&found(1, 5).matcher));
        let gone = Change::Remove(RuleId(5), RemovalReason::NotNeeded);
        assert_eq!(changes(1000, &[], &rule_table), [gone]);
        let ended = Change::Remove(RuleId(9), RemovalReason::NoHits);
        assert!(changes(60_000, &[], &rule_table).contains(&ended));
    }

    #[test]
    fn two_incidents_share_a_rule() {
        let (mine, theirs) = (wanted(1, 1), wanted(1, 2));
        let existing = rule_table(std::slice::from_ref(&mine));
        assert_eq!(changes(1000, std::slice::from_ref(&theirs), &existing), []);
        assert_eq!(
            changes(1000, &[mine.clone(), theirs], &RuleTable::new(ROOM)),
            [Change::Install(mine)]
        );
    }

    #[test]
    fn a_rule_that_hits_lives_on_and_one_that_does_not_ends() {
        let rules = [wanted(1, 1), wanted(2, 1)];
        let mut rule_table = rule_table(&rules);
        let hits =
            RuleCounters { id: RuleId(0), hits: 1000, accepted_retransmits: 0, completed: 0 };
        rule_table.read(Timestamp::from_millis(20_000), &[hits].into());
        assert_eq!(changes(29_000, &rules, &rule_table), [], "there is time");
        let end = Timestamp::from_millis(80_000);
        assert_eq!(changes(31_000, &rules, &rule_table), [Change::Renew(RuleId(0), end)]);
        let gone = Change::Remove(RuleId(1), RemovalReason::NoHits);
        assert!(changes(60_000, &rules, &rule_table).contains(&gone));
    }
}
