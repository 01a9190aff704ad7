//! The executor: the part of the engine's commands that concerns the tables of the programs, and the readings that it
//! takes from them.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_common::abi::{self, Config, Mode as KernelMode, Reason, RuleRef};
use tcpguard_engine::{
    ClosedPortSource, Engine, ListenerId, Matcher, Mode, Origin, Rule, RuleCounters, RuleId,
    Sample, SynHeader, Timestamp, ValidatedClients,
};
use tcpguard_host::hint::Hint as _;

use super::distinct::Estimates;
use super::headers::{Headers, Kept};
use super::listeners::ListenerTable;
use super::lookups::{InUse, Lookups, narrow_entries};
use super::tables::Tables;
use crate::bpf::{
    self, KernelError, KernelMatcher, KernelRule, RECENT, signature_key, signature_scope,
};
use crate::text::rule_reason;

/// Estimates of distinct sources start again this often.
const DISTINCT_WINDOW: Duration = Duration::from_secs(10);

/// The state that the engine wants in the tables `D` of the programs. `S` is the state of its driver about a listener.
#[derive(Debug)]
pub struct Executor<D, S> {
    /// The tables.
    pub dataplane: D,
    /// The listeners in them.
    pub listeners: ListenerTable<S>,
    /// The configuration record in them.
    pub config: Config,
    /// The rules in them.
    pub rules: BTreeMap<RuleId, Wanted>,
    /// Number of deliberate changes of the rules.
    pub changes: u64,
    /// Look-ups that the rules require of SYNs.
    pub lookups: Lookups,
    /// Estimates of the distinct sources of the listeners.
    pub estimates: Estimates,
    /// Time at which these began.
    estimated_since: Timestamp,
    headers: Headers,
    /// The SYNs of which the last poll brought the headers.
    pub sampled: Vec<SampledSyn>,
}

/// A SYN of which the header was kept.
#[derive(Clone, Debug, PartialEq)]
pub struct SampledSyn {
    /// Its header.
    pub header: SynHeader,
    /// Its fate.
    pub fate: Reason,
    /// One SYN of its listener in so many is kept.
    pub one_in: u32,
}

/// A rule as it should be in the tables.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// SYNs that it drops.
    pub matcher: Matcher,
    /// Flags of the rule; see [`RuleRef`].
    pub flags: u32,
    /// Its end.
    pub ends: Timestamp,
}

impl<D: Tables, S> Executor<D, S> {
    /// An executor over empty tables.
    pub fn new(now: Timestamp, dataplane: D, config: Config) -> Self {
        Self {
            dataplane,
            listeners: ListenerTable::default(),
            config,
            rules: BTreeMap::new(),
            changes: 0,
            lookups: Lookups::default(),
            estimates: Estimates::default(),
            estimated_since: now,
            headers: Headers::default(),
            sampled: Vec::new(),
        }
    }

    /// Hands the engine a sample, after the headers of SYNs that it asked for. The estimates of distinct sources in
    /// the sample cover `DISTINCT_WINDOW` at most.
    pub fn submit(&mut self, engine: &mut Engine, sample: &Sample) -> Result<(), KernelError> {
        self.sampled.clear();
        if self.listeners.are_sampled() {
            self.take_headers(engine)?;
        }
        engine.handle_sample(sample);
        if sample.at.since(self.estimated_since) >= DISTINCT_WINDOW {
            self.estimated_since = sample.at;
            for id in self.estimates.start_again() {
                if let Some(monitored) = self.listeners.get(id) {
                    self.dataplane.reset_distinct_sources(monitored.slot())?;
                    self.listeners.touched.insert(id);
                }
            }
        }
        Ok(())
    }

    fn take_headers(&mut self, engine: &mut Engine) -> Result<(), KernelError> {
        for Kept { slot, header, fate } in self.headers.take(&self.dataplane.syn_samples()?) {
            let id = self.listeners.at_slot(slot);
            let Some(monitored) = id.and_then(|id| self.listeners.get(id)) else { continue };
            engine.handle_headers([(monitored.id, header.clone())]);
            if let (Some(fate), Some(shift)) = (fate, monitored.samples.checked_sub(1)) {
                self.sampled.push(SampledSyn { header, fate, one_in: 1 << (shift & 31) });
            }
        }
        Ok(())
    }

