//! Containers: how they are recognised, and the changes to their start that tcpguard may need.

use std::env;
use std::path::Path;

use super::capabilities::{self, SYS_ADMIN};

/// The step that gives a container the host's BPF file system.
pub const MOUNT_BPFFS: &str = "edit how the container is started: add --volume=/sys/fs/bpf:/sys/fs/bpf \
                               (Kubernetes: a hostPath volume)";
/// The step that shows a container the host's security file system.
pub const MOUNT_SECURITYFS: &str =
    "edit how the container is started: add --volume=/sys/kernel/security:/sys/kernel/security:ro";
/// The step that permits bpf(2) in a container that has the capabilities.
pub const ALLOW_BPF: &str = "edit how the container is started: add --security-opt=seccomp=unconfined \
                             (Kubernetes: seccompProfile Unconfined)";

/// The step that gives a container these capabilities.
pub fn add_capabilities(missing: &[&str]) -> String {
    format!("edit how the container is started: add {}", missing.join(", "))
}

/// Returns whether this process runs in a container that confines it, as far as can be seen. With CAP_SYS_ADMIN it can
/// mount file systems, and the default seccomp profiles permit bpf(2).
pub fn is_container() -> bool {
    let is_pod = env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let is_root = rustix::process::geteuid().is_root();
    let effective = capabilities::effective().unwrap_or(u64::MAX);
    effective & SYS_ADMIN == 0 && (is_root || is_pod || has_sign(Path::new("/")))
}

/// Returns whether the file system below `root` has the file that Podman or Docker creates in a container.
fn has_sign(root: &Path) -> bool {
    ["run/.containerenv", ".dockerenv"].iter().any(|sign| root.join(sign).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podman_and_docker_leave_a_file() {
        for (file, expected) in
            [("run/.containerenv", true), (".dockerenv", true), ("run/other", false)]
        {
            let root = tempfile::tempdir().expect("temporary directory");
            std::fs::create_dir(root.path().join("run")).expect("directory");
            std::fs::write(root.path().join(file), "").expect("file");
            assert_eq!(has_sign(root.path()), expected, "{file}");
        }
    }
}
