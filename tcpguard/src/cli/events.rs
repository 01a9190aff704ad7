//! `tcpguard events`

use std::thread::sleep;
use std::time::{Duration, Instant};

use tcpguard_host::finding::Severity;
use tcpguard_host::time::Time;
use tcpguard_host::units;

use super::args::{EventKind, EventsArgs, Moment, Threshold};
use super::session::Session;
use crate::control::{ClientError, RefusalKind, Request, Response};
use crate::documents::{AlertEntry, AlertPage, Events};
use crate::text;

/// Pause between two requests of `events` and `capture`: as short as the default interval of the agent's polls.
pub(super) const STEP: Duration = Duration::from_millis(250);
/// `events` and `capture` wait so long for an agent that has gone: longer than any restart.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

impl EventKind {
    /// Of an event, by its name; `None` for one that this version does not know.
    fn of(event: &str) -> Option<Self> {
        match event.split('_').next()? {
            "attack" | "handshakes" | "incident" | "listener" | "nothing" | "too" => {
                Some(Self::Alert)
            }
            "rule" | "rules" | "allow" | "drift" => Some(Self::Rule),
            "mitigation" => Some(Self::Mitigation),
            "mode" => Some(Self::Mode),
            "config" => Some(Self::Config),
            "interface" | "filter" | "attach" | "generic" | "dropped" => Some(Self::Interface),
            _ => None,
        }
    }
}

/// The period that is shown where none is named.
const LATELY: Moment = Moment::Ago(Duration::from_secs(86_400));

/// Shows the alerts of a period, or further ones as they occur.
pub(super) fn run(args: &EventsArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    if args.follow {
        return follow(args, session);
    }
    let page = session.ask(Request::Alerts { since: 0 }, Response::try_as_alerts)?;
    let mut args = EventsArgs { kinds: args.kinds.clone(), period: args.period.clone(), ..*args };
    if args.period.since.is_none() && args.period.until.is_none() {
        args.period.since = Some(LATELY);
    }
    let alerts = args.wanted(page.alerts, page.now, session);
    if session.json {
        return session.print_document(&Events { events: alerts });
    }
    if alerts.is_empty() {
        session.say(
            "no alerts in this period; others: tcpguard events --since 7d, or journalctl -t tcpguard",
        );
        return Ok(());
    }
    session.render(|out, view| text::alerts(out, &alerts, view))
}

