//! `tcpguard tune`

use std::path::Path;

use tcpguard_host::linux::Sysctls;
use tcpguard_host::time::Time;
use tcpguard_host::tune::change::{self, ChangeError, Changed, Outcome, Tuner};
use tcpguard_host::tune::facts::{self, Lent};
use tcpguard_host::tune::{self, HostFacts, Tune};

use super::args::TuneArgs;
use super::error::CliError;
use super::exit::Exit;
use super::session::Session;
use super::status::fetch;
use crate::daemon::syncookies;
use crate::documents::BackendInUse;
use crate::text;

/// The command that sets the advised and the applied sysctls at each boot.
const KEEP: &str = "sudo tcpguard tune --sysctl | sudo tee /etc/sysctl.d/90-tcpguard.conf";

pub(super) fn run(args: &TuneArgs, session: &mut Session<'_>) -> anyhow::Result<Exit> {
    if args.sysctl && session.json {
        let message = "--sysctl and --json cannot be used together";
        return Err(CliError::usage(message, "leave one of them out: tcpguard tune --help").into());
    }
    if args.undo {
        let undone = tuner()?.undo().map_err(refused)?;
        return report(&undone, session, |undone| match undone.changes.is_empty() {
            true => "nothing was changed by tcpguard tune; see what it advises: tcpguard tune",
            false => "see what is advised: tcpguard tune",
        });
    }
    let (_, tune) = judged(&session.state_dir, session);
    let mut wanted = change::wanted(&tune);
    if args.sysctl {
        // Another user sees only what is advised still.
        wanted.extend(tuner()?.applied().unwrap_or_default());
        session.print(&change::file(&wanted))?;
        session.say(&format!("to write it: {KEEP}"));
        return Ok(Exit::Done);
    }
    if args.apply {
        let changed = tuner()?.apply(&wanted).map_err(refused)?;
        return report(&changed, session, |changed| match changed.changes.is_empty() {
            true => "every sysctl is as advised; see each: tcpguard tune",
            false => "take it back: sudo tcpguard tune --undo",
        });
    }
    if session.json {
        session.print_document(&tune)?;
    } else {
        session.render(|out, view| text::tune(out, &tune, view))?;
    }
    Ok(Exit::Done)
}

/// The facts about this host, and the advice for it.
pub(super) fn judged(state_dir: &Path, session: &Session<'_>) -> (HostFacts, Tune) {
    let sysctls = Sysctls::default();
    let lent = lent(&sysctls, state_dir, session);
    let (host, values) = facts::gather(&sysctls, Path::new("/"), lent);
    let tune = tune::judge(&host, &values, Time(jiff::Timestamp::now()));
    (host, tune)
}

/// Returns the loan, if an agent has set `net.ipv4.tcp_syncookies` to 2.
fn lent(sysctls: &Sysctls, state_dir: &Path, session: &Session<'_>) -> Option<Lent> {
    if sysctls.read_number(syncookies::SYSCTL).ok()? != Some(2) {
        return None;
    }
    if let Some(before) = syncookies::lent_from(state_dir) {
        return Some(Lent::From(before));
    }
    // It may keep the value where this user cannot look, or in another directory.
    let status = fetch(session).ok()?;
    (status.cookies.backend == BackendInUse::KernelHelper).then_some(Lent::InUse)
}

fn tuner() -> anyhow::Result<Tuner> {
    Ok(Tuner::open()?)
}

fn report(
    changed: &Changed,
    session: &mut Session<'_>,
    next: impl Fn(&Changed) -> &'static str,
) -> anyhow::Result<Exit> {
    if session.json {
        session.print_document(changed)?;
    } else {
        session.render(|out, view| text::tuned(out, changed, view))?;
    }
    if changed.changes.iter().any(|change| change.outcome == Outcome::Failed) {
        let hint = "in a container, run it on the host: sudo tcpguard tune --apply";
        return Err(CliError::refused("the kernel refused some of the changes", hint).into());
    }
    session.say(next(changed));
    Ok(Exit::Done)
}

fn refused(error: ChangeError) -> anyhow::Error {
    match &error {
        ChangeError::Denied { .. } => CliError::with_exit(Exit::Denied, &error).into(),
        _ => error.into(),
    }
}
