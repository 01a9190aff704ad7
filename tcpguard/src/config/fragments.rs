//! The directory with further files beside the configuration file, each for a purpose of its own: an
//! addition by a package or a configuration tool needs no change of the file that people edit.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::ConfigError;

pub const DIRECTORY: &str = "conf.d";

/// The directory that belongs to the configuration file `main`.
pub fn directory(main: &Path) -> PathBuf {
    main.with_file_name(DIRECTORY)
}

/// The files of the directory in the order in which they are read after `main`, which is that of their
/// names; none where there is no such directory. A file counts if its name ends in `.toml` and does not
/// begin with a dot.
pub fn list(main: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let directory = directory(main);
    let unreadable =
        |source| ConfigError::Unreadable { path: directory.clone(), part: true, source };
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        // A dangling link is a mistake, which is reported when the file is read.
        if !hidden && path.extension().is_some_and(|end| end == "toml") && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_in_the_order_of_their_names_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("tcpguard.toml");
        assert_eq!(list(&main).unwrap(), [""; 0].map(PathBuf::from), "no directory");
        let parts = directory(&main);
        assert_eq!(parts, dir.path().join("conf.d"));
        std::fs::create_dir(&parts).unwrap();
        for name in ["20-web.toml", "10-base.toml", "100-z.toml", ".swp.toml", "README", "x.toml~"]
        {
            std::fs::write(parts.join(name), "").unwrap();
        }
        std::fs::create_dir(parts.join("dir.toml")).unwrap();
        std::os::unix::fs::symlink("nowhere", parts.join("30-gone.toml")).unwrap();
        let names: Vec<_> = list(&main)
            .unwrap()
            .into_iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["10-base.toml", "100-z.toml", "20-web.toml", "30-gone.toml"]);
    }

    #[test]
    fn a_directory_that_is_none_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("conf.d"), "").unwrap();
        let error = list(&dir.path().join("tcpguard.toml")).unwrap_err().to_string();
        assert!(error.contains("conf.d: Not a directory"), "{error}");
    }
}
