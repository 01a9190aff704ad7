//! `tcpguard restore-sysctls`, which the service runs after each end of the agent.

use std::collections::BTreeMap;

use serde::Serialize;

use super::session::Session;
use crate::agent::syncookies::{Returned, SYSCTL, SyncookiesLease};
use crate::documents::Printed;

/// What `tcpguard restore-sysctls --json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Restored {
    /// Name and version of this document: `tcpguard.restore-sysctls/1`.
    schema: &'static str,
    /// Each sysctl that an agent may change, with the value that it was given back; `null` where
    /// there was nothing to give back.
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
        return session.print_document(&Restored { schema: Restored::ID, restored });
    }
    // It follows each end of the agent, and mostly there was nothing to do.
    if returned != Returned::Nothing {
        session.say(&returned.to_string());
    }
    Ok(())
}
