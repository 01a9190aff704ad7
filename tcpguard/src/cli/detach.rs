//! `tcpguard detach`: the way out that needs no agent and asks nothing.

use super::args::DetachArgs;
use super::exit::CliError;
use super::session::Session;
use crate::control::Request;

pub(super) fn run(args: &DetachArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    // Without this, an unreadable directory would look like an empty one.
    if let Err(error) = std::fs::read_dir(&session.pin_dir)
        && error.kind() == std::io::ErrorKind::PermissionDenied
    {
        let pins = session.pin_dir.display();
        return Err(CliError::Denied(format!("permission denied on {pins}; use sudo")).into());
    }
    let interfaces: Vec<String> = args.interface.iter().cloned().collect();
    let detached = crate::kernel::detach(&session.pin_dir, &interfaces)?;
    if session.json {
        session.print_json(&serde_json::json!({ "detached": detached }))?;
    }
    if let (Some(interface), true) = (&args.interface, detached.is_empty()) {
        return Err(CliError::NotFound(format!(
            "no filter of tcpguard is pinned for {interface}; see where one is: ls {}",
            session.pin_dir.display()
        ))
        .into());
    }
    if !session.json {
        for interface in &detached {
            session.print(&format!("detached {interface}\n"))?;
        }
        if detached.is_empty() {
            session.say("nothing was attached");
        }
    }
    if session.client.call(Request::Mode).is_ok() {
        session
            .say("the agent still runs and no longer protects; stop it: systemctl stop tcpguard");
    } else if !detached.is_empty() {
        session.say("nothing is filtered any more; protect again: systemctl start tcpguard");
    }
    Ok(())
}
