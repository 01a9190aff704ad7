//! `tcpguard replay` on captures that are made here, byte by byte.

mod damage;
mod encapsulations;
mod files;
mod formats;
#[path = "../support/markup.rs"]
mod markup;
mod others;
mod output;
mod packets;
mod report;
mod several;
mod synthetic;
mod verdicts;

use std::io::Cursor;

use tcpguard::documents::replay::Replay;
use tcpguard::replay::{OnHost, Outcome, replay};
use tcpguard_engine::Mode;

/// Replays a capture in memory on the host.
fn run(capture: &[u8], mode: Mode) -> anyhow::Result<Outcome> {
    let source = Box::new(Cursor::new(capture.to_vec()));
    replay("capture", source, OnHost, mode)
}

/// Replays a capture that is whole.
fn observe(capture: &[u8]) -> Replay {
    whole(run(capture, Mode::Observe))
}

fn whole(outcome: anyhow::Result<Outcome>) -> Replay {
    of_whole(outcome).replay
}

/// The outcome of a capture that must be whole.
fn of_whole(outcome: anyhow::Result<Outcome>) -> Outcome {
    let outcome = outcome.expect("a capture");
    assert!(outcome.damage.is_none(), "{:?}", outcome.damage);
    assert_eq!(outcome.replay.skipped.get("cut_off"), None);
    outcome
}

/// Class and listener of every incident.
fn verdicts(replay: &Replay) -> Vec<(&'static str, &str)> {
    replay
        .incidents
        .iter()
        .map(|incident| (incident.class.name(), incident.listener.as_str()))
        .collect()
}
