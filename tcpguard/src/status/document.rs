//! The types of the document `tcpguard.status/1`, in the order in which it is printed.
//!
//! Attacks are in [`super::attack`].
//!
//! Rates are per second, shares are 0 to 1, sizes are bytes, times are RFC 3339 in UTC, and
//! `null` means "not known", never 0. Readers must tolerate fields and words that they do not know.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use tcpguard_engine::Ports;

use super::{AlertEntry, Attack, Clients, Counts, Listener, Losses, Program, Time};

/// The value of [`Status::schema`].
pub const SCHEMA: &str = "tcpguard.status/1";

/// Everything that the guard knows at one moment.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Status {
    /// Name and version of this document: `tcpguard.status/1`.
    pub schema: String,
    /// When it was made.
    pub generated_at: Time,
    /// Time between two polls of the counters, in milliseconds.
    pub interval_ms: u64,
    /// The agent.
    pub daemon: Daemon,
    /// Whether clients connect: at the listeners under attack, or at all while there is no attack. The
    /// share is that of the listener under attack at which the fewest do.
    #[serde(default)]
    pub clients: Clients,
    /// What is wrong, the worst first; empty when all is well.
    pub health: Vec<Health>,
    /// Open attacks and other incidents, oldest first.
    pub attacks: Vec<Attack>,
    /// Closed ones, newest first.
    pub past_attacks: Vec<Attack>,
    /// Protected interfaces.
    pub interfaces: Vec<Interface>,
    /// What was lost before any program of the guard could see it.
    pub losses: Losses,
    /// Listeners followed.
    pub listeners: Vec<Listener>,
    /// What SYN cookies are to be had and what they did.
    pub cookies: Cookies,
    /// What the kernel's own TCP counted.
    pub kernel: Kernel,
    /// The rules.
    pub rules: Rules,
    /// The kernel tables.
    pub maps: Vec<Map>,
    /// How much of the traffic is followed flow by flow.
    pub sampling: Sampling,
    /// Sources with the most SYNs, the busiest first.
    pub sources: Vec<Source>,
    /// How old `sources`, and the numbers of sources and clients, are, in milliseconds: they are read
    /// off large tables every few seconds. `null` before the first time.
    pub sources_age_ms: Option<u64>,
    /// The programs in the kernel.
    pub programs: Vec<Program>,
    /// What has happened since the agent started, counted.
    pub counts: Counts,
    /// Alerts of the last 24 hours, counted.
    pub alerts_24h: AlertCounts,
    /// The latest alerts, oldest first, at most 20.
    pub alerts: Vec<AlertEntry>,
}

impl Status {
    /// Leaves of the interfaces only the one called `name`; without it nothing changes, and the answer
    /// is `false`.
    pub fn keep_interface(&mut self, name: &str) -> bool {
        let known = self.interfaces.iter().any(|interface| interface.name == name);
        if known {
            self.interfaces.retain(|interface| interface.name == name);
            self.losses.interfaces.retain(|interface| interface.name == name);
        }
        known
    }

    /// For how many rules the kernel tables have room; `None` if the agent does not say.
    pub fn room_for_rules(&self) -> Option<u32> {
        let rules = self.maps.iter().find(|map| map.name == Map::RULES)?;
        rules.max_entries.try_into().ok()
    }
}

/// The agent.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Daemon {
    /// Its version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Name of the host.
    pub hostname: String,
    /// For how long it runs, in seconds.
    pub uptime_s: u64,
    /// What happens when a rule matches.
    pub mode: Mode,
    /// What becomes of the mode by itself; `null` when it stays.
    #[serde(default)]
    pub mode_ends: Option<ModeEnd>,
    /// The whole situation in one word.
    pub state: State,
    /// The configuration that holds.
    pub config: ConfigState,
    /// Time since the agent last told the kernel that it lives, in milliseconds.
    pub watchdog_age_ms: Option<u64>,
    /// Bytes of memory that the agent has in use, as its allocator counts them; `null` where it does not.
    /// More is resident: its program, stacks, and free pieces between those in use.
    #[serde(default)]
    pub heap_bytes: Option<u64>,
}

/// What happens when a rule matches.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// SYNs are dropped.
    Enforce,
    /// SYNs pass and are counted.
    Observe,
    /// Nothing is matched.
    Off,
}

/// When a mode goes back by itself: `tcpguard mode --for` and `--confirm`. At least one of the two
/// moments is known.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ModeEnd {
    /// The mode that comes back.
    pub back_to: Mode,
    /// It goes back at this moment unless `tcpguard mode MODE --yes` comes before; `null`: no word is
    /// waited for.
    pub word_by: Option<Time>,
    /// It goes back at this moment whatever is said; `null`: it stays once it is confirmed.
    pub until: Option<Time>,
    /// Seconds until the first of the two.
    pub in_s: u64,
}

