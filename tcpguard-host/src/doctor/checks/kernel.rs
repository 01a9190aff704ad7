//! Checks of the features that the kernel offers.

use std::collections::BTreeMap;

use super::super::document::Finding;
use super::super::errno;
use super::super::facts::Facts;
use crate::doctor::facts::{Feature, Support};
use crate::linux::release::OLDEST;

/// The features that releases after the oldest one add.
const STEPS: [(u32, u32, &str); 2] = [
    (6, 6, "TCX, so that others' tc programs do not matter"),
    (6, 9, "SYN cookies of the guard's own"),
];

pub(in super::super) fn release(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "kernel_release";
    let Some(release) = &facts.kernel.release else {
        return vec![
            Finding::unknown(ID, "the kernel does not say which release it is").fix("uname -r"),
        ];
    };
    let lacks: Vec<String> = STEPS
        .iter()
        .filter(|(major, minor, _)| !release.at_least(*major, *minor))
        .map(|(major, minor, what)| format!("{what} ({major}.{minor})"))
        .collect();
    let evidence = match lacks.is_empty() {
        true => format!("Linux {release}"),
        false => format!("Linux {release} lacks: {}", lacks.join("; ")),
    };
    let (major, minor) = OLDEST;
    let finding = if !release.at_least(major, minor) {
        Finding::blocking(ID, format!("{evidence}; below {major}.{minor} the guard does not start"))
            .fix("apt-cache search linux-image")
    } else if lacks.is_empty() {
        Finding::passed(ID, evidence)
    } else {
        Finding::note(ID, evidence)
    };
    vec![finding]
}

pub(in super::super) fn features(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "kernel_features";
    let bad = |needed: bool, evidence: String| match needed {
        true => Finding::blocking(ID, evidence),
        false => Finding::note(ID, evidence),
    };
    let mut findings = Vec::new();
    // Refused features are mostly refused together, and for one reason.
    let mut refused: BTreeMap<i32, Vec<&Feature>> = BTreeMap::new();
    for feature in &facts.kernel.features {
        let finding = match &feature.support {
            Support::Present => continue,
            Support::Refused(errno) => {
                refused.entry(*errno).or_default().push(feature);
                continue;
            }
            Support::Missing => {
                bad(feature.needed, format!("this kernel has none: no {}", feature.for_what))
                    .fix("zgrep -E 'CONFIG_BPF|CONFIG_NET_CLS' /proc/config.gz")
            }
            Support::Failed(reason) => {
                bad(feature.needed, format!("failed: {reason}")).fix("dmesg | tail")
            }
        };
        findings.push(finding.about(feature.name));
    }
    for (errno, features) in refused {
        let names: Vec<&str> = features.iter().map(|feature| feature.name).collect();
        let names = names.join(", ");
        // Without root that is no wonder, and says nothing about the service.
        if !facts.privileges.root && matches!(errno, libc::EPERM | libc::EACCES) {
            findings.push(
                Finding::unknown(ID, format!("not allowed to try {names}"))
                    .fix("sudo tcpguard doctor"),
            );
            continue;
        }
        let needed = features.iter().any(|feature| feature.needed);
        findings.push(match errno::words(errno) {
            Some((meaning, command)) => {
                bad(needed, format!("refused: {names}. {meaning}")).fix(command)
            }
            None => bad(needed, format!("refused with errno {errno}: {names}")).fix("dmesg | tail"),
        });
    }
    if findings.is_empty() {
        let names: Vec<&str> = facts.kernel.features.iter().map(|feature| feature.name).collect();
        findings.push(Finding::passed(ID, format!("tried and found: {}", names.join(", "))));
    }
    findings
}

pub(in super::super) fn btf(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "btf";
    vec![match facts.kernel.btf {
        true => Finding::passed(ID, "/sys/kernel/btf/vmlinux is there"),
        false => Finding::warning(
            ID,
            "/sys/kernel/btf/vmlinux is missing (CONFIG_DEBUG_INFO_BTF): completed handshakes cannot be \
             counted at the tracepoint, nor cookies of the guard's own be taken back",
        )
        .fix("zgrep CONFIG_DEBUG_INFO_BTF /proc/config.gz"),
    }]
}

pub(in super::super) fn lockdown(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "lockdown";
    vec![match facts.kernel.lockdown.as_deref() {
        None | Some("none") => Finding::passed(ID, "the kernel is not locked down"),
        Some("integrity") => {
            Finding::passed(ID, "integrity: programs may be loaded, and read kernel memory")
        }
        Some(other) => Finding::blocking(
            ID,
            format!("{other}: programs may not read kernel memory, which the guard's do"),
        )
        .fix("edit the kernel's command line: lockdown=integrity"),
    }]
}

pub(in super::super) fn jit(facts: &Facts) -> Vec<Finding> {
    const ID: &str = "bpf_jit";
    const NAME: &str = "net.core.bpf_jit_enable";
    vec![
        match facts.kernel.jit {
            Some(0) => Finding::warning(ID, "off: each packet costs several times as much")
                .fix(format!("sysctl -w {NAME}=1")),
            Some(_) => Finding::passed(ID, "on"),
            None if facts.privileges.root => {
                Finding::note(ID, "this kernel has no switch for it in this network namespace")
            }
            None => Finding::unknown(ID, "only root may look").fix("sudo tcpguard doctor"),
        }
        .about(NAME),
    ]
}
