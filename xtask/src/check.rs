//! Checks that need no test run: formatting, lints, documentation, architecture, wording. The sizes of the
//! repository are printed at the end.

use anyhow::Result;

use crate::{
    architecture, budget,
    build::{self, BpfCrate, Variant},
    environment,
    process::{self, timed},
    promises, setup,
    setup::Purpose,
    sizes,
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
        ["tcpguard-ebpf", "testing/bpf", "testing/fuzz/libfuzzer"].iter().try_for_each(|own| {
            let manifest = format!("{own}/Cargo.toml");
            cargo(workspace, &["fmt", "--check", "--manifest-path", &manifest])
        })
    })?;
    // User space embeds the objects, so its lints need them.
    let objects = timed("BPF objects", || build::bpf_objects(workspace))?;
    timed("budgets", || budget::check(workspace, &objects))?;
    timed("lints of the BPF programs", || {
        let tests = BpfCrate::beside(workspace, workspace.bpf_tests())?;
        lint(&BpfCrate::new(workspace)?, &build::VARIANTS)?;
        lint(&tests, &build::OF_TESTS)
    })?;
    timed("lints of user space", || {
        let clippy = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
        cargo(workspace, &clippy)
    })?;
    timed("documentation", || {
        let mut doc = environment::host_cargo(workspace);
        doc.env("RUSTDOCFLAGS", "-D warnings");
        process::run(doc.args(["doc", "--quiet", "--workspace", "--no-deps"]))
    })?;
    println!("{}", sizes::measure(workspace)?);
    Ok(())
}

fn lint(bpf: &BpfCrate<'_>, variants: &[Variant]) -> Result<()> {
    variants.iter().try_for_each(|variant| {
        let mut clippy = bpf.clippy();
        process::run(clippy.args(variant.arguments).args(["--quiet", "--", "-D", "warnings"]))
    })
}

fn cargo(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    process::run(environment::host_cargo(workspace).args(arguments))
}
