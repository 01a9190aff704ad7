//! Every step of CI and of a developer's day as one verb: `cargo xtask VERB`.

mod architecture;
mod build;
mod check;
mod debug_info;
mod environment;
mod eval;
mod lab;
mod process;
mod setup;
mod test;
mod toolchain;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{build::Profile, workspace::Workspace};

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
    /// Builds the BPF objects, then target/release/tcpguard
    Build {
        /// Build user space without optimisation; the BPF objects are always optimised
        #[arg(long)]
        debug: bool,
    },
    /// Formatting, lints of host and BPF code, documentation, architecture rules
    Check,
    /// Runs every test; those in network namespaces need root
    Test {
        /// Leave out the tests that need root
        #[arg(long)]
        no_root: bool,
        /// Passed to cargo-nextest, for example a filter; leaves out the documentation tests
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Shows a live flood, its detection and its end, in network namespaces of its own
    Demo {
        /// Passed to the demonstration
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Measures what a packet costs; `bench replay`: what one of a capture does; `bench e2e`: what
    /// clients get under floods
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
    /// Loads the BPF objects on this kernel and, under QEMU, on others
    Vm {
        /// Kernel versions to boot; all that are known if none is given
        #[arg(value_name = "KERNEL", value_parser = vm::KERNEL_VERSIONS)]
        kernels: Vec<String>,
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
        Verb::Test { no_root, arguments } => test::run(&workspace, no_root, &arguments),
        Verb::Demo { arguments } => lab::exec(&workspace, "demo", &arguments),
        Verb::Bench { arguments } => lab::exec(&workspace, "bench", &arguments),
        Verb::Eval { arguments } => eval::exec(&workspace, &arguments),
        Verb::Vm { kernels } => vm::run(&workspace, &kernels),
    }
}
