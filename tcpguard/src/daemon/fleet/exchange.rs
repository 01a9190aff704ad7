//! The agent's end of the exchange: it hands messages to the engine, and reports what other hosts may learn.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Serialize;
use tcpguard_engine::{
    FleetMessage, FleetName, FleetRefusal, FleetReport, HintReport, POLL, RefusedRule, Timestamp,
};
use tcpguard_host::finding::Finding;
use tcpguard_host::json;
use tcpguard_host::time::Clock;
use tokio::sync::watch;

use super::inbox::{Inbox, Lost};
use super::server::Report;
use crate::documents::Fleet;
use crate::text::fleet_refusal;

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
    pub refused_rules: VecDeque<RefusedRule>,
    /// Time of the last message.
    heard: Option<Timestamp>,
    /// Time since which no process has been connected.
    alone: Option<Timestamp>,
    /// Time of the last report.
    pub reported: Timestamp,
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
    pub fn is_connected(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// The next message that waits.
    pub fn next(&mut self, now: Timestamp) -> Option<FleetMessage> {
        self.inbox.pop().inspect(|_| self.heard = Some(now))
    }

    /// Notes whether a process is connected.
    pub fn note_presence(&mut self, now: Timestamp) {
        if self.is_connected() {
            self.alone = None;
        } else {
            self.alone.get_or_insert(now);
        }
    }

    /// Notes what became of a message: of a rule by its name.
    pub fn note(&mut self, rule: Option<FleetName>, result: Result<(), FleetRefusal>) {
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
    pub fn is_due(&self, now: Timestamp, calm: bool) -> bool {
        let pace = if calm { CALM } else { POLL };
        self.is_connected() && now.since(self.reported) + POLL / 2 >= pace
    }

    /// The names that the next report lists: those behind the last ones, or the first ones again.
    pub fn next_names<'a>(&mut self, names: impl Iterator<Item = &'a FleetName>) -> Vec<FleetName> {
        let page: Vec<_> = names.skip(self.listed).take(FleetReport::NAMES).cloned().collect();
        let is_more = page.len() == FleetReport::NAMES;
        self.listed = if is_more { self.listed + page.len() } else { 0 };
        page
    }

    /// Hands a report to every connection. It replaces one that was not taken yet.
    pub fn publish(&mut self, report: &impl Serialize) {
        match json::bytes(report) {
            Ok(mut line) => {
                line.push(b'\n');
                self.reports.send_replace(line.into());
            }
            Err(error) => log::error!("report to the fleet process not written: {error}"),
        }
    }

    /// The number of refused messages, by reason. Those that are no message are among the malformed ones.
    pub fn refusals(&self) -> BTreeMap<String, u64> {
        let counted = self.refused.iter().map(|(reason, count)| ((*reason).to_owned(), *count));
        let mut refused: BTreeMap<String, u64> = counted.collect();
        let Lost { unreadable, .. } = self.inbox.lost();
        if unreadable > 0 {
            *refused.entry(FleetRefusal::Malformed.name().to_owned()).or_default() += unreadable;
        }
        refused
    }

    /// The exchange as the status shows it.
    pub fn document(&self, mut hints: Vec<HintReport>, clock: Clock) -> Fleet {
        hints.sort_by_key(|hint| std::cmp::Reverse((hint.syns, hint.reporters)));
        Fleet {
            connected: self.is_connected(),
            heard_at: self.heard.map(|at| clock.time_at(at)),
            hints: hints.len() as u32,
            top_hints: hints.into_iter().take(HINTS).map(HintReport::in_words).collect(),
            refused: self.refusals(),
            dropped: self.dropped(),
        }
    }

    /// Messages for which there was no room.
    pub fn dropped(&self) -> u64 {
        self.inbox.lost().dropped
    }

    /// The health note about a fleet process that has gone.
    pub fn finding(&self, now: Timestamp) -> Option<Finding> {
        self.alone.filter(|since| now.since(*since) >= GONE)?;
        let text =
            "the fleet process is not connected: this host neither receives hints nor sends any";
        let hint = "systemctl status tcpguard-fleet; if this host belongs to no fleet: fleet.listen = false";
        Some(Finding::warning("fleet_absent", text).hint(hint))
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
