//! The tables that the programs and the agent share, as far as a driver of the engine needs them: the maps of the
//! kernel, or plain collections.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use tcpguard_common::abi::maps::HLL_REGISTERS;
use tcpguard_common::abi::{
    Client, ClosedPortSource, Config, EVERY_PORT, HostCounters, ListenerEntry, ListenerKey,
    ReturnedCookies, RuleHits, RuleRef, SynSamples,
};
use tcpguard_common::model::{Model, Net, SourceRules};
use tcpguard_engine::ListenerCounters;

use crate::bpf::{Dataplane, KernelMatcher, Result, addr, ip, is_one_client, listener_counters};

/// The tables of the programs.
///
/// # Errors
/// Every method fails when the kernel refuses; plain collections never do.
pub trait Tables {
    /// Replaces the configuration record.
    fn set_config(&mut self, config: &Config) -> Result<()>;
    /// Makes a listener known, or changes its entry.
    fn set_listener(&mut self, key: &ListenerKey, entry: &ListenerEntry) -> Result<()>;
    /// Forgets the listener under `key`.
    fn remove_listener(&mut self, key: &ListenerKey) -> Result<()>;
    /// Starts a listener's counters and its estimate of distinct sources from zero.
    fn reset_listener(&mut self, slot: u32) -> Result<()>;
    /// Writes the listeners of each port, by their keys and slots. Sockets of no monitored listener listen on
    /// `open` ports.
    fn set_ports<'a>(
        &mut self,
        listeners: impl Iterator<Item = (&'a ListenerKey, u32)>,
        open: &BTreeSet<u16>,
    ) -> Result<()>;
    /// Counters of a listener. `is_reported` states whether the kernel reports its completed handshakes.
    fn counters(&self, slot: u32, is_reported: bool) -> Result<ListenerCounters>;
    /// Registers of a listener's estimate of distinct sources.
    fn distinct_sources(&self, slot: u32) -> Result<[u8; HLL_REGISTERS]>;
    /// Starts that estimate again.
    fn reset_distinct_sources(&mut self, slot: u32) -> Result<()>;
    /// Counters of packets that belong to no listener.
    fn host_counters(&self) -> Result<HostCounters>;
    /// Sources that send SYNs to ports on which no socket listens.
    fn closed_port_sources(&self) -> Result<Vec<ClosedPortSource>>;
    /// The headers of SYNs that each CPU has kept.
    fn syn_samples(&self) -> Result<Vec<SynSamples>>;
    /// The entry of a client.
    fn client(&self, addr: IpAddr) -> Result<Option<Client>>;
    /// Gives the validated clients within `net` to `each`, until it returns false.
    fn clients_within(&self, net: &IpNet, each: impl FnMut(&Client) -> bool) -> Result<()>;
    /// Lets `rule` of `set` drop the SYNs that `matcher` matches.
    fn set_rule(&mut self, set: u64, matcher: &KernelMatcher, rule: RuleRef) -> Result<()>;
    /// Removes rule `slot` of `set`, unless another rule stands there.
    fn remove_rule(&mut self, set: u64, slot: u32, matcher: &KernelMatcher) -> Result<()>;
    /// Lets the source rule of `set` over exactly `client`, if there is one, know whether there are `narrow`
    /// ones beneath it.
    fn set_narrow(
        &mut self,
        set: u64,
        client: &IpNet,
        port: Option<u16>,
        narrow: bool,
    ) -> Result<()>;
    /// Lets rule `slot` end at this time, in ns; 0 ends it now.
    fn set_rule_expiry(&mut self, slot: u32, expires_ns: u64) -> Result<()>;
    /// Hits of the rules in the first `slots` slots, and perhaps of more, by slot.
    fn first_rule_hits(&self, slots: u32) -> Result<Vec<RuleHits>>;
    /// Starts the hits of rule `slot` from zero.
    fn reset_rule_hits(&mut self, slot: u32) -> Result<()>;
}

