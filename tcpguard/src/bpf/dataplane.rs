//! The maps of the loaded programs, with typed access by their meaning.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use tcpguard_common::abi::{
    Addr, Bucket, Client, ClosedPortSource, Config, CookieSecret, ExemptEntry, Flow, FlowKey,
    HashKey, HostCounters, Late, ListenerCounters, ListenerEntry, ListenerKey, NextHop, NextHops,
    PacketCounters, PortEntry, PrefixV4, PrefixV6, ReturnedCookies, RuleRef, RuleReturns,
    SignatureKey, SourceCounters, SourceHost, SourceKey, SourceV4, SourceV6, SynAckRecord,
    SynSamples, maps,
};
use tcpguard_common::fastpath::{Note, clients, hash};

use super::convert::{addr, ip, is_one_client};
use super::sets::Sets;
use super::table::{PerCpu, Position, Table, sum};
use super::{Features, KernelError, NextProgram, Object};
pub use rules::{KernelMatcher, KernelRule, signature_key};
pub use walk::{RuleWalk, Walked};

mod cookies;
mod exempt;
mod ladder;
mod rules;
mod samples;
mod test_listener;
mod walk;
mod way_back;

/// One element of the flow table.
pub type FlowRecord = (FlowKey, Flow);

/// Typed access to every map.
#[derive(Debug)]
pub struct Dataplane {
    /// Those of the loaded programs.
    features: Features,
    config: Table<u32, Config>,
    interfaces: Table<u32, [u8; maps::MAX_IFINDEX]>,
    paths: Table<u32, [u32; maps::MAX_INTERFACES as usize]>,
    next_programs: Table<u32, u32>,
    packets: PerCpu<PacketCounters>,
    ports: Table<u32, [PortEntry; 65_536]>,
    listeners: Table<ListenerKey, u32>,
    listener_entries: Table<u32, ListenerEntry>,
    listener_counters: PerCpu<ListenerCounters>,
    late: Table<u32, Late>,
    distinct_sources: Table<u32, [u8; maps::HLL_REGISTERS]>,
    flows: Sets<FlowKey, Flow>,
    sources: Sets<Addr, SourceCounters>,
    clients: Table<Addr, Client>,
    client_filters: Table<u32, clients::Marks>,
    source_hosts: Table<SourceHost, RuleRef>,
    source_rules_v4: Table<SourceKey<SourceV4>, RuleRef>,
    source_rules_v6: Table<SourceKey<SourceV6>, RuleRef>,
    signatures: Table<SignatureKey, RuleRef>,
    /// Capacity of each of the maps of source rules, and of those of all rules.
    rule_slots: u32,
    rule_expiry: Table<u32, u64>,
    rule_hits: PerCpu<u64>,
    rule_returns: Table<u32, RuleReturns>,
    exempt_v4: Table<PrefixV4, ExemptEntry>,
    exempt_v6: Table<PrefixV6, ExemptEntry>,
    exempt_rates: Table<u32, Bucket>,
    exempt_filter: Table<u32, [u8; maps::EXEMPT_FILTER_BYTES]>,
    reply_limits: PerCpu<[u32; maps::REPLY_LIMIT_PART]>,
    budgets: Table<u32, Bucket>,
    unknown_listeners: Table<ListenerKey, u64>,
    host: PerCpu<HostCounters>,
    closed_port_sources: Table<u32, ClosedPortSource>,
    closed: Table<u32, u64>,
    cookie_secret: Table<u32, CookieSecret>,
    syn_acks: Table<ListenerKey, SynAckRecord>,
    routes_v4: Table<PrefixV4, u32>,
    routes_v6: Table<PrefixV6, u32>,
    next_hops: Table<u32, NextHops>,
    neighbours: Table<Addr, NextHop>,
    own_macs: Table<u64, u32>,
    returned_cookies: Table<u32, ReturnedCookies>,
    syn_samples: PerCpu<SynSamples>,
    clock: Table<u32, u64>,
}

