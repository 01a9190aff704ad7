//! Rules with which the agent starts: those in the kernel, explained by the state file, and those of
//! the state file that the kernel has lost.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use tcpguard_common::abi::{Fingerprint, Mask, RuleRef, SignatureKey, maps};
use tcpguard_engine::{
    Limits, Listener, ListenerId, Matcher, Origin, Rule, RuleConfirmation, RuleId, RuleReason,
    Timestamp,
};
use tcpguard_host::time::Clock;

use super::{State, Times};
use crate::bpf::{KernelMatcher, KernelRule};

/// The rules by the action for each.
#[derive(Debug, Default, PartialEq)]
pub struct Reconciled {
    /// Rules in the kernel that drop; the end there may be another. A rule without a record in the state
    /// file (the agent ended between the two) keeps its end and has no reason.
    pub kept: Vec<Rule>,
    /// Rules to put into the kernel: they were lost with a boot or another layout of the maps.
    pub lost: Vec<Rule>,
    /// Rules to remove from the kernel: they have ended, lack some of the ports of their record, or are not
    /// understood here.
    pub dead: Vec<KernelRule>,
    /// Number of lost rules for which there is no capacity left.
    pub without_room: usize,
    /// Rules that were not confirmed in time, or before the host went down; the rules that they replaced
    /// are restored.
    pub reverted: Vec<Rule>,
}

/// The rules in the kernel.
#[derive(Debug)]
pub struct InKernel {
    /// The set that counts, if an earlier agent left one there.
    pub counting: Option<u64>,
    pub rules: Vec<KernelRule>,
    /// Number of entries that rules may take: lost rules are made again in the order of the file while they
    /// fit.
    pub room: u32,
}

/// Compares the rules of the kernel's set with their records. `at_slot` and `at` name the listener of a
/// slot in the kernel and of an address. A rule for an incident survives only within the boot `boot`; an
/// operator's until its time of day.
pub fn reconcile(
    clock: &Clock,
    boot: &str,
    state: Option<&State>,
    kernel: InKernel,
    at_slot: impl Fn(u32) -> Option<(ListenerId, Listener)>,
    at: impl Fn(&Listener) -> Option<ListenerId>,
) -> Reconciled {
    let now = clock.now;
    let mut all = Reconciled::default();
    let empty = State::new(String::new(), clock);
    let state = state.unwrap_or(&empty);
    let times = Times::of(state, clock, boot);
    // No later than if it were made now, regardless of the file and the clock.
    let latest = clock.now + Limits::MAX_MANUAL_RULE;
    let records = state.records(kernel.counting);
    let same_boot = state.is_of(boot);
    // With its listener and times as they are now; whether it may stay is seen later.
    let present = |record: &Rule| {
        Some(Rule {
            matcher: with_listener(record.matcher, |id| match state.listener(id)? {
                Listener::HOST => Some(ListenerId::HOST),
                there => at(&there),
            })?,
            created: times.at(record.created),
            expires: times.at(record.expires).min(latest),
            confirmation: None,
            ..record.clone()
        })
    };
    let pending = |confirmation: &RuleConfirmation| RuleConfirmation {
        until: times.at(confirmation.until).min(latest),
        instead_of: confirmation.instead_of.as_deref().and_then(present).map(Box::new),
    };
    let stored: Vec<_> = records.rules.iter().filter_map(|it| Some((it, present(it)?))).collect();
    let by_slot: BTreeMap<u32, usize> =
        stored.iter().enumerate().map(|(place, (_, rule))| (rule.id.0, place)).collect();
    let mut explained = BTreeSet::new();
    let mut kept = BTreeSet::new();
    for rule in kernel.rules {
        let Some(matcher) = understand(&rule.matcher, &at_slot) else {
            all.dead.push(rule);
            continue;
        };
        let there = by_slot.get(&rule.slot).copied();
        let is_part = there.is_some_and(|place| is_part(&matcher, &stored[place].1.matcher));
        let place = there.filter(|place| stored[*place].1.matcher == matcher);
        explained.extend(place);
        let record = place.map(|place| &stored[place]);
        let expires = match record {
            Some((_, known)) if records.interrupted && is_operators(known) => known.expires,
            _ => Timestamp::from_nanos(rule.expires_ns),
        };
        if expires <= now || is_part {
            all.dead.push(rule);
            continue;
        }
        kept.extend(place);
        all.kept.push(match record {
            Some((record, known)) => {
                // One that lives longer was confirmed, and the agent ended before it had written so.
                let waits = record.confirmation.as_ref().filter(|_| expires <= known.expires);
                Rule { confirmation: waits.map(pending), expires, ..known.clone() }
            }
            None => found(now, &rule, matcher, expires),
        });
    }
    let mut room = Room::beside(&all.kept, kernel.room);
    for (place, (record, rule)) in stored.iter().enumerate().filter(|_| records.complete) {
        let confirmation = record.confirmation.as_ref().map(pending);
        let rule = Rule { confirmation, ..rule.clone() };
        if rule.confirmation.is_some()
            && !kept.contains(&place)
            && (rule.expires <= now || !same_boot)
        {
            // An operator may have restarted the host because the rule had locked out all logins.
            all.reverted.push(rule);
        } else if !explained.contains(&place)
            && rule.expires > now
            && (is_operators(&rule) || same_boot)
        {
            match room.take(rule.id, rule.matcher.entries()) {
                Some(id) => all.lost.push(Rule { id, ..rule }),
                None => all.without_room += 1,
            }
        }
    }
    all
}

