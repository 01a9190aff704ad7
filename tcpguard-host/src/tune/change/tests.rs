use std::fs;

use super::*;
use tcpguard_support::hint_check;

const NETNS: u64 = 7;
const SOMAXCONN: &str = "net.core.somaxconn";
const RETRIES: &str = "net.ipv4.tcp_synack_retries";
const PORTS: &str = "net.ipv4.ip_local_port_range";

/// A host with its files below a temporary directory.
struct Fixture {
    root: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self { root: tempfile::tempdir().expect("temporary directory") };
        fixture.set(SOMAXCONN, "128\n");
        fixture.set(RETRIES, "5\n");
        fixture.set(PORTS, "32768\t60999\n");
        fs::create_dir_all(fixture.path("run")).expect("directory");
        fs::create_dir_all(fixture.path("etc/sysctl.d")).expect("directory");
        fixture
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn sysctls(&self) -> Sysctls {
        Sysctls::below(self.path("proc/sys"))
    }

    fn set(&self, name: &str, value: &str) {
        let path = self.sysctls().path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
        fs::write(path, value).expect("sysctl");
    }

    fn value(&self, name: &str) -> String {
        self.sysctls().read(name).expect("readable").expect("there")
    }

    fn tuner(&self) -> Tuner {
        Tuner::at(self.sysctls(), self.root.path(), NETNS)
    }

    fn apply(&self, wanted: &[(&str, &str)], persist: bool) -> Changed {
        self.tuner().apply(&wants(wanted), persist).expect("applied")
    }

    fn undo(&self) -> Changed {
        self.tuner().undo().expect("taken back")
    }

    fn file(&self) -> Option<String> {
        fs::read_to_string(self.path(FILE)).ok()
    }
}

fn wants(wanted: &[(&str, &str)]) -> Vec<Entry> {
    let wanted = wanted.iter().map(|(name, to)| Entry {
        name: (*name).to_owned(),
        before: String::new(),
        after: (*to).to_owned(),
        why: "a test".to_owned(),
    });
    wanted.collect()
}

fn outcomes(changed: &Changed) -> Vec<(&str, Outcome)> {
    changed.changes.iter().map(|change| (change.name.as_str(), change.outcome)).collect()
}

#[test]
fn an_applied_change_is_reverted() {
    let host = Fixture::new();
    let changed = host.apply(&[(SOMAXCONN, "4096"), (PORTS, "10240 65535")], false);
    assert_eq!(outcomes(&changed), [(SOMAXCONN, Outcome::Changed), (PORTS, Outcome::Changed)]);
    assert_eq!((host.value(SOMAXCONN), host.value(PORTS)), ("4096".into(), "10240 65535".into()));
    assert_eq!(host.file(), None, "nothing outlives a boot");
    let undone = host.undo();
    assert_eq!(outcomes(&undone), [(SOMAXCONN, Outcome::Changed), (PORTS, Outcome::Changed)]);
    assert_eq!((host.value(SOMAXCONN), host.value(PORTS)), ("128".into(), "32768\t60999".into()));
    assert!(!host.path(RECORD).exists());
    assert_eq!(host.undo().changes, [], "once is enough");
}

#[test]
fn the_file_of_sysctl_d_has_the_old_values_and_goes_with_them() {
    let host = Fixture::new();
    let changed = host.apply(&[(SOMAXCONN, "4096")], true);
    assert_eq!(changed.file, Some(host.path(FILE).display().to_string()));
    let text = host.file().expect("a file");
    assert!(
        text.contains("#before net.core.somaxconn = 128\nnet.core.somaxconn = 4096\n"),
        "{text}"
    );
    let undone = host.undo();
    assert_eq!(outcomes(&undone), [(SOMAXCONN, Outcome::Changed)], "reported once");
    assert_eq!((host.value(SOMAXCONN), host.file()), ("128".into(), None));
    assert_eq!(undone.file, Some(host.path(FILE).display().to_string()));
}

#[test]
fn what_was_set_until_the_next_boot_can_be_kept_for_good_afterwards() {
    let host = Fixture::new();
    host.apply(&[(SOMAXCONN, "4096"), (RETRIES, "3")], false);
    host.set(RETRIES, "4");
    // Nothing is advised now.
    let kept = host.apply(&[], true);
    assert_eq!(outcomes(&kept), [(SOMAXCONN, Outcome::Unchanged)], "the other is somebody else's");
    let text = host.file().expect("a file");
    assert!(
        text.contains("#before net.core.somaxconn = 128\nnet.core.somaxconn = 4096\n"),
        "{text}"
    );
    assert_eq!(kept.file, Some(host.path(FILE).display().to_string()));
    assert_eq!(host.apply(&[], true).changes, [], "once is enough");
    host.undo();
    assert_eq!((host.value(SOMAXCONN), host.file()), ("128".into(), None));
}

