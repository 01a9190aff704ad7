//! Checks that need no test run: formatting, lints, documentation, architecture, wording, sizes.

use anyhow::Result;

use crate::{
    architecture, budget,
    build::{self, BPF_OF_TESTS, BPF_PROGRAMS, BpfCompiler, USER_SPACE},
    environment,
    process::{self, timed},
    promises, setup,
    setup::Purpose,
    sizes::{self, Ceilings},
    supply::edges,
    wording,
    workspace::Workspace,
};

/// Runs every check, the quick ones first.
///
/// # Errors
/// When set-up fails or a check does not hold; its own output says where.
pub fn run(workspace: &Workspace) -> Result<()> {
    setup::ensure(&[Purpose::Build, Purpose::Lint])?;
    timed("architecture", || {
        architecture::check(workspace)?;
        promises::check(workspace)?;
        wording::check(workspace)?;
        println!("{}", edges::check(workspace)?);
        let sizes = sizes::measure(workspace)?;
        println!("{sizes}");
        Ceilings::read(workspace)?.hold(&sizes)
    })?;
    timed("formatting", || {
        cargo(workspace, &["fmt", "--check"])?;
        let fuzzer = "testing/fuzz/libfuzzer/Cargo.toml";
        cargo(workspace, &["fmt", "--check", "--manifest-path", fuzzer])
    })?;
    // User space embeds the objects, so its lints need them.
    let objects = timed("BPF objects", || build::bpf_objects(workspace))?;
    timed("budgets", || budget::check(workspace, &objects))?;
    timed("lints of the BPF programs", || {
        let compiler = BpfCompiler::find(workspace)?;
        compiler.lint(&BPF_PROGRAMS)?;
        compiler.lint(&BPF_OF_TESTS)
    })?;
    timed("lints of user space", || {
        let mut clippy = environment::host_cargo(workspace);
        clippy.args(["clippy", "--quiet"]).args(USER_SPACE);
        process::run(clippy.args(["--all-targets", "--", "-D", "warnings"]))
    })?;
    timed("documentation", || {
        let mut doc = environment::host_cargo(workspace);
        doc.env("RUSTDOCFLAGS", "-D warnings");
        process::run(doc.args(["doc", "--quiet", "--no-deps"]).args(USER_SPACE))
    })?;
    Ok(())
}

fn cargo(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    process::run(environment::host_cargo(workspace).args(arguments))
}
