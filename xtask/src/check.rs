//! Checks that need no test run: formatting, lints, documentation, architecture, wording.

use anyhow::Result;

use crate::{
    architecture, budget,
    build::{self, BpfCrate},
    environment,
    process::{self, timed},
    promises, setup,
    setup::Purpose,
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
        Ok(())
    })?;
    timed("formatting", || {
        cargo(workspace, &["fmt", "--check"])?;
        cargo(workspace, &["fmt", "--check", "--manifest-path", "fuzz/Cargo.toml"])?;
        cargo(workspace, &["fmt", "--check", "--manifest-path", "tcpguard-ebpf/Cargo.toml"])
    })?;
    // User space embeds the objects, so its lints need them.
    let objects = timed("BPF objects", || build::bpf_objects(workspace))?;
    timed("budgets", || budget::check(workspace, &objects))?;
    timed("lints of the BPF programs", || {
        let bpf = BpfCrate::new(workspace)?;
        build::VARIANTS.iter().try_for_each(|variant| {
            let mut clippy = bpf.clippy();
            process::run(clippy.args(variant.arguments).args(["--quiet", "--", "-D", "warnings"]))
        })
    })?;
    timed("lints of user space", || {
        let clippy = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
        cargo(workspace, &clippy)
    })?;
    timed("documentation", || {
        let mut doc = environment::host_cargo(workspace);
        doc.env("RUSTDOCFLAGS", "-D warnings");
        process::run(doc.args(["doc", "--quiet", "--workspace", "--no-deps"]))
    })
}

fn cargo(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    process::run(environment::host_cargo(workspace).args(arguments))
}
