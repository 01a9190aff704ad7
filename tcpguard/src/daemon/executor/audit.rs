//! Audit of the rules: whether the kernel holds exactly those that it should, with their numbers, flags and ends, and
//! no others. Any process that may write maps can change them without the agent.
//!
//! A round reads the ends of the rules and then the entries that there are, hundreds with each system call, and marks
//! everything that is correct. A rule without all its marks is then checked on its own. Each step does as large a part
//! of the work as lets the round end within [`ROUND`], so that thousands of rules hold up no poll and a hundred
//! thousand are checked often enough. A difference is repaired at once.

use std::mem;
use std::time::Duration;

use tcpguard_engine::{Ports, RuleId, Timestamp};

use crate::bpf::{KernelError, KernelMatcher, KernelRule, Position, RuleWalk, Source, Walked};
use crate::daemon::executor::Executor;
use crate::documents::Drift;

/// The least number of keys that a step checks: a millisecond of system calls.
pub const KEYS: usize = 2000;
/// Least time between the starts of two rounds.
const PERIOD: Duration = Duration::from_secs(1);
/// Time within which a round is over, however many rules there are. A change right behind a round is found by the end
/// of the next, well within ten seconds.
const ROUND: Duration = Duration::from_secs(3);
/// Mark of a rule that ends when it should. Its other marks are those of its entries.
const END: u8 = 1 << 7;
const _: () = assert!(Ports::MOST < 7, "an entry for each port, and a mark for each entry");

/// A difference between the kernel and the wanted rules.
#[derive(Clone, Debug, PartialEq)]
pub enum Deviation {
    /// A rule is not there.
    Missing(RuleId),
    /// A rule ends at another time.
    OtherEnd(RuleId),
    /// A rule is there with something else changed, such as its flags.
    Altered(RuleId),
    /// An entry that no rule asked for.
    Foreign(Walked),
}

/// Result of a round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Differences that were found and repaired.
    pub repaired: Vec<Drift>,
    /// Last error that kept something from being read or repaired, with the difference that it left.
    pub failed: Option<(Option<Drift>, String)>,
    /// Number of rules in the kernel, if they were counted and nothing has changed meanwhile.
    pub counted: Option<u32>,
}

/// The comparison, which goes on for ever.
#[derive(Debug, Default)]
pub struct Audit {
    /// Start of the present round, or of the last one.
    begun: Option<Timestamp>,
    /// Time at which a step was last requested.
    stepped: Option<Timestamp>,
    running: bool,
    pass: Pass,
    outcome: Outcome,
    /// Number of keys to check, as of the start of the round.
    all: usize,
    /// Parts of each rule that were found in this round, by its number: [`END`], and a bit for each entry.
    marks: Vec<u8>,
    /// Wanted rules that are there.
    found: u32,
    /// `Executor::changes` when it began.
    changes: u64,
}

#[derive(Clone, Copy, Debug)]
enum Pass {
    /// Pass over the ends of the rules.
    Ends(Position),
    /// Pass over the entries that there are.
    Entries(RuleWalk),
    /// Pass over the wanted rules, from the one after this on.
    Wanted(Option<RuleId>),
}

impl Default for Pass {
    fn default() -> Self {
        Self::Ends(Position::default())
    }
}

/// Result of one look.
struct Looked {
    /// Number of keys that were checked.
    seen: usize,
    /// True if it was the last look of its pass.
    ended: bool,
}

impl Audit {
    /// The next step. Returns the result of the round that ended with it, if one did.
    pub fn advance(&mut self, now: Timestamp, executor: &mut Executor) -> Option<Outcome> {
        let since = self.stepped.replace(now).map_or(Duration::ZERO, |last| now.since(last));
        if !self.running {
            if self.begun.is_some_and(|begun| now.since(begun) < PERIOD) {
                return None;
            }
            self.begin(now, executor);
        }
        let mut keys = share(self.all, since);
        while keys > 0 {
            let mut deviations = Vec::new();
            let looked = self.look(executor, keys, &mut deviations);
            for deviation in deviations {
                match executor.repair(&deviation) {
                    Ok(()) => {
                        self.found += u32::from(!matches!(deviation, Deviation::Foreign(_)));
                        self.outcome.repaired.push(deviation.drift());
                    }
                    Err(error) => {
                        self.outcome.failed = Some((Some(deviation.drift()), error.to_string()));
                    }
                }
            }
            let Looked { seen, ended } = looked.unwrap_or_else(|error| {
                self.outcome.failed = Some((None, error.to_string()));
                Looked { seen: 0, ended: true }
            });
            keys = keys.saturating_sub(seen);
            match self.pass {
                _ if !ended => {}
                Pass::Ends(_) => self.pass = Pass::Entries(RuleWalk::default()),
                Pass::Entries(_) => self.pass = Pass::Wanted(None),
                Pass::Wanted(_) => return Some(self.end(executor)),
            }
        }
        None
    }

