//! The two backends of a replay: the decision runs on the host over plain tables, or in the kernel over its
//! maps.
//!
//! Both are the same lines of `tcpguard_common::fastpath`. The replay reads and writes the same data
//! there as the agent.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use tcpguard_common::abi::maps::HLL_REGISTERS;
use tcpguard_common::abi::{
    Action, Addr, Client, ClosedPortSource, Config, EVERY_PORT, Fingerprint, Flow, FlowKey,
    HostCounters, Late, ListenerCounters, ListenerEntry, ListenerKey, Mask, PacketCounters,
    RuleHits, RuleRef, SynSamples,
};
use tcpguard_common::model::{Model, Net};

use crate::bpf::{Dataplane, KernelError, Load, Object, addr, signature_key};

/// The one rule set of a replay: its rules are never replaced as a whole.
const SET: u64 = 0;

/// The tables of a replay and the programs that use them.
///
/// # Errors
/// Every method fails when the kernel refuses; the host never does.
pub trait Backend {
    /// Sets the time of the next decision, in ns.
    fn set_now(&mut self, now_ns: u64) -> Result<(), KernelError>;
    /// Replaces the configuration record.
    fn set_config(&mut self, config: &Config) -> Result<(), KernelError>;
    /// Decides about a frame that arrives.
    fn ingress(&mut self, frame: &[u8]) -> Result<Action, KernelError>;
    /// Processes a frame that leaves.
    fn egress(&mut self, frame: &[u8]) -> Result<(), KernelError>;
    /// Makes a listener known, or changes it.
    fn set_listener(&mut self, key: &ListenerKey, entry: &ListenerEntry)
    -> Result<(), KernelError>;
    /// Forgets a listener and its counters.
    fn remove_listener(&mut self, key: &ListenerKey, id: u32) -> Result<(), KernelError>;
    /// Counters of a listener.
    fn listener_counters(&self, id: u32) -> Result<ListenerCounters, KernelError>;
    /// Counters of a listener's handshakes that completed late.
    fn late(&self, id: u32) -> Result<Late, KernelError>;
    /// Registers of a listener's estimate of distinct sources.
    fn distinct_sources(&self, id: u32) -> Result<[u8; HLL_REGISTERS], KernelError>;
    /// Starts that estimate again.
    fn reset_distinct_sources(&mut self, id: u32) -> Result<(), KernelError>;
    /// Counters of the packets that arrived.
    fn packets(&self) -> Result<PacketCounters, KernelError>;
    /// Counters of packets that belong to no listener.
    fn host_counters(&self) -> Result<HostCounters, KernelError>;
    /// Sources that send SYNs to ports on which no socket listens.
    fn closed_port_sources(&self) -> Result<Vec<ClosedPortSource>, KernelError>;
    /// Shows `take` the sampled flows for which `keep` holds, oldest first. Tables have no order, and of very
    /// many flows the engine examines a part: always the same one.
    fn flows(
        &self,
        keep: &dyn Fn(&FlowKey, &Flow) -> bool,
        take: &mut dyn FnMut(&FlowKey, &Flow),
    ) -> Result<(), KernelError>;
    /// The headers of SYNs that each CPU has kept.
    fn syn_samples(&self) -> Result<Vec<SynSamples>, KernelError>;
    /// The entry of a client.
    fn client(&self, addr: IpAddr) -> Result<Option<Client>, KernelError>;
    /// Returns whether a client within `net` has been validated at or after this time, in ns.
    fn validated_since(&self, net: &IpNet, since_ns: u64) -> Result<bool, KernelError>;
    /// Lets rule `slot` drop SYNs from `net`. Like all rules that the agent makes by itself it is for every
    /// port.
    fn set_source_rule(&mut self, net: &IpNet, slot: u32) -> Result<(), KernelError>;
    /// Takes rule `slot` over exactly `net` away.
    fn remove_source_rule(&mut self, net: &IpNet, slot: u32) -> Result<(), KernelError>;
    /// Lets rule `slot` drop SYNs to a listener that have the fingerprint `print` under `mask`.
    fn set_signature(
        &mut self,
        listener: u32,
        mask: Mask,
        print: &Fingerprint,
        slot: u32,
    ) -> Result<(), KernelError>;
    /// Takes that rule away.
    fn remove_signature(
        &mut self,
        listener: u32,
        mask: Mask,
        print: &Fingerprint,
    ) -> Result<(), KernelError>;
    /// Lets rule `slot` end at this time, in ns; 0 ends it now.
    fn set_rule_expiry(&mut self, slot: u32, expires_ns: u64) -> Result<(), KernelError>;
    /// Hits of rule `slot`.
    fn rule_hits(&self, slot: u32) -> Result<RuleHits, KernelError>;
    /// Starts the hits of rule `slot` from zero.
    fn reset_rule_hits(&mut self, slot: u32) -> Result<(), KernelError>;
}

