//! Memory of all BPF maps: as the kernel accounts for it here, and as it would be on other machines.
//!
//! Linux 6.18 counts (`array_map_mem_usage` in kernel/bpf/arraymap.c, `htab_map_mem_usage` in
//! kernel/bpf/hashtab.c) for each possible CPU: of a per-CPU array and a per-CPU hash, every value,
//! rounded up to 8 bytes; of a hash made in full beforehand, one element to spare and a pointer to it.
//! All else is the same on every machine.

use anyhow::{Result, ensure};
use serde::Serialize;
use tcpguard_kit::measure::peak::{MapMemory, maps};

// include/uapi/linux/bpf.h
const HASH: u64 = 1;
const PERCPU_HASH: u64 = 5;
const PERCPU_ARRAY: u64 = 6;
const LRU_PERCPU_HASH: u64 = 10;
const BPF_F_NO_PREALLOC: u64 = 1;

/// `struct htab_elem` before its key, in bytes.
const ELEMENT: u64 = 48;

/// The maps of an agent.
#[derive(Clone, Debug, Serialize)]
pub struct Maps {
    pub count: usize,
    /// CPUs that this machine may have.
    pub cpus: u64,
    /// All of them here, in bytes.
    pub here: u64,
    /// Of these, the part that each CPU adds, in bytes.
    pub per_cpu: u64,
}

impl Maps {
    /// # Errors
    /// When there is no such process, or it holds no map.
    pub fn of(pid: u32) -> Result<Self> {
        let maps = maps(pid)?;
        ensure!(!maps.is_empty(), "process {pid} holds no map");
        Ok(Self {
            count: maps.len(),
            cpus: aya::util::nr_cpus()
                .map_err(|(path, error)| anyhow::anyhow!("cannot read {path}: {error}"))?
                as u64,
            here: maps.values().map(|map| map.memlock).sum(),
            per_cpu: maps.values().map(per_cpu).sum(),
        })
    }

    /// All of them on a machine that may have `cpus` CPUs, in bytes.
    pub const fn on(&self, cpus: u64) -> u64 {
        (self.here + cpus * self.per_cpu).saturating_sub(self.cpus * self.per_cpu)
    }
}

/// Bytes that each CPU adds to a map.
fn per_cpu(map: &MapMemory) -> u64 {
    let value = map.value_size.next_multiple_of(8);
    match map.kind {
        PERCPU_ARRAY | PERCPU_HASH | LRU_PERCPU_HASH => map.max_entries * value,
        HASH if map.flags & BPF_F_NO_PREALLOC == 0 => {
            ELEMENT + map.key_size.next_multiple_of(8) + value + size_of::<u64>() as u64
        }
        _ => 0,
    }
}
