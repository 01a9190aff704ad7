//! Families of metrics, from the status alone. docs/metrics.md lists them for people; a test holds the two
//! together.

use std::net::IpAddr;

use tcpguard_engine::{IncidentClass, ListenerState};

use super::format::{Family, Sample, Value};
use crate::documents::{Incident, Interface, Listener, State, Status};

/// Number of listeners with samples of their own: a host may have thousands, a monitoring system pays for each.
const LISTENERS: usize = 64;

/// Every state by its word in JSON.
const STATES: [(State, &str); 8] = [
    (State::Protecting, "protecting"),
    (State::Observing, "observing"),
    (State::Elevated, "elevated"),
    (State::AttackMitigated, "attack_mitigated"),
    (State::AttackUnmitigated, "attack_unmitigated"),
    (State::DroppedBeforeXdp, "dropped_before_xdp"),
    (State::Degraded, "degraded"),
    (State::Off, "off"),
];

/// The families without an agent that answers.
pub fn without_agent() -> Vec<Family> {
    vec![up(false)]
}

/// Every family, those without samples included.
pub fn of_status(status: &Status) -> Vec<Family> {
    let mut families = agent(status);
    families.extend(attacks(status));
    families.extend(packets(status));
    families.extend(losses(status));
    families.extend(listeners(status));
    families.extend(rules_and_tables(status));
    families.extend(programs(status));
    families
}

fn family(name: &'static str, help: &'static str, samples: Vec<Sample>) -> Family {
    Family { name, help, samples }
}

fn up(answers: bool) -> Family {
    let value = Value::Count(answers.into());
    family("up", "1 if the agent responds, else 0.", vec![Sample::new([], value)])
}

fn agent(status: &Status) -> Vec<Family> {
    let daemon = &status.daemon;
    let labels = [("version", &*daemon.version), ("mode", daemon.mode.name())];
    let state = |(state, word): &(State, &str)| {
        Sample::new([("state", *word)], Value::Count((*state == daemon.state).into()))
    };
    let now = status.generated_at.0.as_millisecond();
    let heartbeat = daemon.watchdog_age_ms.map(|age| seconds(now - age as i64));
    let counts = &status.counts;
    vec![
        family(
            "build_info",
            "Version and mode of the agent.",
            vec![Sample::new(labels, Value::Count(1))],
        ),
        up(true),
        family(
            "state",
            "State of tcpguard: 1 for the present state, 0 for the others.",
            STATES.iter().map(state).collect(),
        ),
        family(
            "heartbeat_timestamp_seconds",
            "Time of the agent's last heartbeat. The XDP program fails open 30 s after it.",
            heartbeat.map(|at| Sample::new([], Value::Amount(at))).into_iter().collect(),
        ),
        family(
            "agent_heap_bytes",
            "Heap memory in use by the agent.",
            daemon
                .heap_bytes
                .map(|bytes| Sample::new([], Value::Count(bytes)))
                .into_iter()
                .collect(),
        ),
        family(
            "config_valid",
            "1 if the last configuration read is valid. If not, the previous one is in effect.",
            vec![Sample::new([], Value::Count(daemon.config.valid.into()))],
        ),
        family(
            "reload_total",
            "Configuration reloads since the agent started.",
            vec![
                Sample::new([("result", "applied")], Value::Count(counts.reloads_applied)),
                Sample::new([("result", "refused")], Value::Count(counts.reloads_refused)),
            ],
        ),
        family(
            "last_reload_timestamp_seconds",
            "Time at which the configuration in effect was read.",
            vec![Sample::new(
                [],
                Value::Amount(seconds(daemon.config.loaded_at.0.as_millisecond())),
            )],
        ),
    ]
}

fn attacks(status: &Status) -> Vec<Family> {
    let active = |kind: &IncidentClass| {
        let open = status.incidents.iter().filter(|attack| attack.class == *kind).count();
        Sample::new([("class", kind.name())], Value::Count(open as u64))
    };
    let total = |kind: &IncidentClass| {
        let counts = status.counts.incidents.iter().filter(|count| count.class == *kind);
        let labels = [("class", kind.name()), ("severity", kind.severity().name())];
        Sample::new(labels, Value::Count(counts.map(|count| count.count).sum()))
    };
    // Two floods may be on one listener: the larger estimate stands for both.
    let flood = |attack: &&Incident| {
        let class = attack.class;
        class.is_flood() && !class.is_of_host()
    };
    let floods = status.incidents.iter().filter(flood);
    let mut sources: Vec<(IpAddr, u16, u64)> =
        floods.map(|attack| (attack.dst, attack.port, attack.evidence.sources_estimate)).collect();
    sources.sort_by_key(|(addr, port, estimate)| (*addr, *port, std::cmp::Reverse(*estimate)));
    sources.dedup_by_key(|(addr, port, _)| (*addr, *port));
    let estimate =
        |(addr, port, estimate): &(IpAddr, u16, u64)| at(*addr, *port, Value::Count(*estimate));
    vec![
        family(
            "incident_active",
            "Open attacks and other incidents.",
            IncidentClass::ALL.iter().map(active).collect(),
        ),
        family(
            "incidents_total",
            "Attacks and other incidents since the agent started.",
            IncidentClass::ALL.iter().map(total).collect(),
        ),
        family(
            "sources_estimate",
            "Distinct sources of an open flood (lower bound), by listener.",
            sources.iter().map(estimate).collect(),
        ),
    ]
}

