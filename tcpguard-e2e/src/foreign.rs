//! Somebody else's XDP program, to see what the guard does when an interface is taken.

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

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
const BPF_MAP_CREATE: u32 = 0;
const BPF_MAP_UPDATE_ELEM: u32 = 2;
const BPF_PROG_LOAD: u32 = 5;
const BPF_PROG_TEST_RUN: u32 = 10;
const BPF_LINK_CREATE: u32 = 28;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_MAP_TYPE_PROG_ARRAY: u32 = 3;
const BPF_FUNC_TAIL_CALL: i32 = 12;
const BPF_FUNC_XDP_ADJUST_TAIL: i32 = 65;
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
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
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

#[repr(C)]
#[derive(Default)]
struct MapElement {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
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

/// A program of our own making without an interface, to be timed.
#[derive(Debug)]
pub struct BareProgram {
    program: OwnedFd,
    /// What it may go on as: the kernel empties such an array when nobody holds it open.
    _next: Option<OwnedFd>,
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
    /// The same program: the least that a packet can cost at XDP.
    ///
    /// # Errors
    /// Without CAP_BPF and CAP_NET_ADMIN.
    pub fn load(verdict: Verdict) -> Result<Self> {
        let program = load(verdict).context("cannot load an XDP program")?;
        Ok(Self { program, _next: None })
    }

    /// Likewise at tc, where everything passes.
    ///
    /// # Errors
    /// As for [`Self::load`].
    pub fn classifier() -> Result<Self> {
        let program = load_program(BPF_PROG_TYPE_SCHED_CLS, 0, 0, &[mov(0, 0), EXIT])
            .context("cannot load a tc program")?;
        Ok(Self { program, _next: None })
    }

    /// Makes the packet `frame` again and then goes on as the XDP program `next`, or drops it: so that
    /// a program that rewrites packets, longer or shorter ones, can be repeated on one.
    ///
    /// # Errors
    /// As for [`Self::load`].
    pub fn restoring(frame: &[u8], next: Option<BorrowedFd<'_>>) -> Result<Self> {
        let array = next.map(program_array).transpose().context("cannot make a program array")?;
        let whole = frame.chunks_exact(8);
        let rest = whole.remainder();
        let length = i16::try_from(frame.len())?;
        let mut code = vec![
            // r6 = context, r4 = length of the packet
            insn(0xbf, 6, 1, 0, 0),
            insn(0x61, 2, 6, 0, 0),
            insn(0x61, 4, 6, 4, 0),
            insn(0x1f, 4, 2, 0, 0),
            mov(2, length.into()),
            insn(0x1f, 2, 4, 0, 0),
            insn(0x85, 0, 0, 0, BPF_FUNC_XDP_ADJUST_TAIL),
            // r2 = packet, r3 = its end
            insn(0x61, 2, 6, 0, 0),
            insn(0x61, 3, 6, 4, 0),
            insn(0xbf, 4, 2, 0, 0),
            insn(0x07, 4, 0, 0, length.into()),
        ];
        let mut stores: Vec<Instruction> = Vec::new();
        for (at, bytes) in (0..).step_by(8).zip(whole) {
            stores.extend(load_number(1, 0, u64::from_le_bytes(bytes.try_into()?)));
            stores.push(insn(0x7b, 2, 1, at, 0));
        }
        for (at, byte) in (length - rest.len() as i16..).zip(rest) {
            stores.push(insn(0x72, 2, 0, at, i32::from(*byte)));
        }
        if let Some(array) = &array {
            stores.push(insn(0xbf, 1, 6, 0, 0));
            // BPF_PSEUDO_MAP_FD
            stores.extend(load_number(2, 1, array.as_raw_fd() as u64));
            stores.push(mov(3, 0));
            stores.push(insn(0x85, 0, 0, 0, BPF_FUNC_TAIL_CALL));
        }
        // Too short a packet is dropped as it is.
        code.push(insn(0x2d, 4, 3, stores.len() as i16, 0));
        code.extend(stores);
        code.extend([mov(0, Verdict::Drop as i32), EXIT]);
        let program = load_program(BPF_PROG_TYPE_XDP, BPF_XDP, BPF_F_XDP_HAS_FRAGS, &code)
            .context("cannot load a program that restores a packet")?;
        Ok(Self { program, _next: array })
    }

    /// Runs it `repeat` times on `frame`; the mean time of a run in ns, as the kernel measures it,
    /// and what the last run returned.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn test_run(&self, frame: &[u8], repeat: u32) -> Result<(u32, u32)> {
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
        Ok((run.duration, run.retval))
    }
}

const EXIT: Instruction = insn(0x95, 0, 0, 0, 0);

/// One instruction (RFC 9669 §3.1).
const fn insn(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: src << 4 | dst, offset, immediate }
}

const fn mov(register: u8, value: i32) -> Instruction {
    insn(0xb7, register, 0, 0, value)
}

/// The two halves of `lddw`; `source` says what the number is.
const fn load_number(register: u8, source: u8, number: u64) -> [Instruction; 2] {
    [insn(0x18, register, source, 0, number as i32), insn(0, 0, 0, 0, (number >> 32) as i32)]
}

fn load(verdict: Verdict) -> io::Result<OwnedFd> {
    load_program(BPF_PROG_TYPE_XDP, 0, 0, &[mov(0, verdict as i32), EXIT])
}

fn load_program(
    kind: u32,
    expected_attach_type: u32,
    flags: u32,
    code: &[Instruction],
) -> io::Result<OwnedFd> {
    let attributes = ProgLoad {
        prog_type: kind,
        insn_cnt: code.len() as u32,
        insns: code.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        prog_flags: flags,
        expected_attach_type,
        ..ProgLoad::default()
    };
    bpf(BPF_PROG_LOAD, &attributes)
}

/// A program array with one program in it.
fn program_array(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let create =
        MapCreate { map_type: BPF_MAP_TYPE_PROG_ARRAY, key_size: 4, value_size: 4, max_entries: 1 };
    let array = bpf(BPF_MAP_CREATE, &create)?;
    let (key, value) = (0u32, program.as_raw_fd());
    let element = MapElement {
        map_fd: array.as_raw_fd() as u32,
        key: &raw const key as u64,
        value: &raw const value as u64,
        ..MapElement::default()
    };
    // SAFETY: pointer and length describe `element`; key and value live through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_MAP_UPDATE_ELEM,
            &raw const element,
            size_of::<MapElement>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(array) }
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
