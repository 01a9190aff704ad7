//! Somebody else's XDP program, to see what the guard does when an interface is taken.

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};

use crate::netns::Netns;

/// What the program does with every packet; values of `enum xdp_action`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(i32)]
pub enum Verdict {
    /// Nobody gets in.
    Drop = 1,
    /// As if it were not there.
    Pass = 2,
}

/// A program with one verdict, attached to an interface until dropped.
#[derive(Debug)]
pub struct ForeignXdp {
    _link: OwnedFd,
}

// include/uapi/linux/bpf.h
const BPF_PROG_LOAD: u32 = 5;
const BPF_PROG_TEST_RUN: u32 = 10;
const BPF_LINK_CREATE: u32 = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
// include/uapi/linux/if_link.h
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
}

#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

impl ForeignXdp {
    /// Attaches it in native mode.
    ///
    /// # Errors
    /// Without CAP_BPF and CAP_NET_ADMIN, or when the interface is taken already.
    pub fn attach(host: &Netns, interface: &str, verdict: Verdict) -> Result<Self> {
        let interface = CString::new(interface)?;
        let link = host.run(|| {
            // SAFETY: the name is a C string that lives through the call.
            let index = unsafe { libc::if_nametoindex(interface.as_ptr()) };
            Ok(link(&load(verdict)?, index)?)
        });
        Ok(Self { _link: link.context("cannot attach a foreign XDP program")? })
    }
}

/// The same program without an interface: the least that a packet can cost.
#[derive(Debug)]
pub struct BareProgram {
    program: OwnedFd,
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

impl BareProgram {
    /// Loads it.
    ///
    /// # Errors
    /// Without CAP_BPF and CAP_NET_ADMIN.
    pub fn load(verdict: Verdict) -> Result<Self> {
        let program = load(verdict).context("cannot load an XDP program")?;
        Ok(Self { program })
    }

    /// Runs it `repeat` times on `frame`; the mean time of a run in ns, as the kernel measures it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn test_run(&self, frame: &[u8], repeat: u32) -> Result<u32> {
        let mut run = TestRun {
            prog_fd: self.program.as_raw_fd() as u32,
            data_size_in: frame.len() as u32,
            data_in: frame.as_ptr() as u64,
            repeat,
            ..TestRun::default()
        };
        // SAFETY: pointer and length describe `run`, which the kernel fills in; `frame` lives
        // through the call.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw mut run, size_of::<TestRun>())
        };
        if result < 0 {
            return Err(io::Error::last_os_error()).context("a test run failed");
        }
        Ok(run.duration)
    }
}

fn load(verdict: Verdict) -> io::Result<OwnedFd> {
    // mov r0, verdict; exit
    let instructions = [
        Instruction { code: 0xb7, registers: 0, offset: 0, immediate: verdict as i32 },
        Instruction { code: 0x95, registers: 0, offset: 0, immediate: 0 },
    ];
    let attributes = ProgLoad {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
    };
    bpf(BPF_PROG_LOAD, &attributes)
}

fn link(program: &OwnedFd, index: u32) -> io::Result<OwnedFd> {
    let attributes = LinkCreate {
        prog_fd: program.as_raw_fd() as u32,
        target_ifindex: index,
        attach_type: BPF_XDP,
        flags: XDP_FLAGS_DRV_MODE,
    };
    bpf(BPF_LINK_CREATE, &attributes)
}

/// A `bpf(2)` command that returns a descriptor. `attributes` is the beginning of the command's
/// part of `union bpf_attr`; the kernel takes the rest as zero.
fn bpf<T>(command: u32, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: pointer and length describe `attributes`; whatever it points to lives in the caller.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
