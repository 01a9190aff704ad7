//! State of the view between two keys: the data that is shown and the way it is shown.

use std::time::Duration;

use tcpguard_host::units::span;

use super::keys::{Action, Doing};
use super::list::{ListView, Row};
use super::panes::{Note, Pane};
use super::snapshot::Snapshot;
use crate::documents::{FullIncident, Status};
use crate::text::{self, View, wrap};

/// Narrowest terminal that has room for everything, in columns.
pub const WIDTH: u16 = 80;
/// Lowest terminal that has room for everything, in lines.
pub const HEIGHT: u16 = 24;
/// Lines that are not a pane's: the headline, the names of the panes, the keys.
pub const FRAME: u16 = 3;
/// Time, beside the pause between two questions, after which a response is late.
const LATE: Duration = Duration::from_secs(2);

/// Options from the command line.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only this interface's packets count.
    pub interface: Option<String>,
    /// Pause between two questions.
    pub delay: Duration,
}

/// A request that the model cannot carry out itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wish {
    Quit,
    Stop,
    Redraw,
    /// Request all details of this incident.
    Explain(u64),
}

/// State of the view.
#[derive(Clone, Debug)]
pub struct Model {
    options: Options,
    view: View,
    /// Columns and lines of the terminal.
    size: (u16, u16),
    live: Snapshot,
    /// The snapshot that is shown while the picture is held.
    held: Option<Snapshot>,
    /// Reason why there is no response.
    trouble: Option<String>,
    pane: Pane,
    list_views: [ListView; Pane::ALL.len()],
    over: Over,
}

/// An overlay on the pane.
#[derive(Clone, Debug)]
enum Over {
    Nothing,
    /// A filter is typed; this was it before.
    Typing(String),
    Help,
    Story(Story),
}

/// All that is known of an incident.
#[derive(Clone, Debug)]
struct Story {
    id: u64,
    /// The data of the story, once it is there.
    incident: Option<Box<FullIncident>>,
    lines: Vec<String>,
    /// The first line shown.
    first: usize,
}

/// The overlay on the pane, to be drawn.
#[derive(Clone, Copy, Debug)]
pub enum Covered<'a> {
    No,
    Help,
    /// The story of an incident, from this line on.
    Story {
        id: u64,
        /// Its lines from the first one shown on.
        lines: &'a [String],
        /// Number of lines before them.
        before: usize,
    },
}

impl Model {
    /// Creates the view with the first response of the agent, on a terminal of `size`, columns and lines.
    pub fn new(
        first: Status,
        now: Duration,
        options: Options,
        view: View,
        size: (u16, u16),
    ) -> Self {
        let list_view = |pane: Pane| ListView { sort: pane.first_sort(), ..ListView::default() };
        Self {
            live: Snapshot::first(first, now, options.interface.as_deref()),
            options,
            view,
            size,
            held: None,
            trouble: None,
            pane: Pane::Overview,
            list_views: Pane::ALL.map(list_view),
            over: Over::Nothing,
        }
    }

    /// Takes a response of the agent.
    pub fn feed(&mut self, status: Status, now: Duration) {
        let reach = 2 * self.options.delay + LATE;
        self.live.feed(status, now, self.options.interface.as_deref(), reach);
        self.trouble = None;
    }

    /// Takes the reason why the agent has not responded.
    pub fn fail(&mut self, why: String) {
        self.trouble = Some(why);
    }

    /// Takes the details of incident `id`, or the reason why there are none.
    pub fn explained(&mut self, id: u64, answer: Result<Box<FullIncident>, String>) {
        let width = self.size.0;
        let Over::Story(story) = &mut self.over else { return };
        if story.id != id {
            return;
        }
        match answer {
            Ok(incident) => story.incident = Some(incident),
            Err(why) => story.lines = wrap(&why, usize::from(width)),
        }
        self.lay_out();
    }

    /// Takes another size of the terminal.
    pub fn resize(&mut self, columns: u16, lines: u16) {
        self.size = (columns, lines);
        self.lay_out();
    }

    /// Breaks the story into lines for this terminal.
    fn lay_out(&mut self) {
        let (width, height) = (usize::from(self.size.0), self.page());
        let Over::Story(story) = &mut self.over else { return };
        if let Some(incident) = &story.incident {
            let plain = View { colour: false, ..self.view.clone() };
            let mut text = String::new();
            // A string takes whatever is written.
            let _ = text::attack_in_full(&mut text, incident, &plain, true);
            story.lines = text.lines().flat_map(|line| broken(line, width)).collect();
        }
        story.first = story.first.min(story.lines.len().saturating_sub(height));
    }

    /// Carries out an action. Returns the request that the model cannot carry out itself.
    pub fn handle(&mut self, action: Action) -> Option<Wish> {
        match action {
            Action::Quit => return Some(Wish::Quit),
            Action::Stop => return Some(Wish::Stop),
            Action::Redraw => return Some(Wish::Redraw),
            Action::Open => return self.open(),
            Action::Walk(by) => self.walk(by),
            Action::Page(by) => {
                // A list has two thirds of the pane.
                let rows = match self.over {
                    Over::Nothing | Over::Typing(_) => self.page() * 2 / 3,
                    Over::Help | Over::Story(_) => self.page(),
                };
                self.walk(by.saturating_mul(rows.max(1) as isize));
            }
            Action::First => self.walk(isize::MIN),
            Action::Last => self.walk(isize::MAX),
            Action::Turn(by) => {
                let panes = Pane::ALL.len() as isize;
                let place = (self.pane.place() as isize + by).rem_euclid(panes);
                self.pane = Pane::ALL[place as usize];
            }
            Action::Show(pane) => self.pane = pane,
            Action::Sort => {
                let columns = self.pane.columns();
                self.list_view_mut().sort_by_next(columns);
            }
            Action::Reverse => {
                let list_view = self.list_view_mut();
                list_view.reverse = !list_view.reverse;
            }
            Action::Pause => {
                self.held = match self.held {
                    None => Some(self.live.clone()),
                    Some(_) => None,
                };
            }
            Action::Help => self.over = Over::Help,
            Action::Filter if self.pane.columns().is_empty() => {}
            Action::Filter => self.over = Over::Typing(self.list_view().filter.clone()),
            Action::Type(letter) => self.list_view_mut().filter.push(letter),
            Action::Erase => {
                self.list_view_mut().filter.pop();
            }
            Action::Accept => self.over = Over::Nothing,
            Action::Close => self.close(),
        }
        None
    }

