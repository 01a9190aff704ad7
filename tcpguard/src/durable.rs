//! Files that are read and replaced as a whole, and are on the disk when that is done.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Puts `content` in the place of the file at `path`, with these permissions: whoever reads it, also
/// after a crash, finds the old content or the new. The directory is made if need be.
///
/// # Errors
/// When the directory cannot be written to; then the old content is there.
pub fn replace(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    fs::File::open(directory)?.sync_all()
}

/// The content of the file at `path`, if it has at most `most` bytes: a longer one is not what it
/// should be, and need not be in memory to be told from it.
///
/// # Errors
/// [`io::ErrorKind::FileTooLarge`] when it is longer; otherwise as for [`fs::read`].
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let length = fs::metadata(path)?.len();
    if length > most {
        let why = format!("it has {length} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    fs::read(path)
}

/// A name for what is wrong in the file at `path`, beside it: the first free of `path.bad`,
/// `path.bad.1`, …, so that nothing that could explain the mishap is lost; at most ten are kept, of
/// which the last is used again.
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

/// Removes the file at `path`, if it is there.
///
/// # Errors
/// When the directory cannot be written to.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
