//! The document of incidents: `tcpguard.incidents/1`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_engine::Report;
use tcpguard_host::time::{Clock, Time};

use super::{Incident, build};

/// Document that `tcpguard incidents --json` prints.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Incidents {
    /// Time of the document.
    pub generated_at: Time,
    /// Open incidents, and past ones as far as they are on record, in the order of their numbers.
    pub incidents: Vec<Incident>,
}

impl Incidents {
    /// Returns the document for these incidents.
    pub fn of(generated_at: Time, mut incidents: Vec<Incident>) -> Self {
        incidents.sort_by_key(|incident| incident.id);
        Self { generated_at, incidents }
    }

    /// Builds the document of the incidents that the engine knows, and of `past` ones.
    pub fn build<'a>(
        report: &Report,
        past: impl Iterator<Item = &'a Incident>,
        clock: Clock,
    ) -> Self {
        let known = report.incidents.iter().chain(&report.past);
        let mut all: Vec<_> = known.map(|one| build::incident(one, report, clock)).collect();
        let past: Vec<_> = past.filter(|old| all.iter().all(|one| one.id != old.id)).collect();
        all.extend(past.into_iter().cloned());
        Self::of(Time(clock.wall), all)
    }
}
