//! The two backends of a replay: the decision runs on the host over plain collections, or in the kernel over its
//! maps.
//!
//! Both are the same lines of `tcpguard_common::fastpath`. The replay reads and writes the same data
//! there as the agent.

use tcpguard_common::abi::{Action, Flow, FlowKey, PacketCounters};
use tcpguard_common::model::Model;

use crate::bpf::{Dataplane, KernelError, Load, Object};
use crate::driver::Tables;

/// The programs of a replay, and the tables that they use.
///
/// # Errors
/// Every method fails when the kernel refuses; the host never does.
pub trait Backend {
    /// The tables.
    type Tables: Tables;
    /// The tables, empty.
    fn tables(&self) -> Result<Self::Tables, KernelError>;
    /// Sets the time of the next decision, in ns.
    fn set_now(&mut self, tables: &mut Self::Tables, now_ns: u64) -> Result<(), KernelError>;
    /// Decides about a frame that arrives.
    fn ingress(&mut self, tables: &mut Self::Tables, frame: &[u8]) -> Result<Action, KernelError>;
    /// Processes a frame that leaves.
    fn egress(&mut self, tables: &mut Self::Tables, frame: &[u8]) -> Result<(), KernelError>;
    /// Counters of the packets that arrived.
    fn packets(tables: &Self::Tables) -> Result<PacketCounters, KernelError>;
    /// The sampled flows for which `keep` holds, in any order.
    fn flows(
        tables: &Self::Tables,
        keep: impl Fn(&FlowKey, &Flow) -> bool,
    ) -> Result<Vec<(FlowKey, Flow)>, KernelError>;
}

/// The decision on the host, over plain collections.
#[derive(Clone, Copy, Debug)]
pub struct OnHost;

impl Backend for OnHost {
    type Tables = Model;

    fn tables(&self) -> Result<Model, KernelError> {
        Ok(Model::default())
    }

    fn set_now(&mut self, model: &mut Model, now_ns: u64) -> Result<(), KernelError> {
        model.now_ns = now_ns;
        Ok(())
    }

    fn ingress(&mut self, model: &mut Model, frame: &[u8]) -> Result<Action, KernelError> {
        Ok(model.ingress(frame).action())
    }

    fn egress(&mut self, model: &mut Model, frame: &[u8]) -> Result<(), KernelError> {
        model.egress(frame);
        Ok(())
    }

    fn packets(model: &Model) -> Result<PacketCounters, KernelError> {
        Ok(model.packets)
    }

    fn flows(
        model: &Model,
        keep: impl Fn(&FlowKey, &Flow) -> bool,
    ) -> Result<Vec<(FlowKey, Flow)>, KernelError> {
        Ok(model.flows.iter().filter(|(key, flow)| keep(key, flow)).collect())
    }
}

/// The loaded programs, run frame by frame without an interface (`BPF_PROG_TEST_RUN`). Nothing is
/// attached or pinned; all of it is gone with this.
pub struct Kernel {
    object: Object,
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
        stay_on_this_cpu();
        Ok(Self { object, now_ns: 0 })
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
    type Tables = Dataplane;

    fn tables(&self) -> Result<Dataplane, KernelError> {
        Dataplane::of(&self.object)
    }

    fn set_now(&mut self, dataplane: &mut Dataplane, now_ns: u64) -> Result<(), KernelError> {
        if self.now_ns != now_ns {
            dataplane.set_clock(now_ns)?;
            self.now_ns = now_ns;
        }
        Ok(())
    }

    fn ingress(&mut self, _: &mut Dataplane, frame: &[u8]) -> Result<Action, KernelError> {
        let (action, _) = self.object.test_ingress(frame, 1)?;
        Ok(match action {
            XDP_DROP => Action::Drop,
            XDP_TX => Action::Tx,
            _ => Action::Pass,
        })
    }

    fn egress(&mut self, _: &mut Dataplane, frame: &[u8]) -> Result<(), KernelError> {
        if frame.len() > LONGEST_EGRESS { Ok(()) } else { self.object.test_egress(frame) }
    }

    fn packets(dataplane: &Dataplane) -> Result<PacketCounters, KernelError> {
        dataplane.packets(0)
    }

    fn flows(
        dataplane: &Dataplane,
        keep: impl Fn(&FlowKey, &Flow) -> bool,
    ) -> Result<Vec<(FlowKey, Flow)>, KernelError> {
        Ok(dataplane.flows()?.into_iter().filter(|(key, flow)| keep(key, flow)).collect())
    }
}
