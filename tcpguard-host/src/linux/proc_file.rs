//! Small files in which the kernel reports its own state.

use std::fs;
use std::path::Path;

use super::Error;

/// The result of `parse` for the file at `path`.
///
/// # Errors
/// [`Error::Read`], or [`Error::Malformed`] with the error of `parse`; both name the file.
pub(super) fn read<T>(
    path: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, Error> {
    let path = Path::new(path);
    let text =
        fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
    parse(&text).map_err(|detail| Error::Malformed { path: path.into(), detail })
}
