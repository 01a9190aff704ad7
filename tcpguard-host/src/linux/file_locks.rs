//! Owners of locks of whole files (flock(2)), from `/proc/locks`. Nothing is locked to find them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Inode of the initial PID namespace (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_PIDS: u64 = 0xefff_fffc;

/// The process that holds the lock of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LockOwner {
    /// Id of the process that took it.
    Process(u32),
    Nobody,
    /// Not known. In a PID namespace of a container, the kernel lists the locks of that namespace's processes alone.
    Unknown,
}

/// The owner of the lock of this file or directory.
pub fn lock_owner(path: &Path) -> LockOwner {
    let (Ok(file), Ok(locks)) = (fs::metadata(path), fs::read_to_string("/proc/locks")) else {
        return LockOwner::Unknown;
    };
    let sees_all = fs::metadata("/proc/self/ns/pid").is_ok_and(|own| own.ino() == INITIAL_PIDS);
    match owner(&locks, file.dev(), file.ino()) {
        Some(pid) => LockOwner::Process(pid),
        None if sees_all => LockOwner::Nobody,
        None => LockOwner::Unknown,
    }
}

/// The process with a lock of the file with this inode on this device, in lines such as
/// `1: FLOCK  ADVISORY  WRITE 812 00:1f:4711 0 EOF`. A lock that is waited for has an arrow behind its number.
fn owner(locks: &str, device: u64, inode: u64) -> Option<u32> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let wanted = format!("{major:02x}:{minor:02x}:{inode}");
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (kind, _mode, _access) = (words.next()?, words.next()?, words.next()?);
        let (pid, file) = (words.next()?.parse().ok()?, words.next()?);
        (kind == "FLOCK" && file == wanted).then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_found_by_device_and_inode() {
        let locks = "1: POSIX  ADVISORY  READ 7 00:1f:4711 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 812 00:1f:4711 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 813 00:20:4711 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 9 fe:00:5 0 EOF\n";
        let device = rustix::fs::makedev;
        assert_eq!(owner(locks, device(0, 0x1f), 4711), Some(812));
        assert_eq!(owner(locks, device(0xfe, 0), 5), Some(9));
        assert_eq!(owner(locks, device(0, 0x20), 4711), None, "another process waits for it");
        assert_eq!(owner(locks, device(0, 0x1f), 471), None);
        assert_eq!(owner("odd\n\n", device(0, 0), 0), None);
    }

    #[test]
    fn the_owner_of_a_held_lock_is_this_process() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        assert_ne!(lock_owner(file.path()), LockOwner::Process(std::process::id()));
        file.as_file().try_lock().expect("free");
        assert_eq!(lock_owner(file.path()), LockOwner::Process(std::process::id()));
        assert_eq!(lock_owner(Path::new("/not/there")), LockOwner::Unknown);
    }
}
