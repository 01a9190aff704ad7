//! The executor's part that only a host has: rules that an earlier agent left, replacement, audit and clean-up.

pub mod audit;
pub mod client_filter;
mod clients;
mod exemptions;
mod removals;
pub mod repairs;
mod replacement;
mod wanted_rules;
mod withheld;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use tcpguard_common::abi::{Config, FlowKey, ListenerEntry, Rate, RuleRef};
use tcpguard_engine::{CleanUp, ListenerId, ListenerKind, Matcher, Rule, Timestamp};
use tcpguard_host::hint::Hint as _;
use tcpguard_host::linux::{self, HalfOpen, SockDiag};
use tcpguard_host::units::counted;

pub use self::exemptions::Exemptions;
pub use self::removals::Removals;
use self::removals::Removed;
use super::listeners::{MonitoredListener, Observed, per_second_of};
use crate::bpf::{Dataplane, KernelError, addr, recorded_flow, source_table};
use crate::driver::{self, Wanted};

/// The kernel's bit for listeners that the rules for every listener spare.
const EXEMPT: u8 = ListenerEntry::EXEMPT;
const PASS_EXCESS: u8 = ListenerEntry::PASS_EXCESS;

/// The state that the engine wants in the kernel.
pub type Executor = driver::Executor<Dataplane, Observed>;

impl Executor {
    /// Spares a listener the rules for every listener, or no longer.
    pub fn exempt_listener(
        &mut self,
        listener: ListenerId,
        is_exempt: bool,
    ) -> Result<(), KernelError> {
        let (set, clear) = if is_exempt { (EXEMPT, 0) } else { (0, EXEMPT) };
        self.change_mitigations(listener, set, clear)
    }

    /// Lets SYNs beyond the limits of replies go to a listener's stack, or those with a token alone.
    pub fn pass_excess(&mut self, listener: ListenerId, pass: bool) -> Result<(), KernelError> {
        let (set, clear) = if pass { (PASS_EXCESS, 0) } else { (0, PASS_EXCESS) };
        self.change_mitigations(listener, set, clear)
    }

    /// Sets some of a listener's [`ListenerEntry::mitigations`] and clears others.
    pub fn change_mitigations(
        &mut self,
        id: ListenerId,
        set: u8,
        clear: u8,
    ) -> Result<(), KernelError> {
        let change = |bits: &mut u8| *bits = *bits & !clear | set;
        self.listeners.change(id, |one| change(&mut one.mitigations), &mut self.dataplane)
    }

    /// Limits the MSS that a cookie keeps of a listener's clients, or no longer.
    pub fn limit_mss(&mut self, id: ListenerId, limit: Option<u16>) -> Result<(), KernelError> {
        self.listeners.change(id, |one| one.mss_limit = limit, &mut self.dataplane)
    }

    /// Limits SYNs to closed ports to so many a second, or no longer.
    pub fn limit_closed_ports(
        &mut self,
        per_second: Option<u32>,
        unseen: bool,
    ) -> Result<(), KernelError> {
        self.config.closed_ports = per_second.map_or(Rate::default(), of_cpu);
        self.config.resets_unseen = unseen.into();
        self.dataplane.set_config(&self.config)
    }

    /// Lets XDP mark segments that bring no cookie, for the program at tc; or no longer.
    pub fn mark_segments(&mut self, wanted: bool) -> Result<(), KernelError> {
        if self.config.marks_segments == u8::from(wanted) {
            return Ok(());
        }
        self.config.marks_segments = wanted.into();
        self.dataplane.set_config(&self.config)
    }

    /// Number of entries that the wanted rules take in the kernel's tables: a rule for certain ports takes one for each
    /// port.
    pub fn rule_places(&self) -> usize {
        self.rules.values().map(|wanted| wanted.matcher.entries()).sum()
    }

