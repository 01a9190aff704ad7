//! The page of one incident: conclusion, actions and rules, and on request all its evidence.

use std::fmt::{self, Write};

use super::incident::{self, Section, write};
use super::view::View;
use crate::documents::FullIncident;

/// One incident, open or past. Its evidence is left out without `evidence`.
pub fn in_full(
    out: &mut impl Write,
    full: &FullIncident,
    view: &View,
    evidence: bool,
) -> fmt::Result {
    let shown = |time| view.moment(time);
    let mut conclusion = incident::conclusion(&full.incident, None, &shown);
    if !evidence {
        let details = format!("tcpguard explain {} --evidence", full.incident.id);
        conclusion.push(incident::Block::Fact("Details", details));
    }
    let shown = |time| view.time(time);
    let mut sections = vec![Section { title: "Conclusion", blocks: conclusion }];
    sections.extend(incident::outcome(full, &shown));
    if evidence {
        sections.extend(incident::evidence(full, &shown));
    }
    write(out, &sections, view)
}
