//! `cargo xtask fuzz`: lets libFuzzer look for input that breaks a target of `tcpguard-fuzz`.
//!
//! What guides it is LLVM's own coverage, which stable rustc writes when it is asked for a pass by name.
//! No sanitizer: the targets are safe code, and what they must not do they assert.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use clap::builder::PossibleValuesParser;
use tcpguard_support::corpus::{self, Input};

use crate::setup::{self, Purpose};
use crate::workspace::Workspace;
use crate::{build, environment, process};

/// Flags that make rustc count coverage, and code check itself.
const FLAGS: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
    "-Cdebug-assertions",
    "-Ccodegen-units=1",
];

/// Names of the targets, and how long their inputs may get, in bytes.
const TARGETS: [(&str, u32); 8] = [
    ("frame", 2048),
    ("control", 1024),
    ("config", 1024),
    ("state", 2048),
    ("capture", 2048),
    ("engine", 256),
    ("bus", 2048),
    ("fleet", 1024),
];
const ALL: &str = "all";

/// The target with a bug that is known, and the runs within which it must be found.
const PLANTED: &str = "planted";
const PLANTED_RUNS: u64 = 2_000_000;

/// Longest corpus in the repository, in bytes of text.
const LONGEST_CORPUS: usize = 64 * 1024;
const HEAD: &str = "Inputs that take every way through the target that was found: \
                    `cargo xtask fuzz --save` writes them.";

/// Options of the search.
#[derive(Args)]
pub struct Arguments {
    /// Target, or all of them
    #[arg(value_parser = names())]
    target: String,
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    time: u64,
    /// Keep what was found in testing/fuzz/corpus, and an input that breaks a target in
    /// testing/fuzz/crashes
    #[arg(long)]
    save: bool,
}

impl Arguments {
    /// Every target for a minute, and nothing is kept.
    pub fn everything() -> Self {
        Self { target: ALL.to_owned(), time: 60, save: false }
    }
}

fn names() -> PossibleValuesParser {
    TARGETS.iter().map(|(name, _)| *name).chain([ALL]).collect::<Vec<_>>().into()
}

/// Builds the targets with their instrumentation, sees whether a planted bug is found, and then looks
/// for others.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    setup::ensure(&[Purpose::Build, Purpose::Fuzz])?;
    build::bpf_objects(workspace)?;
    let fuzzer = Fuzzer::build(workspace)?;
    fuzzer.find_planted()?;
    let wanted = |(name, _): &&(&str, u32)| [ALL, name].contains(&arguments.target.as_str());
    let mut broken = Vec::new();
    for (name, longest) in TARGETS.iter().filter(wanted) {
        process::announce(&format!("{name}: {} s", arguments.time));
        if let Some(crash) = fuzzer.look(name, *longest, arguments.time)? {
            broken.push(format!("{name}: {}", crash.display()));
            if arguments.save {
                fuzzer.keep_crash(name, &crash)?;
            }
        }
        if arguments.save {
            fuzzer.keep_corpus(name)?;
        }
    }
    if !broken.is_empty() {
        let kept = if arguments.save {
            "they are kept in testing/fuzz/crashes; say there what each is about"
        } else {
            "keep them with --save"
        };
        bail!("inputs that break a target, {kept}:\n  {}", broken.join("\n  "));
    }
    Ok(())
}

/// The targets as they were built, and where they work.
struct Fuzzer<'a> {
    workspace: &'a Workspace,
    programs: PathBuf,
    work: PathBuf,
}

impl<'a> Fuzzer<'a> {
    fn build(workspace: &'a Workspace) -> Result<Self> {
        let work = workspace.target.join("fuzz");
        let rustc = process::output(Command::new("rustc").arg("-vV"))?;
        let host = rustc.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.context("rustc -vV names no host")?;
        let mut cargo = environment::host_cargo(workspace);
        cargo
            .args([
                "build",
                "--locked",
                "--release",
                "--manifest-path",
                "testing/fuzz/libfuzzer/Cargo.toml",
            ])
            // With a target of its own cargo leaves build scripts and macros as they are.
            .args(["--target", host, "--target-dir"])
            .arg(work.join("build"))
            .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"));
        process::timed("fuzz targets", || process::run(&mut cargo))?;
        let programs = work.join("build").join(host).join("release");
        Ok(Self { workspace, programs, work })
    }

    /// A fuzzer that finds nothing proves nothing unless it finds what is there.
    fn find_planted(&self) -> Result<()> {
        let place = self.work.join(PLANTED);
        fresh(&place)?;
        let mut command = self.command(PLANTED, &place);
        command.arg(format!("-runs={PLANTED_RUNS}")).args(["-seed=1", "-max_len=64"]);
        // It says at length how it was broken.
        let output = command
            .output()
            .map_err(|error| process::not_started(&process::line(&command), error))?;
        ensure!(
            !output.status.success() && crash_in(&place)?.is_some(),
            "the planted bug was not found within {PLANTED_RUNS} runs: is coverage counted? `{}`",
            process::line(&command)
        );
        process::announce("the planted bug was found");
        Ok(())
    }

