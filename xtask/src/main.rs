//! Every step of CI and of a developer's day as one verb: `cargo xtask VERB`.
#![forbid(unsafe_code)]

mod architecture;
mod budget;
mod build;
mod check;
mod compiler;
mod debian;
mod debug_info;
mod dist;
mod emulation;
mod environment;
mod faults;
mod fuzz;
mod lab;
mod libc;
mod platform;
mod process;
mod promises;
mod pypi;
mod record;
mod setup;
mod sizes;
mod supply;
mod test;
mod toolchain;
mod trial;
mod vm;
mod wording;
mod workspace;
mod zig;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tcpguard_goals::Goal;

use crate::build::Profile;
use crate::faults::Scale;
use crate::platform::Platform;
use crate::test::Extent;
use crate::workspace::Workspace;

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Installs what building and testing need and this machine lacks
    Setup {
        /// Only say what is missing; exit 1 if anything is
        #[arg(long)]
        check: bool,
    },
    /// Builds the BPF objects, then tcpguard and tcpguard-fleet in target/release
    Build {
        /// Build user space without optimisation; the BPF objects are always optimised
        #[arg(long)]
        debug: bool,
    },
    /// Formatting, lints of host and BPF code, documentation, architecture rules
    Check,
    /// Holds the size of tcpguard to testing/record/budgets.json: instructions that a verifier walks, stack, bytes
    /// of its programs and its maps. `check` does so too, but for the packaged program
    Budget {
        /// Make today's figures the budget, and keep what each may grow by
        #[arg(long)]
        update: bool,
        /// Reason for a larger repository than testing/record/sizes.json allows
        #[arg(long, value_name = "REASON", requires = "update")]
        because: Option<String>,
    },
    /// Checks, builds and tests what the working tree's change can touch, in minutes, and names what it leaves out
    Try {
        /// Files or directories to take for changed, instead of those that differ from HEAD
        #[arg(value_name = "PATH")]
        paths: Vec<String>,
    },
    /// Runs every test; those in network namespaces need root
    Test {
        /// Leave out the tests that need root
        #[arg(long)]
        no_root: bool,
        /// Run the long forms too: hours instead of minutes
        #[arg(long)]
        full: bool,
        /// Run the tests of pure logic alone, on another processor that is emulated
        #[arg(long, value_name = "ARCH", value_enum, conflicts_with_all = ["no_root", "full"])]
        arch: Option<Platform>,
        /// Passed to cargo-nextest, for example a filter; leaves out the documentation tests. With --arch
        /// passed to the programs of the tests
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Tries the promises of tcpguard, each beside a naive variant that fails, and prints the table
    Faults {
        /// Try as often and as long as the promises say; otherwise in the short form of `test`
        #[arg(long)]
        full: bool,
        /// Seed of the tests
        #[arg(long, value_name = "N")]
        seed: Option<u64>,
        /// Goals to try, for example G5; all if none is given
        #[arg(value_name = "GOAL")]
        goals: Vec<Goal>,
    },
    /// Mixed traffic, attacks and changes for an hour, in network namespaces: they cost the agent no
    /// memory and no descriptors, and each attack is alerted once
    Soak {
        /// Duration in minutes
        #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(3..))]
        minutes: u32,
        /// Seed of the schedule
        #[arg(long, value_name = "N")]
        seed: Option<u64>,
    },
    /// Makes the .deb, the .rpm, the tarball, the image, the SBOM and the checksums in target/dist
    Dist(dist::Arguments),
    /// Shows a live flood, its detection and its end, in network namespaces of its own
    Demo {
        /// Show three hosts with a message bus and two routers instead
        #[arg(long)]
        fleet: bool,
        /// Passed to the demonstration
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Measures everything in turn and holds it to its targets; `bench --help` has the parts
    #[command(disable_help_flag = true)]
    Bench {
        /// Passed to the benchmark
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Judges the detector, beside published ones, on simulated traffic and on captures, with `--live`
    /// on real floods in network namespaces; `--help` lists what else it can
    #[command(disable_help_flag = true)]
    Eval {
        /// Passed to the evaluation
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Looks for input that breaks a reader of frames, messages, files or captures, by coverage
    Fuzz(fuzz::Arguments),
    /// Holds licences, sources and bans of dependencies (cargo-deny), and counts unsafe code
    Supply,
    /// Loads the BPF objects on this kernel and, under QEMU, on others
    Vm {
        /// Kernels to boot; all that are known if none is given
        #[arg(value_name = "KERNEL", value_parser = vm::KERNELS)]
        kernels: Vec<String>,
        /// Make this run the record that later ones are held to, testing/record/kernel-support.json
        #[arg(long)]
        update: bool,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> anyhow::Result<()> {
    let workspace = Workspace::locate()?;
    match verb {
        Verb::Setup { check: true } => setup::report(),
        Verb::Setup { check: false } => setup::ensure(&setup::EVERYDAY),
        Verb::Build { debug: true } => build::everything(&workspace, Profile::Debug),
        Verb::Build { debug: false } => build::everything(&workspace, Profile::Release),
        Verb::Check => check::run(&workspace),
        Verb::Budget { update, because } => budget::run(&workspace, update, because.as_deref()),
        Verb::Try { paths } => trial::run(&workspace, &paths),
        Verb::Test { arch: Some(platform), arguments, .. } => {
            test::emulated::run(&workspace, platform, &arguments)
        }
        Verb::Test { no_root, full, arch: None, arguments } => {
            test::run(&workspace, &Extent { no_root, full, arguments })
        }
        Verb::Faults { full, seed, goals } => {
            faults::run(&workspace, Scale { full, minutes: None, seed }, &goals)
        }
        Verb::Soak { minutes, seed } => {
            // An hour is what the promise speaks of.
            let scale = Scale { full: minutes >= 60, minutes: Some(minutes), seed };
            faults::run(&workspace, scale, &[Goal::Soak])
        }
        Verb::Dist(arguments) => dist::run(&workspace, &arguments),
        Verb::Demo { fleet, arguments } => lab::demo(&workspace, fleet, &arguments),
        Verb::Bench { arguments } => lab::bench(&workspace, &arguments),
        Verb::Eval { arguments } => lab::eval(&workspace, &arguments),
        Verb::Supply => supply::run(&workspace),
        Verb::Fuzz(arguments) => fuzz::run(&workspace, &arguments),
        Verb::Vm { kernels, update } => vm::run(&workspace, &kernels, update),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::CommandFactory as _;

    use super::*;

    /// The verbs that follow `cargo xtask` in `text`.
    fn named(text: &str) -> Vec<&str> {
        let after = text.split("cargo xtask ").skip(1);
        let words = after.filter_map(|rest| {
            let end = rest.find(|char: char| !(char.is_ascii_lowercase() || char == '-'));
            let word = &rest[..end.unwrap_or(rest.len())];
            (!word.is_empty()).then_some(word)
        });
        words.collect()
    }

    #[test]
    fn every_verb_that_the_documentation_names_exists() {
        let root = Workspace::locate().unwrap().root;
        let arguments = Arguments::command();
        let mut found = 0;
        for directory in ["", "docs", "docs/evidence", "docs/evidence/decisions", "packaging"] {
            for entry in fs::read_dir(root.join(directory)).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_none_or(|extension| extension != "md") {
                    continue;
                }
                let text = fs::read_to_string(&path).unwrap();
                for verb in named(&text) {
                    let known = arguments.find_subcommand(verb).is_some();
                    assert!(known, "{}: cargo xtask {verb}", path.display());
                    found += 1;
                }
            }
        }
        assert!(found > 20, "{found}");
    }

    #[test]
    fn a_verb_that_does_not_exist_is_found() {
        let text = "`cargo xtask fly`, and\n    cargo xtask swim-away far\n`cargo xtask …`";
        assert_eq!(named(text), ["fly", "swim-away"]);
        assert!(Arguments::command().find_subcommand("fly").is_none());
    }
}
