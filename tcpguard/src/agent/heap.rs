//! Memory that is taken for a moment is given back to the host.
#![expect(unsafe_code, reason = "mallopt(3) and malloc_trim(3) have no safe form in any crate")]

/// A piece this large, in bytes, is returned as soon as it is freed. What a poll of a flood reads is
/// larger, what every poll reads smaller: to map memory anew costs a microsecond for each 4 KiB.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 1 << 20;

/// Returns what is free, for good.
///
/// A start reads the kernel's types and unpacks the objects, which leaves some 7 MiB of free memory
/// behind, and a look at the flows of a flood about as much. And glibc takes the largest piece that was ever freed for usual, up to 32 MiB, and keeps as
/// much from then on; no other C library does.
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
