//! The state that the loop owns, and its work on it. Synchronous: a poll is some dozens of system
//! calls.

mod act;
pub mod arrivals;
mod capture;
mod mode;
mod poll;
mod repair;
mod respond;

use std::collections::VecDeque;
use std::io::Stderr;
use std::time::Duration;

use tcpguard_common::abi::{Config as KernelConfig, Reason, ReplyRate};
use tcpguard_common::fastpath::FAILED_COOKIE_NS;
use tcpguard_engine::{Engine, Listener, Mode, TRACKED_PER_SECOND, TcpExt, Timestamp};
use tcpguard_host::finding::Finding;
use tcpguard_host::linux::{SockDiag, boot_time};
use tcpguard_host::obstacle::Impeded;
use tcpguard_host::time::Clock;

use arrivals::Arrivals;
pub(super) use capture::Capture;

use super::executor::{Executor, Exemptions, Removals};
use super::interfaces::{Interfaces, Received};
use super::listeners::{Selection, per_second_of};
use super::mitigations::Mitigations;
use crate::bpf::{HeldLink, Object};
use crate::config::{BeyondBounds, Config};
use crate::daemon::configuration::kept_config::ConfigFile;
use crate::daemon::configuration::provenance::Provenance;
use crate::daemon::executor::audit::Audit;
use crate::daemon::executor::client_filter::ClientFilter;
use crate::daemon::fleet::Exchange;
use crate::daemon::mitigations::firewall::Firewall;
use crate::daemon::reading::counters::Counters;
use crate::daemon::reading::host_view::HostView;
use crate::daemon::reading::hot_sources::HotSources;
use crate::daemon::reading::loss_watch::{Change, LossWatch};
use crate::daemon::reading::pace::Pace;
use crate::daemon::reading::read_cache::{Cells, Handshakes, Hits};
use crate::daemon::reading::routes::Routes;
use crate::daemon::requests::confirm::{ModeClock, PendingMode};
use crate::daemon::requests::counts::Counts;
use crate::daemon::store::alerts::AlertFile;
use crate::daemon::store::incidents::Incidents;
use crate::daemon::store::state::{State, StateWriter};
use crate::daemon::ways_back::WaysBack;
use crate::documents::{AgentEvent, Drift, LossCounters, Losses};
use crate::telemetry::{Alert, AlertSink};
use crate::text;
pub use respond::PendingResponse;

/// Rules stop dropping when the agent has not been heard of for this long.
pub(super) const HEARTBEAT_LIMIT: Duration = Duration::from_secs(30);
/// Learned values are stored this often.
const STORE_PERIOD: Duration = Duration::from_secs(60);

/// Counters as they were at one poll.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub at: Timestamp,
    pub received: Received,
    pub tcp_ext: TcpExt,
}

