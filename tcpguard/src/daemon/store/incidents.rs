//! Incidents on the disk: the evidence of past ones outlives the agent. One line of JSON each, the oldest first. The
//! file is replaced as a whole. Of more than there is room for, those of most worth are kept, in memory as on the disk,
//! and the timelines of the first of these.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tcpguard_engine::{Engine, Event, IncidentReport, Limits, Sample, Timestamp, retained};
use tcpguard_host::durable::seal::Damage;
use tcpguard_host::time::Clock;

use super::jsonl::{self, Line};
use super::kept_timelines::{self, Timelines};
use super::writer::Writer;
use crate::documents::history::History;
use crate::documents::timeline::Timeline;
use crate::documents::{Action, FullIncident, INCIDENT_SCHEMA, Incident};

pub(in crate::daemon) const NAME: &str = "incidents.jsonl";
/// Incidents in the file.
const KEPT: usize = Limits::PAST_INCIDENTS;
/// Changes of open incidents are written at most this often.
const PACE: Duration = Duration::from_secs(1);
/// Open incidents are written this often even if no alert was raised about them.
const OPEN_PACE: Duration = Duration::from_secs(60);

/// The past incidents of this run and of earlier ones.
#[derive(Debug)]
pub struct Incidents {
    past: VecDeque<Arc<FullIncident>>,
    writer: Writer<Vec<Arc<FullIncident>>>,
    /// An alert about one was raised since the last write.
    changed: bool,
    written: Timestamp,
    /// Some were open when that was.
    open: bool,
    timelines: Timelines,
    /// Those of an earlier agent that go on, until the engine has met their listeners.
    going_on: Vec<u64>,
}

impl Incidents {
    /// The incidents that earlier agents left in `dir`, and the file for this agent's. Those with the numbers
    /// `going_on` are past only if their listeners have gone.
    pub fn load(dir: &Path, going_on: Vec<u64>) -> io::Result<Self> {
        let mut past: VecDeque<_> = load(dir).into_iter().map(Arc::new).collect();
        let kept = best(&past, KEPT);
        past.retain(|attack| kept.contains(&attack.incident.id));
        let lost = "past incidents";
        let timelines = Timelines::load(dir, &best(&past, kept_timelines::KEPT))?;
        Ok(Self {
            past,
            writer: Writer::start(
                "incidents",
                dir.to_owned(),
                |dir, all: &Vec<_>| store(dir, all),
                lost,
            )?,
            changed: false,
            written: Timestamp::default(),
            open: false,
            timelines,
            going_on,
        })
    }

    /// The highest number so far; 0 before the first.
    pub fn last_number(&self) -> u64 {
        self.past.iter().map(|attack| attack.incident.id).max().unwrap_or(0)
    }

    /// All of them, newest first.
    pub fn past(&self) -> impl Iterator<Item = &Incident> {
        self.past.iter().map(|past| &past.incident)
    }

    /// The past incident with this number.
    pub fn find(&self, id: u64) -> Option<&FullIncident> {
        self.past.iter().find(|past| past.incident.id == id).map(AsRef::as_ref)
    }

    /// The timeline of the incident with this number, an open or a past one.
    pub fn timeline(&self, id: u64, clock: Clock) -> Option<Timeline> {
        self.timelines.find(id, clock)
    }

    /// The recent seconds of the host.
    pub fn history(&self, clock: Clock) -> History {
        self.timelines.history(clock)
    }

    /// Records the counters of a poll.
    pub fn note(&mut self, sample: &Sample, engine: &Engine) {
        self.timelines.note(sample, engine.mode());
    }

    /// Records an alert about an incident that was just raised.
    pub fn update(&mut self, incident: &IncidentReport, engine: &Engine, clock: Clock) {
        self.changed = true;
        self.timelines.update(incident, clock);
        if incident.ended.is_none() {
            return;
        }
        let report = engine.report(clock.now);
        self.past.retain(|past| past.incident.id != incident.id);
        self.past.push_front(Arc::new(FullIncident::build(incident, &report, clock)));
        let kept = best(&self.past, KEPT);
        self.past.retain(|past| kept.contains(&past.incident.id));
        self.timelines.retain(&best(&self.past, kept_timelines::KEPT));
    }

