//! `tcpguard-fleet enroll`: credentials of hosts for NATS, by the keys of the fleet.
//!
//! The server knows the fleet, and none of its hosts: a host's credentials are signed by a key to which the server
//! has permissions bound, with the host's name in them. So a host is added without a change of the server. A
//! revocation changes it.

mod authority;
mod jwt;
mod part;

use std::io::Write;

use tcpguard_host::durable;
use tcpguard_host::hint::Failure;

use self::authority::Authority;
use super::args::EnrollArgs;
use super::error::CliError;
use crate::daemon::clock;

/// Writes the credentials of a host or revokes them, and prints the configuration of the server.
pub(super) fn run(args: &EnrollArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let now = clock().wall;
    if args.revoke {
        let mut authority = Authority::read(&args.authority)?;
        authority.revoke(&args.name, now)?;
        authority.write(&args.authority)?;
        log::info!("credentials of {} end once the server reads this configuration", args.name);
        return Ok(out.write_all(authority.server_configuration().as_bytes())?);
    }
    let authority = Authority::read_or_make(&args.authority, now)?;
    let credentials = authority.credentials(&args.name, args.part, now, args.lifetime)?;
    let path = args.out.clone().unwrap_or_else(|| format!("{}.creds", args.name).into());
    durable::replace(&path, 0o600, credentials.as_bytes()).map_err(|error| {
        let hint = format!("name another file with --out, or: ls -ld {}", path.display());
        Failure::new(format!("cannot write {}: {error}", path.display()), hint)
    })?;
    log::info!("credentials of {} are in {}", args.name, path.display());
    out.write_all(authority.server_configuration().as_bytes())?;
    Ok(())
}