#[test]
fn a_file_that_cannot_be_written_leaves_every_sysctl_as_it_was() {
    let host = Fixture::new();
    // Where it is written to first.
    fs::create_dir(host.path(&format!("{FILE}.new"))).expect("directory");
    let error = host.tuner().apply(&wants(&[(SOMAXCONN, "4096")]), true).expect_err("in the way");
    assert!(matches!(error, ChangeError::Store { .. }), "{error}");
    assert_eq!((host.value(SOMAXCONN), host.file()), ("128".into(), None));
}

#[test]
fn a_change_that_outlived_a_boot_is_reverted_from_the_file() {
    let host = Fixture::new();
    host.apply(&[(SOMAXCONN, "4096")], true);
    // The boot clears /run and takes the value from the file.
    fs::remove_file(host.path(RECORD)).expect("the record");
    // A second advice, on top of it.
    host.apply(&[(SOMAXCONN, "8192"), (RETRIES, "3")], false);
    let undone = host.undo();
    assert_eq!((host.value(SOMAXCONN), host.value(RETRIES)), ("128".into(), "5".into()));
    assert_eq!((undone.changes[0].before.as_str(), undone.changes[0].to.as_str()), ("8192", "128"));
    assert_eq!(host.file(), None);
}

#[test]
fn two_changes_in_a_row_revert_to_the_first_value() {
    let host = Fixture::new();
    host.apply(&[(SOMAXCONN, "4096")], true);
    host.apply(&[(SOMAXCONN, "8192"), (RETRIES, "3")], true);
    let text = host.file().expect("a file");
    assert!(text.contains("#before net.core.somaxconn = 128\nnet.core.somaxconn = 8192"), "{text}");
    host.undo();
    assert_eq!((host.value(SOMAXCONN), host.value(RETRIES)), ("128".into(), "5".into()));
}

#[test]
fn a_value_that_an_administrator_changed_since_stays() {
    let host = Fixture::new();
    host.apply(&[(SOMAXCONN, "4096"), (RETRIES, "3")], false);
    host.set(SOMAXCONN, "9999");
    let undone = host.undo();
    assert_eq!(outcomes(&undone), [(SOMAXCONN, Outcome::LeftAlone), (RETRIES, Outcome::Changed)]);
    assert_eq!((host.value(SOMAXCONN), host.value(RETRIES)), ("9999".into(), "5".into()));

    // After another change, the administrator's value is the one that is restored.
    host.apply(&[(SOMAXCONN, "4096")], false);
    host.set(SOMAXCONN, "1111");
    host.apply(&[(SOMAXCONN, "4096")], false);
    host.undo();
    assert_eq!(host.value(SOMAXCONN), "1111");
}

/// The state after `kill -9` at each moment of an `--apply`: the record is there, and some values are set.
#[test]
fn whatever_ends_an_apply_it_can_be_reverted() {
    for set in [&[][..], &[(SOMAXCONN, "4096")], &[(SOMAXCONN, "4096"), (RETRIES, "3")]] {
        let host = Fixture::new();
        let entry = |name: &str, before: &str, after: &str| Entry {
            name: name.to_owned(),
            before: before.to_owned(),
            after: after.to_owned(),
            why: String::new(),
        };
        let entries = [entry(SOMAXCONN, "128", "4096"), entry(RETRIES, "5", "3")];
        host.tuner().write_record(&entries).expect("the record");
        for (name, value) in set {
            host.set(name, value);
        }
        host.undo();
        assert_eq!((host.value(SOMAXCONN), host.value(RETRIES)), ("128".into(), "5".into()));
        assert!(!host.path(RECORD).exists());
    }
}

