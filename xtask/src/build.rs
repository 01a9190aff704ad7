//! The BPF objects, then the binary that carries them.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context, Result, anyhow, bail};
use tcpguard_support::contents::PACKAGES;

use crate::{
    debug_info, environment,
    platform::Platform,
    process,
    setup::{self, Purpose},
    test::Durations,
    toolchain::{self, BpfToolchain},
    workspace::Workspace,
    zig,
};

/// A package of BPF programs.
pub struct BpfPackage {
    name: &'static str,
    variants: &'static [Variant],
}

/// One way to compile it. The suffix is that of its objects' names.
struct Variant {
    suffix: &'static str,
    arguments: &'static [&'static str],
}

impl BpfPackage {
    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

const PLAIN: Variant = Variant { suffix: "", arguments: &[] };
/// Debug lines cost instructions, so they are only in a variant of their own.
const WITH_LOG: Variant =
    Variant { suffix: "-log", arguments: &["--features", "log", "--bin", "tcpguard-ebpf"] };

/// The programs of tcpguard.
pub const BPF_PROGRAMS: BpfPackage =
    BpfPackage { name: "tcpguard-ebpf", variants: &[PLAIN, WITH_LOG] };
/// Those of tests and the benchmark.
pub const BPF_OF_TESTS: BpfPackage = BpfPackage { name: "tcpguard-test-bpf", variants: &[PLAIN] };
/// Cargo's arguments for all packages of the workspace but these two.
pub const USER_SPACE: [&str; 5] =
    ["--workspace", "--exclude", BPF_PROGRAMS.name, "--exclude", BPF_OF_TESTS.name];

/// Cargo profile of user space. BPF is never compiled unoptimised, since the verifier would refuse it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Cargo's `dev` profile, which the tests have too: `target/debug/tcpguard`.
    Debug,
    /// Cargo's `release` profile: `target/release/tcpguard`.
    Release,
    /// The smallest program, for an old C library, and slow to link: `target/TARGET/packaged/tcpguard`.
    Packaged(Platform),
}

impl Profile {
    /// Returns cargo's argument for it.
    fn argument(self) -> &'static str {
        match self {
            Self::Debug => "--profile=dev",
            Self::Release => "--profile=release",
            Self::Packaged(_) => "--profile=packaged",
        }
    }

    /// Cargo's name of the directory that it goes to.
    pub fn directory(self) -> PathBuf {
        match self {
            Self::Debug => "debug".into(),
            Self::Release => "release".into(),
            Self::Packaged(platform) => Path::new(platform.triple()).join("packaged"),
        }
    }
}

/// Builds the BPF objects, and the binaries `tcpguard` and `tcpguard-fleet`.
///
/// # Errors
/// When the BPF toolchain is missing, or one of the compilations fails.
pub fn everything(workspace: &Workspace, profile: Profile) -> Result<()> {
    bpf_objects(workspace)?;
    program(workspace, profile)
}

/// Builds the program of each package, with the BPF objects that are there.
///
/// Each is built by itself: together, the features of crates that only the one needs would be in the other too.
pub fn program(workspace: &Workspace, profile: Profile) -> Result<()> {
    PACKAGES.iter().try_for_each(|package| {
        let mut command = match profile {
            Profile::Packaged(platform) => zig::cargo(workspace, "zigbuild", platform)?,
            Profile::Debug | Profile::Release => {
                let mut cargo = environment::host_cargo(workspace);
                cargo.arg("build");
                cargo
            }
        };
        process::run(command.args(["--package", package.name, profile.argument()]))
    })
}

/// Name of the first phase of [`prepare`].
pub const SET_UP: &str = "set-up and BPF objects";

/// Installs what is missing, and builds user space by `rest`. Work that waits for the network or for one CPU has other
/// work beside it: set-up and BPF objects a cargo with the arguments `early`, for crates that contain no object, and
/// `rest` the set-up for `purposes`.
///
/// # Errors
/// When a set-up or a compilation fails.
pub fn prepare(
    workspace: &Workspace,
    durations: &mut Durations,
    early: &[&str],
    purposes: &[Purpose],
    rest: impl FnOnce() -> Result<()>,
) -> Result<()> {
    durations.of(SET_UP, || {
        beside(
            || process::run(environment::host_cargo(workspace).args(early)),
            || {
                setup::ensure(&[Purpose::Build])?;
                bpf_objects(workspace)
            },
        )
    })?;
    durations.of("build", || beside(|| setup::ensure(purposes), rest))
}

