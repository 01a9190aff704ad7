//! Files that are read and replaced as a whole, and are on the disk when that is done.
//!
//! Their directories may belong to the service's user while root reads or writes in them
//! (`tcpguard doctor`, `restore-sysctls`, `tune`). So no link is followed, and only a regular
//! file is opened as one.

pub mod seal;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Replaces the file at `path` by one with `content` and these permissions. A reader finds the old content or
/// the new, also after a crash. The directory is made if need be.
///
/// # Errors
/// When the directory cannot be written to; then the old content is there.
pub fn replace(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let directory = directory_of(path);
    fs::create_dir_all(directory)?;
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    // Left by a crash, or planted for the content to be written through it.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    fs::File::open(directory)?.sync_all()
}

/// The content of the file at `path`, if it has at most `most` bytes. A longer file is not the expected
/// one, and is rejected without being held in memory. A named pipe is not waited for.
///
/// # Errors
/// [`io::ErrorKind::FileTooLarge`] when it is longer; when it is no regular file; otherwise as for
/// [`fs::read`].
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut options = fs::OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let length = metadata.len();
    if length > most {
        let why = format!("it has {length} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    let mut content = Vec::new();
    file.take(most).read_to_end(&mut content)?;
    Ok(content)
}

/// A name beside the file at `path` under which a damaged version of it is kept: the first free of
/// `path.bad`, `path.bad.1`, …, so that no evidence of the mishap is lost. At most ten are kept, and
/// the last of them is used again.
pub fn aside(path: &Path) -> PathBuf {
    let name = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(".bad");
        if number > 0 {
            name.push(format!(".{number}"));
        }
        PathBuf::from(name)
    };
    (0..9).map(name).find(|aside| !aside.exists()).unwrap_or_else(|| name(9))
}

/// Renames the file at `path` to such a name, which is returned, so that evidence of a mishap is not
/// replaced.
pub fn set_aside(path: &Path) -> PathBuf {
    let free = aside(path);
    if let Err(error) = fs::rename(path, &free) {
        log::warn!("cannot rename {} to {}: {error}", path.display(), free.display());
    }
    free
}

/// Removes the file at `path`, if it is there.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => fs::File::open(directory_of(path))?.sync_all(),
    }
}

/// The directory of a file. A bare name has an empty parent.
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_in_the_working_directory() {
        for (path, directory) in
            [("a.json", "."), ("./a.json", "."), ("b/a.json", "b"), ("/a", "/")]
        {
            assert_eq!(directory_of(Path::new(path)), Path::new(directory));
        }
    }

    #[test]
    fn what_was_there_is_replaced_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("below/file.json");
        for content in ["longer than the next", "short"] {
            replace(&path, 0o600, content.as_bytes()).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("readable"), content);
        }
        assert_eq!(read(&path, 5).expect("not longer"), b"short");
        let error = read(&path, 4).expect_err("longer");
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(error.to_string(), "it has 5 bytes");
        remove(&path).expect("removed");
        assert_eq!(read(&path, 5).expect_err("gone").kind(), io::ErrorKind::NotFound);
        remove(&path).expect("nothing to remove");
        assert_eq!(fs::read_dir(dir.path().join("below")).expect("directory").count(), 0);
    }

    #[test]
    fn nothing_is_written_or_read_through_a_link() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (other, path) = (dir.path().join("other"), dir.path().join("file"));
        fs::write(&other, "somebody's").expect("file");
        std::os::unix::fs::symlink(&other, dir.path().join("file.new")).expect("link");
        replace(&path, 0o600, b"ours").expect("written");
        assert_eq!(fs::read(&other).expect("readable"), b"somebody's");
        assert_eq!(read(&path, 4).expect("ours"), b"ours");

        fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink(&other, &path).expect("link");
        assert!(read(&path, 100).is_err());
        replace(&path, 0o600, b"ours").expect("in the place of the link");
        assert_eq!(fs::read(&other).expect("readable"), b"somebody's");
    }

    #[test]
    fn what_is_no_file_or_too_long_is_not_read() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("pipe");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).expect("pipe");
        let error = read(&path, 100).expect_err("nobody writes into it").to_string();
        assert_eq!(error, "it is no regular file");
        assert!(read(dir.path(), 100).is_err());
        let path = dir.path().join("file");
        fs::write(&path, "four").expect("file");
        assert_eq!(read(&path, 3).expect_err("too long").to_string(), "it has 4 bytes");
    }
}
