//! The rules, exemptions and settings that the engine wants in the kernel.

mod clients;
mod lookups;
mod repair;
mod replacement;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_common::abi::{
    Config, ExemptEntry, FlowKey, ListenerEntry, Mode as KernelMode, Rate, RuleRef,
};
use tcpguard_engine::{
    CleanUp, ListenerId, ListenerKind, Matcher, Mode, Origin, Rule, RuleCounters, RuleId,
    Timestamp, ValidatedClients,
};
use tcpguard_host::linux::{HalfOpen, Protected, SockDiag};

use self::lookups::{InUse, Lookups, narrow_entries};
use super::listeners::{Listeners, per_second_of};
use crate::bpf::{
    Dataplane, KernelError, KernelMatcher, KernelRule, Position, addr, recorded_flow,
    rule_counters, signature_key, signature_scope, source_table,
};
use crate::text::rule_reason;

/// A completed handshake counts as recent for this long (`docs/detection.md`).
const RECENT: Duration = Duration::from_secs(600);

/// The kernel's bit for listeners that the rules for every listener spare.
const EXEMPT: u8 = ListenerEntry::EXEMPT;

/// The state that the engine wants in the kernel.
#[derive(Debug)]
pub struct Executor {
    pub dataplane: Dataplane,
    /// The listeners in them.
    pub listeners: Listeners,
    /// The configuration record in them.
    pub config: Config,
    rules: BTreeMap<RuleId, Wanted>,
    /// Number of deliberate changes of the rules.
    changes: u64,
    /// Look-ups that the rules require of SYNs.
    lookups: Lookups,
    /// The protected prefixes, each with its end in the kernel's table: [`ExemptEntry::STAYS`] or [`ExemptEntry::OWN`].
    protected: Vec<(IpNet, u32)>,
    allowed: Vec<(IpNet, Timestamp)>,
    /// The prefixes that were exempted last, each until its boot time in seconds.
    exempt: Vec<(IpNet, u32)>,
    /// True if another process had changed them.
    exempt_repaired: bool,
}

/// A rule as it should be in the kernel.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    matcher: Matcher,
    /// Flags of the rule; see [`RuleRef`].
    flags: u32,
    ends: Timestamp,
}

impl Executor {
    /// An executor over empty maps.
    pub fn new(dataplane: Dataplane, config: Config) -> Self {
        Self {
            dataplane,
            listeners: Listeners::default(),
            config,
            rules: BTreeMap::new(),
            changes: 0,
            lookups: Lookups::default(),
            protected: Vec::new(),
            allowed: Vec::new(),
            exempt: Vec::new(),
            exempt_repaired: false,
        }
    }

    /// Moves the end of a rule.
    pub fn renew(&mut self, id: RuleId, expires: Timestamp) -> Result<(), KernelError> {
        let Some(wanted) = self.rules.get_mut(&id) else { return Ok(()) };
        wanted.ends = expires;
        self.dataplane.set_rule_expiry(id.0, expires.as_nanos())
    }

    /// Exempts exactly these prefixes by order of an operator, each until its time.
    pub fn allow(&mut self, allowed: Vec<(IpNet, Timestamp)>) -> Result<(), KernelError> {
        self.allowed = allowed;
        self.write_exempt()
    }

    pub fn set_mode(&mut self, mode: Mode) -> Result<(), KernelError> {
        self.config.mode = kernel_mode(mode) as u8;
        self.dataplane.set_config(&self.config)
    }

    /// Lets one of 2^`shift` flows be tracked.
    pub fn set_sampling(&mut self, shift: u8) -> Result<(), KernelError> {
        self.config.sample_shift = shift;
        self.dataplane.set_config(&self.config)
    }

