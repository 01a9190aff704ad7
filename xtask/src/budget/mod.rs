//! `cargo xtask budget`: holds the weight of tcpguard to `testing/record/budgets.json`. A program grows by a
//! little with each change, and by a lot before it is noticed.

mod figures;
mod phases;
mod record;
mod stack;

use std::path::PathBuf;

use anyhow::Result;
use tcpguard_support::contents;

use crate::{
    build::{self, Profile},
    platform::Platform,
    process::timed,
    setup,
    setup::Purpose,
    workspace::Workspace,
};

pub use self::phases::Phases;
use self::{
    figures::Figures,
    record::{Budgets, Scope},
};

/// Builds everything as it is packaged, and compares, or makes that the budget, with the durations of the last run of all
/// tests.
///
/// # Errors
/// When the build fails, something has grown beyond its budget, or `testing/record/budgets.json` cannot be read or
/// written.
pub fn run(workspace: &Workspace, update: bool) -> Result<()> {
    setup::ensure(&[Purpose::Build, Purpose::Program])?;
    let objects = timed("BPF objects", || build::bpf_objects(workspace))?;
    let profile = Profile::Packaged(Platform::OWN);
    timed("the program as it is packaged", || build::everything(workspace, profile))?;
    let mut figures = figures::of_objects(workspace, &objects)?;
    figures.extend(figures::of_program(&workspace.program(&contents::AGENT, profile))?);
    if update {
        if let Some(phases) = Phases::last(workspace) {
            phases.record(workspace)?;
        }
        let budgets = Budgets::read(workspace).unwrap_or_default();
        return budgets.updated(&figures).write(workspace);
    }
    hold(workspace, &figures, Scope::All)
}

/// Compares all but the packaged program, which takes minutes to link.
pub fn check(workspace: &Workspace, objects: &[PathBuf]) -> Result<()> {
    hold(workspace, &figures::of_objects(workspace, objects)?, Scope::Objects)
}

fn hold(workspace: &Workspace, figures: &Figures, scope: Scope) -> Result<()> {
    Budgets::read(workspace)?.hold(figures, scope)?;
    println!("budgets: {} figures within testing/record/budgets.json", figures.len());
    Ok(())
}