/// The same for another number of its listener.
fn with_listener(
    matcher: Matcher,
    renumbered: impl Fn(ListenerId) -> Option<ListenerId>,
) -> Option<Matcher> {
    match matcher {
        Matcher::Signature { listener, mask, fingerprint } => {
            Some(Matcher::Signature { listener: renumbered(listener)?, mask, fingerprint })
        }
        source @ Matcher::Source(..) => Some(source),
    }
}

/// A rule without a record.
fn found(now: Timestamp, rule: &KernelRule, matcher: Matcher, expires: Timestamp) -> Rule {
    Rule {
        id: RuleId(rule.slot),
        matcher,
        origin: unrecorded(rule.flags),
        forced: rule.flags & RuleRef::FORCED != 0,
        reason: RuleReason::Found,
        created: now,
        expires,
        confirmation: None,
    }
}

/// Slots and entries that are left for lost rules.
struct Room {
    slots: u32,
    /// Those that were not looked at yet.
    free: Range<u32>,
    taken: BTreeSet<u32>,
    entries: usize,
}

impl Room {
    fn beside(kept: &[Rule], room: u32) -> Self {
        let used = kept.iter().map(|rule| rule.matcher.entries()).sum();
        let entries = (room as usize).saturating_sub(used);
        let (slots, taken) = (maps::rule_slots(room), kept.iter().map(|rule| rule.id.0).collect());
        Self { slots, free: 0..slots, taken, entries }
    }

    /// Takes a slot, that of `id` if it is free.
    fn take(&mut self, id: RuleId, entries: usize) -> Option<RuleId> {
        let is_free = |slot: &u32| *slot < self.slots && !self.taken.contains(slot);
        let slot = Some(id.0).filter(is_free).or_else(|| self.free.find(is_free));
        let slot = slot.filter(|_| entries <= self.entries)?;
        self.entries -= entries;
        self.taken.insert(slot);
        Some(RuleId(slot))
    }
}

fn understand(
    matcher: &KernelMatcher,
    at_slot: impl Fn(u32) -> Option<(ListenerId, Listener)>,
) -> Option<Matcher> {
    match matcher {
        KernelMatcher::Source(net, ports) => Some(Matcher::Source(*net, *ports)),
        KernelMatcher::Signature(key) => {
            let listener = match key.listener {
                SignatureKey::EVERY_LISTENER => ListenerId::HOST,
                slot => at_slot(slot)?.0,
            };
            let mask = Mask::from_code(u8::try_from(key.mask).ok()?)?;
            let fingerprint = Fingerprint::from_words(key.fingerprint);
            Some(Matcher::Signature { listener, mask, fingerprint })
        }
    }
}

