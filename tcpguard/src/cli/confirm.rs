//! `tcpguard confirm`

use super::args::ConfirmArgs;
use super::session::Session;
use crate::control::{Request, Response};
use crate::documents::Confirmed;
use crate::text;

pub(super) fn run(args: &ConfirmArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let request = Request::Confirm { net: args.prefix };
    let confirmed = session.client.ask(request, Response::try_as_confirmed)?;
    if session.json {
        return session.print_document(&confirmed);
    }
    let Confirmed { mode, ends, rules } = confirmed;
    if let Some(mode) = mode {
        session.print(&format!("confirmed mode {}\n", mode.name()))?;
    }
    session.render(|out, view| text::confirmed(out, &rules, view))?;
    if let (Some(mode), Some(ends)) = (mode, &ends) {
        session.say(&text::mode_end(mode, ends, &session.view));
    }
    Ok(())
}
