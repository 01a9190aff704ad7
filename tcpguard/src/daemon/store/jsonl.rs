//! Files of one JSON object a line, sealed and replaced as a whole.
//!
//! A file whose seal does not match its content is set aside. In an intact file every line counts by
//! itself: a line that cannot be understood, for example one of a later version, is kept beside the file
//! and named in the log, and the other lines are used.

use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tcpguard_host::durable;
use tcpguard_host::durable::seal::{self, Damage};
use tcpguard_host::json::{self, Named};

/// Far longer than any file of so few lines as are kept; a longer one is set aside unread.
pub const MAX_BYTES: u64 = 16 << 20;
/// Wrong lines that are named one by one.
const NAMED: usize = 3;

/// The type of a line in such a file.
pub trait Line: DeserializeOwned + Serialize {
    /// Plural name of these lines in messages.
    const WHAT: &'static str;
    /// Name and version of each line.
    const SCHEMA: &'static str;
}

/// Replaces the file at `path`, readable by its owner only.
///
/// # Errors
/// When its directory cannot be written to; then the old one is there.
pub fn store<'a, T: Line + 'a>(
    path: &Path,
    all: impl IntoIterator<Item = &'a T>,
) -> io::Result<()> {
    let mut lines = Vec::new();
    for one in all {
        json::write(&mut lines, &Named { schema: T::SCHEMA, document: one })?;
        lines.push(b'\n');
    }
    seal::replace(path, 0o600, &lines)
}

/// The lines of the file at `path`, in its order; empty when there is no file. A damaged file, or a line
/// that cannot be understood, is set aside with one line in the log.
pub fn load<T: Line>(path: &Path) -> Vec<T> {
    let what = T::WHAT;
    let content = match seal::read(path, MAX_BYTES) {
        Ok(content) => content,
        Err(damage) => {
            damage.report(path, &format!("Starting without past {what}"));
            return Vec::new();
        }
    };
    let (all, wrong) = parse_all(&content);
    if !wrong.is_empty() {
        set_aside::<T>(path, &wrong);
    }
    all
}

/// The lines of the file at `path` that can be understood. The file is left unchanged.
pub fn read<T: Line>(path: &Path) -> Result<Vec<T>, Damage> {
    Ok(parse_all(&seal::read(path, MAX_BYTES)?).0)
}

/// An invalid line: its number, the reason, and its content.
type Wrong<'a> = (usize, String, &'a [u8]);

fn parse_all<T: Line>(content: &[u8]) -> (Vec<T>, Vec<Wrong<'_>>) {
    let mut all = Vec::new();
    let mut wrong = Vec::new();
    for (number, line) in (1..).zip(content.split_inclusive(|byte| *byte == b'\n')) {
        match json::document(line, T::SCHEMA) {
            Ok(one) => all.push(one),
            Err(why) => wrong.push((number, why, line)),
        }
    }
    (all, wrong)
}

/// Keeps the lines that are none beside the file, so that nothing is lost when it is replaced.
fn set_aside<T: Line>(path: &Path, wrong: &[Wrong<'_>]) {
    let aside = durable::aside(path);
    let lines: Vec<u8> = wrong.iter().flat_map(|(.., line)| *line).copied().collect();
    let name = |(number, why, _): &Wrong<'_>| format!("line {number}: {why}");
    let mut named: Vec<String> = wrong.iter().take(NAMED).map(name).collect();
    if let Some(more) = wrong.len().checked_sub(NAMED).filter(|more| *more > 0) {
        named.push(format!("{more} more"));
    }
    let (path, what, named) = (path.display(), T::WHAT, named.join("; "));
    match durable::replace(&aside, 0o600, &lines) {
        Ok(()) => log::warn!(
            "{} lines of {path} unusable: {named}. They are kept as {}, the other {what} are read",
            wrong.len(),
            aside.display()
        ),
        Err(error) => log::warn!(
            "{} lines of {path} unusable: {named}. They are not kept as {}: {error}",
            wrong.len(),
            aside.display()
        ),
    }
}
