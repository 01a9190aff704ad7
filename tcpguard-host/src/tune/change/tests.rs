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

    fn apply(&self, wanted: &[(&str, &str)]) -> Changed {
        self.tuner().apply(&wants(wanted)).expect("applied")
    }

    fn undo(&self) -> Changed {
        self.tuner().undo().expect("taken back")
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
    let changed = host.apply(&[(SOMAXCONN, "4096"), (PORTS, "10240 65535")]);
    assert_eq!(outcomes(&changed), [(SOMAXCONN, Outcome::Changed), (PORTS, Outcome::Changed)]);
    assert_eq!((host.value(SOMAXCONN), host.value(PORTS)), ("4096".into(), "10240 65535".into()));
    let undone = host.undo();
    assert_eq!(outcomes(&undone), [(SOMAXCONN, Outcome::Changed), (PORTS, Outcome::Changed)]);
    assert_eq!((host.value(SOMAXCONN), host.value(PORTS)), ("128".into(), "32768\t60999".into()));
    assert!(!host.path(RECORD).exists());
    assert_eq!(host.undo().changes, [], "once is enough");
}

#[test]
fn two_changes_in_a_row_revert_to_the_first_value() {
    let host = Fixture::new();
    host.apply(&[(SOMAXCONN, "4096")]);
    host.apply(&[(SOMAXCONN, "8192"), (RETRIES, "3")]);
    host.set(RETRIES, "4");
    let applied = host.tuner().applied().expect("readable");
    let found: Vec<(&str, &str, &str)> =
        applied.iter().map(|entry| (&*entry.name, &*entry.before, &*entry.after)).collect();
    assert_eq!(found, [(SOMAXCONN, "128", "8192")], "the other is somebody else's");
    assert_eq!(
        file(&applied),
        "# Written by `tcpguard tune --sysctl`.\n\n# a test\nnet.core.somaxconn = 8192\n"
    );
    host.set(RETRIES, "3");
    host.undo();
    assert_eq!((host.value(SOMAXCONN), host.value(RETRIES)), ("128".into(), "5".into()));
}

#[test]
fn a_value_that_an_administrator_changed_since_stays() {
    let host = Fixture::new();
    host.apply(&[(SOMAXCONN, "4096"), (RETRIES, "3")]);
    host.set(SOMAXCONN, "9999");
    let undone = host.undo();
    assert_eq!(outcomes(&undone), [(SOMAXCONN, Outcome::LeftAlone), (RETRIES, Outcome::Changed)]);
    assert_eq!((host.value(SOMAXCONN), host.value(RETRIES)), ("9999".into(), "5".into()));

    // After another change, the administrator's value is the one that is restored.
    host.apply(&[(SOMAXCONN, "4096")]);
    host.set(SOMAXCONN, "1111");
    host.apply(&[(SOMAXCONN, "4096")]);
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
    let changed = host.apply(&[(RETRIES, "3"), (SOMAXCONN, "4096")]);
    assert_eq!(outcomes(&changed), [(RETRIES, Outcome::Failed), (SOMAXCONN, Outcome::Changed)]);
    assert!(changed.changes[0].note.is_some(), "{changed:?}");
    host.undo();
    assert_eq!(host.value(SOMAXCONN), "128");

    // The kernel takes it, and makes something else of it: a name of at most 15 characters.
    fs::remove_file(&retries).expect("link");
    std::os::unix::fs::symlink("/proc/thread-self/comm", &retries).expect("link");
    let changed = host.apply(&[(RETRIES, "12345678901234567890")]);
    assert_eq!(outcomes(&changed), [(RETRIES, Outcome::Failed)]);
    let note = changed.changes[0].note.as_deref().expect("a note");
    assert!(note.contains("set it to 123456789012345"), "{note}");
}

#[test]
fn what_this_kernel_does_not_have_is_not_set() {
    let host = Fixture::new();
    let changed = host.apply(&[("net.ipv4.tcp_tw_recycle", "0")]);
    assert_eq!(changed.changes, []);
    assert!(!host.path(RECORD).exists());
}

#[test]
fn a_damaged_record_is_refused_before_anything_is_changed() {
    let wanted = wants(&[(SOMAXCONN, "4096")]);
    for record in ["", "{", "null", r#"{"schema":"other/1","netns":7,"entries":[]}"#] {
        let host = Fixture::new();
        seal::replace(&host.path(RECORD), 0o600, record.as_bytes()).expect("file");
        let error = host.tuner().apply(&wanted).expect_err("damaged");
        assert!(matches!(error, ChangeError::Unreadable { .. }), "{record}: {error}");
        assert!(host.tuner().undo().is_err());
        assert_eq!(host.value(SOMAXCONN), "128", "{record}");
    }
    let host = Fixture::new();
    host.apply(&[(SOMAXCONN, "4096")]);
    let elsewhere = Tuner::at(host.sysctls(), host.root.path(), NETNS + 1);
    assert!(matches!(elsewhere.undo(), Err(ChangeError::Elsewhere { .. })));
    assert_eq!(host.value(SOMAXCONN), "4096");
}

#[test]
fn every_error_has_a_hint() {
    let path = PathBuf::from("/run/tcpguard-tune.json");
    let full = io::Error::from_raw_os_error(libc::ENOSPC);
    for (error, next) in [
        (ChangeError::Denied { path: path.clone() }, "use sudo"),
        (ChangeError::Store { path: path.clone(), error: full }, "ls -ld /run/"),
        (ChangeError::Elsewhere { path: path.clone() }, "tcpguard tune --undo"),
        (ChangeError::Unreadable { path, reason: "odd".to_owned() }, "rm /run/"),
        (ChangeError::Host(linux::Error::NoSockDiag), "modprobe"),
    ] {
        let hint = error.hint();
        assert!(hint.contains(next) && hint_check::is_named(&hint), "{error}: {hint}");
        // Every one there is stands above.
        match error {
            ChangeError::Denied { .. }
            | ChangeError::Store { .. }
            | ChangeError::Unreadable { .. }
            | ChangeError::Elsewhere { .. }
            | ChangeError::Host(_) => {}
        }
    }
}
