//! The queue of messages to the agent.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tcpguard_engine::FleetMessage;
use tokio::sync::Notify;

/// Messages that may wait. The agent's own queue has as many slots.
pub(super) const CAPACITY: usize = 64;

/// The queue of messages to the agent. They are added by one task and sent by another.
#[derive(Clone, Debug, Default)]
pub struct Outbox(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    added: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<FleetMessage>,
    dropped: u64,
}

impl Outbox {
    /// Adds a message. In a full queue the oldest hint gives way, or else the oldest rule: both are repeated. The end
    /// of a rule is sent again only when a report of the agent still names the rule.
    pub fn push(&self, message: FleetMessage) {
        {
            let mut waiting = self.lock();
            if waiting.messages.len() >= CAPACITY {
                waiting.dropped += 1;
                let first =
                    |is_one: fn(&FleetMessage) -> bool| waiting.messages.iter().position(is_one);
                let hint = first(|message| matches!(message, FleetMessage::Hint(_)));
                let rule = || first(|message| matches!(message, FleetMessage::Rule(_)));
                let Some(place) = hint.or_else(rule) else { return };
                waiting.messages.remove(place);
            }
            waiting.messages.push_back(message);
        }
        self.0.added.notify_one();
    }

    /// Drops all messages: they were for an agent that is gone, and its successor is given all again.
    pub fn clear(&self) {
        self.lock().messages.clear();
    }

    /// Number of messages that found no slot, or gave theirs up.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Takes the oldest message, and waits for one if there is none.
    pub async fn next(&self) -> FleetMessage {
        loop {
            let first = self.lock().messages.pop_front();
            match first {
                Some(message) => return message,
                None => self.0.added.notified().await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A panic leaves the queue whole: each of its methods makes one change.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_engine::FleetName;

    use super::super::tests::{hint, rule};
    use super::*;

    fn all(outbox: &Outbox) -> Vec<FleetMessage> {
        outbox.lock().messages.drain(..).collect()
    }

    #[test]
    fn a_full_queue_loses_the_oldest_hint_first_and_the_end_of_a_rule_last() {
        let outbox = Outbox::default();
        outbox.push(rule(1));
        (1..=64).for_each(|port| outbox.push(hint(port)));
        let messages = all(&outbox);
        assert_eq!((messages.len(), outbox.dropped()), (CAPACITY, 1));
        assert_eq!((&messages[0], &messages[1]), (&rule(1), &hint(2)), "hint 1 is gone");

        (1..=64).for_each(|serial| outbox.push(rule(serial)));
        let gone = FleetMessage::RuleGone(FleetName { role: "ops".to_owned(), serial: 64 });
        outbox.push(gone.clone());
        let messages = all(&outbox);
        assert_eq!((&messages[0], messages.last()), (&rule(2), Some(&gone)));
    }

    #[tokio::test]
    async fn a_message_is_waited_for() {
        let outbox = Outbox::default();
        let (message, ()) = tokio::join!(outbox.next(), async { outbox.push(hint(443)) });
        assert_eq!(message, hint(443));
        outbox.push(hint(80));
        outbox.clear();
        outbox.push(hint(22));
        assert_eq!(outbox.next().await, hint(22));
    }
}
