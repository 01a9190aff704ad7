//! `tcpguard block`

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use tcpguard_engine::Ports;

use super::args::BlockArgs;
use super::caller;
use super::exit::CliError;
use super::session::Session;
use super::status::foreign;
use crate::control::proto::OnTrial;
use crate::control::{Request, Response};
use crate::documents::Printed;
use crate::render;
use crate::status::{Mode, Rule};

/// What `tcpguard block --json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Blocked {
    /// Name and version of this document: `tcpguard.block/1`.
    schema: &'static str,
    /// The rule that now exists, or would.
    rule: Rule,
    /// Whether it only would.
    dry_run: bool,
}

pub(super) fn run(args: BlockArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let caller = caller::ssh_peer();
    if !args.force
        && let Some(peer) = caller
    {
        refuse_own_address(&args, peer)?;
    }
    let ports = Ports::new(&args.ports)
        .map_err(|error| CliError::Usage(format!("{error}; see: tcpguard block --help")))?;
    let request = Request::Block {
        prefix: args.prefix,
        ports,
        for_s: args.lifetime.as_secs(),
        reason: args.reason,
        force: args.force,
        on_trial: on_trial(args.trial.within(args.force), caller),
        dry_run: args.dry_run,
    };
    let blocked = match session.client.call(request)? {
        Response::Blocked { rule, dry_run } => Blocked { schema: Blocked::ID, rule, dry_run },
        other => return Err(foreign(&other).into()),
    };
    if session.json {
        return session.print_document(&blocked);
    }
    session.render(|out, view| render::blocked(out, &blocked.rule, blocked.dry_run, view))?;
    if blocked.dry_run {
        session.say("nothing was changed; do it: the same command without --dry-run");
        return Ok(());
    }
    if let Some(until) = blocked.rule.confirmed_until {
        let until = session.view.time(until);
        session.say(&format!("let it stay until {until}: tcpguard rules confirm {}", args.prefix));
    }
    session.say(&format!("take it back: tcpguard unblock {}", args.prefix));
    say_unless_enforced("the rule drops", session);
    Ok(())
}

/// What the agent is told of how long rules wait for a word.
pub(super) fn on_trial(within: Option<Duration>, caller: Option<IpAddr>) -> Option<OnTrial> {
    within.map(|within| OnTrial { within_s: within.as_secs(), caller })
}

/// Says that a new rule does nothing yet in the mode that holds.
pub(super) fn say_unless_enforced(who_drops: &str, session: &Session<'_>) {
    if let Ok(Response::Mode { mode, .. }) = session.client.call(Request::Mode)
        && mode != Mode::Enforce
    {
        session.say(&format!(
            "the mode is {}, so {who_drops} nothing until: {}",
            crate::config::mode_name(mode.into()),
            tcpguard_engine::Mode::TRY_ENFORCE
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
