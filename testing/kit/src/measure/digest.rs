//! Digest of the programs that a BPF object holds: two builds with the same instructions have the same digest,
//! whatever their debug information says.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use aya_obj::Object;

/// FNV-1a with 64 bits (Fowler, Noll, Vo; draft-eastlake-fnv). It distinguishes builds and withstands no
/// attacker.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The digest of the instructions in the object at `path`, as hexadecimal digits.
///
/// # Errors
/// When there is no BPF object.
pub fn of(path: &Path) -> Result<String> {
    let file = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let object = Object::parse(&file)
        .with_context(|| format!("{} is no BPF object that aya reads", path.display()))?;
    let bytes =
        object.functions.values().flat_map(|function| &function.instructions).flat_map(|it| {
            let [low, high] = it.off.to_le_bytes();
            let [a, b, c, d] = it.imm.to_le_bytes();
            [it.code, it.dst_reg() << 4 | it.src_reg(), low, high, a, b, c, d]
        });
    let hash = bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    Ok(format!("{hash:016x}"))
}
