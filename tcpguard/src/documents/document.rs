//! The types of the document `tcpguard.status/1`, in the order in which it is printed.
//!
//! The types of incidents are in [`super::incident`], and those that are the engine's own in `tcpguard_engine`.
//!
//! Rates are per second, shares are 0 to 1, sizes are bytes, and times are RFC 3339 in UTC. `null`
//! means "not known" unless the field says otherwise, and never 0. Readers must tolerate fields and
//! words that they do not know.

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tcpguard_engine::{Family, Mode, RuleReport, TcpExt};
use tcpguard_host::finding::Finding;
use tcpguard_host::time::Time;

use super::build::number;
use super::selftest::CookieBackend;
use super::{AlertEntry, Clients, Counts, Fleet, Incident, Listener, Losses, Program};

/// State of tcpguard at one moment: the agent, incidents, interfaces, listeners, rules and counters.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Status {
    /// Time at which the document was made.
    pub generated_at: Time,
    /// Time between two polls of the counters, in milliseconds.
    pub interval_ms: u64,
    /// The agent: its process, mode, state and configuration.
    pub daemon: Daemon,
    /// Completed handshakes compared with their baseline, over the listeners with an open incident, or
    /// over all listeners while no incident is open. `ratio` is the lowest of the listeners with an
    /// open incident.
    #[serde(default)]
    pub clients: Clients,
    /// Problems of the agent and the host, the most severe first; empty when there are none. `critical` makes
    /// the state `degraded`, unless the mode is `off`, an attack is unmitigated, or many packets are dropped
    /// before XDP.
    pub health: Vec<Finding>,
    /// Open attacks and other incidents, oldest first.
    pub incidents: Vec<Incident>,
    /// Closed attacks and other incidents, newest first, at most 16.
    pub past_incidents: Vec<Incident>,
    /// Interfaces to which the agent is to attach the XDP program, attached or not.
    pub interfaces: Vec<Interface>,
    /// Packets dropped before XDP, in network cards and CPU backlogs.
    pub losses: Losses,
    /// Listeners that the agent monitors.
    pub listeners: Vec<Listener>,
    /// Availability of SYN cookies, and their counters.
    pub cookies: Cookies,
    /// Counters of the kernel's TCP stack.
    pub kernel: Kernel,
    /// Rules: their number, and each of them.
    pub rules: Rules,
    /// Fill of the BPF maps.
    pub maps: Vec<Map>,
    /// Share of the traffic that is tracked flow by flow.
    pub sampling: Sampling,
    /// Sources with the most SYNs, the busiest first, at most 10.
    pub sources: Vec<Source>,
    /// Age in ms of `sources` and of the numbers of sources and clients in `maps`: they are read from
    /// large maps every few seconds. `null` before the first reading.
    pub sources_age_ms: Option<u64>,
    /// BPF programs in the kernel.
    pub programs: Vec<Program>,
    /// Events counted since the agent started.
    pub counts: Counts,
    /// Exchange with the other hosts of a fleet; missing where it is off (`fleet.listen`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<Fleet>,
    /// Number of alerts in the last 24 hours, by severity.
    pub alerts_24h: AlertCounts,
    /// The latest alerts, oldest first, at most 20.
    pub alerts: Vec<AlertEntry>,
}

impl Status {
    /// Keeps only the interface called `name`, and returns `true`. Without such an interface nothing
    /// changes, and the result is `false`.
    pub fn keep_interface(&mut self, name: &str) -> bool {
        let known = self.interfaces.iter().any(|interface| interface.name == name);
        if known {
            self.interfaces.retain(|interface| interface.name == name);
            self.losses.interfaces.retain(|interface| interface.name == name);
        }
        known
    }

    /// Returns the capacity of the kernel for rules; `None` if the agent does not report it.
    pub fn rule_capacity(&self) -> Option<u32> {
        let rules = self.maps.iter().find(|map| map.name == Map::RULES)?;
        rules.max_entries.try_into().ok()
    }
}

