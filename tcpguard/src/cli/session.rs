//! The context that every verb needs: the output, its format, and the agent to ask.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use jiff::tz::TimeZone;
use rustix::termios::tcgetwinsize;
use tcpguard_host::json::{self, Named};
use tcpguard_host::{escape, stderr};

use super::args::{Color, Global};
use super::error::{self, CliError};
use crate::cli::documents::Printed;
use crate::control::{Client, ClientError, RefusalKind, Request, Response, taken};
use crate::daemon::memory::{self, Remembered};
use crate::text::View;

/// Bytes that are collected before they are written: a shorter page appears at once.
const BUFFER: usize = 64 * 1024;

/// One call of the command line.
pub struct Session<'a> {
    out: &'a mut dyn Write,
    /// True if to print JSON.
    pub json: bool,
    /// True if to keep quiet on stderr.
    pub quiet: bool,
    /// Style in which text is rendered.
    pub view: View,
    /// True if the output is a terminal.
    pub terminal: bool,
    pub client: Client,
    /// Directory in which the agent's links are pinned.
    pub pin_dir: PathBuf,
    /// Directory of the agent's state that survives it.
    pub state_dir: PathBuf,
    /// True if it was said that the printed data is not current.
    reported_past: Cell<bool>,
}

impl<'a> Session<'a> {
    /// A session that prints data to `out`, resolved from options, environment and terminal.
    pub fn new(global: &Global, out: &'a mut dyn Write) -> Self {
        let terminal = io::stdout().is_terminal();
        let view = View {
            utf8: locale_is_utf8(|name| std::env::var(name).ok()),
            colour: use_colour(global.color, terminal, |name| std::env::var(name).ok()),
            zone: if global.utc { TimeZone::UTC } else { TimeZone::system() },
            width: columns(),
        };
        let client = Client {
            runtime_dir: global.runtime_dir.clone(),
            socket: global.socket.clone(),
            pin_dir: global.pin_dir.clone(),
        };
        let (pin_dir, state_dir) = (global.pin_dir.clone(), global.state_dir.clone());
        let (json, quiet) = (global.json, global.quiet);
        let reported_past = Cell::new(false);
        Self { out, json, quiet, view, terminal, client, pin_dir, state_dir, reported_past }
    }

    /// Asks the agent, or, where none runs, its files, and says so then.
    ///
    /// # Errors
    ///
    /// Neither the one nor the others answer.
    pub fn ask<T>(
        &self,
        request: Request,
        take: impl FnOnce(Response) -> Option<T>,
    ) -> Result<T, ClientError> {
        let answer = match self.client.call(request.clone()) {
            Err(error @ ClientError::NotRunning { .. }) => self.recall(&request, error),
            answered => answered,
        };
        taken(answer?, take)
    }

    fn recall(&self, request: &Request, gone: ClientError) -> Result<Response, ClientError> {
        match memory::response(&self.state_dir, request) {
            Ok(Some(Remembered { response: Response::Refused(refusal), .. })) => {
                Err(ClientError::Refused(refusal))
            }
            Ok(Some(Remembered { response: answer, written })) => {
                if !self.reported_past.replace(true) {
                    let date = self.view.date(written);
                    self.warn(&format!("agent not running, data as of {date}"), "tcpguard status");
                }
                Ok(answer)
            }
            Ok(None) => Err(gone),
            Err(damage) => {
                if let Some(why) = damage.reason() {
                    let dir = self.state_dir.display();
                    self.warn(
                        &format!("cannot read the agent's files in {dir}: {why}"),
                        "use sudo",
                    );
                }
                Err(gone)
            }
        }
    }