    /// The engine's form of cells of sources that send SYNs to ports on which no socket listens.
    pub fn closed_port_sources(
        &self,
        now: Timestamp,
        cells: &[abi::ClosedPortSource],
    ) -> Vec<ClosedPortSource> {
        // A source that cannot be looked up counts as unvalidated; nothing is dropped for it.
        let client = |addr| self.dataplane.client(addr).ok().flatten();
        cells.iter().filter_map(|cell| bpf::closed_port_source(cell, now, client)).collect()
    }

    /// Hit counters of every rule in the tables.
    pub fn rule_counters(&self) -> Result<Vec<RuleCounters>, KernelError> {
        let all = self.dataplane.first_rule_hits(self.rule_numbers() as u32)?;
        let counted = |id: &RuleId| Some(bpf::rule_counters(*id, all.get(id.0 as usize)?));
        Ok(self.rules.keys().filter_map(counted).collect())
    }

    /// Returns the least number that is above those of all rules.
    pub fn rule_numbers(&self) -> usize {
        self.rules.last_key_value().map_or(0, |(id, _)| id.0 as usize + 1)
    }

    /// The clients that completed a handshake recently.
    pub const fn recent_clients(&self, now: Timestamp) -> RecentClients<'_, D> {
        RecentClients { tables: &self.dataplane, now }
    }

    /// Sets the mode in which the programs decide.
    pub fn set_mode(&mut self, mode: Mode) -> Result<(), KernelError> {
        self.config.mode = kernel_mode(mode) as u8;
        self.dataplane.set_config(&self.config)
    }

    /// Lets one of 2^`shift` flows be tracked.
    pub fn set_sampling(&mut self, shift: u8) -> Result<(), KernelError> {
        self.config.sample_shift = shift;
        self.dataplane.set_config(&self.config)
    }

    /// Keeps headers of one SYN in `2^shift` to a listener; `None`: of no SYN.
    pub fn sample_syns(&mut self, id: ListenerId, shift: Option<u8>) -> Result<(), KernelError> {
        let samples = shift.map_or(0, |shift| shift.saturating_add(1));
        self.listeners.change(id, |one| one.samples = samples, &mut self.dataplane)
    }

    /// Moves the end of a rule.
    pub fn renew(&mut self, id: RuleId, expires: Timestamp) -> Result<(), KernelError> {
        let Some(wanted) = self.rules.get_mut(&id) else { return Ok(()) };
        wanted.ends = expires;
        self.dataplane.set_rule_expiry(id.0, expires.as_nanos())
    }

    /// Puts a rule into the tables.
    ///
    /// # Errors
    /// When the kernel refuses; then nothing of the rule is left there that drops.
    pub fn install(&mut self, rule: &Rule) -> Result<(), KernelError> {
        let installed = self.try_install(rule);
        if installed.is_err()
            && let Err(error) = self.remove(rule)
        {
            log::warn!(
                "remains of rule {}, which drop nothing, not removed from the kernel: {}",
                rule.id.0,
                error.with_hint()
            );
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
        let lookups = &self.lookups;
        wanted.write_keys(self.config.rule_set, rule.id, lookups, &mut self.dataplane)?;
        self.update_narrow_flags(&rule.matcher)?;
        if !again {
            self.add_mask(&rule.matcher)?;
        }
        self.write_lookups(self.lookups.in_use())
    }

    /// Updates the flag of the rule over the client that contains a longer prefix, if there is such a rule: whether
    /// there are rules over longer prefixes.
    fn update_narrow_flags(&mut self, matcher: &Matcher) -> Result<(), KernelError> {
        narrow_entries(matcher).try_for_each(|(client, port)| {
            let narrow = self.lookups.has_narrow(client, port);
            self.dataplane.set_narrow(self.config.rule_set, &client, port, narrow)
        })
    }

    /// Takes a rule out of the tables.
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
        let in_kernel = wanted.in_kernel(set, rule.id).matcher;
        self.dataplane.remove_rule(set, rule.id.0, &in_kernel)?;
        self.remove_mask(&matcher)?;
        self.rules.remove(&rule.id);
        self.lookups.take(&matcher);
        self.update_narrow_flags(&matcher)?;
        self.write_lookups(self.lookups.in_use())
    }

    /// Has SYNs to the listener of a signature rule compared under its mask.
    pub fn add_mask(&mut self, matcher: &Matcher) -> Result<(), KernelError> {
        let Matcher::Signature { listener, mask, .. } = matcher else { return Ok(()) };
        self.listeners.change(*listener, |one| one.add_rule(*mask), &mut self.dataplane)
    }

    /// The opposite of [`Self::add_mask`].
    pub fn remove_mask(&mut self, matcher: &Matcher) -> Result<(), KernelError> {
        let Matcher::Signature { listener, mask, .. } = matcher else { return Ok(()) };
        self.listeners.change(*listener, |one| one.remove_rule(*mask), &mut self.dataplane)
    }

    /// Takes `rules` as the ones that are in the tables.
    pub fn know(&mut self, rules: BTreeMap<RuleId, Wanted>) -> BTreeMap<RuleId, Wanted> {
        self.lookups = Lookups::of(rules.values().map(|wanted| &wanted.matcher));
        self.changes += 1;
        std::mem::replace(&mut self.rules, rules)
    }

    /// Has SYNs looked up in the tables that are in use.
    pub fn write_lookups(&mut self, in_use: InUse) -> Result<(), KernelError> {
        if in_use.write_to(&mut self.config) {
            self.dataplane.set_config(&self.config)?;
        }
        Ok(())
    }
}

