//! The .deb: the tree of a package and the metadata for dpkg. The maintainer scripts are in
//! `packaging/deb`, a directory for each package.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tcpguard_support::contents;

use super::{HOMEPAGE, REVISION, Release, Staged, VERSION, below};
use crate::process;
use crate::zig::GLIBC;

/// Contact for questions about the package.
const MAINTAINER: &str = "the tcpguard authors <tcpguard@users.noreply.github.com>";
/// Scripts that dpkg runs, at the moments that Debian's policy (chapter 6) gives them.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Makes the package and returns its path.
pub fn build(release: &Release<'_>) -> Result<PathBuf> {
    let root = release.fresh("deb")?;
    let staged = release.stage(contents::Format::Deb, &root)?;
    let architecture = release.platform.debian();

    let about = root.join("DEBIAN");
    fs::create_dir(&about)?;
    fs::write(
        about.join("control"),
        control(release.package, architecture, size(&root, &staged)?),
    )?;
    let configuration = staged.iter().filter(|file| file.is_configuration);
    let conffiles: String = configuration.map(|file| format!("{}\n", file.path)).collect();
    fs::write(about.join("conffiles"), conffiles)?;
    fs::write(about.join("md5sums"), checksums(&root, &staged)?)?;
    for name in SCRIPTS {
        let script = about.join(name);
        let source = format!("packaging/deb/{}/{name}", release.package.name);
        fs::copy(release.workspace.root.join(&source), &script).with_context(|| source.clone())?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    }
    fs::set_permissions(&about, fs::Permissions::from_mode(0o755))?;

    let name = format!("{}_{VERSION}-{REVISION}_{architecture}.deb", release.package.name);
    let package = release.directory.join(name);
    process::output(
        Command::new("dpkg-deb")
            // xz, which every dpkg reads. Some distributions' own default is newer.
            .args(["--root-owner-group", "-Zxz", &format!("-z{}", release.compression), "--build"])
            .arg(&root)
            .arg(&package)
            .env("SOURCE_DATE_EPOCH", &release.epoch),
    )?;
    Ok(package)
}

/// The machine-readable `debian/copyright`, format 1.0.
pub fn copyright(release: &Release<'_>) -> Result<String> {
    let licence = fs::read_to_string(release.workspace.root.join("LICENSE-MIT"))?;
    // Its title and its copyright line have fields of their own.
    let terms: Vec<&str> = licence.lines().skip_while(|line| !line.starts_with("Perm")).collect();
    let holder = licence.lines().find_map(|line| line.strip_prefix("Copyright (c) "));
    Ok(format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
         Upstream-Name: tcpguard\n\
         Source: {HOMEPAGE}\n\
         Comment: The program contains libraries of others. Their licences are in\n \
         /usr/share/doc/{}/third-party-licences.gz\n\n\
         Files: *\n\
         Copyright: {}\n\
         License: Expat or Apache-2.0\n\n\
         License: Expat\n{}\n\
         License: Apache-2.0\n \
         On Debian systems, the full text of the Apache License, version 2.0, is in\n \
         /usr/share/common-licenses/Apache-2.0\n",
        release.package.name,
        holder.context("LICENSE-MIT names no holder")?,
        continued(&terms.join("\n")),
    ))
}

/// The changelog of the package; that of the program lies beside it.
pub fn changelog(release: &Release<'_>) -> Result<String> {
    Ok(format!(
        "{} ({VERSION}-{REVISION}) unstable; urgency=medium\n\n  \
         * Version {VERSION}: see changelog.gz.\n\n \
         -- {MAINTAINER}  {}\n",
        release.package.name,
        release.time("--rfc-email")?
    ))
}

fn control(package: &contents::Package, architecture: &str, kib: u64) -> String {
    // systemd: makes the user and runs the service; 247 is the first with ProtectProc=.
    // libc6: `libc.rs` holds the program to it.
    format!(
        "Package: {}\n\
         Version: {VERSION}-{REVISION}\n\
         Architecture: {architecture}\n\
         Maintainer: {MAINTAINER}\n\
         Installed-Size: {kib}\n\
         Depends: libc6 (>= {GLIBC}), systemd (>= 247)\n\
         Section: net\n\
         Priority: optional\n\
         Homepage: {HOMEPAGE}\n\
         Description: {}\n{}",
        package.name,
        package.summary,
        continued(package.description)
    )
}

/// `text` as the further lines of a field: each begins with a space, and an empty one is a point.
fn continued(text: &str) -> String {
    text.lines().map(|line| format!(" {}\n", if line.is_empty() { "." } else { line })).collect()
}

/// Its size on a disk, in KiB: each file in whole ones, and one for each directory, as
/// dpkg-gencontrol counts.
fn size(root: &Path, staged: &[Staged]) -> Result<u64> {
    let mut kib = 0;
    for file in staged {
        let length = fs::metadata(below(root, &file.path))?.len();
        kib += if file.is_directory { 1 } else { length.div_ceil(1024) };
    }
    Ok(kib)
}

/// The checksums of all files but those that dpkg keeps its own of.
fn checksums(root: &Path, staged: &[Staged]) -> Result<String> {
    let mut command = Command::new("md5sum");
    command.arg("--").current_dir(root);
    for file in staged.iter().filter(|file| !file.is_directory && !file.is_configuration) {
        command.arg(file.path.trim_start_matches('/'));
    }
    process::output(&mut command)
}
