//! Events that wait for delivery to one target.

use std::collections::VecDeque;

use super::document::{EventKind, Hook};

/// Most events that wait.
pub const CAPACITY: usize = 64;

/// Events that wait, in the order of their time.
///
/// Of several updates of one incident only the last waits, and its end replaces it. When the queue is full, an update
/// gives way first, then an event of relief, then the oldest.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: VecDeque<Hook>,
    dropped: u64,
}

impl Queue {
    /// Adds an event.
    pub fn push(&mut self, hook: Hook) {
        let same = self
            .waiting
            .iter()
            .position(|one| one.event == EventKind::Update && one.is_about_same(&hook));
        match (hook.event, same) {
            // It keeps the place of the earlier one: an incident that changes often is not put off by that.
            (EventKind::Update, Some(place)) => {
                self.waiting[place] = hook;
                return;
            }
            (EventKind::End, Some(place)) => {
                self.waiting.remove(place);
            }
            _ => {}
        }
        if self.waiting.len() >= CAPACITY && !self.drop_least(hook.event) {
            self.dropped += 1;
            return;
        }
        self.waiting.push_back(hook);
    }

    /// Removes the next event.
    pub fn pop(&mut self) -> Option<Hook> {
        self.waiting.pop_front()
    }

    /// Returns the number of events that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns whether no event waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns the number of events that found no slot, or gave theirs up.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Drops the least valuable event; false if that is the new one.
    fn drop_least(&mut self, event: EventKind) -> bool {
        let least = self.waiting.iter().map(|one| value(one.event)).min().unwrap_or_default();
        if least > value(event) {
            return false;
        }
        let place = self.waiting.iter().position(|one| value(one.event) == least);
        if let Some(place) = place {
            self.waiting.remove(place);
            self.dropped += 1;
        }
        true
    }
}

const fn value(event: EventKind) -> u8 {
    match event {
        EventKind::Update => 0,
        EventKind::Relief => 1,
        EventKind::Start | EventKind::End => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::tests::hook;
    use super::EventKind::{End, Relief, Start, Update};
    use super::*;

    fn queue(events: &[(EventKind, u64)]) -> Queue {
        let mut queue = Queue::default();
        for (event, incident) in events {
            queue.push(hook(*event, *incident));
        }
        queue
    }

    fn waiting(queue: &mut Queue) -> Vec<(EventKind, u64)> {
        std::iter::from_fn(|| queue.pop()).map(|hook| (hook.event, hook.incident.id)).collect()
    }

    #[test]
    fn only_the_last_update_of_an_incident_waits() {
        let mut queue = queue(&[(Start, 1), (Update, 1), (Start, 2), (Update, 2)]);
        let mut last = hook(Update, 1);
        last.incident.syn_pps = 7.0;
        queue.push(last);
        assert_eq!(queue.len(), 4);
        queue.pop();
        assert_eq!(queue.pop().map(|hook| hook.incident.syn_pps), Some(7.0));
        assert_eq!(waiting(&mut queue), [(Start, 2), (Update, 2)]);
        assert_eq!(queue.dropped(), 0);
    }

    #[test]
    fn updates_of_another_host_are_others() {
        let mut queue = queue(&[(Update, 1)]);
        let mut other = hook(Update, 1);
        other.host = "web2".to_owned();
        queue.push(other);
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn an_end_replaces_the_update_before_it() {
        let mut queue = queue(&[(Start, 1), (Update, 1), (Relief, 1), (End, 1)]);
        assert_eq!(waiting(&mut queue), [(Start, 1), (Relief, 1), (End, 1)]);
    }

    #[test]
    fn a_full_queue_keeps_starts_and_ends() {
        let mut events: Vec<(EventKind, u64)> = (0..32).map(|n| (Start, n)).collect();
        events.extend((100..132).map(|n| (Update, n)));
        let mut queue = queue(&events);
        assert_eq!((queue.len(), queue.dropped()), (CAPACITY, 0));
        for incident in 0..32 {
            queue.push(hook(End, incident));
        }
        assert_eq!((queue.len(), queue.dropped()), (CAPACITY, 32));
        let waiting = waiting(&mut queue);
        assert!(waiting.iter().all(|(event, _)| matches!(event, Start | End)));
        // A naive queue that drops the oldest, or the newest, would lose all starts, or all ends.
        assert_eq!(waiting.iter().filter(|(event, _)| *event == End).count(), 32);
    }

    #[test]
    fn an_update_finds_no_slot_among_starts() {
        let events: Vec<(EventKind, u64)> = (0..64).map(|n| (Start, n)).collect();
        let mut queue = queue(&events);
        queue.push(hook(Update, 1));
        queue.push(hook(Relief, 1));
        assert_eq!((queue.len(), queue.dropped()), (CAPACITY, 2));
        // Among equals the oldest goes.
        queue.push(hook(Start, 64));
        assert_eq!((queue.len(), queue.dropped()), (CAPACITY, 3));
        assert_eq!(waiting(&mut queue)[0], (Start, 1));
    }

    #[test]
    fn nothing_grows_without_bound() {
        let mut queue = Queue::default();
        for n in 0..10_000 {
            for event in [Start, Update, Relief, End] {
                queue.push(hook(event, n));
                assert!(queue.len() <= CAPACITY);
            }
        }
        assert!(queue.dropped() > 0);
    }
}