#[test]
fn a_value_that_the_kernel_refuses_is_reported_and_the_rest_is_done() {
    let host = Fixture::new();
    let retries = host.sysctls().path(RETRIES);
    fs::remove_file(&retries).expect("sysctl");
    // Can be read, and not written even by root.
    std::os::unix::fs::symlink("/proc/version", &retries).expect("link");
    let changed = host.apply(&[(RETRIES, "3"), (SOMAXCONN, "4096")], false);
    assert_eq!(outcomes(&changed), [(RETRIES, Outcome::Failed), (SOMAXCONN, Outcome::Changed)]);
    assert!(changed.changes[0].note.is_some(), "{changed:?}");
    host.undo();
    assert_eq!(host.value(SOMAXCONN), "128");

    // The kernel takes it, and makes something else of it: a name of at most 15 characters.
    fs::remove_file(&retries).expect("link");
    std::os::unix::fs::symlink("/proc/thread-self/comm", &retries).expect("link");
    let changed = host.apply(&[(RETRIES, "12345678901234567890")], false);
    assert_eq!(outcomes(&changed), [(RETRIES, Outcome::Failed)]);
    let note = changed.changes[0].note.as_deref().expect("a note");
    assert!(note.contains("set it to 123456789012345"), "{note}");
}

#[test]
fn what_this_kernel_does_not_have_is_not_set() {
    let host = Fixture::new();
    let changed = host.apply(&[("net.ipv4.tcp_tw_recycle", "0")], true);
    assert_eq!((changed.changes, changed.file, host.file()), (vec![], None, None));
    assert!(!host.path(RECORD).exists());
}

#[test]
fn a_later_file_that_sets_it_again_is_named() {
    let host = Fixture::new();
    let later = host.path("etc/sysctl.d/99-site.conf");
    fs::write(&later, "# site\nnet.core.somaxconn = 256\n").expect("file");
    fs::write(host.path("etc/sysctl.d/10-early.conf"), "net.ipv4.tcp_synack_retries = 2\n")
        .expect("file");
    let changed = host.apply(&[(SOMAXCONN, "4096"), (RETRIES, "3")], true);
    let note = changed.changes[0].note.as_deref().expect("a note");
    assert!(note.starts_with(&format!("{}:2 ", later.display())), "{note}");
    assert_eq!(changed.changes[1].note, None, "an earlier file does not win");
}

#[test]
fn damaged_or_foreign_files_are_refused_before_anything_is_changed() {
    let wanted = wants(&[(SOMAXCONN, "4096")]);
    for record in ["", "{", "null", r#"{"schema":"other/1","netns":7,"entries":[]}"#] {
        let host = Fixture::new();
        seal::replace(&host.path(RECORD), 0o600, record.as_bytes()).expect("file");
        for persist in [false, true] {
            let error = host.tuner().apply(&wanted, persist).expect_err("damaged");
            assert!(matches!(error, ChangeError::Unreadable { .. }), "{record}: {error}");
        }
        assert!(host.tuner().undo().is_err());
        assert_eq!(host.value(SOMAXCONN), "128", "{record}");
    }
    let host = Fixture::new();
    fs::write(host.path(FILE), "net.ipv4.tcp_sack = 1\n").expect("file");
    let error = host.tuner().apply(&wanted, true).expect_err("foreign");
    assert!(matches!(error, ChangeError::Foreign { line: 1, .. }), "{error}");
    assert!(host.tuner().undo().is_err());
    assert_eq!(host.value(SOMAXCONN), "128");
    assert!(host.file().is_some(), "it is not ours to remove");

    let host = Fixture::new();
    host.apply(&[(SOMAXCONN, "4096")], false);
    let elsewhere = Tuner::at(host.sysctls(), host.root.path(), NETNS + 1);
    assert!(matches!(elsewhere.undo(), Err(ChangeError::Elsewhere { .. })));
    assert_eq!(host.value(SOMAXCONN), "4096");
}

#[test]
fn every_error_has_a_hint() {
    let path = PathBuf::from("/etc/sysctl.d/90-tcpguard.conf");
    let full = io::Error::from_raw_os_error(libc::ENOSPC);
    for (error, next) in [
        (ChangeError::Denied { path: path.clone() }, "use sudo"),
        (ChangeError::Store { path: path.clone(), error: full }, "ls -ld /etc/"),
        (ChangeError::Foreign { path: path.clone(), line: 3 }, "/etc/sysctl.d"),
        (ChangeError::Elsewhere { path: path.clone() }, "tcpguard tune --undo"),
        (ChangeError::Unreadable { path, reason: "odd".to_owned() }, "rm /etc/"),
        (ChangeError::Host(linux::Error::NoSockDiag), "modprobe"),
    ] {
        let hint = error.hint();
        assert!(hint.contains(next) && hint_check::is_named(&hint), "{error}: {hint}");
        // Every one there is stands above.
        match error {
            ChangeError::Denied { .. }
            | ChangeError::Store { .. }
            | ChangeError::Unreadable { .. }
            | ChangeError::Foreign { .. }
            | ChangeError::Elsewhere { .. }
            | ChangeError::Host(_) => {}
        }
    }
}