    /// Has them written if it is time for it.
    pub fn tend(&mut self, engine: &Engine, clock: Clock) {
        self.go_on(engine, clock);
        self.timelines.tend(clock);
        let waited = clock.now.since(self.written);
        if (self.changed && waited >= PACE) || (self.open && waited >= OPEN_PACE) {
            self.keep(engine, clock);
        }
    }

    /// Incidents of an earlier agent that are open are not past.
    fn go_on(&mut self, engine: &Engine, clock: Clock) {
        let going_on = std::mem::take(&mut self.going_on);
        if going_on.is_empty() {
            return;
        }
        let open = engine.report(clock.now).incidents;
        for incident in open.iter().filter(|incident| going_on.contains(&incident.id)) {
            self.past.retain(|past| past.incident.id != incident.id);
            self.timelines.go_on(incident);
            self.open = true;
        }
    }

    /// Has them written now, open ones too: they are past when the next agent starts.
    pub fn keep(&mut self, engine: &Engine, clock: Clock) {
        self.timelines.keep(clock);
        let report = engine.report(clock.now);
        let open = report.incidents.iter();
        let open = open.map(|incident| Arc::new(FullIncident::build(incident, &report, clock)));
        let open: Vec<_> = open.collect();
        (self.changed, self.open, self.written) = (false, !open.is_empty(), clock.now);
        let by_number: BTreeMap<u64, Arc<FullIncident>> = self
            .past
            .iter()
            .cloned()
            .chain(open)
            .map(|attack| (attack.incident.id, attack))
            .collect();
        let kept = best(by_number.values(), KEPT);
        let kept = by_number.into_values().filter(|attack| kept.contains(&attack.incident.id));
        self.writer.write(kept.collect());
    }
}

/// The numbers of the incidents that are kept of these, where there is room for `most`.
fn best<'a>(
    incidents: impl IntoIterator<Item = &'a Arc<FullIncident>>,
    most: usize,
) -> BTreeSet<u64> {
    retained(incidents.into_iter().map(|attack| attack.incident.worth()), most)
}

/// Replaces the file in `dir`.
fn store(dir: &Path, attacks: &[Arc<FullIncident>]) -> io::Result<()> {
    jsonl::store(&dir.join(NAME), attacks.iter().map(|attack| &**attack))
}

/// The incidents on record in `dir`, the newest first.
pub(in crate::daemon) fn load(dir: &Path) -> Vec<FullIncident> {
    let mut attacks: Vec<_> = jsonl::load(&dir.join(NAME)).into_iter().map(closed).collect();
    attacks.sort_by_key(|attack| std::cmp::Reverse(attack.incident.id));
    attacks
}

/// The same in any order for a query, which sets no damaged line aside.
pub(in crate::daemon) fn read(dir: &Path) -> Result<Vec<FullIncident>, Damage> {
    Ok(jsonl::read(&dir.join(NAME))?.into_iter().map(closed).collect())
}

impl Line for FullIncident {
    const WHAT: &'static str = "incidents";
    const SCHEMA: &'static str = INCIDENT_SCHEMA;
}

/// An incident that was open when its agent ended is over with its last known state.
fn closed(mut full: FullIncident) -> FullIncident {
    let FullIncident { incident: attack, record, .. } = &mut full;
    if attack.ended_at.is_none() {
        let looked = record.at_last.as_ref().map_or(record.first.at, |moment| moment.at);
        let acted = attack.actions.last().map_or(looked, |action| action.at);
        let at = looked.max(acted).max(attack.detected_at);
        attack.actions.push(Action { at, action: Event::AgentEnded });
        attack.ended_at = Some(at);
        (attack.advice, attack.mitigated_ratio) = (None, None);
        attack.rules.clear();
    }
    full
}

