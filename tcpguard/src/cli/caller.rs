//! Address from which the caller is logged in.

use std::net::IpAddr;

/// Most parents looked at: shell, sudo, sudo's monitor, tmux, …
const MAX_PARENTS: usize = 16;

/// The address from which the caller is logged in over SSH.
///
/// sudo removes `SSH_CONNECTION`, so the environments of the parents are searched too, as far as
/// they can be read.
pub(super) fn ssh_peer() -> Option<IpAddr> {
    if let Ok(connection) = std::env::var("SSH_CONNECTION") {
        return client(&connection);
    }
    let mut pid = std::os::unix::process::parent_id();
    for _ in 0..MAX_PARENTS {
        if pid <= 1 {
            return None;
        }
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if let Some(peer) = in_environment(&environment) {
            return Some(peer);
        }
        pid = parent(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    }
    None
}

fn in_environment(environment: &[u8]) -> Option<IpAddr> {
    let value = environment
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(b"SSH_CONNECTION="))?;
    client(std::str::from_utf8(value).ok()?)
}

/// Returns the first of "client address, client port, server address, server port"; a link-local address
/// carries its interface.
fn client(connection: &str) -> Option<IpAddr> {
    let address = connection.split(' ').next()?;
    let address = address.split_once('%').map_or(address, |(address, _interface)| address);
    address.parse().ok().map(|address: IpAddr| address.to_canonical())
}

/// The parent in a line of `/proc/PID/stat`: the second field after the command, which is in
/// parentheses and may contain anything.
fn parent(stat: &str) -> Option<u32> {
    let (_, after_command) = stat.rsplit_once(") ")?;
    after_command.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_is_the_first_address() {
        for (connection, expected) in [
            ("203.0.113.5 50022 192.0.2.1 22", Some("203.0.113.5")),
            ("fe80::1%eth0 50022 fe80::2%eth0 22", Some("fe80::1")),
            ("::ffff:203.0.113.5 1 ::1 22", Some("203.0.113.5")),
            ("", None),
            ("elsewhere 1 2 3", None),
        ] {
            assert_eq!(client(connection).map(|peer| peer.to_string()).as_deref(), expected);
        }
    }

    #[test]
    fn the_peer_is_found_in_the_environment_of_a_parent() {
        let environment = b"HOME=/root\0SSH_CONNECTION=2001:db8::7 1 2001:db8::1 22\0X=1\0";
        assert_eq!(in_environment(environment), "2001:db8::7".parse().ok());
        assert_eq!(in_environment(b"XSSH_CONNECTION=203.0.113.5 1 2 3\0"), None);
    }

    #[test]
    fn a_command_name_cannot_hide_the_parent() {
        assert_eq!(parent("77 (a) R 1 (b) S 42 77 77 0"), Some(42));
        assert_eq!(parent("77 (bash"), None);
    }
}
