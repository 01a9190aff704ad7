//! A speaker that announces nothing and keeps the table that it would announce.

use std::collections::BTreeMap;

use super::{Speaker, SpeakerError};
use crate::relief::controller::{Change, Entry};
use crate::relief::route::{Key, Route};

/// The table of a dry run.
#[derive(Debug, Default)]
pub struct DryRun(BTreeMap<Key, Route>);

impl Speaker for DryRun {
    async fn apply(&mut self, change: &Change) -> Result<(), SpeakerError> {
        match change {
            Change::Announce(route) => self.0.insert(route.key(), route.clone()),
            Change::Withdraw(key) => self.0.remove(key),
        };
        Ok(())
    }

    async fn table(&mut self) -> Result<Vec<Entry>, SpeakerError> {
        let entries = self.0.iter();
        Ok(entries
            .map(|(key, route)| Entry { key: key.clone(), route: Some(route.clone()) })
            .collect())
    }

    async fn is_established(&mut self) -> Result<bool, SpeakerError> {
        Ok(false)
    }
}