/// Methods that a [`Dataplane`] has under the same names.
macro_rules! forward {
    (&mut $this:ident: $($name:ident($($arg:ident: $type:ty),*) -> $out:ty;)+) => {
        $(fn $name(&mut $this, $($arg: $type),*) -> Result<$out> { Self::$name($this, $($arg),*) })+
    };
    (&$this:ident: $($name:ident($($arg:ident: $type:ty),*) -> $out:ty;)+) => {
        $(fn $name(&$this, $($arg: $type),*) -> Result<$out> { Self::$name($this, $($arg),*) })+
    };
}

impl Tables for Dataplane {
    forward! { &mut self:
        set_config(config: &Config) -> ();
        set_listener(key: &ListenerKey, entry: &ListenerEntry) -> ();
        remove_listener(key: &ListenerKey) -> ();
        reset_listener(slot: u32) -> ();
        reset_distinct_sources(slot: u32) -> ();
        set_rule(set: u64, matcher: &KernelMatcher, rule: RuleRef) -> ();
        remove_rule(set: u64, slot: u32, matcher: &KernelMatcher) -> ();
        set_narrow(set: u64, client: &IpNet, port: Option<u16>, narrow: bool) -> ();
        set_rule_expiry(slot: u32, expires_ns: u64) -> ();
        reset_rule_hits(slot: u32) -> ();
    }

    forward! { &self:
        distinct_sources(slot: u32) -> [u8; HLL_REGISTERS];
        host_counters() -> HostCounters;
        syn_samples() -> Vec<SynSamples>;
        client(addr: IpAddr) -> Option<Client>;
        clients_within(net: &IpNet, each: impl FnMut(&Client) -> bool) -> ();
        first_rule_hits(slots: u32) -> Vec<RuleHits>;
    }

    fn set_ports<'a>(
        &mut self,
        listeners: impl Iterator<Item = (&'a ListenerKey, u32)>,
        open: &BTreeSet<u16>,
    ) -> Result<()> {
        self.set_ports_beside(listeners, open)
    }

    fn counters(&self, slot: u32, is_reported: bool) -> Result<ListenerCounters> {
        let (counters, late) = (self.listener_counters(slot)?, self.late(slot)?);
        let returned = match counters.cookies_sent {
            0 => ReturnedCookies::default(),
            _ => self.returned_cookies(slot)?,
        };
        Ok(listener_counters(&counters, late, &returned, is_reported))
    }

    fn closed_port_sources(&self) -> Result<Vec<ClosedPortSource>> {
        Ok(Self::closed_port_sources(self)?.into_iter().map(|(_, cell)| cell).collect())
    }
}

impl Tables for Model {
    fn set_config(&mut self, config: &Config) -> Result<()> {
        self.config = *config;
        Ok(())
    }

    fn set_listener(&mut self, key: &ListenerKey, entry: &ListenerEntry) -> Result<()> {
        self.add_listener(*key, *entry);
        Ok(())
    }

    fn remove_listener(&mut self, key: &ListenerKey) -> Result<()> {
        // The port's entry goes on saying that some listener may be found under its address.
        if let Some(slot) = self.listeners.remove(key) {
            self.listener_entries.remove(&slot);
        }
        Ok(())
    }

    fn reset_listener(&mut self, slot: u32) -> Result<()> {
        self.listener_counters.remove(&slot);
        self.late.remove(&slot);
        self.distinct_sources.remove(&slot);
        Ok(())
    }

    fn set_ports<'a>(
        &mut self,
        _: impl Iterator<Item = (&'a ListenerKey, u32)>,
        _: &BTreeSet<u16>,
    ) -> Result<()> {
        // A listener that is made known has its port, and a capture shows no sockets.
        Ok(())
    }

    fn counters(&self, slot: u32, is_reported: bool) -> Result<ListenerCounters> {
        let counters = self.listener_counters.get(&slot).copied().unwrap_or_default();
        let late = self.late.get(&slot).copied().unwrap_or_default();
        // No client of a capture returns a cookie of this host.
        Ok(listener_counters(&counters, late, &ReturnedCookies::default(), is_reported))
    }