/// The tables as plain collections.
impl Backend for Model {
    fn set_now(&mut self, now_ns: u64) -> Result<(), KernelError> {
        self.now_ns = now_ns;
        Ok(())
    }

    fn set_config(&mut self, config: &Config) -> Result<(), KernelError> {
        self.config = *config;
        Ok(())
    }

    fn ingress(&mut self, frame: &[u8]) -> Result<Action, KernelError> {
        Ok(Self::ingress(self, frame).action())
    }

    fn egress(&mut self, frame: &[u8]) -> Result<(), KernelError> {
        Self::egress(self, frame);
        Ok(())
    }

    fn set_listener(
        &mut self,
        key: &ListenerKey,
        entry: &ListenerEntry,
    ) -> Result<(), KernelError> {
        self.add_listener(*key, *entry);
        Ok(())
    }

    fn remove_listener(&mut self, key: &ListenerKey, id: u32) -> Result<(), KernelError> {
        // The port's entry goes on saying that some listener may be found under its address.
        self.listeners.remove(key);
        self.listener_entries.remove(&id);
        self.listener_counters.remove(&id);
        self.late.remove(&id);
        self.distinct_sources.remove(&id);
        Ok(())
    }

    fn listener_counters(&self, id: u32) -> Result<ListenerCounters, KernelError> {
        Ok(self.listener_counters.get(&id).copied().unwrap_or_default())
    }

    fn late(&self, id: u32) -> Result<Late, KernelError> {
        Ok(self.late.get(&id).copied().unwrap_or_default())
    }

    fn distinct_sources(&self, id: u32) -> Result<[u8; HLL_REGISTERS], KernelError> {
        Ok(self.distinct_sources.get(&id).map_or([0; HLL_REGISTERS], |registers| **registers))
    }

    fn reset_distinct_sources(&mut self, id: u32) -> Result<(), KernelError> {
        self.distinct_sources.remove(&id);
        Ok(())
    }

    fn packets(&self) -> Result<PacketCounters, KernelError> {
        Ok(self.packets)
    }

    fn host_counters(&self) -> Result<HostCounters, KernelError> {
        Ok(self.host)
    }

    fn closed_port_sources(&self) -> Result<Vec<ClosedPortSource>, KernelError> {
        Ok(self.closed_port_sources.values().copied().collect())
    }

    fn flows(
        &self,
        keep: &dyn Fn(&FlowKey, &Flow) -> bool,
        take: &mut dyn FnMut(&FlowKey, &Flow),
    ) -> Result<(), KernelError> {
        in_order(self.flows.iter(), keep, take);
        Ok(())
    }

    fn syn_samples(&self) -> Result<Vec<SynSamples>, KernelError> {
        Ok(vec![*self.syn_samples])
    }

    fn client(&self, ip: IpAddr) -> Result<Option<Client>, KernelError> {
        Ok(self.clients.peek(&addr(ip).client()).copied())
    }

    fn validated_since(&self, net: &IpNet, since_ns: u64) -> Result<bool, KernelError> {
        let recent = |client: &Client| client.completed_ns >= since_ns;
        if is_one_client(net) {
            return Ok(Backend::client(self, net.addr())?.as_ref().is_some_and(recent));
        }
        Ok(self.clients.iter().any(|(addr, client)| within(net, addr) && recent(client)))
    }

    fn set_source_rule(&mut self, net: &IpNet, slot: u32) -> Result<(), KernelError> {
        let net = model_net(net);
        let rules = self.source_rules.entry((SET, EVERY_PORT)).or_default();
        rules.retain(|(present, _)| *present != net);
        rules.push((net, RuleRef { slot, flags: 0 }));
        Ok(())
    }

    fn remove_source_rule(&mut self, net: &IpNet, slot: u32) -> Result<(), KernelError> {
        let net = model_net(net);
        let rules = self.source_rules.entry((SET, EVERY_PORT)).or_default();
        rules.retain(|(present, rule)| *present != net || rule.slot != slot);
        Ok(())
    }

