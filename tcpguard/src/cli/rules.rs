//! `tcpguard rules`

use serde::Serialize;

use super::args::ExportArgs;
use super::session::Session;
use super::status::foreign;
use crate::control::{Request, Response};
use crate::documents::Printed;
use crate::render;
use crate::status::{Allowed, ExportedRule, ExportedRules, Rule};

/// What `tcpguard rules list --json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RuleList {
    /// Name and version of this document: `tcpguard.rule-list/1`.
    schema: &'static str,
    /// Every rule wanted in the kernel.
    rules: Vec<Rule>,
    /// The allow-list.
    allowed: Vec<Allowed>,
}

pub(super) fn list(session: &mut Session<'_>) -> anyhow::Result<()> {
    let list = match session.client.call(Request::Rules)? {
        Response::Rules { rules, allowed } => RuleList { schema: RuleList::ID, rules, allowed },
        other => return Err(foreign(&other).into()),
    };
    if session.json {
        return session.print_document(&list);
    }
    if list.rules.is_empty() {
        session.say("no rules; make one: tcpguard block PREFIX");
    } else {
        session.render(|out, view| render::rules(out, &list.rules, view))?;
    }
    if !list.allowed.is_empty() {
        session.render(|out, view| render::allow_list(out, &list.allowed, view))?;
    }
    Ok(())
}

/// Writes what [`super::import`] reads.
pub(super) fn export(args: &ExportArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let rules = match session.client.call(Request::Rules)? {
        Response::Rules { rules, .. } => rules,
        other => return Err(foreign(&other).into()),
    };
    let wanted = rules.iter().filter(|rule| args.all || rule.origin == "operator");
    let rules: Vec<ExportedRule> = wanted.filter_map(ExportedRule::of).collect();
    if session.json {
        let schema = ExportedRules::ID.to_owned();
        return session.print_document(&ExportedRules { schema, rules });
    }
    if rules.is_empty() {
        session.say("no rules; make one: tcpguard block PREFIX");
    }
    session.print_lines(&rules)
}

/// Removes every rule, of either origin.
pub(super) fn flush(session: &mut Session<'_>) -> anyhow::Result<()> {
    super::unblock::run(&super::args::UnblockArgs { prefix: None, all: true }, session)
}
