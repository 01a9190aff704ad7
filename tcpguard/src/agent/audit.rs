//! Whether the kernel holds exactly the rules that it should: those of the guard with their numbers,
//! flags and ends, and no others. Whoever may write maps may also change them behind the guard's back.
//!
//! A round looks up each rule that is wanted, and then at each that is there, a bounded number at each
//! step, so that thousands hold up no poll. What differs is mended at once.

use std::fmt;
use std::mem;
use std::time::Duration;

use tcpguard_engine::{RuleId, Timestamp};

use super::executor::Executor;
use crate::kernel::{KernelError, KernelMatcher, KernelRule, RuleWalk, Walked};

/// Rules looked at in one step: some 5 ms of system calls.
pub const KEYS: usize = 2000;
/// A round begins so long after the one before began, at the soonest.
const PERIOD: Duration = Duration::from_secs(1);

/// How the kernel differs from what is wanted.
#[derive(Clone, Debug, PartialEq)]
pub enum Deviation {
    /// A rule is not there.
    Missing(RuleId),
    /// It ends at another time.
    OtherEnd(RuleId),
    /// It is there with something else changed, such as its flags.
    Altered(RuleId),
    /// Nobody asked for what is there.
    Foreign(Walked),
}

/// What came of a round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// What was found and mended, in words.
    pub mended: Vec<String>,
    /// Why something could not be read or mended.
    pub failed: Option<String>,
    /// How many rules are in the kernel, if that was counted and nothing has changed meanwhile.
    pub counted: Option<u32>,
}

/// The comparison, which goes on for ever.
#[derive(Debug, Default)]
pub struct Audit {
    /// When the round began, or the last one.
    begun: Option<Timestamp>,
    running: bool,
    pass: Pass,
    outcome: Outcome,
    /// Wanted rules found in this round.
    found: u32,
    /// [`Executor::changes`] when it began.
    changes: u64,
}

#[derive(Clone, Copy, Debug)]
enum Pass {
    /// Over what is wanted, from the rule after this one on.
    Wanted(Option<RuleId>),
    /// Over what is there.
    Found(RuleWalk),
}

impl Default for Pass {
    fn default() -> Self {
        Self::Wanted(None)
    }
}

impl Audit {
    /// The next step. Returns what came of the round that ended with it, if one did.
    pub fn step(&mut self, now: Timestamp, executor: &Executor) -> Option<Outcome> {
        if !self.running {
            if self.begun.is_some_and(|begun| now.since(begun) < PERIOD) {
                return None;
            }
            (self.begun, self.running) = (Some(now), true);
            self.changes = executor.changes();
        }
        let mut keys = KEYS;
        while keys > 0 {
            let mut deviations = Vec::new();
            let looked = self.look(executor, keys, &mut deviations);
            for deviation in deviations {
                match executor.mend(&deviation) {
                    Ok(()) => self.outcome.mended.push(deviation.to_string()),
                    Err(error) => self.outcome.failed = Some(format!("{deviation}: {error}")),
                }
            }
            let ended = match looked {
                Ok(seen) => {
                    let ended = seen < keys;
                    keys = keys.saturating_sub(seen);
                    ended
                }
                Err(error) => {
                    self.outcome.failed = Some(error.to_string());
                    true
                }
            };
            match self.pass {
                _ if !ended => {}
                Pass::Wanted(_) => self.pass = Pass::Found(RuleWalk::default()),
                Pass::Found(_) => return Some(self.end(executor)),
            }
        }
        None
    }

    fn end(&mut self, executor: &Executor) -> Outcome {
        (self.running, self.pass) = (false, Pass::default());
        let mut outcome = mem::take(&mut self.outcome);
        let found = mem::take(&mut self.found);
        let undisturbed = executor.changes() == self.changes && outcome.failed.is_none();
        outcome.counted = undisturbed.then_some(found);
        outcome
    }