    fn set_signature(
        &mut self,
        listener: u32,
        mask: Mask,
        print: &Fingerprint,
        slot: u32,
    ) -> Result<(), KernelError> {
        let key = signature_key(SET, listener, mask, print);
        self.signatures.retain(|(present, _)| *present != key);
        self.signatures.push((key, RuleRef { slot, flags: 0 }));
        Ok(())
    }

    fn remove_signature(
        &mut self,
        listener: u32,
        mask: Mask,
        print: &Fingerprint,
    ) -> Result<(), KernelError> {
        let key = signature_key(SET, listener, mask, print);
        self.signatures.retain(|(present, _)| *present != key);
        Ok(())
    }

    fn set_rule_expiry(&mut self, slot: u32, expires_ns: u64) -> Result<(), KernelError> {
        self.rule_expiry.insert(slot, expires_ns);
        Ok(())
    }

    fn rule_hits(&self, slot: u32) -> Result<RuleHits, KernelError> {
        Ok(self.rule_hits.get(&slot).copied().unwrap_or_default())
    }

    fn reset_rule_hits(&mut self, slot: u32) -> Result<(), KernelError> {
        self.rule_hits.remove(&slot);
        Ok(())
    }
}

fn in_order(
    flows: impl Iterator<Item = (FlowKey, Flow)>,
    keep: &dyn Fn(&FlowKey, &Flow) -> bool,
    take: &mut dyn FnMut(&FlowKey, &Flow),
) {
    let kept = flows.filter(|(key, flow)| keep(key, flow));
    let mut order: Vec<_> = kept.collect();
    order.sort_unstable_by_key(|(key, flow)| (flow.syn_ns, *key));
    for (key, flow) in order {
        take(&key, &flow);
    }
}

fn model_net(net: &IpNet) -> Net {
    let bits = u32::from(net.prefix_len()) + if net.addr().is_ipv4() { 96 } else { 0 };
    (addr(net.network()), bits)
}

/// Returns whether a prefix is the unit under which one client is counted.
fn is_one_client(net: &IpNet) -> bool {
    match net {
        IpNet::V4(net) => net.prefix_len() == 32,
        IpNet::V6(net) => net.prefix_len() >= 64,
    }
}

fn within(net: &IpNet, addr: &Addr) -> bool {
    net.contains(&crate::bpf::ip(addr))
}

/// The loaded programs, run frame by frame without an interface (`BPF_PROG_TEST_RUN`). Nothing is
/// attached or pinned; all of it is gone with this.
pub struct Kernel {
    object: Object,
    dataplane: Dataplane,
    listeners: BTreeMap<ListenerKey, u32>,
    now_ns: u64,
}

/// `XDP_DROP` of the kernel's `bpf.h`.
const XDP_DROP: u32 = 1;
/// The action `XDP_TX`.
const XDP_TX: u32 = 3;
/// Longest frame that a test run of the egress program takes, in bytes. The frames that it looks for,
/// SYN-ACKs and resets, are far shorter.
const LONGEST_EGRESS: usize = 2048;

impl Kernel {
    /// Loads the programs.
    ///
    /// # Errors
    /// When privileges are missing or the kernel refuses; the message says which.
    pub fn load() -> Result<Self, KernelError> {
        let object = Object::load(Load { fixed_clock: true, ..Load::default() })?;
        let dataplane = Dataplane::of(&object)?;
        stay_on_this_cpu();
        Ok(Self { object, dataplane, listeners: BTreeMap::new(), now_ns: 0 })
    }

    fn write_ports(&self) -> Result<(), KernelError> {
        self.dataplane.set_ports(self.listeners.iter().map(|(key, id)| (key, *id)))
    }
}

/// Keeps this thread on its CPU. Part of the programs' state is per CPU, and behind a receive queue a flow
/// stays on one.
fn stay_on_this_cpu() {
    let mut here = rustix::thread::CpuSet::new();
    here.set(rustix::thread::sched_getcpu());
    // Where it is refused, only frames on either side of a migration may be judged without the state of their
    // flow.
    let _ = rustix::thread::sched_setaffinity(None, &here);
}

impl Backend for Kernel {
    fn set_now(&mut self, now_ns: u64) -> Result<(), KernelError> {
        if self.now_ns != now_ns {
            self.dataplane.set_clock(now_ns)?;
            self.now_ns = now_ns;
        }
        Ok(())
    }

    fn set_config(&mut self, config: &Config) -> Result<(), KernelError> {
        self.dataplane.set_config(config)
    }

