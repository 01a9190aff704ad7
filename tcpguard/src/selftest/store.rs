//! Keeps a result until something changes that it depends on.

use std::io;
use std::path::Path;

use tcpguard_host::durable::seal;

use crate::documents::selftest::{Host, SCHEMA, SelfTest};

const NAME: &str = "selftest.json";
/// Longer than any result.
const MAX_BYTES: u64 = 1 << 20;

/// The result in `state_dir`, if it is of this host. A file that cannot be read or understood counts as
/// none, with one line in the log: a new result costs two seconds.
pub fn load(state_dir: &Path, host: &Host) -> Option<SelfTest> {
    let path = state_dir.join(NAME);
    match seal::document(&path, MAX_BYTES, SCHEMA) {
        Ok(selftest) => Some(selftest).filter(|selftest: &SelfTest| selftest.host == *host),
        Err(damage) => {
            if let Some(why) = damage.reason() {
                let path = path.display();
                log::warn!(
                    "self-test result unusable: {path}: {why}. Make a new one: tcpguard doctor --selftest"
                );
            }
            None
        }
    }
}

/// Returns whether a result in `state_dir` could be seen, if there is one: not by everybody.
pub fn may_be_seen(state_dir: &Path) -> bool {
    let opened = std::fs::File::open(state_dir.join(NAME));
    !matches!(opened, Err(error) if error.kind() == io::ErrorKind::PermissionDenied)
}

/// Keeps a result in `state_dir`, for any user that may read the directory. One that lacks something
/// for want of time is not kept: a host that is too busy now may be fast enough later.
///
/// # Errors
/// When the directory cannot be written to, or for want of time.
pub fn store(state_dir: &Path, selftest: &SelfTest) -> io::Result<()> {
    if !selftest.is_complete() {
        return Err(io::Error::other("the host was too slow to try everything"));
    }
    seal::store(&state_dir.join(NAME), 0o644, SCHEMA, selftest)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::documents::selftest::NO_TIME;
    use crate::documents::selftest::tests::selftest;

    #[test]
    fn a_result_is_kept_for_the_host_that_it_is_of() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let selftest = selftest();
        assert_eq!(load(dir.path(), &selftest.host), None);
        store(dir.path(), &selftest).expect("stored");
        assert_eq!(load(dir.path(), &selftest.host).as_ref(), Some(&selftest));
        let mut changed = [selftest.host.clone(), selftest.host.clone(), selftest.host.clone()];
        changed[0].kernel.push_str("-1");
        changed[1].objects.clear();
        changed[2].sysctls.insert("net.ipv4.tcp_syncookies".to_owned(), "2".to_owned());
        for host in &changed {
            assert_eq!(load(dir.path(), host), None, "{host:?}");
        }
    }

    #[test]
    fn what_a_slow_host_did_not_try_is_not_kept() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut selftest = selftest();
        selftest.results[1].reason = Some(NO_TIME.to_owned());
        assert!(store(dir.path(), &selftest).is_err());
        assert_eq!(load(dir.path(), &selftest.host), None);
    }

    #[test]
    fn what_cannot_be_understood_is_no_result() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let selftest = selftest();
        let path = dir.path().join(NAME);
        store(dir.path(), &selftest).expect("stored");
        let text = seal::read(&path, MAX_BYTES).expect("a file");
        let text = String::from_utf8(text).expect("UTF-8");
        let foreign = text.replace(SCHEMA, "tcpguard.probe/2");
        for broken in ["", "{", "[]", "null", &text[..text.len() / 2], &foreign] {
            seal::replace(&path, 0o644, broken.as_bytes()).expect("file");
            assert_eq!(load(dir.path(), &selftest.host), None, "{broken}");
        }
        fs::write(&path, vec![b' '; MAX_BYTES as usize + 1]).expect("file");
        assert_eq!(load(dir.path(), &selftest.host), None);
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("directory");
        assert_eq!(load(dir.path(), &selftest.host), None);
        // A field that is added within this version is no obstacle.
        fs::remove_dir(&path).expect("removed");
        let more = text.replacen('{', "{\"more\":1,", 1);
        seal::replace(&path, 0o644, more.as_bytes()).expect("file");
        assert_eq!(load(dir.path(), &selftest.host), Some(selftest));
    }
}
