//! Addresses that no automatic rule may touch: protected ones, which the host needs, and those that
//! an operator allowed for a while.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::report::AllowReport;
use crate::input::{FleetName, Timestamp};
use crate::settings::Limits;

/// The protected prefixes with their descriptions, and the allowlist.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exempt {
    protected: Vec<(IpNet, String)>,
    allowed: BTreeMap<IpNet, AllowReport>,
}

impl Exempt {
    /// Replaces the protected prefixes. Returns those that were not protected before.
    pub fn protect(&mut self, prefixes: Vec<(IpNet, String)>) -> Vec<IpNet> {
        let before: BTreeSet<IpNet> = self.protected.iter().map(|(net, _)| *net).collect();
        self.protected = prefixes;
        let nets = self.protected.iter().map(|(net, _)| *net);
        nets.filter(|net| !before.contains(net)).collect()
    }

    /// Adds an entry to the allowlist, or replaces the one with the same prefix. `false` when the
    /// list is full.
    pub fn allow(&mut self, entry: AllowReport) -> bool {
        let full = self.allowed.len() >= Limits::ALLOWED as usize;
        if full && !self.allowed.contains_key(&entry.net) {
            return false;
        }
        self.allowed.insert(entry.net, entry);
        true
    }

    /// Removes the entries within `net`.
    pub fn disallow(&mut self, net: &IpNet) -> Vec<AllowReport> {
        self.extract(|entry| net.contains(&entry.net))
    }

    /// Removes the entry that a rule of the fleet made.
    pub fn revoke(&mut self, name: &FleetName) -> Vec<AllowReport> {
        self.extract(|entry| entry.fleet.as_ref() == Some(name))
    }

    /// Removes the entries of the fleet that have an address in common with `net`.
    pub fn yield_to(&mut self, net: &IpNet) -> Vec<AllowReport> {
        self.extract(|entry| entry.fleet.is_some() && touch(&entry.net, net))
    }

    /// Removes the entries that have expired.
    pub fn expire(&mut self, now: Timestamp) -> Vec<AllowReport> {
        self.extract(|entry| entry.expires <= now)
    }

    fn extract(&mut self, which: impl Fn(&AllowReport) -> bool) -> Vec<AllowReport> {
        let nets: Vec<IpNet> =
            self.allowed.values().filter(|entry| which(entry)).map(|entry| entry.net).collect();
        nets.iter().filter_map(|net| self.allowed.remove(net)).collect()
    }

    /// The allowlist.
    pub fn allowed(&self) -> impl Iterator<Item = &AllowReport> {
        self.allowed.values()
    }

    /// The entry of the allowlist for exactly this prefix.
    pub fn allowed_at(&self, net: &IpNet) -> Option<&AllowReport> {
        self.allowed.get(net)
    }

    /// Returns whether `net` has an address in common with a protected prefix.
    pub fn is_protected(&self, net: &IpNet) -> bool {
        self.protected.iter().any(|(prefix, _)| touch(prefix, net))
    }

    /// The first protected or allowed prefix that `net` has an address in common with, and why no
    /// automatic rule may touch it. Prefixes have one only if one contains the other.
    pub fn touched_by(&self, net: &IpNet) -> Option<(IpNet, String)> {
        self.find(|prefix| touch(prefix, net), |_| true)
    }

    /// The first protected or allowed prefix that contains `net`.
    pub fn covering(&self, net: &IpNet) -> Option<(IpNet, String)> {
        self.find(|prefix| prefix.contains(net), |_| true)
    }

    /// The same for a rule of an operator of this host, to whom exemptions by the fleet give way.
    pub fn touched_by_own(&self, net: &IpNet) -> Option<(IpNet, String)> {
        self.find(|prefix| touch(prefix, net), |entry| entry.fleet.is_none())
    }

    fn find(
        &self,
        is_it: impl Fn(&IpNet) -> bool,
        counts: fn(&AllowReport) -> bool,
    ) -> Option<(IpNet, String)> {
        let protected = self.protected.iter().find(|(prefix, _)| is_it(prefix));
        protected.cloned().or_else(|| {
            let mut allowed = self.allowed.values().filter(|entry| counts(entry));
            let allowed = allowed.find(|entry| is_it(&entry.net))?;
            let by = allowed.fleet.as_ref().map_or_else(String::new, |name| format!(" by {name}"));
            Some((allowed.net, format!("allowlisted{by}: {}", allowed.reason)))
        })
    }
}

