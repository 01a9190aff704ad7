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

#[cfg(test)]
mod tests {
    use tcpguard_common::abi::{RuleHits, maps as abi};

    use super::*;

    fn map(kind: u64, value_size: u64, max_entries: u64) -> MapMemory {
        MapMemory { kind, key_size: 4, value_size, max_entries, flags: 0, memlock: 0 }
    }

    #[test]
    fn a_cpu_adds_its_values_to_per_cpu_maps() {
        assert_eq!(per_cpu(&map(PERCPU_ARRAY, 12, 10)), 160);
        assert_eq!(per_cpu(&map(LRU_PERCPU_HASH, 8, 10)), 80);
        // The hits of all rules are the largest part that a CPU adds: 512 KiB.
        let hits = size_of::<RuleHits>() as u64;
        let rules = u64::from(abi::rule_slots(abi::RULES));
        assert_eq!(per_cpu(&map(PERCPU_ARRAY, hits, rules)), hits * rules);
    }

    #[test]
    fn a_cpu_adds_an_element_to_a_hash_made_beforehand_and_nothing_to_others() {
        let hash = map(HASH, 4, 1000);
        assert_eq!(per_cpu(&hash), 48 + 8 + 8 + 8);
        assert_eq!(per_cpu(&MapMemory { flags: BPF_F_NO_PREALLOC, ..hash }), 0);
        // Array, LRU hash, LPM trie.
        for kind in [2, 9, 11] {
            assert_eq!(per_cpu(&map(kind, 64, 1000)), 0, "type {kind}");
        }
    }

    #[test]
    fn other_machines_differ_by_their_cpus_only() {
        let maps = Maps { count: 2, cpus: 2, here: 1000, per_cpu: 100 };
        assert_eq!((maps.on(1), maps.on(2), maps.on(16)), (900, 1000, 2400));
    }
}
