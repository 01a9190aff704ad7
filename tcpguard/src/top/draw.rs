//! The picture of a model.

mod canvas;
mod pane;
mod plot;

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::Rect;
use tcpguard_host::finding::Severity;
use tcpguard_host::units::span;

use super::commands::{self, Proposal};
use super::keys;
use super::model::{Details, FRAME, HEIGHT, Model, Over, WIDTH};
use crate::documents::{LossState, Status};
use crate::text::{self, Fact, Tone, severity_tone, wrap};
use canvas::Canvas;

/// The keys that are shown at the bottom.
const KEYS: &str = "q quit  ? keys  Tab pane  Enter details  / filter  m mode  b block  u release";
/// Lowest plots, and lowest lists.
const LOWEST: u16 = 7;

/// Draws `model` as it is at `now`, the time since it was made.
pub fn draw(model: &Model, now: Duration, frame: &mut Frame<'_>) {
    let area = frame.area();
    let mut canvas = Canvas::new(frame.buffer_mut(), model.view());
    let mut cursor = None;
    if area.width < WIDTH || area.height < HEIGHT {
        too_small(&mut canvas, area);
    } else {
        cursor = screen(model, now, &mut canvas, area);
    }
    if !model.view().utf8 {
        canvas.make_ascii();
    }
    if let Some(cursor) = cursor {
        frame.set_cursor_position(cursor);
    }
}

fn too_small(canvas: &mut Canvas<'_>, area: Rect) {
    let text = format!(
        "tcpguard top needs {WIDTH} columns and {HEIGHT} lines; here are {} and {}. Make the terminal \
         larger, or press q and try: tcpguard status",
        area.width, area.height
    );
    for (line, row) in wrap(&text, usize::from(area.width)).iter().zip(area.rows()) {
        canvas.text(row.x, row.y, row.width, line, Tone::Plain);
    }
}

/// Draws all of it; returns where the cursor stands, if it is to be seen.
fn screen(model: &Model, now: Duration, canvas: &mut Canvas<'_>, area: Rect) -> Option<(u16, u16)> {
    headline(model, now, canvas, Rect { height: 1, ..area });
    let body = Rect { y: area.y + 1, height: area.height - 2, ..area };
    let foot = Rect { y: area.bottom() - 1, height: 1, ..area };
    match model.over() {
        Over::Help => help(canvas, body),
        Over::Details(about) => details(canvas, body, about, &model.details()),
        _ => overview(model, now, canvas, body),
    }
    match model.over() {
        Over::Proposal(proposal) => propose(canvas, body, proposal),
        Over::Filter(_) | Over::Prefix(_) => return Some(typed(model, canvas, foot)),
        _ => {}
    }
    keys_line(model, now, canvas, foot);
    None
}

fn headline(model: &Model, now: Duration, canvas: &mut Canvas<'_>, area: Rect) {
    let status = &model.snapshot().status;
    let daemon = &status.daemon;
    let (sign, words, tone) = text::headline(status);
    let time = model.view().time(model.time(now));
    let right = if model.is_held() { format!("HELD at {time}") } else { time };
    let end = area.width - right.chars().count() as u16 - 1;
    let left = daemon
        .mode_reverts
        .as_ref()
        .map_or_else(String::new, |end| format!(" for {}", span(Duration::from_secs(end.in_s))));
    let mode = format!("  mode {}{left}", daemon.mode.name());
    let host = format!("  {}", daemon.hostname);
    let up = format!("  up {}", span(Duration::from_secs(daemon.uptime_s)));
    let mut x = canvas.text(area.x, area.y, end, &format!("{sign} {words}"), tone);
    // The mode says more than the name of the host, and both more than the age.
    let room = end.saturating_sub(x + mode.chars().count() as u16);
    x = canvas.text(x, area.y, room, &host, Tone::Plain);
    x = canvas.text(x, area.y, end.saturating_sub(x), &mode, Tone::Plain);
    if x + up.chars().count() as u16 <= end {
        canvas.text(x, area.y, end - x, &up, Tone::Plain);
    }
    canvas.right(area, &right, if model.is_held() { Tone::Warning } else { Tone::Plain });
}

/// Draws the situation, the plots and the lists.
fn overview(model: &Model, now: Duration, canvas: &mut Canvas<'_>, area: Rect) {
    let stale = model.stale(now);
    let trouble = stale.iter().map(|why| Fact {
        heading: "Agent",
        text: format!("✗ {why}"),
        tone: Tone::Bad,
    });
    let mut facts: Vec<Fact> = trouble.chain(situation(model)).collect();
    let mut lines = canvas.lines(&facts, area.width);
    let most = area.height * 2 / 5;
    if lines.len() > most.into() {
        urgent_first(&mut facts);
        lines = canvas.lines(&facts, area.width);
    }
    let height = (lines.len() as u16).min(most);
    let above = Rect { height, ..area };
    let plots =
        Rect { y: above.bottom(), height: ((area.height - height) / 2).max(LOWEST), ..area };
    let lists = Rect { y: plots.bottom(), height: area.bottom() - plots.bottom(), ..area };
    canvas.facts(above, &lines);
    plot::draw(model, now, canvas, plots);
    pane::draw(model, canvas, lists);
    if stale.is_some() {
        canvas.fade(plots.union(lists));
    }
}

