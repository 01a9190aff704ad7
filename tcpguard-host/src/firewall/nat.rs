//! NAT in the network namespace, beside which tcpguard's own cookies are of no use.
//!
//! The kernel compares the client's port of a packet that its NAT hooks have seen with that of the packet's
//! socket, and takes the socket away where they differ (`nf_nat_ipv4_local_in`, `nf_nat_ipv6_in`). The request
//! socket that `bpf_sk_assign_tcp_reqsk` makes has no port yet. So the ACK meets the listener without its request,
//! and the client is reset. A NAT hook of any port or address is enough, where conntrack follows the connection.

use std::fmt;
use std::net::IpAddr;

use super::judge::{Kind, Offence};
use super::unread;
use crate::linux::netfilter::{Chain, Effect, Family, RuleSet};

/// NAT of an IP version, or what may be NAT.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Nat {
    family: Family,
    found: Found,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Found {
    /// A base chain of type nat.
    Chain { family: Family, table: String, name: String, legacy: bool },
    /// Rules that cannot be read.
    Unread(String),
}

/// Returns the NAT that packets of any IP version pass.
pub fn nat(rules: &RuleSet) -> Option<Nat> {
    nat_of(rules, Family::IPV4).or_else(|| nat_of(rules, Family::IPV6))
}

/// Returns the NAT that packets of an IP version pass. Where that is unknown, NAT is assumed.
pub fn nat_of(rules: &RuleSet, family: Family) -> Option<Nat> {
    let other = if family == Family::IPV4 { Family::IPV6 } else { Family::IPV4 };
    let seen = || rules.chains.iter().filter(|chain| chain.family != other);
    let tracks = seen().flat_map(|chain| &chain.rules).any(|rule| rule.tracks);
    let unknown = unread(rules);
    // The NAT of all its hooks is there with the first chain at any of them.
    let found = match seen().find(|chain| chain.nat) {
        Some(chain) => (tracks || unknown.is_some()).then(|| Found::of(chain)),
        None => unknown.filter(|_| may_be_unread(rules, family)).map(Found::Unread),
    };
    found.map(|found| Nat { family, found })
}

/// Returns whether a table for NAT may be among those that cannot be read.
fn may_be_unread(rules: &RuleSet, family: Family) -> bool {
    let name = family.name();
    let either = |table: &String| {
        table.starts_with(&format!("{name}: ")) || table.starts_with(&format!("{name} nat: "))
    };
    !rules.complete || rules.legacy.iter().any(either)
}

/// Returns the first rule that translates packets for another port to this one of a host with these addresses.
pub fn redirection(rules: &RuleSet, own: &[IpAddr], port: u16) -> Option<Offence> {
    let to_it = |effect: &Effect| match effect {
        Effect::Translates(_, Some(to)) => to.port == Some(port) && to.is_of(own),
        _ => false,
    };
    rules.chains.iter().find_map(|chain| {
        let place = chain.rules.iter().position(|rule| rule.effects.iter().any(to_it))?;
        Some(Offence::new(Kind::Translates, chain, place, &chain.rules[place]))
    })
}

impl Found {
    fn of(chain: &Chain) -> Self {
        let Chain { family, table, name, legacy, .. } = chain;
        Self::Chain { family: *family, table: table.clone(), name: name.clone(), legacy: *legacy }
    }
}

/// The chain, or what cannot be read.
impl fmt::Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.found {
            Found::Chain { family: Family::IPV6, name, legacy: true, .. } => {
                write!(f, "chain {name} of ip6tables-legacy nat")
            }
            Found::Chain { name, legacy: true, .. } => {
                write!(f, "chain {name} of iptables-legacy nat")
            }
            Found::Chain { family, table, name, .. } => {
                write!(f, "chain {name} of {} {table}", family.name())
            }
            Found::Unread(what) => f.write_str(what),
        }
    }
}

impl Nat {
    /// Returns why own cookies are not used, in words.
    pub fn why(&self) -> String {
        let version = if self.family == Family::IPV4 { "IPv4" } else { "IPv6" };
        match &self.found {
            Found::Chain { .. } => format!(
                "the kernel's NAT of {version} ({self}) resets connections that it is handed by \
                 bpf_sk_assign_tcp_reqsk"
            ),
            Found::Unread(_) => format!(
                "NAT of {version} would reset connections that the kernel is handed by \
                 bpf_sk_assign_tcp_reqsk, and whether there is any is unknown ({self})"
            ),
        }
    }

    /// Returns the command that shows it.
    pub fn listing(&self) -> String {
        match &self.found {
            Found::Chain { family, table, name, legacy: false } => {
                format!("nft list chain {} {table} {name}", family.name())
            }
            Found::Chain { family: Family::IPV6, .. } => "ip6tables-legacy -t nat -S".to_owned(),
            Found::Chain { .. } => "iptables-legacy -t nat -S".to_owned(),
            Found::Unread(_) => "sudo tcpguard doctor".to_owned(),
        }
    }
}
