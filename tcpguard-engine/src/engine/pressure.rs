//! Incidents of pressure by real clients, and those that concern no listener.

use super::Engine;
use crate::evidence::{Assessment, crowd_line, overload_line};
use crate::host::News;
use crate::incident::Incident;
use crate::signal::Strain;
use crate::watch::Watch;
use crate::words::span;
use crate::{Evidence, IncidentReport, ListenerId, Settings, Timestamp};

impl Engine {
    /// Opens and refines the incidents of listeners under pressure. Their end is that of all others.
    pub(super) fn follow_pressure(&mut self, now: Timestamp) {
        let strained: Vec<(ListenerId, Strain)> = self
            .watches
            .values()
            .filter(|watch| watch.suspect.is_none() && !watch.handshakes_failed())
            .filter_map(|watch| Some((watch.id, watch.strain()?)))
            .collect();
        for (id, strain) in strained {
            let assessment = self.assess_strain(id, strain);
            if let Some(incident) =
                self.watches.get_mut(&id).and_then(|w| w.incident.as_deref_mut())
            {
                // A rush may fill the accept queue; a queue that drains is no rush.
                if strain == Strain::Overload || incident.class() == strain.class() {
                    incident.refine(now, &assessment);
                }
                continue;
            }
            let Some(number) = self.next_incident() else {
                let opening = |watch: &Watch, number, settings: &Settings| {
                    watch.opening_of_strain(now, number, strain, &assessment.evidence, settings)
                };
                self.roll_up(now, id, opening, &assessment);
                continue;
            };
            let Some(watch) = self.watches.get_mut(&id) else { continue };
            let settings = self.settings.of(watch.listener);
            let opening =
                watch.opening_of_strain(now, number, strain, &assessment.evidence, settings);
            watch.incident = Some(Box::new(Incident::open(now, opening, &assessment)));
            self.tell_of_incident(id, None);
        }
    }

    fn assess_strain(&self, id: ListenerId, strain: Strain) -> Assessment {
        let watch = &self.watches[&id];
        let settings = self.settings.of(watch.listener);
        let completion = watch.completion(settings).unwrap_or(0.0);
        let (sources_estimate, syns_per_source) = watch.sources().unwrap_or_default();
        let evidence = Evidence {
            completion,
            sources_estimate,
            syns_per_source,
            usual_syn_rate: watch.usual_syn_rate(),
            half_open: watch.half_open(),
            ..Evidence::default()
        };
        let line = match strain {
            Strain::Overload => overload_line(),
            Strain::Crowd => crowd_line(&evidence, watch.syn_rate()),
        };
        // As sure as it is that these are real clients.
        let mut assessment = Assessment::of_counters(line, completion, evidence);
        assessment.moment = Some(watch.moment(self.now, settings));
        assessment
    }

    /// Opens, refines and ends what concerns the whole host.
    pub(super) fn follow_host(&mut self, now: Timestamp) {
        let quiet = self.settings.common.quiet;
        for report in self.host.end_quiet(now, quiet) {
            self.tell_of_end(&report, &format!("quiet for {}", span(quiet)));
            self.keep(report);
        }
        for finding in self.host.findings(now, &self.settings.common) {
            let number = match self.host.is_open(finding.class()) {
                true => None,
                false => {
                    self.incidents += 1;
                    Some(self.incidents)
                }
            };
            match self.host.take(now, finding, number) {
                News::Opened(report) => self.tell_of(*report, None),
                News::Changed(report) => {
                    let class = report.class;
                    self.tell_of(*report, Some(class));
                }
                News::None => {}
            }
        }
    }

    /// The open incidents that concern the whole host.
    pub(super) fn host_reports(&self) -> impl Iterator<Item = IncidentReport> {
        self.host.incidents().map(|incident| incident.report(Vec::new(), None))
    }
}
