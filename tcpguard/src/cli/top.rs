//! `tcpguard top`

use std::time::Duration;

use tcpguard_host::hint::Hint as _;

use super::args::TopArgs;
use super::error::CliError;
use super::session::Session;
use super::status::{fetch, foreign};
use crate::control::{Client, ClientError, Request, Response};
use crate::top::{self, Options, Question, Update};

/// Command that needs no terminal.
const PLAIN: &str = "tcpguard status --watch";

pub(super) fn run(args: &TopArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    if session.json {
        let hint = "tcpguard status --watch --json";
        return Err(CliError::usage("top has no JSON output", hint).into());
    }
    if !session.terminal || std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
        return Err(CliError::refused("top requires a terminal", PLAIN).into());
    }
    let first = fetch(session)?;
    if let Some(name) = &args.interface
        && !first.interfaces.iter().any(|interface| interface.name == *name)
    {
        let message = format!("{name} is not protected");
        return Err(CliError::not_found(message, "tcpguard status").into());
    }
    let delay = Duration::from_secs(args.watch);
    let options = Options { interface: args.interface.clone(), delay };
    let client = session.client.clone();
    let ask = move |question| answer(&client, question).map_err(|error| error.with_hint());
    top::run(first, options, session.view.clone(), ask)
        .map_err(|error| CliError::refused(format!("cannot use the terminal: {error}"), PLAIN))?;
    Ok(())
}

fn answer(client: &Client, question: Question) -> Result<Update, ClientError> {
    let request = match question {
        Question::Status => Request::Status,
        Question::Explain(id) => Request::ExplainIncident { id },
    };
    match client.call(request)? {
        Response::Status(status) => Ok(Update::Status(status)),
        Response::IncidentExplained(story) => Ok(Update::Story(story)),
        other => Err(foreign(&other)),
    }
}
