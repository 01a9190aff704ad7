//! Secrets of webhooks, each in a file that only its owner can read.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use data_encoding::HEXLOWER;
use ring::hmac;
use tcpguard_host::durable;
use tcpguard_host::hint::Failure;

/// Longest secret, in bytes.
const LONGEST: u64 = 4096;
/// Permissions of others than the owner.
const OTHERS: u32 = 0o077;

/// A secret. It is shown nowhere.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Reads the file of a secret, without a line end after it.
    ///
    /// # Errors
    /// When it cannot be read, is empty, or can be read by others than its owner.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        Self::read_up_to(path, LONGEST)
    }

    /// The same of a file of at most `longest` bytes.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn read_up_to(path: &Path, longest: u64) -> Result<Self, Failure> {
        let shown = path.display();
        let unread = |why: &dyn fmt::Display| {
            Failure::new(format!("cannot read {shown}: {why}"), format!("ls -l {shown}"))
        };
        let mode = fs::symlink_metadata(path).map_err(|error| unread(&error))?.mode();
        if mode & OTHERS != 0 {
            return Err(Failure::new(
                format!("{shown} can be read by others than its owner"),
                format!("chmod 600 {shown}"),
            ));
        }
        let content = durable::read(path, longest).map_err(|error| unread(&error))?;
        match content.trim_ascii_end() {
            [] => Err(unread(&"it is empty")),
            secret => Ok(Self(secret.to_vec())),
        }
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the signature of a message with this key: HMAC-SHA-256 (RFC 2104, FIPS 198-1) in hexadecimal.
    pub fn sign(&self, message: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        "sha256=".to_owned() + &HEXLOWER.encode(hmac::sign(&key, message).as_ref())
    }
}

impl fmt::Debug for Secret {
    /// Hides the secret.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn read(content: &[u8], mode: u32) -> Result<Secret, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        Secret::read(&path).map_err(|failure| failure.hint.replace(path.to_str().unwrap(), "key"))
    }

    /// Test cases 1 and 2 of RFC 4231.
    #[test]
    fn a_signature_is_an_hmac() {
        assert_eq!(
            Secret(b"Jefe".to_vec()).sign(b"what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            Secret(vec![0x0b; 20]).sign(b"Hi There"),
            "sha256=b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
    }

    #[test]
    fn a_secret_is_the_content_of_a_private_file() {
        assert_eq!(read(b"s3cret\n", 0o600).unwrap().bytes(), b"s3cret");
        assert_eq!(read(b"s3cret", 0o400).unwrap().bytes(), b"s3cret");
        for mode in [0o640, 0o604, 0o660] {
            assert_eq!(read(b"s3cret", mode), Err("chmod 600 key".to_owned()), "{mode:o}");
        }
        assert_eq!(read(b"\n", 0o600), Err("ls -l key".to_owned()));
        assert_eq!(read(&[b'x'; 5000], 0o600), Err("ls -l key".to_owned()));
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret(b"s3cret".to_vec())), "Secret");
    }
}
