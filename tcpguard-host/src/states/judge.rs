//! Judgement of the facts that were read.

use super::{
    Counts, Destination, Holder, NO_LIMIT, ProcessQueues, Queues, Resource, ResourceKind,
    StateCount, StatesReport,
};
use crate::finding::{Finding, Owner, Severity, worst_first};
use crate::linux::{DescriptorUse, TcpState};
use crate::time::Time;
use crate::units::{bytes, percent, whole};

/// Limits from which on a value is reported.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Half-open connections up to which nothing is unusual. A host has as many if its clients answer
    /// within a tenth of a second and open 150 new connections a second.
    pub syn_recv: u64,
    /// Open connections from which on it is a warning; `None`: their number alone is no matter.
    pub established_warning: Option<u64>,
    /// Open connections from which on it is critical; `None`: as above.
    pub established_critical: Option<u64>,
    /// Connections that one process has left in CLOSE_WAIT, from which on it is a warning.
    pub close_wait: u64,
    /// Share of a resource from which on it is a warning.
    pub nearly_used_up: f64,
    /// Share of a resource from which on it is critical.
    pub used_up: f64,
    /// Unread bytes in one connection from which on its application may be stuck: half of a connection's
    /// default buffer (`net.ipv4.tcp_rmem`).
    pub unread: u32,
    /// Unacknowledged bytes in one connection from which on its other end may be gone: more than
    /// a path of 100 Mbit/s and 50 ms holds.
    pub unacknowledged: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            syn_recv: 15,
            established_warning: None,
            established_critical: None,
            close_wait: 100,
            nearly_used_up: 0.8,
            used_up: 0.95,
            unread: 64 * 1024,
            unacknowledged: 1024 * 1024,
        }
    }
}

/// Processes with the most descriptors that are reported.
const FULLEST: usize = 3;
/// Share of the local ports from which on a destination is reported although another one has more.
const REPORTED_FROM: f64 = 0.01;

/// Units in use, and the limit.
type Use = (Option<u64>, Option<u64>);

/// The facts that were read from the host.
#[derive(Clone, Debug)]
pub struct StateFacts {
    /// Time at which they were read.
    pub at: Time,
    /// Connections by state and family.
    pub counts: Counts,
    /// Number of local ports that the kernel has for connections to one destination.
    pub ports: Option<u64>,
    /// Destinations to which this host has opened the most connections.
    pub destinations: Vec<Destination>,
    /// Connections in TIME_WAIT and their limit.
    pub time_wait: Use,
    /// Sockets that were closed and are not over, and their limit.
    pub orphans: Use,
    /// Memory in the queues of TCP connections and its limit, in pages, of the whole host.
    pub memory: Use,
    /// Open files of the host and their limit.
    pub files: Use,
    /// The descriptors of every process.
    pub descriptors: Vec<DescriptorUse>,
    /// Owners of connections in CLOSE_WAIT, the most first.
    pub close_wait: Vec<Holder>,
    /// The data that waits in connections, if it was asked for.
    pub queues: Option<Queues>,
    /// The facts that could not be read, and why.
    pub unread: Vec<String>,
}

/// The report on these facts.
pub fn judge(facts: &StateFacts, limits: &Limits) -> StatesReport {
    let mut findings = Vec::new();
    let states = TcpState::ALL.map(|state| count(state, facts, limits, &mut findings)).into();
    let resources = resources(facts, limits);
    findings.extend(resources.iter().filter_map(used_up));
    findings.extend(facts.close_wait.iter().filter_map(|holder| left_open(holder, limits)));
    for queues in facts.queues.iter().flat_map(|queues| &queues.processes) {
        findings.extend(stuck(queues, limits));
    }
    worst_first(&mut findings);
    StatesReport {
        generated_at: facts.at,
        states,
        resources,
        close_wait: facts.close_wait.clone(),
        queues: facts.queues.clone(),
        findings,
        unread: facts.unread.clone(),
    }
}