    fn ingress(&mut self, frame: &[u8]) -> Result<Action, KernelError> {
        let (action, _) = self.object.test_ingress(frame, 1)?;
        Ok(match action {
            XDP_DROP => Action::Drop,
            XDP_TX => Action::Tx,
            _ => Action::Pass,
        })
    }

    fn egress(&mut self, frame: &[u8]) -> Result<(), KernelError> {
        if frame.len() > LONGEST_EGRESS { Ok(()) } else { self.object.test_egress(frame) }
    }

    fn set_listener(
        &mut self,
        key: &ListenerKey,
        entry: &ListenerEntry,
    ) -> Result<(), KernelError> {
        self.dataplane.set_listener(key, entry)?;
        if self.listeners.insert(*key, entry.id) != Some(entry.id) {
            self.write_ports()?;
        }
        Ok(())
    }

    fn remove_listener(&mut self, key: &ListenerKey, id: u32) -> Result<(), KernelError> {
        self.listeners.remove(key);
        self.dataplane.remove_listener(key)?;
        self.write_ports()?;
        self.dataplane.reset_listener(id)
    }

    fn listener_counters(&self, id: u32) -> Result<ListenerCounters, KernelError> {
        self.dataplane.listener_counters(id)
    }

    fn late(&self, id: u32) -> Result<Late, KernelError> {
        self.dataplane.late(id)
    }

    fn distinct_sources(&self, id: u32) -> Result<[u8; HLL_REGISTERS], KernelError> {
        self.dataplane.distinct_sources(id)
    }

    fn reset_distinct_sources(&mut self, id: u32) -> Result<(), KernelError> {
        self.dataplane.reset_distinct_sources(id)
    }

    fn packets(&self) -> Result<PacketCounters, KernelError> {
        self.dataplane.packets(0)
    }

    fn host_counters(&self) -> Result<HostCounters, KernelError> {
        self.dataplane.host_counters()
    }

    fn closed_port_sources(&self) -> Result<Vec<ClosedPortSource>, KernelError> {
        Ok(self.dataplane.closed_port_sources()?.into_iter().map(|(_, probe)| probe).collect())
    }

    fn flows(
        &self,
        keep: &dyn Fn(&FlowKey, &Flow) -> bool,
        take: &mut dyn FnMut(&FlowKey, &Flow),
    ) -> Result<(), KernelError> {
        let flows = self.dataplane.flows()?;
        in_order(flows.into_iter(), keep, take);
        Ok(())
    }

    fn syn_samples(&self) -> Result<Vec<SynSamples>, KernelError> {
        self.dataplane.syn_samples()
    }

    fn client(&self, addr: IpAddr) -> Result<Option<Client>, KernelError> {
        self.dataplane.client(addr)
    }

    fn validated_since(&self, net: &IpNet, since_ns: u64) -> Result<bool, KernelError> {
        let recent = |client: &Client| client.completed_ns >= since_ns;
        if is_one_client(net) {
            return Ok(self.client(net.addr())?.as_ref().is_some_and(recent));
        }
        let clients = self.dataplane.clients()?;
        Ok(clients.iter().any(|(addr, client)| within(net, addr) && recent(client)))
    }

    fn set_source_rule(&mut self, net: &IpNet, slot: u32) -> Result<(), KernelError> {
        self.dataplane.set_source_rule(SET, net, None, RuleRef { slot, flags: 0 })
    }

    fn remove_source_rule(&mut self, net: &IpNet, slot: u32) -> Result<(), KernelError> {
        self.dataplane.remove_source_rule(SET, net, None, slot)
    }

    fn set_signature(
        &mut self,
        listener: u32,
        mask: Mask,
        print: &Fingerprint,
        slot: u32,
    ) -> Result<(), KernelError> {
        self.dataplane.set_signature(SET, listener, mask, print, slot)
    }

    fn remove_signature(
        &mut self,
        listener: u32,
        mask: Mask,
        print: &Fingerprint,
    ) -> Result<(), KernelError> {
        self.dataplane.remove_signature(SET, listener, mask, print)
    }

    fn set_rule_expiry(&mut self, slot: u32, expires_ns: u64) -> Result<(), KernelError> {
        self.dataplane.set_rule_expiry(slot, expires_ns)
    }

    fn rule_hits(&self, slot: u32) -> Result<RuleHits, KernelError> {
        self.dataplane.rule_hits(slot)
    }

    fn reset_rule_hits(&mut self, slot: u32) -> Result<(), KernelError> {
        self.dataplane.reset_rule_hits(slot)
    }
}
