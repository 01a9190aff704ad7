//! State of the view between two keys: the data that is shown and the way it is shown.

use std::time::Duration;

use jiff::SignedDuration;
use tcpguard_host::time::Time;
use tcpguard_host::units::span;

use super::commands::{self, Proposal};
use super::keys::{Action, Doing};
use super::panes::{Pane, Row};
use crate::config::parse_prefix;
use crate::control::{Request, Response};
use crate::documents::history::{History, Second};
use crate::documents::{FullIncident, Status};
use crate::text::{self, View, wrap};

/// Narrowest terminal that has room for everything, in columns.
pub const WIDTH: u16 = 80;
/// Lowest terminal that has room for everything, in lines.
pub const HEIGHT: u16 = 24;
/// Lines around the details of a row: the headline, the title and the keys.
pub const FRAME: u16 = 3;
/// Time, beside the interval of the queries, after which a response is late.
const LATE: Duration = Duration::from_secs(2);
/// Seconds of the history that are kept.
const HISTORY: usize = 300;
/// Rows of a page of a list.
const PAGE: isize = 10;
/// Time for which the outcome of a command is shown.
const SHOWN: Duration = Duration::from_secs(5);

/// A request that the model cannot carry out itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    Quit,
    Stop,
    Redraw,
    /// Send this to the agent.
    Send(Request),
}

/// Responses of the agent at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub status: Status,
    pub history: Vec<Second>,
    /// Time at which the status came.
    pub at: Duration,
}

/// State of the view.
#[derive(Clone, Debug)]
pub struct Model {
    view: View,
    /// Interval of the queries.
    interval: Duration,
    /// Columns and lines of the terminal.
    size: (u16, u16),
    live: Snapshot,
    /// The snapshot that is shown while the picture is held.
    held: Option<Snapshot>,
    /// Reason why there is no response.
    trouble: Option<String>,
    /// Outcome of the last command, and its time.
    outcome: Option<(Outcome, Duration)>,
    focus: Pane,
    list_views: [ListView; Pane::ALL.len()],
    over: Over,
}

/// Outcome of a command: a line, or the reason why it failed.
pub type Outcome = Result<String, String>;

/// Filter and selection of a list.
#[derive(Clone, Debug, Default)]
pub struct ListView {
    /// Only rows with this in one of their cells are shown; upper and lower case are the same.
    pub filter: String,
    /// Key of the selected row; `None` selects the first row.
    selected: Option<u64>,
}

/// An overlay on the screen.
#[derive(Clone, Debug)]
pub enum Over {
    Nothing,
    Help,
    /// A filter is typed; this was it before.
    Filter(String),
    /// A prefix to block is typed.
    Prefix(String),
    Proposal(Box<Proposal>),
    Details(Details),
}

/// Details of one row.
#[derive(Clone, Debug)]
pub struct Details {
    subject: Pane,
    key: u64,
    /// The incident, or the reason why there is none, once the agent has answered.
    incident: Option<Result<Box<FullIncident>, String>>,
    /// The first line shown.
    first: usize,
}

impl ListView {
    /// Returns the position of the selected row among `rows`.
    pub fn place(&self, rows: &[Row]) -> usize {
        rows.iter().position(|row| Some(row.key) == self.selected).unwrap_or_default()
    }

    fn admits(&self, row: &Row) -> bool {
        let wanted = self.filter.to_lowercase();
        row.cells.iter().any(|(text, _)| text.to_lowercase().contains(&wanted))
    }
}

impl Model {
    /// Creates the view with the first responses of the agent, on a terminal of `size`, columns and lines.
    pub fn new(
        status: Status,
        history: History,
        interval: Duration,
        view: View,
        size: (u16, u16),
    ) -> Self {
        Self {
            view,
            interval,
            size,
            live: Snapshot { status, history: history.seconds, at: Duration::ZERO },
            held: None,
            trouble: None,
            outcome: None,
            focus: Pane::Listeners,
            list_views: Default::default(),
            over: Over::Nothing,
        }
    }

