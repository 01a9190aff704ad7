//! `tcpguard replay`

use std::fs::File;
use std::io::Read;
use std::path::Path;

use tcpguard_common::model::Model;

use super::args::{ReplayArgs, ReplayBackend};
use super::exit::Exit;
use super::session::Session;
use crate::render;
use crate::replay::capture::CaptureError;
use crate::replay::{Backend, Kernel, replay};

pub(super) fn run(args: &ReplayArgs, session: &mut Session<'_>) -> anyhow::Result<Exit> {
    let mut backend: Box<dyn Backend> = match args.backend {
        ReplayBackend::Host => Box::<Model>::default(),
        ReplayBackend::Kernel => Box::new(Kernel::load()?),
    };
    let file = args.file.display().to_string();
    let source =
        open(&args.file).map_err(|source| CaptureError::Open { file: file.clone(), source })?;
    let outcome = replay(&file, source, backend.as_mut(), args.mode)?;
    if session.json {
        for note in &outcome.replay.notes {
            session.say(note);
        }
        session.print_json(&outcome.replay)?;
    } else {
        session.render(|out, view| render::replay(out, &outcome.replay, view))?;
    }
    if let Some(damage) = outcome.damage {
        return Err(damage.into());
    }
    Ok(if outcome.replay.incidents.is_empty() { Exit::Done } else { Exit::Failed })
}

/// The file, or standard input for `-`.
fn open(file: &Path) -> std::io::Result<Box<dyn Read>> {
    if file == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    let opened = File::open(file)?;
    if opened.metadata()?.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    Ok(Box::new(opened))
}