    /// Spares a listener the rules for every listener, or no longer.
    pub fn exempt_listener(
        &mut self,
        listener: ListenerId,
        is_exempt: bool,
    ) -> Result<(), KernelError> {
        let (set, clear) = if is_exempt { (EXEMPT, 0) } else { (0, EXEMPT) };
        self.listeners.change_mitigations(listener, set, clear, &self.dataplane)
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

    /// Exempts exactly these prefixes from drops by source or signature.
    pub fn protect(&mut self, protected: &[Protected]) -> Result<(), KernelError> {
        let until = |own| if own { ExemptEntry::OWN } else { ExemptEntry::STAYS };
        self.protected = protected.iter().map(|it| (it.net, until(it.own))).collect();
        self.write_exempt()
    }

    fn write_exempt(&mut self) -> Result<(), KernelError> {
        // A prefix that is both stays for good.
        let stays = |net: &IpNet| self.protected.iter().any(|(protected, _)| protected == net);
        let allowed = self.allowed.iter().filter(|(net, _)| !stays(net));
        let allowed = allowed.map(|(net, until)| (*net, seconds(*until)));
        let wanted: Vec<_> = self.protected.iter().copied().chain(allowed).collect();
        let changed = self.dataplane.set_exempt(&wanted)?;
        self.exempt_repaired |= changed && wanted == self.exempt;
        self.exempt = wanted;
        Ok(())
    }

    /// Hit counters of every rule in the kernel.
    pub fn rule_counters(&self) -> Result<Vec<RuleCounters>, KernelError> {
        let all = self.dataplane.first_rule_hits(self.rule_numbers() as u32)?;
        let counted = |id: &RuleId| {
            let hits = all.get(id.0 as usize)?;
            Some(rule_counters(*id, hits))
        };
        Ok(self.rules.keys().filter_map(counted).collect())
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

    /// Puts a rule into the kernel.
    ///
    /// # Errors
    /// When the kernel refuses; then nothing of the rule is left there that drops.
    pub fn install(&mut self, rule: &Rule) -> Result<(), KernelError> {
        let installed = self.try_install(rule);
        if installed.is_err()
            && let Err(error) = self.remove(rule)
        {
            log::warn!("a rule that failed is still in part in the kernel: {error}");
        }
        installed
    }

    fn try_install(&mut self, rule: &Rule) -> Result<(), KernelError> {
        let id = rule.id.0;
        log::debug!("rule {id} installed: {}", rule_reason(&rule.reason));
        if self.rules.get(&rule.id).is_some_and(|wanted| wanted.matcher != rule.matcher) {
            // The former rule with this number, which could not be removed before the number was reused.
            self.remove(rule)?;
        }
        let again = self.rules.contains_key(&rule.id);
        // Counters and end first: from the moment the key is there, packets use them.
        if !again {
            self.dataplane.reset_rule_hits(id)?;
        }
        self.dataplane.set_rule_expiry(id, rule.expires.as_nanos())?;
        let wanted = Wanted { matcher: rule.matcher, flags: flags(rule), ends: rule.expires };
        self.rules.insert(rule.id, wanted);
        self.changes += 1;
        if !again {
            self.lookups.add(&rule.matcher);
        }
        self.write_keys(self.config.rule_set, rule.id, &wanted, &self.lookups)?;
        self.update_narrow_flags(&rule.matcher)?;
        if let Matcher::Signature { listener, mask, .. } = rule.matcher
            && !again
        {
            self.listeners.add_rule(listener, mask, &self.dataplane)?;
        }
        self.write_lookups(self.lookups.in_use())
    }

    /// Writes the keys of a rule into `set`, which are all that a packet is compared with. `lookups` are
    /// those of the rules of that set.
    fn write_keys(
        &self,
        set: u64,
        id: RuleId,
        wanted: &Wanted,
        lookups: &Lookups,
    ) -> Result<(), KernelError> {
        match &wanted.matcher {
            Matcher::Source(net, ports) => ports.entries().try_for_each(|port| {
                let flags = wanted.flags | lookups.narrow_flag(net, port);
                self.dataplane.set_source_rule(set, net, port, RuleRef { slot: id.0, flags })
            }),
            Matcher::Signature { listener, mask, fingerprint } => {
                let scope = signature_scope(*listener);
                self.dataplane.set_signature(set, scope, *mask, fingerprint, id.0)
            }
        }
    }

    /// Updates the flag of the rule over the client that contains a longer prefix, if there is such a rule: whether
    /// there are rules over longer prefixes.
    fn update_narrow_flags(&self, matcher: &Matcher) -> Result<(), KernelError> {
        narrow_entries(matcher).try_for_each(|(client, port)| {
            let narrow = self.lookups.has_narrow(client, port);
            self.dataplane.set_narrow(self.config.rule_set, &client, port, narrow)
        })
    }

    /// Takes a rule out of the kernel.
    ///
    /// # Errors
    /// When the kernel refuses. The rule drops nothing then, unless its end could not be written.
    pub fn remove(&mut self, rule: &Rule) -> Result<(), KernelError> {
        let Some(wanted) = self.rules.get_mut(&rule.id) else { return Ok(()) };
        let matcher = wanted.matcher;
        // The end first: from then on the rule drops nothing, whatever else fails.
        wanted.ends = Timestamp::default();
        self.changes += 1;
        self.dataplane.set_rule_expiry(rule.id.0, 0)?;
        let set = self.config.rule_set;
        match matcher {
            Matcher::Source(net, ports) => {
                for port in ports.entries() {
                    self.dataplane.remove_source_rule(set, &net, port, rule.id.0)?;
                }
            }
            Matcher::Signature { listener, mask, fingerprint } => {
                let scope = signature_scope(listener);
                self.dataplane.remove_signature(set, scope, mask, &fingerprint)?;
                self.listeners.remove_rule(listener, mask, &self.dataplane)?;
            }
        }
        self.rules.remove(&rule.id);
        self.lookups.take(&matcher);
        self.update_narrow_flags(&matcher)?;
        self.write_lookups(self.lookups.in_use())
    }

    /// Takes `rules` as the ones that are in the kernel.
    fn know(&mut self, rules: BTreeMap<RuleId, Wanted>) -> BTreeMap<RuleId, Wanted> {
        self.lookups = Lookups::of(rules.values().map(|wanted| &wanted.matcher));
        self.changes += 1;
        std::mem::replace(&mut self.rules, rules)
    }

    fn write_lookups(&mut self, in_use: InUse) -> Result<(), KernelError> {
        if in_use.write_to(&mut self.config) {
            self.dataplane.set_config(&self.config)?;
        }
        Ok(())
    }

    /// Removes a flood's half-open entries from the SYN queue of a local listener. An entry that an active rule
    /// matches, by its source or the signature of its recorded SYN, and that was answered before that rule, belongs to
    /// the flood and is removed at once. An entry without a record is removed when it is old.
    pub fn clean(&self, id: ListenerId, clean_up: &CleanUp, limit: u32, sockets: &mut SockDiag) {
        let Some(followed) = self.listeners.get(id) else { return };
        if followed.kind != ListenerKind::Local {
            return;
        }
        let entries = match sockets.half_open(Some(followed.listener.port)) {
            Ok(entries) => entries,
            Err(error) => {
                log::warn!("half-open entries stay: {error}");
                return;
            }
        };
        let floods = entries
            .iter()
            .filter(|entry| self.listeners.of(entry.server.ip(), entry.server.port()) == Some(id))
            .filter(|entry| self.is_floods(entry, clean_up))
            .take(limit as usize);
        let mut removed = 0;
        for entry in floods {
            match sockets.destroy(entry) {
                Ok(true) => removed += 1,
                Ok(false) => {}
                Err(error) => {
                    log::warn!("half-open entries stay: {error}");
                    return;
                }
            }
        }
        if removed > 0 {
            log::info!(
                "removed {removed} half-open entries that keep clients out from {}",
                entry_name(followed.listener)
            );
        }
    }

    fn is_floods(&self, entry: &HalfOpen, clean_up: &CleanUp) -> bool {
        let (age, key) = (entry.age_at_least(), flow_key(entry));
        let recorded = self.dataplane.flow(&self.config.hash_key, &key);
        recorded.is_ok_and(|found| {
            let flow = found.and_then(|found| recorded_flow(&self.config, &key, &found));
            clean_up.removes(entry.client.ip(), age, flow.as_ref())
        })
    }
}

impl Wanted {
    /// Returns the rule as the kernel holds it in `set` under the number `id`.
    fn in_kernel(&self, set: u64, id: RuleId) -> KernelRule {
        let matcher = match &self.matcher {
            Matcher::Source(net, ports) => KernelMatcher::Source(net.trunc(), *ports),
            Matcher::Signature { listener, mask, fingerprint } => {
                let scope = signature_scope(*listener);
                KernelMatcher::Signature(signature_key(set, scope, *mask, fingerprint))
            }
        };
        KernelRule { slot: id.0, matcher, flags: self.flags, expires_ns: self.ends.as_nanos() }
    }
}

impl ValidatedClients for Executor {
    fn completed_within(&self, net: &IpNet) -> bool {
        let now = tcpguard_host::linux::boot_time();
        let recent = |completed_ns| now.since(Timestamp::from_nanos(completed_ns)) <= RECENT;
        let one = match net {
            IpNet::V4(net) => net.prefix_len() == 32,
            // Clients are kept by /64.
            IpNet::V6(net) => net.prefix_len() >= 64,
        };
        // When the kernel cannot be asked, the source counts as a client, so that no rule is made against it.
        if one {
            return match self.dataplane.client(net.addr()) {
                Ok(client) => client.is_some_and(|client| recent(client.completed_ns)),
                Err(_) => true,
            };
        }
        let (mut found, mut position) = (false, Position::default());
        loop {
            let more = self.dataplane.clients_from(&mut position, |addr, client| {
                found |= net.contains(&crate::bpf::ip(&addr)) && recent(client.completed_ns);
            });
            match more {
                Ok(true) if !found => {}
                Ok(_) => return found,
                Err(_) => return true,
            }
        }
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

/// Boot time in whole seconds, as the kernel keeps ends of exemptions; not before `at`.
fn seconds(at: Timestamp) -> u32 {
    u32::try_from(at.as_nanos().div_ceil(1_000_000_000)).unwrap_or(u32::MAX)
}

/// The flags of a rule that is made now; see [`RuleRef`].
fn flags(rule: &Rule) -> u32 {
    match (&rule.matcher, &rule.origin) {
        (Matcher::Source(..), Origin::Operator { .. }) => {
            RuleRef::BY_OPERATOR | if rule.forced { RuleRef::FORCED } else { 0 }
        }
        _ => 0,
    }
}

fn entry_name(listener: tcpguard_engine::Listener) -> SocketAddr {
    SocketAddr::new(listener.addr, listener.port)
}

/// The kernel's code for a mode.
pub fn kernel_mode(mode: Mode) -> KernelMode {
    match mode {
        Mode::Off => KernelMode::Off,
        Mode::Observe => KernelMode::Observe,
        Mode::Enforce => KernelMode::Enforce,
    }
}