impl Dataplane {
    /// Access to the maps of `object`.
    pub fn of(object: &Object) -> Result<Self, KernelError> {
        Ok(Self {
            features: object.features,
            config: object.table(maps::CONFIG)?,
            interfaces: object.table(maps::INTERFACES)?,
            paths: object.table(maps::PATHS)?,
            next_programs: object.table(maps::NEXT_PROGRAMS)?,
            packets: object.per_cpu(maps::PACKETS)?,
            ports: object.table(maps::PORTS)?,
            listeners: object.table(maps::LISTENERS)?,
            listener_entries: object.table(maps::LISTENER_ENTRIES)?,
            listener_counters: object.per_cpu(maps::LISTENER_COUNTERS)?,
            late: object.table(maps::LATE)?,
            distinct_sources: object.table(maps::DISTINCT_SOURCES)?,
            flows: Sets::new(object.table(maps::FLOWS)?, maps::FLOW_SETS),
            sources: Sets::new(object.table(maps::SOURCES)?, maps::SOURCE_SETS),
            clients: object.table(maps::CLIENTS)?,
            client_filters: object.table(maps::CLIENT_FILTERS)?,
            source_hosts: object.table(maps::SOURCE_HOSTS)?,
            source_rules_v4: object.table(maps::SOURCE_RULES_V4)?,
            source_rules_v6: object.table(maps::SOURCE_RULES_V6)?,
            signatures: object.table(maps::SIGNATURES)?,
            rule_slots: object.rule_slots,
            rule_expiry: object.table(maps::RULE_EXPIRY)?,
            rule_hits: object.per_cpu(maps::RULE_HITS)?,
            rule_returns: object.table(maps::RULE_RETURNS)?,
            exempt_v4: object.table(maps::EXEMPT_V4)?,
            exempt_v6: object.table(maps::EXEMPT_V6)?,
            exempt_rates: object.table(maps::EXEMPT_RATES)?,
            exempt_filter: object.table(maps::EXEMPT_FILTER)?,
            reply_limits: object.per_cpu(maps::REPLY_LIMITS)?,
            budgets: object.table(maps::BUDGETS)?,
            unknown_listeners: object.table(maps::UNKNOWN_LISTENERS)?,
            host: object.per_cpu(maps::HOST)?,
            closed_port_sources: object.table(maps::CLOSED_PORT_SOURCES)?,
            closed: object.table(maps::CLOSED)?,
            cookie_secret: object.table(maps::COOKIE_SECRET)?,
            syn_acks: object.table(maps::SYN_ACKS)?,
            routes_v4: object.table(maps::ROUTES_V4)?,
            routes_v6: object.table(maps::ROUTES_V6)?,
            next_hops: object.table(maps::NEXT_HOPS)?,
            neighbours: object.table(maps::NEIGHBOURS)?,
            own_macs: object.table(maps::OWN_MACS)?,
            returned_cookies: object.table(maps::RETURNED_COOKIES)?,
            syn_samples: object.per_cpu(maps::SYN_SAMPLES)?,
            clock: object.table(maps::CLOCK)?,
        })
    }

    /// Replaces the configuration record.
    pub fn set_config(&self, config: &Config) -> Result<(), KernelError> {
        self.config.set(&0, config)
    }

    /// The configuration record; all-zero before the first agent.
    pub fn config(&self) -> Result<Config, KernelError> {
        Ok(self.config.get(&0)?.unwrap_or_default())
    }

    /// Sets the time for an object loaded with a fixed clock, in ns of boot time.
    pub fn set_clock(&self, now_ns: u64) -> Result<(), KernelError> {
        self.clock.set(&0, &now_ns)
    }

    /// Gives each of these interfaces the counters of its slot, and all others slot 0.
    pub fn set_interfaces(
        &self,
        slots: impl IntoIterator<Item = (u32, u8)>,
    ) -> Result<(), KernelError> {
        let mut table = Box::new([0; maps::MAX_IFINDEX]);
        for (ifindex, slot) in slots {
            if let Some(place) = table.get_mut(ifindex as usize) {
                *place = slot;
            }
        }
        self.interfaces.set(&0, &table)
    }

