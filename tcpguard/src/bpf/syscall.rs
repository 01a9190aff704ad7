//! The `bpf` system call, where aya has no interface for it: typed access by any key and value layout,
//! whole-map reads in batches, and the attachment point of a link.
#![expect(unsafe_code, reason = "bpf(2) has no safe form in any crate that is used here")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya_obj::generated::{
    BPF_F_BEFORE, BPF_F_XDP_HAS_FRAGS, BPF_PSEUDO_CALL, BPF_PSEUDO_MAP_FD, XDP_FLAGS_DRV_MODE,
    bpf_attach_type, bpf_attr, bpf_cmd, bpf_func_id, bpf_insn, bpf_link_info, bpf_map_type,
    bpf_prog_type,
};

/// An errno of the kernel that is not meant for programs (include/linux/errno.h).
pub(super) const ENOTSUPP: i32 = 524;

/// The kernel's answer, which is 0 or a descriptor.
fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is a whole, initialised attribute; every pointer in it was made from a slice
    // or reference that its caller holds for the duration of the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_long, attr, size_of::<bpf_attr>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A command that returns a descriptor.
fn new_fd(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the kernel has just given this descriptor to this call.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn zeroed() -> bpf_attr {
    // SAFETY: a union of plain integers and structs of them; all-zero is a valid value of each.
    unsafe { std::mem::zeroed() }
}

fn element(map: BorrowedFd<'_>, key: &[u8], value: *mut u8, flags: u64) -> bpf_attr {
    let mut attr = zeroed();
    // SAFETY: the fields of this command's variant, over zeroed memory.
    unsafe {
        let fields = &mut attr.__bindgen_anon_2;
        fields.map_fd = map.as_raw_fd() as u32;
        fields.key = key.as_ptr() as u64;
        fields.__bindgen_anon_1.value = value as u64;
        fields.flags = flags;
    }
    attr
}

/// Reads one element into `value`, which must have the map's value size (per-CPU: of all CPUs).
/// `false` when there is none.
pub(super) fn lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    found(bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut element(map, key, value.as_mut_ptr(), 0)))
}

/// Creates or overwrites one element.
pub(super) fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut element(map, key, value.as_ptr().cast_mut(), 0))
        .map(drop)
}

/// Removes one element; `false` when there is none.
pub(super) fn delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<bool> {
    found(bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut element(map, key, std::ptr::null_mut(), 0)))
}

/// The key after `key` (the first one for `None`) into `next`; `false` at the end.
pub(super) fn next_key(
    map: BorrowedFd<'_>,
    key: Option<&[u8]>,
    next: &mut [u8],
) -> io::Result<bool> {
    let mut attr = element(map, key.unwrap_or_default(), next.as_mut_ptr(), 0);
    if key.is_none() {
        attr.__bindgen_anon_2.key = 0;
    }
    found(bpf(bpf_cmd::BPF_MAP_GET_NEXT_KEY, &mut attr))
}

fn found<T>(result: io::Result<T>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads up to `count` elements of a hash map or an array from `position` on into the buffers. Returns how
/// many there were and whether more follow; `position` is advanced.
pub(super) fn lookup_batch(
    map: BorrowedFd<'_>,
    position: &mut Option<u32>,
    keys: &mut [u8],
    values: &mut [u8],
    count: u32,
) -> io::Result<(u32, bool)> {
    let start = position.unwrap_or(0);
    let mut end = 0u32;
    let mut attr = zeroed();
    // SAFETY: the fields of this command's variant, over zeroed memory; `start` and `end` live
    // until the call returns.
    let fields = unsafe { &mut attr.batch };
    fields.in_batch = if position.is_some() { &raw const start as u64 } else { 0 };
    fields.out_batch = &raw mut end as u64;
    fields.keys = keys.as_mut_ptr() as u64;
    fields.values = values.as_mut_ptr() as u64;
    fields.count = count;
    fields.map_fd = map.as_raw_fd() as u32;
    let more = found(bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr))?;
    *position = Some(end);
    // SAFETY: the kernel wrote the count into the variant that was passed.
    Ok((unsafe { attr.batch.count }, more))
}

/// The kernel's report about a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LinkState {
    pub id: u32,
    /// Kernel id of the program behind it.
    pub program: u32,
    /// Index of the interface that it hangs on, in that one's own namespace; 0 when the interface
    /// has gone or the link was detached. For XDP and TCX links only.
    pub ifindex: u32,
}

