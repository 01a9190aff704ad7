//! Small BPF programs written instruction by instruction, and the calls of `bpf(2)` that they take.
#![expect(unsafe_code, reason = "bpf(2) has no safe form in any crate that is used here")]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

// include/uapi/linux/bpf.h
const BPF_MAP_CREATE: u32 = 0;
const BPF_MAP_LOOKUP_ELEM: u32 = 1;
const BPF_MAP_UPDATE_ELEM: u32 = 2;
const BPF_PROG_LOAD: u32 = 5;
const BPF_PROG_TEST_RUN: u32 = 10;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_MAP_TYPE_PROG_ARRAY: u32 = 3;
const BPF_FUNC_TAIL_CALL: i32 = 12;
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
const BPF_XDP: u32 = 37;

/// Hook that a program belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hook {
    /// XDP, for frames in one piece.
    Xdp,
    /// XDP that can go on as a program for frames in many.
    XdpFrags,
    /// The traffic control of either direction.
    Tc,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instruction {
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
pub(crate) struct MapElement {
    pub(crate) map_fd: u32,
    pub(crate) pad: u32,
    pub(crate) key: u64,
    pub(crate) value: u64,
    pub(crate) flags: u64,
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
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
}

pub(crate) const EXIT: Instruction = insn(0x95, 0, 0, 0, 0);

/// Makes one instruction (RFC 9669 §3.1).
pub(crate) const fn insn(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: src << 4 | dst, offset, immediate }
}

/// `register = value`.
pub(crate) const fn mov(register: u8, value: i32) -> Instruction {
    insn(0xb7, register, 0, 0, value)
}

/// `to = from`.
pub(crate) const fn copy(to: u8, from: u8) -> Instruction {
    insn(0xbf, to, from, 0, 0)
}

/// `register += value`.
pub(crate) const fn add(register: u8, value: i32) -> Instruction {
    insn(0x07, register, 0, 0, value)
}

/// Calls a helper. Its arguments are r1 to r5, its result r0.
pub(crate) const fn helper(number: i32) -> Instruction {
    insn(0x85, 0, 0, 0, number)
}

/// Calls a function of the kernel's by the id of its type (`BPF_PSEUDO_KFUNC_CALL`).
pub(crate) const fn kfunc(id: i32) -> Instruction {
    insn(0x85, 0, 2, 0, id)
}

/// The two halves of `register = number`.
pub(crate) const fn load_number(register: u8, number: u64) -> [Instruction; 2] {
    wide(register, 0, number)
}

/// Goes on as the first program of `array`, with the context in `context`; goes on here if it cannot.
pub(crate) fn tail_call(context: u8, array: &OwnedFd) -> Vec<Instruction> {
    // BPF_PSEUDO_MAP_FD
    let [low, high] = wide(2, 1, array.as_raw_fd() as u64);
    vec![copy(1, context), low, high, mov(3, 0), helper(BPF_FUNC_TAIL_CALL)]
}

/// Adds 1 to the only word of `counter`, in one step for all CPUs.
pub(crate) fn count(counter: &OwnedFd) -> Vec<Instruction> {
    // BPF_PSEUDO_MAP_VALUE
    let [low, high] = wide(1, 2, counter.as_raw_fd() as u64);
    // BPF_STX | BPF_DW | BPF_ATOMIC, BPF_ADD
    vec![low, high, mov(2, 1), insn(0xdb, 1, 2, 0, 0)]
}

const fn wide(register: u8, source: u8, number: u64) -> [Instruction; 2] {
    [insn(0x18, register, source, 0, number as i32), insn(0, 0, 0, 0, (number >> 32) as i32)]
}

