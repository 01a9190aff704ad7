//! `tcpguard status`

use std::time::{Duration, Instant};

use anyhow::bail;

use super::args::{StatusArgs, WaitFor};
use super::session::Session;
use crate::control::{ClientError, Request, Response};
use crate::render;
use crate::status::{State, Status};

/// Pause between two questions of `--wait`.
const WAIT_STEP: Duration = Duration::from_millis(200);

pub(super) fn run(args: &StatusArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    if let Some(wanted) = args.wait {
        return wait(wanted, args, session);
    }
    show(&fetch(session)?, args, session)?;
    while let Some(seconds) = args.watch {
        std::thread::sleep(Duration::from_secs(seconds));
        let status = fetch(session)?;
        if !session.json && !args.brief {
            // Home and clear on a terminal; elsewhere an empty line between two reports.
            session.print(if session.terminal { "\x1b[H\x1b[2J" } else { "\n" })?;
        }
        show(&status, args, session)?;
    }
    Ok(())
}

pub(super) fn fetch(session: &Session<'_>) -> Result<Status, ClientError> {
    match session.client.call(Request::Status)? {
        Response::Status(status) => Ok(*status),
        other => Err(foreign(&other)),
    }
}

/// The error for an answer to another question than the one asked.
pub(super) fn foreign(answer: &Response) -> ClientError {
    let why = match serde_json::to_value(answer) {
        Ok(answer) => format!("it answers \"{}\"", answer["result"].as_str().unwrap_or_default()),
        Err(error) => error.to_string(),
    };
    ClientError::Foreign { why }
}

fn show(status: &Status, args: &StatusArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    if session.json {
        return session.print_document(status);
    }
    session.render(|out, view| match args.brief {
        true => render::brief(out, status, view),
        false => render::status(out, status, view, args.listeners),
    })
}

fn wait(wanted: WaitFor, args: &StatusArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let end = Instant::now() + args.timeout;
    loop {
        let status = fetch(session);
        if let Ok(status) = &status
            && holds(wanted, status.daemon.state)
        {
            return show(status, args, session);
        }
        if Instant::now() >= end {
            let status = status?;
            show(&status, args, session)?;
            bail!(
                "not healthy after {}; tcpguard status says why",
                render::number::span(args.timeout)
            );
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