    /// Knows of rules that are in the kernel already.
    pub fn adopt(&mut self, rules: &[Rule]) -> Result<(), KernelError> {
        let set = self.config.rule_set;
        let mut known = BTreeMap::new();
        for rule in rules {
            let mut wanted = Wanted { matcher: rule.matcher, flags: 0, ends: rule.expires };
            // Those of its other entries are the same.
            if let Some(entry) = wanted.in_kernel(set, rule.id).matcher.entries().first() {
                let found = self.dataplane.rule(set, entry)?;
                let own = found.filter(|found| found.slot == rule.id.0);
                wanted.flags = own.map_or(0, |found| found.flags & !RuleRef::NARROW);
            }
            known.insert(rule.id, wanted);
        }
        self.know(known);
        for wanted in self.rules.values() {
            // A rule beneath it may have ended while there was no agent.
            if let Matcher::Source(net, ports) = &wanted.matcher
                && net.addr().is_ipv6()
                && source_table(net) == Config::HOSTS
            {
                for port in ports.entries() {
                    let narrow = self.lookups.has_narrow(net.trunc(), port);
                    self.dataplane.set_narrow(set, net, port, narrow)?;
                }
            }
        }
        self.write_lookups(self.lookups.in_use())
    }

    /// Removes a flood's half-open entries from the SYN queue of a listener's sockets. An entry that an active rule
    /// matches, by its source or the signature of its recorded SYN, and that was answered before that rule, belongs to
    /// the flood and is removed at once. An entry without a record is removed when it is old.
    pub fn clean(
        &self,
        now: Timestamp,
        id: ListenerId,
        (clean_up, limit): (&CleanUp, u32),
        sockets: &mut SockDiag,
        removals: &mut Removals,
    ) {
        let Some(monitored) = self.listeners.get(id) else { return };
        if !monitored.queues_here() {
            return;
        }
        let listener = entry_name(monitored.listener);
        let entries = match sockets.half_open(Some(monitored.socket_port())) {
            Ok(entries) => entries,
            Err(error) => {
                log::warn!("{}", not_removed(listener, &error));
                return;
            }
        };
        let floods = entries
            .iter()
            .filter(|entry| match monitored.kind {
                ListenerKind::Local => {
                    self.listeners.of(entry.server.ip(), entry.server.port()) == Some(id)
                }
                ListenerKind::Forwarded => {
                    entry.server.is_ipv4() == monitored.listener.addr.is_ipv4()
                }
            })
            .filter(|entry| self.is_floods(entry, monitored, clean_up))
            .take(limit as usize);
        let mut removed = 0;
        for entry in floods {
            match sockets.destroy(entry) {
                Ok(true) => removed += 1,
                Ok(false) => {}
                Err(error) => {
                    log::warn!("{}", not_removed(listener, &error));
                    break;
                }
            }
        }
        if let Some(Removed { count, of_others, .. }) = removals.add(now, id, removed) {
            let handshakes = counted(count, "half-open handshake");
            let others = if of_others { " and others" } else { "" };
            log::info!(
                "{handshakes} of the flood removed from the SYN queue of {listener}{others}"
            );
        }
    }

    fn is_floods(
        &self,
        entry: &HalfOpen,
        monitored: &MonitoredListener,
        clean_up: &CleanUp,
    ) -> bool {
        let (age, mut key) = (entry.age_at_least(), flow_key(entry));
        if monitored.kind == ListenerKind::Forwarded {
            // The packets have the address and port that clients use.
            key.server = addr(monitored.listener.addr);
            key.server_port = monitored.listener.port.to_be_bytes();
        }
        let recorded = self.dataplane.flow(&self.config.hash_key, &key);
        recorded.is_ok_and(|found| {
            let flow = found.and_then(|found| recorded_flow(&self.config, &key, &found));
            clean_up.removes(entry.client.ip(), age, flow.as_ref())
        })
    }
}

fn flow_key(entry: &HalfOpen) -> FlowKey {
    let port = |at: SocketAddr| at.port().to_be_bytes();
    let ip = |ip: IpAddr| addr(ip);
    FlowKey {
        client: ip(entry.client.ip()),
        server: ip(entry.server.ip()),
        client_port: port(entry.client),
        server_port: port(entry.server),
    }
}

/// Returns one CPU's share of `per_second`, with a burst of one second's worth: a scan comes in bursts.
fn of_cpu(per_second: u32) -> Rate {
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64);
    let share = (u64::from(per_second) / cpus).max(1);
    per_second_of(share, share)
}

fn not_removed(listener: SocketAddr, error: &linux::Error) -> String {
    format!(
        "half-open handshakes of the flood stay in the SYN queue of {listener}: {}",
        error.with_hint()
    )
}

fn entry_name(listener: tcpguard_engine::Listener) -> SocketAddr {
    SocketAddr::new(listener.addr, listener.port)
}
