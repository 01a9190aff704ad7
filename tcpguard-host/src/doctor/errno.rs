//! Explanations of the kernel's BPF errors for an administrator.

/// The meaning of an errno when a program is loaded or attached, and the remedy. `None`: no special meaning.
pub(super) const fn words(errno: i32) -> Option<(&'static str, &'static str)> {
    Some(match errno {
        libc::EPERM | libc::EACCES => (
            "EPERM: missing capability, or forbidden by lockdown, seccomp or an LSM",
            "grep -E 'Cap|Seccomp' /proc/self/status",
        ),
        libc::EBUSY => {
            ("EBUSY: another XDP program is attached in the same mode", "bpftool net show")
        }
        libc::EEXIST => {
            ("EEXIST: another XDP program is attached in the other mode", "bpftool net show")
        }
        libc::ERANGE | libc::EINVAL => (
            "ERANGE or EINVAL: MTU, LRO or the number of queues prevents native XDP",
            "dmesg | tail",
        ),
        libc::EOPNOTSUPP => (
            "EOPNOTSUPP: the driver does not support native XDP; use generic mode",
            "tcpguard config show",
        ),
        libc::ENOENT => ("ENOENT: the kernel has no BTF", "ls -l /sys/kernel/btf/vmlinux"),
        libc::ENOSYS => (
            "ENOSYS: bpf(2) is not in this kernel, or blocked by a sandbox",
            "zgrep CONFIG_BPF_SYSCALL /proc/config.gz",
        ),
        libc::E2BIG => ("E2BIG: this kernel's verifier is too old for the programs", "uname -r"),
        libc::ENOMEM => (
            "ENOMEM: not enough memory for the maps, or a limit of locked memory (before Linux 5.11)",
            "ulimit -l",
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_that_bpf_knows_has_words_and_a_command() {
        for errno in [
            libc::EPERM,
            libc::EACCES,
            libc::EBUSY,
            libc::EEXIST,
            libc::ERANGE,
            libc::EINVAL,
            libc::EOPNOTSUPP,
            libc::ENOENT,
            libc::ENOSYS,
            libc::E2BIG,
            libc::ENOMEM,
        ] {
            let (meaning, command) = words(errno).expect("words");
            assert!(meaning.starts_with('E') && !command.is_empty(), "{meaning}");
        }
        assert_eq!(words(0), None);
        assert_eq!(words(libc::EINTR), None);
    }
}