    /// The slot of each interface that has one of its own, or [`maps::UNATTACHED`] instead.
    pub fn interfaces(&self) -> Result<BTreeMap<u32, u8>, KernelError> {
        let Some(table) = self.interfaces.get(&0)? else { return Ok(BTreeMap::new()) };
        Ok((0..).zip(table).filter(|(_, slot)| *slot != 0).collect())
    }

    /// Sets the index of the interface that stands for the path of each slot.
    pub fn set_paths(
        &self,
        paths: &[u32; maps::MAX_INTERFACES as usize],
    ) -> Result<(), KernelError> {
        self.paths.set(&0, paths)
    }

    /// The paths that [`Self::set_paths`] has set.
    pub fn paths(&self) -> Result<[u32; maps::MAX_INTERFACES as usize], KernelError> {
        Ok(self.paths.get(&0)?.unwrap_or([0; maps::MAX_INTERFACES as usize]))
    }

    /// Kernel id of the next program of an interface slot; `None`: there is none.
    pub fn next_program(&self, slot: u8) -> Result<Option<u32>, KernelError> {
        self.next_programs.get(&u32::from(slot))
    }

    /// Refuses a kernel on which the programs hand no packet on.
    pub fn require_tail_calls(&self) -> Result<(), KernelError> {
        if self.features.tail_calls { Ok(()) } else { Err(KernelError::NoTailCalls) }
    }

    /// Makes `program` the next one of an interface slot, from one packet to the next.
    pub fn set_next_program(&self, slot: u8, program: &NextProgram) -> Result<(), KernelError> {
        let set = self.next_programs.set(&u32::from(slot), &program.descriptor());
        set.map_err(|error| program.refused(error, self.features.multi_buffer))
    }

    /// Leaves an interface slot without a next program. Returns whether there was one.
    pub fn remove_next_program(&self, slot: u8) -> Result<bool, KernelError> {
        self.next_programs.remove(&u32::from(slot))
    }

    /// Starts the packet counters of a slot from zero.
    pub fn reset_packets(&self, slot: u8) -> Result<(), KernelError> {
        self.packets.fill(slot.into(), &PacketCounters::default())
    }

    /// The packet counters of an interface slot, summed over CPUs.
    pub fn packets(&self, slot: u8) -> Result<PacketCounters, KernelError> {
        Ok(sum(&self.packets_by_cpu(slot)?))
    }

    /// The packet counters of an interface slot, of each CPU.
    pub fn packets_by_cpu(&self, slot: u8) -> Result<Vec<PacketCounters>, KernelError> {
        self.packets.get(slot.into())
    }

    /// Makes a listener known, but for [`Self::set_ports`].
    pub fn set_listener(
        &self,
        key: &ListenerKey,
        entry: &ListenerEntry,
    ) -> Result<(), KernelError> {
        self.listener_entries.set(&entry.id, entry)?;
        if is_exact(key) { self.listeners.set(key, &entry.id) } else { Ok(()) }
    }

    /// Forgets the listener under `key`, but for [`Self::set_ports`].
    pub fn remove_listener(&self, key: &ListenerKey) -> Result<(), KernelError> {
        if is_exact(key) { self.listeners.remove(key).map(drop) } else { Ok(()) }
    }

    /// Writes the listener of each port for the programs: keys and ids of all listeners.
    pub fn set_ports<'a>(
        &self,
        listeners: impl IntoIterator<Item = (&'a ListenerKey, u32)>,
    ) -> Result<(), KernelError> {
        self.set_ports_beside(listeners, &BTreeSet::new())
    }

    /// Writes the listeners as [`Self::set_ports`] does, where sockets that are not monitored listen on `open`
    /// ports.
    pub fn set_ports_beside<'a>(
        &self,
        listeners: impl IntoIterator<Item = (&'a ListenerKey, u32)>,
        open: &BTreeSet<u16>,
    ) -> Result<(), KernelError> {
        let mut table = Box::new([PortEntry::default(); 65_536]);
        for (key, id) in listeners {
            table[usize::from(u16::from_be_bytes(key.port))].add(&key.addr, id);
        }
        for port in open {
            table[usize::from(*port)].open = 1;
        }
        self.ports.set(&0, &table)
    }

