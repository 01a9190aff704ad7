//! The capabilities of this thread (capabilities(7)). Sets are masks, a bit for each, with the numbers
//! of the kernel's `capability.h`.

/// `CAP_SYS_ADMIN`, which stands in for the two that were split from it in Linux 5.8.
pub const SYS_ADMIN: u64 = 1 << 21;
/// The capabilities that the agent needs: mask, whether [`SYS_ADMIN`] stands in for it, and name.
const WANTED: [(u64, bool, &str); 3] =
    [(1 << 12, false, "CAP_NET_ADMIN"), (1 << 38, true, "CAP_PERFMON"), (1 << 39, true, "CAP_BPF")];

/// The effective set of this thread; `None` where it cannot be read.
pub fn effective() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/thread-self/status").ok()?)
}

fn parse(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// The names of the capabilities that the agent needs to load and attach programs, and that the set lacks.
pub fn missing(effective: u64) -> Vec<&'static str> {
    let lacks = |(mask, split, _): &&(u64, bool, &str)| {
        effective & mask == 0 && !(*split && effective & SYS_ADMIN != 0)
    };
    WANTED.iter().filter(lacks).map(|(.., name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_capability_is_named_and_sys_admin_stands_in_for_two() {
        let bit = |bit: u32| 1u64 << bit;
        assert_eq!(missing(0), ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]);
        assert_eq!(missing(SYS_ADMIN), ["CAP_NET_ADMIN"]);
        assert_eq!(missing(bit(12) | bit(39)), ["CAP_PERFMON"]);
        assert!(missing(bit(12) | bit(38) | bit(39)).is_empty());
    }

    #[test]
    fn the_effective_set_is_distinguished_from_the_others() {
        let status = "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\n";
        assert_eq!(parse(status), Some(0x1ff_ffff_ffff));
        assert_eq!(parse("CapEff:\tnone\n"), None);
        assert!(effective().is_some());
    }
}
