//! All listeners as the engine monitors them.

use std::collections::BTreeMap;
use std::ops::Index;

use super::monitor::{ListenerMonitor, Missed};
use super::pace::CALM;
use crate::input::{ListenerId, ListenerSample, POLL, Sample};
use crate::listener::PollContext;
use crate::settings::Settings;

/// Polls after one of another length than the last that rest on its length. Handshakes are judged at most so late.
const UNEVEN: u32 = 5;

/// By listener. Each is allocated by itself: listeners come in the order of their numbers, which leaves the nodes
/// of a map half empty, and a watch has some KiB.
///
/// Only those are followed where something happens, or did a moment ago: a host may have thousands. At the others no
/// poll changes anything that is judged. They make up for all polls that they have missed at once, when something
/// happens to them, or else every five seconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Monitors {
    followed: BTreeMap<ListenerId, Box<ListenerMonitor>>,
    resting: BTreeMap<ListenerId, Box<ListenerMonitor>>,
    /// The polls that those at rest have missed, except those from before their rest.
    missed: Vec<Missed>,
    /// Polls to come that rest on one of another length.
    uneven: u32,
}

impl Monitors {
    /// All listeners, by their numbers. What those at rest learn from time alone is up to five seconds old.
    pub fn all(&self) -> impl Iterator<Item = &ListenerMonitor> {
        let mut all: Vec<_> = self.followed.iter().chain(&self.resting).collect();
        all.sort_unstable_by_key(|(id, _)| **id);
        all.into_iter().map(|(_, monitor)| &**monitor)
    }

    /// The listeners that are followed.
    pub fn values(&self) -> impl Iterator<Item = &ListenerMonitor> {
        self.followed.values().map(|monitor| &**monitor)
    }

    /// The listeners that are followed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut ListenerMonitor> {
        self.followed.values_mut().map(|monitor| &mut **monitor)
    }

    pub fn has_at_least(&self, listeners: usize) -> bool {
        self.followed.len() + self.resting.len() >= listeners
    }

    /// Returns whether any such listener is at rest.
    pub fn any_rests(&self, such: impl Fn(&ListenerMonitor) -> bool) -> bool {
        self.resting.values().any(|monitor| such(monitor))
    }

    pub fn get(&self, id: &ListenerId) -> Option<&ListenerMonitor> {
        self.followed.get(id).or_else(|| self.resting.get(id)).map(|monitor| &**monitor)
    }

    /// The listener, which is followed from now on.
    pub fn get_mut(&mut self, id: &ListenerId) -> Option<&mut ListenerMonitor> {
        if let Some(mut monitor) = self.resting.remove(id) {
            monitor.make_up(&self.missed);
            self.followed.insert(*id, monitor);
        }
        self.followed.get_mut(id).map(|monitor| &mut **monitor)
    }

    pub fn insert(&mut self, id: ListenerId, monitor: ListenerMonitor) {
        self.followed.insert(id, Box::new(monitor));
    }

    pub fn remove(&mut self, id: &ListenerId) -> Option<ListenerMonitor> {
        self.followed.remove(id).or_else(|| self.resting.remove(id)).map(|monitor| *monitor)
    }

    /// Has all listeners followed from now on.
    pub fn wake(&mut self) {
        self.make_up();
        self.followed.append(&mut self.resting);
    }

    /// The readings of a poll that can change anything, by the listeners: those of the sample, and those of the
    /// listeners that are followed although they have not changed.
    pub fn follow(&mut self, sample: &Sample) -> Vec<ListenerSample> {
        let mut readings = BTreeMap::new();
        for reading in &sample.listeners {
            if self.resting.get_mut(&reading.id).is_none_or(|monitor| !monitor.stays_as(reading)) {
                self.get_mut(&reading.id);
                readings.insert(reading.id, reading.clone());
            }
        }
        let stay = self.followed.iter().filter(|(id, _)| !sample.gone.contains(id));
        for (id, monitor) in stay {
            readings.entry(*id).or_insert_with(|| monitor.unchanged());
        }
        readings.into_values().collect()
    }

    /// Lets the listeners at rest go through a poll, and those where nothing happens rest from now on.
    pub fn pass(&mut self, around: &PollContext, settings: &Settings) {
        if around.parts() != 1 {
            self.uneven = UNEVEN;
        }
        if self.uneven > 0 {
            self.uneven -= 1;
            self.make_up();
            for monitor in self.resting.values_mut() {
                monitor.observe(&monitor.unchanged(), around, false, settings);
            }
        } else if !self.resting.is_empty() {
            self.missed.push(Missed::of(around));
            if POLL * self.missed.len() as u32 >= CALM {
                self.make_up();
            }
        }
        let over = self.followed.extract_if(.., |_, monitor| monitor.may_rest(around.at));
        self.resting.extend(over);
    }

    fn make_up(&mut self) {
        self.resting.values_mut().for_each(|monitor| monitor.make_up(&self.missed));
        self.missed.clear();
    }
}

impl Index<&ListenerId> for Monitors {
    type Output = ListenerMonitor;

    fn index(&self, id: &ListenerId) -> &ListenerMonitor {
        self.get(id).expect("a listener that is monitored")
    }
}

#[cfg(test)]
mod tests {
    use super::super::Engine;
    use crate::input::{ListenerCounters, ListenerId, Mode, POLL, Sample, Timestamp};
    use crate::settings::Tuning;

    fn engine_after(polls: u32, taken: impl Fn(u32) -> Vec<ListenerId>) -> Engine {
        let mut engine = Engine::new(Tuning::default(), Mode::Enforce).unwrap();
        let template = super::super::monitor::tests::after(0, Default::default()).0.unchanged();
        for poll in 0..polls {
            let listeners = taken(poll).into_iter().map(|id| {
                let mut reading = crate::input::ListenerSample { id, ..template.clone() };
                reading.counters = ListenerCounters { syn: poll.into(), ..reading.counters };
                reading
            });
            let at = Timestamp::from_millis(60_000) + POLL * poll;
            engine.handle_sample(&Sample {
                at,
                listeners: listeners.collect(),
                ..Sample::default()
            });
        }
        engine
    }

    #[test]
    fn only_listeners_that_are_touched_are_followed() {
        let all = || (0..100).map(ListenerId).collect::<Vec<_>>();
        let taken = |poll| match poll {
            0 => all(),
            _ if poll % 4 == 0 => vec![ListenerId(7)],
            _ => Vec::new(),
        };
        let mut engine = engine_after(100, taken);
        let followed: Vec<ListenerId> =
            engine.listeners.monitors.values().map(|one| one.id).collect();
        assert_eq!(followed, [ListenerId(7)]);
        assert_eq!(engine.report(engine.listeners.now).listeners.len(), 100);
        let at = engine.listeners.now + POLL;
        engine.handle_sample(&Sample { at, gone: all(), ..Sample::default() });
        assert_eq!(engine.report(at).listeners.len(), 0);
    }
}
