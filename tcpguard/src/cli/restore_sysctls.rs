//! `tcpguard restore-sysctls`, which the service runs after each end of the agent.

use super::args::RestoreSysctlsArgs;
use super::session::Session;
use crate::agent::syncookies::{Returned, SYSCTL, SyncookiesLease};

pub(super) fn run(args: &RestoreSysctlsArgs, session: &mut Session<'_>) -> anyhow::Result<()> {
    let returned = SyncookiesLease::open(&args.state_dir)?.give_back()?;
    if session.json {
        let value = match returned {
            Returned::To(value) => Some(value),
            _ => None,
        };
        return session.print_json(&serde_json::json!({ "restored": { SYSCTL: value } }));
    }
    // It follows each end of the agent, and mostly there was nothing to do.
    if returned != Returned::Nothing {
        session.say(&returned.to_string());
    }
    Ok(())
}
