//! The content of each pane: rows and notes, made from a snapshot. Nothing here knows of a
//! terminal.

mod incidents;
mod listeners;
mod overview;
mod signatures;
mod sources;

use super::list::{Column, Row};
use super::snapshot::Snapshot;
use crate::text::{Tone, View};

pub use overview::{clients, curves};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pane {
    Overview,
    Listeners,
    Sources,
    /// The rules, and the signatures of failed handshakes.
    Signatures,
    /// Open and past incidents.
    Incidents,
}

/// A paragraph under, or beside, a heading.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note {
    /// The heading; empty for one more paragraph under the same.
    pub heading: &'static str,
    pub text: String,
    /// The meaning of its colour.
    pub tone: Tone,
}

impl Note {
    pub fn new(heading: &'static str, text: impl Into<String>) -> Self {
        Self { heading, text: text.into(), tone: Tone::Plain }
    }

    /// The same in another tone.
    pub fn toned(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }
}

impl Pane {
    /// All panes, from left to right.
    pub const ALL: [Self; 5] =
        [Self::Overview, Self::Listeners, Self::Sources, Self::Signatures, Self::Incidents];

    /// Its position among them.
    pub const fn place(self) -> usize {
        self as usize
    }

    pub const fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Listeners => "Listeners",
            Self::Sources => "Sources",
            Self::Signatures => "Signatures",
            Self::Incidents => "Incidents",
        }
    }

    /// The columns of its list; none for the overview, which has no list.
    pub const fn columns(self) -> &'static [Column] {
        match self {
            Self::Overview => &[],
            Self::Listeners => &listeners::COLUMNS,
            Self::Sources => &sources::COLUMNS,
            Self::Signatures => &signatures::COLUMNS,
            Self::Incidents => &incidents::COLUMNS,
        }
    }

    /// The column that its list is sorted by at first.
    pub const fn first_sort(self) -> usize {
        match self {
            Self::Overview | Self::Incidents => 0,
            Self::Listeners => listeners::FIRST_SORT,
            Self::Sources => sources::FIRST_SORT,
            Self::Signatures => signatures::FIRST_SORT,
        }
    }

    /// Returns the number of rows of its list; `None` for the overview.
    pub fn count(self, snapshot: &Snapshot) -> Option<usize> {
        let status = &snapshot.status;
        match self {
            Self::Overview => None,
            Self::Listeners => Some(status.listeners.len()),
            Self::Sources => Some(status.sources.len()),
            Self::Signatures => Some(status.rules.list.len()),
            Self::Incidents => Some(status.incidents.len() + status.past_incidents.len()),
        }
    }

    /// The rows of its list.
    pub fn rows(self, snapshot: &Snapshot, view: &View) -> Vec<Row> {
        match self {
            Self::Overview => Vec::new(),
            Self::Listeners => listeners::rows(snapshot),
            Self::Sources => sources::rows(snapshot),
            Self::Signatures => signatures::rows(snapshot),
            Self::Incidents => incidents::rows(snapshot, view),
        }
    }

    /// Returns the reason why its list is empty, with a hint.
    pub const fn empty(self) -> &'static str {
        match self {
            Self::Overview => "",
            Self::Listeners => "nothing listens on this host; see: ss -lnt",
            Self::Sources => "no source has sent a SYN yet",
            Self::Signatures => "no rules; make one: tcpguard block PREFIX",
            Self::Incidents => "no incident; older ones: journalctl -u tcpguard",
        }
    }

    /// The notes about the row with this key, and about the list as a whole. For the overview:
    /// everything below its curves.
    pub fn notes(self, snapshot: &Snapshot, key: Option<&str>, view: &View) -> Vec<Note> {
        match self {
            Self::Overview => overview::notes(snapshot, view),
            Self::Listeners => listeners::notes(snapshot, key, view),
            Self::Sources => sources::notes(snapshot, key),
            Self::Signatures => signatures::notes(snapshot, key),
            Self::Incidents => incidents::notes(snapshot, key, view),
        }
    }
}