fn count(
    state: TcpState,
    facts: &StateFacts,
    limits: &Limits,
    findings: &mut Vec<Finding>,
) -> StateCount {
    let (ipv4, ipv6) = (facts.counts.of(state, false), facts.counts.of(state, true));
    let total = ipv4 + ipv6;
    let (expected_max, severity) = match state {
        TcpState::SynRecv => {
            (Some(limits.syn_recv), (total > limits.syn_recv).then_some(Severity::Notice))
        }
        TcpState::Established => {
            let reached = |limit: Option<u64>| limit.is_some_and(|limit| total >= limit);
            let severity = match limits.established_critical {
                critical if reached(critical) => Some(Severity::Critical),
                _ if reached(limits.established_warning) => Some(Severity::Warning),
                _ => None,
            };
            let first = limits.established_warning.or(limits.established_critical);
            (first.map(|first| first.saturating_sub(1)), severity)
        }
        _ => (None, None),
    };
    if let (Some(most), Some(severity)) = (expected_max, severity) {
        let (code, what, hint) = match state {
            TcpState::SynRecv => (
                "many_half_open",
                "half-open connections",
                "check for an attack: tcpguard status; check the queues: tcpguard listeners",
            ),
            _ => (
                "many_established",
                "open connections",
                "list their processes: tcpguard states --queues",
            ),
        };
        let text = format!("{} {what} (expected: at most {})", whole(total), whole(most));
        findings.push(Finding::new(severity, code, text).hint(hint));
    }
    StateCount { state, ipv4, ipv6, expected_max, severity }
}

fn resources(facts: &StateFacts, limits: &Limits) -> Vec<Resource> {
    let resource = |kind, (used, limit): Use| {
        let bound = limit.filter(|limit| *limit > 0 && *limit < NO_LIMIT);
        let ratio = used.zip(bound).map(|(used, limit)| used as f64 / limit as f64);
        let severity = match ratio {
            Some(ratio) if ratio >= limits.used_up => Some(Severity::Critical),
            Some(ratio) if ratio >= limits.nearly_used_up => Some(Severity::Warning),
            _ => None,
        };
        Resource { resource: kind, process: None, destination: None, used, limit, ratio, severity }
    };
    let mut resources = vec![
        resource(ResourceKind::TimeWait, facts.time_wait),
        resource(ResourceKind::Orphans, facts.orphans),
        resource(ResourceKind::Memory, facts.memory),
        resource(ResourceKind::Files, facts.files),
    ];
    let ports = facts.destinations.iter().map(|destination| Resource {
        destination: Some(destination.remote),
        ..resource(ResourceKind::LocalPorts, (Some(destination.connections), facts.ports))
    });
    let is_reported = |(number, ports): &(usize, Resource)| {
        *number == 0 || ports.ratio.is_some_and(|ratio| ratio >= REPORTED_FROM)
    };
    resources.extend(ports.enumerate().filter(is_reported).map(|(_, ports)| ports));
    let mut processes: Vec<_> = facts
        .descriptors
        .iter()
        .map(|it| Resource {
            process: Some(Owner { name: it.comm.clone(), pid: it.pid }),
            ..resource(ResourceKind::Descriptors, (Some(it.used), Some(it.limit)))
        })
        .collect();
    processes.sort_by(|a, b| b.ratio.unwrap_or(0.0).total_cmp(&a.ratio.unwrap_or(0.0)));
    // The fullest, and all others with a severity.
    let reported =
        processes.iter().filter(|process| process.severity.is_some()).count().max(FULLEST);
    resources.extend(processes.into_iter().take(reported));
    resources
}

