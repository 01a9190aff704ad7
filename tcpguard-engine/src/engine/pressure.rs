//! Incidents of pressure by real clients, and those that concern no listener.

use std::time::Duration;

use super::Engine;
use super::upkeep::{CLEAN_LIMIT, CLEANED_AT_ONCE, due};
use crate::evidence::{Assessment, crowd_line, overload_line};
use crate::host::News;
use crate::policy::clean_age;
use crate::signal::Strain;
use crate::watch::Watch;
use crate::words::span;
use crate::{
    CleanUp, Command, Evidence, IncidentReport, ListenerId, ListenerKind, Mode, Settings, Timestamp,
};

/// An entry of which no SYN is recorded is given so long where all are: a record is there before the stack has the SYN,
/// so that a second is enough for the agent to ask for it.
const RECORDED: Duration = Duration::from_secs(1);

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
                // A flash crowd may fill the accept queue. A queue that drains makes no flash crowd of an incident.
                if strain == Strain::Overload || incident.class() == strain.class() {
                    incident.refine(now, &assessment);
                }
                continue;
            }
            let place = self.free_place();
            let Some(watch) = self.watches.get(&id) else { continue };
            let (settings, evidence) = (self.settings.of(watch.listener), &assessment.evidence);
            let number = place.unwrap_or_default();
            let opening = watch.opening_of_strain(now, number, strain, evidence, settings);
            match place {
                Some(_) => self.open(now, id, opening, &assessment),
                None => self.roll_up(now, id, None, opening, &assessment),
            }
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

    /// Opens, refines and ends the incidents that concern the whole host.
    pub(super) fn follow_host(&mut self, now: Timestamp) {
        let quiet = self.settings.common.quiet;
        for report in self.host.end_quiet(now, quiet) {
            self.tell_of_end(&report, &format!("quiet for {}", span(quiet)));
            self.keep(report);
        }
        for finding in self.host.findings(now, self.mode, &self.settings.common) {
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
        self.commands.extend(self.host.orders(&self.settings.common));
        self.clean_evaded(now);
    }

    /// Has half-open entries of SYNs that tcpguard could not read removed, once it drops such frames. In a
    /// full queue they would keep clients out for another minute.
    fn clean_evaded(&mut self, now: Timestamp) {
        if self.mode != Mode::Enforce || !self.host.drops_beyond() {
            return;
        }
        let is_full = |watch: &&Watch| {
            let settings = self.settings.of(watch.listener);
            watch.kind == ListenerKind::Local
                && watch.is_queue_full(now, settings)
                && due(now, watch.cleaned, settings.poll * 2, settings.poll)
        };
        let full = self.watches.values().filter(is_full).map(|watch| watch.id);
        for listener in full.take(CLEANED_AT_ONCE).collect::<Vec<_>>() {
            let Some(watch) = self.watches.get_mut(&listener) else { continue };
            let settings = self.settings.of(watch.listener);
            let clean_up = CleanUp {
                signatures: Vec::new(),
                sources: Vec::new(),
                answered_before: now,
                older_than: unread_age(watch, self.sample_shift, settings),
                everybody_before: Timestamp::default(),
            };
            let limit = CLEAN_LIMIT;
            self.commands.push_back(Command::CleanHalfOpen { listener, clean_up, limit });
            watch.cleaned = now;
        }
    }

    /// The open incidents that concern the whole host.
    pub(super) fn host_reports(&self) -> impl Iterator<Item = IncidentReport> {
        self.host.incidents().map(|incident| incident.report(Vec::new(), None))
    }
}

/// The age from which a half-open entry without a record is of a SYN that could not be read. Where every SYN that was
/// read is recorded, that is known soon. It is not where the agent follows a sample of `1 / 2^sample_shift`, nor where
/// many are dropped or answered, so that CPUs follow fewer by themselves
/// ([`tcpguard_common::fastpath::Pace`]): there a client must have had time for its handshake.
fn unread_age(watch: &Watch, sample_shift: u8, settings: &Settings) -> Duration {
    let age = clean_age(watch.rtt(settings));
    let lately = watch.window.last(age);
    let thinned = watch.ladder.keeps_syns_away() || lately.cookies_sent + lately.dropped > 0;
    if sample_shift == 0 && !thinned { RECORDED } else { age }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Tick;
    use crate::{Listener, ListenerCounters, ListenerSample, Step};

    /// The naive way asks the sample alone, and resets distant clients of which the SYN was not recorded.
    #[test]
    fn where_a_step_thins_the_record_a_client_has_time_for_its_handshake() {
        let settings = Settings::default();
        let (poll, now) = (settings.poll, Timestamp::from_millis(10_000));
        let sample = ListenerSample {
            id: ListenerId(0),
            listener: Listener { addr: [203, 0, 113, 10].into(), port: 443 },
            kind: ListenerKind::Local,
            counters: ListenerCounters::default(),
            queues: None,
            distinct_sources: 0,
        };
        let watch = Watch::new(&sample);
        let age = |watch: &Watch, sample_shift| unread_age(watch, sample_shift, &settings);
        assert_eq!([0, 1].map(|shift| age(&watch, shift)), [RECORDED, Duration::from_secs(3)]);
        let mut stepped = watch.clone();
        stepped.ladder.adopt(now, Step::Cookies, 0, settings.quiet);
        assert_eq!(age(&stepped, 0), Duration::from_secs(3));
        // It was left a moment ago.
        for (cookies_sent, dropped) in [(100, 0), (0, 100)] {
            let mut left = watch.clone();
            let tick = Tick { end: now, span: poll, cookies_sent, dropped, ..Tick::default() };
            left.window.push(tick);
            assert_eq!(age(&left, 0), Duration::from_secs(3));
            for later in 1..=12 {
                let end = now + poll * later;
                left.window.push(Tick { end, span: poll, syns: 1, ..Tick::default() });
            }
            assert_eq!(age(&left, 0), RECORDED);
        }
    }
}