/// Does one thing in another thread, beside the other.
fn beside<T>(
    one: impl FnOnce() -> Result<()> + Send,
    other: impl FnOnce() -> Result<T>,
) -> Result<T> {
    thread::scope(|scope| {
        let one = scope.spawn(one);
        let done = other();
        one.join().expect("work that does not panic")?;
        done
    })
}

/// The compiler and the linker of BPF programs.
pub struct BpfCompiler<'a> {
    workspace: &'a Workspace,
    toolchain: BpfToolchain,
    linker: String,
}

impl<'a> BpfCompiler<'a> {
    /// Looks for them. What they compile goes below this workspace's target directory.
    ///
    /// # Errors
    /// When no compiler is fit or bpf-linker does not run. The message names the remedy.
    pub fn find(workspace: &'a Workspace) -> Result<Self> {
        let toolchain = BpfToolchain::find().map_err(|none| {
            anyhow!("no compiler for the BPF programs ({none}); `cargo xtask setup` gets one")
        })?;
        let linker = toolchain::bpf_linker()
            .context("bpf-linker does not run; `cargo xtask setup` gets one that does")?;
        Ok(Self { workspace, toolchain, linker })
    }

    /// Compiles each program of `package` in the workspace at `source`, without debug information but BTF, to
    /// `<to>/<name>.o`, and with each optional feature to `<to>/<name>-<feature>.o`.
    ///
    /// An object that comes out the same is left untouched, so that cargo does not rebuild user space.
    ///
    /// # Errors
    /// When a compilation fails.
    pub fn objects(&self, source: &Path, package: &BpfPackage, to: &Path) -> Result<Vec<PathBuf>> {
        fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
        let mut objects = Vec::new();
        for variant in package.variants {
            let mut command = self.toolchain.cargo("build");
            self.select(&mut command, package, variant).current_dir(source);
            command.args(["--message-format", "json-render-diagnostics"]);
            let programs = executables(&process::output(&mut command)?)?;
            if programs.is_empty() {
                bail!("{} has no binaries", package.name);
            }
            for program in programs {
                let name =
                    program.file_name().context("a program without a name")?.to_string_lossy();
                let object = to.join(format!("{name}{}.o", variant.suffix));
                let linked = fs::read(&program)
                    .with_context(|| format!("cannot read {}", program.display()))?;
                let stripped = debug_info::strip(&linked)
                    .with_context(|| format!("{} is no BPF object", program.display()))?;
                write_if_changed(&stripped, &object)?;
                objects.push(object);
            }
        }
        Ok(objects)
    }

    /// Runs clippy on `package`, in each of its variants.
    ///
    /// # Errors
    /// When it finds something.
    pub fn lint(&self, package: &BpfPackage) -> Result<()> {
        package.variants.iter().try_for_each(|variant| {
            let mut clippy = self.toolchain.clippy();
            self.select(&mut clippy, package, variant).current_dir(&self.workspace.root);
            process::run(clippy.args(["--quiet", "--", "-D", "warnings"]))
        })
    }

    /// Has cargo compile `package` for BPF.
    fn select<'c>(
        &self,
        command: &'c mut Command,
        package: &BpfPackage,
        variant: &Variant,
    ) -> &'c mut Command {
        command
            .args(["--locked", "--package", package.name, "--profile", "bpf"])
            .args(["--target", "bpfel-unknown-none", "-Z", "build-std=core", "--target-dir"])
            .arg(self.workspace.bpf_objects().join("cargo"))
            .args(variant.arguments)
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags())
    }

    /// Flags for rustc, in cargo's encoding.
    fn flags(&self) -> OsString {
        let mut flags: Vec<OsString> = vec![
            "-Clink-arg=--btf".into(),
            // Copies are stores where they stand, never a call of a loop over bytes.
            "-Clink-arg=--disable-expand-memcpy-in-order".into(),
            // 32-bit jumps (5.1) and atomics that return the old value (5.12): fewer instructions
            // to verify. v4 would gain nothing more and lose kernel 6.1.
            "-Ctarget-cpu=v3".into(),
            // Not read by any code: another linker makes another object, and cargo sees only flags.
            format!("--cfg=linked_by={:?}", self.linker).into(),
        ];
        let standard = self.toolchain.sysroot.join("lib/rustlib/src/rust");
        let real_standard = standard.canonicalize().unwrap_or_else(|_| standard.clone());
        flags.extend(without_paths(self.workspace));
        flags.extend([standard, real_standard].map(|path| remapped(&path, "rust")));
        encoded(&flags)
    }
}