    /// Takes the response of the agent to a request, or the reason why there is none.
    pub fn answered(&mut self, request: &Request, answer: Result<Response, String>, now: Duration) {
        match (request, answer) {
            (Request::Status, Ok(Response::Status(status))) => {
                (self.live.status, self.live.at) = (*status, now);
                self.trouble = None;
            }
            (Request::Status, Err(why)) => self.trouble = Some(why),
            (Request::History, Ok(Response::History(history))) => self.recall(*history),
            (Request::ExplainIncident { id }, answer) => {
                if let Over::Details(Details { subject: Pane::Incidents, key, incident, .. }) =
                    &mut self.over
                    && key == id
                {
                    *incident = match answer {
                        Ok(Response::IncidentExplained(full)) => Some(Ok(full)),
                        Ok(_) => None,
                        Err(why) => Some(Err(why)),
                    };
                }
            }
            (_, Ok(Response::Blocked(blocked))) if blocked.dry_run => {
                let Some(net) = blocked.rule.prefix() else { return };
                let mut effect = String::new();
                // A string takes whatever is written.
                let _ = text::blocked(&mut effect, &blocked, &self.view);
                let effect = effect.lines().collect::<Vec<_>>().join("; ");
                self.propose(Some(Proposal { effect, ..commands::block(net) }), "");
            }
            (request, answer) if request.is_change() || request.is_dry_run() => {
                let done = |_| format!("done: {}", request.in_brief());
                self.outcome = Some((answer.map(done), now));
            }
            _ => {}
        }
    }

    /// Returns the request by which open details stay as new as the status that has just come.
    pub fn renewal(&self, answered: &Request) -> Option<Request> {
        match (&self.over, answered) {
            (Over::Details(Details { subject: Pane::Incidents, key, .. }), Request::Status)
                if !self.is_held() =>
            {
                Some(Request::ExplainIncident { id: *key })
            }
            _ => None,
        }
    }

    /// Takes the agent's history. An agent that has started again does not know the time before.
    fn recall(&mut self, history: History) {
        if let Some(first) = history.seconds.first() {
            self.live.history.retain(|second| second.at < first.at);
            self.live.history.extend(history.seconds);
            let surplus = self.live.history.len().saturating_sub(HISTORY);
            self.live.history.drain(..surplus);
        }
    }

    /// Takes another size of the terminal.
    pub fn resize(&mut self, columns: u16, lines: u16) {
        self.size = (columns, lines);
    }

    /// Carries out an action. Returns the request that the model cannot carry out itself.
    pub fn handle(&mut self, action: Action) -> Option<Wish> {
        match action {
            Action::Quit => return Some(Wish::Quit),
            Action::Stop => return Some(Wish::Stop),
            Action::Redraw => return Some(Wish::Redraw),
            Action::Open => return self.open(),
            Action::Accept => return self.accept(),
            Action::Walk(by) => self.walk(by),
            Action::Page(by) => {
                let rows = match self.over {
                    Over::Details(_) => self.page() as isize,
                    _ => PAGE,
                };
                self.walk(by.saturating_mul(rows));
            }
            Action::First => self.walk(isize::MIN),
            Action::Last => self.walk(isize::MAX),
            Action::Turn(by) => {
                let panes = Pane::ALL.len() as isize;
                let place = (self.focus.place() as isize + by).rem_euclid(panes);
                self.focus = Pane::ALL[place as usize];
            }
            Action::Show(pane) => self.focus = pane,
            Action::Pause => {
                self.held = match self.held {
                    None => Some(self.live.clone()),
                    Some(_) => None,
                };
            }
            Action::Help => self.over = Over::Help,
            Action::Filter => self.over = Over::Filter(self.list_view(self.focus).filter.clone()),
            Action::Block => self.over = Over::Prefix(String::new()),
            Action::Mode => {
                let proposal = commands::mode(&self.live.status);
                self.propose(Some(proposal), "");
            }
            Action::Confirm => {
                let proposal = commands::confirm(&self.live.status);
                self.propose(proposal, "no change is pending confirmation");
            }
            Action::Release => self.release(),
            Action::Type(letter) => self.typed().push(letter),
            Action::Erase => {
                self.typed().pop();
            }
            Action::Close => self.close(),
        }
        None
    }