pub struct Agent {
    pub(super) config: Config,
    pub(super) provenance: Provenance,
    /// Keeps the last valid configuration for a start that finds mistakes.
    pub(super) config_file: ConfigFile,
    pub(super) engine: Engine,
    pub(super) executor: Executor,
    pub(super) exemptions: Exemptions,
    pub(super) selection: Selection,
    pub(super) interfaces: Interfaces,
    pub(super) alerts: AlertSink<Stderr>,
    pub(super) alert_file: AlertFile,
    pub(super) snapshots: VecDeque<Snapshot>,
    pub(super) started_at: Timestamp,
    pub(super) rules_in_kernel: Option<u32>,
    /// Time since which the kernel has differed from the wanted rules without a repair.
    pub(super) drift_since: Option<Timestamp>,
    pub(super) audit: Audit,
    /// Repairs that have not been reported yet, in words.
    pub(super) repaired: Vec<Drift>,
    pub(super) health: Vec<Finding>,
    pub(super) object: Object,
    pub(super) sockets: SockDiag,
    pub(super) removals: Removals,
    pub(super) host: HostView,
    pub(super) firewall: Firewall,
    /// The link at the tracepoint; `None`: completions are seen in a sample only.
    pub(super) tracepoint: Option<HeldLink>,
    pub(super) client_filter: ClientFilter,
    pub(super) mitigations: Mitigations,
    /// The obstacles to cookies that are known, and the pace at which they are looked for.
    pub(super) obstacles: Vec<Impeded<Listener>>,
    pub(super) foreseeing: Pace,
    pub(super) counters: Counters,
    pub(super) count_half_open: bool,
    pub(super) count_rules: bool,
    pub(super) last_second: Option<Timestamp>,
    /// Pace at which the listening sockets are read.
    pub(super) listening: Pace,
    pub(super) last_slow: Option<Timestamp>,
    pub(super) cells: Cells,
    pub(super) hits: Hits,
    pub(super) handshakes: Handshakes,
    pub(super) arrivals: Arrivals,
    pub(super) routes: Routes,
    pub(super) ways_back: WaysBack,
    /// True if the engine wants frames dropped that cannot be read.
    pub(super) pressed: bool,
    /// Id of this boot (`/proc/sys/kernel/random/boot_id`).
    pub(super) boot: String,
    /// The mode that an operator set for good, in this run or an earlier one.
    pub(super) set_mode: Option<Mode>,
    /// Automatic revert of the mode in force.
    pub(super) mode_clock: ModeClock,
    pub(super) writer: StateWriter,
    /// Past incidents, of earlier runs too.
    pub(super) incidents: Incidents,
    pub(super) capture: Capture,
    pub(super) hot_sources: HotSources,
    pub(super) counts: Counts,
    /// Exchange with the fleet process; `None` where it may not connect.
    pub(super) fleet: Option<Exchange>,
    pub(super) loss_watch: LossWatch,
    /// End of the time in which the host may have connections that are older than the tables.
    pub(super) preexisting_until: Timestamp,
    /// Time at which the state was last handed to the writer in a poll.
    pub(super) stored_at: Timestamp,
    /// True if something has changed since that must not wait.
    pub(super) unstored: bool,
    /// Error with which the kernel refused the rules that an operator asked for just now.
    pub(super) unreplaced: Option<String>,
}

impl Agent {
    /// The line at the start.
    pub fn started(&self) -> String {
        let listeners = self.executor.listeners.iter().count();
        text::started(&self.interfaces.in_words(), self.engine.mode(), listeners)
    }

    /// The line at the end.
    pub fn stopped(&self) -> String {
        let attached = match self.interfaces.all_detached() {
            true => String::new(),
            false => self.interfaces.in_words(),
        };
        text::stopped(&attached, HEARTBEAT_LIMIT)
    }

    /// Reports interfaces that appeared, disappeared or changed.
    pub fn check_interfaces(&mut self) {
        let places = self.interfaces.names().count();
        for event in self.interfaces.check(&mut self.object, &self.executor.dataplane) {
            self.raise_own(event);
        }
        if self.interfaces.names().count() < places {
            // The counters are remembered by position.
            self.snapshots.clear();
        }
    }

    /// Reports at the start the interfaces that are attached less well than they could be, or not at all.
    pub(super) fn alert_shortcomings(&mut self) {
        for event in self.interfaces.shortcomings() {
            self.raise_own(event);
        }
    }

    /// Notices that packets are lost where no program can see them, and when that is over.
    fn check_losses(&mut self, now: Timestamp) {
        let reading = self.losses();
        match self.loss_watch.note(now, Losses::state_of(&reading)) {
            None => {}
            Some(Change::Began) => {
                let ring_pps = reading.rate(LossCounters::lost_in_rings).unwrap_or_default();
                let backlog_pps = reading.rate(LossCounters::lost_in_backlogs).unwrap_or_default();
                self.raise_own(AgentEvent::DroppedBeforeXdp { ring_pps, backlog_pps });
            }
            Some(Change::Over(lasted)) => {
                let lasted_s = lasted.as_secs();
                self.raise_own(AgentEvent::DroppedBeforeXdpOver { lasted_s });
            }
        }
    }

    /// Hands the state, the alerts and the incidents to their writers before the agent ends.
    pub fn keep_records(&mut self) {
        let clock = clock();
        let state = self.state(clock.now);
        self.writer.write(state);
        self.incidents.keep(&self.engine, clock);
        self.alert_file.keep(self.alerts.history(), clock.now);
    }

    /// The line that `systemctl status` shows.
    pub fn in_brief(&self) -> String {
        let names: Vec<&str> = self.interfaces.names().collect();
        text::running_on(&names.join(", "), self.engine.mode())
    }

    /// Raises an alert of the agent's own.
    pub(in crate::daemon) fn raise_own(&mut self, event: AgentEvent) {
        self.raise(&Alert::own(event));
    }

