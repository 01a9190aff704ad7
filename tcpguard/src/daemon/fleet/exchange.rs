//! The agent's end of the exchange: it hands messages to the engine, and reports what other hosts may learn.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Serialize;
use tcpguard_common::abi::PacketCounters;
use tcpguard_engine::{
    ClientsWithin, FleetMessage, FleetName, FleetRefusal, FleetReport, HintReport, LinkPressure,
    POLL, RefusedRule, Timestamp,
};
use tcpguard_host::finding::Finding;
use tcpguard_host::json;
use tcpguard_host::linux::{boot_time, cpu_time};
use tcpguard_host::time::Clock;
use tokio::sync::watch;

use super::inbox::{Inbox, Lost};
use super::server::Report;
use crate::daemon::agent::Agent;
use crate::daemon::hint::logged;
use crate::documents::{Fleet, FleetHint, LossCounters, Reading};
use crate::text::fleet_refusal;

/// Time that a poll may spend on messages; one that it has begun is finished.
const LONGEST: Duration = Duration::from_millis(1);
/// Interval of the reports while nothing is the matter. Otherwise there is one for each poll.
const CALM: Duration = Duration::from_secs(1);
/// Time without a connection after which the fleet process counts as gone: systemd starts it again within seconds.
const GONE: Duration = Duration::from_secs(60);
/// Rules that are listed with the reason for their refusal.
const REFUSED: usize = 16;
/// Hints that the status lists.
const HINTS: usize = 16;

/// The messages that wait, the reports that go out, and what became of the messages.
#[derive(Debug)]
pub struct Exchange {
    inbox: Inbox,
    reports: watch::Sender<Report>,
    /// Number of connections.
    open: Arc<AtomicUsize>,
    refused: BTreeMap<&'static str, u64>,
    refused_rules: VecDeque<RefusedRule>,
    /// Time of the last message.
    heard: Option<Timestamp>,
    /// Time since which no process has been connected.
    alone: Option<Timestamp>,
    /// Time of the last report.
    reported: Timestamp,
    /// Number of rules that this round of reports has listed.
    listed: usize,
}

impl Exchange {
    pub(super) fn new(
        inbox: Inbox,
        reports: watch::Sender<Report>,
        open: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            inbox,
            reports,
            open,
            refused: BTreeMap::new(),
            refused_rules: VecDeque::new(),
            heard: None,
            alone: None,
            reported: Timestamp::default(),
            listed: 0,
        }
    }

    /// Returns whether a process is connected.
    pub(super) fn is_connected(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// Notes whether a process is connected.
    fn note_presence(&mut self, now: Timestamp) {
        if self.is_connected() {
            self.alone = None;
        } else {
            self.alone.get_or_insert(now);
        }
    }

    /// Notes what became of a message: of a rule by its name.
    fn note(&mut self, rule: Option<FleetName>, result: Result<(), FleetRefusal>) {
        if let Some(rule) = &rule {
            self.refused_rules.retain(|refused| refused.rule != *rule);
        }
        let Err(why) = result else { return };
        *self.refused.entry(why.name()).or_default() += 1;
        let Some(rule) = rule else { return };
        let text = fleet_refusal(&why);
        log::debug!("rule {rule} refused: {text}");
        self.refused_rules.push_back(RefusedRule { rule, reason: why.name().to_owned(), text });
        if self.refused_rules.len() > REFUSED {
            self.refused_rules.pop_front();
        }
    }

    /// Returns whether it is time for a report.
    fn is_due(&self, now: Timestamp, calm: bool) -> bool {
        let pace = if calm { CALM } else { POLL };
        self.is_connected() && now.since(self.reported) + POLL / 2 >= pace
    }

    /// The names that the next report lists: those behind the last ones, or the first ones again.
    fn next_names<'a>(&mut self, names: impl Iterator<Item = &'a FleetName>) -> Vec<FleetName> {
        let page: Vec<_> = names.skip(self.listed).take(FleetReport::NAMES).cloned().collect();
        let is_more = page.len() == FleetReport::NAMES;
        self.listed = if is_more { self.listed + page.len() } else { 0 };
        page
    }

    /// Hands a report to every connection. It replaces one that was not taken yet.
    pub(super) fn publish(&mut self, report: &impl Serialize) {
        match json::bytes(report) {
            Ok(mut line) => {
                line.push(b'\n');
                self.reports.send_replace(line.into());
            }
            Err(error) => log::error!("report to the fleet process not written: {error}"),
        }
    }

    /// The number of refused messages, by reason. Those that are no message are among the malformed ones.
    fn refusals(&self) -> BTreeMap<String, u64> {
        let counted = self.refused.iter().map(|(reason, count)| ((*reason).to_owned(), *count));
        let mut refused: BTreeMap<String, u64> = counted.collect();
        let Lost { unreadable, .. } = self.inbox.lost();
        if unreadable > 0 {
            *refused.entry(FleetRefusal::Malformed.name().to_owned()).or_default() += unreadable;
        }
        refused
    }

    /// The health note about a fleet process that has gone.
    pub(in crate::daemon) fn finding(&self, now: Timestamp) -> Option<Finding> {
        self.alone.filter(|since| now.since(*since) >= GONE)?;
        let text =
            "the fleet process is not connected: this host neither receives hints nor sends any";
        let hint = "systemctl status tcpguard-fleet; if this host belongs to no fleet: fleet.listen = false";
        Some(Finding::warning("fleet_absent", text).hint(hint))
    }
}

