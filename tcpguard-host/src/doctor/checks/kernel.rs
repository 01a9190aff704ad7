//! Checks of the features that the kernel offers.

use std::collections::BTreeMap;

use super::super::document::Checked;
use super::super::errno;
use super::super::facts::Facts;
use crate::doctor::facts::{Feature, Privileges, RAW_TRACEPOINTS, READ_KERNEL, Support};
use crate::linux::{capabilities, container};

/// The release decides about nothing: distributions add features to older ones.
pub(in super::super) fn release(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "kernel_release";
    vec![match &facts.kernel.release {
        Some(release) => Checked::passed(CODE, format!("Linux {release}")),
        None => Checked::unknown(CODE, "the kernel release cannot be read").hint("uname -r"),
    }]
}

pub(in super::super) fn features(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "kernel_features";
    let bad = |needed: bool, text: String| match needed {
        true => Checked::critical(CODE, text),
        false => Checked::notice(CODE, text),
    };
    let mut findings = Vec::new();
    // Refused features are mostly refused together, and for one reason.
    let mut refused: BTreeMap<i32, Vec<&Feature>> = BTreeMap::new();
    // The check of the lockdown reports that it forbids this feature.
    let may_be_locked = !matches!(facts.kernel.lockdown.as_deref(), Some("none" | "integrity"));
    for feature in &facts.kernel.features {
        let finding = match &feature.support {
            Support::Present => continue,
            Support::Missing if feature.name == READ_KERNEL && may_be_locked => continue,
            Support::Refused(errno) => {
                refused.entry(*errno).or_default().push(feature);
                continue;
            }
            Support::Missing => {
                let (kernels, hint) = match feature.since {
                    Some(since) => (
                        format!(" (in Linux {since}, and in kernels with it backported)"),
                        "apt-cache search linux-image",
                    ),
                    None => (String::new(), "zgrep -E 'CONFIG_BPF|CONFIG_NET_CLS' /proc/config.gz"),
                };
                let fallback = feature.fallback.map(|it| format!(": {it}")).unwrap_or_default();
                let text =
                    format!("not in this kernel: no {}{kernels}{fallback}", feature.for_what);
                bad(feature.needed, text).hint(hint)
            }
            Support::Failed(reason) => {
                bad(feature.needed, format!("failed: {reason}")).hint("dmesg | tail")
            }
        };
        findings.push(finding.about(feature.name));
    }
    for (errno, features) in refused {
        let names: Vec<&str> = features.iter().map(|feature| feature.name).collect();
        let names = names.join(", ");
        // Expected without root, and no evidence about the service.
        if !facts.privileges.root && matches!(errno, libc::EPERM | libc::EACCES) {
            findings.push(
                Checked::unknown(CODE, format!("no permission to test {names}"))
                    .hint("sudo tcpguard doctor"),
            );
            continue;
        }
        let needed = features.iter().any(|feature| feature.needed);
        findings.push(match errno::words(errno) {
            Some((meaning, command)) => {
                let hint = match errno {
                    libc::EPERM | libc::EACCES | libc::ENOSYS => in_container(facts),
                    _ => None,
                };
                bad(needed, format!("refused: {names}. {meaning}"))
                    .hint(hint.unwrap_or_else(|| command.to_owned()))
            }
            None => {
                bad(needed, format!("refused with errno {errno}: {names}")).hint("dmesg | tail")
            }
        });
    }
    if findings.is_empty() {
        let features = facts.kernel.features.iter();
        let present = features.filter(|feature| feature.support == Support::Present);
        let names: Vec<&str> = present.map(|feature| feature.name).collect();
        findings.push(Checked::passed(CODE, format!("present: {}", names.join(", "))));
    }
    findings
}

/// The step that permits bpf(2) in a container; `None` outside of one.
fn in_container(facts: &Facts) -> Option<String> {
    let Privileges { container, effective, .. } = facts.privileges;
    let missing = capabilities::missing(effective);
    container.then(|| match missing.is_empty() {
        true => container::ALLOW_BPF.to_owned(),
        false => container::add_capabilities(&missing),
    })
}

pub(in super::super) fn btf(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "btf";
    vec![match facts.kernel.btf {
        true => Checked::passed(CODE, "/sys/kernel/btf/vmlinux exists"),
        false => Checked::warning(
            CODE,
            "/sys/kernel/btf/vmlinux is missing (CONFIG_DEBUG_INFO_BTF): tcpguard cannot count completed \
             handshakes at the tracepoint or validate its own SYN cookies",
        )
        .hint("zgrep CONFIG_DEBUG_INFO_BTF /proc/config.gz"),
    }]
}

pub(in super::super) fn lockdown(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "lockdown";
    const HINT: &str = "edit the kernel's command line: lockdown=integrity";
    vec![match facts.kernel.lockdown.as_deref() {
        None if reads_kernel(facts) == Some(true) => {
            Checked::passed(CODE, "BPF programs may read kernel memory, as a trial shows")
        }
        None if reads_kernel(facts) == Some(false) => Checked::critical(
            CODE,
            "confidentiality, as a trial shows: BPF programs may not read kernel memory, as tcpguard's have to",
        )
        .hint(HINT),
        None => {
            let mount = match facts.privileges.container {
                true => container::MOUNT_SECURITYFS,
                false => "mount -t securityfs securityfs /sys/kernel/security",
            };
            let text =
                "/sys/kernel/security/lockdown cannot be read, because securityfs is not mounted";
            Checked::unknown(CODE, text).hint(mount)
        }
        Some("none") => Checked::passed(CODE, "the kernel is not locked down"),
        Some("integrity") => Checked::passed(
            CODE,
            "integrity: BPF programs may be loaded and may read kernel memory",
        ),
        Some(other) => Checked::critical(
            CODE,
            format!("{other}: BPF programs may not read kernel memory, as tcpguard's have to"),
        )
        .hint(HINT),
    }]
}

/// Returns whether a program at a raw tracepoint may read kernel memory; `None` if no program of that type was loaded.
fn reads_kernel(facts: &Facts) -> Option<bool> {
    let of = |name| {
        let feature = facts.kernel.features.iter().find(|feature| feature.name == name);
        feature.map(|feature| &feature.support)
    };
    match (of(RAW_TRACEPOINTS)?, of(READ_KERNEL)?) {
        (Support::Present, Support::Present) => Some(true),
        (Support::Present, Support::Missing) => Some(false),
        _ => None,
    }
}

pub(in super::super) fn jit(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "bpf_jit";
    const NAME: &str = "net.core.bpf_jit_enable";
    vec![
        match facts.kernel.jit {
            Some(0) => Checked::warning(
                CODE,
                "off: each packet costs several times more CPU time, and none is handed on to a next program",
            )
            .hint(format!("sysctl -w {NAME}=1")),
            Some(_) => Checked::passed(CODE, "on"),
            None if facts.privileges.root => {
                Checked::notice(CODE, "no such setting in this network namespace")
            }
            None => Checked::unknown(CODE, "readable by root only").hint("sudo tcpguard doctor"),
        }
        .about(NAME),
    ]
}
