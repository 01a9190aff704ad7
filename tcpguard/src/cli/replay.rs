//! `tcpguard replay`

use std::fs::File;
use std::io::Read;
use std::path::Path;

use tcpguard_common::model::Model;
use tcpguard_engine::Tuning;

use super::args::{ReplayArgs, ReplayBackend};
use super::exit::{CliError, Exit};
use super::session::Session;
use crate::config::{self, Overrides};
use crate::render;
use crate::replay::capture::CaptureError;
use crate::replay::{Backend, Kernel, replay_with};

pub(super) fn run(args: &ReplayArgs, session: &mut Session<'_>) -> anyhow::Result<Exit> {
    let settings = settings(args.config.as_deref())?;
    let mut backend: Box<dyn Backend> = match args.backend {
        ReplayBackend::Host => Box::<Model>::default(),
        ReplayBackend::Kernel => Box::new(Kernel::load()?),
    };
    let file = args.file.display().to_string();
    let outcome = replay_with(&file, open(&args.file)?, backend.as_mut(), args.mode, settings)?;
    if session.json {
        for note in &outcome.replay.notes {
            session.say(note);
        }
        session.print_document(&outcome.replay)?;
    } else {
        session.render(|out, view| render::replay(out, &outcome.replay, view))?;
    }
    if let Some(damage) = outcome.damage {
        return Err(damage.into());
    }
    Ok(if outcome.replay.incidents.is_empty() { Exit::Done } else { Exit::Failed })
}

/// The thresholds that `file` has; the defaults where none is named, so that a capture has the same
/// verdict on every host. Its mistakes are no verdict: 1 would say that there are incidents.
pub(super) fn settings(file: Option<&Path>) -> Result<Tuning, CliError> {
    let Some(file) = file else { return Ok(Tuning::default()) };
    config::load(Some(file), Overrides::default())
        .map(|config| config.tuning())
        .map_err(|error| CliError::Usage(error.to_string()))
}

/// The file, or standard input for `-`.
pub(super) fn open(file: &Path) -> Result<Box<dyn Read>, CaptureError> {
    if file == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    let refused = |error| CaptureError::Open { file: file.display().to_string(), error };
    let opened = File::open(file).map_err(refused)?;
    if opened.metadata().map_err(refused)?.is_dir() {
        return Err(refused(std::io::ErrorKind::IsADirectory.into()));
    }
    Ok(Box::new(opened))
}
