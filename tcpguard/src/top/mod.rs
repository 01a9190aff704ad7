//! `tcpguard top`: a live view of tcpguard in a terminal.
//!
//! The agent's responses (`snapshot`) and the user's keys (`keys`) meet in a [`Model`], of which
//! [`draw()`] makes a picture. All of that is pure and takes the time as a parameter. `panes`
//! determines the content and knows of no terminal. Only [`run`] and [`terminal`] touch the world.

mod draw;
mod growth;
mod history;
mod keys;
mod list;
mod model;
mod panes;
mod snapshot;
pub mod terminal;

use std::io;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyEvent};

use crate::documents::{FullIncident, Status};
use crate::text::View;

pub use draw::draw;
pub use keys::{Action, Doing, action};
pub use model::{HEIGHT, Model, Options, WIDTH, Wish};
pub use panes::Pane;

use terminal::{Notice, Screen};

/// The picture is drawn anew at least so often, because the age of its content grows.
const TICK: Duration = Duration::from_secs(1);

/// A request to the agent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Question {
    /// The status of the agent.
    Status,
    /// The details of an incident, by its number.
    Explain(u64),
}

/// A response of the agent.
#[derive(Clone, Debug)]
pub enum Update {
    /// Response to [`Question::Status`].
    Status(Box<Status>),
    /// Response to [`Question::Explain`].
    Story(Box<FullIncident>),
}

/// An event while the view is open.
enum Happened {
    Key(KeyEvent),
    Resized(u16, u16),
    Noticed(Notice),
    Answered(Question, Result<Update, String>),
}

/// Shows the agent's responses until the user leaves. `first` is the first response. `ask` gets the
/// others, in a thread of its own.
pub fn run(
    first: Status,
    options: Options,
    view: View,
    ask: impl FnMut(Question) -> Result<Update, String> + Send + 'static,
) -> io::Result<()> {
    let (sender, happened) = channel();
    let notices = sender.clone();
    // Before the terminal is taken: a signal in between must not leave it taken.
    terminal::on_signals(move |notice| drop(notices.send(Happened::Noticed(notice))))?;
    let mut screen = Screen::enter(view.colour)?;
    let (wish, wishes) = channel();
    let (delay, answers) = (options.delay, sender.clone());
    let asker = spawn("questions", move || keep_asking(ask, delay, &wishes, &answers))?;
    let reader = spawn("keys", move || read_keys(&sender))?;

    let begun = Instant::now();
    let mut model = Model::new(first, Duration::ZERO, options, view, screen.size()?);
    loop {
        screen.draw(|frame| draw(&model, begun.elapsed(), frame))?;
        match happened.recv_timeout(TICK) {
            Ok(first) => {
                // Events that have arrived meanwhile go into the same picture.
                for one in std::iter::once(first).chain(happened.try_iter()) {
                    if take_in(one, &mut model, &mut screen, &wish, begun)? == Then::Leave {
                        return Ok(());
                    }
                }
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        if reader.is_finished() {
            return joined(reader);
        }
        if asker.is_finished() {
            joined(asker);
            return Ok(());
        }
    }
}

/// The consequence of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Then {
    Stay,
    Leave,
}

fn take_in(
    happened: Happened,
    model: &mut Model,
    screen: &mut Screen,
    wish: &Sender<u64>,
    begun: Instant,
) -> io::Result<Then> {
    match happened {
        Happened::Resized(columns, lines) => model.resize(columns, lines),
        Happened::Noticed(Notice::End) => return Ok(Then::Leave),
        Happened::Noticed(Notice::Stop) => screen.stop()?,
        Happened::Noticed(Notice::GoOn) => screen.take_again()?,
        Happened::Answered(question, answer) => match (question, answer) {
            (_, Ok(Update::Status(status))) => model.feed(*status, begun.elapsed()),
            (Question::Status, Ok(Update::Story(_))) => {}
            (Question::Status, Err(why)) => model.fail(why),
            (Question::Explain(id), Ok(Update::Story(story))) => model.explained(id, Ok(story)),
            (Question::Explain(id), Err(why)) => model.explained(id, Err(why)),
        },
        Happened::Key(key) => {
            let wanted = action(key, model.doing()).and_then(|action| model.handle(action));
            match wanted {
                None => {}
                Some(Wish::Quit) => return Ok(Then::Leave),
                Some(Wish::Stop) => screen.stop_all()?,
                Some(Wish::Redraw) => screen.redraw()?,
                // It fails only if the asking thread has panicked, which is noticed soon enough.
                Some(Wish::Explain(id)) => drop(wish.send(id)),
            }
        }
    }
    Ok(Then::Stay)
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// The result of a thread. Its panic goes on here, after its message has been printed.
fn joined<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Asks for the status again and again, and for requested incidents in between, until a channel is
/// closed.
fn keep_asking(
    mut ask: impl FnMut(Question) -> Result<Update, String>,
    delay: Duration,
    wishes: &Receiver<u64>,
    answers: &Sender<Happened>,
) {
    let mut next = Instant::now() + delay;
    loop {
        let question = match wishes.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(id) => Question::Explain(id),
            Err(RecvTimeoutError::Timeout) => Question::Status,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if answers.send(Happened::Answered(question, ask(question))).is_err() {
            return;
        }
        if question == Question::Status {
            next = Instant::now() + delay;
        }
    }
}

/// Reports every key until the terminal is gone.
fn read_keys(sender: &Sender<Happened>) -> io::Result<()> {
    loop {
        let happened = match event::read()? {
            Event::Key(key) => Happened::Key(key),
            Event::Resize(columns, lines) => Happened::Resized(columns, lines),
            _ => continue,
        };
        if sender.send(happened).is_err() {
            return Ok(());
        }
    }
}
