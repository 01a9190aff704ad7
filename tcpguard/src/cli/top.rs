//! `tcpguard top`

use std::time::Duration;

use anyhow::anyhow;

use super::args::TopArgs;
use super::exit::CliError;
use super::session::Session;
use super::status::{fetch, foreign};
use crate::control::{Client, ClientError, Request, Response};
use crate::top::{self, Options, Question, Update};

pub(super) fn run(args: &TopArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    if session.json {
        let text = "top draws on a terminal and has no JSON; for programs: \
                    tcpguard status --watch --json";
        return Err(CliError::Usage(text.to_owned()).into());
    }
    if !session.terminal || std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
        let text = "top needs a terminal that can place text; without one: tcpguard status --watch";
        return Err(CliError::Refused(text.to_owned()).into());
    }
    let first = fetch(session)?;
    if let Some(name) = &args.interface
        && !first.interfaces.iter().any(|interface| interface.name == *name)
    {
        let text = format!("{name} is not guarded; see what is: tcpguard status");
        return Err(CliError::NotFound(text).into());
    }
    let delay = Duration::from_secs(args.delay);
    let options = Options { interface: args.interface.clone(), delay };
    let client = session.client.clone();
    let ask = move |question| answer(&client, question).map_err(|error| error.to_string());
    top::run(first, options, session.view.clone(), ask).map_err(|error| {
        anyhow!("cannot use the terminal: {error}; without one: tcpguard status --watch")
    })
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
