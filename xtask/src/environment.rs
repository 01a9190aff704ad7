//! Environment variables that a cargo that we start may see.
//!
//! `cargo xtask` runs inside a cargo, which describes itself and the xtask crate in variables
//! (`CARGO`, `CARGO_PKG_VERSION`, …), and rustup pins its choice in `RUSTUP_TOOLCHAIN`. None of
//! that is true of the cargo we start next, least of all when it belongs to another toolchain.

use std::process::Command;

use crate::workspace::Workspace;

/// User settings of cargo that say where to find and how to fetch things. They do not alter the
/// compiled code, so the BPF build keeps them. Every other `CARGO_*` and `RUST*` is dropped.
const FETCHING: [&str; 7] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
];

/// Variables that cargo sets for the program it runs.
const ABOUT_XTASK: [&str; 6] = [
    "CARGO_BIN_",
    "CARGO_CRATE_NAME",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PRIMARY_PACKAGE",
    "OUT_DIR",
];

/// Leaves `command` nothing that could alter the output of the BPF compiler.
pub fn isolate(command: &mut Command) {
    remove(command, |name| {
        (name.starts_with("CARGO") || name.starts_with("RUST"))
            && !FETCHING.iter().any(|prefix| name.starts_with(prefix))
    });
}

/// Takes the variables from `command` by which cargo described xtask, and leaves the user's
/// settings.
pub fn forget_xtask(command: &mut Command) {
    remove(command, |name| ABOUT_XTASK.iter().any(|prefix| name.starts_with(prefix)));
}

/// The cargo that runs us, for the workspace's own crates.
pub fn host_cargo(workspace: &Workspace) -> Command {
    let mut command = plain_cargo();
    in_workspace(&mut command, workspace);
    command
}

/// Lets a command, which is a cargo or runs one, build the workspace's own crates.
pub fn in_workspace(command: &mut Command, workspace: &Workspace) {
    forget_xtask(command);
    // The same in every verb: the crate that embeds the objects is rebuilt when this changes.
    command.current_dir(&workspace.root).env("TCPGUARD_BPF_DIR", workspace.bpf_objects());
}

/// The cargo that runs us, for questions about the workspace.
pub fn plain_cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    forget_xtask(&mut command);
    command
}

fn remove(command: &mut Command, unwanted: impl Fn(&str) -> bool) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(&unwanted) {
            command.env_remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Under `cargo test` the variables in question are really set.
    fn removed(strip: fn(&mut Command)) -> Vec<String> {
        let mut command = Command::new("true");
        strip(&mut command);
        command.get_envs().map(|(name, _)| name.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn the_bpf_build_sees_no_toolchain_choice_of_the_host() {
        let removed = removed(isolate);
        assert!(removed.contains(&"CARGO".to_owned()), "{removed:?}");
        assert!(removed.contains(&"CARGO_PKG_VERSION".to_owned()), "{removed:?}");
        assert!(!removed.contains(&"PATH".to_owned()));
        assert!(!removed.contains(&"CARGO_HOME".to_owned()));
    }

    #[test]
    fn the_host_build_keeps_the_toolchain_and_loses_what_describes_xtask() {
        let removed = removed(forget_xtask);
        assert!(removed.contains(&"CARGO_MANIFEST_DIR".to_owned()), "{removed:?}");
        assert!(!removed.contains(&"CARGO".to_owned()));
        assert!(!removed.contains(&"RUSTUP_TOOLCHAIN".to_owned()));
    }
}