    fn distinct_sources(&self, slot: u32) -> Result<[u8; HLL_REGISTERS]> {
        Ok(self.distinct_sources.get(&slot).map_or([0; HLL_REGISTERS], |registers| **registers))
    }

    fn reset_distinct_sources(&mut self, slot: u32) -> Result<()> {
        self.distinct_sources.remove(&slot);
        Ok(())
    }

    fn host_counters(&self) -> Result<HostCounters> {
        Ok(self.host)
    }

    fn closed_port_sources(&self) -> Result<Vec<ClosedPortSource>> {
        Ok(self.closed_port_sources.values().copied().collect())
    }

    fn syn_samples(&self) -> Result<Vec<SynSamples>> {
        Ok(vec![*self.syn_samples])
    }

    fn client(&self, ip: IpAddr) -> Result<Option<Client>> {
        Ok(self.clients.peek(&addr(ip).client()).copied())
    }

    fn clients_within(&self, net: &IpNet, mut each: impl FnMut(&Client) -> bool) -> Result<()> {
        if is_one_client(net) {
            Tables::client(self, net.addr())?.as_ref().map(each);
            return Ok(());
        }
        let mut within = self.clients.iter().filter(|(addr, _)| net.contains(&ip(addr)));
        while within.next().is_some_and(|(_, client)| each(client)) {}
        Ok(())
    }

    fn set_rule(&mut self, set: u64, matcher: &KernelMatcher, rule: RuleRef) -> Result<()> {
        match matcher {
            KernelMatcher::Source(net, ports) => ports.entries().for_each(|port| {
                let (rules, net) = (source_rules(self, set, port), model_net(net));
                rules.retain(|(present, _)| *present != net);
                rules.push((net, rule));
            }),
            KernelMatcher::Signature(key) => {
                self.signatures.retain(|(present, _)| present != key);
                self.signatures.push((*key, rule));
            }
        }
        Ok(())
    }

    fn remove_rule(&mut self, set: u64, slot: u32, matcher: &KernelMatcher) -> Result<()> {
        match matcher {
            KernelMatcher::Source(net, ports) => ports.entries().for_each(|port| {
                let (rules, net) = (source_rules(self, set, port), model_net(net));
                rules.retain(|(present, rule)| *present != net || rule.slot != slot);
            }),
            KernelMatcher::Signature(key) => self.signatures.retain(|(present, _)| present != key),
        }
        Ok(())
    }

    fn set_narrow(
        &mut self,
        set: u64,
        client: &IpNet,
        port: Option<u16>,
        narrow: bool,
    ) -> Result<()> {
        let (rules, net) = (source_rules(self, set, port), model_net(client));
        if let Some((_, rule)) = rules.iter_mut().find(|(present, _)| *present == net) {
            let flag = if narrow { RuleRef::NARROW } else { 0 };
            rule.flags = rule.flags & !RuleRef::NARROW | flag;
        }
        Ok(())
    }

    fn set_rule_expiry(&mut self, slot: u32, expires_ns: u64) -> Result<()> {
        self.rule_expiry.insert(slot, expires_ns);
        Ok(())
    }

    fn first_rule_hits(&self, slots: u32) -> Result<Vec<RuleHits>> {
        let hits = |slot| self.rule_hits.get(&slot).copied().unwrap_or_default();
        Ok((0..slots).map(hits).collect())
    }

    fn reset_rule_hits(&mut self, slot: u32) -> Result<()> {
        self.rule_hits.remove(&slot);
        Ok(())
    }
}

fn source_rules(model: &mut Model, set: u64, port: Option<u16>) -> &mut SourceRules {
    model.source_rules.entry((set, port.map_or(EVERY_PORT, u16::to_be_bytes))).or_default()
}

fn model_net(net: &IpNet) -> Net {
    let bits = u32::from(net.prefix_len()) + if net.addr().is_ipv4() { 96 } else { 0 };
    (addr(net.network()), bits)
}