/// Asks for the program of a link, and for its attachment point.
pub(super) fn link_state(link: BorrowedFd<'_>) -> io::Result<LinkState> {
    // SAFETY: plain integers; all-zero is valid.
    let mut info: bpf_link_info = unsafe { std::mem::zeroed() };
    let mut attr = zeroed();
    // SAFETY: the fields of this command's variant, over zeroed memory; `info` outlives the call.
    let fields = unsafe { &mut attr.info };
    fields.bpf_fd = link.as_raw_fd() as u32;
    fields.info_len = size_of::<bpf_link_info>() as u32;
    fields.info = &raw mut info as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    // SAFETY: XDP and TCX variants both start with the interface index.
    let ifindex = unsafe { info.__bindgen_anon_1.xdp.ifindex };
    Ok(LinkState { id: info.id, program: info.prog_id, ifindex })
}

/// Hangs a program first at a TCX hook of the interface with this index, before all others. aya does
/// it by name, which may be another interface's by then.
pub(super) fn link_tcx(
    program: BorrowedFd<'_>,
    ifindex: u32,
    hook: bpf_attach_type,
) -> io::Result<OwnedFd> {
    link(program, ifindex, hook, BPF_F_BEFORE)
}

fn link(
    program: BorrowedFd<'_>,
    ifindex: u32,
    hook: bpf_attach_type,
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    // SAFETY: the fields of this command's variant, over zeroed memory.
    let fields = unsafe { &mut attr.link_create };
    fields.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    fields.__bindgen_anon_2.target_ifindex = ifindex;
    fields.attach_type = hook as u32;
    fields.flags = flags;
    new_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

/// Kernel ids of the programs at a TCX hook of the interface with this index, in the order in which they
/// run.
pub(super) fn tcx_programs(ifindex: u32, hook: bpf_attach_type) -> io::Result<Vec<u32>> {
    // The kernel has room for 64 in a chain (BPF_MPROG_MAX).
    let mut ids = [0u32; 64];
    let mut attr = zeroed();
    // SAFETY: the fields of this command's variant, over zeroed memory; `ids` outlives the call.
    let fields = unsafe { &mut attr.query };
    fields.__bindgen_anon_1.target_ifindex = ifindex;
    fields.attach_type = hook as u32;
    fields.prog_ids = ids.as_mut_ptr() as u64;
    fields.__bindgen_anon_2.count = ids.len() as u32;
    bpf(bpf_cmd::BPF_PROG_QUERY, &mut attr)?;
    // SAFETY: the kernel wrote the count into the variant that was passed.
    let count = unsafe { attr.query.__bindgen_anon_2.count } as usize;
    Ok(ids[..count.min(ids.len())].to_vec())
}

/// Loads a classifier that has no verdict about any packet: programs after it go on.
pub(super) fn load_idle() -> io::Result<OwnedFd> {
    // `r0 = TC_ACT_UNSPEC; exit` (RFC 9669 section 4).
    let code = [instruction(0xb7, 0, 0, 0, -1), exit()];
    load(bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS, 0, &code)
}

/// Loads an XDP program that takes frames in several buffers, and asks for their length.
pub(super) fn try_multi_buffer() -> io::Result<OwnedFd> {
    let helper = bpf_func_id::BPF_FUNC_xdp_get_buff_len as i32;
    let code = [instruction(0x85, 0, 0, 0, helper), instruction(0xb7, 0, 0, 0, 2), exit()];
    load(bpf_prog_type::BPF_PROG_TYPE_XDP, BPF_F_XDP_HAS_FRAGS, &code)
}

/// Loads a program that compares and exchanges in one step.
pub(super) fn try_compare_exchange() -> io::Result<OwnedFd> {
    // `r0 = 0; r1 = 0; *(u64 *)(r10 - 8) = r0; r0 = cmpxchg_64(r10 - 8, r0, r1); exit`
    let code = [
        instruction(0xb7, 0, 0, 0, 0),
        instruction(0xb7, 1, 0, 0, 0),
        instruction(0x7b, 10, 0, -8, 0),
        instruction(0xdb, 10, 1, -8, 0xf1),
        exit(),
    ];
    load(bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS, 0, &code)
}

/// Reads a batch of an array with a value for each of `cpus` possible CPUs.
pub(super) fn try_per_cpu_batch(cpus: usize) -> io::Result<()> {
    const VALUE: u32 = 8;
    let map = array_of_one(bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY, VALUE)?;
    let (mut key, mut values) = ([0; 4], vec![0; VALUE as usize * cpus]);
    lookup_batch(map.as_fd(), &mut None, &mut key, &mut values, 1).map(drop)
}

/// Loads a program that makes a tail call, and calls a function of its own.
pub(super) fn try_tail_call() -> io::Result<OwnedFd> {
    let programs = array_of_one(bpf_map_type::BPF_MAP_TYPE_PROG_ARRAY, 4)?;
    // `r6 = r1; call function; r1 = r6; r2 = programs; r3 = 0; call bpf_tail_call; r0 = 2; exit; function: r0 = 0; exit`
    let code = [
        instruction(0xbf, 6, 1, 0, 0),
        instruction(0x85, 0, BPF_PSEUDO_CALL as u8, 0, 7),
        instruction(0xbf, 1, 6, 0, 0),
        instruction(0x18, 2, BPF_PSEUDO_MAP_FD as u8, 0, programs.as_raw_fd()),
        instruction(0, 0, 0, 0, 0),
        instruction(0xb7, 3, 0, 0, 0),
        instruction(0x85, 0, 0, 0, bpf_func_id::BPF_FUNC_tail_call as i32),
        instruction(0xb7, 0, 0, 0, 2),
        exit(),
        instruction(0xb7, 0, 0, 0, 0),
        exit(),
    ];
    load(bpf_prog_type::BPF_PROG_TYPE_XDP, 0, &code)
}

/// Attaches an XDP program that lets all packets pass to the driver of an interface, until the link is dropped.
pub(super) fn try_native_link(ifindex: u32) -> io::Result<OwnedFd> {
    let code = [instruction(0xb7, 0, 0, 0, 2), exit()];
    let program = load(bpf_prog_type::BPF_PROG_TYPE_XDP, 0, &code)?;
    link(program.as_fd(), ifindex, bpf_attach_type::BPF_XDP, XDP_FLAGS_DRV_MODE)
}

/// Makes an array of one element with values of so many bytes.
fn array_of_one(kind: bpf_map_type, value_size: u32) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    attr.__bindgen_anon_1.map_type = kind as u32;
    attr.__bindgen_anon_1.key_size = 4;
    attr.__bindgen_anon_1.value_size = value_size;
    attr.__bindgen_anon_1.max_entries = 1;
    new_fd(bpf_cmd::BPF_MAP_CREATE, &mut attr)
}