#[cfg(test)]
pub(in crate::daemon) mod tests {
    use std::fs;

    use serde_json::{Value, json};
    use tcpguard_engine::{Mode, Settings};

    use super::*;
    use tcpguard_host::durable::seal;

    fn evidence() -> Value {
        json!({
            "failed_flows": 38, "completion": 0.1, "syns_per_source": 1.0, "singleton_share": 0.9,
            "top_source_share": 0.1, "top_sources": [], "top_networks": [], "k90_sources": 30,
            "k90_networks": 30, "distinct_slash8": 20, "signatures": [], "top2_ttl_share": 0.9,
            "ttls": [], "retransmitted_share": null, "sources_estimate": 30, "ports_tried": 0,
            "addresses_tried": 0, "baseline_syn_rate": 0.0, "unsolicited_rate": 0.0, "indicators": [],
        })
    }

    /// Incident `id`, which ended at `ended`.
    fn full(id: u64, ended: Option<&str>) -> FullIncident {
        let since = "2026-01-02T03:04:05Z";
        let verdict = json!({
            "at": since, "class": "random_spoofed", "indicators": [],
        });
        let record = json!({
            "alarm": [], "lines": [], "doubt": null, "before": null, "at_alarm": null,
            "at_last": null, "after": null, "rules": [], "more_rules": 0, "more_hits": 0,
            "mitigations": [], "no_rule": null, "no_mitigation": null, "syn_headers": [], "lists_hold": 16,
            "first": verdict,
        });
        let mut attack = json!({
            "schema": INCIDENT_SCHEMA, "id": id, "class": "random_spoofed", "severity": "critical",
            "dst": "::", "port": 443, "since": since, "detected_at": since, "ended_at": ended,
            "signal": "fast", "actions": [],
            "evidence": evidence(), "rules": [7], "advice": null, "record": record,
        });
        let counts = json!({
            "syn_pps": 1.0, "peak_syn_pps": 2.0, "syns": 3, "matched": 2, "dropped": 2,
            "cookies_sent": 0, "cookies_redeemed": 0, "completed": 1, "mitigated_ratio": null,
        });
        for (name, count) in counts.as_object().unwrap() {
            attack[name] = count.clone();
        }
        serde_json::from_value(attack).unwrap()
    }

    const ENDED: Option<&str> = Some("2026-01-02T03:05:05Z");

    pub(in crate::daemon) fn stored(dir: &Path, numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let attacks: Vec<_> = numbers.into_iter().map(|id| Arc::new(full(id, ENDED))).collect();
        store(dir, &attacks).unwrap();
        seal::read(&dir.join(NAME), jsonl::MAX_BYTES).unwrap()
    }

    fn numbers(attacks: &[FullIncident]) -> Vec<u64> {
        attacks.iter().map(|attack| attack.incident.id).collect()
    }

    fn engine() -> Engine {
        Engine::new(Settings::default(), Mode::Enforce).unwrap()
    }

    fn at(seconds: u64) -> Clock {
        let wall = "2026-01-02T04:00:00Z".parse().unwrap();
        Clock { now: Timestamp::from_millis(1000 * seconds), wall }
    }

