//! `tcpguard allow` and `tcpguard disallow`

use schemars::JsonSchema;
use serde::Serialize;

use super::args::{AllowArgs, DisallowArgs};
use super::session::Session;
use super::status::foreign;
use crate::cli::documents::Printed;
use crate::control::Response;
use crate::control::proto::Change;
use crate::documents::Allowed;
use crate::text;

/// Output of `tcpguard allow --json`.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct Allowance {
    /// Name and version of this document: `tcpguard.allow/1`.
    schema: &'static str,
    /// Exemption that now exists.
    allowed: Allowed,
}

/// Output of `tcpguard disallow --json`.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct Disallowed {
    /// Name and version of this document: `tcpguard.disallow/1`.
    schema: &'static str,
    /// Exemptions that were removed.
    removed: Vec<Allowed>,
}

pub(super) fn allow(args: AllowArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let change = Change::Allow {
        net: args.prefix,
        lifetime: args.lifetime,
        reason: args.reason,
        force: args.force,
    };
    let allowed = match session.client.call(change.into())? {
        Response::Allowed { allowed } => allowed,
        other => return Err(foreign(&other).into()),
    };
    if session.json {
        return session.print_document(&Allowance { schema: Allowance::ID, allowed });
    }
    session.render(|out, view| text::allowed(out, &allowed, view))?;
    session.say(&format!(
        "manual blocks of these addresses stay in effect; without an end: [protect] prefixes in the \
         configuration; to undo: tcpguard disallow {}",
        args.prefix
    ));
    Ok(())
}

pub(super) fn disallow(args: &DisallowArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let removed = match session.client.call(Change::Disallow { net: args.prefix }.into())? {
        Response::Disallowed { allowed } => allowed,
        other => return Err(foreign(&other).into()),
    };
    if session.json {
        return session.print_document(&Disallowed { schema: Disallowed::ID, removed });
    }
    session.render(|out, _| text::disallowed(out, &removed))
}
