//! A full accept queue in the status: the agent sees the queue, but not the process that should empty it.

use tcpguard_host::finding::Finding;

use crate::documents::Status;

/// The finding of the agent about a full accept queue.
const FULL: &str = "accept_queue_full";

/// Returns whether the agent says that an accept queue is full.
pub fn is_reported(status: &Status) -> bool {
    status.health.iter().any(|finding| finding.code == FULL)
}

/// Replaces the agent's text with the process that accepts too slowly and the setting that limits its
/// queue.
pub fn name_processes(status: &mut Status, found: &[Finding]) {
    let of = |at: &str| {
        let about = |finding: &&Finding| {
            finding.code.starts_with("accept_queue") && finding.subject.as_deref() == Some(at)
        };
        found.iter().find(about)
    };
    for health in status.health.iter_mut().filter(|health| health.code == FULL) {
        if let Some(finding) = health.subject.as_deref().and_then(of) {
            (health.text, health.hint) = (finding.text.clone(), finding.hint.clone());
        }
    }
}