/// Loads `code` as a GPL-compatible program.
pub(crate) fn load_program(hook: Hook, code: &[Instruction]) -> io::Result<OwnedFd> {
    let (prog_type, expected_attach_type, prog_flags) = match hook {
        Hook::Xdp => (BPF_PROG_TYPE_XDP, BPF_XDP, 0),
        Hook::XdpFrags => (BPF_PROG_TYPE_XDP, BPF_XDP, BPF_F_XDP_HAS_FRAGS),
        Hook::Tc => (BPF_PROG_TYPE_SCHED_CLS, 0, 0),
    };
    let attributes = ProgLoad {
        prog_type,
        insn_cnt: code.len() as u32,
        insns: code.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        prog_flags,
        expected_attach_type,
        ..ProgLoad::default()
    };
    bpf(BPF_PROG_LOAD, &attributes)
}

/// An array with one word in it.
pub(crate) fn counter() -> io::Result<OwnedFd> {
    let create =
        MapCreate { map_type: BPF_MAP_TYPE_ARRAY, key_size: 4, value_size: 8, max_entries: 1 };
    bpf(BPF_MAP_CREATE, &create)
}

/// The word of a [`counter`].
pub(crate) fn counted(counter: &OwnedFd) -> io::Result<u64> {
    let (key, mut value) = (0u32, 0u64);
    let element = MapElement {
        map_fd: counter.as_raw_fd() as u32,
        key: &raw const key as u64,
        value: &raw mut value as u64,
        ..MapElement::default()
    };
    command(BPF_MAP_LOOKUP_ELEM, &element)?;
    Ok(value)
}

/// A program array with one program in it.
pub(crate) fn program_array(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
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
    command(BPF_MAP_UPDATE_ELEM, &element)?;
    Ok(array)
}

/// Result of test runs of a program.
pub(crate) struct Tested {
    /// Mean time of a run in ns, as the kernel measures it.
    pub(crate) time: u32,
    /// Return value of the last run.
    pub(crate) result: u32,
    /// Bytes of the packet in `out`.
    pub(crate) length: usize,
}

/// Runs `program` `repeat` times on `frame`. The packet as the last run left it goes to `out`, if that
/// is not empty.
pub(crate) fn test_run(
    program: &OwnedFd,
    frame: &[u8],
    repeat: u32,
    out: &mut [u8],
) -> io::Result<Tested> {
    let mut run = TestRun {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        data_size_out: out.len() as u32,
        data_out: if out.is_empty() { 0 } else { out.as_mut_ptr() as u64 },
        repeat,
        ..TestRun::default()
    };
    tested(&mut run)?;
    let length = out.len().min(run.data_size_out as usize);
    Ok(Tested { time: run.duration, result: run.retval, length })
}

/// Runs an XDP program once on `frame` in two pieces, the first of `first` bytes, and returns the program's
/// return value.
pub(crate) fn test_run_in_pieces(program: &OwnedFd, frame: &[u8], first: usize) -> io::Result<u32> {
    // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context = [0, first as u32, 0, 0, 0, 0];
    let mut run = TestRun {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        repeat: 1,
        ctx_size_in: size_of_val(&context) as u32,
        ctx_in: context.as_ptr() as u64,
        ..TestRun::default()
    };
    tested(&mut run)?;
    Ok(run.retval)
}

/// Carries out `run`. Its pointers must lead to memory that outlives the call and has the lengths given in
/// `run`.
fn tested(run: &mut TestRun) -> io::Result<()> {
    // SAFETY: pointer and length describe `run`, which the kernel fills in.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw mut *run, size_of::<TestRun>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A `bpf(2)` command that returns a descriptor. `attributes` is the beginning of the command's
/// part of `union bpf_attr`; the kernel takes the rest as zero.
pub(crate) fn bpf<T>(command: u32, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: pointer and length describe `attributes`; whatever it points to lives in the caller.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Carries out a `bpf(2)` command that returns no descriptor; `attributes` is as for [`bpf`].
pub(crate) fn command<T>(command: u32, attributes: &T) -> io::Result<()> {
    // SAFETY: pointer and length describe `attributes`; whatever it points to lives in the caller.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
