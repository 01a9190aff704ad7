//! The page of one incident: conclusion, actions and rules, and on request all its evidence.

use std::fmt::{self, Write};

use super::incident::{self, Block, Item, Section, write};
use super::view::View;
use crate::documents::FullIncident;

/// One incident, open or past. Its evidence and the request to the provider are left out
/// without `evidence`.
pub fn in_full(
    out: &mut impl Write,
    full: &FullIncident,
    view: &View,
    evidence: bool,
) -> fmt::Result {
    let shown = |time| view.moment(time);
    let mut conclusion = incident::conclusion(&full.incident, &shown);
    if !evidence {
        let details = format!("tcpguard explain {} --evidence", full.incident.id);
        conclusion.push(Block::Fact("Details", details));
    }
    let shown = |time| view.time(time);
    let mut sections = vec![Section { title: "Conclusion", blocks: conclusion }];
    sections.extend(incident::numbers(&full.incident));
    sections.extend(incident::actions(full, &shown));
    if evidence {
        let request = incident::provider(full).into_iter().map(Item::plain).collect::<Vec<_>>();
        if !request.is_empty() {
            let blocks = vec![Block::List("Provider", request)];
            sections.push(Section { title: "For the provider", blocks });
        }
        sections.extend(incident::evidence(full, &shown));
    }
    write(out, &sections, view)
}
