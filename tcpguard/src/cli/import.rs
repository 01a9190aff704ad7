//! `tcpguard rules import`

use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;

use tcpguard_common::abi::maps;
use tcpguard_engine::Limits;
use tcpguard_host::units::span;

use super::args::ImportArgs;
use super::block::{forced, warn_unless_enforced};
use super::caller;
use super::error::CliError;
use super::rule_file::{Defaults, Placed, Problem, parse};
use super::session::Session;
use crate::control::proto::{Change, MAX_CHANGE};
use crate::control::{ClientError, Request, Response, taken};
use crate::documents::Import;
use crate::text;

pub(super) fn run(args: &ImportArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let text = read(&args.file)?;
    let defaults = Defaults { lifetime: args.lifetime, reason: args.reason.as_deref() };
    let (rules, mistakes) = parse(&text, &defaults);
    if rules.is_empty() && mistakes.is_empty() {
        let message = format!("no rules in {}, nothing was changed", args.file.display());
        return Err(CliError::refused(message, "to remove every rule: tcpguard rules flush").into());
    }
    let longest = Some(Limits::MAX_MANUAL_RULE);
    let cut = rules.iter().filter(|(_, rule)| rule.lifetime > longest).count();
    let within = args.rollback.within(args.force);
    let done = import(args, session, rules, mistakes)?;
    if session.json {
        return session.print_document(&done);
    }
    let Import { imported, dry_run } = done;
    session.render(|out, _| text::imported(out, &imported, dry_run))?;
    if cut > 0 {
        let s = if cut == 1 { "" } else { "s" };
        session.warn(&format!("lifetime of {cut} rule{s} reduced to 24h"), "tcpguard rules list");
    }
    if let (1.., Some(within)) = (imported.pending_confirmation, within) {
        let (count, within) = (imported.pending_confirmation, span(within));
        session.warn(
            &format!("{count} of them expire after {within} unless confirmed"),
            "tcpguard confirm",
        );
    }
    if dry_run {
        session.say("dry run, nothing was changed: repeat without --dry-run");
        return Ok(());
    }
    warn_unless_enforced(session);
    Ok(())
}

/// Asks the agent to import `rules`. Where the file has mistakes, it is only asked which of the other rules it
/// would refuse, so that one error names them all.
fn import(
    args: &ImportArgs,
    session: &mut Session<'_>,
    rules: Vec<Placed>,
    mut mistakes: Vec<Problem>,
) -> anyhow::Result<Import> {
    let may_be_forced = mistakes.is_empty();
    let caller = caller::ssh_peer();
    if let (false, Some(peer)) = (args.force, caller) {
        mistakes.extend(of_session(&rules, peer));
    }
    let (places, rules): (Vec<String>, Vec<_>) = rules.into_iter().unzip();
    let force = forced(args.force, args.rollback.within(args.force), caller);
    let dry_run = args.dry_run || !mistakes.is_empty();
    let change = Change::ImportRules { rules, merge: !args.replace, force };
    let answer = session.client.call(Request::Change { change, dry_run });
    if let Err(ClientError::Refused(refused)) = &answer {
        for rule in &refused.rules {
            let place = places.get(rule.index).cloned().unwrap_or_default();
            if mistakes.iter().all(|mistake| mistake.place != place) {
                mistakes.push(Problem { place, message: rule.message.clone() });
            }
        }
    }
    if !mistakes.is_empty() {
        return Err(refusal(&args.file, &mistakes, may_be_forced).into());
    }
    Ok(taken(answer?, Response::try_as_imported)?)
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let limit = MAX_CHANGE as u64 + 1;
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(limit).read_to_string(&mut text))
    };
    read.map_err(|error| CliError::file("read", file, &error, "tcpguard rules import --help"))?;
    if text.len() > MAX_CHANGE {
        let (file, limit, rules) = (file.display(), MAX_CHANGE >> 20, maps::MAX_RULES);
        let message = format!("{file} exceeds {limit} MiB (a file may have {rules} rules)");
        return Err(CliError::refused(message, "tcpguard rules import --help").into());
    }
    Ok(text)
}

/// The rules that contain the address of the operator's SSH session.
fn of_session(rules: &[Placed], peer: IpAddr) -> Vec<Problem> {
    let own = rules.iter().filter(|(_, rule)| rule.net.contains(&peer));
    own.map(|(place, rule)| Problem {
        place: place.clone(),
        message: format!("{} contains {peer}, the address of your SSH session", rule.net),
    })
    .collect()
}

/// Returns the error that lists every mistake of a file, line by line.
fn refusal(file: &Path, problems: &[Problem], may_be_forced: bool) -> CliError {
    let (count, s) = (problems.len(), if problems.len() == 1 { "" } else { "s" });
    let file = file.display();
    let mut text = format!("{count} mistake{s} in {file}, nothing was changed");
    for Problem { place, message } in problems {
        text.push_str(&format!("\n  {place}: {message}"));
    }
    let force = if may_be_forced { " (or use --force)" } else { "" };
    CliError::refused(text, format!("correct them{force}, then: tcpguard rules import {file}"))
}
