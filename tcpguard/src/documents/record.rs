//! Record of an incident, from which its verdict can be re-traced: `tcpguard explain ATTACK` shows it, and it
//! is stored when the attack is over.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_engine as engine;
use tcpguard_engine::{
    Evidence, IncidentReport, MapTime as _, MitigationReason, Report, RestraintReason, RuleReason,
};
use tcpguard_host::json;
use tcpguard_host::time::{Clock, Time};

use super::{Incident, build};

/// Name and version of a [`FullIncident`].
pub const INCIDENT_SCHEMA: &str = "tcpguard.incident/1";
/// Maximum size of the evidence of one attack as JSON, in bytes: [`Incident::evidence`] and
/// [`FullIncident::record`] together.
pub const EVIDENCE_BYTES: usize = 9216;
/// Cuts that are tried one after the other until the evidence fits: number of list entries, and number of SYN
/// headers.
const CUTS: [(usize, usize); 11] = [
    (16, 16),
    (8, 16),
    (6, 16),
    (4, 16),
    (3, 16),
    (2, 16),
    (2, 12),
    (2, 8),
    (1, 4),
    (0, 2),
    (0, 0),
];
/// Number of characters to which sentences are cut where all of that was not enough.
const SENTENCE: usize = 100;

/// One attack, or another incident, with all the evidence that it was judged by.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct FullIncident {
    /// The incident as the status shows it.
    #[serde(flatten)]
    pub incident: Incident,
    /// Path to the verdict, and outcome.
    pub record: Record,
}

/// The engine's record, in the time of day.
pub type Record = engine::Record<Time>;
/// A rule of an incident, which may have ended.
pub type RuleRecord = engine::RuleRecord<Time>;
/// Counters and signals at one moment.
pub type Moment = engine::Moment<Time>;

impl FullIncident {
    /// Builds the document of an incident of `report`, open or closed, at `clock`.
    pub fn build(incident: &IncidentReport, report: &Report, clock: Clock) -> Self {
        let record = (*incident.record).clone().map_time(&|at| clock.time_at(at));
        let incident = build::incident(incident, report, clock);
        Self { incident, record }.fitted()
    }

    /// Returns the size of its evidence as JSON, in bytes.
    pub fn evidence_bytes(&self) -> usize {
        let bytes = |json: serde_json::Result<Vec<u8>>| json.map_or(usize::MAX, |json| json.len());
        bytes(json::bytes(&self.incident.evidence)).saturating_add(bytes(json::bytes(&self.record)))
    }

    /// Returns the document with its lists cut until the evidence fits in [`EVIDENCE_BYTES`]. Sentences, and the
    /// numbers of lines and indicators that do not hold, are cut last.
    fn fitted(mut self) -> Self {
        for (most, headers) in CUTS {
            self.cut_lists(most);
            self.record.syn_headers.truncate(headers);
            if self.evidence_bytes() <= EVIDENCE_BYTES {
                return self;
            }
        }
        cut_sentences(&mut self.record);
        if self.evidence_bytes() > EVIDENCE_BYTES {
            let lines = self.record.lines.iter_mut().filter(|line| !line.holds);
            lines.for_each(|line| line.measured.clear());
            let indicators = self.incident.evidence.indicators.iter_mut();
            indicators.filter(|one| !one.holds).for_each(|one| one.measured.clear());
        }
        self
    }

    fn cut_lists(&mut self, most: usize) {
        self.record.lists_hold = most as u32;
        cut_evidence(&mut self.incident.evidence, most);
        let Record { rules, more_rules, more_hits, .. } = &mut self.record;
        // The latest rules show the present state.
        let surplus = rules.len().saturating_sub(most);
        for rule in rules.drain(..surplus) {
            *more_rules += 1;
            *more_hits += rule.hits;
        }
    }
}

fn cut_evidence(evidence: &mut Evidence, most: usize) {
    evidence.top_sources.truncate(most);
    evidence.top_networks.truncate(most);
    evidence.signatures.truncate(most);
    evidence.ttls.truncate(most);
}

fn cut_sentences(record: &mut Record) {
    let Record { rules, no_mitigation, .. } = record;
    let rules = rules.iter_mut().flat_map(|RuleRecord { matches, reason, .. }| {
        let given = match reason {
            RuleReason::Given { text } => Some(text),
            _ => None,
        };
        std::iter::once(matches).chain(given)
    });
    for text in rules {
        if let Some(short) = shortened(text) {
            *text = short;
        }
    }
    if let Some(RestraintReason::Refused { why: MitigationReason::Failed { error, .. }, .. }) =
        no_mitigation.as_mut().map(|restraint| &mut restraint.reason)
        && let Some(short) = shortened(error)
    {
        *error = short.into();
    }
}

/// The first characters of a text that is too long; `None` for any other.
fn shortened(text: &str) -> Option<String> {
    let (end, _) = text.char_indices().nth(SENTENCE)?;
    Some(format!("{}…", &text[..end]))
}
