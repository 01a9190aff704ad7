//! The heap: memory that is taken for a moment is given back to the host, and memory in use is counted.
#![expect(
    unsafe_code,
    reason = "mallopt(3), malloc_trim(3) and mallinfo(3) have no safe form in any crate"
)]

/// A piece this large, in bytes, is mapped by itself and returned as soon as it is freed. Whatever grows
/// with the traffic is larger; to map memory anew costs a microsecond for each 4 KiB.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 32 << 10;

/// Returns free memory, and keeps large pieces out of the heap from now on. To be called before there are any, and
/// after much was freed.
///
/// glibc raises its threshold for separate mappings to the largest piece that was ever freed, up to 32 MiB. From then
/// on such pieces lie in the heap, with longer-lived ones between them, and the heap stays as large as all of them
/// together. No other C library does so.
#[cfg(target_env = "gnu")]
pub(super) fn give_back() {
    // SAFETY: neither call touches memory that is in use.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::malloc_trim(0);
    }
}

#[cfg(not(target_env = "gnu"))]
pub(super) fn give_back() {}

/// Bytes in use, by the allocator's own count. `None` where it keeps none. Resident memory is larger, because there are
/// free pieces between those in use.
#[cfg(target_env = "gnu")]
pub(super) fn in_use() -> Option<u64> {
    // SAFETY: only counts. (`mallinfo2` would hold more than 4 GiB, and is not in every glibc.)
    let counts = unsafe { libc::mallinfo() };
    let bytes = |count: libc::c_int| u64::from(count as u32);
    Some(bytes(counts.uordblks) + bytes(counts.hblkhd))
}

#[cfg(not(target_env = "gnu"))]
pub(super) const fn in_use() -> Option<u64> {
    None
}
