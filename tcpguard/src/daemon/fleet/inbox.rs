//! The queue of messages that wait for the loop.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tcpguard_engine::FleetMessage;

/// Messages that may wait.
pub(super) const ROOM: usize = 64;

/// The queue between the tasks that read and the loop.
#[derive(Clone, Debug, Default)]
pub struct Inbox {
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<FleetMessage>,
    lost: Lost,
}

/// Messages that never reached the engine.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Lost {
    /// Messages for which there was no room.
    pub dropped: u64,
    /// Lines that are no message.
    pub unreadable: u64,
}

impl Inbox {
    /// Adds a message. If there is no room, the oldest hint goes, or else the oldest rule: the fleet process repeats
    /// both. It repeats the end of a rule only when a report still names the rule.
    pub(super) fn push(&self, message: FleetMessage) {
        let mut waiting = self.lock();
        if waiting.messages.len() >= ROOM {
            waiting.lost.dropped += 1;
            let first =
                |is_one: fn(&FleetMessage) -> bool| waiting.messages.iter().position(is_one);
            let hint = first(|message| matches!(message, FleetMessage::Hint(_)));
            let rule = || first(|message| matches!(message, FleetMessage::Rule(_)));
            let Some(place) = hint.or_else(rule) else { return };
            waiting.messages.remove(place);
        }
        waiting.messages.push_back(message);
    }

    /// Counts a line that is no message.
    pub(super) fn note_unreadable(&self) {
        self.lock().lost.unreadable += 1;
    }

    /// Takes the oldest message.
    pub(super) fn pop(&self) -> Option<FleetMessage> {
        self.lock().messages.pop_front()
    }

    /// Returns the numbers of lost messages since the agent started.
    pub(super) fn lost(&self) -> Lost {
        self.lock().lost
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tcpguard_engine::{FleetAction, FleetName, FleetRule, Hint, Ports, SharedSignature};

    use super::*;

    pub(in crate::daemon::fleet) fn hint(port: u16) -> FleetMessage {
        let signature = SharedSignature {
            mask: "no_ttl".to_owned(),
            options: String::new(),
            mss: Some(0),
            window: Some(512),
            wscale: Some(255),
            ttl: None,
            ip_id: None,
            quirks: String::new(),
        };
        FleetMessage::Hint(Hint { port, signature, reporters: 2, ttl_s: 60 })
    }

    pub(in crate::daemon::fleet) fn name(serial: u64) -> FleetName {
        FleetName { role: "ops".to_owned(), serial }
    }

    fn rule(serial: u64) -> FleetMessage {
        FleetMessage::Rule(FleetRule {
            name: name(serial),
            action: FleetAction::Block,
            net: "203.0.113.0/24".parse().unwrap(),
            ports: Ports::EVERY,
            lifetime_s: 600,
            reason: String::new(),
        })
    }

    fn all(inbox: &Inbox) -> Vec<FleetMessage> {
        std::iter::from_fn(|| inbox.pop()).collect()
    }

    #[test]
    fn a_full_queue_loses_the_oldest_hint_first_and_the_end_of_a_rule_last() {
        let inbox = Inbox::default();
        inbox.push(rule(1));
        (1..=64).for_each(|port| inbox.push(hint(port)));
        assert_eq!(inbox.lost(), Lost { dropped: 1, unreadable: 0 });
        let messages = all(&inbox);
        assert_eq!(messages.len(), ROOM);
        assert_eq!((&messages[0], &messages[1]), (&rule(1), &hint(2)), "hint 1 has gone");

        (1..=64).for_each(|serial| inbox.push(rule(serial)));
        let gone = FleetMessage::RuleGone(name(64));
        inbox.push(gone.clone());
        let messages = all(&inbox);
        assert_eq!((&messages[0], messages.last()), (&rule(2), Some(&gone)));

        (0..64).for_each(|serial| inbox.push(FleetMessage::RuleGone(name(serial))));
        inbox.push(hint(443));
        assert_eq!(all(&inbox)[0], FleetMessage::RuleGone(name(0)), "nothing makes way");
        assert_eq!(inbox.lost().dropped, 3);
    }

    #[test]
    fn messages_have_one_form_on_the_wire() {
        for (message, text) in [
            (
                hint(443),
                r#"{"hint":{"port":443,"signature":{"mask":"no_ttl","options":"","mss":0,"window":512,"wscale":255},"reporters":2,"ttl_s":60}}"#,
            ),
            (
                rule(42),
                r#"{"rule":{"name":{"role":"ops","serial":42},"action":"block","net":"203.0.113.0/24","ports":[],"lifetime_s":600,"reason":""}}"#,
            ),
            (FleetMessage::RuleGone(name(42)), r#"{"rule_gone":{"role":"ops","serial":42}}"#),
        ] {
            assert_eq!(serde_json::to_string(&message).unwrap(), text);
            assert_eq!(serde_json::from_str::<FleetMessage>(text).unwrap(), message);
        }
        for text in [r#"{"mode":"off"}"#, r#"{"unblock":{"which":"all","whose":"all"}}"#, "null"] {
            assert!(serde_json::from_str::<FleetMessage>(text).is_err(), "{text}");
        }
    }
}
