//! `tcpguard rules import`

use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;
use tcpguard_common::abi::maps;
use tcpguard_engine::{ImportReport, Limits};
use tcpguard_host::units::span;

use super::args::ImportArgs;
use super::block::{forced, warn_unless_enforced};
use super::caller;
use super::error::CliError;
use super::rule_file::{Defaults, Placed, Problem, parse};
use super::session::Session;
use super::status::foreign;
use crate::cli::documents::Printed;
use crate::control::proto::{Change, MAX_CHANGE};
use crate::control::{ClientError, Request, Response};
use crate::text;

/// Output of `tcpguard rules import --json`.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct Import {
    /// Name and version of this document: `tcpguard.import/1`.
    schema: &'static str,
    /// Changes that the import made, or would make.
    imported: ImportReport,
    /// True if nothing was changed (`--dry-run`).
    dry_run: bool,
}

pub(super) fn run(args: &ImportArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let text = read(&args.file)?;
    let defaults = Defaults { lifetime: args.lifetime, reason: args.reason.as_deref() };
    let rules = parse(&text, &defaults).map_err(|problems| refusal(&args.file, &problems))?;
    if rules.is_empty() {
        let message = format!("no rules in {}, nothing was changed", args.file.display());
        return Err(CliError::refused(message, "to remove every rule: tcpguard rules flush").into());
    }
    let caller = caller::ssh_peer();
    if !args.force
        && let Some(peer) = caller
    {
        refuse_own_address(&args.file, &rules, peer)?;
    }
    let longest = Some(Limits::MAX_MANUAL_RULE);
    let cut = rules.iter().filter(|(_, rule)| rule.lifetime > longest).count();
    let (places, rules): (Vec<String>, Vec<_>) = rules.into_iter().unzip();
    let within = args.rollback.within(args.force);
    let force = forced(args.force, within, caller);
    let change = Change::ImportRules { rules, merge: !args.replace, force };
    let request = Request::Change { change, dry_run: args.dry_run };
    let (imported, dry_run) = match session.client.call(request) {
        Ok(Response::Imported { imported, dry_run }) => (imported, dry_run),
        Ok(other) => return Err(foreign(&other).into()),
        Err(ClientError::Refused(refused)) if !refused.rules.is_empty() => {
            let problems = refused.rules.into_iter().map(|rule| Problem {
                place: places.get(rule.index).cloned().unwrap_or_default(),
                message: rule.message,
            });
            return Err(refusal(&args.file, &problems.collect::<Vec<_>>()).into());
        }
        Err(error) => return Err(error.into()),
    };
    if session.json {
        return session.print_document(&Import { schema: Import::ID, imported, dry_run });
    }
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

fn refuse_own_address(file: &Path, rules: &[Placed], peer: IpAddr) -> Result<(), CliError> {
    let own = rules.iter().filter(|(_, rule)| rule.net.contains(&peer));
    let problems: Vec<Problem> = own
        .map(|(place, rule)| Problem {
            place: place.clone(),
            message: format!("{} contains {peer}, the address of your SSH session", rule.net),
        })
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(refusal(file, &problems)) }
}

/// Returns the error that lists every mistake of a file, line by line.
fn refusal(file: &Path, problems: &[Problem]) -> CliError {
    let (count, s) = (problems.len(), if problems.len() == 1 { "" } else { "s" });
    let file = file.display();
    let mut text = format!("{count} mistake{s} in {file}, nothing was changed");
    for Problem { place, message } in problems {
        text.push_str(&format!("\n  {place}: {message}"));
    }
    CliError::refused(
        text,
        format!("correct them (or use --force), then: tcpguard rules import {file}"),
    )
}
