//! `tcpguard probe`

use std::io::ErrorKind;

use super::args::ProbeArgs;
use super::exit::{CliError, Exit};
use super::session::Session;
use crate::host::Error;
use crate::probe::{self, Host, Probe, ProbeError};
use crate::render;

pub(super) fn run(args: &ProbeArgs, session: &mut Session<'_>) -> anyhow::Result<Exit> {
    if args.if_needed && probe::load(&session.state_dir, &Host::running()?).is_some() {
        return Ok(Exit::Done);
    }
    let probe = probe::run().map_err(refused)?;
    if let Err(error) = probe::store(&session.state_dir, &probe) {
        let dir = session.state_dir.display();
        session.say(&format!(
            "the result could not be kept in {dir}: {error}; name another with --state-dir"
        ));
    }
    if args.if_needed {
        session.say(&render::probe_in_a_line(&probe));
        return Ok(Exit::Done);
    }
    if session.json {
        session.print_document(&probe)?;
    } else {
        session.render(|out, view| render::probe(out, &probe, view))?;
    }
    Ok(if works(&probe) { Exit::Done } else { Exit::Failed })
}

fn works(probe: &Probe) -> bool {
    probe.backends.iter().any(|backend| backend.works)
}

fn refused(error: ProbeError) -> anyhow::Error {
    match &error {
        ProbeError::Namespace(source) if source.kind() == ErrorKind::PermissionDenied => {
            CliError::Denied(error.to_string()).into()
        }
        ProbeError::Host(Error::NotPermitted { .. }) => CliError::Denied(error.to_string()).into(),
        _ => error.into(),
    }
}