    /// Every listener that the programs know, under each of its keys.
    pub fn listeners(&self) -> Result<Vec<(ListenerKey, ListenerEntry)>, KernelError> {
        let mut ids = self.listeners.entries()?;
        let ports = self.ports.get_boxed(&0)?;
        let ports = ports.iter().flat_map(|ports| ports.iter());
        for (port, entry) in (0..=u16::MAX).zip(ports) {
            for (any, id) in [(Addr::ANY_V4, entry.any_v4), (Addr::ANY_V6, entry.any_v6)] {
                if let Some(id) = id.checked_sub(1) {
                    ids.push((ListenerKey::new(any, port.to_be_bytes()), id.into()));
                }
            }
        }
        let entry = |(key, id)| Ok((key, self.listener_entries.get(&id)?.unwrap_or_default()));
        ids.into_iter().map(entry).collect()
    }

    /// The counters of a listener, summed over CPUs.
    pub fn listener_counters(&self, id: u32) -> Result<ListenerCounters, KernelError> {
        Ok(sum(&self.listener_counters.get(id)?))
    }

    /// Gives the counters of the listeners in the first `slots` slots to `each`, summed over CPUs, and perhaps those of
    /// more.
    pub fn each_listener_counters(
        &self,
        slots: usize,
        mut each: impl FnMut(u32, ListenerCounters),
    ) -> Result<(), KernelError> {
        let (mut position, mut slot) = (Position::default(), 0);
        let mut more = slots > 0;
        while more && (slot as usize) < slots {
            more = self.listener_counters.batch(&mut position, |cpus| {
                each(slot, sum(cpus));
                slot += 1;
            })?;
        }
        Ok(())
    }

    /// Counters of a listener's handshakes that completed late.
    pub fn late(&self, id: u32) -> Result<Late, KernelError> {
        Ok(self.late.get(&id)?.unwrap_or_default())
    }

    /// Counters of packets that belong to no listener, of each CPU.
    pub fn host_counters_by_cpu(&self) -> Result<Vec<HostCounters>, KernelError> {
        self.host.get(0)
    }

    /// Counters of packets that belong to no listener, summed over CPUs.
    pub fn host_counters(&self) -> Result<HostCounters, KernelError> {
        Ok(sum_of_cpus(&self.host_counters_by_cpu()?))
    }

    /// The cells of sources that send SYNs to ports at which nothing listens.
    pub fn closed_port_sources(&self) -> Result<Vec<(u32, ClosedPortSource)>, KernelError> {
        self.closed_port_sources.entries()
    }

    /// The words of the filter of closed ports.
    pub fn closed_ports(&self) -> Result<Vec<(u32, u64)>, KernelError> {
        self.closed.entries()
    }

    /// Starts a listener's counters and its estimate of distinct sources from zero.
    pub fn reset_listener(&self, id: u32) -> Result<(), KernelError> {
        self.listener_counters.fill(id, &ListenerCounters::default())?;
        self.late.set(&id, &Late::default())?;
        self.returned_cookies.set(&id, &ReturnedCookies::default())?;
        self.reset_distinct_sources(id)
    }

    /// The registers of a listener's estimate of distinct sources.
    pub fn distinct_sources(&self, id: u32) -> Result<[u8; maps::HLL_REGISTERS], KernelError> {
        Ok(self.distinct_sources.get(&id)?.unwrap_or([0; maps::HLL_REGISTERS]))
    }

    /// Starts the estimate of distinct sources of a listener again.
    pub fn reset_distinct_sources(&self, id: u32) -> Result<(), KernelError> {
        self.distinct_sources.set(&id, &[0; maps::HLL_REGISTERS])
    }

    /// All sampled flows: up to [`maps::MAX_FLOWS`].
    pub fn flows(&self) -> Result<Vec<FlowRecord>, KernelError> {
        self.flows.entries()
    }

    /// Gives a batch of sampled flows from `position` on to `each`. Returns whether there are more.
    pub fn flows_from(
        &self,
        position: &mut Position,
        each: impl FnMut(FlowKey, Flow),
    ) -> Result<bool, KernelError> {
        self.flows.batch(position, each)
    }