    /// Prints data on standard output.
    pub fn print(&mut self, text: &str) -> Result<(), CliError> {
        let text = self.view.encode(text);
        self.out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush())
            .map_err(CliError::Output)
    }

    /// Prints the output of `draw`, as wide as the terminal is now.
    pub fn render(
        &mut self,
        draw: impl FnOnce(&mut Page<'_>, &View) -> fmt::Result,
    ) -> anyhow::Result<()> {
        self.view.width = columns();
        let out: &mut dyn Write = &mut *self.out;
        let out = BufWriter::with_capacity(BUFFER, out);
        let mut page = Page { out, view: &self.view, error: None };
        let drawn = draw(&mut page, &self.view);
        page.end(drawn)
    }

    /// Prints the output of `draw`, and on a terminal no more than fits on its screen: the first lines
    /// say most, and must not scroll away.
    pub fn render_at_most(
        &mut self,
        draw: impl FnOnce(&mut String, &View) -> fmt::Result,
    ) -> anyhow::Result<()> {
        self.view.width = columns();
        let mut page = String::new();
        draw(&mut page, &self.view)?;
        let lines = if self.terminal { lines() } else { usize::MAX };
        Ok(self.print(&cropped(&page, lines))?)
    }

    /// Makes room for a page that replaces the previous one. A terminal is cleared. Elsewhere the page follows
    /// below, after an empty line.
    pub fn begin_again(&mut self) -> Result<(), CliError> {
        // Cursor to the upper left, and erase all: ECMA-48 8.3.21, 8.3.39.
        self.print(if self.terminal { "\x1b[H\x1b[2J" } else { "\n" })
    }

    /// Prints a document as one line of JSON.
    pub fn print_document<T: Printed>(&mut self, document: &T) -> anyhow::Result<()> {
        self.print_lines(&[Named { schema: T::ID, document }])
    }

    /// Prints each of these as one line of JSON, for a file that is read line by line. A single document
    /// is printed by [`Self::print_document`].
    pub fn print_lines(&mut self, lines: &[impl serde::Serialize]) -> anyhow::Result<()> {
        // Not as a page: JSON is UTF-8 in every locale.
        let out: &mut dyn Write = &mut *self.out;
        let mut out = BufWriter::with_capacity(BUFFER, out);
        for line in lines {
            match json::write(&mut out, line) {
                Err(error) if error.is_io() => return Err(CliError::Output(error.into()).into()),
                written => written?,
            }
            out.write_all(b"\n").map_err(CliError::Output)?;
        }
        Ok(out.flush().map_err(CliError::Output)?)
    }

    /// Prints a document that is UTF-8 in every locale.
    pub fn print_utf8(&mut self, document: &str) -> Result<(), CliError> {
        self.print_bytes(document.as_bytes())
    }

    /// Prints what is no text.
    pub fn print_bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.out.write_all(bytes).and_then(|()| self.out.flush()).map_err(CliError::Output)
    }

    /// Says something that is not data, on stderr.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            // A closed stderr is no reason to fail.
            let text = escape::escaped_lines(text);
            let _ = writeln!(io::stderr(), "{}", self.view.encode(&text));
        }
    }

    /// Warns on stderr.
    pub fn warn(&self, message: &str, hint: &str) {
        self.say(&error::lines("warning", message, Some(hint)));
    }

    /// Reports an error on stderr.
    pub fn complain(&self, error: &anyhow::Error) {
        let (message, hint) = (format!("{error:#}"), error::hint(error));
        if stderr::is_journal() {
            stderr::write(log::Level::Error, &message);
            // Of another priority, so that the last error line of a service is its cause.
            return hint
                .iter()
                .for_each(|hint| stderr::write(log::Level::Info, &format!("hint: {hint}")));
        }
        // A change that is done is no error, although the command has failed.
        let label = if is_unstored(error) { "warning" } else { "error" };
        let text = error::lines(label, &message, hint.as_deref());
        let text = escape::escaped_lines(&text);
        let _ = writeln!(io::stderr(), "{}", self.view.encode(&text));
    }
}

fn is_unstored(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(ClientError::Refused(refusal)) if refusal.kind == RefusalKind::Unstored
    )
}

/// A page on its way out, in the characters that the terminal can show.
pub struct Page<'a> {
    out: BufWriter<&'a mut dyn Write>,
    view: &'a View,
    /// Error of the write, which a [`fmt::Error`] does not carry.
    error: Option<io::Error>,
}

impl Page<'_> {
    /// Writes the rest of a page that was drawn.
    fn end(mut self, drawn: fmt::Result) -> anyhow::Result<()> {
        if let Some(error) = self.error {
            return Err(CliError::Output(error).into());
        }
        drawn?;
        Ok(self.out.flush().map_err(CliError::Output)?)
    }
}

