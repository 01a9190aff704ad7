//! All listeners as the engine monitors them.

use std::collections::BTreeMap;
use std::ops::Index;

use super::monitor::ListenerMonitor;
use crate::input::ListenerId;

/// By listener. Each is allocated by itself: listeners come in the order of their numbers, which leaves the nodes
/// of a map half empty, and a watch has some KiB.
#[derive(Clone, Debug, Default)]
pub(super) struct Monitors(BTreeMap<ListenerId, Box<ListenerMonitor>>);

impl Monitors {
    pub fn keys(&self) -> impl Iterator<Item = &ListenerId> {
        self.0.keys()
    }

    pub fn values(&self) -> impl Iterator<Item = &ListenerMonitor> {
        self.0.values().map(|monitor| &**monitor)
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut ListenerMonitor> {
        self.0.values_mut().map(|monitor| &mut **monitor)
    }

    pub fn has_at_least(&self, listeners: usize) -> bool {
        self.0.len() >= listeners
    }

    pub fn get(&self, id: &ListenerId) -> Option<&ListenerMonitor> {
        self.0.get(id).map(|monitor| &**monitor)
    }

    pub fn get_mut(&mut self, id: &ListenerId) -> Option<&mut ListenerMonitor> {
        self.0.get_mut(id).map(|monitor| &mut **monitor)
    }

    pub fn insert(&mut self, id: ListenerId, monitor: ListenerMonitor) {
        self.0.insert(id, Box::new(monitor));
    }

    pub fn remove(&mut self, id: &ListenerId) -> Option<ListenerMonitor> {
        self.0.remove(id).map(|monitor| *monitor)
    }
}

impl Index<&ListenerId> for Monitors {
    type Output = ListenerMonitor;

    fn index(&self, id: &ListenerId) -> &ListenerMonitor {
        &self.0[id]
    }
}
