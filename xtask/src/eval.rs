//! The evaluation of the detector.

use anyhow::Result;

use crate::{build, lab, setup, setup::Purpose, workspace::Workspace};

/// Chooses the live evaluation, which is a program of the benchmark.
const LIVE: &str = "--live";

/// Builds the evaluation and becomes it.
pub fn exec(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let live = arguments.iter().any(|argument| argument == LIVE);
    let docs = format!("--docs={}", workspace.root.join("docs").display());
    let others = arguments.iter().filter(|argument| *argument != LIVE).cloned();
    let arguments: Vec<String> = std::iter::once(docs).chain(others).collect();
    if live {
        return lab::exec(workspace, &lab::LAB, "tcpguard-bench", "eval", &arguments);
    }
    setup::ensure(&[Purpose::Build])?;
    // Captures are played by the binary's own replay, and the binary carries the objects.
    build::bpf_objects(workspace)?;
    lab::build_and_become(workspace, "tcpguard-eval", "tcpguard-eval", &arguments)
}