impl fmt::Write for Page<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let written = self.out.write_all(self.view.encode(text).as_bytes());
        written.map_err(|error| {
            self.error = Some(error);
            fmt::Error
        })
    }
}

/// Columns of the terminal as it is now.
fn columns() -> usize {
    match tcgetwinsize(io::stdout()) {
        Ok(size) => View::columns(size.ws_col),
        Err(_) => View::WIDTH,
    }
}

/// Lines of the terminal as it is now.
fn lines() -> usize {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_row > 0 => size.ws_row.into(),
        _ => usize::MAX,
    }
}

/// The first lines of a page, so many that it fits on a screen of `lines` with the cursor behind it.
fn cropped(page: &str, lines: usize) -> String {
    let all = page.lines().count();
    if all < lines {
        return page.to_owned();
    }
    let shown = lines.saturating_sub(2);
    let first = page.lines().take(shown).map(|line| format!("{line}\n"));
    let left_out = format!("({} more lines: tcpguard status)\n", all - shown);
    first.chain([left_out]).collect()
}

fn use_colour(when: Color, terminal: bool, variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name| variable(name).is_some_and(|value| !value.is_empty());
    match when {
        Color::Always => true,
        Color::Never => false,
        Color::Auto if set("NO_COLOR") => false,
        Color::Auto if set("CLICOLOR_FORCE") => variable("CLICOLOR_FORCE").as_deref() != Some("0"),
        Color::Auto => terminal && variable("TERM").as_deref() != Some("dumb"),
    }
}

/// Returns whether the locale is UTF-8. By the rules of locale(7) the first variable that is set decides.
fn locale_is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(variable)
        .find(|value| !value.is_empty())
        .is_some_and(|value| {
            let value = value.to_ascii_lowercase();
            value.contains("utf-8") || value.contains("utf8")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Variable = fn(&str) -> Option<String>;

    fn environment(name: &str) -> Variable {
        match name {
            "empty" => |_| None,
            "NO_COLOR" => |name| (name == "NO_COLOR").then(|| "1".to_owned()),
            "CLICOLOR_FORCE" => |name| (name == "CLICOLOR_FORCE").then(|| "1".to_owned()),
            "dumb" => |name| (name == "TERM").then(|| "dumb".to_owned()),
            other => unreachable!("{other}"),
        }
    }

    #[test]
    fn a_page_that_does_not_fit_is_cropped_at_its_end() {
        assert_eq!(cropped("a\nb\nc\n", 4), "a\nb\nc\n");
        assert_eq!(cropped("a\nb\nc\n", 3), "a\n(2 more lines: tcpguard status)\n");
        assert_eq!(cropped("a\nb\nc\n", usize::MAX), "a\nb\nc\n");
    }

    #[test]
    fn colour_is_for_terminals_unless_set_otherwise() {
        for (when, terminal, variables, expected) in [
            (Color::Auto, true, "empty", true),
            (Color::Auto, false, "empty", false),
            (Color::Auto, true, "NO_COLOR", false),
            (Color::Auto, true, "dumb", false),
            (Color::Auto, false, "CLICOLOR_FORCE", true),
            (Color::Always, false, "NO_COLOR", true),
            (Color::Never, true, "CLICOLOR_FORCE", false),
        ] {
            let found = use_colour(when, terminal, environment(variables));
            assert_eq!(found, expected, "{when:?} terminal={terminal} {variables}");
        }
    }

    #[test]
    fn the_first_locale_variable_that_is_set_decides() {
        let locale = |all: &str, lang: &str| {
            let (all, lang) = (all.to_owned(), lang.to_owned());
            locale_is_utf8(move |name| match name {
                "LC_ALL" => Some(all.clone()),
                "LANG" => Some(lang.clone()),
                _ => None,
            })
        };
        assert!(locale("", "en_US.UTF-8"));
        assert!(locale("C.utf8", "C"));
        assert!(!locale("C", "en_US.UTF-8"));
        assert!(!locale("", ""));
    }
}
