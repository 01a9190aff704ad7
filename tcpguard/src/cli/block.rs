//! `tcpguard block`

use std::net::IpAddr;

use super::args::BlockArgs;
use super::caller;
use super::exit::CliError;
use super::session::Session;
use super::status::foreign;
use crate::control::{Request, Response};
use crate::render;
use crate::status::Mode;

pub(super) fn run(args: BlockArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    if !args.force
        && let Some(peer) = caller::ssh_peer()
    {
        refuse_own_address(&args, peer)?;
    }
    let request = Request::Block {
        prefix: args.prefix,
        for_s: args.lifetime.as_secs(),
        reason: args.reason,
        force: args.force,
        dry_run: args.dry_run,
    };
    let (rule, dry_run) = match session.client.call(request)? {
        Response::Blocked { rule, dry_run } => (rule, dry_run),
        other => return Err(foreign(&other).into()),
    };
    if session.json {
        return session.print_json(&serde_json::json!({ "rule": rule, "dry_run": dry_run }));
    }
    session.render(|out, view| render::blocked(out, &rule, dry_run, view))?;
    if dry_run {
        session.say("nothing was changed; do it: the same command without --dry-run");
        return Ok(());
    }
    session.say(&format!("take it back: tcpguard unblock {}", args.prefix));
    say_unless_enforced("the rule drops", session);
    Ok(())
}

/// Says that a new rule does nothing yet in the mode that holds.
pub(super) fn say_unless_enforced(who_drops: &str, session: &Session<'_>) {
    if let Ok(Response::Mode { mode, .. }) = session.client.call(Request::Mode)
        && mode != Mode::Enforce
    {
        session.say(&format!(
            "the mode is {}, so {who_drops} nothing until: tcpguard mode enforce",
            crate::config::mode_name(mode.into())
        ));
    }
}

fn refuse_own_address(args: &BlockArgs, peer: IpAddr) -> Result<(), CliError> {
    if !args.prefix.contains(&peer) {
        return Ok(());
    }
    Err(CliError::Refused(format!(
        "{} covers {peer}, from where you are logged in over SSH: you would lock yourself out; \
         block a smaller prefix, or add --force if you are sure",
        args.prefix
    )))
}
