//! Programs of another platform on this machine, by QEMU's emulation of user space.

use std::ffi::OsString;

use anyhow::Result;

use crate::debian;
use crate::libc::CLibrary;
use crate::platform::Platform;
use crate::workspace::Workspace;

/// The command line before a program of `platform` that runs it here. Empty for this machine's own platform.
pub fn runner(workspace: &Workspace, platform: Platform) -> Result<Vec<OsString>> {
    if platform == Platform::OWN {
        return Ok(Vec::new());
    }
    let directory = workspace.target.join("vm/qemu-user");
    let qemu = debian::unpacked(&directory, Platform::OWN, &["bookworm-backports"], "qemu-user")?;
    let program = qemu.join("usr/bin").join(format!("qemu-{}", platform.kernel()));
    // Where the program's dynamic linker and libraries are looked for first.
    let libc = CLibrary::get(workspace, platform)?.root.join("usr");
    Ok(vec![program.into(), "-L".into(), libc.into()])
}
