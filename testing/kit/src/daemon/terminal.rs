//! A terminal with a shell in it, as an operator has one. Its screen can be read, and keys can be pressed.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::net::netns::Netns;

/// Prompt of the shell when it waits for a command.
const PROMPT: &str = "ready>";
/// The terminal's own files, in the host's `/run`.
const SOCKET: &str = "/run/tmux.sock";
const CONFIG: &str = "/run/tmux.conf";
/// Interval between checks of a condition.
const POLL: Duration = Duration::from_millis(20);
/// Longest time for anything that a program does on its terminal.
const LIMIT: Duration = Duration::from_secs(10);

/// A terminal of tmux, which has no window anywhere. It is closed when dropped.
#[derive(Debug)]
pub struct Terminal<'host> {
    host: &'host Netns,
    server: Child,
}

/// State of a terminal, which a program must restore.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct State {
    /// The driver's settings, as `stty -a` shows them, without the size.
    pub settings: String,
    /// True if the cursor is to be seen.
    pub cursor: bool,
    /// True if the screen is the alternate one, on which full pages are drawn.
    pub alternate: bool,
}

impl<'host> Terminal<'host> {
    /// Opens a terminal on `host` with a shell in it that has these environment variables.
    ///
    /// # Errors
    /// Without tmux, or when the shell does not wait for a command within 10 s.
    pub fn open(
        host: &'host Netns,
        (columns, lines): (u16, u16),
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        host.write(CONFIG, "set -g status off\nset -g default-terminal screen-256color\n")?;
        let server = Self::command(host)?
            .args(["-f", CONFIG, "-D"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start tmux: install tmux")?;
        let terminal = Self { host, server };
        let mut session = vec!["new-session".to_owned(), "-d".to_owned()];
        session.extend(["-x".to_owned(), columns.to_string(), "-y".to_owned(), lines.to_string()]);
        session.extend(["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"].map(str::to_owned));
        session.extend(["TERM=screen-256color".to_owned(), format!("PS1={PROMPT} ")]);
        session.extend(environment.iter().map(|(name, value)| format!("{name}={value}")));
        session.extend(["sh".to_owned(), "-i".to_owned()]);
        let session: Vec<&str> = session.iter().map(String::as_str).collect();
        let begun = Instant::now();
        while let Err(error) = terminal.tmux(&session) {
            ensure!(begun.elapsed() < LIMIT, "tmux does not answer: {error:#}");
            sleep(POLL);
        }
        terminal.wait_for_prompt()?;
        Ok(terminal)
    }

    /// `tmux`, talking to this terminal's server and to no other.
    fn command(host: &Netns) -> Result<Command> {
        let mut command = host.command("tmux")?;
        command.env_remove("TMUX").env("LC_ALL", "C.UTF-8").args(["-S", SOCKET]);
        Ok(command)
    }

    fn tmux(&self, arguments: &[&str]) -> Result<String> {
        let output = Self::command(self.host)?
            // It must not start a server of its own.
            .arg("-N")
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .context("cannot start tmux")?;
        ensure!(
            output.status.success(),
            "tmux {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Content of the screen, line by line.
    pub fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Returns the screen with the control sequences of its colours.
    pub fn coloured_screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// Presses keys, by the names that tmux has for them: `q`, `Tab`, `C-c`, `PageDown`.
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        let line: Vec<&str> = std::iter::once("send-keys").chain(keys.iter().copied()).collect();
        self.tmux(&line).map(drop)
    }

    /// Types a command and lets the shell run it.
    pub fn run(&self, line: &str) -> Result<()> {
        self.tmux(&["send-keys", "-l", line])?;
        self.press(&["Enter"])
    }

    /// Makes the terminal larger or smaller.
    pub fn resize(&self, columns: u16, lines: u16) -> Result<()> {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        self.tmux(&["resize-window", "-x", &columns, "-y", &lines]).map(drop)
    }

    /// Waits until the screen fulfils `condition` and returns it.
    ///
    /// # Errors
    /// When it does not within 10 s. The message names the condition by `what`, and carries the screen.
    pub fn wait_until(&self, what: &str, condition: impl Fn(&str) -> bool) -> Result<String> {
        let begun = Instant::now();
        loop {
            let screen = self.screen()?;
            if condition(&screen) {
                return Ok(screen);
            }
            if begun.elapsed() > LIMIT {
                bail!("not within {LIMIT:?}: {what}; the screen:\n{screen}");
            }
            sleep(POLL);
        }
    }

    /// Waits until `words` are on the screen and returns it.
    pub fn wait_for(&self, words: &str) -> Result<String> {
        self.wait_until(&format!("{words:?}"), |screen| screen.contains(words))
    }

    /// Waits until the shell waits for a command.
    pub fn wait_for_prompt(&self) -> Result<String> {
        self.wait_until("the prompt", |screen| screen.trim_end().ends_with(PROMPT))
    }

    /// Returns the state of the terminal.
    pub fn state(&self) -> Result<State> {
        let format = "#{pane_tty} #{cursor_flag} #{alternate_on}";
        let values = self.tmux(&["display-message", "-p", format])?;
        let values: Vec<&str> = values.split_whitespace().collect();
        let [device, cursor, alternate] = values[..] else { bail!("tmux says {values:?}") };
        let settings = self.host.exec(&format!("stty -a -F {device}"))?;
        // The first line has the size.
        let settings = settings.split_once(';').map_or("", |(_, rest)| rest);
        let settings = settings.split_once("columns").map_or(settings, |(_, rest)| rest);
        let settings = settings.split_once(';').map_or("", |(_, rest)| rest).to_owned();
        Ok(State { settings, cursor: cursor == "1", alternate: alternate == "1" })
    }

    /// The program that the shell runs.
    pub fn program(&self) -> Result<Pid> {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"])?;
        let shell = shell.trim();
        let path = format!("/proc/{shell}/task/{shell}/children");
        let children = fs::read_to_string(Path::new(&path)).with_context(|| path.clone())?;
        let first = children.split_whitespace().next().context("the shell runs nothing")?;
        Pid::from_raw(first.parse()?).context("no process id")
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        // The end of tmux hangs up its shell and the programs that run in it.
        if let Err(error) = kill_process(Pid::from_child(&self.server), Signal::TERM) {
            eprintln!("cannot end tmux: {error}");
        }
        if let Err(error) = self.server.wait() {
            eprintln!("cannot wait for tmux: {error}");
        }
    }
}
