//! Broken kernels, rights, pins and configurations.

use super::*;

pub(super) const CASES: &[Case] = &[
    // The packet filter.
    (
        |f| f.of_host.firewall.rules = Err("permission denied".to_owned()),
        "firewall_rules",
        UNKNOWN,
        "permission denied",
        "sudo tcpguard doctor",
    ),
    // The kernel.
    (|f| f.of_host.kernel.release = None, "kernel_release", UNKNOWN, "cannot be read", "uname -r"),
    (
        |f| f.of_host.kernel.features[0].support = Support::Missing,
        "kernel_features",
        CRITICAL,
        "no a test",
        "zgrep",
    ),
    (
        |f| f.of_host.kernel.features[1].support = Support::Missing,
        "kernel_features",
        NOTICE,
        "no a test",
        "zgrep",
    ),
    (
        |f| f.of_host.kernel.features[2].support = Support::Missing,
        "kernel_features",
        NOTICE,
        "no a test (in Linux 5.18, and in kernels with it backported)",
        "apt-cache",
    ),
    (
        |f| {
            let feature = &mut f.of_host.kernel.features[2];
            (feature.support, feature.fallback) = (Support::Missing, Some("in generic mode"));
        },
        "kernel_features",
        NOTICE,
        "and in kernels with it backported): in generic mode",
        "apt-cache",
    ),
    (
        |f| f.of_host.kernel.features[0].support = Support::Refused(libc::EPERM),
        "kernel_features",
        CRITICAL,
        "seccomp",
        "/proc/self/status",
    ),
    (
        |f| {
            f.of_host.privileges.container = true;
            f.of_host.kernel.features[0].support = Support::Refused(libc::EPERM);
        },
        "kernel_features",
        CRITICAL,
        "seccomp",
        "--security-opt=seccomp=unconfined",
    ),
    (
        |f| {
            f.of_host.privileges = Privileges { root: true, container: true, effective: 1 << 12 };
            f.of_host.kernel.features[0].support = Support::Refused(libc::EPERM);
        },
        "kernel_features",
        CRITICAL,
        "missing capability",
        "add CAP_PERFMON, CAP_BPF",
    ),
    (
        |f| f.of_host.kernel.features[0].support = Support::Refused(libc::ENOSYS),
        "kernel_features",
        CRITICAL,
        "ENOSYS",
        "zgrep",
    ),
    (
        |f| f.of_host.kernel.features[0].support = Support::Refused(9999),
        "kernel_features",
        CRITICAL,
        "errno 9999",
        "dmesg",
    ),
    (
        |f| f.of_host.kernel.features[0].support = Support::Failed("odd".to_owned()),
        "kernel_features",
        CRITICAL,
        "odd",
        "dmesg",
    ),
    (
        |f| {
            f.of_host.privileges = Privileges { root: false, container: false, effective: 0 };
            f.of_host.kernel.features[0].support = Support::Refused(libc::EPERM);
        },
        "kernel_features",
        UNKNOWN,
        "no permission",
        "sudo tcpguard doctor",
    ),
    (|f| f.of_host.kernel.btf = false, "btf", WARNING, "vmlinux is missing", "zgrep"),
    (
        |f| f.of_host.kernel.lockdown = Some("confidentiality".to_owned()),
        "lockdown",
        CRITICAL,
        "confidentiality",
        "lockdown=integrity",
    ),
    (
        |f| {
            f.of_host.kernel.lockdown = None;
            f.of_host.kernel.features[3].support = Support::Missing;
        },
        "lockdown",
        CRITICAL,
        "confidentiality, as a trial shows",
        "lockdown=integrity",
    ),
    (
        |f| {
            f.of_host.kernel.lockdown = None;
            // No program was loaded that could have read anything.
            f.of_host.kernel.features[1].support = Support::Missing;
            f.of_host.kernel.features[3].support = Support::Missing;
        },
        "lockdown",
        UNKNOWN,
        "cannot be read",
        "mount -t securityfs",
    ),
    (
        |f| {
            f.of_host.kernel.lockdown = None;
            f.of_host.kernel.features[3].support = Support::Refused(libc::EPERM);
        },
        "lockdown",
        UNKNOWN,
        "securityfs is not mounted",
        "mount -t securityfs",
    ),
    (
        |f| {
            f.of_host.kernel.lockdown = None;
            f.of_host.kernel.features.truncate(3);
            f.of_host.privileges.container = true;
        },
        "lockdown",
        UNKNOWN,
        "cannot be read",
        "--volume=/sys/kernel/security:/sys/kernel/security:ro",
    ),
    (|f| f.of_host.kernel.jit = Some(0), "bpf_jit", WARNING, "off", "bpf_jit_enable=1"),
    (|f| f.of_host.kernel.jit = None, "bpf_jit", NOTICE, "no such setting", ""),
    // Rights and pins.
    (
        |f| f.of_host.privileges.effective = 1 << 12 | 1 << 38,
        "capabilities",
        CRITICAL,
        "CAP_BPF",
        "add CAP_BPF",
    ),
    (
        |f| f.of_host.privileges.effective = 1 << 12 | 1 << 38 | 1 << 39,
        "capabilities",
        NOTICE,
        "without CAP_SYS_ADMIN",
        "",
    ),
    (
        |f| f.of_host.privileges = Privileges { root: false, container: false, effective: 0 },
        "capabilities",
        UNKNOWN,
        "not run as root",
        "sudo tcpguard doctor",
    ),
    (
        |f| f.of_host.pins.filesystem = Filesystem::Other,
        "bpffs",
        CRITICAL,
        "not on a BPF file system",
        "mount -t bpf",
    ),
    (
        |f| {
            f.of_host.pins.filesystem = Filesystem::Other;
            f.of_host.privileges.container = true;
        },
        "bpffs",
        CRITICAL,
        "not on a BPF file system",
        "--volume=/sys/fs/bpf:/sys/fs/bpf",
    ),
    (
        |f| f.of_host.pins.filesystem = Filesystem::Bpf { read_only: true },
        "bpffs",
        CRITICAL,
        "read-only",
        "remount,rw",
    ),
    (
        |f| f.of_host.pins.filesystem = Filesystem::Unknown,
        "bpffs",
        UNKNOWN,
        "no permission to read",
        "sudo",
    ),
    (
        |f| f.of_host.pins.owner = Some(Owner { uid: 1000, mode: 0o700 }),
        "pin_directory",
        WARNING,
        "user 1000",
        "chown -R tcpguard:tcpguard",
    ),
    (
        |f| f.of_host.pins.owner = Some(Owner { uid: 997, mode: 0o755 }),
        "pin_directory",
        WARNING,
        "0755",
        "chmod 0700",
    ),
    (
        |f| f.layouts = vec![layout(ABI_VERSION - 1, NETNS, Usage::Agent(812))],
        "stale_pins",
        WARNING,
        "takes it over",
        "systemctl restart tcpguard",
    ),
    (
        |f| {
            let former = layout(1024 * 1000 + ABI_VERSION, NETNS, Usage::Agent(812));
            f.layouts = vec![layout(ABI_VERSION, NETNS, Usage::Agent(812)), former];
        },
        "stale_pins",
        WARNING,
        "room for 1024 rules",
        "systemctl restart tcpguard",
    ),
    (
        |f| f.layouts.push(layout(ABI_VERSION, NETNS + 1, Usage::Unknown)),
        "stale_pins",
        NOTICE,
        "another network namespace",
        "systemctl restart tcpguard",
    ),
    (
        |f| f.layouts.push(layout(ABI_VERSION, NETNS + 1, Usage::Left)),
        "stale_pins",
        NOTICE,
        "has ended",
        "rm -rf /sys/fs/bpf/tcpguard/v1-8",
    ),
    (
        |f| f.layouts.push(layout(ABI_VERSION, NETNS + 1, Usage::Attached)),
        "stale_pins",
        WARNING,
        "still attached to eth0",
        "rm -rf /sys/fs/bpf/tcpguard/v1-8",
    ),
    (
        |f| {
            stop(f, Agent::NotRunning);
            f.layouts = vec![layout(ABI_VERSION, NETNS, Usage::Agent(812))];
        },
        "agent",
        UNKNOWN,
        "process 812 protects this network namespace",
        "--runtime-dir",
    ),
    (
        |f| stop(f, Agent::NotRunning),
        "stale_pins",
        WARNING,
        "still attached to eth0",
        "systemctl start",
    ),
    // The configuration.
    (
        |f| {
            f.of_host.config =
                ConfigFacts::Invalid { path: "/c".into(), problems: vec!["line 3: x".into()] }
        },
        "configuration",
        CRITICAL,
        "line 3: x",
        "edit /c",
    ),
    (
        |f| {
            stop(f, Agent::NotRunning);
            f.of_host.config = ConfigFacts::Valid { path: "/c".into(), interfaces: Vec::new() };
        },
        "configuration",
        CRITICAL,
        "names no interface",
        "edit /c",
    ),
    (
        |f| f.of_host.config = ConfigFacts::Absent { path: "/c".into() },
        "configuration",
        NOTICE,
        "no configuration file",
        "config init",
    ),
    (
        |f| {
            f.of_host.config =
                ConfigFacts::Unreadable { path: "/c".into(), reason: "denied".into() }
        },
        "configuration",
        UNKNOWN,
        "denied",
        "sudo",
    ),
];