/// The whole situation in one word.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// No attack; rules would act.
    Protecting,
    /// No attack; rules would only count.
    Observing,
    /// Handshakes fail, and it is no attack or not known to be one.
    Elevated,
    /// Under attack, and rules stop it.
    AttackMitigated,
    /// Under attack, and nothing stops it.
    AttackUnmitigated,
    /// Packets are lost before the guard sees them, clients' too; `losses` says where.
    LostBeforeGuard,
    /// The guard itself is not whole; `health` says how.
    Degraded,
    /// The guard is switched off.
    Off,
    /// A word that this version does not know.
    #[cfg_attr(test, schemars(skip))]
    #[serde(other)]
    Unknown,
}

/// The configuration that holds.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ConfigState {
    /// The file; `null` when there is none and the defaults hold.
    pub path: Option<String>,
    /// When it was read.
    pub loaded_at: Time,
    /// Whether the file, as last read, is valid; if not, the one before still holds.
    pub valid: bool,
    /// Why it is not.
    pub error: Option<String>,
    /// When the configuration that holds was valid last, where the agent started with that because it
    /// refused the file; otherwise `null`.
    #[serde(default)]
    pub stands_in: Option<Time>,
}

/// Something that is wrong.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Health {
    /// Stable name of the finding.
    pub code: String,
    /// How bad; `critical` makes the state `degraded`.
    pub severity: Severity,
    /// Which interface, table or file it is about.
    pub subject: Option<String>,
    /// What is wrong, in words.
    pub text: String,
    /// What to do about it.
    pub hint: String,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Notice,
    /// Worth looking at.
    Warning,
    /// Clients are suffering, or would be.
    Critical,
}

/// One protected interface.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index; 0 when it does not exist.
    pub ifindex: u32,
    /// Where the program hangs.
    pub hook: Hook,
    /// Who runs the program.
    pub mode: AttachMode,
    /// Why not the driver, although that was tried.
    pub fallback: Option<String>,
    /// Kernel id of the link.
    pub link_id: Option<u32>,
    /// Whether the link outlives the agent.
    pub pinned: bool,
    /// Whether the link is still this interface's.
    pub attached: bool,
    /// Rates over the last second or so; `null` before the second poll.
    pub rates: Option<InterfaceRates>,
    /// Counters since they were made.
    pub totals: InterfaceTotals,
}

/// Where a program hangs.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// XDP: before the network stack.
    Xdp,
    /// TCX: in the network stack, several programs in order.
    Tcx,
    /// The clsact queueing discipline.
    Tc,
    /// A word that this version does not know.
    #[cfg_attr(test, schemars(skip))]
    #[serde(other)]
    Unknown,
}

/// Who runs an XDP program.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AttachMode {
    /// The driver.
    Native,
    /// The network stack: works everywhere, costs more per packet.
    Generic,
    /// A word that this version does not know.
    #[cfg_attr(test, schemars(skip))]
    #[serde(other)]
    Unknown,
}

/// Packets per second.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct InterfaceRates {
    /// Received.
    pub rx_pps: f64,
    /// SYNs among them.
    pub syn_pps: f64,
    /// Passed to the network stack.
    pub pass_pps: f64,
    /// Dropped.
    pub drop_pps: f64,
    /// Answered with a cookie.
    pub cookie_tx_pps: f64,
}

/// Packets counted. `rx_packets = pass + drop_total + answered + unaccounted`, `pass` is the sum of
/// `pass_reasons`, and `drop_total` is the sum of `drop`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct InterfaceTotals {
    /// Received, counted before anything is decided.
    pub rx_packets: u64,
    /// Bytes of these.
    pub rx_bytes: u64,
    /// SYNs among them.
    pub syn: u64,
    /// Passed to the network stack.
    pub pass: u64,
    /// Passed, by reason; reasons without packets are left out.
    pub pass_reasons: BTreeMap<String, u64>,
    /// Dropped.
    pub drop_total: u64,
    /// Dropped, by reason; reasons without packets are left out.
    pub drop: BTreeMap<String, u64>,
    /// SYNs answered with a cookie in place of their listener.
    pub answered: u64,
    /// Packets that were being decided while the counters were read: a handful under load, 0 at rest.
    pub unaccounted: u64,
    /// TCP segments by what their flags say; classes without segments are left out.
    pub classes: BTreeMap<String, u64>,
}

/// What the kernel's own TCP counted in this network namespace, since it exists.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Kernel {
    /// SYN cookies sent.
    pub syncookies_sent: u64,
    /// Valid ones that came back.
    pub syncookies_recv: u64,
    /// Invalid ones that came back.
    pub syncookies_failed: u64,
    /// Connections lost because an accept queue was full.
    pub listen_overflows: u64,
    /// SYNs and ACKs that a listener dropped for any reason.
    pub listen_drops: u64,
    /// SYN queue full, a cookie went out.
    pub req_q_full_do_cookies: u64,
    /// SYN queue full, the SYN was dropped.
    pub req_q_full_drop: u64,
    /// The same per second; `null` before the second poll.
    pub rates: Option<KernelRates>,
    /// Share of the places for tracked connections that is taken; `null` without connection tracking.
    pub conntrack_ratio: Option<f64>,
}

