//! Checks of the settings of the host and its applications that matter under a flood.

use super::super::document::Checked;
use super::super::facts::Facts;
use crate::tune::{Kind, Row};

/// A backlog below this is full with the few clients that come at once; applications that ask for
/// less than 16 have asked for a number of the eighties (listen(2) was 5 in 4.2BSD).
const TINY: u32 = 16;
/// Default of `somaxconn`, the limit of listen(2), until Linux 5.4: less is worth a look where
/// connections are lost.
const SMALL: u32 = 128;

pub(in super::super) fn settings(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "sysctls";
    let sysctls: Vec<&Row> =
        facts.tune.settings.iter().filter(|row| row.kind == Kind::Sysctl).collect();
    let mut findings: Vec<Checked> =
        sysctls.iter().filter_map(|row| row.finding(CODE)).map(Checked::from).collect();
    let followed = facts.tune.refused.iter().filter(|recipe| {
        // The running value is reported above.
        recipe.found.iter().any(|place| place != "running")
    });
    for recipe in followed {
        let files: Vec<&str> =
            recipe.found.iter().map(String::as_str).filter(|place| *place != "running").collect();
        let file = files[0].rsplit_once(':').map_or(files[0], |(file, _)| file);
        findings.push(
            Checked::notice(
                CODE,
                format!("{} sets it to {}: {}", files.join(", "), recipe.recipe, recipe.why),
            )
            .about(&recipe.name)
            .hint(format!("edit {file}: remove {}", recipe.name)),
        );
    }
    if findings.is_empty() {
        findings.push(Checked::passed(CODE, format!("{} checked", sysctls.len())));
    }
    findings
}

/// Listeners with a small limit of their own that other hosts can reach.
pub(in super::super) fn listeners(facts: &Facts) -> Vec<Checked> {
    const CODE: &str = "listener_limits";
    let lost = facts.host.load.listen_overflows;
    let somaxconn = facts.host.somaxconn.unwrap_or(0);
    let open: Vec<_> =
        facts.host.listeners.iter().filter(|listener| !listener.at.ip().is_loopback()).collect();
    let mut findings = Vec::new();
    for listener in &open {
        let backlog = listener.backlog;
        // somaxconn is checked above.
        let by_application = u64::from(backlog) < somaxconn;
        let text = format!(
            "the application requested a backlog of {backlog}, which limits its SYN queue and its accept \
             queue (somaxconn {somaxconn})"
        );
        let finding = match backlog {
            0..TINY if by_application => Checked::warning(CODE, text),
            TINY..SMALL if by_application && lost > 0 => Checked::warning(
                CODE,
                format!("{text}; {lost} SYNs and ACKs dropped at full accept queues since boot"),
            ),
            TINY..SMALL if by_application => Checked::notice(CODE, text),
            _ => continue,
        };
        findings.push(finding.about(listener.at.to_string()).hint("tcpguard listeners"));
    }
    if findings.is_empty() {
        let text = format!("{} reachable listeners, none with a small backlog", open.len());
        findings.push(Checked::passed(CODE, text));
    }
    findings
}