impl Wanted {
    /// Writes the keys of rule `id` into `set`, which are all that a packet is compared with. `lookups` are
    /// those of the rules of that set.
    pub fn write_keys(
        &self,
        set: u64,
        id: RuleId,
        lookups: &Lookups,
        tables: &mut impl Tables,
    ) -> Result<(), KernelError> {
        self.in_kernel(set, id).matcher.entries().iter().try_for_each(|entry| {
            let flags = self.flags | lookups.narrow_flag(entry);
            tables.set_rule(set, entry, RuleRef { slot: id.0, flags })
        })
    }

    /// Returns the rule as the kernel holds it in `set` under the number `id`.
    pub fn in_kernel(&self, set: u64, id: RuleId) -> KernelRule {
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

/// The clients that completed a handshake recently.
#[derive(Debug)]
pub struct RecentClients<'a, D> {
    tables: &'a D,
    now: Timestamp,
}

impl<D: Tables> ValidatedClients for RecentClients<'_, D> {
    fn completed_within(&self, net: &IpNet) -> bool {
        let (since, mut found) = ((self.now - RECENT).as_nanos(), false);
        let read = self.tables.clients_within(net, |client| {
            found = client.completed_ns >= since;
            !found
        });
        // When the kernel cannot be asked, the source counts as a client, so that no rule is made against it.
        found || read.is_err()
    }
}

/// The flags of a rule that is made now; see [`RuleRef`].
pub fn flags(rule: &Rule) -> u32 {
    match (&rule.matcher, &rule.origin) {
        (Matcher::Source(..), Origin::Operator { .. }) => {
            let forced = if rule.forced { RuleRef::FORCED } else { 0 };
            RuleRef::BY_OPERATOR | RuleRef::OVER_ALLOWLIST | forced
        }
        (Matcher::Source(..), Origin::Fleet(_)) => RuleRef::BY_OPERATOR,
        _ => 0,
    }
}

/// The kernel's code for a mode.
pub const fn kernel_mode(mode: Mode) -> KernelMode {
    match mode {
        Mode::Off => KernelMode::Off,
        Mode::Observe => KernelMode::Observe,
        Mode::Enforce => KernelMode::Enforce,
    }
}
