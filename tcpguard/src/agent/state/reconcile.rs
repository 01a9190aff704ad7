//! Which rules the agent starts with: those in the kernel, explained by the state file, and those of
//! the state file that the kernel has lost.

use std::collections::{BTreeMap, BTreeSet};

use tcpguard_common::abi::maps::MAX_RULE_SLOTS;
use tcpguard_common::fastpath::{Fingerprint, Mask};
use tcpguard_engine::{Listener, ListenerId, Matcher, Origin, Rule, RuleId, Timestamp};

use super::{State, StoredMatcher, StoredRule};
use crate::kernel::{KernelMatcher, KernelRule};
use crate::status::Clock;

/// What is to be done about each rule.
#[derive(Debug, Default, PartialEq)]
pub struct Reconciled {
    /// In the kernel, and dropping; its end there may be another. What the state file does not know (the agent ended between the
    /// two) keeps its end and has no reason.
    pub kept: Vec<Rule>,
    /// To be put into the kernel: it was lost with a boot or another layout of the maps.
    pub lost: Vec<Rule>,
    /// To be taken out of the kernel: it has ended, or nothing here understands it.
    pub dead: Vec<KernelRule>,
}

/// Compares the rules of the kernel's set with their records. `at_slot` and `at` name the listener of a place in the kernel and of an address.
/// A rule for an incident survives only within the boot `boot`; an operator's until its time of day.
/// `counting` is the set that counts in the kernel, if an earlier agent left one there.
pub fn reconcile(
    clock: &Clock,
    boot: &str,
    state: Option<&State>,
    counting: Option<u64>,
    kernel: Vec<KernelRule>,
    at_slot: impl Fn(u32) -> Option<(ListenerId, Listener)>,
    at: impl Fn(&Listener) -> Option<ListenerId>,
) -> Reconciled {
    let now = clock.now;
    let mut all = Reconciled::default();
    let records = state.map(|state| state.records(counting)).unwrap_or_default();
    let stored = records.rules;
    let by_slot: BTreeMap<u32, usize> =
        stored.iter().enumerate().map(|(place, stored)| (stored.slot, place)).collect();
    let mut explained = BTreeSet::new();
    for rule in kernel {
        let Some((matcher, matches)) = understand(&rule.matcher, &at_slot) else {
            all.dead.push(rule);
            continue;
        };
        let record = by_slot.get(&rule.slot).copied();
        let record = record.filter(|place| stored[*place].matches == matches);
        explained.extend(record);
        let record = record.map(|place| &stored[place]);
        let expires = match record {
            Some(record) if records.interrupted && record.is_operators() => {
                since_boot(clock, record.expires.0)
            }
            _ => Timestamp::from_nanos(rule.expires_ns),
        };
        if expires <= now {
            all.dead.push(rule);
            continue;
        }
        all.kept.push(Rule {
            id: RuleId(rule.slot),
            matcher,
            origin: record.map_or(Origin::Incident(0), |record| (&record.origin).into()),
            reason: record.map_or_else(
                || "found in the kernel at start, without a record".to_owned(),
                |record| record.reason.clone(),
            ),
            created: record.map_or(now, |record| since_boot(clock, record.created.0)),
            expires,
        });
    }
    let same_boot = state.is_some_and(|state| state.boot == boot);
    let mut taken: BTreeSet<u32> = all.kept.iter().map(|rule| rule.id.0).collect();
    for (place, record) in stored.iter().enumerate().filter(|_| records.complete) {
        let expires = since_boot(clock, record.expires.0);
        let by_operator = record.is_operators();
        if explained.contains(&place) || expires <= now || !(by_operator || same_boot) {
            continue;
        }
        let Some(matcher) = matcher_of(record, &at) else { continue };
        let slot = Some(record.slot)
            .filter(|slot| *slot < MAX_RULE_SLOTS && !taken.contains(slot))
            .or_else(|| (0..MAX_RULE_SLOTS).find(|slot| !taken.contains(slot)));
        let Some(slot) = slot else { break };
        taken.insert(slot);
        all.lost.push(Rule {
            id: RuleId(slot),
            matcher,
            origin: (&record.origin).into(),
            reason: record.reason.clone(),
            created: since_boot(clock, record.created.0),
            expires,
        });
    }
    all
}

fn understand(
    matcher: &KernelMatcher,
    at_slot: impl Fn(u32) -> Option<(ListenerId, Listener)>,
) -> Option<(Matcher, StoredMatcher)> {
    match matcher {
        KernelMatcher::Source(net) => Some((Matcher::Source(*net), StoredMatcher::Source(*net))),
        KernelMatcher::Signature(key) => {
            let (id, listener) = at_slot(key.listener)?;
            let mask = Mask::from_code(u8::try_from(key.mask).ok()?)?;
            let fingerprint = Fingerprint::from_words(key.fingerprint);
            Some((
                Matcher::Signature { listener: id, mask, fingerprint },
                StoredMatcher::Signature { listener, mask: mask.code(), words: key.fingerprint },
            ))
        }
    }
}

