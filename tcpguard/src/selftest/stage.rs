//! The two namespaces of a probe and the cable between them.
#![expect(unsafe_code, reason = "unshare(2) affects what other code of the thread sees")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use tcpguard_engine::Family;
use tcpguard_host::linux::interfaces::{self, OperState};
use tcpguard_host::linux::veth::{self, End};
use tcpguard_host::linux::{self, Interface, Sysctls, device};

use super::{PATIENCE, SelftestFailure};

/// Sysctls that decide about handshakes and windows, of the server's end.
const SYSCTLS: [&str; 14] = [
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_timestamps",
    "net.ipv4.tcp_window_scaling",
    "net.ipv4.tcp_sack",
    "net.ipv4.tcp_ecn",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_adv_win_scale",
    "net.ipv4.tcp_moderate_rcvbuf",
    "net.ipv4.tcp_workaround_signed_windows",
    "net.ipv4.tcp_mtu_probing",
    "net.ipv4.tcp_base_mss",
    "net.ipv4.tcp_min_snd_mss",
    "net.ipv4.ip_default_ttl",
];

/// Sysctl that switches SYN cookies.
pub(super) const SYNCOOKIES: &str = SYSCTLS[0];
/// Sysctl that switches TCP timestamps, and their random offsets.
pub(super) const TIMESTAMPS: &str = SYSCTLS[1];
/// The receive buffers of an ordinary client, independent of this host: a window scale of 7.
const DEFAULT_RMEM: &str = "4096 131072 6291456";

/// The port of the service: one that needs no privilege.
const PORT: u16 = 8443;

pub(super) const SERVER: End<'_> = End { name: "probe0", mac: [2, 0, 0, 0, 0, 1] };
const CLIENT: End<'_> = End { name: "probe1", mac: [2, 0, 0, 0, 0, 2] };

/// Mount point of the BPF file system, seen by no other thread, on which the programs pin their maps.
pub(super) const BPFFS: &str = "/sys/fs/bpf";

/// This host's values of [`SYSCTLS`].
pub(super) fn sysctls() -> Result<BTreeMap<String, String>, linux::Error> {
    let sysctls = Sysctls::default();
    let mut values = BTreeMap::new();
    for name in SYSCTLS {
        if let Some(value) = sysctls.read(name)? {
            values.insert(name.to_owned(), value);
        }
    }
    Ok(values)
}

/// The client's network namespace; the server's is that of the thread that made the stage.
#[derive(Debug)]
pub(super) struct Stage {
    client: OwnedFd,
    pub(super) interface: Interface,
    /// The address families over which connections are possible.
    pub(super) families: Vec<Family>,
}

/// Returns the address of the service of a family.
pub(super) fn service(family: Family) -> SocketAddr {
    SocketAddr::new(address(family, 1), PORT)
}

fn address(family: Family, host: u8) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::new(192, 0, 2, host).into(),
        Family::Ipv6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host.into()).into(),
    }
}

impl Stage {
    /// Moves this thread into a namespace of its own, with `values` for sysctls, and connects it
    /// with another one. Both are gone when the thread and the stage are.
    ///
    /// # Errors
    /// Without root, or on a kernel without namespaces, veth or BPF file system.
    pub(super) fn set_up(values: &BTreeMap<String, String>) -> Result<Self, SelftestFailure> {
        let client = on_own_thread(new_network).map_err(SelftestFailure::Namespace)?;
        new_network().and_then(|_| own_bpffs()).map_err(SelftestFailure::Namespace)?;
        veth::connect(&SERVER, &CLIENT, client.as_fd())?;
        let sysctls = Sysctls::default();
        for (name, value) in values {
            sysctls.write(name, value)?;
        }
        let interface = interfaces::by_name(SERVER.name)?;
        device::complete_checksums(SERVER.name)?;
        veth::bring_up(interface.index)?;
        let mut stage = Self { client, interface, families: vec![Family::Ipv4] };
        stage.client(|| {
            sysctls.write("net.ipv4.tcp_rmem", DEFAULT_RMEM)?;
            device::complete_checksums(CLIENT.name)?;
            veth::bring_up(interfaces::by_name(CLIENT.name)?.index)
        })?;
        // Until the kernel has noticed that there is a cable, it drops all packets on it.
        let begun = Instant::now();
        while !stage.is_up()? && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(2));
        }
        stage.equip(Family::Ipv4)?;
        // A host may do without.
        if stage.equip(Family::Ipv6).is_ok() {
            stage.families.push(Family::Ipv6);
        }
        Ok(stage)
    }

    /// Runs `work` on a thread in the client's network namespace, and waits for it.
    pub(super) fn client<T: Send, E: Send + From<linux::Error>>(
        &self,
        work: impl FnOnce() -> Result<T, E> + Send,
    ) -> Result<T, E> {
        on_own_thread(|| {
            move_into_link_name_space(self.client.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|error| linux::Error::Refused {
                    what: "enter a network namespace",
                    source: error.into(),
                })?;
            work()
        })
    }

    pub(super) fn client_interface(&self) -> Result<Interface, linux::Error> {
        self.client(|| interfaces::by_name(CLIENT.name))
    }

    /// Sets a sysctl of the server's.
    pub(super) fn set(&self, name: &str, value: &str) -> Result<(), linux::Error> {
        Sysctls::default().write(name, value)
    }

    fn is_up(&self) -> Result<bool, linux::Error> {
        let up = |name| Ok(interfaces::by_name(name)?.state == OperState::Up);
        Ok(up(SERVER.name)? && self.client(|| up(CLIENT.name))?)
    }

    /// Adds the address of one family at both ends, and the neighbour entry of the other end.
    fn equip(&self, family: Family) -> Result<(), linux::Error> {
        let (server, client) = (address(family, 1), address(family, 2));
        let length = if family == Family::Ipv4 { 24 } else { 64 };
        let index = self.interface.index;
        veth::add_address(index, server, length)?;
        veth::add_neighbour(index, client, CLIENT.mac)?;
        self.client(|| {
            let index = interfaces::by_name(CLIENT.name)?.index;
            veth::add_address(index, client, length)?;
            veth::add_neighbour(index, server, SERVER.mac)
        })
    }
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|panic| resume_unwind(panic)))
}

/// Moves this thread into a new network namespace.
fn new_network() -> io::Result<OwnedFd> {
    // SAFETY: only this thread changes its namespace, and it was made for a probe.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// Gives this thread a BPF file system that no other thread sees, and that ends with it.
fn own_bpffs() -> io::Result<()> {
    // SAFETY: as above; of the file system context the thread relies on nothing.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount("bpf", BPFFS, "bpf", MountFlags::empty(), None::<&std::ffi::CStr>)?;
    Ok(())
}