fn exit() -> bpf_insn {
    instruction(0x95, 0, 0, 0, 0)
}

fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> bpf_insn {
    bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(to, from),
        off: offset,
        imm: immediate,
    }
}

fn load(kind: bpf_prog_type, flags: u32, code: &[bpf_insn]) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    // SAFETY: the fields of this command's variant, over zeroed memory; `code` and the licence outlive
    // the call.
    let fields = unsafe { &mut attr.__bindgen_anon_3 };
    fields.prog_type = kind as u32;
    fields.prog_flags = flags;
    fields.insn_cnt = code.len() as u32;
    fields.insns = code.as_ptr() as u64;
    fields.license = c"Dual MIT/GPL".as_ptr() as u64;
    new_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr)
}

/// Pins a link or a program at `path`.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = zeroed();
    // SAFETY: the fields of this command's variant, over zeroed memory; `path` outlives the call.
    let fields = unsafe { &mut attr.__bindgen_anon_4 };
    fields.pathname = path.as_ptr() as u64;
    fields.bpf_fd = object.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Opens the object that is pinned at `path`.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    // `path` outlives the call.
    new_fd(bpf_cmd::BPF_OBJ_GET, &mut attr)
}

/// Detaches a link, regardless of its other holders. A link that is already detached stays so.
pub(super) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed();
    attr.link_detach.link_fd = link.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr).map(drop)
}

/// Replaces the program behind a link atomically: no packet passes in between.
pub(super) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed();
    // SAFETY: the fields of this command's variant, over zeroed memory.
    let fields = unsafe { &mut attr.link_update };
    fields.link_fd = link.as_raw_fd() as u32;
    fields.__bindgen_anon_1.new_prog_fd = program.as_raw_fd() as u32;
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(drop)
}
