//! `tcpguard block`

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_engine::{ClientsWithin, Force, Mode, Ports};

use super::args::BlockArgs;
use super::caller;
use super::error::CliError;
use super::session::Session;
use crate::control::proto::Change;
use crate::control::{Request, Response};
use crate::documents::{Advised, ModeShown};
use crate::text;

pub(super) fn run(args: &BlockArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let caller = caller::ssh_peer();
    let (mut prefixes, mut named) = (args.prefixes.clone(), BTreeSet::new());
    prefixes.retain(|prefix| named.insert(*prefix));
    if !args.force
        && let Some(peer) = caller
    {
        prefixes.iter().try_for_each(|prefix| refuse_own_address(prefix, peer))?;
    }
    let ports = Ports::new(&args.ports)
        .map_err(|error| CliError::usage(error.to_string(), "tcpguard block --help"))?;
    let force = forced(args.force, args.rollback.within(args.force), caller);
    let request = |net: &IpNet, dry_run| {
        let change = Change::Block {
            net: *net,
            ports,
            lifetime: args.lifetime,
            reason: args.reason.clone(),
            force,
            clients: ClientsWithin::default(),
        };
        Request::Change { change, dry_run }
    };
    if let [_, _, ..] = prefixes.as_slice() {
        // All or none.
        for prefix in &prefixes {
            session.client.call(request(prefix, true))?;
        }
    }
    let mut all = Vec::new();
    for prefix in &prefixes {
        let request = request(prefix, args.dry_run);
        all.push(session.client.ask(request, Response::try_as_blocked)?);
    }
    if session.json {
        return all.iter().try_for_each(|blocked| session.print_document(&**blocked));
    }
    session
        .render(|out, view| all.iter().try_for_each(|blocked| text::blocked(out, blocked, view)))?;
    if args.dry_run {
        session.say("dry run, nothing was changed: repeat without --dry-run");
        return Ok(());
    }
    for rule in all.iter().map(|blocked| &blocked.rule) {
        if let Some(until) = rule.confirmed_until {
            let until = session.view.end(rule.created_at, until);
            session.say(&format!("to keep it until {until}: tcpguard confirm {}", rule.matches));
        }
    }
    let rules: Vec<&str> = all.iter().map(|blocked| blocked.rule.matches.as_str()).collect();
    session.say(&format!("to remove it: tcpguard unblock {}", rules.join(" ")));
    warn_unless_enforced(session);
    Ok(())
}

/// Returns the permission for rules that need force: with `within`, they are pending confirmation.
pub(super) fn forced(force: bool, within: Option<Duration>, caller: Option<IpAddr>) -> Force {
    match (force, within) {
        (false, _) => Force::No,
        (true, None) => Force::ForGood,
        (true, Some(within)) => Force::PendingConfirmation { within, caller },
    }
}

/// Warns that new rules drop nothing yet, unless the mode is `enforce`.
pub(super) fn warn_unless_enforced(session: &Session<'_>) {
    if let Ok(Response::Mode(ModeShown { mode, .. })) = session.client.call(Request::Mode)
        && mode != Mode::Enforce
    {
        let mode = mode.name();
        session.warn(&format!("mode {mode}: rules drop nothing"), Advised::TRY_ENFORCE);
    }
}

fn refuse_own_address(prefix: &IpNet, peer: IpAddr) -> Result<(), CliError> {
    if !prefix.contains(&peer) {
        return Ok(());
    }
    let message = format!("{prefix} contains {peer}, the address of your SSH session");
    Err(CliError::refused(message, "use a smaller prefix, or --force"))
}