/// Prints further alerts until interrupted, after those of the period if there is one.
fn follow(args: &EventsArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let from = if args.period.since.is_some() { 0 } else { u64::MAX };
    let page = fetch(from, session)?;
    let mut follower = Follower::from(&page);
    let mut gone: Option<Instant> = None;
    for alert in args.wanted(page.alerts, page.now, session) {
        show(alert, session)?;
    }
    loop {
        match fetch(follower.known, session) {
            Ok(page) => {
                gone = None;
                let Some((alerts, forgotten)) = follower.see(page) else { continue };
                if forgotten > 0 {
                    session
                        .warn(&format!("{forgotten} alerts were missed"), "journalctl -t tcpguard");
                }
                for alert in alerts.into_iter().filter(|alert| args.wants(alert)) {
                    show(alert, session)?;
                }
            }
            Err(error) if is_away(&error) => {
                let since = *gone.get_or_insert_with(|| {
                    session.warn(
                        &format!("agent not running, waiting {} for it", units::span(PATIENCE)),
                        "systemctl status tcpguard",
                    );
                    Instant::now()
                });
                if since.elapsed() >= PATIENCE {
                    return Err(error.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
        sleep(STEP);
    }
}

fn show(alert: AlertEntry, session: &mut Session<'_>) -> anyhow::Result<()> {
    match session.json {
        true => session.print_document(&alert),
        false => session.render(|out, view| text::event(out, &alert, view)),
    }
}

/// Returns whether the agent may be there again in a moment.
pub(super) fn is_away(error: &ClientError) -> bool {
    match error {
        ClientError::NotRunning { .. } | ClientError::Broken { .. } => true,
        ClientError::Refused(refusal) => refusal.kind == RefusalKind::Stopping,
        ClientError::Denied { .. } | ClientError::Foreign { .. } => false,
    }
}

impl EventsArgs {
    /// The alerts of the period, by the agent's clock, which they have their times from.
    fn wanted(
        &self,
        mut alerts: Vec<AlertEntry>,
        now: Time,
        session: &Session<'_>,
    ) -> Vec<AlertEntry> {
        let zone = &session.view.zone;
        alerts.retain(|alert| self.wants(alert) && self.period.holds(alert.at.0, now.0, zone));
        alerts
    }

    fn wants(&self, alert: &AlertEntry) -> bool {
        let of_kind =
            || EventKind::of(alert.event.name()).is_some_and(|kind| self.kinds.contains(&kind));
        alert.severity >= Severity::from(self.severity) && (self.kinds.is_empty() || of_kind())
    }
}

impl From<Threshold> for Severity {
    fn from(threshold: Threshold) -> Self {
        match threshold {
            Threshold::Notice => Self::Notice,
            Threshold::Warning => Self::Warning,
            Threshold::Critical => Self::Critical,
        }
    }
}

fn fetch(seq: u64, session: &Session<'_>) -> Result<AlertPage, ClientError> {
    session.client.ask(Request::Alerts { since: seq }, Response::try_as_alerts)
}

/// Follows the alerts by their numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Follower {
    /// The run of the agent that was heard last.
    run: u64,
    /// Number of the last alert that was seen.
    known: u64,
}

impl From<&AlertPage> for Follower {
    fn from(page: &AlertPage) -> Self {
        Self { run: page.run, known: page.last }
    }
}

impl Follower {
    /// The new alerts in the response to a request for those after `known`, and the number of alerts
    /// among them that were forgotten. `None`: `known` has changed, ask again.
    fn see(&mut self, page: AlertPage) -> Option<(Vec<AlertEntry>, u64)> {
        if page.run != self.run {
            self.run = page.run;
            // The last alerts of an agent that was killed before it wrote them down: from here on the
            // numbers are the new agent's.
            if self.known >= page.first {
                self.known = page.first.saturating_sub(1);
                return None;
            }
        }
        let raised = page.last.saturating_sub(self.known);
        let forgotten = raised.saturating_sub(page.alerts.len() as u64);
        self.known = page.last;
        Some((page.alerts, forgotten))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Period;
    use crate::documents::AlertEvent;
    use crate::telemetry::History;
    use crate::telemetry::events::descriptors;

    fn alert(event: &str) -> AlertEntry {
        AlertEntry {
            seq: 0,
            at: Time("2026-01-02T03:04:05Z".parse().unwrap()),
            severity: Severity::Warning,
            event: AlertEvent::Unknown { event: event.to_owned() },
            message: event.to_owned(),
            incident: None,
        }
    }

    /// An agent, and its responses.
    struct Agent {
        run: u64,
        history: History,
    }

    impl Agent {
        fn raise(&mut self, events: &[&str]) {
            events.iter().for_each(|event| self.history.add(alert(event)));
        }

        fn page(&self, seq: u64) -> AlertPage {
            AlertPage {
                run: self.run,
                first: self.history.first(),
                last: self.history.last(),
                now: Time("2026-01-02T03:04:05Z".parse().unwrap()),
                alerts: self.history.since(seq),
            }
        }

        /// The next one, which knows of the alerts up to number `written`.
        fn after(self, written: u64) -> Self {
            let mut known = self.history.since(0);
            known.retain(|alert| alert.seq <= written);
            Self { run: self.run + 1, history: History::after(known) }
        }
    }

    /// The alerts that a follower shows, and the number that it reports as forgotten.
    fn seen(follower: &mut Follower, agent: &Agent) -> (Vec<String>, u64) {
        loop {
            if let Some((alerts, forgotten)) = follower.see(agent.page(follower.known)) {
                return (alerts.into_iter().map(|alert| alert.message).collect(), forgotten);
            }
        }
    }

    #[test]
    fn everything_is_shown_once_over_any_end_of_the_agent() {
        let mut agent = Agent { run: 7, history: History::default() };
        agent.raise(&["old"]);
        let mut follower = Follower::from(&agent.page(u64::MAX));
        assert_eq!(seen(&mut follower, &agent), (vec![], 0), "from now on");
        agent.raise(&["a", "b"]);
        assert_eq!(seen(&mut follower, &agent).0, ["a", "b"]);
        assert_eq!(seen(&mut follower, &agent).0, [""; 0]);

        // Stopped properly: its last alerts are on the disk.
        agent.raise(&["c"]);
        let mut agent = agent.after(4);
        agent.raise(&["d"]);
        assert_eq!(seen(&mut follower, &agent), (vec!["c".to_owned(), "d".to_owned()], 0));

        // Killed: two that were shown are not on the disk, and their numbers are used again.
        agent.raise(&["e", "f"]);
        assert_eq!(seen(&mut follower, &agent).0, ["e", "f"]);
        let mut agent = agent.after(5);
        assert_eq!(seen(&mut follower, &agent), (vec![], 0));
        agent.raise(&["g"]);
        assert_eq!(seen(&mut follower, &agent), (vec!["g".to_owned()], 0));

        // The next agent has raised more alerts under the same numbers before it is asked.
        let mut agent = agent.after(3);
        agent.raise(&["h", "i", "j", "k"]);
        let latest = ["h", "i", "j", "k"].map(str::to_owned).to_vec();
        assert_eq!(seen(&mut follower, &agent), (latest, 0));

        // Its file was lost.
        let mut agent = agent.after(0);
        agent.raise(&["l"]);
        assert_eq!(seen(&mut follower, &agent), (vec!["l".to_owned()], 0));
    }

    #[test]
    fn what_was_forgotten_in_between_is_counted() {
        let mut agent = Agent { run: 7, history: History::default() };
        let mut follower = Follower::from(&agent.page(u64::MAX));
        agent.raise(&["x"; 1005]);
        let (shown, forgotten) = seen(&mut follower, &agent);
        assert_eq!((shown.len(), forgotten), (1000, 5));
        assert_eq!(seen(&mut follower, &agent), (vec![], 0));
    }

    #[test]
    fn every_alert_is_of_a_kind() {
        for event in descriptors().filter(|event| event.message_id.is_some()) {
            assert!(EventKind::of(event.name).is_some(), "{event:?}");
        }
        assert_eq!(EventKind::of("something_new"), None);
    }

    #[test]
    fn only_what_was_asked_for_is_shown() {
        let wants = |kinds: &[EventKind], severity, event| {
            let (period, follow) = (Period::default(), true);
            let args = EventsArgs { severity, kinds: kinds.to_vec(), period, follow };
            args.wants(&alert(event))
        };
        use Threshold::{Critical, Notice, Warning};
        assert!(wants(&[], Notice, "something_new"));
        assert!(wants(&[], Warning, "mode_changed"));
        assert!(!wants(&[], Critical, "mode_changed"));
        assert!(wants(&[EventKind::Rule, EventKind::Mode], Notice, "mode_reverted"));
        assert!(!wants(&[EventKind::Rule], Notice, "mode_reverted"));
        assert!(!wants(&[EventKind::Rule], Notice, "something_new"));
    }
}