/// The agent, the daemon in user space.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Daemon {
    /// Version of the agent.
    pub version: String,
    /// Process id of the agent.
    pub pid: u32,
    /// Name of the host.
    pub hostname: String,
    /// Time since the agent started, in s.
    pub uptime_s: u64,
    /// Mode of operation: the effect of a rule that matches.
    pub mode: Mode,
    /// Revert of the mode that is pending; `null` when the mode stays.
    pub mode_reverts: Option<ModeRevert>,
    /// State of protection in one word.
    pub state: State,
    /// Configuration in effect, and the outcome of its last reading.
    pub config: ConfigState,
    /// Time since the agent's last heartbeat to the kernel, in ms; `null` before the first poll.
    pub watchdog_age_ms: Option<u64>,
    /// Heap memory that the agent has in use, in bytes, as its allocator counts it; `null` where the
    /// allocator keeps no count. Resident memory is larger: program, stacks, and free pieces between
    /// those in use.
    pub heap_bytes: Option<u64>,
}

/// Pending revert of a mode, set by `tcpguard mode --for` or `--rollback-after`. At least one of `confirm_by` and
/// `until` is set.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct ModeRevert {
    /// Mode to which it reverts.
    pub revert_to: Mode,
    /// Time at which the mode reverts unless an operator confirms it before with
    /// `tcpguard confirm`; `null` when no confirmation is pending.
    pub confirm_by: Option<Time>,
    /// Time at which the mode reverts even if it was confirmed; `null` when a confirmed mode stays.
    pub until: Option<Time>,
    /// Time until the earlier of the two, in s.
    pub in_s: u64,
}

/// State of protection in one word.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// No incident is open; rules would drop SYNs (mode `enforce`).
    Protecting,
    /// No incident is open; rules would only count SYNs (mode `observe`).
    Observing,
    /// An incident that is no flood is open, or the state of a listener is not `ok`; no attack is
    /// known.
    Elevated,
    /// An attack is open, and mitigations kept at least half of its SYNs of the last second from the stack.
    AttackMitigated,
    /// An attack is open, and most of its SYNs of the last second reached the stack, as always in the modes
    /// `observe` and `off`.
    AttackUnmitigated,
    /// Many packets are dropped before XDP, those of clients too; `losses` shows where.
    DroppedBeforeXdp,
    /// The function of tcpguard is impaired, or a start refused the configuration; `health` lists the
    /// problems.
    Degraded,
    /// Protection is off (mode `off`), and no attack is open.
    Off,
    /// A value that this version does not know.
    #[schemars(skip)]
    #[serde(other)]
    Unknown,
}

/// Configuration in effect, and the outcome of its last reading.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct ConfigState {
    /// Path of the main file; `null` when there is no file and the defaults are in effect.
    pub path: Option<String>,
    /// Time at which the agent loaded the configuration in effect.
    pub loaded_at: Time,
    /// True if the files were valid when they were last read; if not, an earlier configuration is in
    /// effect.
    pub valid: bool,
    /// Reason why they were refused; `null` when they were valid.
    pub error: Option<String>,
    /// Time at which the configuration in effect was read from the files, where the agent started with
    /// this last valid one because it refused the present files; otherwise `null`.
    pub stands_in: Option<Time>,
}

/// Interface to which the agent is to attach the XDP program.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Interface {
    /// Name of the interface.
    pub name: String,
    /// Index of the interface; 0 when it does not exist.
    pub ifindex: u32,
    /// Hook to which the program is attached.
    pub hook: Hook,
    /// Attach mode of the XDP program; `generic` also while no XDP program is attached.
    pub mode: AttachMode,
    /// Reason why the driver does not run the program, although that was tried; `null` otherwise.
    pub fallback: Option<String>,
    /// Reason why mode `generic` was chosen without asking the driver; `null` otherwise.
    pub choice: Option<String>,
    /// Kernel id of the XDP link; `null` while there is none.
    pub link_id: Option<u32>,
    /// True if the link is pinned, so that it outlives the agent.
    pub pinned: bool,
    /// True if the programs are attached to this interface.
    pub attached: bool,
    /// The XDP program that gets the packets that tcpguard passes; `null` where the configuration names none.
    pub next_program: Option<NextProgram>,
    /// Packet rates over about the last second; `null` before the second poll.
    pub rates: Option<InterfaceRates>,
    /// Packet counters since the interface was first attached, or last appeared; they survive a restart
    /// of the agent.
    pub totals: InterfaceTotals,
}

/// The next program of an interface (key `next_program` under `[[interface]]`).
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct NextProgram {
    /// Name of its pin.
    pub name: String,
    /// Kernel id of the program; `null` while packets go to the network stack instead, for the reason in `health`.
    pub id: Option<u32>,
}