fn matcher_of(
    record: &StoredRule,
    at: impl Fn(&Listener) -> Option<ListenerId>,
) -> Option<Matcher> {
    match record.matches {
        StoredMatcher::Source(net) => Some(Matcher::Source(net)),
        StoredMatcher::Signature { .. } => {
            let (listener, mask, fingerprint) = record.matches.signature()?;
            Some(Matcher::Signature { listener: at(&listener)?, mask, fingerprint })
        }
    }
}

/// A time of day as time since boot; what was before the boot is at it.
fn since_boot(clock: &Clock, at: jiff::Timestamp) -> Timestamp {
    let ahead = at.duration_since(clock.wall);
    if ahead.is_negative() {
        clock.now - ahead.unsigned_abs()
    } else {
        clock.now + ahead.unsigned_abs()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tcpguard_common::abi::SignatureKey;

    use super::*;
    use crate::agent::state::StoredOrigin;
    use crate::status::Time;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);
    const WEB: u32 = 3;

    fn wall(ahead: i64) -> Time {
        Time(jiff::Timestamp::from_second(1_800_000_000 + ahead).unwrap())
    }

    fn web() -> Listener {
        Listener { addr: "::".parse().unwrap(), port: 443 }
    }

    fn stored(slot: u32, matches: StoredMatcher, origin: StoredOrigin, left: i64) -> StoredRule {
        let reason = format!("rule {slot}");
        StoredRule { slot, matches, origin, reason, created: wall(-30), expires: wall(left) }
    }

    fn source(text: &str) -> StoredMatcher {
        StoredMatcher::Source(text.parse().unwrap())
    }

    const SIGNATURE: StoredMatcher = StoredMatcher::Signature {
        listener: Listener {
            addr: std::net::IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
            port: 443,
        },
        mask: 1,
        words: [0x3, 1460, 255],
    };

    fn in_kernel(slot: u32, matches: &StoredMatcher, left: u64) -> KernelRule {
        let matcher = match matches {
            StoredMatcher::Source(net) => KernelMatcher::Source(*net),
            StoredMatcher::Signature { mask, words, .. } => {
                KernelMatcher::Signature(SignatureKey {
                    listener: WEB,
                    mask: (*mask).into(),
                    set: 0,
                    fingerprint: *words,
                })
            }
        };
        let expires_ns = (NOW + Duration::from_secs(left)).as_nanos();
        KernelRule { slot, matcher, flags: 0, expires_ns }
    }

    fn run(boot: &str, rules: Vec<StoredRule>, kernel: Vec<KernelRule>) -> Reconciled {
        let state = State { rules, ..State::new("this boot".to_owned(), wall(0)) };
        run_with(boot, &state, Some(0), kernel)
    }

    fn run_with(
        boot: &str,
        state: &State,
        counting: Option<u64>,
        kernel: Vec<KernelRule>,
    ) -> Reconciled {
        let clock = Clock { now: NOW, wall: wall(0).0 };
        let at_slot = |slot| (slot == WEB).then(|| (ListenerId(WEB), web()));
        let at = |listener: &Listener| (*listener == web()).then_some(ListenerId(WEB));
        reconcile(&clock, boot, Some(state), counting, kernel, at_slot, at)
    }

    #[test]
    fn a_rule_in_the_kernel_is_kept_with_its_record_and_with_the_kernels_end() {
        let rules = vec![stored(5, SIGNATURE, StoredOrigin::Incident(9), 10)];
        let all = run("this boot", rules, vec![in_kernel(5, &SIGNATURE, 42)]);
        let [kept] = &all.kept[..] else { panic!("{all:?}") };
        assert_eq!((kept.id, &kept.origin), (RuleId(5), &Origin::Incident(9)));
        assert_eq!(kept.reason, "rule 5");
        assert_eq!(kept.created, NOW - Duration::from_secs(30));
        assert_eq!(kept.expires, NOW + Duration::from_secs(42), "the kernel knows best");
        assert!(all.lost.is_empty() && all.dead.is_empty());
    }

    #[test]
    fn a_rule_without_a_record_goes_on_dropping_until_its_end() {
        let all = run("this boot", Vec::new(), vec![in_kernel(5, &source("192.0.2.0/24"), 42)]);
        assert_eq!(all.kept.len(), 1);
        assert_eq!(all.kept[0].origin, Origin::Incident(0));
    }

    #[test]
    fn a_record_of_another_rule_in_the_same_place_explains_nothing() {
        let rules = vec![stored(5, source("198.51.100.0/24"), StoredOrigin::Operator(0), 600)];
        let all = run("this boot", rules, vec![in_kernel(5, &source("192.0.2.0/24"), 42)]);
        assert_eq!(all.kept[0].reason, "found in the kernel at start, without a record");
        assert_eq!(all.lost.len(), 1, "the operator's block is not forgotten");
        assert_eq!(all.lost[0].id, RuleId(0), "in another place");
    }

    #[test]
    fn what_has_ended_or_is_not_understood_is_taken_out() {
        let mut strange = in_kernel(6, &SIGNATURE, 42);
        let KernelMatcher::Signature(key) = &mut strange.matcher else { unreachable!() };
        key.mask = 200;
        let mut homeless = in_kernel(7, &SIGNATURE, 42);
        let KernelMatcher::Signature(key) = &mut homeless.matcher else { unreachable!() };
        key.listener = 99;
        let ended = in_kernel(8, &source("192.0.2.0/24"), 0);
        let kernel = vec![strange, homeless, ended];
        let all = run("this boot", Vec::new(), kernel.clone());
        assert_eq!(all.dead, kernel);
        assert!(all.kept.is_empty());
    }

    /// Whatever set counts when the agent ended in the middle of a replacement: it is that one, with
    /// its reasons and ends, and nothing of the other.
    #[test]
    fn a_replacement_that_was_cut_off_leaves_one_set_whole() {
        let (shared, old, new) =
            (source("192.0.2.0/24"), source("198.51.100.0/24"), source("203.0.113.0/24"));
        let operator = StoredOrigin::Operator(7);
        let record = |slot, matches, left| stored(slot, matches, operator.clone(), left);
        let state = State {
            rule_set: 4,
            rules: vec![record(0, shared, 100), record(1, old, 100)],
            ..State::new("this boot".to_owned(), wall(0))
        };
        let state = state.staging(vec![record(0, shared, 50), record(2, new, 60)]);
        for (counting, other, ends) in [(4, (1, old), [100, 100]), (5, (2, new), [50, 60])] {
            // The end of the shared rule may be that of either set.
            let kernel =
                vec![in_kernel(0, &shared, 100), in_kernel(other.0, &other.1, ends[1] as u64)];
            let all = run_with("this boot", &state, Some(counting), kernel);
            assert!(all.lost.is_empty() && all.dead.is_empty(), "{all:?}");
            let kept: Vec<_> = all
                .kept
                .iter()
                .map(|rule| (rule.id.0, rule.expires.since(NOW).as_secs()))
                .collect();
            assert_eq!(kept, [(0, ends[0] as u64), (other.0, ends[1] as u64)]);
            assert!(all.kept.iter().all(|rule| rule.origin == Origin::Operator { uid: 7 }));
        }
        // After a boot there is no set in the kernel: what was answered last holds.
        let all = run_with("another boot", &state, None, Vec::new());
        assert_eq!(all.lost.iter().map(|rule| rule.id.0).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn records_of_a_set_that_does_not_count_make_no_rules() {
        let rules = vec![stored(0, source("192.0.2.0/24"), StoredOrigin::Operator(7), 100)];
        let state = State { rules, ..State::new("this boot".to_owned(), wall(0)) };
        let other = vec![in_kernel(1, &source("203.0.113.0/24"), 100)];
        let all = run_with("this boot", &state, Some(1), other);
        assert_eq!((all.kept.len(), all.lost.len()), (1, 0), "{all:?}");
    }

    #[test]
    fn a_boot_ends_the_guards_own_rules_and_no_operators() {
        let rules = vec![
            stored(1, SIGNATURE, StoredOrigin::Incident(9), 600),
            stored(2, source("192.0.2.0/24"), StoredOrigin::Operator(7), 600),
            stored(3, source("198.51.100.0/24"), StoredOrigin::Operator(7), -1),
        ];
        let state = State { rules: rules.clone(), ..State::new("this boot".to_owned(), wall(0)) };
        let all = run_with("another boot", &state, None, Vec::new());
        let ids: Vec<_> = all.lost.iter().map(|rule| rule.id).collect();
        assert_eq!(ids, [RuleId(2)]);
        assert_eq!(all.lost[0].expires, NOW + Duration::from_secs(600));

        // Within the boot the maps had another layout: an upgrade in the middle of a flood.
        let all = run("this boot", rules, Vec::new());
        let ids: Vec<_> = all.lost.iter().map(|rule| rule.id).collect();
        assert_eq!(ids, [RuleId(1), RuleId(2)]);
    }
}