    fn begin(&mut self, now: Timestamp, executor: &Executor) {
        (self.begun, self.running) = (Some(now), true);
        self.changes = executor.changes;
        self.marks = vec![0; executor.rule_numbers()];
        self.all = executor.rule_numbers() + 2 * executor.rule_places();
    }

    fn end(&mut self, executor: &Executor) -> Outcome {
        (self.running, self.pass) = (false, Pass::default());
        let mut outcome = mem::take(&mut self.outcome);
        let found = mem::take(&mut self.found);
        let undisturbed = executor.changes == self.changes && outcome.failed.is_none();
        outcome.counted = undisturbed.then_some(found);
        outcome
    }

    /// Checks the next part of the pass, some `limit` keys at most.
    fn look(
        &mut self,
        executor: &Executor,
        limit: usize,
        deviations: &mut Vec<Deviation>,
    ) -> Result<Looked, KernelError> {
        let (dataplane, set) = (&executor.dataplane, executor.config.rule_set);
        let Self { pass, marks, found, .. } = self;
        match pass {
            Pass::Ends(position) => {
                let (mut seen, mut ended) = (0, marks.is_empty());
                while seen < limit && !ended {
                    let more = dataplane.rule_ends(position, |slot, end| {
                        seen += 1;
                        ended |= slot as usize + 1 >= marks.len();
                        if executor.rule_end(RuleId(slot)) == Some(end) {
                            mark(marks, slot, END);
                        }
                    })?;
                    ended |= !more;
                }
                Ok(Looked { seen, ended })
            }
            Pass::Entries(walk) => {
                let mut all = Vec::new();
                let seen = dataplane.walk_rules(set, walk, limit, |walked| all.push(walked))?;
                for walked in all {
                    let Walked::Entry(entry, found) = &walked else {
                        deviations.push(Deviation::Foreign(walked));
                        continue;
                    };
                    let wanted = executor.wanted_rule(RuleId(found.slot));
                    match wanted.and_then(|wanted| Some((place_in(&wanted, entry)?, wanted))) {
                        Some((place, wanted)) => {
                            if executor.entry(&wanted, entry.clone()).flags == found.flags {
                                mark(marks, found.slot, 1 << place);
                            }
                        }
                        None => deviations.push(Deviation::Foreign(walked)),
                    }
                }
                Ok(Looked { seen, ended: seen < limit })
            }
            Pass::Wanted(after) => {
                let mut seen = 0;
                for (id, wanted) in executor.wanted(*after).take(limit) {
                    (seen, *after) = (seen + 1, Some(id));
                    let entries = wanted.matcher.entries();
                    if marks.get(id.0 as usize) == Some(&complete(entries.len())) {
                        *found += 1;
                        continue;
                    }
                    // It may have come since the round began.
                    let mut judged = None;
                    for entry in entries {
                        let there = dataplane.rule(set, &entry)?;
                        let entry = executor.entry(&wanted, entry);
                        judged = judged.or(judge(id, &entry, there.as_ref()));
                    }
                    *found += u32::from(judged.is_none());
                    // Mending writes all of its entries.
                    deviations.extend(judged);
                }
                Ok(Looked { seen, ended: seen < limit })
            }
        }
    }
}

/// Part of `all` that is due in a step, `since` after the previous step.
fn share(all: usize, since: Duration) -> usize {
    let part = all as f64 * since.min(ROUND).as_secs_f64() / ROUND.as_secs_f64();
    KEYS.max(part.ceil() as usize)
}

/// Notes that something of the rule with this number was found as it should be.
fn mark(marks: &mut [u8], slot: u32, what: u8) {
    // A rule that came since the round began has none, and is looked at on its own.
    if let Some(marks) = marks.get_mut(slot as usize) {
        *marks |= what;
    }
}

/// The marks of a rule with so many entries of which everything was found.
const fn complete(entries: usize) -> u8 {
    END | ((1 << entries) - 1)
}

/// Difference between a wanted rule and the rule that was found by its key.
fn judge(id: RuleId, wanted: &KernelRule, found: Option<&KernelRule>) -> Option<Deviation> {
    match found {
        // By the key of a missing rule, a rule over a wider prefix is found, in another slot.
        Some(found) if found.slot != wanted.slot => Some(Deviation::Missing(id)),
        Some(found) if found.expires_ns != wanted.expires_ns => Some(Deviation::OtherEnd(id)),
        Some(found) if found != wanted => Some(Deviation::Altered(id)),
        Some(_) => None,
        None => Some(Deviation::Missing(id)),
    }
}

