//! The evaluation of the detector.

use anyhow::Result;

use crate::{build, lab, setup, setup::Purpose, workspace::Workspace};

/// Builds the evaluation and becomes it.
///
/// # Errors
/// When set-up or a build fails, or the program cannot be started.
pub fn exec(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    setup::ensure(&[Purpose::Build])?;
    // Captures are played by the binary's own replay, and the binary carries the objects.
    build::bpf_objects(workspace)?;
    let docs = format!("--docs={}", workspace.root.join("docs").display());
    let arguments = [&[docs], arguments].concat();
    lab::become_program(workspace, "tcpguard-eval", "tcpguard-eval", &arguments)
}
