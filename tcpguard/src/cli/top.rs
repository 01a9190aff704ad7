//! `tcpguard top`

use std::time::Duration;

use tcpguard_host::hint::Hint as _;

use super::args::TopArgs;
use super::error::CliError;
use super::session::Session;
use super::status::fetch;
use crate::control::{Request, Response};
use crate::top;

/// Command that needs no terminal.
const PLAIN: &str = "tcpguard status --watch";

pub(super) fn run(args: &TopArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let no_terminal = !session.terminal || std::env::var_os("TERM").is_some_and(|it| it == "dumb");
    if no_terminal && !session.json {
        return Err(CliError::refused("top requires a terminal", PLAIN).into());
    }
    let history = session.client.ask(Request::History, Response::try_as_history)?;
    if session.json {
        return session.print_document(&*history);
    }
    let status = fetch(session)?;
    let interval = Duration::from_secs(args.watch);
    let client = session.client.clone();
    let ask = move |request| client.call(request).map_err(|error| error.with_hint());
    top::run((status, *history), interval, session.view.clone(), ask)
        .map_err(|error| CliError::refused(format!("cannot use the terminal: {error}"), PLAIN))?;
    Ok(())
}
