//! `tcpguard explain`

use ipnet::IpNet;

use super::args::{ExplainArgs, Subject};
use super::exit::CliError;
use super::session::Session;
use super::status::{fetch, foreign};
use crate::control::{Request, Response};
use crate::render;

pub(super) fn run(args: &ExplainArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    match args.subject {
        Subject::Prefix(prefix) => about_prefix(prefix, session),
        Subject::Incident(id) => about_incident(id, session),
    }
}

fn about_prefix(prefix: IpNet, session: &mut Session<'_>) -> anyhow::Result<()> {
    let explanation = match session.client.call(Request::Explain { prefix })? {
        Response::Explained(explanation) => *explanation,
        other => return Err(foreign(&other).into()),
    };
    if session.json {
        let mut json = serde_json::to_value(&explanation)?;
        json["verdict"] = explanation.verdict().into();
        return session.print_json(&json);
    }
    session.render(|out, view| render::explanation(out, &explanation, view))?;
    match explanation.rules.first() {
        Some(_) => session.say(&format!("take the rule back: tcpguard unblock {prefix}")),
        None => session.say(&format!("drop it: tcpguard block {prefix}")),
    }
    Ok(())
}

fn about_incident(id: u64, session: &mut Session<'_>) -> anyhow::Result<()> {
    let status = fetch(session)?;
    let found = status.attacks.iter().chain(&status.past_attacks).find(|attack| attack.id == id);
    let Some(attack) = found else {
        return Err(CliError::NotFound(format!(
            "no attack #{id} is open or among the last ones; older ones: journalctl -u tcpguard"
        ))
        .into());
    };
    if session.json {
        return session.print_json(attack);
    }
    session.render(|out, view| render::attack_in_full(out, attack, &status, view))
}