/// Hook to which a program is attached.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// XDP: before the network stack.
    Xdp,
    /// TCX: in the network stack, several programs in order.
    Tcx,
    /// The clsact queueing discipline.
    Tc,
    /// A value that this version does not know.
    #[schemars(skip)]
    #[serde(other)]
    Unknown,
}

/// Attach mode of an XDP program.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachMode {
    /// The driver runs the program.
    Native,
    /// The network stack runs the program: possible on every interface, at a higher cost per packet.
    Generic,
    /// A value that this version does not know.
    #[schemars(skip)]
    #[serde(other)]
    Unknown,
}

/// Packets per second on one interface.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct InterfaceRates {
    /// Packets received per second.
    pub rx_pps: f64,
    /// SYNs received per second.
    pub syn_pps: f64,
    /// Packets passed to the network stack per second.
    pub pass_pps: f64,
    /// Packets dropped per second.
    pub drop_pps: f64,
    /// SYNs per second to which XDP replied with a cookie.
    pub cookies_sent_pps: f64,
}

/// Packet counters of one interface. `rx_packets = pass + drop_total + cookies_sent + unaccounted`, `pass`
/// is the sum of `pass_reasons`, and `drop_total` is the sum of `drop`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct InterfaceTotals {
    /// Packets received, counted before any decision.
    pub rx_packets: u64,
    /// Size of these packets together, in bytes.
    pub rx_bytes: u64,
    /// SYNs among these packets.
    pub syn: u64,
    /// Packets passed to the network stack.
    pub pass: u64,
    /// Packets passed, by reason; reasons without packets are left out.
    pub pass_reasons: BTreeMap<String, u64>,
    /// Packets dropped.
    pub drop_total: u64,
    /// Packets dropped, by reason; reasons without packets are left out.
    pub drop: BTreeMap<String, u64>,
    /// SYNs to which XDP replied with a cookie in place of the listener.
    pub cookies_sent: u64,
    /// Packets on which a decision was pending while the counters were read: a few under load, 0 at
    /// rest.
    pub unaccounted: u64,
    /// TCP segments by the class of their flags; classes without segments are left out.
    pub classes: BTreeMap<String, u64>,
}

/// Counters of the kernel's TCP stack (`TcpExt`) in this network namespace, since it exists.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Kernel {
    /// The counters.
    #[serde(flatten)]
    pub tcp_ext: TcpExt,
    /// Growth of some of these counters per second; `null` before the second poll.
    pub rates: Option<KernelRates>,
    /// Share of netfilter's connection tracking table that is in use, 0 to 1; `null` without connection
    /// tracking, and where it has no limit.
    pub conntrack_ratio: Option<f64>,
}

/// Growth of the stack's counters per second.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct KernelRates {
    /// SYN cookies that the stack sent per second.
    pub syncookies_sent: f64,
    /// SYNs and ACKs dropped per second because an accept queue was full.
    pub listen_overflows: f64,
    /// SYNs and ACKs per second that a listener dropped for any reason.
    pub listen_drops: f64,
    /// SYNs per second that the stack dropped because the SYN queue was full.
    pub req_q_full_drop: f64,
}

/// Availability of SYN cookies, their counters, and the number of validated clients.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Cookies {
    /// Backend that makes the cookies; at listeners of both families, where these differ.
    pub backend: BackendInUse,
    /// Reason why no better backend is in use, or why cookies are off; `null` where there is none.
    pub reason: Option<String>,
    /// Backends at the listeners of one family only, where one of them differs; empty where none does.
    pub by_family: Vec<CookiesOfFamily>,
    /// SYNs to which XDP replied with a cookie, over all listeners.
    pub sent: u64,
    /// Valid cookies that clients returned, over all listeners.
    pub valid: u64,
    /// Invalid cookies that were returned, over all listeners, as far as returned cookies were checked.
    pub invalid: u64,
    /// SYNs that got no cookie although cookies were sent at their listener, by the reason. They went on to the stack's
    /// budget.
    pub unanswered: BTreeMap<String, u64>,
    /// Number of clients that completed a handshake, in the map `CLIENTS`; counted every few seconds,
    /// `null` before the first count.
    pub validated_clients: Option<u64>,
}

