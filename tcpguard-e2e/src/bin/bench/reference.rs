//! The guard's cookies beside a SYN proxy of the usual kind, in the same rounds: `reference` of the
//! BPF crate, with the kernel's cookies.
//!
//! The reference has the steps of the kernel's own example but for its first: that one looks every
//! segment up in netfilter's connection tracking. Where the kernel has it built in, the wrapper in
//! front does so, which makes of the reference the example as it is shipped.

use std::env;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::maps::Array;
use aya::programs::Xdp;
use tcpguard::kernel::{Object, Redeemer};
use tcpguard_e2e::bare::{BareProgram, Conntrack, Sources, Wrapper};

use crate::comparison::Costs;
use crate::packet::REPEAT;

// `enum xdp_action`
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
/// `TC_ACT_UNSPEC`.
const TC_UNSPEC: u32 = u32::MAX;

/// The reference, loaded and attached nowhere.
struct Reference(Ebpf);

impl Reference {
    fn load() -> Result<Self> {
        let directory = env::var_os("TCPGUARD_BPF_DIR")
            .context("TCPGUARD_BPF_DIR is not set: run `cargo xtask bench`")?;
        let mut object = Ebpf::load_file(PathBuf::from(directory).join("reference.o"))?;
        let program: &mut Xdp =
            object.program_mut("reference").context("no program")?.try_into()?;
        program.load().context("the kernel refuses the reference")?;
        let ports = object.map_mut("PORTS").context("no list of ports")?;
        Array::<_, u16>::try_from(ports)?.set(0, 443u16.to_be(), 0)?;
        Ok(Self(object))
    }

    fn fd(&self) -> Result<BorrowedFd<'_>> {
        let program: &Xdp = self.0.program("reference").context("loaded")?.try_into()?;
        Ok(program.fd()?.as_fd())
    }
}

/// Both sides.
pub struct Contest {
    reference: Reference,
    conntrack: Option<Conntrack>,
    ingress: OwnedFd,
    redeem: OwnedFd,
}

impl Contest {
    /// # Errors
    /// Without `TCPGUARD_BPF_DIR`, or on kernels before 6.0.
    pub fn new(object: &Object, redeemer: &mut Redeemer) -> Result<Self> {
        Ok(Self {
            reference: Reference::load()?,
            conntrack: Conntrack::of_running_kernel()?,
            ingress: object.ingress_fd()?,
            redeem: redeemer.fd()?,
        })
    }

    /// One round of a SYN that both answer, and what making it again costs.
    ///
    /// # Errors
    /// When one of them does anything else, or the kernel refuses a program.
    pub fn syn(&self, frame: &[u8], sources: Sources) -> Result<(Costs, f64)> {
        self.xdp(frame, sources, XDP_TX, XDP_TX)
    }

    /// One round of an ACK without a cookie. It passes the guard at XDP, to be looked at at tc: both
    /// are what it costs. The reference drops it at XDP.
    ///
    /// # Errors
    /// As for [`Self::syn`].
    pub fn ack(&self, frame: &[u8], sources: Sources) -> Result<Costs> {
        let (mut costs, _) = self.xdp(frame, sources, XDP_PASS, XDP_DROP)?;
        let wrapper = Wrapper::new(frame, sources)?;
        let floor = time(&wrapper.tc(None)?, frame, None)?;
        let redeem = wrapper.tc(Some(self.redeem.as_fd()))?;
        costs.ours += time(&redeem, frame, Some(TC_UNSPEC))? - floor;
        Ok(costs)
    }

    /// Programs are loaded for each round: where the kernel puts them is a matter of luck too.
    fn xdp(&self, frame: &[u8], sources: Sources, ours: u32, theirs: u32) -> Result<(Costs, f64)> {
        let wrapper = Wrapper::new(frame, sources)?;
        let reference = self.reference.fd()?;
        let guard = wrapper.xdp(Some(self.ingress.as_fd()))?;
        let helpers = wrapper.xdp(Some(reference))?;
        let floor = time(&wrapper.xdp(None)?, frame, None)?;
        let tracked = self.conntrack.map(|conntrack| {
            let tracked = wrapper.tracked(conntrack, reference)?;
            Ok::<_, anyhow::Error>(time(&tracked, frame, Some(theirs))? - floor)
        });
        let costs = Costs {
            ours: time(&guard, frame, Some(ours))? - floor,
            helpers: time(&helpers, frame, Some(theirs))? - floor,
            tracked: tracked.transpose()?,
        };
        Ok((costs, floor))
    }
}

/// Mean time of a run in ns; what the last one came to must be `expected`.
fn time(program: &BareProgram, frame: &[u8], expected: Option<u32>) -> Result<f64> {
    let (time, result) = program.test_run(frame, REPEAT)?;
    ensure!(expected.is_none_or(|expected| result == expected), "it came to {result}");
    Ok(f64::from(time))
}
