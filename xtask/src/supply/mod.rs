//! Supply chain of the program: the origin of its code, the licences, and how much of it is unsafe.
//!
//! `deny.toml` says which dependencies are allowed. `cargo xtask supply` has cargo-deny hold it.
//! Each run of the tests holds it too, with nothing to install: [`dependencies`] reads the lists of
//! that file and asks cargo for the rest.

mod dependencies;
pub mod edges;
mod licence;
mod planted;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use self::{
    dependencies::Policy,
    planted::{LICENCE, Planted},
};
use crate::{environment, process, process::timed, setup, setup::Purpose, workspace::Workspace};

/// Holds all of it, and shows that cargo-deny would notice.
///
/// # Errors
/// When a check fails, and when cargo-deny accepts a crate that it must refuse.
pub fn run(workspace: &Workspace) -> Result<()> {
    setup::ensure(&[Purpose::Supply])?;
    println!("{}", edges::check(workspace)?);
    let policy = Policy::read(workspace)?;
    let locked = locked(workspace)?;
    for directory in &locked {
        let count = dependencies::check(directory, &policy)?;
        println!("{}: {count} crates", directory.join("Cargo.lock").display());
    }
    timed("cargo-deny refuses a crate that is GPL only", || {
        let planted = Planted::new(workspace)?;
        let mut refusing = cargo_deny(workspace, planted.directory());
        let line = process::line(&refusing);
        let output = refusing.output().map_err(|error| process::not_started(&line, error))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() || !said.contains(LICENCE) {
            bail!("`{line}` does not refuse {LICENCE}, so deny.toml holds nothing: {said}");
        }
        Ok(())
    })?;
    for directory in &locked {
        process::run(&mut cargo_deny(workspace, directory))?;
    }
    Ok(())
}

/// The directories that have a lock file. A crate that is compiled on its own has dependencies of
/// its own.
fn locked(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let locks = workspace.lock_files()?;
    Ok(locks.iter().filter_map(|lock| lock.parent()).map(Path::to_owned).collect())
}

/// cargo-deny without its check for vulnerabilities: their list is another one each day, and no
/// property of a commit.
fn cargo_deny(workspace: &Workspace, directory: &Path) -> Command {
    let mut command = environment::plain_cargo();
    command.current_dir(directory).args(["deny", "--locked", "--log-level", "error", "--config"]);
    command.arg(workspace.root.join("deny.toml"));
    command.args(["check", "licenses", "bans", "sources"]);
    command
}

#[cfg(test)]
mod tests {
    use tcpguard_goals::{Goal, Row};

    use super::*;

    #[test]
    fn g18_dependencies_have_known_licences_and_sources() {
        let row = Row::new(Goal::G18);
        let workspace = Workspace::locate().unwrap();
        let policy = Policy::read(&workspace).unwrap();
        let locked = locked(&workspace).unwrap();
        let counts: Result<Vec<usize>> =
            locked.iter().map(|directory| dependencies::check(directory, &policy)).collect();
        let crates: usize = counts.unwrap().iter().sum();
        assert!(locked.len() >= 2 && crates > 150, "{crates} in {locked:?}");

        let planted = Planted::new(&workspace).unwrap();
        let refused = dependencies::check(planted.directory(), &policy).unwrap_err().to_string();
        let named = refused.contains(&format!("planted 0.1.0: {LICENCE}"));
        let taken = dependencies::metadata(planted.directory()).is_ok();
        row.result(
            crates as u64,
            format!("crates of {} lock files pass; a GPL-only one: {refused}", locked.len()),
            named,
        )
        .naive(1, "GPL-only crate: a lock file alone (cargo --locked) takes it", taken)
        .finish();
    }
}