    /// One sampled flow, under the key of [`Config::hash_key`].
    pub fn flow(&self, key: &HashKey, flow: &FlowKey) -> Result<Option<Flow>, KernelError> {
        self.flows.get(hash::flow(key, flow), flow)
    }

    /// Counters of sources that never completed a handshake: up to [`maps::MAX_SOURCES`].
    pub fn sources(&self) -> Result<Vec<(Addr, SourceCounters)>, KernelError> {
        self.sources.entries()
    }

    /// Gives a batch of these sources from `position` on to `each`. Returns whether there are more.
    pub fn sources_from(
        &self,
        position: &mut Position,
        each: impl FnMut(Addr, SourceCounters),
    ) -> Result<bool, KernelError> {
        self.sources.batch(position, each)
    }

    /// The counters of one of these sources, under the key of [`Config::hash_key`].
    pub fn source(&self, key: &HashKey, ip: IpAddr) -> Result<Option<SourceCounters>, KernelError> {
        let addr = addr(ip).client();
        self.sources.get(hash::source(key, &addr), &addr)
    }

    /// Validated clients: up to [`maps::MAX_CLIENTS`].
    pub fn clients(&self) -> Result<Vec<(Addr, Client)>, KernelError> {
        self.clients.entries()
    }

    /// Gives a batch of validated clients from `position` on to `each`. Returns whether there are more.
    pub fn clients_from(
        &self,
        position: &mut Position,
        each: impl FnMut(Addr, Client),
    ) -> Result<bool, KernelError> {
        self.clients.batch(position, each)
    }

    /// Gives the validated clients within `net` to `each`, until it returns false.
    pub fn clients_within(
        &self,
        net: &IpNet,
        mut each: impl FnMut(&Client) -> bool,
    ) -> Result<(), KernelError> {
        if is_one_client(net) {
            self.client(net.addr())?.as_ref().map(each);
            return Ok(());
        }
        let (mut goes_on, mut position) = (true, Position::default());
        while self.clients_from(&mut position, |addr, client| {
            goes_on = goes_on && (!net.contains(&ip(&addr)) || each(&client));
        })? && goes_on
        {}
        Ok(())
    }

    pub fn client(&self, ip: IpAddr) -> Result<Option<Client>, KernelError> {
        self.clients.get(&addr(ip).client())
    }

    /// The marks of client filter 0 or 1; see [`tcpguard_common::fastpath::clients`].
    pub fn client_filter(&self, filter: u32) -> Result<Box<clients::Marks>, KernelError> {
        let marks = self.client_filters.get(&filter)?;
        Ok(Box::new(marks.unwrap_or([0; maps::CLIENT_MARK_WORDS])))
    }

    /// Overwrites client filter 0 or 1.
    pub fn set_client_filter(
        &self,
        filter: u32,
        marks: &clients::Marks,
    ) -> Result<(), KernelError> {
        self.client_filters.set(&filter, marks)
    }

    /// Returns the addresses and ports with SYN-ACKs that did not fit what the programs know of them, and forgets
    /// them.
    pub fn take_unknown_listeners(&self) -> Result<Vec<(ListenerKey, Note)>, KernelError> {
        let seen = self.unknown_listeners.entries()?;
        seen.iter().try_for_each(|(key, _)| self.unknown_listeners.remove(key).map(drop))?;
        Ok(seen.into_iter().map(|(key, note)| (key, Note(note))).collect())
    }
}

/// The sum of the counters of all CPUs, with the highest index of an interface.
pub fn sum_of_cpus(cpus: &[HostCounters]) -> HostCounters {
    let elsewhere_by = cpus.iter().map(|cpu| cpu.elsewhere_by).max().unwrap_or_default();
    HostCounters { elsewhere_by, ..sum(cpus) }
}

/// Returns whether a listener is bound to one address, rather than to all.
fn is_exact(key: &ListenerKey) -> bool {
    !matches!(key.addr, Addr::ANY_V4 | Addr::ANY_V6)
}