impl Agent {
    /// Takes the messages of the fleet process that wait, for at most a millisecond, and reports to it.
    pub fn exchange(&mut self) {
        let Some(mut exchange) = self.fleet.take() else { return };
        let (begun, now) = (cpu_time(), boot_time());
        exchange.note_presence(now);
        let mut heard = false;
        while cpu_time().saturating_sub(begun) < LONGEST
            && let Some(message) = exchange.inbox.pop()
        {
            heard = true;
            exchange.heard = Some(now);
            self.hear(now, message, &mut exchange);
        }
        if heard && let Err(error) = self.act(now) {
            log::error!("rules of the fleet not carried out in full: {}", logged(&error));
        }
        if exchange.is_due(now, self.engine.is_at_rest()) {
            exchange.reported = now;
            let report = self.fleet_report(now, &mut exchange);
            exchange.publish(&report);
        }
        self.fleet = Some(exchange);
    }

    fn hear(&mut self, now: Timestamp, message: FleetMessage, exchange: &mut Exchange) {
        let (mut name, mut clients) = (None, ClientsWithin::default());
        if let FleetMessage::Rule(rule) = &message {
            name = Some(rule.name.clone()).filter(FleetName::is_valid);
            if self.engine.asks_for_clients(now, rule) {
                clients = self.executor.clients_within(&rule.net);
            }
        }
        exchange.note(name, self.engine.handle_fleet(now, message, clients));
    }

    fn fleet_report(&self, now: Timestamp, exchange: &mut Exchange) -> FleetReport {
        let listeners = self.executor.listeners.iter();
        let ports: BTreeSet<u16> = listeners.map(|monitored| monitored.listener.port).collect();
        let (rules, allowed) = self.engine.of_fleet();
        FleetReport {
            schema: FleetReport::SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot: self.boot.clone(),
            mode: self.engine.mode(),
            ports: ports.into_iter().take(FleetReport::PORTS).collect(),
            incidents: self.engine.shared_evidence(now),
            links: self.links(),
            backlog_lost_pps: self.losses().rate(LossCounters::lost_in_backlogs),
            hints: self.engine.hints().collect(),
            rules,
            allowed,
            names: exchange.next_names(self.engine.names_of_fleet()),
            refused: exchange.refusals(),
            refused_rules: exchange.refused_rules.iter().cloned().collect(),
            dropped: exchange.inbox.lost().dropped,
        }
    }

    /// The traffic of the interfaces over the last second, and their losses over the last seconds.
    fn links(&self) -> Vec<LinkPressure> {
        let (packets, losses) = (self.packets(), self.losses());
        let links = self.interfaces.names().zip(&packets).enumerate();
        let link = |(place, (name, packets)): (usize, (&str, &Reading<_>))| {
            let rate = |counter: fn(&PacketCounters) -> u64| packets.rate(counter);
            let lost = |losses: &LossCounters| {
                losses.links.get(place).map_or(0, |link| link.rx_missed + link.rx_fifo)
            };
            Some(LinkPressure {
                interface: name.to_owned(),
                rx_pps: rate(|counters| counters.entry)?,
                rx_bps: rate(|counters| counters.bytes)? * 8.0,
                lost_pps: losses.rate(lost),
            })
        };
        links.filter_map(link).collect()
    }