/// Growth of the kernel's counters per second.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct KernelRates {
    /// SYN cookies sent.
    pub syncookies_sent: f64,
    /// Connections lost because an accept queue was full.
    pub listen_overflows: f64,
    /// SYNs and ACKs that a listener dropped for any reason.
    pub listen_drops: f64,
    /// SYN queue full, the SYN was dropped.
    pub req_q_full_drop: f64,
}

/// How SYNs can be answered without remembering them, and who need not be.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Cookies {
    /// Who makes the cookies.
    pub backend: CookieBackend,
    /// Why not a better one; what speaks against cookies at all.
    pub reason: Option<String>,
    /// SYNs answered with cookies, over all listeners.
    pub sent: u64,
    /// Good cookies that came back.
    pub valid: u64,
    /// Bad cookies that came back, as far as they were looked for.
    pub invalid: u64,
    /// Clients that completed a handshake and pass first; counted now and then.
    pub validated_clients: Option<u64>,
}

/// Who makes cookies.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CookieBackend {
    /// The guard, in XDP, and it takes them back at tc: Linux 6.9.
    Own,
    /// The kernel on the guard's behalf, in XDP: needs `tcp_syncookies=2` meanwhile.
    KernelHelper,
    /// The kernel alone, when a SYN queue is full.
    Kernel,
    /// Nobody: `tcp_syncookies=0`.
    None,
    /// A word that this version does not know.
    #[cfg_attr(test, schemars(skip))]
    #[serde(other)]
    Unknown,
}

/// The rules, counted and listed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Rules {
    /// Rules that ought to be in the kernel.
    pub wanted: u32,
    /// Rules that are; `null` before they were counted.
    pub in_kernel: Option<u32>,
    /// Of the wanted: made for incidents.
    pub block_auto: u32,
    /// Of the wanted: made by an operator.
    pub block_manual: u32,
    /// Prefixes on the allow-list, which are no rules.
    pub allow: u32,
    /// Seconds until the next one ends, unless it is renewed.
    pub next_expiry_s: Option<u64>,
    /// Since when wanted and found differ; `null` while they do not.
    pub drift_since: Option<Time>,
    /// The wanted rules.
    pub list: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Rule {
    /// Its number.
    pub id: u32,
    /// `source` or `signature`.
    pub kind: String,
    /// What it matches, in words.
    pub matches: String,
    /// The local ports to which it drops SYNs, ascending; empty: every port, or those of a signature's
    /// listener.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Vec<u16>"))]
    pub ports: Ports,
    /// `incident` or `operator`.
    pub origin: String,
    /// The attack it was made for.
    pub attack: Option<u64>,
    /// Why it exists.
    pub reason: String,
    /// When it was made.
    pub created_at: Time,
    /// When it ends, unless it is renewed.
    pub expires_at: Time,
    /// Seconds until then.
    pub expires_in_s: u64,
    /// When it ends if an operator confirms it before that; `null`: it waits for no word.
    #[serde(default)]
    pub confirmed_until: Option<Time>,
    /// SYNs dropped; in observe mode: that would have been.
    pub hits: u64,
    /// SYNs that matched and passed because they were retransmitted.
    pub returned: u64,
    /// Handshakes that new clients completed after that.
    #[serde(default)]
    pub completed: u64,
}

impl Rule {
    /// What it matches, with its ports: `192.0.2.0/24 to port 443`.
    pub fn subject(&self) -> String {
        format!("{}{}", self.matches, self.ports)
    }
}

/// One kernel table.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Map {
    /// Its name.
    pub name: String,
    /// Entries in use; `null` when they are not counted.
    pub entries: Option<u64>,
    /// Entries there is room for.
    pub max_entries: u64,
    /// Share in use.
    pub fill_ratio: Option<f64>,
}

impl Map {
    /// What the table of rules is called.
    pub const RULES: &str = "RULES";
}

/// How much of the traffic is followed flow by flow.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Sampling {
    /// One flow in `2^shift`.
    pub shift: u8,
    /// That is one flow in this many.
    pub one_in: u64,
}

/// What one source sent and was sent (weighted sample).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Source {
    /// The address; IPv6: its /64.
    pub addr: IpAddr,
    /// SYNs from it.
    pub syn: u64,
    /// SYN-ACKs to it.
    pub syn_ack: u64,
    /// ACK segments from it.
    pub ack: u64,
    /// Resets from it.
    pub rst: u64,
    /// Handshakes it completed.
    pub completed: u64,
    /// Whether it counts as a known client.
    pub validated: bool,
}

/// Alerts by severity.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AlertCounts {
    /// `critical` ones.
    pub critical: u32,
    /// `warning` ones.
    pub warning: u32,
    /// `notice` ones.
    pub notice: u32,
}
