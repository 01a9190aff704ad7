//! The tar format, as far as a few plain files need it (ustar, POSIX.1-1988).

use std::io::{self, Write};

use tcpguard_host::time::Time;

const BLOCK: usize = 512;

/// An archive that is being written.
pub(super) struct Archive<W> {
    out: W,
    seconds: i64,
}

impl<W: Write> Archive<W> {
    /// An archive in which every file has this date.
    pub(super) fn new(out: W, at: Time) -> Self {
        Self { out, seconds: at.0.as_second() }
    }

    /// Adds a plain file that its owner may read and write.
    ///
    /// # Errors
    /// When the name is longer than 100 bytes, or the writer refuses.
    pub(super) fn add(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let header = header(name, content.len(), self.seconds)?;
        self.out.write_all(&header)?;
        self.out.write_all(content)?;
        self.out.write_all(&[0; BLOCK][..content.len().next_multiple_of(BLOCK) - content.len()])
    }

    /// Ends the archive and returns the writer.
    ///
    /// # Errors
    /// When the writer refuses.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }
}

fn header(name: &str, size: usize, seconds: i64) -> io::Result<[u8; BLOCK]> {
    let mut header = [0; BLOCK];
    let mut put = |offset: usize, length: usize, text: &str| match text.len() <= length {
        true => {
            header[offset..offset + text.len()].copy_from_slice(text.as_bytes());
            Ok(())
        }
        false => Err(io::Error::other(format!("{text:?} does not fit into a tar header"))),
    };
    put(0, 100, name)?;
    put(100, 8, "0000600")?;
    put(108, 8, "0000000")?;
    put(116, 8, "0000000")?;
    put(124, 12, &format!("{size:011o}"))?;
    put(136, 12, &format!("{:011o}", seconds.max(0)))?;
    // Blanks while the sum is made.
    put(148, 8, "        ")?;
    put(156, 1, "0")?;
    put(257, 8, "ustar\x0000")?;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(header)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn now() -> Time {
        Time("2026-01-02T03:04:05Z".parse().expect("a time"))
    }

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = Archive::new(Vec::new(), now());
        for (name, content) in files {
            archive.add(name, content).expect("added");
        }
        archive.finish().expect("finished")
    }

    #[test]
    fn every_part_is_whole_blocks() {
        for size in [0, 1, 511, 512, 513] {
            let content = vec![b'x'; size];
            let bytes = archive(&[("a", &content)]);
            assert_eq!(bytes.len(), BLOCK + size.next_multiple_of(BLOCK) + 2 * BLOCK, "{size}");
        }
    }

    #[test]
    fn tar_unpacks_it() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = dir.path().join("a.tar");
        let bytes = archive(&[("d/one", b"first\n"), ("two", &[b'x'; 1000])]);
        std::fs::write(&file, bytes).expect("file");
        let status = Command::new("tar")
            .args(["--extract", "--file"])
            .arg(&file)
            .arg("--directory")
            .arg(dir.path())
            .stdin(Stdio::null())
            .status()
            .expect("tar");
        assert!(status.success());
        let read = |name: &str| std::fs::read(dir.path().join(name)).expect(name);
        assert_eq!((read("d/one"), read("two").len()), (b"first\n".to_vec(), 1000));
    }

    #[test]
    fn a_name_that_does_not_fit_is_refused() {
        let mut archive = Archive::new(Vec::new(), now());
        assert!(archive.add(&"x".repeat(100), b"").is_ok());
        assert!(archive.add(&"x".repeat(101), b"").is_err());
    }
}