    pub(super) fn raise(&mut self, alert: &Alert) {
        self.counts.note(alert);
        self.alerts.raise(alert, self.engine.mode(), clock());
    }

    /// Hands the state to the writer: soon after a change, and every `STORE_PERIOD` for the learned values.
    fn store(&mut self, now: Timestamp) {
        if !self.unstored && now.since(self.stored_at) < STORE_PERIOD {
            return;
        }
        let state = self.state(now);
        self.writer.write(state);
        self.config_file.try_again();
    }

    fn state(&mut self, now: Timestamp) -> State {
        (self.stored_at, self.unstored) = (now, false);
        let clock = clock();
        let mut state = State::of(&self.engine, self.boot.clone(), &clock);
        state.mode = self.set_mode;
        let pending = self.mode_clock.pending();
        state.pending_mode = pending.map(|pending| PendingMode::of(pending, &clock));
        state.rule_set = self.executor.config.rule_set;
        state
    }
}

pub(super) fn clock() -> Clock {
    Clock { now: boot_time(), wall: jiff::Timestamp::now() }
}

/// Applies the settings of the configuration that the programs read. `pressed`: see [`Agent`].
pub(super) fn apply_policy(kernel: &mut KernelConfig, config: &Config, pressed: bool) {
    kernel.drop_illegal = config.policy.drop_illegal_flags.into();
    kernel.drop_out_of_state = config.policy.drop_out_of_state.into();
    kernel.drop_beyond_bounds = match config.policy.beyond_bounds {
        BeyondBounds::Auto if pressed => Reason::ROUTED,
        BeyondBounds::Auto => Reason::SHORT_FRAGMENT,
        BeyondBounds::Drop => Reason::EVERY_BOUND,
        BeyondBounds::Pass => 0,
    };
    kernel.failed_cookie_ns = FAILED_COOKIE_NS;
    kernel.cookie_mark = config.cookies.mark;
    kernel.tracked_bits = KernelConfig::tracked_bits(TRACKED_PER_SECOND);
}

/// Shares the limits of replies among so many CPUs.
pub(super) fn share_replies(kernel: &mut KernelConfig, config: &Config, cpus: u64) {
    kernel.replies_per_network = ReplyRate::share(config.cookies.replies_per_network, cpus);
    let of_cpu = config.cookies.replies_total / cpus;
    // A tenth of a second's worth at once.
    kernel.replies_per_cpu = per_second_of(of_cpu, of_cpu / 10);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Overrides, parse};

    #[test]
    fn what_cannot_be_read_is_dropped_as_the_policy_and_the_flood_want() {
        let bounds = |policy: &str, pressed| {
            let text = format!("[policy]\nbeyond_bounds = \"{policy}\"\n");
            let config = parse(Path::new("file"), &text, Overrides::default()).unwrap();
            let mut kernel = KernelConfig::default();
            apply_policy(&mut kernel, &config, pressed);
            kernel.drop_beyond_bounds
        };
        assert_eq!(bounds("auto", false), Reason::FragmentShort.bound());
        let routed =
            Reason::FragmentShort.bound() | Reason::Ipv6Depth.bound() | Reason::HeaderDepth.bound();
        assert_eq!(bounds("auto", true), routed, "all but VLAN tags");
        for pressed in [false, true] {
            assert_eq!(bounds("pass", pressed), 0);
            assert_eq!(bounds("drop", pressed), Reason::EVERY_BOUND);
        }
    }

    /// A card with two queues on a host of four CPUs.
    #[test]
    fn the_limits_of_replies_are_shared_among_the_cpus_that_receive() {
        let received =
            |syns: [u64; 4]| Received { syns_by_cpu: syns.into(), ..Received::default() };
        let before = received([9, 0, 7, 0]);
        assert_eq!(before.cpus_since(None), 2);
        let now = received([9, 0, 8, 0]);
        assert_eq!([&before, &now].map(|now| now.cpus_since(Some(&before))), [1, 1]);
        let config = parse(Path::new("file"), "", Overrides::default()).unwrap();
        let mut kernel = KernelConfig::default();
        share_replies(&mut kernel, &config, 2);
        assert_eq!(
            kernel.replies_per_network,
            ReplyRate::share(config.cookies.replies_per_network, 2)
        );
        assert_eq!(u64::from(kernel.replies_per_cpu.burst), config.cookies.replies_total / 20);
    }
}
