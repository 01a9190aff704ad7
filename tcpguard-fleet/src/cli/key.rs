//! `tcpguard-fleet key`: the key of an operator.

use std::io::Write;

use tcpguard_host::hint::Failure;
use tcpguard_host::{durable, random};

use super::args::KeyArgs;
use super::error::CliError;
use super::rule::read_key;
use crate::trust::OperatorKey;

/// Makes the key if it does not exist, and prints its public key.
pub(super) fn run(args: &KeyArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let path = &args.file;
    let key = match path.symlink_metadata() {
        Ok(_) => read_key(path)?,
        Err(_) => {
            let key = OperatorKey::from_seed(&seed()?);
            durable::replace(path, 0o600, key.to_file().as_bytes()).map_err(|error| {
                let hint = format!("name another file, or: ls -ld {}", path.display());
                Failure::new(format!("cannot write {}: {error}", path.display()), hint)
            })?;
            key
        }
    };
    writeln!(out, "# In fleet.toml of each host:")?;
    writeln!(out, "[[role]]\nname = \"ops\"\nkeys = [\"{}\"]", key.public())?;
    Ok(())
}

/// 32 random bytes.
pub(super) fn seed() -> Result<[u8; 32], Failure> {
    let words: [u64; 4] = random::words().map_err(|error| {
        Failure::new(format!("no random numbers: {error}"), "ls -l /dev/urandom")
    })?;
    let mut seed = [0; 32];
    for (part, word) in seed.chunks_exact_mut(8).zip(words) {
        part.copy_from_slice(&word.to_ne_bytes());
    }
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ops.key");
        let printed = || {
            let mut out = Vec::new();
            run(&KeyArgs { file: file.clone() }, &mut out).map(|()| String::from_utf8(out).unwrap())
        };
        let first = printed().expect("made");
        assert_eq!(printed(), Ok(first.clone()));
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let public = first.split('"').nth(3).expect("a key");
        assert!(public.parse::<crate::trust::PublicKey>().is_ok(), "{first}");
        std::fs::write(&file, "no key\n").unwrap();
        let error = printed().expect_err("no key");
        assert!(error.failure.message.contains("is not a key"), "{error:?}");
        assert_ne!(seed().unwrap(), seed().unwrap());
    }
}
