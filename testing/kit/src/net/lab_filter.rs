//! Programs of the lab's own, on its interfaces until dropped.

use std::fs::File;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::SockMap;
use aya::programs::tc::{NlOptions, TcAttachOptions};
use aya::programs::{SchedClassifier, SkLookup, TcAttachType, Xdp, XdpMode};

use crate::net::live_frames::object;
use crate::net::netns::Netns;

/// Task of the program. The names are those in `testing/bpf/src/bin/lab.rs`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Filter {
    /// Drops all packets but those of the lab's clients: the best that any defence could do.
    OnlyClients,
    /// Drops packets to the attacker's gateway, and takes frames that the other end sends back natively.
    NoBackscatter,
}

#[derive(Debug)]
pub struct LabFilter {
    _object: Ebpf,
}

impl LabFilter {
    /// Attaches it in the driver, or else in the network stack (generic mode).
    ///
    /// # Errors
    /// Without CAP_BPF and CAP_NET_ADMIN, without `TCPGUARD_BPF_DIR`, or when the interface is taken.
    pub fn attach(host: &Netns, interface: &str, filter: Filter, native: bool) -> Result<Self> {
        let name = match filter {
            Filter::OnlyClients => "only_clients",
            Filter::NoBackscatter => "no_backscatter",
        };
        let mut object =
            Ebpf::load_file(object("lab")?).context("cannot load the lab's filters")?;
        let program: &mut Xdp =
            object.program_mut(name).with_context(|| format!("no {name}"))?.try_into()?;
        program.load()?;
        let mode = if native { XdpMode::Driver } else { XdpMode::Skb };
        host.run(|| {
            program
                .attach(interface, mode)
                .with_context(|| format!("cannot attach {name} to {interface}"))
                .map(drop)
        })?;
        Ok(Self { _object: object })
    }
}

/// Port of which [`steer`] steers the connections; as in `testing/bpf/src/bin/lab.rs`.
pub const STEERED_PORT: u16 = 7000;

/// Steers connections to [`STEERED_PORT`] of the calling thread's network namespace to a socket, until dropped.
///
/// # Errors
/// Without CAP_BPF and CAP_NET_ADMIN, or without `TCPGUARD_BPF_DIR`.
pub fn steer(to: &impl AsRawFd) -> Result<LabFilter> {
    let mut object = Ebpf::load_file(object("lab")?).context("cannot load the lab's filters")?;
    let mut map = SockMap::try_from(object.map_mut("STEERED").context("no STEERED")?)?;
    map.set(0, to, 0).context("cannot name the socket")?;
    let program: &mut SkLookup = object.program_mut("steer").context("no steer")?.try_into()?;
    program.load()?;
    program.attach(File::open("/proc/thread-self/ns/net")?).context("cannot steer")?;
    Ok(LabFilter { _object: object })
}

/// Puts a firewall behind the XDP program that drops ACKs of connections for which it has seen no SYN (IPv4),
/// until the interface is gone. No rule set shows it.
pub fn only_connections(host: &Netns, interface: &str) -> Result<()> {
    let mut object = Ebpf::load_file(object("lab")?).context("cannot load the lab's filters")?;
    let program: &mut SchedClassifier =
        object.program_mut("only_connections").context("no only_connections")?.try_into()?;
    program.load()?;
    // At clsact, behind whatever hangs at TCX.
    host.exec(&format!("tc qdisc replace dev {interface} clsact"))?;
    host.run(|| {
        let options = TcAttachOptions::Netlink(NlOptions::default());
        let attached = program.attach_with_options(interface, TcAttachType::Ingress, options);
        let link = program.take_link(attached.context("cannot attach the firewall")?)?;
        // It goes with its interface.
        std::mem::forget(link);
        Ok(())
    })
}
