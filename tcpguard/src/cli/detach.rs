//! `tcpguard detach`: detaches the BPF programs, by the agent and, where none runs, without it.

use super::args::DetachArgs;
use super::error::CliError;
use super::exit::Exit;
use super::session::Session;
use crate::bpf;
use crate::control::{ClientError, Request, Response};
use crate::documents::Detached;

pub(super) fn run(args: &DetachArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    // Without this, an unreadable directory would look like an empty one.
    if let Err(error) = std::fs::read_dir(&session.pin_dir)
        && error.kind() == std::io::ErrorKind::PermissionDenied
    {
        let pins = session.pin_dir.display();
        let message = format!("permission denied on {pins}");
        return Err(CliError::failed(Exit::Denied, message, "use sudo").into());
    }
    let interfaces: Vec<String> = args.interface.iter().cloned().collect();
    let agent = match ask_agent(session, interfaces.clone()) {
        Err(error @ ClientError::Denied { .. }) => return Err(error.into()),
        agent => agent,
    };
    // The programs that an agent left which has gone, or does not respond.
    let bpf::Detached { interfaces: mut detached, left } =
        bpf::detach(&session.pin_dir, &interfaces)?;
    if let Ok(Some(by_agent)) = &agent {
        detached.extend(by_agent.iter().cloned());
    }
    detached.sort();
    detached.dedup();
    if session.json {
        let detached = detached.clone();
        session.print_document(&Detached { detached })?;
    } else {
        for interface in &detached {
            session.print(&format!("detached {interface}\n"))?;
        }
    }
    if !left.is_empty() {
        return Err(still_there(&left).into());
    }
    let agent_lives = match agent {
        Ok(agent) => agent.is_some(),
        Err(error) => {
            let message = format!("the running agent may attach the XDP program again: {error}");
            let hint = "systemctl stop tcpguard, then detach again";
            return Err(CliError::refused(message, hint).into());
        }
    };
    if let (Some(interface), true) = (&args.interface, detached.is_empty()) {
        let message = format!("no XDP program of tcpguard is pinned for {interface}");
        let hint = format!("ls {}", session.pin_dir.display());
        return Err(CliError::not_found(message, hint).into());
    }
    let names = detached.join(", ");
    if detached.is_empty() {
        if !session.json {
            session.say("nothing was attached; see: tcpguard status");
        }
    } else if agent_lives {
        session.warn(
            &format!("the agent still runs and leaves {names} unprotected"),
            "systemctl restart tcpguard",
        );
    } else {
        session.say(&format!("{names} unprotected; to protect again: systemctl start tcpguard"));
    }
    Ok(())
}

fn still_there(left: &[bpf::KernelError]) -> CliError {
    let left: Vec<String> = left.iter().map(ToString::to_string).collect();
    CliError::refused(
        left.join("\n"),
        "stop the agent, then detach the rest: bpftool link detach pinned PATH",
    )
}

/// Returns the interfaces from which the agent detached its programs; `None` when no agent runs.
fn ask_agent(
    session: &Session<'_>,
    interfaces: Vec<String>,
) -> Result<Option<Vec<String>>, ClientError> {
    match session.client.ask(Request::Detach { interfaces }, Response::try_as_detached) {
        Ok(Detached { detached }) => Ok(Some(detached)),
        Err(ClientError::NotRunning { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