/// Returns whether two prefixes have an address in common.
pub(crate) fn touch(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("prefix")
    }

    fn entry(text: &str, expires_ms: u64) -> AllowReport {
        AllowReport {
            net: net(text),
            reason: "partner".to_owned(),
            uid: 0,
            fleet: None,
            created: Timestamp::default(),
            expires: Timestamp::from_millis(expires_ms),
        }
    }

    #[test]
    fn a_prefix_is_touched_from_above_and_from_below() {
        let mut exempt = Exempt::default();
        exempt.protect(vec![(net("10.1.0.0/16"), "office".to_owned())]);
        assert!(exempt.allow(entry("192.0.2.0/24", 1000)));
        let touched = |text: &str| exempt.touched_by(&net(text)).map(|(_, what)| what);
        assert_eq!(touched("10.1.2.3/32").as_deref(), Some("office"));
        assert_eq!(touched("10.0.0.0/8").as_deref(), Some("office"));
        assert_eq!(touched("10.1.0.0/16").as_deref(), Some("office"));
        assert_eq!(touched("192.0.2.9/32").as_deref(), Some("allowlisted: partner"));
        assert_eq!(touched("10.2.0.0/16"), None);
        assert_eq!(touched("::/0"), None, "another family");
    }

    #[test]
    fn an_exemption_by_the_fleet_gives_way_to_an_operator_of_this_host() {
        let mut exempt = Exempt::default();
        let name = FleetName { role: "ops".to_owned(), serial: 7 };
        exempt.allow(AllowReport { fleet: Some(name.clone()), ..entry("192.0.2.0/24", 1000) });
        exempt.allow(entry("198.51.100.0/24", 1000));
        let host = net("192.0.2.9/32");
        let why = "allowlisted by fleet:ops/7: partner".to_owned();
        assert_eq!(exempt.touched_by(&host), Some((net("192.0.2.0/24"), why)));
        assert_eq!(exempt.touched_by_own(&host), None);
        assert!(exempt.touched_by_own(&net("198.51.100.9/32")).is_some());
        assert_eq!(exempt.yield_to(&net("0.0.0.0/0")).len(), 1, "the other one is an operator's");
        assert_eq!((exempt.revoke(&name).len(), exempt.allowed().count()), (0, 1));
    }

    #[test]
    fn prefixes_that_are_protected_from_now_on_are_known() {
        let mut exempt = Exempt::default();
        let named = |text: &str| (net(text), "gateway".to_owned());
        assert_eq!(exempt.protect(vec![named("10.1.0.0/16")]), [net("10.1.0.0/16")]);
        let both = vec![named("10.1.0.0/16"), named("10.2.0.0/16")];
        assert_eq!(exempt.protect(both.clone()), [net("10.2.0.0/16")]);
        assert_eq!(exempt.protect(both), []);
    }

    #[test]
    fn what_is_allowed_ends() {
        let mut exempt = Exempt::default();
        exempt.allow(entry("192.0.2.0/24", 1000));
        exempt.allow(entry("198.51.100.0/24", 2000));
        let ended = exempt.expire(Timestamp::from_millis(1000));
        assert_eq!(ended.iter().map(|entry| entry.net).collect::<Vec<_>>(), [net("192.0.2.0/24")]);
        assert_eq!(exempt.allowed().count(), 1);
    }

    #[test]
    fn a_full_list_takes_nothing_new_but_changes_what_it_has() {
        let mut exempt = Exempt::default();
        for host in 0..Limits::ALLOWED {
            let host = std::net::Ipv4Addr::from_bits(host);
            assert!(exempt.allow(AllowReport {
                net: IpNet::from(std::net::IpAddr::from(host)),
                ..entry("::/0", 1)
            }));
        }
        assert!(!exempt.allow(entry("192.0.2.0/24", 1000)));
        assert!(exempt.allow(entry("0.0.0.1/32", 1000)));
    }
}
