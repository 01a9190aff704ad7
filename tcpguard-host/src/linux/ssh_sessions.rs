//! The clients of sshd that have logged in, as far as that is known without rights over sshd's processes.
//!
//! Any host can connect to sshd and hold the connection. sshd closes one on which no user logs in within `LoginGraceTime`,
//! 120 s by default (sshd_config(5)). So a connection counts that is older and has carried data both ways. The kernel
//! does not say how old a connection is: its age counts from when the agent first saw it.
//!
//! systemd-logind knows the sessions that sshd opens after a login, with the address of the client. A client of such a
//! session counts at once, also if the agent has just started. (Nothing else says so everywhere: utmp has no sessions
//! without a terminal and is not written by every distribution, and the socket's owner is root before and after.)

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use tcpguard_engine::Timestamp;

use super::sock_diag::Incoming;

/// Age of a connection to sshd on which a user has logged in: the default of `LoginGraceTime`, and time for sshd to
/// close the others.
const LOGIN: Duration = Duration::from_secs(130);
/// Bytes that either end has sent by then: the lists of algorithms (RFC 4253 §7.1) alone are as long.
const TALKED: u64 = 512;
/// The sessions of systemd-logind, a file each, in which sd-login(3) looks.
pub(super) const LOGIND: &str = "/run/systemd/sessions";

/// The connections to sshd, and the times at which they were first seen.
#[derive(Clone, Debug, Default)]
pub(super) struct SshSessions {
    seen: BTreeMap<[u8; 8], Timestamp>,
}

impl SshSessions {
    /// The addresses from which a user has logged in and is connected now. `logged_in`: those of [`logged_in`].
    pub fn clients(
        &mut self,
        now: Timestamp,
        connections: &[Incoming],
        logged_in: &BTreeSet<IpAddr>,
    ) -> BTreeSet<IpAddr> {
        let before = std::mem::take(&mut self.seen);
        let since = |cookie| before.get(cookie).copied().unwrap_or(now);
        self.seen = connections.iter().map(|one| (one.cookie, since(&one.cookie))).collect();
        let is_in = |one: &&Incoming| {
            let talked = one.sent.min(one.received) >= TALKED;
            logged_in.contains(&one.client) || talked && now.since(self.seen[&one.cookie]) >= LOGIN
        };
        connections.iter().filter(is_in).map(|one| one.client).collect()
    }
}

/// The clients of the sessions that sshd opened, by the files of systemd-logind in a directory. None without it.
pub(super) fn logged_in(sessions: &Path) -> BTreeSet<IpAddr> {
    let files = std::fs::read_dir(sessions).into_iter().flatten().flatten();
    // Beside each there is a FIFO, at which a reader would wait.
    let files = files.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let texts = files.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    texts.filter_map(|text| remote_host(&text)).collect()
}

/// The client of a session that sshd opened.
fn remote_host(session: &str) -> Option<IpAddr> {
    let value = |name| session.lines().find_map(|line| line.strip_prefix(name));
    if value("SERVICE=")? != "sshd" {
        return None;
    }
    let host = value("REMOTE_HOST=")?.split('%').next()?;
    host.parse::<IpAddr>().ok().map(|host| host.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_000 * seconds)
    }

    fn connection(last: u8, bytes: [u64; 2]) -> Incoming {
        let [sent, received] = bytes;
        Incoming { client: IpAddr::from([192, 0, 2, last]), cookie: [last; 8], sent, received }
    }

    fn ends(addresses: &BTreeSet<IpAddr>) -> Vec<String> {
        addresses.iter().map(|address| address.to_string()).collect()
    }

    /// A connect() is none, and neither is one that never speaks nor one that is always new.
    #[test]
    fn a_client_of_sshd_counts_once_its_session_is_older_than_a_login_takes() {
        let mut sessions = SshSessions::default();
        let none = BTreeSet::new();
        for second in 0..130 {
            let again = Incoming { cookie: [second as u8; 8], ..connection(3, [9_000, 9_000]) };
            let all = [connection(1, [9_000, 3_000]), connection(2, [41, 0]), again];
            assert!(sessions.clients(at(second), &all, &none).is_empty(), "{second}");
        }
        let all = [connection(1, [9_000, 3_000]), connection(2, [41, 0])];
        assert_eq!(ends(&sessions.clients(at(130), &all, &none)), ["192.0.2.1"]);
        assert!(sessions.clients(at(131), &all[1..], &none).is_empty(), "it is gone");
        assert_eq!(sessions.seen.len(), 1, "and forgotten");
    }

    /// The agent has just started, and an administrator has logged in before.
    #[test]
    fn a_client_whose_session_logind_knows_counts_at_once_while_it_is_connected() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let session = |name: &str, service: &str, host: &str| {
            let text = format!(
                "# This is private data. Do not parse.\nUID=1000\nUSER=ops\nACTIVE=1\nREMOTE=1\n\
                 TYPE=tty\nREMOTE_HOST={host}\nSERVICE={service}\nLEADER=812\n"
            );
            std::fs::write(directory.path().join(name), text).expect("written");
        };
        session("3", "sshd", "192.0.2.7");
        session("4", "sshd", "::ffff:192.0.2.8");
        session("5", "sshd", "office.example.org");
        session("6", "cockpit", "192.0.2.9");
        let logged_in = logged_in(directory.path());
        assert_eq!(ends(&logged_in), ["192.0.2.7", "192.0.2.8"]);
        let all = [connection(7, [0, 0]), connection(9, [0, 0])];
        let clients = SshSessions::default().clients(at(9), &all, &logged_in);
        assert_eq!(ends(&clients), ["192.0.2.7"]);
        assert!(super::logged_in(&directory.path().join("none")).is_empty());
    }
}
