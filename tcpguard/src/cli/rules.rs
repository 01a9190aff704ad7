//! `tcpguard rules`

use super::session::Session;
use super::status::foreign;
use crate::control::{Request, Response};
use crate::render;

pub(super) fn list(session: &mut Session<'_>) -> anyhow::Result<()> {
    let rules = match session.client.call(Request::Rules)? {
        Response::Rules { rules } => rules,
        other => return Err(foreign(&other).into()),
    };
    if session.json {
        return session.print_json(&serde_json::json!({ "rules": rules }));
    }
    if rules.is_empty() {
        session.say("no rules; make one: tcpguard block PREFIX");
        return Ok(());
    }
    session.render(|out, view| render::rules(out, &rules, view))
}
