//! `tcpguard doctor --selftest`

use std::io::ErrorKind;

use tcpguard_host::linux::Error;

use super::error::CliError;
use super::exit::Exit;
use super::session::Session;
use crate::documents::selftest::Host;
use crate::selftest::{self, SelftestFailure};
use crate::text;

pub(super) fn run(if_needed: bool, session: &mut Session<'_>) -> anyhow::Result<Exit> {
    if if_needed && selftest::load(&session.state_dir, &Host::running()?).is_some() {
        return Ok(Exit::Done);
    }
    let selftest = selftest::run().map_err(refused)?;
    if let Err(error) = selftest::store(&session.state_dir, &selftest) {
        let dir = session.state_dir.display();
        session.warn(
            &format!("cannot save the result in {dir}: {error}"),
            "name another directory with --state-dir",
        );
    }
    if if_needed {
        session.say(&text::selftest_in_a_line(&selftest));
        return Ok(Exit::Done);
    }
    if session.json {
        session.print_document(&selftest)?;
    } else {
        session.render(|out, view| text::selftest(out, &selftest, view))?;
    }
    let works = selftest.results.iter().any(|one| one.reason.is_none());
    Ok(if works { Exit::Done } else { Exit::Failed })
}

fn refused(error: SelftestFailure) -> anyhow::Error {
    match &error {
        SelftestFailure::Namespace(source) if source.kind() == ErrorKind::PermissionDenied => {
            CliError::with_exit(Exit::Denied, &error).into()
        }
        SelftestFailure::Host(Error::NotPermitted { .. }) => {
            CliError::with_exit(Exit::Denied, &error).into()
        }
        _ => error.into(),
    }
}
