//! `tcpguard rules`

use super::session::Session;
use super::status::foreign;
use crate::control::{Request, Response};
use crate::render;

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

/// Removes every rule, of either origin.
pub(super) fn flush(session: &mut Session<'_>) -> anyhow::Result<()> {
    super::unblock::run(&super::args::UnblockArgs { prefix: None, all: true }, session)
}
