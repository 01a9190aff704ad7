//! `tcpguard status`

use std::fmt::{self, Write};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tcpguard_host::{listeners, units};

use super::args::{StatusArgs, WaitFor};
use super::error::CliError;
use super::exit::Exit;
use super::overflow;
use super::session::Session;
use crate::bpf::count_runs;
use crate::config::DEFAULT_PATH;
use crate::control::{ClientError, Request, Response};
use crate::documents::{State, Status};
use crate::text::{self, View};

/// Pause between two questions of `--wait`.
const WAIT_STEP: Duration = Duration::from_millis(200);

/// Pause between two questions to systemd while nothing answers.
const ASK_STEP: Duration = Duration::from_secs(1);

/// Time over which `--cost` measures.
const COST_SPAN: Duration = Duration::from_secs(1);

pub(super) fn run(args: &StatusArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    if let Some(wanted) = args.wait {
        return wait(wanted, args, session);
    }
    show(look(args, session)?, args, session)?;
    while let Some(seconds) = args.watch {
        std::thread::sleep(Duration::from_secs(seconds));
        let status = look(args, session)?;
        if !session.json && !args.brief {
            session.begin_again()?;
        }
        show(status, args, session)?;
    }
    Ok(())
}

fn look(args: &StatusArgs, session: &Session<'_>) -> anyhow::Result<Status> {
    if args.cost { with_costs(session) } else { Ok(fetch(session)?) }
}

/// The status with the cost of the programs, over [`COST_SPAN`]. The agent may not have the kernel time
/// programs. Root may, and the agent then reports the counters.
fn with_costs(session: &Session<'_>) -> anyhow::Result<Status> {
    let counting = count_runs().map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => {
            CliError::failed(Exit::Denied, "--cost requires root", "sudo tcpguard status --cost")
        }
        _ => CliError::refused(
            format!("the kernel cannot measure the cost of BPF programs: {error}"),
            "without --cost: tcpguard status",
        ),
    })?;
    let before = fetch(session)?;
    let began = Instant::now();
    std::thread::sleep(COST_SPAN);
    let mut status = fetch(session)?;
    let elapsed = began.elapsed();
    drop(counting);
    status.add_costs(&before, elapsed);
    Ok(status)
}

pub(super) fn fetch(session: &Session<'_>) -> Result<Status, ClientError> {
    session.client.ask(Request::Status, Response::try_as_status).map(|status| *status)
}

fn show(mut status: Status, args: &StatusArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    if let Some(name) = &args.interface {
        let attached: Vec<_> = status.interfaces.iter().map(|one| one.name.clone()).collect();
        if !status.keep_interface(name) {
            let message = format!("{name} is not protected (protected: {})", attached.join(", "));
            let hint = format!("add it in {DEFAULT_PATH} ([interfaces] names)");
            return Err(CliError::not_found(message, hint).into());
        }
    }
    // A user without access to sockets still gets the agent's text.
    if overflow::is_reported(&status)
        && !args.brief
        && let Ok(facts) = listeners::gather(status.generated_at)
    {
        overflow::name_processes(&mut status, &listeners::judge(&facts).findings);
    }
    if session.json {
        return session.print_document(&status);
    }
    if args.watch.is_some() && !args.brief {
        return session.render_at_most(|out, view| page(out, &status, args, view));
    }
    session.render(|out, view| page(out, &status, args, view))
}

fn page(out: &mut impl Write, status: &Status, args: &StatusArgs, view: &View) -> fmt::Result {
    match args {
        StatusArgs { brief: true, .. } => text::brief(out, status, view),
        StatusArgs { full: true, .. } => text::full_status(out, status, view),
        _ => text::status(out, status, view, args.listeners),
    }
}

fn wait(wanted: WaitFor, args: &StatusArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let end = Instant::now() + args.timeout;
    let mut looked: Option<Instant> = None;
    loop {
        let mut status = fetch(session);
        if matches!(&status, Ok(status) if holds(wanted, status.daemon.state)) {
            return show(status?, args, session);
        }
        if looked.is_none_or(|looked| looked.elapsed() >= ASK_STEP)
            && let Err(error @ ClientError::NotRunning { .. }) = status
        {
            // One that systemd has given up does not become healthy by waiting.
            looked = Some(Instant::now());
            let explained = session.client.explained(error);
            if matches!(&explained, ClientError::NotRunning { service: Some(service), .. } if service.has_failed())
            {
                return Err(explained.into());
            }
            status = Err(explained);
        }
        if Instant::now() >= end {
            show(status?, args, session)?;
            let message = format!("not healthy after {}", units::span(args.timeout));
            return Err(CliError::refused(message, "tcpguard status").into());
        }
        std::thread::sleep(WAIT_STEP);
    }
}

const fn holds(wanted: WaitFor, state: State) -> bool {
    match wanted {
        WaitFor::Healthy => matches!(
            state,
            State::Protecting | State::Observing | State::Elevated | State::AttackMitigated
        ),
    }
}