/// The finding about a resource that is nearly used up, if it is.
fn used_up(resource: &Resource) -> Option<Finding> {
    let severity = resource.severity?;
    let (used, limit) = (resource.used?, resource.limit?);
    let share =
        format!("{} of {} ({})", whole(used), whole(limit), percent(used as f64 / limit as f64));
    let (code, text, hint) = match resource.resource {
        ResourceKind::TimeWait => (
            "time_wait_full",
            format!(
                "TIME_WAIT slots: {share}. Beyond the limit, connections skip TIME_WAIT, and their \
                 late packets can reach new connections."
            ),
            "raise net.ipv4.tcp_max_tw_buckets (256 bytes per slot); for a value: tcpguard tune"
                .to_owned(),
        ),
        ResourceKind::Orphans => (
            "orphans_full",
            format!(
                "orphaned connections: {share}. Beyond the limit, the kernel resets them, and \
                 clients lose data."
            ),
            "check net.ipv4.tcp_orphan_retries and net.ipv4.tcp_max_orphans: tcpguard tune"
                .to_owned(),
        ),
        ResourceKind::Memory => (
            "tcp_memory_full",
            format!(
                "TCP memory in pages: {share}. Beyond the limit, the kernel shrinks windows and \
                 drops packets."
            ),
            "find the processes with the longest queues (tcpguard states --queues), or raise \
             net.ipv4.tcp_mem"
                .to_owned(),
        ),
        ResourceKind::Files => (
            "files_full",
            format!("open files: {share}. Beyond the limit, only root can open files."),
            format!(
                "check the processes with the most descriptors above, or: sysctl -w fs.file-max={}",
                limit.saturating_mul(2)
            ),
        ),
        ResourceKind::LocalPorts => (
            "ports_short",
            format!(
                "local ports to {}: {share}. Without a free port, connections to it fail.",
                resource.destination?
            ),
            "reuse connections, or widen net.ipv4.ip_local_port_range (for a value: tcpguard tune)"
                .to_owned(),
        ),
        ResourceKind::Descriptors => {
            let owner = resource.process.as_ref()?;
            (
                "descriptors_short",
                format!("descriptors of {owner}: {share}. Without a free one, it cannot accept."),
                format!(
                    "raise its limit: LimitNOFILE= of its unit, or until its restart prlimit --pid {} \
                     --nofile={}",
                    owner.pid,
                    limit.saturating_mul(4)
                ),
            )
        }
    };
    let subject = match (&resource.process, resource.destination) {
        (Some(process), _) => Some(process.to_string()),
        (None, destination) => destination.map(|destination| destination.to_string()),
    };
    Some(Finding { subject, ..Finding::new(severity, code, text).hint(hint) })
}

/// The finding about connections that clients have closed and the application has not.
fn left_open(holder: &Holder, limits: &Limits) -> Option<Finding> {
    const CODE: &str = "close_wait_pile";
    if holder.connections < limits.close_wait {
        return None;
    }
    let number = whole(holder.connections);
    if let Some(port) = holder.accept_queue {
        let text = format!(
            "{number} connections in the accept queue of :{port} are in CLOSE_WAIT: the clients closed \
             them before the application accepted them"
        );
        let hint = "check the queue and its process: sudo tcpguard listeners";
        return Some(Finding::warning(CODE, text).about(format!(":{port}")).hint(hint));
    }
    let Some(owner) = &holder.process else {
        let text =
            format!("{number} connections in CLOSE_WAIT: the applications do not close them");
        let hint = "list their processes: sudo tcpguard states";
        return Some(Finding::warning(CODE, text).hint(hint));
    };
    let share = holder.descriptors.zip(holder.descriptor_limit);
    let severity = match share {
        Some((used, limit)) if used as f64 >= limit as f64 * limits.used_up => Severity::Critical,
        _ => Severity::Warning,
    };
    let cost = share.map_or_else(String::new, |(used, limit)| {
        format!("; {} of {} descriptors in use", whole(used), whole(limit))
    });
    let text = format!(
        "{owner}: {number} connections in CLOSE_WAIT, closed by the clients but not by it{cost}"
    );
    let hint = "restart it to free them, and have its missing close() fixed; list them: ss -tnp \
                state close-wait";
    Some(Finding::new(severity, CODE, text).about(owner.to_string()).hint(hint))
}

