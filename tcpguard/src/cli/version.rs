//! `tcpguard version`: versions of the command, the map layout, the control protocol and the status
//! document.

use schemars::JsonSchema;
use serde::Serialize;

use super::session::Session;
use crate::cli::documents::Printed;
use crate::control::proto;
use crate::documents::Status;

/// Document that `tcpguard version --json` prints.
#[derive(Debug, JsonSchema, Serialize)]
pub(crate) struct Version {
    /// Release of tcpguard.
    version: &'static str,
    /// Version of the layout of the BPF maps; an agent adopts only maps of its own layout.
    abi: u32,
    /// Version of the control protocol between command and agent.
    control: u32,
    /// Name and version of the status document.
    status: &'static str,
}

pub(super) fn run(session: &mut Session<'_>) -> anyhow::Result<()> {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        abi: tcpguard_common::abi::ABI_VERSION,
        control: proto::VERSION,
        status: Status::ID,
    };
    if session.json {
        return session.print_document(&version);
    }
    let Version { version, abi, control, status } = version;
    Ok(session.print(&format!(
        "tcpguard {version} (kernel layout {abi}, control protocol {control}, {status})\n"
    ))?)
}
