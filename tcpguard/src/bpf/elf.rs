//! Instructions in an ELF object of BPF.

use std::ops::Range;

use super::KernelError;

// ELF-64, little-endian (System V ABI, chapter 4), which BPF objects of x86-64 and aarch64 are.
const ELF_MAGIC: &[u8] = b"\x7fELF\x02\x01";
const SECTION_TABLE_AT: usize = 0x28;
const SECTION_ENTRY_LEN_AT: usize = 0x3a;
const SECTIONS_AT: usize = 0x3c;
// Within an entry of the section table.
const FLAGS_AT: usize = 8;
const OFFSET_AT: usize = 24;
const SIZE_AT: usize = 32;
/// The ELF flag `SHF_EXECINSTR`.
const EXECUTABLE: u64 = 4;

/// Bytes of an instruction: code, registers, offset, immediate (RFC 9669 §3.1).
pub(super) const INSTRUCTION: usize = 8;

/// Returns the ranges of `object` that hold instructions.
///
/// # Errors
/// [`KernelError::Mismatch`] when it is no such object.
pub(super) fn code(object: &[u8]) -> Result<Vec<Range<usize>>, KernelError> {
    let broken = || KernelError::Mismatch("it is no ELF object of BPF".to_owned());
    if !object.starts_with(ELF_MAGIC) {
        return Err(broken());
    }
    let table = number::<8>(object, SECTION_TABLE_AT).ok_or_else(broken)?;
    let entry = number::<2>(object, SECTION_ENTRY_LEN_AT).ok_or_else(broken)?;
    let sections = number::<2>(object, SECTIONS_AT).ok_or_else(broken)?;
    let mut code = Vec::new();
    for section in 0..sections {
        let at = table.checked_add(section * entry).ok_or_else(broken)?;
        let at = usize::try_from(at).map_err(|_| broken())?;
        let header = object.get(at..).ok_or_else(broken)?;
        if number::<8>(header, FLAGS_AT).ok_or_else(broken)? & EXECUTABLE == 0 {
            continue;
        }
        let start = number::<8>(header, OFFSET_AT).ok_or_else(broken)?;
        let size = number::<8>(header, SIZE_AT).ok_or_else(broken)?;
        let end = start.checked_add(size).filter(|end| *end <= object.len() as u64);
        code.push(start as usize..end.ok_or_else(broken)? as usize);
    }
    Ok(code)
}

/// The little-endian number of `N` bytes at `at`.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes: &[u8] = bytes.get(at..at.checked_add(N)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}