    #[test]
    fn what_was_stored_is_loaded_newest_first_and_readable_by_the_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()), []);
        stored(dir.path(), [3, 4, 9]);
        assert_eq!(load(dir.path()), [full(9, ENDED), full(4, ENDED), full(3, ENDED)]);
        let permissions = fs::metadata(dir.path().join(NAME)).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, 0o600);
    }

    #[test]
    fn lines_of_another_version_are_set_aside_as_they_were_and_the_others_count() {
        let dir = tempfile::tempdir().unwrap();
        let text = String::from_utf8(stored(dir.path(), [1, 2, 3, 4])).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines[1] = lines[1].replace(INCIDENT_SCHEMA, "tcpguard.attack/9");
        lines[2] = "\u{fffd} nonsense".to_owned();
        let content = format!("{}\n", lines.join("\n"));
        seal::replace(&dir.path().join(NAME), 0o600, content.as_bytes()).unwrap();
        assert_eq!(numbers(&load(dir.path())), [4, 1]);
        let aside = fs::read_to_string(dir.path().join("incidents.jsonl.bad")).unwrap();
        assert_eq!(aside, format!("{}\n{}\n", lines[1], lines[2]));
    }

    #[test]
    fn a_file_far_too_long_is_set_aside_as_a_whole_and_one_that_may_not_be_read_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = fs::File::create(dir.path().join(NAME)).unwrap();
        file.set_len(jsonl::MAX_BYTES + 1).unwrap();
        assert_eq!(load(dir.path()), []);
        assert!(dir.path().join("incidents.jsonl.bad").exists());
        fs::create_dir(dir.path().join(NAME)).unwrap();
        assert_eq!(load(dir.path()), []);
        assert!(dir.path().join(NAME).exists());
    }

    /// A host on the Internet: one attack, and then scans.
    #[test]
    fn the_record_of_an_attack_and_its_timeline_outlive_scans_over_restarts() {
        use tcpguard_engine::IncidentClass::Scan;

        let dir = tempfile::tempdir().unwrap();
        let mut incidents = vec![full(1, ENDED)];
        incidents.extend((2..=200).map(|id| {
            let mut scan = full(id, ENDED);
            (scan.incident.class, scan.incident.severity) = (Scan, Scan.severity());
            scan.incident.counts.syns = 1_000_000;
            scan
        }));
        let incidents: Vec<_> = incidents.into_iter().map(Arc::new).collect();
        store(dir.path(), &incidents).unwrap();
        kept_timelines::tests::stored(&dir.path().join(kept_timelines::DIRECTORY), 1);
        for _ in 0..2 {
            let mut incidents = Incidents::load(dir.path(), Vec::new()).unwrap();
            assert_eq!((incidents.past().count(), incidents.last_number()), (KEPT, 200));
            assert_eq!(incidents.find(1), Some(&full(1, ENDED)));
            assert!(incidents.timeline(1, at(1)).is_some());
            assert!(incidents.find(138).is_some() && incidents.find(137).is_none());
            incidents.keep(&engine(), at(1));
        }
        assert!(numbers(&load(dir.path())).contains(&1), "for those who read the file");
    }

    #[test]
    fn the_newest_64_are_kept_over_restarts_and_numbers_go_on() {
        let dir = tempfile::tempdir().unwrap();
        stored(dir.path(), 1..=200);
        let mut incidents = Incidents::load(dir.path(), Vec::new()).unwrap();
        assert_eq!(incidents.last_number(), 200);
        assert_eq!(incidents.past().count(), KEPT);
        assert!(incidents.find(137).is_some() && incidents.find(136).is_none());
        incidents.keep(&engine(), at(1));
        drop(incidents);
        let incidents = Incidents::load(dir.path(), Vec::new()).unwrap();
        assert_eq!(numbers(&load(dir.path())).len(), KEPT);
        assert_eq!(incidents.find(200), Some(&full(200, ENDED)));
    }

    #[test]
    fn one_that_was_open_when_its_agent_ended_is_over_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        store(dir.path(), &[Arc::new(full(5, None))]).unwrap();
        let incidents = Incidents::load(dir.path(), Vec::new()).unwrap();
        let attack = &incidents.find(5).unwrap().incident;
        assert_eq!(attack.ended_at, Some(attack.detected_at));
        assert_eq!(attack.actions[0].action, Event::AgentEnded);
        assert_eq!(attack.rules, [0; 0]);
    }

    /// An attack that goes on over the end of its agent is one, with one record and one line.
    #[test]
    fn an_incident_that_goes_on_is_not_past() {
        use tcpguard_sim::{Clients, Flood, Lab, Server};

        let dir = tempfile::tempdir().unwrap();
        let mut incidents = Incidents::load(dir.path(), Vec::new()).unwrap();
        let mut lab = Lab::new(Mode::Enforce)
            .listener(Server::default())
            .clients(Clients::steady(50.0))
            .flood(Flood::random(2000.0, 10.1..30.1));
        let update_from = |incidents: &mut Incidents, lab: &Lab, from: usize| {
            let clock = Clock { now: lab.kernel.now, ..at(0) };
            for alerted in
                lab.alerts.iter().skip(from).filter_map(|alerted| alerted.incident.as_ref())
            {
                incidents.update(alerted, &lab.engine, clock);
            }
            incidents.tend(&lab.engine, clock);
            incidents.keep(&lab.engine, clock);
        };
        lab.run_until(15.0);
        update_from(&mut incidents, &lab, 0);
        drop(incidents);
        let alerted = lab.alerts.len();
        let mut incidents = Incidents::load(dir.path(), vec![1]).unwrap();
        assert_eq!(incidents.past().count(), 1, "until the engine has met its listener");
        lab.restart();
        lab.run_until(16.0);
        update_from(&mut incidents, &lab, alerted);
        assert_eq!(incidents.past().count(), 0);
        assert_eq!(lab.incident().id, 1, "{}", lab.story());
        lab.run_until(70.0);
        update_from(&mut incidents, &lab, alerted);
        let ended = incidents.find(1).expect("it is over now");
        assert!(ended.incident.actions.iter().any(|did| did.action == Event::AgentRestarted));
        assert_eq!(incidents.past().count(), 1);
    }

    /// A flood is reported and ends, and then its agent ends. The next agent knows the flood.
    #[test]
    fn an_incident_of_this_run_is_known_to_the_next() {
        use tcpguard_sim::{Clients, Flood, Lab, Server};

        let dir = tempfile::tempdir().unwrap();
        stored(dir.path(), [6]);
        let mut incidents = Incidents::load(dir.path(), Vec::new()).unwrap();
        let mut lab = Lab::new(Mode::Enforce)
            .listener(Server::default())
            .clients(Clients::steady(50.0))
            .flood(Flood::random(2000.0, 10.1..14.1));
        lab.engine.number_after(incidents.last_number());
        let mut seen = 0;
        let mut play = |incidents: &mut Incidents, lab: &mut Lab, until: f64| {
            lab.run_until(until);
            let clock = Clock { now: lab.kernel.now, ..at(0) };
            for alerted in
                lab.alerts.iter().skip(seen).filter_map(|alerted| alerted.incident.as_ref())
            {
                incidents.update(alerted, &lab.engine, clock);
            }
            seen = lab.alerts.len();
            incidents.tend(&lab.engine, clock);
        };
        play(&mut incidents, &mut lab, 13.0);
        assert_eq!(incidents.past().map(|attack| attack.id).collect::<Vec<_>>(), [6]);
        drop(incidents);
        let mut incidents = Incidents::load(dir.path(), Vec::new()).unwrap();
        let cut_off = incidents.find(7).unwrap();
        assert!(cut_off.incident.ended_at.is_some(), "its agent ended in the middle of it");
        assert!(!cut_off.record.rules.is_empty(), "{cut_off:?}");

        play(&mut incidents, &mut lab, 50.0);
        assert_eq!(lab.report().incidents.len(), 0, "{}", lab.story());
        let expected = incidents.find(7).unwrap().clone();
        assert!(expected.record.after.is_some());
        drop(incidents);
        let next = Incidents::load(dir.path(), Vec::new()).unwrap();
        // Numbers are rounded in the file.
        let json = |one: &FullIncident| tcpguard_host::json::bytes(one).unwrap();
        assert_eq!(next.find(7).map(json), Some(json(&expected)));
        assert_eq!(next.past().map(|attack| attack.id).collect::<Vec<_>>(), [7, 6]);
    }
}
