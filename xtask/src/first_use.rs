//! `cargo xtask first-use`: the time that a new user waits for the first output, from a fresh clone and from
//! the package.

use std::{
    collections::BTreeSet,
    env,
    ffi::{OsStr, OsString},
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::{
    build::{self, Profile},
    dist, environment, lab, process, setup,
    setup::Purpose,
    toolchain,
    workspace::Workspace,
};

/// Starting point of a new user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Begin {
    /// With `git clone`: minutes to the demonstration's first status page
    Clone,
    /// With `dpkg -i`: seconds to the first answers of doctor and status
    Package,
}

/// Line that the demonstration prints above a status page.
const PROMPT: &str = "$ tcpguard status";
/// Programs that set-up compiles, which a new user does not have.
const COMPILED: [&str; 2] = ["bpf-linker", "cargo-nextest"];

/// Measures from `begin` on, or from both, and prints a line for each.
///
/// # Errors
/// When something on the way fails.
pub fn run(workspace: &Workspace, begin: Option<Begin>) -> Result<()> {
    if begin != Some(Begin::Package) {
        from_clone(workspace)?;
    }
    if begin != Some(Begin::Clone) {
        setup::ensure(&[Purpose::Build, Purpose::Lab, Purpose::Package])?;
        build::everything(workspace, Profile::Packaged)?;
        dist::packages(workspace)?;
        lab::become_program(workspace, "tcpguard-e2e", "first_use", &[])?;
    }
    Ok(())
}

/// From a clone of the last commit, with nothing that cargo has downloaded or compiled before. What else
/// is there already is said; in a clean container that is nothing.
fn from_clone(workspace: &Workspace) -> Result<()> {
    let directory = workspace.target.join("first-use");
    if directory.exists() {
        fs::remove_dir_all(&directory)
            .with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    let (clone, home) = (directory.join("tcpguard"), directory.join("cargo"));
    fs::create_dir_all(&home)?;
    // Where crates come from is not ours to forget.
    let settings = toolchain::cargo_home().join("config.toml");
    if settings.is_file() {
        fs::copy(&settings, home.join("config.toml"))?;
    }
    let path = without(&env::var_os("PATH").unwrap_or_default(), &directory.join("path"))?;
    let present = setup::present(&[Purpose::Build, Purpose::Lab]);
    let present: Vec<_> = present.into_iter().filter(|what| !COMPILED.contains(what)).collect();

    let begun = Instant::now();
    let trusted = format!("safe.directory={}", workspace.root.display());
    let mut git = Command::new("git");
    git.args(["-c", &trusted, "clone", "--quiet"]).args([&workspace.root, &clone]);
    process::run(&mut git)?;
    let mut demo = environment::plain_cargo();
    demo.args(["xtask", "demo"])
        .current_dir(&clone)
        .env("CARGO_HOME", &home)
        .env("PATH", path)
        .env_remove("CARGO_TARGET_DIR")
        .stdout(Stdio::piped());
    let took = first_page(demo, begun)?;
    fs::remove_dir_all(&directory)?;
    println!(
        "\nfrom git clone to the first status page: {:.1} min (already here: {})",
        took.as_secs_f64() / 60.0,
        if present.is_empty() { "nothing".to_owned() } else { present.join(", ") }
    );
    Ok(())
}

/// Runs the demonstration to its end and returns how long after `begun` its first status page was there.
fn first_page(mut demo: Command, begun: Instant) -> Result<Duration> {
    let mut child = demo.spawn().with_context(|| format!("cannot run {}", process::line(&demo)))?;
    let stdout = child.stdout.take().context("its output is piped")?;
    let (mut asked, mut took) = (false, None);
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        println!("{line}");
        if asked && took.is_none() && !line.trim().is_empty() {
            took = Some(begun.elapsed());
        }
        asked |= line == PROMPT;
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`{}` failed: {status}", process::line(&demo));
    }
    took.context("the demonstration showed no status page")
}

/// `path` without the programs that set-up compiles: a directory that has one of them is replaced by one
/// below `shadow` with links to all others.
fn without(path: &OsStr, shadow: &Path) -> Result<OsString> {
    let mut directories = Vec::new();
    let mut replaced = BTreeSet::new();
    for directory in env::split_paths(path) {
        if !COMPILED.iter().any(|name| directory.join(name).is_file()) {
            directories.push(directory);
            continue;
        }
        if !replaced.insert(directory.clone()) {
            continue;
        }
        let stand_in: PathBuf = shadow.join(replaced.len().to_string());
        fs::create_dir_all(&stand_in)?;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if !COMPILED.iter().any(|hidden| name == *hidden) {
                symlink(entry.path(), stand_in.join(&name))?;
            }
        }
        directories.push(stand_in);
    }
    Ok(env::join_paths(directories)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", text]).stdout(Stdio::piped());
        command
    }

    #[test]
    fn the_first_page_is_there_with_its_first_line() {
        let page = "echo before; echo '$ tcpguard status'; echo; echo '  a page'; echo after";
        assert!(first_page(script(page), Instant::now()).is_ok());
        let none = "echo '$ tcpguard status'; echo";
        assert!(first_page(script(none), Instant::now()).is_err());
        let failed = format!("{page}; exit 1");
        assert!(first_page(script(&failed), Instant::now()).is_err());
    }

    #[test]
    fn what_set_up_compiles_is_hidden_and_what_stands_beside_it_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let [with, plain] = ["with", "plain"].map(|name| directory.path().join(name));
        for (place, name) in [(&with, "bpf-linker"), (&with, "cargo"), (&plain, "ls")] {
            fs::create_dir_all(place).unwrap();
            fs::write(place.join(name), "").unwrap();
        }
        let path = env::join_paths([&with, &plain, &with]).unwrap();
        let found = without(&path, &directory.path().join("shadow")).unwrap();
        let found: Vec<PathBuf> = env::split_paths(&found).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].join("cargo").is_file() && !found[0].join("bpf-linker").exists());
        assert_eq!(found[1], plain);
    }
}
