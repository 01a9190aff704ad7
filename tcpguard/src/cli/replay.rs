//! `tcpguard replay`

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use tcpguard_engine::{Severity, Tuning};
use tcpguard_host::time::Time;

use super::args::{FailOn, ReplayArgs, ReplayBackend, Speed};
use super::exit::Exit;
use super::report::write_page;
use super::session::Session;
use crate::config::{self, ConfigError, Overrides};
use crate::html::Story;
use crate::replay::capture::{CaptureError, Source};
use crate::replay::{Kernel, OnHost, ReplayEvent, replay_beside};
use crate::text;

pub(super) fn run(args: &ReplayArgs, session: &mut Session<'_>) -> anyhow::Result<Exit> {
    let settings = settings(args.config.as_deref())?;
    let sources = args.files.iter().map(|file| open(file)).collect::<Result<_, _>>()?;
    let begun = Instant::now();
    let watch = &mut |mitigation: ReplayEvent<'_>| {
        let Speed::Times(times) = args.speed else { return };
        match mitigation {
            ReplayEvent::Segment(seen) => {
                std::thread::sleep(due(seen.after, times).saturating_sub(begun.elapsed()));
            }
            ReplayEvent::Alert(alert) => {
                let after = alert.after.as_secs_f64();
                session.say(&format!("{after:>9.3}s  {}", alert.message));
            }
        }
    };
    let outcome = match args.backend {
        ReplayBackend::Host => replay_beside(sources, OnHost, args.mode, settings, watch)?,
        ReplayBackend::Kernel => {
            replay_beside(sources, Kernel::load()?, args.mode, settings, watch)?
        }
    };
    if session.json {
        for note in &outcome.replay.notes {
            session.say(note);
        }
        session.print_document(&outcome.replay)?;
    } else if args.html.as_deref() != Some(Path::new("-")) {
        let incidents: Vec<_> = outcome.in_full().map(|(incident, _)| incident).collect();
        let began = Time(outcome.began());
        session.render(|out, view| text::replay(out, &outcome.replay, &incidents, began, view))?;
    }
    if let Some(html) = &args.html {
        write_page(&Story::of_capture(&outcome), html, session)?;
    }
    if let Some(damage) = outcome.damage {
        return Err(damage.into());
    }
    Ok(match (outcome.worst(), least(args.fail_on)) {
        (Some(worst), Some(least)) if worst >= least => Exit::Failed,
        // An incomplete replay must not be taken for one without attacks.
        _ if !outcome.replay.is_judged() => Exit::Unavailable,
        _ => Exit::Done,
    })
}

/// Returns the time after the start at which a packet is due that was captured `after` the first one.
fn due(after: Duration, times: f64) -> Duration {
    // A capture too long for a Duration lasts centuries; its packets are never due.
    Duration::try_from_secs_f64(after.as_secs_f64() / times).unwrap_or(Duration::MAX)
}

/// Returns the severity from which on an incident makes the exit code 1; `None` where none does.
fn least(fail_on: FailOn) -> Option<Severity> {
    match fail_on {
        FailOn::Notice => Some(Severity::Notice),
        FailOn::Warning => Some(Severity::Warning),
        FailOn::Critical => Some(Severity::Critical),
        FailOn::Never => None,
    }
}

/// The thresholds that `file` has; the defaults where none is named, so that a capture has the same
/// verdict on every host.
fn settings(file: Option<&Path>) -> Result<Tuning, ConfigError> {
    let Some(file) = file else { return Ok(Tuning::default()) };
    config::load(Some(file), Overrides::default()).map(|config| config.tuning())
}

/// The file, or standard input for `-`.
fn open(path: &Path) -> Result<Source, CaptureError> {
    let file = path.display().to_string();
    if path == Path::new("-") {
        return Ok((file, Box::new(std::io::stdin())));
    }
    let opened = File::open(path).and_then(|opened| match opened.metadata()?.is_dir() {
        true => Err(std::io::ErrorKind::IsADirectory.into()),
        false => Ok(opened),
    });
    match opened {
        Ok(opened) => Ok((file, Box::new(opened))),
        Err(error) => Err(CaptureError::Open { file, error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_due_at_the_pace_that_was_asked_for() {
        for (times, seconds) in [(1.0, 90.0), (10.0, 9.0), (0.5, 180.0), (1000.0, 0.09)] {
            assert_eq!(due(Duration::from_secs(90), times), Duration::from_secs_f64(seconds));
        }
        assert_eq!(due(Duration::MAX, 0.01), Duration::MAX);
    }
}