/// Returns the position of an entry among those of a rule; `None` if it is none of them.
fn place_in(wanted: &KernelRule, found: &KernelMatcher) -> Option<usize> {
    wanted.matcher.entries().iter().position(|entry| entry == found)
}

impl Deviation {
    fn drift(&self) -> Drift {
        match self {
            Self::Missing(id) => Drift::RuleMissing { rule: id.0 },
            Self::OtherEnd(id) => Drift::RuleExpiry { rule: id.0 },
            Self::Altered(id) => Drift::RuleFlags { rule: id.0 },
            Self::Foreign(Walked::Entry(KernelMatcher::Source(net, _), _)) => {
                Drift::UnexpectedSource { net: net.to_string() }
            }
            Self::Foreign(Walked::Entry(KernelMatcher::Signature(_), _)) => {
                Drift::UnexpectedSignature
            }
            Self::Foreign(Walked::NotLookedUp(Source::Host(_))) => Drift::UnexpectedEntry,
            Self::Foreign(Walked::NotLookedUp(_)) => Drift::UnexpectedEverySource,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcpguard_engine::Ports;

    fn rule(slot: u32, net: &str) -> KernelRule {
        to_ports(slot, net, &[])
    }

    fn to_ports(slot: u32, net: &str, ports: &[u16]) -> KernelRule {
        let ports = Ports::new(ports).expect("up to four");
        let matcher = KernelMatcher::Source(net.parse().expect("a prefix"), ports);
        KernelRule { slot, matcher, flags: 1, expires_ns: 60 }
    }

    #[test]
    fn a_rule_is_missing_altered_or_as_it_should_be() {
        let (id, wanted) = (RuleId(7), rule(7, "192.0.2.0/24"));
        let judge = |found: Option<KernelRule>| judge(id, &wanted, found.as_ref());
        assert_eq!(judge(Some(wanted.clone())), None);
        assert_eq!(judge(None), Some(Deviation::Missing(id)));
        let wider = KernelRule { slot: 8, ..wanted.clone() };
        assert_eq!(judge(Some(wider)), Some(Deviation::Missing(id)), "another rule's number");
        let later = KernelRule { expires_ns: 61, ..wanted.clone() };
        assert_eq!(judge(Some(later)), Some(Deviation::OtherEnd(id)));
        let forced = KernelRule { flags: 3, ..wanted.clone() };
        assert_eq!(judge(Some(forced)), Some(Deviation::Altered(id)));
    }

    #[test]
    fn what_stands_under_the_number_of_another_rule_is_none_of_its_entries() {
        let wanted = rule(7, "192.0.2.0/24");
        assert_eq!(place_in(&wanted, &wanted.matcher), Some(0));
        assert_eq!(place_in(&wanted, &rule(7, "198.51.100.0/24").matcher), None);
    }

    #[test]
    fn of_a_rule_for_certain_ports_each_is_an_entry_and_no_other_is() {
        let wanted = to_ports(7, "192.0.2.0/24", &[25, 443]);
        let place = |ports: &[u16]| place_in(&wanted, &to_ports(7, "192.0.2.0/24", ports).matcher);
        assert_eq!([place(&[25]), place(&[443])], [Some(0), Some(1)]);
        assert_eq!([place(&[80]), place(&[])], [None, None]);
    }

    #[test]
    fn a_rule_is_found_once_its_end_and_all_of_its_entries_are() {
        let mut marks = [0; 2];
        mark(&mut marks, 1, END);
        mark(&mut marks, 1, 1);
        assert_eq!((marks[1], marks[0]), (complete(1), 0));
        assert_ne!(marks[1], complete(2), "one of two ports");
        mark(&mut marks, 1, 1);
        assert_ne!(marks[1], complete(2), "the same port twice");
        mark(&mut marks, 1, 2);
        assert_eq!(marks[1], complete(2));
        mark(&mut marks, 2, END);
        assert_eq!(complete(Ports::MOST) & !END, 0b1111);
    }

    #[test]
    fn a_round_is_over_in_its_time_however_many_rules_there_are() {
        let poll = Duration::from_millis(250);
        assert_eq!(share(3, poll), KEYS);
        // As many slots as there can be, each with an end, an entry and a rule.
        let all = 3 * 131_072_usize;
        let steps = all.div_ceil(share(all, poll)) as u32;
        assert_eq!(steps * poll, ROUND);
        assert_eq!(share(all, Duration::ZERO), KEYS);
        assert_eq!(share(all, 100 * ROUND), all, "after a pause no more than there is");
    }
}
