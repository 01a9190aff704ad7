use std::fs;

use super::*;
use tcpguard_support::hint_check;

/// A namespace with this value, and a state directory.
struct Host {
    root: tempfile::TempDir,
}

impl Host {
    fn with(value: &str) -> Self {
        let root = tempfile::tempdir().expect("temporary directory");
        fs::create_dir_all(root.path().join("sys/net/ipv4")).expect("directory");
        fs::create_dir_all(root.path().join("state")).expect("directory");
        let host = Self { root };
        fs::write(host.sysctl(), value).expect("the sysctl");
        host
    }

    fn sysctl(&self) -> PathBuf {
        self.root.path().join("sys/net/ipv4/tcp_syncookies")
    }

    fn file(&self) -> PathBuf {
        self.root.path().join("state").join(NAME)
    }

    fn set(&self, value: &str) {
        fs::write(self.sysctl(), value).expect("the sysctl");
    }

    fn value(&self) -> String {
        fs::read_to_string(self.sysctl()).expect("the sysctl").trim_end().to_owned()
    }

    /// An agent, or the command that systemd runs after one.
    fn agent(&self) -> SyncookiesLease {
        self.agent_of("this boot", 7)
    }

    fn agent_of(&self, boot: &str, netns: u64) -> SyncookiesLease {
        let sysctls = Sysctls::below(self.root.path().join("sys"));
        SyncookiesLease::at(sysctls, &self.root.path().join("state"), boot.to_owned(), netns)
    }

    /// Borrows it and is gone without another word.
    fn borrowed_by_one_that_was_killed(&self) {
        let mut agent = self.agent();
        agent.borrow().expect("borrowed");
        std::mem::forget(agent);
        assert_eq!(self.value(), "2");
    }
}

/// The value that a start restores from the file in `dir` where the sysctl is 2; otherwise it logs an
/// error.
pub(in crate::daemon) fn given_back(dir: &Path) -> Option<u64> {
    fs::create_dir_all(dir.join("sys/net/ipv4")).expect("directory");
    fs::write(dir.join("sys/net/ipv4/tcp_syncookies"), "2").expect("the sysctl");
    let netns = netns::cookie().expect("a namespace");
    let mut lease = SyncookiesLease::at(Sysctls::below(dir.join("sys")), dir, boot_id(), netns);
    match lease.give_back() {
        Ok(Returned::To(value)) => Some(value),
        Ok(_) => None,
        Err(error) => {
            log::error!("{error}");
            None
        }
    }
}

#[test]
fn others_can_see_what_it_was() {
    let host = Host::with("1\n");
    assert_eq!(host.agent().lent(), None);
    host.borrowed_by_one_that_was_killed();
    assert_eq!(host.agent().lent(), Some(1));
    assert_eq!(host.agent_of("this boot", 8).lent(), None, "another namespace");
    assert_eq!(host.agent_of("the next boot", 7).lent(), None, "another boot");
    seal::replace(&host.file(), 0o600, b"{").expect("the file");
    assert_eq!(host.agent().lent(), None);
}

#[test]
fn it_is_2_while_borrowed_and_as_before_afterwards() {
    let host = Host::with("1\n");
    let mut agent = host.agent();
    for _ in 0..2 {
        agent.borrow().expect("borrowed");
        agent.borrow().expect("borrowed already");
        assert!(agent.is_borrowed() && agent.check().expect("readable"));
        assert_eq!(host.value(), "2");
        assert_eq!(agent.give_back().expect("given back"), Returned::To(1));
        assert_eq!((host.value().as_str(), host.file().exists()), ("1", false));
        assert_eq!(agent.give_back().expect("nothing left to do"), Returned::Nothing);
    }
    agent.borrow().expect("borrowed");
    drop(agent);
    assert_eq!((host.value().as_str(), host.file().exists()), ("1", false));
}

#[test]
fn what_a_killed_agent_borrowed_is_given_back_by_the_next_one_or_by_systemd() {
    let host = Host::with("1");
    host.borrowed_by_one_that_was_killed();
    assert_eq!(host.agent().give_back().expect("given back"), Returned::To(1));
    assert_eq!((host.value().as_str(), host.file().exists()), ("1", false));
}

#[test]
fn an_agent_that_borrows_again_before_it_was_given_back_knows_the_first_value() {
    let host = Host::with("1");
    host.borrowed_by_one_that_was_killed();
    let mut next = host.agent();
    next.borrow().expect("borrowed");
    assert!(next.is_borrowed());
    assert_eq!(next.give_back().expect("given back"), Returned::To(1));
    assert_eq!(host.value(), "1");
}

