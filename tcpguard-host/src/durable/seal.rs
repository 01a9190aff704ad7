//! State files with a first line that describes the rest: `tcpguard 1 <bytes> <CRC-32C>`.
//!
//! JSON alone does not distinguish a file as written from one that a disk has changed: most flipped
//! bits leave it valid, with another address or another end of a rule. A sealed file is believed whole
//! or not at all, and a file without the line is none.

use std::io;
use std::path::Path;

use crc::{CRC_32_ISCSI, Crc, Table};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::json::{self, Named};

/// Start of the first line: the name, and the version of the seal.
const MARK: &[u8] = b"tcpguard 1 ";
/// Length that the first line never exceeds, in bytes.
const LONGEST_LINE: usize = 48;

/// Reason why a file is not believed.
#[derive(Debug)]
pub enum Damage {
    /// There is no file.
    Missing,
    /// The file cannot be read.
    Refused(io::Error),
    /// The file differs from the file as written; the reason.
    Bad(String),
}

impl Damage {
    /// Returns the reason in one line, for people; `None` when there is simply no file.
    pub fn reason(self) -> Option<String> {
        match self {
            Self::Missing => None,
            Self::Refused(error) => Some(error.to_string()),
            Self::Bad(why) => Some(why),
        }
    }

    /// Reports in one line that the file at `path` is not used, and what `follows`, a sentence. A file that differs
    /// from the file as written is set aside. Returns the line; `None` when there is simply no file.
    pub fn report(self, path: &Path, follows: &str) -> Option<String> {
        let name = path.display();
        let line = match self {
            Self::Missing => return None,
            Self::Refused(error) => format!("cannot read {name}: {error}. {follows}"),
            Self::Bad(why) => {
                let aside = super::set_aside(path);
                format!("{name} unusable: {why}. It is kept as {}. {follows}", aside.display())
            }
        };
        log::warn!("{line}");
        Some(line)
    }
}

/// Replaces a file as [`super::replace`] does, with the line in front.
pub fn replace(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    super::replace(path, mode, &sealed(content))
}

/// The content that was given to [`replace`], of at most `most` bytes.
///
/// # Errors
/// When there is no file, it cannot be read, or it differs from the file as written.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, Damage> {
    let file =
        super::read(path, most + LONGEST_LINE as u64).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Damage::Missing,
            io::ErrorKind::FileTooLarge => Damage::Bad(error.to_string()),
            _ => Damage::Refused(error),
        })?;
    opened(file).map_err(Damage::Bad)
}

/// Replaces a file as [`replace`] does, by the JSON document of this name and version.
pub fn store(path: &Path, mode: u32, schema: &str, document: &impl Serialize) -> io::Result<()> {
    replace(path, mode, &json::bytes(&Named { schema, document })?)
}

/// The document that was given to [`store`] under the same name and version, of at most `most` bytes.
///
/// # Errors
/// As for [`read`], and when the content is no such document.
pub fn document<T: DeserializeOwned>(path: &Path, most: u64, schema: &str) -> Result<T, Damage> {
    json::document(&read(path, most)?, schema).map_err(Damage::Bad)
}

/// `content` with the line in front.
pub fn sealed(content: &[u8]) -> Vec<u8> {
    let mut file = MARK.to_vec();
    file.extend_from_slice(format!("{} {:08x}\n", content.len(), crc32c(content)).as_bytes());
    file.extend_from_slice(content);
    file
}

/// The content that was given to [`sealed`].
pub fn opened(mut file: Vec<u8>) -> Result<Vec<u8>, String> {
    let end = file.iter().take(LONGEST_LINE).position(|byte| *byte == b'\n');
    let line = end.and_then(|end| file[..end].strip_prefix(MARK));
    let line = line.and_then(|line| std::str::from_utf8(line).ok()?.split_once(' '));
    let (Some(end), Some((length, sum))) = (end, line) else {
        return Err("its first line does not say what it is".to_owned());
    };
    let content = &file[end + 1..];
    let (has, adds_up) = (content.len().to_string(), format!("{:08x}", crc32c(content)));
    if has != length {
        return Err(format!("it has {has} bytes and says that it has {length}"));
    }
    if adds_up != sum {
        return Err(format!("its checksum is {adds_up} and it says that it is {sum}"));
    }
    file.drain(..=end);
    Ok(file)
}

/// CRC-32C (Castagnoli; RFC 3720, appendix B.4). The longest file has 66 MB: bit by bit it would take as
/// long as the disk.
fn crc32c(bytes: &[u8]) -> u32 {
    static CRC_32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
    CRC_32C.checksum(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // The check value of the catalogue of CRCs, and two of RFC 3720.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b""), 0);
    }

    #[test]
    fn what_was_written_is_read_and_the_line_says_what_it_is() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("file");
        assert!(matches!(read(&path, 100), Err(Damage::Missing)));
        for content in [&b"{\"a\":1}"[..], b"", b"two\nlines\n"] {
            replace(&path, 0o600, content).expect("written");
            assert_eq!(read(&path, 10).expect("readable"), content);
        }
        replace(&path, 0o600, b"{}").expect("written");
        let line = format!("tcpguard 1 2 {:08x}\n{{}}", crc32c(b"{}"));
        assert_eq!(std::fs::read_to_string(&path).expect("readable"), line);
        assert!(matches!(read(dir.path(), 100), Err(Damage::Refused(_))));
    }

    #[test]
    fn a_file_without_the_line_is_refused() {
        for file in [&b"{\"a\":1}"[..], b"{\"a\":1}\n{\"a\":2}\n", b"\n{}", b""] {
            opened(file.to_vec()).expect_err("not sealed");
        }
    }

    #[test]
    fn the_longest_line_fits() {
        let line = format!("tcpguard 1 {} ffffffff\n", u64::MAX);
        assert!(line.len() <= LONGEST_LINE, "{}", line.len());
    }

    /// Cuts a sealed file to every length, and changes every bit of it.
    #[test]
    fn nothing_that_was_cut_or_changed_is_believed() {
        let whole = sealed(b"{\"prefix\":\"203.0.113.0/24\"}");
        for length in 0..whole.len() {
            opened(whole[..length].to_vec()).expect_err("cut");
        }
        for bit in 0..8 * whole.len() {
            let mut changed = whole.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            opened(changed).expect_err("changed");
        }
        let mut longer = whole;
        longer.push(b'\n');
        opened(longer).expect_err("longer");
    }
}
