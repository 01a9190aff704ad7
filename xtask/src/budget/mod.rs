//! `cargo xtask budget`: holds the weight of tcpguard to `testing/record/budgets.json`. A program grows by a
//! little with each change, and by a lot before it is noticed.

mod figures;
mod footprint;
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
    sizes::{self, Ceilings},
    workspace::Workspace,
};

pub use self::phases::Phases;
use self::{
    figures::Figures,
    record::{Budgets, Scope},
};

/// Builds everything as it is packaged, and compares, or makes that the budget, with the durations of the last run of all
/// tests and the sizes of the repository. These need no build, and are kept first. `because` is the reason for a size
/// that has grown.
///
/// # Errors
/// When the build fails, something has grown beyond its budget, or `testing/record/budgets.json` cannot be read or
/// written.
pub fn run(workspace: &Workspace, update: bool, because: Option<&str>) -> Result<()> {
    if update {
        match Phases::last(workspace) {
            Some(phases) => phases.record(workspace)?,
            None => println!("no run of all tests in this checkout: its phases stay as recorded"),
        }
        let sizes = sizes::measure(workspace)?;
        Ceilings::read(workspace).unwrap_or_default().updated(&sizes, because)?.write(workspace)?;
    }
    setup::ensure(&[Purpose::Build, Purpose::Program])?;
    let objects = timed("BPF objects", || build::bpf_objects(workspace))?;
    let profile = Profile::Packaged(Platform::OWN);
    timed("the program as it is packaged", || build::everything(workspace, profile))?;
    let mut figures = figures::of_objects(workspace, &objects)?;
    figures.extend(figures::of_program(&workspace.program(&contents::AGENT, profile))?);
    if update {
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