/// The value is on the disk before it is changed: in between an agent can end too.
#[test]
fn one_that_ended_between_saving_and_changing_leaves_nothing_to_do() {
    let host = Host::with("1");
    host.borrowed_by_one_that_was_killed();
    host.set("1");
    assert_eq!(host.agent().give_back().expect("nothing to do"), Returned::Nothing);
    assert_eq!((host.value().as_str(), host.file().exists()), ("1", false));
}

#[test]
fn an_administrators_own_value_is_never_touched() {
    // Set before: it is the administrator's 2.
    let host = Host::with("2");
    let mut agent = host.agent();
    agent.borrow().expect("it is what is needed");
    assert!(!agent.is_borrowed() && !host.file().exists());
    assert_eq!(agent.give_back().expect("nothing to do"), Returned::Nothing);
    drop(agent);
    assert_eq!(host.value(), "2");
    // Changed while it was borrowed, and found by the agent that borrowed it.
    for changed in ["0", "1"] {
        let host = Host::with("1");
        let mut agent = host.agent();
        agent.borrow().expect("borrowed");
        host.set(changed);
        assert!(!agent.check().expect("readable"), "noticed");
        assert!(agent.check().expect("readable"), "reported once");
        assert!(!agent.is_borrowed() && !host.file().exists());
        drop(agent);
        assert_eq!(host.value(), changed);
    }
    // Changed, and found when it is to be given back, by whomever.
    let host = Host::with("1");
    host.borrowed_by_one_that_was_killed();
    host.set("0");
    assert_eq!(host.agent().give_back().expect("left"), Returned::LeftAt(0));
    assert_eq!((host.value().as_str(), host.file().exists()), ("0", false));
    let mut agent = host.agent();
    assert!(matches!(agent.borrow(), Err(LeaseError::Forbidden)));
    assert_eq!((host.value().as_str(), host.file().exists()), ("0", false));
}

#[test]
fn what_was_borrowed_before_the_boot_is_forgotten() {
    let host = Host::with("1");
    host.borrowed_by_one_that_was_killed();
    // The value that the administrator configured for every boot.
    host.set("2");
    let mut agent = host.agent_of("the next boot", 7);
    assert_eq!(agent.give_back().expect("nothing to do"), Returned::Nothing);
    assert_eq!(host.value(), "2");
    agent.borrow().expect("it is what is needed");
    assert!(!agent.is_borrowed());
}

#[test]
fn another_network_namespaces_value_is_left_to_its_agent() {
    let host = Host::with("1");
    host.borrowed_by_one_that_was_killed();
    let mut other = host.agent_of("this boot", 8);
    assert_eq!(other.give_back().expect("left"), Returned::Elsewhere);
    assert_eq!(host.value(), "2");
    let error = other.borrow().expect_err("one file for two");
    assert!(error.hint().contains("--state-dir"), "{error}");
    assert_eq!(host.agent().give_back().expect("given back"), Returned::To(1));
}

#[test]
fn a_file_that_cannot_be_understood_changes_nothing_and_is_named() {
    for broken in ["", "{", "{}", "[1]", "\u{0}\u{0}", &"x".repeat(5000)] {
        let host = Host::with("2");
        seal::replace(&host.file(), 0o600, broken.as_bytes()).expect("file");
        for result in [host.agent().give_back().map(drop), host.agent().borrow()] {
            let error = result.expect_err("the value is unknown");
            let hint = error.hint();
            assert!(hint.contains(NAME) && hint.contains("sysctl -w"), "{error}: {hint}");
        }
        assert_eq!((host.value().as_str(), host.file().exists()), ("2", true));
        // The way out that the message names.
        host.set("1");
        assert_eq!(host.agent().give_back().expect("nothing to do"), Returned::Nothing);
        assert!(!host.file().exists());
        seal::replace(&host.file(), 0o600, broken.as_bytes()).expect("file");
        let mut agent = host.agent();
        agent.borrow().expect("the value is known now");
        assert_eq!(agent.give_back().expect("given back"), Returned::To(1));
    }
    let host = Host::with("1");
    host.borrowed_by_one_that_was_killed();
    let sealed = fs::read_to_string(host.file()).expect("file");
    let (_, text) = sealed.split_once('\n').expect("the line of the seal");
    // Cookies would be forbidden for good.
    for (from, to, why) in [
        ("syncookies/1", "syncookies/2", "tcpguard.syncookies/2"),
        ("\"value\":1", "\"value\":0", "never borrowed"),
        ("\"value\":1", "\"value\":2", "never borrowed"),
    ] {
        assert!(text.contains(from), "{text}");
        let changed = text.replace(from, to);
        seal::replace(&host.file(), 0o600, changed.as_bytes()).expect("file");
        let error = host.agent().give_back().expect_err("not believed").to_string();
        assert!(error.contains(why), "{error}");
        fs::write(host.file(), sealed.replace(from, to)).expect("file");
        let error = host.agent().give_back().expect_err("not believed").to_string();
        assert!(error.contains("checksum"), "{error}");
        assert_eq!(host.value(), "2");
    }
    fs::write(host.file(), text).expect("file");
    let error = host.agent().give_back().expect_err("not sealed").to_string();
    assert!(error.contains("first line"), "{error}");
}

