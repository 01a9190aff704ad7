//! Name of this host on the bus.

use std::fs;
use std::io;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use tcpguard_host::hint::Failure;

use crate::document::HostId;

/// File with the id of the machine (machine-id(5)).
const MACHINE_ID: &str = "/etc/machine-id";

/// The name of this host where the configuration has none: a hash of the id of the machine, which is confidential
/// itself. It stays the same over reinstallations of tcpguard.
///
/// # Errors
/// When the machine has no id.
pub fn host() -> Result<HostId, Failure> {
    let hint = "systemd-machine-id-setup, or set host in /etc/tcpguard/fleet.toml";
    let failed =
        |error: io::Error| Failure::new(format!("cannot read {MACHINE_ID}: {error}"), hint);
    let id = fs::read_to_string(MACHINE_ID).map_err(failed)?;
    match id.trim() {
        "" | "uninitialized" => Err(Failure::new(format!("{MACHINE_ID} is empty"), hint)),
        id => Ok(of_machine(id)),
    }
}

fn of_machine(id: &str) -> HostId {
    let mut hash = Sha256::new();
    hash.update(b"tcpguard-fleet");
    hash.update([0_u8]);
    hash.update(id.as_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    HEXLOWER.encode(&digest[..16]).parse().expect("32 hexadecimal digits are a name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_follows_from_the_id_of_the_machine_and_does_not_show_it() {
        let id = "7c9f0a5e3d1b4862a4d0c6b8e2f19375";
        let host = of_machine(id);
        assert_eq!(host, of_machine(id));
        assert_ne!(host, of_machine("7c9f0a5e3d1b4862a4d0c6b8e2f19376"));
        assert_eq!(host.as_str().len(), 32);
        assert!(!host.as_str().contains(&id[..8]));
    }
}
