//! Checks of the privileges of this process, and of the directory where the XDP program is pinned.

use super::super::document::Checked;
use super::super::facts::{Facts, Filesystem};
use crate::linux::capabilities::{SYS_ADMIN, missing};
use crate::linux::container;

/// Permission bits with which users other than the owner can reach the content of a directory.
const OTHERS: u32 = 0o077;

pub(in super::super) fn capabilities(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "capabilities";
    let privileges = facts.privileges;
    let missing = missing(privileges.effective);
    vec![match (missing.is_empty(), privileges.root) {
        (true, true) if privileges.effective & SYS_ADMIN == 0 => Checked::notice(
            CODE,
            "root without CAP_SYS_ADMIN: sufficient, but other programs cannot be identified",
        ),
        (true, _) => Checked::passed(CODE, "this process may load and attach programs"),
        (false, true) => Checked::critical(
            CODE,
            format!("root without {}, as in a container", missing.join(", ")),
        )
        .hint(container::add_capabilities(&missing)),
        (false, false) => Checked::unknown(CODE, "not run as root: some checks are not possible")
            .hint("sudo tcpguard doctor"),
    }]
}

pub(in super::super) fn bpffs(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "bpffs";
    let dir = facts.pins.dir.display();
    // A container can mount nothing itself.
    let step = |command| if facts.privileges.container { container::MOUNT_BPFFS } else { command };
    let finding = match facts.pins.filesystem {
        Filesystem::Bpf { read_only: false } => {
            Checked::passed(CODE, format!("{dir} is on a BPF file system"))
        }
        Filesystem::Bpf { read_only: true } => {
            Checked::critical(CODE, format!("the BPF file system of {dir} is read-only"))
                .hint(step("mount -o remount,rw /sys/fs/bpf"))
        }
        Filesystem::Other => Checked::critical(
            CODE,
            format!(
                "{dir} is not on a BPF file system, so the XDP program cannot survive a restart"
            ),
        )
        .hint(step("mount -t bpf bpf /sys/fs/bpf")),
        Filesystem::Unknown => Checked::unknown(CODE, format!("no permission to read {dir}"))
            .hint("sudo tcpguard doctor"),
    };
    vec![finding]
}

pub(in super::super) fn pin_directory(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "pin_directory";
    let pins = &facts.pins;
    if !matches!(pins.filesystem, Filesystem::Bpf { .. }) {
        return Vec::new();
    }
    let dir = pins.dir.display().to_string();
    let Some(owner) = pins.owner else {
        return vec![
            Checked::passed(CODE, "not present; the service creates it at its start").about(dir),
        ];
    };
    let mut findings = Vec::new();
    // Run by hand the agent is root; as a service it has a user of its own.
    if owner.uid != 0 && Some(owner.uid) != pins.service_uid {
        let to = if pins.service_uid.is_some() { "tcpguard:tcpguard" } else { "root:root" };
        findings.push(
            Checked::warning(
                CODE,
                format!(
                    "owned by user {}, who can detach the XDP program; the service may be unable to use \
                     it",
                    owner.uid
                ),
            )
            .about(&dir)
            .hint(format!("chown -R {to} {dir}")),
        );
    }
    if owner.mode & OTHERS != 0 {
        findings.push(
            Checked::warning(
                CODE,
                format!("mode {:04o} gives other users access to the XDP program", owner.mode),
            )
            .about(&dir)
            .hint(format!("chmod 0700 {dir}")),
        );
    }
    if findings.is_empty() {
        let text = format!("user {}, mode {:04o}", owner.uid, owner.mode);
        findings.push(Checked::passed(CODE, text).about(dir));
    }
    findings
}