/// Sorts facts that have no room for all: what an operator has to do comes first, then the incidents. Facts without a heading
/// stay with that before them.
fn urgent_first(facts: &mut Vec<Fact>) {
    let mut heading = "";
    let mut ranked: Vec<(u8, Fact)> = facts
        .drain(..)
        .map(|fact| {
            heading = if fact.heading.is_empty() { heading } else { fact.heading };
            let rank = match heading {
                "Agent" | "Mode" | "Pending" => 0,
                "Action" => 1,
                "Attack" | "Incident" => 2,
                _ => 3,
            };
            (rank, fact)
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    facts.extend(ranked.into_iter().map(|(_, fact)| fact));
}

/// The facts above the plots: those of the status page, losses and findings.
fn situation(model: &Model) -> Vec<Fact> {
    let status: &Status = &model.snapshot().status;
    let mut facts = text::situation(status, model.view());
    if status.losses.state != LossState::None {
        let text = text::losses_in_words(&status.losses);
        facts.push(Fact { heading: "Losses", text, tone: Tone::Warning });
    }
    let findings = status.health.iter().filter(|finding| finding.severity > Severity::Notice);
    facts.extend(findings.enumerate().map(|(number, finding)| Fact {
        heading: if number == 0 { "Findings" } else { "" },
        text: finding.to_string(),
        tone: severity_tone(finding.severity),
    }));
    facts
}

fn help(canvas: &mut Canvas<'_>, area: Rect) {
    /// Columns of a key's name.
    const KEY: u16 = 20;
    canvas.rule(area, "Keys", Tone::Heading);
    for ((key, does), row) in keys::HELP.into_iter().zip(area.rows().skip(1)) {
        canvas.text(row.x + 2, row.y, KEY - 1, key, Tone::Heading);
        canvas.text(row.x + 2 + KEY, row.y, row.width - KEY - 2, does, Tone::Plain);
    }
}

fn details(canvas: &mut Canvas<'_>, area: Rect, about: &Details, lines: &[String]) {
    let height = usize::from(area.height + 2 - FRAME);
    let first = about.first(lines.len(), height);
    let place = match (first, lines.len().saturating_sub(first + height)) {
        (0, 0) => String::new(),
        (0, rest) => format!(", {rest} more lines below"),
        (before, 0) => format!(", {before} more lines above"),
        (before, rest) => format!(", {before} lines above, {rest} below"),
    };
    canvas.rule(area, &format!("{}{place}", about.title()), Tone::Heading);
    for (line, row) in lines.iter().skip(first).zip(area.rows().skip(1)) {
        canvas.text(row.x, row.y, row.width, line, Tone::Plain);
    }
}

/// Draws a command that waits for its confirmation over the foot of `area`.
fn propose(canvas: &mut Canvas<'_>, area: Rect, proposal: &Proposal) {
    let fact = |heading, text: &str, tone| Fact { heading, text: text.to_owned(), tone };
    let facts = [
        fact("Command", &proposal.command, Tone::Heading),
        fact("Effect", &proposal.effect, Tone::Plain),
    ];
    let lines = canvas.lines(&facts, area.width);
    let height = (lines.len() as u16 + 1).min(area.height);
    let place = Rect { y: area.bottom() - height, height, ..area };
    canvas.clear(place);
    canvas.rule(place, "Run this command?", Tone::Heading);
    canvas.facts(Rect { y: place.y + 1, height: height - 1, ..place }, &lines);
}

/// Draws the text that is typed; returns where the cursor stands.
fn typed(model: &Model, canvas: &mut Canvas<'_>, area: Rect) -> (u16, u16) {
    let text = match model.over() {
        Over::Prefix(prefix) => format!("Prefix to block: {prefix}"),
        _ => format!("/{}", model.list_view(model.focus()).filter),
    };
    (canvas.text(area.x, area.y, area.width - 1, &text, Tone::Plain), area.y)
}

/// Draws the keys, or the outcome of the last command.
fn keys_line(model: &Model, now: Duration, canvas: &mut Canvas<'_>, area: Rect) {
    let status = &model.snapshot().status;
    let (text, tone) = match (model.over(), model.outcome(now)) {
        (Over::Proposal(_), _) => ("y run it  any other key: cancel".to_owned(), Tone::Plain),
        (Over::Help | Over::Details(_), _) => {
            let keys = "Esc or q back  down, up, PageDown, PageUp, Home, End move";
            (keys.to_owned(), Tone::Plain)
        }
        (_, Some(Ok(done))) => (done.clone(), Tone::Good),
        (_, Some(Err(why))) => (format!("✗ {why}"), Tone::Bad),
        (_, None) if commands::confirm(status).is_some() => {
            (format!("c confirm  {KEYS}"), Tone::Plain)
        }
        (_, None) => (KEYS.to_owned(), Tone::Plain),
    };
    canvas.text(area.x, area.y, area.width, &text, tone);
}