    /// The exchange as the status shows it; `None` where the fleet process may not connect.
    pub(in crate::daemon) fn fleet_document(&self, clock: Clock) -> Option<Fleet> {
        let exchange = self.fleet.as_ref()?;
        let mut hints: Vec<HintReport> = self.engine.hints().collect();
        hints.sort_by_key(|hint| std::cmp::Reverse((hint.syns, hint.reporters)));
        Some(Fleet {
            connected: exchange.is_connected(),
            heard_at: exchange.heard.map(|at| clock.time_at(at)),
            hints: hints.len() as u32,
            top_hints: hints.iter().take(HINTS).map(FleetHint::build).collect(),
            refused: exchange.refusals(),
            dropped: exchange.inbox.lost().dropped,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::inbox::tests::name;
    use super::*;

    fn exchange() -> Exchange {
        let (reports, _) = watch::channel(Report::from([]));
        Exchange::new(Inbox::default(), reports, Arc::default())
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1000 * seconds)
    }

    #[test]
    fn a_process_that_stays_away_is_a_note_until_it_is_back() {
        let mut exchange = exchange();
        let found = |exchange: &mut Exchange, now| {
            exchange.note_presence(now);
            exchange.finding(now).map(|finding| finding.code)
        };
        assert_eq!(found(&mut exchange, at(100)), None);
        assert_eq!(found(&mut exchange, at(159)), None, "it is being started again");
        assert_eq!(found(&mut exchange, at(160)).as_deref(), Some("fleet_absent"));
        exchange.open.store(1, Ordering::Relaxed);
        assert_eq!(found(&mut exchange, at(161)), None);
        exchange.open.store(0, Ordering::Relaxed);
        assert_eq!(found(&mut exchange, at(162)), None);
        assert!(found(&mut exchange, at(222)).is_some());
    }

    #[test]
    fn refused_rules_are_listed_until_they_are_accepted_and_counted_for_ever() {
        let mut exchange = exchange();
        let refused = || Err(FleetRefusal::TooFast);
        (0..20).for_each(|serial| exchange.note(Some(name(serial)), refused()));
        exchange.note(Some(name(19)), refused());
        exchange.note(Some(name(18)), Ok(()));
        exchange.note(None, Err(FleetRefusal::HintsFull));
        let listed: Vec<u64> = exchange.refused_rules.iter().map(|it| it.rule.serial).collect();
        let expected: Vec<u64> = (4..18).chain([19]).collect();
        assert_eq!(listed, expected);
        exchange.inbox.note_unreadable();
        let counted = [("hints_full", 1), ("malformed", 1), ("too_fast", 21)];
        let counted = counted.map(|(reason, count)| (reason.to_owned(), count));
        assert_eq!(exchange.refusals(), BTreeMap::from(counted));
    }

    #[test]
    fn the_reports_name_all_rules_in_turn() {
        let mut exchange = exchange();
        let names: Vec<_> = (0..150).map(name).collect();
        let mut listed = Vec::new();
        for _ in 0..3 {
            listed.extend(exchange.next_names(names.iter()));
        }
        assert_eq!(listed, names);
        assert_eq!(exchange.next_names(names.iter()), names[..FleetReport::NAMES]);
        assert_eq!(exchange.next_names([].iter()), []);
        assert_eq!(exchange.next_names(names[..2].iter()), names[..2]);
    }

    #[test]
    fn reports_go_out_each_second_and_in_an_incident_at_every_poll() {
        let mut exchange = exchange();
        exchange.reported = at(100);
        let soon = at(100) + POLL;
        assert!(!exchange.is_due(soon, false), "no process would read it");
        exchange.open.store(1, Ordering::Relaxed);
        assert!(exchange.is_due(soon, false) && !exchange.is_due(soon, true));
        assert!(exchange.is_due(at(101), true));
    }
}