    /// Looks for `seconds`, and returns the input that breaks the target if there is one.
    fn look(&self, name: &str, longest: u32, seconds: u64) -> Result<Option<PathBuf>> {
        let place = self.work.join(name);
        let [seeds, found, crashes] = ["seeds", "found", "crashes"].map(|part| place.join(part));
        fs::create_dir_all(&found)?;
        fresh(&seeds)?;
        fresh(&crashes)?;
        let kept = ["seeds", "corpus", "crashes"].map(|kind| self.file(kind, name));
        let mut number = 0;
        for file in kept {
            for input in read(&file)? {
                fs::write(seeds.join(format!("{number:05}")), input.bytes)?;
                number += 1;
            }
        }
        let mut command = self.command(name, &crashes);
        command.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={longest}"));
        command.args([&found, &seeds]);
        let line = process::line(&command);
        let status = command.status().map_err(|error| process::not_started(&line, error))?;
        match crash_in(&crashes)? {
            None if !status.success() => bail!("`{line}` failed: {status}"),
            crash => Ok(crash),
        }
    }

    fn keep_crash(&self, name: &str, crash: &Path) -> Result<()> {
        let file = self.file("crashes", name);
        let mut all = read(&file)?;
        let bytes = fs::read(crash)?;
        if all.iter().all(|known| known.bytes != bytes) {
            all.push(Input { said: vec!["What is it about?".to_owned()], bytes });
        }
        let head = format!("Inputs that broke {name} once.");
        Ok(fs::write(&file, corpus::write(&head, &all))?)
    }

    /// Of all that is known the fewest inputs that take every way, the shortest first.
    fn keep_corpus(&self, name: &str) -> Result<()> {
        let place = self.work.join(name);
        let merged = place.join("merged");
        fresh(&merged)?;
        let mut command = self.command(name, &place);
        command.arg("-set_cover_merge=1").arg(&merged);
        command.args(["seeds", "found"].map(|part| place.join(part)));
        process::run(&mut command)?;
        let mut inputs = Vec::new();
        for entry in fs::read_dir(&merged)? {
            inputs.push(Input { said: Vec::new(), bytes: fs::read(entry?.path())? });
        }
        inputs.retain(|input| !input.bytes.is_empty());
        inputs.sort_by(|a, b| (a.bytes.len(), &a.bytes).cmp(&(b.bytes.len(), &b.bytes)));
        let all = inputs.len();
        inputs.truncate(that_fit(&inputs, LONGEST_CORPUS));
        process::announce(&format!("{name}: {} of {all} inputs kept", inputs.len()));
        Ok(fs::write(self.file("corpus", name), corpus::write(HEAD, &inputs))?)
    }

    /// `target` as a program, which writes input that breaks it into `crashes`.
    fn command(&self, target: &str, crashes: &Path) -> Command {
        let mut command = Command::new(self.programs.join(target));
        command.args(["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"]);
        command.arg(format!("-artifact_prefix={}/", crashes.display()));
        command
    }

    fn file(&self, kind: &str, name: &str) -> PathBuf {
        self.workspace.root.join("testing/fuzz").join(kind).join(format!("{name}.hex"))
    }
}

/// Returns the number of `inputs` that fit into a file of `longest` bytes.
fn that_fit(inputs: &[Input], longest: usize) -> usize {
    let mut length = corpus::write(HEAD, &[]).len();
    let fits = |input: &&Input| {
        length += 2 * input.bytes.len() + 1;
        length <= longest
    };
    inputs.iter().take_while(fits).count()
}

/// The inputs in a file; none where there is none.
fn read(file: &Path) -> Result<Vec<Input>> {
    if !file.exists() {
        return Ok(Vec::new());
    }
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    match corpus::read(&text) {
        Ok(inputs) => Ok(inputs),
        Err(why) => bail!("{}: {why}", file.display()),
    }
}

/// Makes an empty directory.
fn fresh(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))
}

/// The input that libFuzzer has written into `directory`: its name has the reason (`crash-…`, `timeout-…`, `oom-…`).
fn crash_in(directory: &Path) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if ["crash-", "timeout-", "oom-"].iter().any(|kind| name.starts_with(kind)) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of the crate that holds them.
    #[test]
    fn every_target_has_its_function_its_program_and_its_corpus() {
        let root = Workspace::locate().unwrap().root;
        let library = fs::read_to_string(root.join("testing/fuzz/src/lib.rs")).unwrap();
        assert_eq!(library.matches("Target { name: ").count(), TARGETS.len());
        for (name, _) in TARGETS {
            assert!(library.contains(&format!("Target {{ name: {name:?}")), "{name}");
            assert!(
                root.join(format!("testing/fuzz/libfuzzer/fuzz_targets/{name}.rs")).is_file(),
                "{name}"
            );
            let file = root.join(format!("testing/fuzz/corpus/{name}.hex"));
            assert!(read(&file).unwrap().len() > 10, "{name}");
            assert!(fs::metadata(&file).unwrap().len() <= LONGEST_CORPUS as u64, "{name}");
        }
    }

    #[test]
    fn a_corpus_is_cut_where_the_next_input_does_not_fit() {
        let input = Input { said: Vec::new(), bytes: vec![0; 50] };
        let inputs = vec![input; 9];
        let whole = corpus::write(HEAD, &inputs).len();
        assert_eq!(that_fit(&inputs, whole), 9);
        assert_eq!(that_fit(&inputs, whole - 1), 8);
    }

    #[test]
    fn crash_files_of_the_fuzzer_are_distinguished_from_its_other_files() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("fuzz-0.log"), "").unwrap();
        assert_eq!(crash_in(directory.path()).unwrap(), None);
        for kind in ["crash-0", "timeout-0", "oom-0"] {
            let file = directory.path().join(kind);
            fs::write(&file, "").unwrap();
            assert_eq!(crash_in(directory.path()).unwrap(), Some(file.clone()));
            fs::remove_file(file).unwrap();
        }
    }
}
