//! XDP and tc programs of another process, to test the agent on an interface that is taken or shared.
#![expect(unsafe_code, reason = "if_nametoindex(3)")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};

use crate::net::bpf::{EXIT, Hook, bpf, command, count, counted, counter, insn, load_program, mov};
use crate::net::netns::Netns;

/// Verdict of the program on every packet. The values are those of `enum xdp_action`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(i32)]
pub enum Verdict {
    /// No packet gets in.
    Drop = 1,
    /// All packets pass, as if the program were not there.
    Pass = 2,
}

/// A program with one verdict, attached to an interface until dropped.
#[derive(Debug)]
pub struct ForeignXdp {
    _link: OwnedFd,
}

// include/uapi/linux/bpf.h
const BPF_OBJ_PIN: u32 = 6;
const BPF_LINK_CREATE: u32 = 28;
const BPF_XDP: u32 = 37;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;
// include/uapi/linux/if_link.h
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

#[repr(C)]
struct ObjPin {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

impl ForeignXdp {
    /// Attaches a program with this verdict in native mode.
    ///
    /// # Errors
    /// Without CAP_BPF and CAP_NET_ADMIN, or when the interface is taken already.
    pub fn attach(host: &Netns, interface: &str, verdict: Verdict) -> Result<Self> {
        let link = host
            .run(|| Ok(link(&load(verdict)?, index_of(interface)?, BPF_XDP, XDP_FLAGS_DRV_MODE)?));
        Ok(Self { _link: link.context("cannot attach a foreign XDP program")? })
    }
}

/// Position of a tc program in the chain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Place {
    /// Behind all that are there.
    Last = 0,
    /// Before all that are there: `BPF_F_BEFORE`.
    First = 8,
}

/// Programs at both TCX hooks of an interface that let every packet pass and end the chain, so that no
/// program after them sees a packet. They stay attached until this is dropped.
#[derive(Debug)]
pub struct ForeignTc {
    _links: [OwnedFd; 2],
}

impl ForeignTc {
    /// Attaches the programs to both hooks.
    ///
    /// # Errors
    /// Without CAP_BPF and CAP_NET_ADMIN, or on kernels without TCX.
    pub fn attach(host: &Netns, interface: &str, place: Place) -> Result<Self> {
        let links = host.run(|| {
            let index = index_of(interface)?;
            let attach = |hook| -> io::Result<OwnedFd> {
                // TC_ACT_OK
                let program = load_program(Hook::Tc, &[mov(0, 0), EXIT])?;
                link(&program, index, hook, place as u32)
            };
            Ok([attach(BPF_TCX_INGRESS)?, attach(BPF_TCX_EGRESS)?])
        });
        Ok(Self { _links: links.context("cannot attach foreign tc programs")? })
    }
}

/// Program at the TCX ingress hook of an interface, behind all others, that counts packets with XDP metadata. It stays
/// attached until this is dropped.
#[derive(Debug)]
pub struct MetadataCounter {
    counter: OwnedFd,
    _link: OwnedFd,
}

impl MetadataCounter {
    /// Attaches the program.
    ///
    /// # Errors
    /// As of [`ForeignTc::attach`].
    pub fn attach(host: &Netns, interface: &str) -> Result<Self> {
        let counter = counter().context("cannot make an array")?;
        let counting = count(&counter);
        // `data_meta` and `data` of `struct __sk_buff`, which are equal without metadata.
        let mut code = vec![insn(0x61, 2, 1, 140, 0), insn(0x61, 3, 1, 76, 0)];
        code.push(insn(0x1d, 2, 3, i16::try_from(counting.len())?, 0));
        code.extend(counting);
        // TCX_NEXT
        code.extend([mov(0, -1), EXIT]);
        let link = host.run(|| {
            let program = load_program(Hook::Tc, &code)?;
            Ok(link(&program, index_of(interface)?, BPF_TCX_INGRESS, Place::Last as u32)?)
        });
        Ok(Self { counter, _link: link.context("cannot attach a tc program that counts")? })
    }

    /// Number of packets with metadata since it was attached.
    pub fn packets(&self) -> Result<u64> {
        Ok(counted(&self.counter)?)
    }
}

/// Attaches a program as was done before there were links: by netlink, so that any process can remove it, and natively
/// where the driver can.
///
/// # Errors
/// When the interface is taken already.
pub fn attach_by_netlink(host: &Netns, interface: &str, verdict: Verdict) -> Result<()> {
    const PIN: &str = "/sys/fs/bpf/by-netlink";
    host.run(|| pin(&load(verdict)?, PIN))?;
    let attached = host.exec(&format!("ip link set dev {interface} xdp pinned {PIN}"));
    host.exec(&format!("rm {PIN}"))?;
    attached.map(drop)
}

/// Attaches a program that passes every outgoing packet, as was done before there was TCX: at the
/// clsact qdisc, from which any process may remove it.
pub fn attach_at_clsact(host: &Netns, interface: &str) -> Result<()> {
    const PIN: &str = "/sys/fs/bpf/at-clsact";
    // TC_ACT_OK
    host.run(|| pin(&load_program(Hook::Tc, &[mov(0, 0), EXIT])?, PIN))?;
    let attached = host.exec(&format!("tc qdisc replace dev {interface} clsact")).and_then(|_| {
        host.exec(&format!(
            "tc filter replace dev {interface} egress pref 1 handle 1 bpf direct-action \
             object-pinned {PIN}"
        ))
    });
    host.exec(&format!("rm {PIN}"))?;
    attached.map(drop)
}

pub(crate) fn pin(program: &OwnedFd, path: &str) -> Result<()> {
    let path = CString::new(path)?;
    let attributes = ObjPin {
        pathname: path.as_ptr() as u64,
        bpf_fd: program.as_raw_fd() as u32,
        file_flags: 0,
    };
    Ok(command(BPF_OBJ_PIN, &attributes)?)
}

/// A program that does nothing but return `verdict`.
fn load(verdict: Verdict) -> io::Result<OwnedFd> {
    load_program(Hook::Xdp, &[mov(0, verdict as i32), EXIT])
}

/// Index of an interface of the caller's network namespace.
fn index_of(interface: &str) -> Result<u32> {
    let interface = CString::new(interface)?;
    // SAFETY: the name is a C string that lives through the call.
    Ok(unsafe { libc::if_nametoindex(interface.as_ptr()) })
}

fn link(program: &OwnedFd, index: u32, attach_type: u32, flags: u32) -> io::Result<OwnedFd> {
    let attributes = LinkCreate {
        prog_fd: program.as_raw_fd() as u32,
        target_ifindex: index,
        attach_type,
        flags,
    };
    bpf(BPF_LINK_CREATE, &attributes)
}