fn packets(status: &Status) -> Vec<Family> {
    let of_each = |of: fn(&Interface) -> u64| -> Vec<Sample> {
        let interfaces = status.interfaces.iter();
        interfaces.map(|it| Sample::new([("iface", &*it.name)], Value::Count(of(it)))).collect()
    };
    let cookies = &status.cookies;
    vec![
        family(
            "interface_attached",
            "1 if the XDP program is attached to the interface, else 0.",
            of_each(|interface| interface.attached.into()),
        ),
        family(
            "packets_total",
            "Packets received, by verdict and reason.",
            status.interfaces.iter().flat_map(verdicts).collect(),
        ),
        family("syn_packets_total", "SYNs received.", of_each(|interface| interface.totals.syn)),
        family(
            "syncookies_total",
            "SYN cookies by result. Resets when a listener is removed.",
            vec![
                Sample::new([("result", "sent")], Value::Count(cookies.sent)),
                Sample::new([("result", "valid")], Value::Count(cookies.valid)),
                Sample::new([("result", "invalid")], Value::Count(cookies.invalid)),
            ],
        ),
        family(
            "syncookies_unanswered_total",
            "SYNs without a SYN cookie although cookies were sent at their listener, by reason.",
            cookies
                .unanswered
                .iter()
                .map(|(reason, count)| Sample::new([("reason", &**reason)], Value::Count(*count)))
                .collect(),
        ),
    ]
}

/// One sample for each reason that an interface had.
fn verdicts(interface: &Interface) -> Vec<Sample> {
    let totals = &interface.totals;
    let passed = totals.pass_reasons.iter().map(|(reason, count)| ("pass", &**reason, *count));
    let dropped = totals.drop.iter().map(|(reason, count)| ("drop", &**reason, *count));
    let sent = [("tx", "cookie", totals.cookies_sent)];
    passed
        .chain(dropped)
        .chain(sent)
        .map(|(verdict, reason, count)| {
            let labels = [("iface", &*interface.name), ("verdict", verdict), ("reason", reason)];
            Sample::new(labels, Value::Count(count))
        })
        .collect()
}

fn losses(status: &Status) -> Vec<Family> {
    let losses = &status.losses;
    let rings = losses.interfaces.iter().flat_map(|interface| {
        let at = |place, lost| {
            Sample::new([("iface", &*interface.name), ("where", place)], Value::Count(lost))
        };
        [at("ring", interface.missed), at("fifo", interface.fifo)]
    });
    // A backlog is a CPU's, whatever interface its packets come from.
    let backlogs = losses.cpus.iter().map(|cpu| cpu.dropped).sum();
    let backlogs = Sample::new([("where", "backlog")], Value::Count(backlogs));
    let skew = losses.skew.map(|share| Sample::new([], Value::Amount(share)));
    vec![
        family(
            "dropped_before_xdp_total",
            "Packets dropped in NIC rings and CPU backlogs, since boot or since the interface was created.",
            rings.chain([backlogs]).collect(),
        ),
        family(
            "busiest_cpu_ratio",
            "Share of all packets that the busiest CPU receives.",
            skew.into_iter().collect(),
        ),
    ]
}