/// Returns whether the kernel has only some of a record's ports: the agent ended while it wrote or removed them.
/// The remaining ones are removed, and the whole rule is made again.
fn is_part(found: &Matcher, record: &Matcher) -> bool {
    match (found, record) {
        (Matcher::Source(net, ports), Matcher::Source(whole, all)) => {
            net == whole && ports != all && !ports.is_every() && !all.is_every()
        }
        _ => false,
    }
}

/// Returns whether an operator made it, of this host or of the fleet. Such a rule outlives a boot.
const fn is_operators(rule: &Rule) -> bool {
    matches!(rule.origin, Origin::Operator { .. } | Origin::Fleet(_))
}

/// The originator of a rule without a record. The kernel knows whether it was an operator; the operator's
/// user id or the incident's number is lost.
fn unrecorded(flags: u32) -> Origin {
    match flags & RuleRef::BY_OPERATOR {
        0 => Origin::Incident(0),
        _ => Origin::Operator { uid: 0 },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tcpguard_engine::Ports;
    use tcpguard_host::time::Time;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);
    const WEB: u32 = 3;
    /// Its number in the agent that wrote the file.
    const OLD_WEB: ListenerId = ListenerId(70);
    const ROOM: u32 = 8;

    fn wall(ahead: i64) -> Time {
        Time(jiff::Timestamp::from_second(1_800_000_000 + ahead).unwrap())
    }

    fn given(text: &str) -> RuleReason {
        RuleReason::Given { text: text.to_owned() }
    }

    fn web() -> Listener {
        Listener { addr: "::".parse().unwrap(), port: 443 }
    }

    /// `seconds` from now, which may be negative.
    fn ahead(seconds: i64) -> Timestamp {
        match seconds {
            0.. => NOW + Duration::from_secs(seconds as u64),
            _ => NOW - Duration::from_secs(seconds.unsigned_abs()),
        }
    }

    fn stored(slot: u32, matcher: Matcher, origin: Origin, left: i64) -> Rule {
        let (id, reason) = (RuleId(slot), given(&format!("rule {slot}")));
        let (created, expires) = (ahead(-30), ahead(left));
        Rule { id, matcher, origin, forced: false, reason, created, expires, confirmation: None }
    }

    fn source(text: &str) -> Matcher {
        Matcher::Source(text.parse().unwrap(), Ports::EVERY)
    }

    /// A signature for the listener with this number.
    fn signature(listener: ListenerId) -> Matcher {
        let fingerprint = Fingerprint::from_words([0x3, 1460, 255]);
        Matcher::Signature { listener, mask: Mask::NoTtl, fingerprint }
    }

    fn in_kernel(slot: u32, matcher: &Matcher, left: u64) -> KernelRule {
        let matcher = match matcher {
            Matcher::Source(net, ports) => KernelMatcher::Source(*net, *ports),
            Matcher::Signature { mask, fingerprint, .. } => {
                KernelMatcher::Signature(SignatureKey {
                    listener: WEB,
                    mask: mask.code().into(),
                    set: 0,
                    fingerprint: fingerprint.words(),
                })
            }
        };
        let expires_ns = (NOW + Duration::from_secs(left)).as_nanos();
        KernelRule { slot, matcher, flags: 0, expires_ns }
    }

    fn clock() -> Clock {
        Clock { now: NOW, wall: wall(0).0 }
    }

    fn state(rules: Vec<Rule>) -> State {
        let listeners = BTreeMap::from([(OLD_WEB, web())]);
        State { rules, listeners, ..State::new("this boot".to_owned(), &clock()) }
    }

    fn run(boot: &str, rules: Vec<Rule>, kernel: Vec<KernelRule>) -> Reconciled {
        run_with(boot, &state(rules), Some(0), kernel)
    }

    fn run_with(
        boot: &str,
        state: &State,
        counting: Option<u64>,
        kernel: Vec<KernelRule>,
    ) -> Reconciled {
        let clock = clock();
        let at_slot = |slot| (slot == WEB).then(|| (ListenerId(WEB), web()));
        let at = |listener: &Listener| (*listener == web()).then_some(ListenerId(WEB));
        let kernel = InKernel { counting, rules: kernel, room: ROOM };
        reconcile(&clock, boot, Some(state), kernel, at_slot, at)
    }

    #[test]
    fn a_rule_in_the_kernel_is_kept_with_its_record_and_with_the_kernels_end() {
        let rules = vec![stored(5, signature(OLD_WEB), Origin::Incident(9), 10)];
        let all = run("this boot", rules, vec![in_kernel(5, &signature(OLD_WEB), 42)]);
        let [kept] = &all.kept[..] else { panic!("{all:?}") };
        assert_eq!((kept.id, &kept.origin), (RuleId(5), &Origin::Incident(9)));
        assert_eq!(kept.reason, given("rule 5"));
        assert_eq!(kept.created, NOW - Duration::from_secs(30));
        assert_eq!(kept.expires, NOW + Duration::from_secs(42), "the kernel knows best");
        assert!(all.lost.is_empty() && all.dead.is_empty());
    }

    #[test]
    fn a_rule_for_every_listener_is_kept_or_made_again_as_one() {
        let every = signature(ListenerId::HOST);
        let mut there = in_kernel(5, &every, 42);
        let KernelMatcher::Signature(key) = &mut there.matcher else { unreachable!() };
        key.listener = SignatureKey::EVERY_LISTENER;
        for (kernel, is_there) in [(vec![there], true), (Vec::new(), false)] {
            let all = run("this boot", vec![stored(5, every, Origin::Incident(9), 60)], kernel);
            let rules = if is_there { &all.kept } else { &all.lost };
            let [rule] = &rules[..] else { panic!("{all:?}") };
            let of_host = |listener| listener == ListenerId::HOST;
            assert!(
                matches!(rule.matcher, Matcher::Signature { listener, .. } if of_host(listener))
            );
            assert_eq!((&rule.reason, all.dead.len()), (&given("rule 5"), 0));
        }
    }

    #[test]
    fn a_rule_without_a_record_goes_on_dropping_until_its_end() {
        let all = run("this boot", Vec::new(), vec![in_kernel(5, &source("192.0.2.0/24"), 42)]);
        assert_eq!(all.kept.len(), 1);
        assert_eq!(all.kept[0].origin, Origin::Incident(0));
    }

    fn to_ports(text: &str, ports: &[u16]) -> Matcher {
        Matcher::Source(text.parse().unwrap(), Ports::new(ports).unwrap())
    }

    #[test]
    fn a_rule_for_certain_ports_is_known_by_all_of_them() {
        let (whole, part) = (to_ports("192.0.2.0/24", &[80, 443]), to_ports("192.0.2.0/24", &[80]));
        let record = || vec![stored(5, whole, Origin::Operator { uid: 7 }, 600)];
        let all = run("this boot", record(), vec![in_kernel(5, &whole, 42)]);
        assert_eq!(all.kept[0].origin, Origin::Operator { uid: 7 });
        assert_eq!((all.kept.len(), all.lost.len(), all.dead.len()), (1, 0, 0));

        let all = run("this boot", record(), vec![in_kernel(5, &part, 42)]);
        assert_eq!((all.kept.len(), all.dead.len()), (0, 1), "what is left of it goes");
        let matchers: Vec<_> = all.lost.iter().map(|rule| rule.matcher).collect();
        let ports = Ports::new(&[80, 443]).unwrap();
        assert_eq!(matchers, [Matcher::Source("192.0.2.0/24".parse().unwrap(), ports)]);

        let flags = RuleRef::BY_OPERATOR | RuleRef::FORCED;
        let unknown = KernelRule { flags, ..in_kernel(5, &part, 42) };
        let all = run("this boot", Vec::new(), vec![unknown]);
        assert_eq!(all.kept[0].origin, Origin::Operator { uid: 0 }, "the kernel knows that much");
        assert!(all.kept[0].forced);
    }

    #[test]
    fn a_record_of_another_rule_in_the_same_place_explains_nothing() {
        let rules = vec![stored(5, source("198.51.100.0/24"), Origin::Operator { uid: 0 }, 600)];
        let all = run("this boot", rules, vec![in_kernel(5, &source("192.0.2.0/24"), 42)]);
        assert_eq!(all.kept[0].reason, RuleReason::Found);
        assert_eq!(all.lost.len(), 1, "the operator's block is not forgotten");
        assert_eq!(all.lost[0].id, RuleId(0), "in another place");
    }

    #[test]
    fn what_has_ended_or_is_not_understood_is_taken_out() {
        let mut strange = in_kernel(6, &signature(OLD_WEB), 42);
        let KernelMatcher::Signature(key) = &mut strange.matcher else { unreachable!() };
        key.mask = 200;
        let mut homeless = in_kernel(7, &signature(OLD_WEB), 42);
        let KernelMatcher::Signature(key) = &mut homeless.matcher else { unreachable!() };
        key.listener = 99;
        let ended = in_kernel(8, &source("192.0.2.0/24"), 0);
        let kernel = vec![strange, homeless, ended];
        let all = run("this boot", Vec::new(), kernel.clone());
        assert_eq!(all.dead, kernel);
        assert!(all.kept.is_empty());
    }

    #[test]
    fn what_there_is_no_room_for_is_not_made_again_but_counted() {
        let record = |slot: u32, ports: &[u16]| {
            stored(
                slot,
                to_ports(&format!("10.0.{slot}.0/24"), ports),
                Origin::Operator { uid: 7 },
                600,
            )
        };
        let mut rules: Vec<Rule> = (0..ROOM - 1).map(|slot| record(100 + slot, &[])).collect();
        rules.push(record(200, &[80, 443]));
        rules.push(record(201, &[]));
        rules.push(record(202, &[]));
        let kept = in_kernel(100, &rules[0].matcher, 60);
        let all = run("this boot", rules, vec![kept]);
        assert_eq!((all.kept.len(), all.lost.len(), all.without_room), (1, 7, 2), "{all:?}");
        assert!(all.lost.iter().all(|rule| rule.id.0 < maps::rule_slots(ROOM)));
    }

    /// Whichever set is effective when the agent ended in the middle of a replacement: that set counts,
    /// with its reasons and ends, and nothing of the other.
    #[test]
    fn a_replacement_that_was_cut_off_leaves_one_set_whole() {
        let (shared, old, new) =
            (source("192.0.2.0/24"), source("198.51.100.0/24"), source("203.0.113.0/24"));
        let operator = Origin::Operator { uid: 7 };
        let record = |slot, matches, left| stored(slot, matches, operator.clone(), left);
        let state =
            State { rule_set: 4, ..state(vec![record(0, shared, 100), record(1, old, 100)]) };
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
        // After a boot there is no set in the kernel: the last confirmed set holds.
        let all = run_with("another boot", &state, None, Vec::new());
        assert_eq!(all.lost.iter().map(|rule| rule.id.0).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn records_of_a_set_that_does_not_count_make_no_rules() {
        let rules = vec![stored(0, source("192.0.2.0/24"), Origin::Operator { uid: 7 }, 100)];
        let state = state(rules);
        let other = vec![in_kernel(1, &source("203.0.113.0/24"), 100)];
        let all = run_with("this boot", &state, Some(1), other);
        assert_eq!((all.kept.len(), all.lost.len()), (1, 0), "{all:?}");
    }

    /// A rule that was made without force is not forced because a source became protected since.
    #[test]
    fn a_rule_is_forced_if_its_record_says_so() {
        let (blocked, forced) = (source("192.0.2.0/24"), source("198.51.100.0/24"));
        let mut rules: Vec<Rule> = [(1, blocked), (2, forced)]
            .map(|(slot, matches)| stored(slot, matches, Origin::Operator { uid: 7 }, 600))
            .into();
        rules[1].forced = true;
        for kernel in [Vec::new(), vec![in_kernel(1, &blocked, 60), in_kernel(2, &forced, 60)]] {
            let all = run("this boot", rules.clone(), kernel);
            let found: Vec<bool> =
                all.kept.iter().chain(&all.lost).map(|rule| rule.forced).collect();
            assert_eq!(found, [false, true]);
        }
    }

    fn pending_confirmation(left: i64) -> (Rule, Matcher) {
        let (wide, before) = (source("10.0.0.0/8"), to_ports("10.0.0.0/8", &[25]));
        let operator = Origin::Operator { uid: 7 };
        let before = stored(1, before, operator.clone(), 600);
        let (until, instead_of) = (ahead(3600), Some(Box::new(before)));
        let confirmation = Some(RuleConfirmation { until, instead_of });
        (Rule { confirmation, ..stored(2, wide, operator, left) }, wide)
    }

    #[test]
    fn a_rule_that_waits_for_a_word_waits_on_and_one_that_lives_longer_had_it() {
        let (rule, wide) = pending_confirmation(42);
        let all = run("this boot", vec![rule.clone()], vec![in_kernel(2, &wide, 42)]);
        let confirmation = all.kept[0].confirmation.clone().expect("it waits");
        assert_eq!(confirmation.until, NOW + Duration::from_secs(3600));
        assert_eq!(confirmation.to_restore(NOW).map(|rule| rule.id), Some(RuleId(1)));
        let all = run("this boot", vec![rule], vec![in_kernel(2, &wide, 3600)]);
        assert_eq!(
            all.kept[0].confirmation, None,
            "confirmed, and the agent ended before it wrote so"
        );
        assert_eq!(all.reverted, []);
    }

    /// The rule's time was over while there was no agent, or the host was restarted, perhaps for lack of
    /// another way in.
    #[test]
    fn an_unconfirmed_rule_is_not_restored_and_what_it_replaced_is() {
        for (boot, left, kernel) in [
            ("this boot", -5, vec![]),
            ("this boot", -5, vec![in_kernel(2, &source("10.0.0.0/8"), 0)]),
            ("another boot", 30, vec![]),
        ] {
            let (rule, _) = pending_confirmation(left);
            let dead = kernel.len();
            let all = run(boot, vec![rule], kernel);
            assert_eq!((all.kept.len(), all.lost.len(), all.dead.len()), (0, 0, dead), "{boot}");
            let [reverted] = &all.reverted[..] else { panic!("{all:?}") };
            let back =
                reverted.confirmation.clone().and_then(|confirmation| confirmation.to_restore(NOW));
            assert_eq!(back.map(|rule| rule.expires), Some(NOW + Duration::from_secs(600)));
        }
    }

    /// The time of day was a year off when the file was written, or is now.
    #[test]
    fn within_a_boot_a_rule_made_again_ends_when_it_was_to() {
        const YEAR: i64 = 365 * 86_400;
        for wrong in [-YEAR, 0, YEAR] {
            let rule = stored(1, source("192.0.2.0/24"), Origin::Operator { uid: 7 }, 600);
            let state = State { written: wall(wrong), ..state(vec![rule]) };
            let all = run_with("this boot", &state, Some(0), Vec::new());
            let ends: Vec<u64> =
                all.lost.iter().map(|rule| rule.expires.since(NOW).as_secs()).collect();
            assert_eq!(ends, [600], "{wrong}");
        }
    }

    /// A clock that was set back, or a file that was written by hand.
    #[test]
    fn no_rule_is_made_again_for_longer_than_it_could_be_made() {
        let year = 365 * 86_400;
        let rule = stored(2, source("192.0.2.0/24"), Origin::Operator { uid: 7 }, year);
        let all = run("another boot", vec![rule], Vec::new());
        assert_eq!(all.lost[0].expires, NOW + Limits::MAX_MANUAL_RULE);
    }

    #[test]
    fn a_boot_ends_automatic_rules_and_no_operators() {
        let rules = vec![
            stored(1, signature(OLD_WEB), Origin::Incident(9), 600),
            stored(2, source("192.0.2.0/24"), Origin::Operator { uid: 7 }, 600),
            stored(3, source("198.51.100.0/24"), Origin::Operator { uid: 7 }, -1),
        ];
        let state = state(rules.clone());
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