#[test]
fn nothing_is_changed_that_could_not_be_saved() {
    let host = Host::with("1");
    // A file where the directory should be: root is refused as well.
    fs::remove_dir(host.root.path().join("state")).expect("directory");
    fs::write(host.root.path().join("state"), "").expect("file");
    let mut agent = host.agent();
    assert!(matches!(agent.borrow(), Err(LeaseError::Store { .. })));
    assert!(!agent.is_borrowed());
    assert_eq!(host.value(), "1");
}

#[test]
fn a_sysctl_that_cannot_be_set_leaves_no_file() {
    let host = Host::with("1");
    fs::remove_file(host.sysctl()).expect("the sysctl");
    assert!(matches!(host.agent().borrow(), Err(LeaseError::Missing)));
    // A number that can be read and that not even root can write.
    std::os::unix::fs::symlink("/proc/sys/kernel/random/entropy_avail", host.sysctl())
        .expect("link");
    let mut agent = host.agent();
    let error = agent.borrow().expect_err("it is read-only").to_string();
    assert!(error.starts_with("cannot write "), "{error}");
    assert!(!host.file().exists() && !agent.is_borrowed());
}

#[test]
fn a_value_that_is_no_number_is_left_alone() {
    let host = Host::with("yes");
    assert!(matches!(host.agent().borrow(), Err(LeaseError::Host(_))));
    assert_eq!((host.value().as_str(), host.file().exists()), ("yes", false));
}

#[test]
fn what_cannot_be_given_back_now_is_given_back_later() {
    let host = Host::with("1");
    let mut agent = host.agent();
    agent.borrow().expect("borrowed");
    // As while /proc/sys is read-only or another mount hides it.
    let away = host.root.path().join("away");
    fs::rename(host.sysctl(), &away).expect("moved");
    assert!(matches!(agent.give_back(), Err(LeaseError::Missing)));
    assert!(agent.is_borrowed() && host.file().exists(), "still owed");
    fs::rename(&away, host.sysctl()).expect("moved back");
    assert_eq!(agent.give_back().expect("given back"), Returned::To(1));
    assert!(!agent.is_held() && !host.file().exists());
    assert_eq!(host.value(), "1");
}

#[test]
fn every_error_and_every_outcome_has_a_hint() {
    let path = || PathBuf::from("/var/lib/tcpguard").join(NAME);
    for error in [
        LeaseError::Missing,
        LeaseError::Forbidden,
        LeaseError::Elsewhere { path: path() },
        LeaseError::Unreadable { path: path(), reason: "it has 5000 bytes".to_owned() },
        LeaseError::Store { path: path(), error: io::Error::from_raw_os_error(libc::ENOSPC) },
        LeaseError::Host(linux::Error::NoSockDiag),
    ] {
        assert!(hint_check::is_named(&error.hint()), "{error}");
        // Every one there is stands above.
        match error {
            LeaseError::Missing
            | LeaseError::Forbidden
            | LeaseError::Elsewhere { .. }
            | LeaseError::Unreadable { .. }
            | LeaseError::Store { .. }
            | LeaseError::Host(_) => {}
        }
    }
    for returned in [Returned::Nothing, Returned::To(1), Returned::LeftAt(0), Returned::Elsewhere] {
        assert!(hint_check::is_named(&returned.to_string()), "{returned}");
        match returned {
            Returned::Nothing | Returned::To(_) | Returned::LeftAt(_) | Returned::Elsewhere => {}
        }
    }
}