    fn open(&mut self) -> Option<Wish> {
        let key = self.selected()?;
        self.over = Over::Details(Details { subject: self.focus, key, incident: None, first: 0 });
        let is_incident = self.focus == Pane::Incidents;
        is_incident.then_some(Wish::Send(Request::ExplainIncident { id: key }))
    }

    fn accept(&mut self) -> Option<Wish> {
        match std::mem::replace(&mut self.over, Over::Nothing) {
            Over::Proposal(proposal) => return Some(Wish::Send(proposal.request)),
            Over::Prefix(typed) => match parse_prefix(typed.trim()) {
                Ok(net) => {
                    // The effect is shown before the command runs.
                    if let Request::Change { change, .. } = commands::block(net).request {
                        return Some(Wish::Send(Request::Change { change, dry_run: true }));
                    }
                }
                Err(why) => self.outcome = Some((Err(why), self.live.at)),
            },
            _ => {}
        }
        None
    }

    fn release(&mut self) {
        let (key, status) = (self.selected(), &self.live.status);
        let (proposal, none) = match self.focus {
            Pane::Rules => {
                let rule = status.rules.list.iter().find(|it| Some(it.id.0.into()) == key);
                (rule.map(commands::remove), "no rule is selected")
            }
            Pane::Listeners => {
                let listener = status.listeners.iter().find(|it| Some(it.id.into()) == key);
                (listener.and_then(commands::release), "this listener has no mitigation to release")
            }
            Pane::Incidents | Pane::Alerts => (None, "select a rule or a listener first"),
        };
        self.propose(proposal, none);
    }

    /// Shows a command to be confirmed, or the reason why there is `none`.
    fn propose(&mut self, proposal: Option<Proposal>, none: &str) {
        match proposal {
            Some(proposal) => self.over = Over::Proposal(Box::new(proposal)),
            None => self.outcome = Some((Err(none.to_owned()), self.live.at)),
        }
    }

    fn walk(&mut self, by: isize) {
        let (lines, height) = (self.details().len(), self.page());
        if let Over::Details(details) = &mut self.over {
            let last = lines.saturating_sub(height);
            details.first = details.first.saturating_add_signed(by).min(last);
            return;
        }
        let rows = self.rows(self.focus);
        let list_view = &mut self.list_views[self.focus.place()];
        let last = rows.len().saturating_sub(1);
        let place = list_view.place(&rows).saturating_add_signed(by).min(last);
        list_view.selected = rows.get(place).map(|row| row.key);
    }

    fn close(&mut self) {
        let filter = &mut self.list_views[self.focus.place()].filter;
        match std::mem::replace(&mut self.over, Over::Nothing) {
            Over::Filter(before) => *filter = before,
            Over::Nothing => filter.clear(),
            _ => {}
        }
    }

    /// The text that is typed.
    fn typed(&mut self) -> &mut String {
        match &mut self.over {
            Over::Prefix(typed) => typed,
            _ => &mut self.list_views[self.focus.place()].filter,
        }
    }

    /// Lines of the screen for the details of a row.
    fn page(&self) -> usize {
        usize::from(self.size.1.saturating_sub(FRAME)).max(1)
    }

    fn selected(&self) -> Option<u64> {
        let rows = self.rows(self.focus);
        rows.get(self.list_view(self.focus).place(&rows)).map(|row| row.key)
    }

    /// The snapshot that is shown.
    pub fn snapshot(&self) -> &Snapshot {
        self.held.as_ref().unwrap_or(&self.live)
    }

    /// The time of day of the picture at `now`, the time since the model was made.
    pub fn time(&self, now: Duration) -> Time {
        let snapshot = self.snapshot();
        let age = if self.is_held() { Duration::ZERO } else { now.saturating_sub(snapshot.at) };
        let age = SignedDuration::try_from(age).unwrap_or_default();
        let made = snapshot.status.generated_at;
        Time(made.0.checked_add(age).unwrap_or(made.0))
    }

