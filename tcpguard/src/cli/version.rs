//! `tcpguard version`

use super::session::Session;
use crate::control::proto;
use crate::status::SCHEMA;

pub(super) fn run(session: &mut Session<'_>) -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let (abi, control) = (tcpguard_common::ABI_VERSION, proto::VERSION);
    if session.json {
        return session.print_json(&serde_json::json!({
            "version": version, "abi": abi, "control": control, "status": SCHEMA,
        }));
    }
    Ok(session.print(&format!(
        "tcpguard {version} (kernel layout {abi}, control protocol {control}, {SCHEMA})\n"
    ))?)
}
