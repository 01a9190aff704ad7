//! Repetition of the operators' rules to the agent, which holds back changes that are too fast and takes them later.

use std::time::Duration;

use tcpguard_engine::Timestamp;

use crate::document::RuleKey;
use crate::trust::{ActiveRule, OperatorRules};

/// Time from the start of one round through the rules to that of the next, at least.
const ROUND: Duration = Duration::from_secs(60);
/// Time between two parts of a round.
const PART: Duration = Duration::from_secs(1);
/// Rules of a part. The agent makes as many changes in the long run.
const RULES: usize = 4;
/// Rules of the first part for an agent that has none. The agent's queue holds 64 messages, and hints need some.
const FIRST_RULES: usize = 32;

/// Repetition of the operators' rules to the agent, a few at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Feed {
    /// Time of the next part.
    part: Timestamp,
    /// Earliest start of the next round.
    round: Timestamp,
    /// The last rule of this round so far; `None` between two rounds.
    after: Option<RuleKey>,
}

impl Feed {
    /// The first rules for an agent that has none. The others follow.
    pub fn begin(&mut self, now: Timestamp, rules: &OperatorRules) -> Vec<ActiveRule> {
        (self.round, self.after) = (now + ROUND, None);
        self.take(now, FIRST_RULES, rules)
    }

    /// The rules to repeat now.
    pub fn due_now(&mut self, now: Timestamp, rules: &OperatorRules) -> Vec<ActiveRule> {
        if now < self.part {
            return Vec::new();
        }
        if self.after.is_none() {
            if now < self.round {
                return Vec::new();
            }
            self.round = now + ROUND;
        }
        self.take(now, RULES, rules)
    }

    fn take(&mut self, now: Timestamp, most: usize, rules: &OperatorRules) -> Vec<ActiveRule> {
        let taken: Vec<_> = rules.rules_after(now, self.after.as_ref()).take(most).collect();
        let is_more = taken.len() == most;
        self.after = taken.last().filter(|_| is_more).map(|rule| rule.key.clone());
        self.part = now + PART;
        taken
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_engine::Ports;
    use tcpguard_host::time::{Clock, Time};

    use super::*;
    use crate::document::tests::{AT, host, time};
    use crate::document::{HostSelector, Label, RuleBody, RuleKind};
    use crate::trust::{Change, Identity, OperatorKey, Role, Roles};

    const START: Timestamp = Timestamp::from_millis(1_000_000);

    fn rules(number: u64) -> OperatorRules {
        let operator = OperatorKey::from_seed(&[7; 32]);
        let label: Label = "ops".parse().expect("a role");
        let roles = Roles([(label.clone(), Role::new(vec![operator.public()]))].into());
        let mut rules = OperatorRules::new(Identity { host: host(1), boot: 1 }, None, roles);
        let clock = Clock { now: START, wall: time(AT).0 };
        let end = clock.wall.checked_add(Duration::from_secs(3600)).expect("a time");
        for serial in 1..=number {
            let rule = RuleBody {
                kind: RuleKind::Block,
                prefix: format!("198.51.100.{serial}/32").parse().expect("a prefix"),
                ports: Ports::EVERY,
                hosts: HostSelector::default(),
                not_after: Time(end),
                reason: String::new(),
                who: "ada".to_owned(),
                serial,
            };
            let key = RuleKey { role: label.clone(), target: rule.target() };
            let signed = operator.sign(label.clone(), &rule).expect("signed");
            let change = rules.accept(clock, &key, &signed);
            assert!(matches!(change, Ok(Change::Set { .. })), "{change:?}");
        }
        rules
    }

    /// Seconds at which rules were repeated, and their number.
    fn repeated(feed: &mut Feed, rules: &OperatorRules, seconds: u64) -> Vec<(u64, usize)> {
        let taken = (0..seconds)
            .map(|second| (second, feed.due_now(START + Duration::from_secs(second), rules).len()));
        taken.filter(|(_, taken)| *taken > 0).collect()
    }

    #[test]
    fn an_agent_without_rules_has_all_of_them_soon() {
        let rules = rules(50);
        let mut feed = Feed::default();
        let first = feed.begin(START, &rules);
        assert_eq!(first.len(), FIRST_RULES);
        let others = repeated(&mut feed, &rules, 30);
        assert_eq!(others, [(1, 4), (2, 4), (3, 4), (4, 4), (5, 2)]);
    }

    #[test]
    fn rules_are_repeated_once_a_minute_and_no_faster_than_the_agent_takes_them() {
        let rules = rules(5);
        let mut feed = Feed::default();
        assert_eq!(feed.begin(START, &rules).len(), 5);
        let repeated = repeated(&mut feed, &rules, 180);
        assert_eq!(repeated, [(60, 4), (61, 1), (120, 4), (121, 1)]);
    }

    #[test]
    fn no_rules_are_no_round() {
        let rules = rules(0);
        let mut feed = Feed::default();
        assert!(feed.begin(START, &rules).is_empty());
        assert!(repeated(&mut feed, &rules, 180).is_empty());
    }
}