/// Flags for rustc that take the paths of this machine out of what it writes, so that a binary does not reveal
/// where it was built, and is the same wherever it is built.
pub fn without_paths(workspace: &Workspace) -> [OsString; 3] {
    [
        remapped(&workspace.root, "tcpguard"),
        remapped(&workspace.target, "target"),
        remapped(&toolchain::cargo_home().join("registry/src"), "registry"),
    ]
}

fn remapped(from: &Path, to: &str) -> OsString {
    let mut flag = OsString::from("--remap-path-prefix=");
    flag.push(from);
    flag.push("=");
    flag.push(to);
    flag
}

/// Flags for rustc in cargo's encoding: separated by U+001F, so that paths may hold spaces.
pub fn encoded(flags: &[OsString]) -> OsString {
    flags.join(OsStr::new("\u{1f}"))
}

/// Compiles the BPF programs of tcpguard and those of tests, each to `<target>/bpf/<name>.o`.
///
/// # Errors
/// When the BPF toolchain is missing or a compilation fails.
pub fn bpf_objects(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let (compiler, to) = (BpfCompiler::find(workspace)?, workspace.bpf_objects());
    let mut all = compiler.objects(&workspace.root, &BPF_PROGRAMS, &to)?;
    all.extend(compiler.objects(&workspace.root, &BPF_OF_TESTS, &to)?);
    Ok(all)
}

/// The binaries among cargo's `--message-format json` lines.
///
/// # Errors
/// When a line is no JSON.
pub fn executables(messages: &str) -> Result<Vec<PathBuf>> {
    let mut executables = Vec::new();
    for line in messages.lines() {
        let message: serde_json::Value =
            serde_json::from_str(line).context("cargo wrote a message that is no JSON")?;
        executables.extend(message["executable"].as_str().map(PathBuf::from));
    }
    Ok(executables)
}

/// Writes a file, unless it holds just that: then its time stays, and cargo compiles nothing anew.
pub fn write_if_changed(new: &[u8], to: &Path) -> Result<()> {
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    fs::write(to, new).with_context(|| format!("cannot write {}", to.display()))
}

/// Writes a file of a copy of the source, unless it holds just that.
pub fn place(path: &Path, content: &[u8]) -> Result<()> {
    let parent = path.parent().context("a file without a directory")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    write_if_changed(content, path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_binaries_are_what_cargo_says_it_linked() {
        let messages = r#"{"reason":"compiler-artifact","executable":null}
{"reason":"compiler-artifact","executable":"/t/bpfel-unknown-none/release/tcpguard-ebpf"}
{"reason":"build-finished","success":true}
"#;
        assert_eq!(
            executables(messages).unwrap(),
            [PathBuf::from("/t/bpfel-unknown-none/release/tcpguard-ebpf")]
        );
    }

    #[test]
    fn an_unchanged_object_keeps_its_time_and_a_changed_one_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let object = directory.path().join("program.o");
        write_if_changed(b"one", &object).unwrap();
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        fs::File::options().write(true).open(&object).unwrap().set_modified(long_ago).unwrap();

        write_if_changed(b"one", &object).unwrap();
        assert_eq!(fs::metadata(&object).unwrap().modified().unwrap(), long_ago);

        write_if_changed(b"two", &object).unwrap();
        assert_eq!(fs::read(&object).unwrap(), b"two");
    }

    /// Each dependency with its features, as the crates that `selection` names are built.
    fn features(workspace: &Workspace, selection: &[&str]) -> BTreeSet<String> {
        let mut tree = environment::plain_cargo();
        tree.current_dir(&workspace.root).args(["tree", "--locked", "--prefix", "none"]);
        tree.args(["--format", "{p} with {f}"]).args(selection);
        let lines = process::output(&mut tree).unwrap();
        lines.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
    }

    /// Otherwise a command for a few crates compiles their dependencies once more.
    #[test]
    fn each_crate_has_the_dependencies_of_all_with_the_same_features() {
        let workspace = Workspace::locate().unwrap();
        let of_all = features(&workspace, &USER_SPACE);
        let mut packages = workspace.packages_of_cargo().unwrap();
        packages.retain(|it| !USER_SPACE.contains(&it.name.as_str()));
        packages.retain(|it| it.name != "tcpguard-features");
        assert!(packages.len() > 10, "{}", packages.len());
        for package in packages {
            let other = features(&workspace, &["--package", &package.name]);
            let other: Vec<_> = other.difference(&of_all).collect();
            let missing = "missing in testing/features/Cargo.toml";
            assert!(other.is_empty(), "{missing}, for {}: {other:#?}", package.name);
        }
    }
}
