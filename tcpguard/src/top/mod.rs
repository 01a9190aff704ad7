//! `tcpguard top`: a live view of tcpguard in a terminal.
//!
//! The agent's responses and the user's keys (`keys`) meet in a [`Model`], of which [`draw()`] makes a
//! picture. All of that is pure and takes the time as a parameter. Only [`run`] and [`terminal`] touch the
//! world.

mod commands;
mod draw;
mod history;
mod keys;
mod model;
mod panes;
pub mod terminal;

use std::io;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyEvent};

use crate::control::{Request, Response};
use crate::documents::Status;
use crate::documents::history::History;
use crate::text::View;

pub use draw::draw;
pub use keys::{Action, Doing, action};
pub use model::{HEIGHT, Model, WIDTH, Wish};
pub use panes::Pane;

use terminal::{Notice, Screen};

/// The picture is drawn anew at least so often, because the age of its content grows.
const TICK: Duration = Duration::from_secs(1);

/// An event while the view is open.
enum Happened {
    Key(KeyEvent),
    Resized(u16, u16),
    Noticed(Notice),
    Answered(Box<(Request, Result<Response, String>)>),
}

/// Shows the agent's responses until the user leaves. `first` are the first responses. `ask` gets the
/// others every `interval`, in a thread of its own.
pub fn run(
    first: (Status, History),
    interval: Duration,
    view: View,
    ask: impl FnMut(Request) -> Result<Response, String> + Send + 'static,
) -> io::Result<()> {
    let (sender, happened) = channel();
    let notices = sender.clone();
    // Before the terminal is taken: a signal in between must not leave it taken.
    terminal::on_signals(move |notice| drop(notices.send(Happened::Noticed(notice))))?;
    let mut screen = Screen::enter(view.colour)?;
    let (wish, wishes) = channel();
    let answers = sender.clone();
    let asker = spawn("requests", move || keep_asking(ask, interval, &wishes, &answers))?;
    let reader = spawn("keys", move || read_keys(&sender))?;

    let begun = Instant::now();
    let mut model = Model::new(first.0, first.1, interval, view, screen.size()?);
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
    wish: &Sender<Request>,
    begun: Instant,
) -> io::Result<Then> {
    match happened {
        Happened::Resized(columns, lines) => model.resize(columns, lines),
        Happened::Noticed(Notice::End) => return Ok(Then::Leave),
        Happened::Noticed(Notice::Stop) => screen.stop()?,
        Happened::Noticed(Notice::GoOn) => screen.take_again()?,
        Happened::Answered(answered) => {
            let (request, answer) = *answered;
            model.answered(&request, answer, begun.elapsed());
            if let Some(renewal) = model.renewal(&request) {
                drop(wish.send(renewal));
            }
        }
        Happened::Key(key) => {
            let wanted = action(key, model.doing()).and_then(|action| model.handle(action));
            match wanted {
                None => {}
                Some(Wish::Quit) => return Ok(Then::Leave),
                Some(Wish::Stop) => screen.stop_all()?,
                Some(Wish::Redraw) => screen.redraw()?,
                // It fails only if the asking thread has panicked, which is noticed soon enough.
                Some(Wish::Send(request)) => drop(wish.send(request)),
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

/// Asks for status and history again and again, and sends the user's requests in between, until a channel is
/// closed.
fn keep_asking(
    mut ask: impl FnMut(Request) -> Result<Response, String>,
    interval: Duration,
    wishes: &Receiver<Request>,
    answers: &Sender<Happened>,
) {
    let mut next = Instant::now() + interval;
    loop {
        let requests = match wishes.recv_timeout(next.saturating_duration_since(Instant::now())) {
            // The effect of a change is shown at once.
            Ok(change) if change.is_change() => vec![change, Request::Status],
            Ok(request) => vec![request],
            Err(RecvTimeoutError::Timeout) => vec![Request::Status, Request::History],
            Err(RecvTimeoutError::Disconnected) => return,
        };
        for request in requests {
            let answer = ask(request.clone());
            let is_last = request == Request::History;
            if answers.send(Happened::Answered(Box::new((request, answer)))).is_err() {
                return;
            }
            if is_last {
                next = Instant::now() + interval;
            }
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