    fn open(&mut self) -> Option<Wish> {
        if self.pane != Pane::Incidents {
            return None;
        }
        let rows = self.rows();
        let id = rows.get(self.list_view().place(&rows))?.key.parse().ok()?;
        let lines = vec![format!("asking for all that is known of incident #{id}…")];
        self.over = Over::Story(Story { id, incident: None, lines, first: 0 });
        Some(Wish::Explain(id))
    }

    fn walk(&mut self, by: isize) {
        let height = self.page();
        match &mut self.over {
            Over::Story(story) => {
                let last = story.lines.len().saturating_sub(height);
                story.first = story.first.saturating_add_signed(by).min(last);
            }
            Over::Help => {}
            Over::Nothing | Over::Typing(_) => {
                let rows = self.rows();
                self.list_view_mut().walk(&rows, by);
            }
        }
    }

    fn close(&mut self) {
        match std::mem::replace(&mut self.over, Over::Nothing) {
            Over::Typing(before) => self.list_view_mut().filter = before,
            Over::Nothing => self.list_view_mut().filter.clear(),
            Over::Help | Over::Story(_) => {}
        }
    }

    fn list_view_mut(&mut self) -> &mut ListView {
        &mut self.list_views[self.pane.place()]
    }

    /// Lines of a pane without its heading.
    fn page(&self) -> usize {
        usize::from(self.size.1.saturating_sub(FRAME + 1))
    }

    /// The snapshot that is shown.
    pub fn snapshot(&self) -> &Snapshot {
        self.held.as_ref().unwrap_or(&self.live)
    }

    /// Returns whether it is held.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// The capabilities of the terminal.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The pane that is looked at.
    pub fn pane(&self) -> Pane {
        self.pane
    }

    /// Returns the sort order, filter and selection of its list.
    pub fn list_view(&self) -> &ListView {
        &self.list_views[self.pane.place()]
    }

    /// The rows of its list that are to be shown, in their order.
    pub fn rows(&self) -> Vec<Row> {
        let rows = self.pane.rows(self.snapshot(), &self.view);
        self.list_view().arrange(rows, self.pane.columns())
    }

    /// The notes about the row with this key, and about the list as a whole.
    pub fn notes(&self, key: Option<&str>) -> Vec<Note> {
        self.pane.notes(self.snapshot(), key, &self.view)
    }

    /// The current activity, which decides the meaning of a key.
    pub fn doing(&self) -> Doing {
        match self.over {
            Over::Nothing => Doing::Looking,
            Over::Typing(_) => Doing::Typing,
            Over::Help | Over::Story(_) => Doing::Reading,
        }
    }

    /// The overlay on the pane.
    pub fn covered(&self) -> Covered<'_> {
        match &self.over {
            Over::Nothing | Over::Typing(_) => Covered::No,
            Over::Help => Covered::Help,
            Over::Story(Story { id, lines, first, .. }) => {
                Covered::Story { id: *id, lines: &lines[*first..], before: *first }
            }
        }
    }

    /// Returns the reason why the numbers are older than they should be at `now`; `None` while they are not.
    pub fn stale(&self, now: Duration) -> Option<String> {
        let age = now.saturating_sub(self.live.at);
        let elapsed = span(Duration::from_secs(age.as_secs()));
        match &self.trouble {
            Some(why) => Some(format!("these numbers are {elapsed} old: {why}")),
            None if age > self.options.delay + LATE => {
                let why = "the agent does not answer; look at its log: journalctl -u tcpguard";
                Some(format!("these numbers are {elapsed} old: {why}"))
            }
            None => None,
        }
    }
}

/// `line` in as many lines of `width` characters as it needs. Continuation lines are indented to
/// its text and not to its heading.
fn broken(line: &str, width: usize) -> Vec<String> {
    /// Columns before the text of a paragraph, see `render::incident`.
    const INDENT: usize = 11;
    if line.chars().count() <= width {
        return vec![line.to_owned()];
    }
    let split = line.char_indices().nth(INDENT).map_or(line.len(), |(place, _)| place);
    let (head, text) = line.split_at(split);
    let lines = wrap(text, width.saturating_sub(INDENT).max(1));
    let heads = std::iter::once(head.to_owned()).chain(std::iter::repeat(" ".repeat(INDENT)));
    heads.zip(lines).map(|(head, text)| format!("{head}{text}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_goes_on_under_its_text() {
        assert_eq!(broken("  Gate     short", 20), ["  Gate     short"]);
        let long = "  Gate     one two three four";
        assert_eq!(broken(long, 21), ["  Gate     one two", "           three four"]);
        assert!(broken(long, 3).iter().all(|line| !line.trim().is_empty()));
    }
}