/// Backend of SYN cookies at the listeners of one family.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct CookiesOfFamily {
    /// Family of the listeners.
    pub family: Family,
    /// Backend that makes the cookies.
    pub backend: BackendInUse,
    /// Reason why no better backend is in use, or why cookies are off; `null` where there is none.
    pub reason: Option<String>,
}

/// Backend that makes SYN cookies.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "CookieBackend")]
pub enum BackendInUse {
    /// The XDP program makes the cookies, and a program at tc accepts the returned ones (Linux 6.9).
    Own,
    /// The kernel makes the cookies for the XDP program, by a BPF helper: needs `tcp_syncookies=2`
    /// meanwhile.
    KernelHelper,
    /// The kernel alone makes cookies, while a SYN queue is full.
    Kernel,
    /// Cookies are off: `tcp_syncookies=0`.
    None,
    /// A value that this version does not know.
    #[schemars(skip)]
    #[serde(other)]
    Unknown,
}

impl From<CookieBackend> for BackendInUse {
    fn from(backend: CookieBackend) -> Self {
        match backend {
            CookieBackend::Own => Self::Own,
            CookieBackend::KernelHelper => Self::KernelHelper,
            CookieBackend::Kernel => Self::Kernel,
        }
    }
}

/// Number of rules, and the list of them.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Rules {
    /// Number of rules that are wanted in the kernel.
    pub wanted: u32,
    /// Number of rules found in the kernel; `null` before they were counted.
    pub in_kernel: Option<u32>,
    /// Number of wanted rules that the agent made for incidents.
    pub block_auto: u32,
    /// Number of wanted rules that operators of this host made.
    pub block_manual: u32,
    /// Number of wanted rules that operators of the fleet made.
    #[serde(default)]
    pub block_fleet: u32,
    /// Number of prefixes on the allowlist, which are no rules.
    pub allow: u32,
    /// Time until the next rule expires, unless it is renewed, in s; `null` without rules.
    pub next_expiry_s: Option<u64>,
    /// Time since which the rules in the kernel differ from the wanted ones and could not be repaired;
    /// `null` while they agree.
    pub drift_since: Option<Time>,
    /// The wanted rules.
    pub list: Vec<Rule>,
}

/// One rule: the SYNs that it drops, its reason, lifetime and counters.
pub type Rule = RuleReport<Time>;

/// Fill of one BPF map.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Map {
    /// Name of the map.
    pub name: String,
    /// Number of entries in use; `null` before they were counted.
    pub entries: Option<u64>,
    /// Capacity of the map, in entries.
    pub max_entries: u64,
    /// Share of the capacity in use, 0 to 1; `null` where `entries` is `null`, or `max_entries` is 0.
    pub fill_ratio: Option<f64>,
}

impl Map {
    /// Name of the map of rules.
    pub const RULES: &str = "RULES";

    /// Returns the fill of a map with `entries` in use; `None` where they are not counted.
    pub fn new(name: &str, entries: Option<u64>, max_entries: u64) -> Self {
        let share = |entries: u64| number(entries as f64 / max_entries as f64);
        let fill_ratio = entries.filter(|_| max_entries > 0).map(share);
        Self { name: name.to_owned(), entries, max_entries, fill_ratio }
    }
}

/// Share of the traffic that is tracked flow by flow.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Sampling {
    /// Binary logarithm of `one_in`: one flow in `2^shift` is tracked.
    pub shift: u8,
    /// Number of flows of which one is tracked, `2^shift`.
    pub one_in: u64,
}

/// Traffic from and to one source, estimated from a weighted sample.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Source {
    /// Address of the source; for IPv6, its /64 prefix.
    pub addr: IpAddr,
    /// SYNs from the source.
    pub syn: u64,
    /// SYN-ACKs to the source.
    pub syn_ack: u64,
    /// ACK segments from the source.
    pub ack: u64,
    /// Resets from the source.
    pub rst: u64,
    /// Handshakes that the source completed.
    pub completed: u64,
    /// True if the source counts as a validated client.
    pub validated: bool,
}

/// Number of alerts by severity.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct AlertCounts {
    /// Number of alerts with severity `critical`.
    pub critical: u32,
    /// Number of alerts with severity `warning`.
    pub warning: u32,
    /// Number of alerts with severity `notice`.
    pub notice: u32,
}