fn listeners(status: &Status) -> Vec<Family> {
    let mut shown: Vec<&Listener> = status.listeners.iter().collect();
    // Those in trouble, then those with the most SYNs ever, which are the same ones tomorrow.
    shown.sort_by_key(|listener| {
        let calm = listener.state == ListenerState::Ok;
        (calm, std::cmp::Reverse(listener.totals.syn), listener.port, listener.addr)
    });
    shown.truncate(LISTENERS);
    let of_each = |of: fn(&Listener) -> Option<u32>| -> Vec<Sample> {
        let sample = |listener: &&Listener| {
            let value = Value::Count(of(listener)?.into());
            Some(at(listener.addr, listener.port, value))
        };
        shown.iter().filter_map(sample).collect()
    };
    let count = |of: fn(&Listener) -> u64| -> Vec<Sample> {
        let sample = |it: &&Listener| at(it.addr, it.port, Value::Count(of(it)));
        shown.iter().map(sample).collect()
    };
    let amount = |of: fn(&Listener) -> Option<f64>| -> Vec<Sample> {
        let sample = |it: &&Listener| Some(at(it.addr, it.port, Value::Amount(of(it)?)));
        shown.iter().filter_map(sample).collect()
    };
    vec![
        family(
            "listeners",
            "Monitored listeners. Other listener metrics cover 64: those in trouble, then the busiest.",
            vec![Sample::new([], Value::Count(status.listeners.len() as u64))],
        ),
        family(
            "listener_handshakes_completed_total",
            "Completed handshakes.",
            count(|listener| listener.totals.completed()),
        ),
        family(
            "listener_handshakes_baseline_per_second",
            "Baseline of completed handshakes per second, learned while no incident is open.",
            amount(|listener| listener.clients.baseline_pps),
        ),
        family(
            "listener_clients_ratio",
            "Completed handshakes of the last 8 s as a share of those that clients attempted, if at least 2/s.",
            amount(|listener| listener.clients.ratio),
        ),
        family(
            "listener_syns_total",
            "SYNs to the listener, retransmissions included.",
            count(|listener| listener.totals.syn),
        ),
        family(
            "listener_syns_matched_total",
            "SYNs matched by rules or above rate limits: dropped in mode enforce, else counted.",
            count(|listener| listener.totals.matched()),
        ),
        family(
            "listener_half_open",
            "Half-open handshakes.",
            of_each(|listener| listener.half_open),
        ),
        family(
            "listener_accept_queue",
            "Connections that wait for the application.",
            of_each(|listener| listener.accept_queue),
        ),
        family(
            "listener_limit",
            "Capacity of each queue of the listener.",
            of_each(|listener| listener.accept_limit),
        ),
    ]
}

fn at(addr: IpAddr, port: u16, value: Value) -> Sample {
    Sample::new([("addr", &*addr.to_string()), ("port", &*port.to_string())], value)
}

fn rules_and_tables(status: &Status) -> Vec<Family> {
    let rules = &status.rules;
    let place = |origin, action, place, count: u32| {
        let labels = [("origin", origin), ("action", action), ("place", place)];
        Sample::new(labels, Value::Count(count.into()))
    };
    let mut counts = vec![
        place("auto", "block", "wanted", rules.block_auto),
        place("manual", "block", "wanted", rules.block_manual),
        place("fleet", "block", "wanted", rules.block_fleet),
        place("manual", "allow", "wanted", rules.allow),
    ];
    // The kernel's rules do not show their origin.
    counts.extend(rules.in_kernel.map(|count| place("any", "block", "kernel", count)));
    let entries = status
        .maps
        .iter()
        .filter_map(|map| Some(Sample::new([("map", &*map.name)], Value::Count(map.entries?))));
    let room = status
        .maps
        .iter()
        .map(|map| Sample::new([("map", &*map.name)], Value::Count(map.max_entries)));
    vec![
        family(
            "rules",
            "Rules by origin, action, and place (wanted by the agent, present in the kernel).",
            counts,
        ),
        family("map_entries", "Used entries of a BPF map, at most 5 s old.", entries.collect()),
        family("map_max_entries", "Capacity of a BPF map.", room.collect()),
    ]
}

fn programs(status: &Status) -> Vec<Family> {
    // A program that never ran while the kernel counted has no known cost.
    let counted: Vec<_> = status.programs.iter().filter(|program| program.runs > 0).collect();
    let sample = |name: &str, value| Sample::new([("program", name)], value);
    let time = |ns: u64| Value::Amount(ns as f64 / 1e9);
    vec![
        family(
            "program_run_seconds_total",
            "Run time of a BPF program while kernel.bpf_stats_enabled is 1.",
            counted.iter().map(|it| sample(&it.name, time(it.run_ns))).collect(),
        ),
        family(
            "program_runs_total",
            "Runs of a BPF program while kernel.bpf_stats_enabled is 1.",
            counted.iter().map(|it| sample(&it.name, Value::Count(it.runs))).collect(),
        ),
    ]
}

/// Seconds of a number of milliseconds.
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_kinds_are_called_as_in_json() {
        for (state, word) in STATES {
            assert_eq!(serde_json::to_value(state).unwrap(), word);
        }
        for kind in IncidentClass::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}
