//! Addresses that no automatic rule may touch.

use ipnet::IpNet;

/// The protected prefixes and what each is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Protected(Vec<(IpNet, String)>);

impl Protected {
    pub fn new(prefixes: Vec<(IpNet, String)>) -> Self {
        Self(prefixes)
    }

    /// The first protected prefix that `net` has an address in common with. Prefixes have one only
    /// if one contains the other.
    pub fn touched_by(&self, net: &IpNet) -> Option<&(IpNet, String)> {
        self.0.iter().find(|(prefix, _)| prefix.contains(net) || net.contains(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_touched_from_above_and_from_below() {
        let prefix: IpNet = "10.1.0.0/16".parse().expect("prefix");
        let protected = Protected::new(vec![(prefix, "office".to_owned())]);
        let touched = |net: &str| protected.touched_by(&net.parse().expect("prefix")).is_some();
        assert!(touched("10.1.2.3/32"));
        assert!(touched("10.0.0.0/8"));
        assert!(touched("10.1.0.0/16"));
        assert!(!touched("10.2.0.0/16"));
        assert!(!touched("::/0"), "another family");
    }
}
