//! `tcpguard restore-sysctls`, which the service runs after each end of the agent.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::session::Session;
use crate::daemon::syncookies::{Returned, SYSCTL, SyncookiesLease};

/// Output of `tcpguard restore-sysctls --json`.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct Restored {
    /// Each sysctl that an agent may change, with the value that was restored; `null` where the sysctl was left
    /// as it is.
    restored: BTreeMap<&'static str, Option<u64>>,
}

pub(super) fn run(session: &mut Session<'_>) -> anyhow::Result<()> {
    let returned = SyncookiesLease::open(&session.state_dir)?.give_back()?;
    if session.json {
        let value = match returned {
            Returned::To(value) => Some(value),
            _ => None,
        };
        let restored = BTreeMap::from([(SYSCTL, value)]);
        return session.print_document(&Restored { restored });
    }
    // The command runs after each end of the agent, and mostly there is nothing to restore.
    if returned != Returned::Nothing {
        session.say(&returned.to_string());
    }
    Ok(())
}
