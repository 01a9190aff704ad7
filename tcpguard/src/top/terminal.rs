//! The terminal while `top` has it, and giving it back: when it ends, however it ends, and whenever it
//! is stopped.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::style::force_color_output;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{execute, queue};
use ratatui::layout::{Position, Rect};
use ratatui::{Frame, Terminal};
use rustix::process::{Signal, getpgrp, getpid, getsid, kill_current_process_group, kill_process};
use tokio::signal::unix::{SignalKind, signal};

/// True while the terminal is ours. There is one terminal to a process, and a panic in
/// any thread must find it.
static OURS: AtomicBool = AtomicBool::new(false);

/// The terminal in the state in which a full page can be drawn on it. Keys come as they are typed, and the
/// earlier content is restored afterwards. The terminal is given back when this is dropped, and before the
/// message of a panic is printed.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Output>>>,
}

impl Screen {
    /// Takes the terminal. Without `colour` no colour is sent; with it, NO_COLOR has been overruled.
    pub fn enter(colour: bool) -> io::Result<Self> {
        static HOOK: Once = Once::new();
        if !io::stdout().is_terminal() {
            return Err(io::Error::other("standard output is no terminal"));
        }
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                give_back();
                before(panic);
            }));
        });
        force_color_output(colour);
        take()?;
        let output = Output(stdout()?);
        let terminal = Terminal::new(CrosstermBackend::new(BufWriter::new(output)));
        // A failure here must not leave the terminal as it is now.
        let terminal = terminal.inspect_err(|_| give_back())?;
        Ok(Self { terminal })
    }

    /// Its columns and lines.
    pub fn size(&self) -> io::Result<(u16, u16)> {
        self.terminal.size().map(|size| (size.width, size.height))
    }

    /// Puts the drawing of `draw` on it, as far as it differs from the present content. Does
    /// nothing while the terminal is not ours.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        if is_ours() {
            self.terminal.draw(draw)?;
        }
        Ok(())
    }

    /// Draws all of it anew the next time.
    pub fn redraw(&mut self) -> io::Result<()> {
        let size = self.terminal.size()?;
        // `Terminal::clear` would ask the terminal where its cursor is, and the answer would have to
        // come by the keyboard, which another thread reads.
        self.terminal.resize(Rect::from((Position::ORIGIN, size)))
    }

    /// Gives it back and stops the process, as SIGTSTP does with any other. [`Notice::GoOn`]
    /// reports that the process was continued. Does nothing if there is no shell with job control
    /// to continue it.
    pub fn stop(&mut self) -> io::Result<()> {
        if can_go_on() {
            give_back();
            // SIGTSTP itself would only be reported once more.
            kill_process(getpid(), Signal::STOP)?;
        }
        Ok(())
    }

    /// Stops all processes that were started together with us, which is the meaning of Ctrl-Z on a terminal in
    /// its normal state. [`Notice::Stop`] then reaches us as well.
    pub fn stop_all(&mut self) -> io::Result<()> {
        if can_go_on() {
            // Before any process stops: the shell takes the terminal as soon as its child has
            // stopped.
            give_back();
            kill_current_process_group(Signal::TSTP)?;
        }
        Ok(())
    }

    /// Takes it again after a stop, whatever its state is by then.
    pub fn take_again(&mut self) -> io::Result<()> {
        give_back();
        take()?;
        self.redraw()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn is_ours() -> bool {
    OURS.load(Ordering::SeqCst)
}

fn stdout() -> io::Result<File> {
    Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
}

fn take() -> io::Result<()> {
    enable_raw_mode()?;
    OURS.store(true, Ordering::SeqCst);
    let mut terminal = stdout()?;
    execute!(terminal, EnterAlternateScreen).inspect_err(|_| give_back())
}

/// Brings the terminal into the state in which it was found. Whatever fails: there is nothing else
/// that could be done.
fn give_back() {
    if OURS.swap(false, Ordering::SeqCst) {
        if let Ok(mut terminal) = stdout() {
            let _ = queue!(terminal, LeaveAlternateScreen, Show);
            let _ = terminal.flush();
        }
        let _ = disable_raw_mode();
    }
}

/// Returns whether a shell could continue a stopped process. The kernel itself stops no process by Ctrl-Z
/// in a process group with a leader that also leads the session: `ssh -t HOST tcpguard top`.
fn can_go_on() -> bool {
    getsid(None).is_ok_and(|session| session != getpgrp())
}

/// Standard output while the terminal is ours. Afterwards nothing is written, and nothing fails:
/// a terminal that is gone is no reason for more errors on the way out.
struct Output(File);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if is_ours() { self.0.write(bytes) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The meaning of a signal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Notice {
    /// End: SIGTERM, SIGHUP, SIGINT, SIGQUIT.
    End,
    Stop,
    GoOn,
}

/// Reports every signal that has a meaning here, from now on.
pub fn on_signals(notify: impl Fn(Notice) + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let guard = runtime.enter();
    let mut term = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut stop = signal(SignalKind::from_raw(libc::SIGTSTP))?;
    let mut go_on = signal(SignalKind::from_raw(libc::SIGCONT))?;
    drop(guard);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            loop {
                notify(tokio::select! {
                    _ = term.recv() => Notice::End,
                    _ = hangup.recv() => Notice::End,
                    _ = interrupt.recv() => Notice::End,
                    _ = quit.recv() => Notice::End,
                    _ = stop.recv() => Notice::Stop,
                    _ = go_on.recv() => Notice::GoOn,
                });
            }
        });
    })?;
    Ok(())
}
