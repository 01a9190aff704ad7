//! `tcpguard rules`

use super::args::ExportArgs;
use super::session::Session;
use super::status::foreign;
use crate::control::{Request, Response};
use crate::render;
use crate::status::{ExportedRule, ExportedRules, RULES_SCHEMA};

pub(super) fn list(session: &mut Session<'_>) -> anyhow::Result<()> {
    let (rules, allowed) = match session.client.call(Request::Rules)? {
        Response::Rules { rules, allowed } => (rules, allowed),
        other => return Err(foreign(&other).into()),
    };
    if session.json {
        return session.print_json(&serde_json::json!({ "rules": rules, "allowed": allowed }));
    }
    if rules.is_empty() {
        session.say("no rules; make one: tcpguard block PREFIX");
    } else {
        session.render(|out, view| render::rules(out, &rules, view))?;
    }
    if !allowed.is_empty() {
        session.render(|out, view| render::allow_list(out, &allowed, view))?;
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
        let schema = RULES_SCHEMA.to_owned();
        return session.print_json(&ExportedRules { schema, rules });
    }
    if rules.is_empty() {
        session.say("no rules; make one: tcpguard block PREFIX");
    }
    session.print_json_lines(&rules)
}

/// Removes every rule, of either origin.
pub(super) fn flush(session: &mut Session<'_>) -> anyhow::Result<()> {
    super::unblock::run(&super::args::UnblockArgs { prefix: None, all: true }, session)
}
