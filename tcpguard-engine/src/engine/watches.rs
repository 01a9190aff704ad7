//! All listeners as the engine follows them.

use std::collections::BTreeMap;
use std::ops::Index;

use crate::ListenerId;
use crate::watch::Watch;

/// By listener. Each is allocated by itself: listeners come in the order of their numbers, which leaves the nodes
/// of a map half empty, and a watch has some KiB.
#[derive(Clone, Debug, Default)]
pub(super) struct Watches(BTreeMap<ListenerId, Box<Watch>>);

impl Watches {
    pub fn keys(&self) -> impl Iterator<Item = &ListenerId> {
        self.0.keys()
    }

    pub fn values(&self) -> impl Iterator<Item = &Watch> {
        self.0.values().map(|watch| &**watch)
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Watch> {
        self.0.values_mut().map(|watch| &mut **watch)
    }

    pub fn has_at_least(&self, listeners: usize) -> bool {
        self.0.len() >= listeners
    }

    pub fn get(&self, id: &ListenerId) -> Option<&Watch> {
        self.0.get(id).map(|watch| &**watch)
    }

    pub fn get_mut(&mut self, id: &ListenerId) -> Option<&mut Watch> {
        self.0.get_mut(id).map(|watch| &mut **watch)
    }

    pub fn insert(&mut self, id: ListenerId, watch: Watch) {
        self.0.insert(id, Box::new(watch));
    }

    pub fn remove(&mut self, id: &ListenerId) -> Option<Watch> {
        self.0.remove(id).map(|watch| *watch)
    }
}

impl Index<&ListenerId> for Watches {
    type Output = Watch;

    fn index(&self, id: &ListenerId) -> &Watch {
        &self.0[id]
    }
}
