//! The .rpm: a spec file that takes the tree as it is. Its scripts are in `packaging/rpm`, a
//! directory for each package.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use tcpguard_support::contents;

use super::{HOMEPAGE, REVISION, Release, Staged, VERSION, below};
use crate::process;

/// Scripts that rpm runs after and before it changes the files.
const SCRIPTS: [&str; 3] = ["post", "preun", "postun"];

/// Makes the package and returns its path.
pub fn build(release: &Release<'_>) -> Result<PathBuf> {
    let root = release.fresh("rpm")?;
    let staged = release.stage(contents::Format::Rpm, &root)?;
    let package = release.package;
    let own = package.own_directories.iter().filter(|path| below(&root, path).is_dir());
    let own: Vec<&str> = own.copied().collect();
    let mut scripts = String::new();
    for name in SCRIPTS {
        let source = format!("packaging/rpm/{}/{name}", package.name);
        let path = release.workspace.root.join(&source);
        let script = fs::read_to_string(path).with_context(|| source.clone())?;
        // rpm expands macros everywhere.
        scripts += &format!("%{name}\n{}\n", script.replace('%', "%%"));
    }
    let spec = release.work.join("package.spec");
    fs::write(&spec, spec_of(package, &root, &scripts, &own, &staged))?;

    let architecture = release.platform.kernel();
    let name = format!("{}-{VERSION}-{REVISION}.{architecture}.rpm", package.name);
    let topmost = release.fresh("rpmbuild")?;
    let mut command = Command::new("rpmbuild");
    command.args(["-bb", "--quiet"]).arg(format!("--target={architecture}-linux"));
    for (macro_name, value) in [
        ("_topdir", topmost.display().to_string()),
        ("_dbpath", topmost.join("database").display().to_string()),
        ("_rpmdir", release.directory.display().to_string()),
        ("_rpmfilename", name.clone()),
        // rpm reads xz everywhere.
        ("_binary_payload", format!("w{}.xzdio", release.compression)),
        // Values that otherwise differ from build to build.
        ("_buildhost", "localhost".to_owned()),
        ("use_source_date_epoch_as_buildtime", "1".to_owned()),
        ("clamp_mtime_to_source_date_epoch", "1".to_owned()),
    ] {
        command.arg("--define").arg(format!("{macro_name} {value}"));
    }
    process::run(command.arg(&spec).env("SOURCE_DATE_EPOCH", &release.epoch))?;
    Ok(release.directory.join(name))
}

fn spec_of(
    package: &contents::Package,
    root: &Path,
    scripts: &str,
    own: &[&str],
    staged: &[Staged],
) -> String {
    let own = own.iter().map(|path| format!("%dir %attr(0755, root, root) {path}\n"));
    let files = staged.iter().map(|file| {
        let kind = match file {
            Staged { is_directory: true, .. } => "%dir ",
            Staged { is_configuration: true, .. } => "%config(noreplace) ",
            _ => "",
        };
        format!("{kind}%attr({:04o}, root, root) {}\n", file.mode, file.path)
    });
    let files: String = own.chain(files).collect();
    // The tree is finished: nothing is to be compressed, stripped or taken apart again.
    format!(
        "Name: {}\n\
         Version: {VERSION}\n\
         Release: {REVISION}\n\
         Summary: {}\n\
         License: MIT OR Apache-2.0\n\
         URL: {HOMEPAGE}\n\
         Requires: systemd\n\
         %global debug_package %{{nil}}\n\
         %global __os_install_post %{{nil}}\n\
         %global _build_id_links none\n\n\
         %description\n{}\n\n\
         %install\ncp -a '{}/.' '%{{buildroot}}'\n\n\
         {scripts}\
         %files\n{files}",
        package.name,
        package.summary,
        package.description,
        root.display()
    )
}
