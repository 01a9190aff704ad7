//! `tcpguard allow` and `tcpguard disallow`

use super::args::{AllowArgs, DisallowArgs};
use super::session::Session;
use crate::control::Response;
use crate::control::proto::Change;
use crate::text;

pub(super) fn allow(args: AllowArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let change = Change::Allow {
        net: args.prefix,
        lifetime: args.lifetime,
        reason: args.reason,
        force: args.force,
    };
    let allowance = session.client.ask(change.into(), Response::try_as_allowed)?;
    if session.json {
        return session.print_document(&allowance);
    }
    session.render(|out, view| text::allowed(out, &allowance.allowed, view))?;
    session.say(&format!(
        "manual blocks of these addresses stay in effect; without an end: [protect] prefixes in the \
         configuration; to undo: tcpguard disallow {}",
        args.prefix
    ));
    Ok(())
}

pub(super) fn disallow(args: &DisallowArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let change = Change::Disallow { net: args.prefix };
    let disallowed = session.client.ask(change.into(), Response::try_as_disallowed)?;
    if session.json {
        return session.print_document(&disallowed);
    }
    session.render(|out, _| text::disallowed(out, &disallowed.removed))
}