    /// Looks at the next rules, some `limit` at most. Returns how many that were; fewer are the last
    /// of the pass.
    fn look(
        &mut self,
        executor: &Executor,
        limit: usize,
        deviations: &mut Vec<Deviation>,
    ) -> Result<usize, KernelError> {
        let (dataplane, set) = (&executor.dataplane, executor.config.rule_set);
        match &mut self.pass {
            Pass::Wanted(after) => {
                let mut seen = 0;
                for (id, wanted) in executor.wanted(*after).take(limit) {
                    let mut judged = None;
                    for matcher in wanted.matcher.entries() {
                        let found = dataplane.rule(set, &matcher)?;
                        let entry = executor.entry(&wanted, matcher);
                        judged = judged.or(judge(id, &entry, found.as_ref()));
                    }
                    // Mending writes all of its entries.
                    deviations.extend(judged);
                    *after = Some(id);
                    seen += 1;
                }
                Ok(seen)
            }
            Pass::Found(walk) => {
                let mut all = Vec::new();
                let seen = dataplane.walk_rules(set, walk, limit, |walked| all.push(walked))?;
                for walked in all {
                    let place = match &walked {
                        Walked::Rule(rule) => {
                            place_in(executor.wanted_rule(RuleId(rule.slot)).as_ref(), rule)
                        }
                        Walked::Setless(_) => None,
                    };
                    match place {
                        // A rule counts once, however many ports it names.
                        Some(place) => self.found += u32::from(place == 0),
                        None => deviations.push(Deviation::Foreign(walked)),
                    }
                }
                Ok(seen)
            }
        }
    }
}

/// How a rule that is wanted differs from what was found in its place.
fn judge(id: RuleId, wanted: &KernelRule, found: Option<&KernelRule>) -> Option<Deviation> {
    match found {
        // In its place a rule over a wider prefix is found, under another number.
        Some(found) if found.slot != wanted.slot => Some(Deviation::Missing(id)),
        Some(found) if found.expires_ns != wanted.expires_ns => Some(Deviation::OtherEnd(id)),
        Some(found) if found != wanted => Some(Deviation::Altered(id)),
        Some(_) => None,
        None => Some(Deviation::Missing(id)),
    }
}

/// Which of the entries of the rule with its number was found; nothing if it is none of the guard's.
fn place_in(wanted: Option<&KernelRule>, found: &KernelRule) -> Option<usize> {
    wanted?.matcher.entries().iter().position(|entry| *entry == found.matcher)
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(id) => write!(f, "rule {} was gone", id.0),
            Self::OtherEnd(id) => write!(f, "rule {} had another end", id.0),
            Self::Altered(id) => write!(f, "rule {} had other flags", id.0),
            Self::Foreign(Walked::Rule(rule)) => match &rule.matcher {
                KernelMatcher::Source(net, _) => write!(f, "a rule over {net} was not the guard's"),
                KernelMatcher::Signature(_) => f.write_str("a signature rule was not the guard's"),
            },
            Self::Foreign(Walked::Setless(_)) => {
                f.write_str("a rule over all sources was not the guard's")
            }
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
    fn a_rule_under_the_number_of_another_is_foreign() {
        let wanted = rule(7, "192.0.2.0/24");
        assert_eq!(place_in(Some(&wanted), &wanted), Some(0));
        assert_eq!(place_in(Some(&wanted), &rule(7, "198.51.100.0/24")), None);
        assert_eq!(place_in(None, &wanted), None, "nobody has that number");
    }

    #[test]
    fn of_a_rule_for_certain_ports_each_is_an_entry_and_no_other_is() {
        let wanted = to_ports(7, "192.0.2.0/24", &[25, 443]);
        let place = |ports: &[u16]| place_in(Some(&wanted), &to_ports(7, "192.0.2.0/24", ports));
        assert_eq!([place(&[25]), place(&[443])], [Some(0), Some(1)]);
        assert_eq!([place(&[80]), place(&[])], [None, None]);
    }
}
