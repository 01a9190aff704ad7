//! Descriptors of the whole host.

use super::{Error, Sysctls};

/// Open files of the host, and how many there may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileHandles {
    /// Open now: sockets are files too.
    pub open: u64,
    /// Limit (`fs.file-max`), which root may exceed. Nine quintillion where there is none.
    pub max: u64,
}

/// From `fs.file-nr`: open, free (always 0 since Linux 2.6), limit. `None` where the kernel has no
/// such setting.
pub fn file_handles(sysctls: &Sysctls) -> Result<Option<FileHandles>, Error> {
    const NAME: &str = "fs.file-nr";
    let Some(text) = sysctls.read(NAME)? else { return Ok(None) };
    let numbers: Option<Vec<u64>> =
        text.split_whitespace().map(|number| number.parse().ok()).collect();
    match numbers.as_deref() {
        Some([open, _free, max]) => Ok(Some(FileHandles { open: *open, max: *max })),
        _ => Err(Error::Malformed {
            path: sysctls.path(NAME),
            detail: format!("{text:?} is not three numbers"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Option<FileHandles>, Error> {
        let root = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(root.path().join("fs")).expect("a directory");
        std::fs::write(root.path().join("fs/file-nr"), text).expect("a file");
        file_handles(&Sysctls::below(root.path()))
    }

    #[test]
    fn open_files_and_their_limit_are_the_outer_numbers() {
        let found = of("2144\t0\t9223372036854775807\n").expect("three numbers");
        assert_eq!(found, Some(FileHandles { open: 2144, max: 9_223_372_036_854_775_807 }));
    }

    #[test]
    fn anything_else_is_an_error_that_names_the_file() {
        for text in ["", "1 2", "1 2 3 4", "1 x 3", "-1 0 3"] {
            let error = of(text).expect_err(text).to_string();
            assert!(error.contains("fs/file-nr"), "{error}");
        }
    }

    #[test]
    fn the_running_kernel_is_understood() {
        let found = file_handles(&Sysctls::default()).expect("readable").expect("known");
        assert!(found.open > 0 && found.open <= found.max, "{found:?}");
    }
}
