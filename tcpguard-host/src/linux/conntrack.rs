//! The table in which netfilter tracks connections.

use super::{Error, Sysctls};

/// Fill level of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Conntrack {
    /// Connections tracked in this network namespace.
    pub count: u64,
    /// Most connections that there may be (`net.netfilter.nf_conntrack_max`); above, packets of new
    /// connections are dropped.
    pub max: u64,
}

impl Conntrack {
    /// Returns the share in use; `None` where no limit is set, which is 0.
    pub fn ratio(self) -> Option<f64> {
        (self.max > 0).then(|| self.count as f64 / self.max as f64)
    }
}

/// Returns the fill level; `None` where netfilter tracks no connections (its module is not loaded).
pub fn conntrack(sysctls: &Sysctls) -> Result<Option<Conntrack>, Error> {
    let count = sysctls.read_number("net.netfilter.nf_conntrack_count")?;
    let max = sysctls.read_number("net.netfilter.nf_conntrack_max")?;
    Ok(count.zip(max).map(|(count, max)| Conntrack { count, max }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_numbers_are_needed() {
        let root = tempfile::tempdir().expect("a directory");
        let sysctls = Sysctls::below(root.path());
        assert_eq!(conntrack(&sysctls).expect("readable"), None);
        let netfilter = root.path().join("net/netfilter");
        std::fs::create_dir_all(&netfilter).expect("a directory");
        std::fs::write(netfilter.join("nf_conntrack_count"), "65536\n").expect("a file");
        assert_eq!(conntrack(&sysctls).expect("readable"), None);
        std::fs::write(netfilter.join("nf_conntrack_max"), "262144\n").expect("a file");
        let found = conntrack(&sysctls).expect("readable").expect("both are there");
        assert_eq!((found, found.ratio()), (Conntrack { count: 65_536, max: 262_144 }, Some(0.25)));
    }

    #[test]
    fn without_a_limit_there_is_no_share() {
        assert_eq!(Conntrack { count: 7, max: 0 }.ratio(), None);
    }
}