    /// Returns whether it is held.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// The capabilities of the terminal.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The pane that the keys are about.
    pub fn focus(&self) -> Pane {
        self.focus
    }

    /// Returns the filter and the selection of a list.
    pub fn list_view(&self, pane: Pane) -> &ListView {
        &self.list_views[pane.place()]
    }

    /// The rows of a list that are to be shown, in their order.
    pub fn rows(&self, pane: Pane) -> Vec<Row> {
        let mut rows = pane.rows(&self.snapshot().status, &self.view);
        rows.retain(|row| self.list_view(pane).admits(row));
        rows
    }

    /// The current activity, which decides the meaning of a key.
    pub fn doing(&self) -> Doing {
        match self.over {
            Over::Nothing => Doing::Looking,
            Over::Filter(_) | Over::Prefix(_) => Doing::Typing,
            Over::Help | Over::Details(_) => Doing::Reading,
            Over::Proposal(_) => Doing::Deciding,
        }
    }

    /// The overlay on the screen.
    pub fn over(&self) -> &Over {
        &self.over
    }

    /// The outcome of the last command, for some seconds.
    pub fn outcome(&self, now: Duration) -> Option<&Outcome> {
        let (outcome, at) = self.outcome.as_ref()?;
        (now.saturating_sub(*at) < SHOWN).then_some(outcome)
    }

    /// The lines of the details, as wide as the terminal is now; none where no details are shown.
    pub fn details(&self) -> Vec<String> {
        let Over::Details(Details { subject, key, incident, .. }) = &self.over else {
            return Vec::new();
        };
        let status = &self.snapshot().status;
        let (mode, width) = (status.daemon.mode, View::columns(self.size.0));
        let view = View { colour: false, width, ..self.view.clone() };
        let mut text = String::new();
        let listener = status.listeners.iter().find(|it| u64::from(it.id) == *key);
        let rule = status.rules.list.iter().find(|it| u64::from(it.id.0) == *key);
        let alert = status.alerts.iter().find(|it| it.seq == *key);
        // A string takes whatever is written.
        let _ = match (subject, incident) {
            (Pane::Listeners, _) => listener.map(|it| text::listener(&mut text, it, mode, &view)),
            (Pane::Rules, _) => rule.map(|it| text::rule(&mut text, it, mode, &view)),
            (Pane::Alerts, _) => {
                alert.map(|it| text::alerts(&mut text, std::slice::from_ref(it), &view))
            }
            (Pane::Incidents, Some(Ok(full))) => {
                Some(text::attack_in_full(&mut text, full, &view, true))
            }
            (Pane::Incidents, Some(Err(why))) => return wrap(why, width),
            (Pane::Incidents, None) => return vec![format!("asking for incident #{key}…")],
        };
        match text.is_empty() {
            true => vec!["no longer in the list".to_owned()],
            false => text.lines().map(str::to_owned).collect(),
        }
    }

    /// Returns the reason why the numbers are older than they should be at `now`; `None` while they are not.
    pub fn stale(&self, now: Duration) -> Option<String> {
        let age = now.saturating_sub(self.live.at);
        let elapsed = span(Duration::from_secs(age.as_secs()));
        match &self.trouble {
            Some(why) => Some(format!("these numbers are {elapsed} old. {why}")),
            None if age > self.interval + LATE => {
                let why = "the agent does not answer; look at its log: journalctl -u tcpguard";
                Some(format!("these numbers are {elapsed} old. {why}"))
            }
            None => None,
        }
    }
}

impl Details {
    /// The title of the details.
    pub fn title(&self) -> String {
        match self.subject {
            Pane::Listeners => "Listener".to_owned(),
            Pane::Incidents => format!("Incident #{}", self.key),
            Pane::Rules => format!("Rule {}", self.key),
            Pane::Alerts => "Alert".to_owned(),
        }
    }

    /// The first of `lines` lines that is shown on a page of `height` lines.
    pub fn first(&self, lines: usize, height: usize) -> usize {
        self.first.min(lines.saturating_sub(height))
    }
}