/// The findings about unread and unacknowledged data of a process.
fn stuck(queues: &ProcessQueues, limits: &Limits) -> Vec<Finding> {
    // Without a process there is no reader; data of a closed socket is still being sent.
    let Some(owner) = &queues.process else { return Vec::new() };
    let mut findings = Vec::new();
    if queues.unread_max >= limits.unread {
        let text = format!(
            "{owner}: {} unread, {} of it in one connection",
            bytes(queues.unread),
            bytes(queues.unread_max.into())
        );
        let hint = "if it stays unread, the process hangs or is too slow: tcpguard states --queues";
        findings.push(Finding::notice("unread_data", text).about(owner.to_string()).hint(hint));
    }
    if queues.unacknowledged_max >= limits.unacknowledged {
        let text = format!(
            "{owner}: {} sent and unacknowledged, {} of it in one connection",
            bytes(queues.unacknowledged),
            bytes(queues.unacknowledged_max.into())
        );
        let hint = "check for a slow path or vanished clients: ss -tnoi";
        let finding = Finding::notice("unacknowledged_data", text);
        findings.push(finding.about(owner.to_string()).hint(hint));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcpguard_support::hint_check;

    fn calm() -> StateFacts {
        StateFacts {
            at: Time("2026-11-20T14:05:31.204Z".parse().expect("a time")),
            counts: Counts::default(),
            ports: Some(28_232),
            destinations: Vec::new(),
            time_wait: (Some(120), Some(65_536)),
            orphans: (Some(0), Some(65_536)),
            memory: (Some(780), Some(376_638)),
            files: (Some(2_144), Some(9_223_372_036_854_775_807)),
            descriptors: Vec::new(),
            close_wait: Vec::new(),
            queues: None,
            unread: Vec::new(),
        }
    }

    fn codes(facts: &StateFacts) -> Vec<(&'static str, Severity)> {
        let report = judge(facts, &Limits::default());
        let code = |finding: Finding| (&*finding.code.leak(), finding.severity);
        report.findings.into_iter().map(code).collect()
    }

    fn owner() -> Option<Owner> {
        Some(Owner { name: "java".to_owned(), pid: 7 })
    }

    #[test]
    fn a_calm_host_gets_no_word() {
        assert_eq!(codes(&calm()), []);
    }

    #[test]
    fn counts_are_judged_over_both_families() {
        use Severity::Notice;
        for (state, ipv4, ipv6, expected) in [
            (TcpState::SynRecv, 15, 0, None),
            (TcpState::SynRecv, 8, 8, Some(("many_half_open", Notice))),
            (TcpState::Established, 100_000, 900_000, None),
            (TcpState::FinWait2, 100_000, 0, None),
        ] {
            let mut facts = calm();
            facts.counts.add(state, false, ipv4);
            facts.counts.add(state, true, ipv6);
            let expected: Vec<_> = expected.into_iter().collect();
            assert_eq!(codes(&facts), expected, "{state:?} {ipv4} {ipv6}");
        }
    }

    #[test]
    fn the_limits_are_the_operators() {
        let mut facts = calm();
        facts.counts.add(TcpState::SynRecv, false, 400);
        facts.counts.add(TcpState::Established, false, 5_000);
        let limits = Limits {
            syn_recv: 500,
            established_warning: Some(10_000),
            established_critical: Some(20_000),
            ..Limits::default()
        };
        assert_eq!(judge(&facts, &limits).findings, []);

        use Severity::{Critical, Warning};
        for (warning, critical, expected) in [
            (None, None, None),
            (Some(5_000), None, Some(Warning)),
            (None, Some(5_000), Some(Critical)),
            (Some(5_001), Some(6_000), None),
            (Some(1_000), Some(5_000), Some(Critical)),
        ] {
            let limits =
                Limits { established_warning: warning, established_critical: critical, ..limits };
            let report = judge(&facts, &limits);
            let found = report.findings.iter().find(|it| it.code == "many_established");
            assert_eq!(found.map(|it| it.severity), expected, "{warning:?} {critical:?}");
        }
    }

    #[test]
    fn what_is_nearly_used_up_is_a_warning_and_what_is_used_up_critical() {
        use Severity::{Critical, Warning};
        type Set = fn(&mut StateFacts, Use);
        let time_wait: Set = |facts, of| facts.time_wait = of;
        let orphans: Set = |facts, of| facts.orphans = of;
        let files: Set = |facts, of| facts.files = of;
        let memory: Set = |facts, of| facts.memory = of;
        let ports: Set = |facts, (used, limit)| {
            facts.ports = limit;
            facts.destinations = vec![Destination {
                local: "192.0.2.1".parse().expect("an address"),
                remote: "198.51.100.9:5432".parse().expect("an address"),
                connections: used.unwrap_or(0),
            }];
        };
        let descriptors: Set = |facts, (used, limit)| {
            let (used, limit) = (used.unwrap_or(0), limit.unwrap_or(0));
            facts.descriptors =
                vec![DescriptorUse { pid: 7, comm: "java".to_owned(), used, limit }];
        };
        for (set, code) in [
            (time_wait, "time_wait_full"),
            (orphans, "orphans_full"),
            (files, "files_full"),
            (memory, "tcp_memory_full"),
            (ports, "ports_short"),
            (descriptors, "descriptors_short"),
        ] {
            for (used, limit, expected) in [
                (Some(79), Some(100), None),
                (Some(80), Some(100), Some(Warning)),
                (Some(95), Some(100), Some(Critical)),
                (Some(95), None, None),
                (Some(95), Some(0), None),
                (None, Some(100), None),
            ] {
                let mut facts = calm();
                set(&mut facts, (used, limit));
                let expected: Vec<_> =
                    expected.map(|severity| (code, severity)).into_iter().collect();
                assert_eq!(codes(&facts), expected, "{code} {used:?} {limit:?}");
            }
        }
    }

    #[test]
    fn the_fullest_processes_are_reported_and_all_with_a_severity() {
        let use_of = |pid, used| DescriptorUse { pid, comm: "app".to_owned(), used, limit: 100 };
        let mut facts = calm();
        facts.descriptors = (1..=10).map(|pid| use_of(pid, u64::from(pid))).collect();
        let reported = |facts: &StateFacts| -> Vec<u32> {
            let report = judge(facts, &Limits::default());
            report.resources.iter().filter_map(|it| Some(it.process.as_ref()?.pid)).collect()
        };
        assert_eq!(reported(&facts), [10, 9, 8]);
        facts.descriptors = (1..=5).map(|pid| use_of(pid, 90 + u64::from(pid))).collect();
        assert_eq!(reported(&facts), [5, 4, 3, 2, 1]);
    }

    #[test]
    fn close_wait_names_the_process_and_what_it_costs() {
        use Severity::{Critical, Warning};
        for (connections, descriptors, expected) in [
            (99, Some((1_000, 1_024)), None),
            (100, Some((500, 1_024)), Some(Warning)),
            (812, Some((1_020, 1_024)), Some(Critical)),
            (812, None, Some(Warning)),
        ] {
            let mut facts = calm();
            facts.close_wait = vec![Holder {
                process: owner(),
                accept_queue: None,
                connections,
                descriptors: descriptors.map(|(used, _)| used),
                descriptor_limit: descriptors.map(|(_, limit)| limit),
            }];
            let expected: Vec<_> =
                expected.map(|severity| ("close_wait_pile", severity)).into_iter().collect();
            assert_eq!(codes(&facts), expected, "{connections} {descriptors:?}");
        }
        for (accept_queue, next) in [(None, "states"), (Some(9000), "listeners")] {
            let (descriptors, descriptor_limit) = (None, None);
            let process = None;
            let holder =
                Holder { process, accept_queue, connections: 100, descriptors, descriptor_limit };
            let facts = StateFacts { close_wait: vec![holder], ..calm() };
            let hint = judge(&facts, &Limits::default()).findings[0].hint.clone().expect("a hint");
            assert!(hint.ends_with(&format!("sudo tcpguard {next}")), "{hint}");
        }
    }

    #[test]
    fn a_process_that_does_not_read_is_distinguished_from_one_whose_clients_do_not() {
        let queues = |process, unread_max, unacknowledged_max| ProcessQueues {
            process,
            accept_queue: None,
            connections: 3,
            unread: u64::from(unread_max) * 2,
            unread_max,
            unacknowledged: u64::from(unacknowledged_max) * 2,
            unacknowledged_max,
        };
        for (process, unread, unacknowledged, expected) in [
            (owner(), 65_535, 1_048_575, &[][..]),
            (owner(), 65_536, 0, &["unread_data"][..]),
            (owner(), 0, 1_048_576, &["unacknowledged_data"][..]),
            (owner(), u32::MAX, u32::MAX, &["unread_data", "unacknowledged_data"][..]),
            (None, u32::MAX, u32::MAX, &[][..]),
        ] {
            let mut facts = calm();
            let processes = vec![queues(process, unread, unacknowledged)];
            facts.queues = Some(Queues { processes, worst: Vec::new() });
            let found: Vec<_> = codes(&facts).into_iter().map(|(code, _)| code).collect();
            assert_eq!(found, expected, "{unread} {unacknowledged}");
        }
    }

    #[test]
    fn every_finding_says_what_to_do_next() {
        let mut facts = calm();
        facts.counts.add(TcpState::SynRecv, false, 16);
        facts.counts.add(TcpState::Established, false, 800);
        facts.time_wait = (Some(1), Some(1));
        facts.orphans = (Some(1), Some(1));
        facts.files = (Some(1), Some(1));
        facts.memory = (Some(1), Some(1));
        let limits = Limits { established_warning: Some(800), ..Limits::default() };
        let report = judge(&facts, &limits);
        assert_eq!(report.findings.len(), 6);
        let order: Vec<_> = report.findings.iter().map(|finding| finding.severity).collect();
        assert!(order.is_sorted_by(|a, b| a >= b), "{order:?}");
        for finding in &report.findings {
            assert!(finding.hint.as_deref().is_some_and(hint_check::is_named), "{finding:?}");
        }
    }
}
